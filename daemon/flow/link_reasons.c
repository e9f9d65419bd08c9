/* SPDX-License-Identifier: MIT */
/*
 * What the hub's refusals (CONNACK) and good-byes (DISCONNECT) lead to: what is said, how long we wait, and where
 * we go next.
 *
 *   not authorized      once at once, with a fresh signature; then slowly
 *   taken over          a long wait: two clients with one identity must not throw each other out all the time
 *   quota, rate, busy   patience on top of the back-off
 *   another server      there next (Server Reference), until that fails
 *   while AUTH is under way: whatever the hub has against it, a new connection may do
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"

/* `status`, `reason` and the Reason String of a refusal as text; @out of LINK_ERROR_SIZE / 2. */
static void packet_explain(const struct mqtt_packet *packet, uint8_t reason_code, char *out, size_t size)
{
	struct bytes reason = packet->properties.reason_string, value, text = BYTES(NULL, 0);
	char status_text[HUB_STATUS_TEXT_SIZE];
	struct hub_status status;

	mqtt_user_property_find(packet->properties.repeatable, HUB_PROP_STATUS, &text);
	if (mqtt_user_property_find(packet->properties.repeatable, HUB_PROP_REASON, &value))
		reason = value;
	status = hub_status_from_packet(reason_code, text);
	hub_status_format(&status, status_text);
	snprintf(out, size, "%s%s%.*s", status.has_code ? status_text : mqtt_reason_name(reason_code),
		 reason.len ? ": " : "", (int)(reason.len < 200 ? reason.len : 200),
		 reason.len ? (const char *)reason.data : "");
}

/* --- another server --------------------------------------------------------------------------- */

