/* SPDX-License-Identifier: MIT */
#ifndef HUBCTL_SERVICE_H
#define HUBCTL_SERVICE_H

/*
 * The service side's connection to a hub: where it is, with which key, and an MQTT 5 client that says so.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mosquitto.h>

#define SERVICE_KEY_MAX   64
#define SERVICE_ERROR_MAX 256

/* `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…[;Port=…]`, and the certificates to trust. */
struct service_target {
	char host[256];
	uint16_t port;
	char policy[128];
	uint8_t key[SERVICE_KEY_MAX];
	size_t key_len;
	char ca_file[4096]; /* "": the system's store */
	char client_id[64]; /* a new one for every target */
};

/*
 * Reads the target from the file @path, or, when it is NULL, from the one
 * $IOTHUB_SERVICE_CONNECTION_STRING_FILE names, or from the emulator's default state directory. @ca_file
 * NULL: `ca.pem` beside that file, if there. Returns 0, or a negative error with one line in @error.
 */
int service_target_read(struct service_target *t, const char *path, const char *ca_file,
			char error[static SERVICE_ERROR_MAX]);

/* Overwrites the key. */
void service_target_wipe(struct service_target *t);

/*
 * A client for @t, its callbacks not set, @userdata theirs. Returns 0, or a negative error with one line in
 * @error.
 */
int service_client_new(struct mosquitto **out, const struct service_target *t, void *userdata,
		       char error[static SERVICE_ERROR_MAX]);

/* Connects and sends CONNECT with the policy's signature; CONNACK comes in the client's loop. Returns as
 * above. */
int service_client_connect(struct mosquitto *client, const struct service_target *t,
			   char error[static SERVICE_ERROR_MAX]);

#endif
