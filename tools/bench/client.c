/* SPDX-License-Identifier: MIT */
/*
 * The bench's libmosquitto client: CONNECT with SAS as the daemon does it, and waiting without a thread.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <mqtt_protocol.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "config/connstr.h"
#include "hub/contract.h"

#include "bench.h"
#include "client.h"

#define LIFETIME_MS  (3600 * MSEC_PER_SEC)
#define KEEP_ALIVE_S 60

void client_check(int r, const char *what)
{
	if (r != MOSQ_ERR_SUCCESS)
		bench_fail("%s: %s", what, r == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(r));
}

void client_user_property(mosquitto_property **list, const char *name, const char *value)
{
	client_check(mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, name, value), name);
}

/* --- who it is -------------------------------------------------------------------------------- */

/* @size has room for a value of that kind, and a NUL. */
static void copy_field(const struct connstr *parts, enum connstr_field field, char *out, size_t size)
{
	struct bytes value = parts->fields[field];

	snprintf(out, size, "%.*s", (int)value.len, value.data ? (const char *)value.data : "");
}

static void read_identity(struct client *c, const char *path, const char *more)
{
	char text[CONNSTR_MAX], error[CONNSTR_ERROR_SIZE], device[HUB_ID_MAX + 1], module[HUB_ID_MAX + 1];
	_cleanup_(fclose_ptr) FILE *f = fopen(path, "re");
	struct connstr parts;
	size_t len;

	if (!f || !fgets(text, sizeof(text), f))
		bench_fail_errno(path);
	len = strcspn(text, "\n");
	snprintf(text + len, sizeof(text) - len, "%s", more);
	if (connstr_parse(bytes_from_str(text), &parts, error) < 0)
		bench_fail("%s: %s", path, error);
	copy_field(&parts, CONNSTR_HOST, c->host, sizeof(c->host));
	copy_field(&parts, CONNSTR_KEY_NAME, c->policy, sizeof(c->policy));
	copy_field(&parts, CONNSTR_DEVICE, device, sizeof(device));
	copy_field(&parts, CONNSTR_MODULE, module, sizeof(module));
	if (hub_client_id_format(device, module, c->client_id) < 0)
		bench_fail("%s: no client id", path);
	c->port = parts.port ? parts.port : HUB_PORT;
	if (hub_key_decode(parts.fields[CONNSTR_KEY], &c->key) < 0)
		bench_fail("%s: no key", path);
}

static bool fits_an_argument(const uint8_t *data, size_t len)
{
	return !memchr(data, '\0', len);
}

/* As an argument of mosquitto_pub a signature must not have a zero byte: another expiry, another signature. */
static void sign(struct client *c)
{
	for (uint64_t ms = 0;; ++ms) {
		if (hub_sas_make(&c->sas, &c->key, c->host, c->client_id, c->policy, bench_wall_ms(),
				 LIFETIME_MS + ms) < 0)
			bench_fail("cannot sign");
		if (fits_an_argument(c->sas.signature, sizeof(c->sas.signature)))
			return;
	}
}

void client_init(struct client *c, const char *connection_string_file, const char *more, const char *ca_file)
{
	*c = (struct client){.ca_file = ca_file};
	read_identity(c, connection_string_file, more);
	sign(c);
}

void client_deinit(struct client *c)
{
	if (c->mosquitto) {
		mosquitto_disconnect(c->mosquitto);
		mosquitto_loop_stop(c->mosquitto, false);
		mosquitto_destroy(c->mosquitto);
		mosquitto_lib_cleanup();
	}
	hub_key_wipe(&c->key);
}

/* --- its connection --------------------------------------------------------------------------- */

static void on_connect(struct mosquitto *mosquitto, void *userdata, int reason, int flags,
		       const mosquitto_property *properties)
{
	struct client *c = userdata;

	(void)mosquitto;
	(void)flags;
	(void)properties;
	if (reason)
		bench_fail("refused: %s", mosquitto_reason_string(reason));
	c->is_connected = true;
}

static void on_disconnect(struct mosquitto *mosquitto, void *userdata, int reason,
			  const mosquitto_property *properties)
{
	(void)mosquitto;
	(void)userdata;
	(void)properties;
	if (reason)
		bench_fail("connection lost: %s", mosquitto_strerror(reason));
}

static void on_subscribe(struct mosquitto *mosquitto, void *userdata, int id, int n_granted,
			 const int *granted, const mosquitto_property *properties)
{
	struct client *c = userdata;

	(void)mosquitto;
	(void)id;
	(void)properties;
	for (int i = 0; i < n_granted; ++i)
		if (granted[i] >= MQTT_RC_UNSPECIFIED)
			bench_fail("subscription refused: %s", mosquitto_reason_string(granted[i]));
	++c->n_subscribed;
}

void client_connect(struct client *c)
{
	mosquitto_property *list = NULL;

	mosquitto_lib_init();
	c->mosquitto = mosquitto_new(c->client_id, true, c);
	if (!c->mosquitto)
		bench_fail_errno("libmosquitto");
	mosquitto_int_option(c->mosquitto, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	mosquitto_int_option(c->mosquitto, MOSQ_OPT_TCP_NODELAY, 1);
	client_check(mosquitto_tls_set(c->mosquitto, c->ca_file, NULL, NULL, NULL, NULL), c->ca_file);
	mosquitto_connect_v5_callback_set(c->mosquitto, on_connect);
	mosquitto_disconnect_v5_callback_set(c->mosquitto, on_disconnect);
	mosquitto_subscribe_v5_callback_set(c->mosquitto, on_subscribe);
	client_check(mosquitto_property_add_string(&list, MQTT_PROP_AUTHENTICATION_METHOD, HUB_AUTH_SAS),
		     "method");
	client_check(mosquitto_property_add_binary(&list, MQTT_PROP_AUTHENTICATION_DATA, c->sas.signature,
						   sizeof(c->sas.signature)),
		     "signature");
	client_user_property(&list, HUB_PROP_API_VERSION, HUB_API_VERSION);
	client_user_property(&list, HUB_PROP_SAS_AT, c->sas.at);
	client_user_property(&list, HUB_PROP_SAS_EXPIRY, c->sas.expiry);
	if (c->policy[0])
		client_user_property(&list, HUB_PROP_SAS_POLICY, c->policy);
	client_check(mosquitto_connect_bind_v5(c->mosquitto, c->host, c->port, KEEP_ALIVE_S, NULL, list),
		     c->host);
	mosquitto_property_free_all(&list);
	while (!c->is_connected)
		client_loop(c);
}

void client_subscribe(struct client *c, const char *topic, int qos)
{
	unsigned int before = c->n_subscribed;

	client_check(mosquitto_subscribe(c->mosquitto, NULL, topic, qos), topic);
	while (c->n_subscribed == before)
		client_loop(c);
}

void client_loop(struct client *c)
{
	client_check(mosquitto_loop(c->mosquitto, -1, 1), "connection");
}