/* The first of the references, `host`, `host:port` or `[address]:port` (4.11). False: there is no such thing. */
static bool reference_parse(struct bytes text, char host[static LINK_SERVER_SIZE], uint16_t *port)
{
	char copy[LINK_SERVER_SIZE + 8], *name = copy, *end, *colon;
	const uint8_t *space = text.len ? memchr(text.data, ' ', text.len) : NULL;
	size_t len = space ? (size_t)(space - text.data) : text.len;
	unsigned long number = 0;

	if (!len || len >= sizeof(copy))
		return false;
	memcpy(copy, text.data, len);
	copy[len] = '\0';
	if (copy[0] == '[') {
		end = strchr(++name, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		colon = end[1] ? end + 1 : NULL;
		*end = '\0';
	} else {
		colon = strchr(copy, ':');
		/* More than one: an address without a port. */
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
	}
	if (colon) {
		*colon = '\0';
		number = strtoul(colon + 1, &end, 10);
		if (*end || end == colon + 1 || colon[1] < '0' || colon[1] > '9' || !number ||
		    number > UINT16_MAX)
			return false;
	}
	if (!name[0] || strlen(name) >= LINK_SERVER_SIZE)
		return false;
	snprintf(host, LINK_SERVER_SIZE, "%s", name);
	*port = number ? (uint16_t)number : HUB_PORT;
	return true;
}

/* "Use another server" and "server moved". */
static void link_on_moved(struct link *link, const struct mqtt_packet *packet, const char *text)
{
	char host[LINK_SERVER_SIZE];
	uint16_t port;

	if (!reference_parse(packet->properties.server_reference, host, &port)) {
		link_error(link, "%s wants another server to be used and does not say which one: %s",
			   link_server(link), text);
		link_lost(link, LINK_PATIENCE_BUSY_NS);
		return;
	}
	log_info(link->log, "%s sends device %s to %s port %u: %s", link_server(link),
		 link->config->client_id, host, port, text);
	link_lost(link, 0);
	/* After the loss, which is the end of an earlier reference that did not work. */
	memcpy(link->server, host, sizeof(host));
	link->server_port = port;
}

/* --- CONNACK ---------------------------------------------------------------------------------- */

static void link_explain_unauthorized(struct link *link, const char *text)
{
	const struct config *config = link->config;

	link->clock_matters = true;
	switch (config->authentication) {
	case CONFIG_AUTHENTICATION_NONE:
		link_error(link, "%s refused device %s: %s; it does not do with \"authentication\": \"none\"",
			   link_server(link), config->client_id, text);
		break;
	case CONFIG_AUTHENTICATION_X509:
		link_error(link,
			   "%s refused device %s: %s; check the device id, and whether the hub knows the "
			   "certificate "
			   "in %s",
			   link_server(link), config->client_id, text, config->identity_path);
		break;
	case CONFIG_AUTHENTICATION_SAS:
		link_error(link,
			   "%s refused device %s: %s; check the device id and key in %s, and this machine's "
			   "clock",
			   link_server(link), config->client_id, text, config->identity_path);
		break;
	}
}

void link_on_refused(struct link *link, const struct mqtt_packet *connack)
{
	uint8_t reason = connack->connack.reason;
	uint64_t patience_ns = 0;
	char text[LINK_ERROR_SIZE / 2];

	packet_explain(connack, reason, text, sizeof(text));
	switch (reason) {
	case MQTT_REASON_NOT_AUTHORIZED:
	case MQTT_REASON_BAD_USER_NAME_OR_PASSWORD:
		link_explain_unauthorized(link, text);
		patience_ns = LINK_PATIENCE_AUTH_NS;
		break;
	case MQTT_REASON_BAD_AUTHENTICATION_METHOD:
		link_error(link,
			   "%s refused device %s: %s; for a plain MQTT broker set "
			   "\"authentication\" to \"none\"",
			   link_server(link), link->config->client_id, text);
		patience_ns = LINK_PATIENCE_AUTH_NS;
		break;
	case MQTT_REASON_QUOTA_EXCEEDED:
	case MQTT_REASON_SERVER_BUSY:
	case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
		link_error(link, "%s has no room for device %s now: %s", link_server(link),
			   link->config->client_id, text);
		patience_ns = LINK_PATIENCE_BUSY_NS;
		break;
	case MQTT_REASON_USE_ANOTHER_SERVER:
	case MQTT_REASON_SERVER_MOVED:
		link_on_moved(link, connack, text);
		return;
	default:
		link_error(link, "%s refused the connection: %s", link_server(link), text);
		break;
	}
	link_lost(link, patience_ns);
}

/* --- DISCONNECT ------------------------------------------------------------------------------- */

/* Says what the DISCONNECT was and returns the patience it asks for. */
static uint64_t link_explain_disconnect(struct link *link, uint8_t reason, const char *text)
{
	switch (reason) {
	case MQTT_REASON_SESSION_TAKEN_OVER:
		link_error(link, "another client connected to %s as %s: every device needs an id of its own",
			   link_server(link), link->config->client_id);
		return LINK_PATIENCE_TAKEOVER_NS;
	case MQTT_REASON_NOT_AUTHORIZED:
		link_error(link, "%s ended the connection: %s; the token expired or the credentials changed",
			   link_server(link), text);
		link->clock_matters = true;
		/* A fresh signature can be all it takes; if it is not, CONNACK says so. */
		return link->n_unauthorized++ ? LINK_PATIENCE_AUTH_NS : 0;
	case MQTT_REASON_QUOTA_EXCEEDED:
	case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
	case MQTT_REASON_SERVER_BUSY:
		link_error(link, "%s ended the connection: %s; waiting before the next one",
			   link_server(link), text);
		return LINK_PATIENCE_BUSY_NS;
	case MQTT_REASON_TOPIC_NAME_INVALID:
		link_error(link,
			   "%s ended the connection: %s; it does not know a topic this daemon uses: it may "
			   "be no IoT hub, or one of another API version",
			   link_server(link), text);
		return LINK_PATIENCE_BUSY_NS;
	case MQTT_REASON_PACKET_TOO_LARGE:
		link_error(link,
			   "%s ended the connection: %s; it takes less than the %" PRIu32
			   " bytes it had announced",
			   link_server(link), text, link->packet_bytes_max);
		return LINK_PATIENCE_BUSY_NS;
	default:
		link_error(link, "%s ended the connection: %s", link_server(link), text);
		return 0;
	}
}

/* Whether a new connection does not share the reason why AUTH failed. */
static bool reason_is_of_auth(uint8_t reason)
{
	switch (reason) {
	case MQTT_REASON_SESSION_TAKEN_OVER:
	case MQTT_REASON_QUOTA_EXCEEDED:
	case MQTT_REASON_CONNECTION_RATE_EXCEEDED:
	case MQTT_REASON_SERVER_BUSY:
	case MQTT_REASON_SERVER_SHUTTING_DOWN:
		return false;
	default:
		return true;
	}
}

void link_on_disconnect(void *userdata, const struct mqtt_packet *disconnect)
{
	struct link *link = userdata;
	uint8_t reason = disconnect->disconnect.reason;
	struct bytes status = BYTES(NULL, 0);
	char text[LINK_ERROR_SIZE / 2];

	packet_explain(disconnect, reason, text, sizeof(text));
	mqtt_user_property_find(disconnect->properties.repeatable, HUB_PROP_STATUS, &status);
	link->end = hub_status_from_packet(reason, status);
	if (reason == MQTT_REASON_USE_ANOTHER_SERVER || reason == MQTT_REASON_SERVER_MOVED) {
		link_on_moved(link, disconnect, text);
		return;
	}
	if (mqtt_session_is_authenticating(link->session) && reason_is_of_auth(reason)) {
		log_info(link->log, "%s does not renew the authentication: %s; connecting anew",
			 link_server(link), text);
		link_reconnect(link);
		return;
	}
	link_lost(link, link_explain_disconnect(link, reason, text));
}
