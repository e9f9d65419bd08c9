/* SPDX-License-Identifier: MIT */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

/*
 * A client of the hub written with libmosquitto, device or service side. Its owner embeds it and finds itself in
 * callbacks by container_of: libmosquitto's user data is the client. What goes wrong, a lost connection too, ends the
 * program.
 *
 * It has no thread unless mosquitto_loop_start() gives it one after client_connect().
 */

#include <stdbool.h>
#include <stdint.h>

#include <mosquitto.h>

#include "hub/identity.h"
#include "hub/sas.h"

struct client {
	char host[256];
	char client_id[HUB_CLIENT_ID_SIZE];
	char policy[HUB_ID_MAX + 1]; /* "": the device's own key */
	uint16_t port;
	const char *ca_file; /* borrowed */
	struct hub_key key;
	struct hub_sas sas;

	struct mosquitto *mosquitto;
	bool is_connected;
	unsigned int n_subscribed; /* SUBACKs */
};

/* Reads who it is from a file, and signs. @more are parts of a connection string that the file has not, `;Name=value`
 * each, or "". */
void client_init(struct client *c, const char *connection_string_file, const char *more, const char *ca_file);

/* Disconnects, if it is connected, and frees. */
void client_deinit(struct client *c);

/* Returns with the hub's CONNACK. The owner's callbacks can be set from then on. */
void client_connect(struct client *c);

/* Returns with the hub's SUBACK. */
void client_subscribe(struct client *c, const char *topic, int qos);

/* Waits for what comes next, and calls its callbacks. */
void client_loop(struct client *c);

/* Adds a User Property to a list of properties. */
void client_user_property(mosquitto_property **list, const char *name, const char *value);

/* Ends the program unless @r is a success. */
void client_check(int r, const char *what);

#endif
