/* SPDX-License-Identifier: MIT */
/*
 * CONNECT and AUTH: who we are (HUB-CONTRACT section 2), and for how long.
 *
 * A signature is renewed by AUTH on the living connection. What cannot be renewed that way - the hub says
 * DISCONNECT, or nothing - is renewed by a new connection, at once: nothing failed.
 */

#include <arpa/inet.h>
#include <errno.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "hub/sas.h"

/* TLS sends no name for an address. */
static bool host_is_address(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

/* What CONNECT and AUTH have in common. */
static void sas_put_properties(struct writer *w, const struct hub_sas *sas)
{
	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_AT), bytes_from_str(sas->at));
	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_EXPIRY), bytes_from_str(sas->expiry));
}

/* The user properties of CONNECT (HUB-CONTRACT section 2); @sas is NULL without authentication. */
static void connect_put_properties(struct writer *w, const struct link *link, const struct hub_sas *sas)
{
	const struct config *config = link->config;

	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_API_VERSION), BYTES_LIT(HUB_API_VERSION));
	/* The name of the TLS connection is another's, or there is none: the hub has to be told which one is
	 * meant. */
	if (config->gateway_host || link->server[0] || host_is_address(config->host))
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_HOST), bytes_from_str(config->host));
	if (sas)
		sas_put_properties(w, sas);
	/* AUTH signs by the same policy and does not name it again. */
	if (sas && config->key_name)
		mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_SAS_POLICY), bytes_from_str(config->key_name));
	mqtt_user_property_put(w, BYTES_LIT(HUB_PROP_CLIENT_AGENT), BYTES_LIT("iothubd/" IOTHUB_VERSION));
}

/* Adds a fresh signature, which borrows @sas; @token says how long it is good. */
static int connect_sign(struct link *link, struct mqtt_properties *p, struct hub_sas *sas,
			struct hub_token *token)
{
	const struct config *config = link->config;
	int r;

	*token = (struct hub_token){
		.signed_ns = loop_now_ns(link->loop),
		.signed_ms = loop_wall_ms(link->loop),
		.lifetime_ms = config->token_lifetime_s * MSEC_PER_SEC,
	};
	r = hub_sas_make(sas, &config->key, config->host, config->client_id, config->key_name,
			 token->signed_ms, token->lifetime_ms);
	if (r)
		return r;
	p->authentication_method = BYTES_LIT(HUB_AUTH_SAS);
	mqtt_set(p, MQTT_PROP_AUTHENTICATION_METHOD);
	p->authentication_data = BYTES(sas->signature, sizeof(sas->signature));
	mqtt_set(p, MQTT_PROP_AUTHENTICATION_DATA);
	return 0;
}

/* Says who we are, by the way the configuration names. */
static int connect_authenticate(struct link *link, struct mqtt_properties *p, struct hub_sas *sas)
{
	int r;

	link->token = (struct hub_token){0};
	link->token_renew_ns = TIME_NEVER;
	switch (link->config->authentication) {
	case CONFIG_AUTHENTICATION_SAS:
		r = connect_sign(link, p, sas, &link->token);
		if (!r)
			link->token_renew_ns = hub_token_renew_ns(&link->token);
		return r;
	case CONFIG_AUTHENTICATION_X509:
		/* The certificate of the TLS connection is all there is to it. */
		p->authentication_method = BYTES_LIT(HUB_AUTH_X509);
		mqtt_set(p, MQTT_PROP_AUTHENTICATION_METHOD);
		return 0;
	case CONFIG_AUTHENTICATION_NONE:
		return 0;
	}
	return -EINVAL;
}

int link_send_connect(struct link *link)
{
	const struct config *config = link->config;
	bool with_sas = config->authentication == CONFIG_AUTHENTICATION_SAS;
	struct mqtt_packet connect = {
		.type = MQTT_CONNECT,
		.connect =
			{
				.level = MQTT_LEVEL_5,
				.keep_alive = config->keep_alive_s,
				.client_id = bytes_from_str(config->client_id),
			},
	};
	struct mqtt_properties *p = &connect.properties;
	uint8_t properties[2048];
	struct writer w = writer_init(properties, sizeof(properties));
	struct hub_sas sas;
	int r = connect_authenticate(link, p, &sas);

	if (r)
		return r;
	connect_put_properties(&w, link, with_sas ? &sas : NULL);
	if (w.error)
		return w.error;
	p->session_expiry_interval = config->session_expiry_s;
	mqtt_set(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	p->receive_maximum = LINK_RECEIVE_MAX;
	mqtt_set(p, MQTT_PROP_RECEIVE_MAXIMUM);
	p->maximum_packet_size = LINK_PACKET_BYTES_MAX;
	mqtt_set(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
	p->topic_alias_maximum = LINK_TOPIC_ALIAS_MAX;
	mqtt_set(p, MQTT_PROP_TOPIC_ALIAS_MAXIMUM);
	p->repeatable = writer_bytes(&w);
	return mqtt_session_start(link->session, &connect, loop_now_ns(link->loop));
}

/* --- renewal ---------------------------------------------------------------------------------- */

static int link_send_auth(struct link *link)
{
	struct mqtt_properties p = {0};
	uint8_t properties[1024];
	struct writer w = writer_init(properties, sizeof(properties));
	struct hub_token token;
	struct hub_sas sas;
	int r = connect_sign(link, &p, &sas, &token);

	if (r)
		return r;
	sas_put_properties(&w, &sas);
	if (w.error)
		return w.error;
	p.repeatable = writer_bytes(&w);
	r = mqtt_session_authenticate(link->session, &p, token.signed_ns + hub_token_patience_ns(&token));
	if (r)
		return r;
	/* The next one is due by this one's times, which count once the hub has accepted it. */
	link->token = token;
	link->token_renew_ns = TIME_NEVER;
	return 0;
}

void link_renew(struct link *link)
{
	int r;

	if (mqtt_session_is_authenticating(link->session))
		return;
	r = link_send_auth(link);
	if (r) {
		log_debug(link->log, "cannot renew the authentication: %s; connecting anew", strerror(-r));
		mqtt_session_end(link->session, MQTT_REASON_SUCCESS);
		link_reconnect(link);
		return;
	}
	link_kick(link);
	link_arm_alive(link);
}

void link_on_auth(void *userdata, const struct mqtt_packet *auth)
{
	struct link *link = userdata;

	(void)auth;
	link->token_renew_ns = hub_token_renew_ns(&link->token);
	++link->n_renewals;
	log_debug(link->log, "%s accepted a new signature", link_server(link));
	/* The clock can have been set while the answer was under way. */
	link_on_clock_set(link);
	link->ops->on_changed(link->userdata);
}

/* --- the clock -------------------------------------------------------------------------------- */

void link_on_clock_set(struct link *link)
{
	uint64_t now_ns = loop_now_ns(link->loop), now_ms = loop_wall_ms(link->loop);

	if (link->state == LINK_WAITING && link->clock_matters &&
	    hub_token_clock_jumped(&link->attempted, now_ns, now_ms)) {
		log_info(link->log, "this machine's clock was set: trying again");
		backoff_progress(&link->backoff);
		loop_timer_arm(link->loop, &link->retry, now_ns);
		return;
	}
	if (link->state != LINK_ONLINE || !link->token.lifetime_ms ||
	    mqtt_session_is_authenticating(link->session) ||
	    !hub_token_clock_jumped(&link->token, now_ns, now_ms))
		return;
	log_info(link->log, "this machine's clock was set: signing anew");
	link_renew(link);
}
