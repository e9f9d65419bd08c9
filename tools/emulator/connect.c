/* SPDX-License-Identifier: MIT */
/*
 * CONNECT: every rule of section 2, then the session, then CONNACK.
 *
 * The checks run in the order in which a client would be told what to mend: form, properties, host, method,
 * and the signature last. What the signature is about (an unknown device, a wrong key, an expired token) is
 * one answer to the client, Not Authorized, and a line in the log.
 *
 * The host that is signed is the one of the `host` property, or the SNI without it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "client.h"

struct connect_request {
	const struct mqtt_packet *packet;
	bool is_service;
	struct emu_identity *identity; /* NULL: the service side */
	struct emu_sas_fields sas;
	uint64_t expiry_ms;
};

static bool is_service_id(struct bytes client_id)
{
	struct bytes prefix = BYTES_LIT("service/");

	return bytes_start_with(client_id, prefix) && client_id.len > prefix.len &&
	       client_id.len <= IDENTITY_ID_MAX;
}

/* --- refusal ---------------------------------------------------------------------------------- */

void emu_refuse_connect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome)
{
	uint8_t properties[EMU_OUTCOME_PROPERTIES_MAX];
	struct writer w = writer_init(properties, sizeof(properties));
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.reason = reason}};

	log_info(c->hub->log, "%s: refused: %s%s%s", c->peer, mqtt_reason_name(reason),
		 outcome->reason[0] ? ": " : "", outcome->reason);
	emu_outcome_properties(c->hub, outcome, &w);
	packet.properties.repeatable = writer_bytes(&w);
	emu_client_put(c, &packet);
	if (c->closing)
		return;
	c->closing = EMU_CLOSE;
	c->ops->on_wake(c->userdata);
}

/* An MQTT 3.1.1 client understands only its own CONNACK (MQTT 3.1.1 section 3.2.2.3, return code 1). */
static void refuse_level(struct emu_client *c)
{
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.reason = 1}};
	uint8_t bytes[8];
	struct writer w = writer_init(bytes, sizeof(bytes));

	log_info(c->hub->log, "%s: refused: speaks MQTT 3.1.1", c->peer);
	if (mqtt_encode(&w, &packet, MQTT_LEVEL_3_1_1) == 0 && buf_append(&c->out, writer_bytes(&w)) == 0)
		c->closing = EMU_CLOSE;
	else
		c->closing = EMU_CUT;
	c->ops->on_wake(c->userdata);
}

/* --- checks: each returns true, or false and the outcome -------------------------------------- */

static bool form_check(const struct connect_request *rq, struct emu_outcome *outcome)
{
	const struct mqtt_connect *connect = &rq->packet->connect;
	const char *wrong = NULL;

	if (connect->has_user_name || connect->has_password)
		wrong = "user name and password are not used";
	else if (connect->has_will)
		wrong = "will messages are not supported";
	else if (!mqtt_has(&rq->packet->properties, MQTT_PROP_AUTHENTICATION_METHOD))
		wrong = "Authentication Method is missing";
	if (wrong)
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s", wrong);
	return !wrong;
}

static bool version_check(struct bytes field, struct emu_outcome *outcome)
{
	struct bytes version;

	if (!emu_connect_properties_check(field, outcome))
		return false;
	if (mqtt_user_property_find(field, "api-version", &version) &&
	    bytes_equal_str(version, CONTRACT_API_VERSION))
		return true;
	emu_outcome_set(outcome, STATUS_BAD_REQUEST, "api-version is not " CONTRACT_API_VERSION);
	return false;
}

/* DNS names do not know case. */
static bool is_host(struct bytes name, const char *host)
{
	return name.len == strlen(host) && strncasecmp((const char *)name.data, host, name.len) == 0;
}

static bool host_check(const struct emu_client *c, struct connect_request *rq, struct emu_outcome *outcome)
{
	bool has_property = mqtt_user_property_find(rq->packet->properties.repeatable, "host", &rq->sas.host);

	if (!has_property && !c->server_name) {
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "host is missing, and no SNI was sent");
		return false;
	}
	if (!has_property)
		rq->sas.host = bytes_from_str(c->server_name);
	if (is_host(rq->sas.host, c->hub->options.host))
		return true;
	emu_outcome_set(outcome, STATUS_BAD_REQUEST, "the %s is not this hub's name, which is %s",
			has_property ? "host" : "SNI", c->hub->options.host);
	return false;
}

static bool method_check(const struct mqtt_properties *p, struct emu_outcome *outcome)
{
	if (!bytes_equal_str(p->authentication_method, "SAS")) {
		emu_outcome_set(outcome, STATUS_NOT_AUTHORIZED,
				"the device is registered for the method SAS");
		return false;
	}
	return true;
}

static bool sas_times_check(struct connect_request *rq, struct emu_outcome *outcome)
{
	struct bytes field = rq->packet->properties.repeatable;

	rq->sas.client_id = rq->packet->connect.client_id;
	mqtt_user_property_find(field, "sas-policy", &rq->sas.policy);
	mqtt_user_property_find(field, "sas-at", &rq->sas.at);
	if (!mqtt_user_property_find(field, "sas-expiry", &rq->sas.expiry) ||
	    time_parse(rq->sas.expiry, &rq->expiry_ms) < 0) {
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "sas-expiry is missing");
		return false;
	}
	return true;
}

static bool signed_with_policy(const struct emu_client *c, const struct connect_request *rq, const char **why)
{
	const struct emu_policy *policy = emu_registry_policy(c->hub->registry, rq->sas.policy);
	enum emu_policy_right right = rq->is_service ? POLICY_SERVICE_CONNECT : POLICY_DEVICE_CONNECT;

	if (!policy)
		*why = "no such policy";
	else if (policy->right != right)
		*why = "the policy does not allow this connection";
	else if (!emu_sas_is_signed(&rq->sas, emu_key_bytes(&policy->key),
				    rq->packet->properties.authentication_data))
		*why = "the policy's key did not sign this";
	return !*why;
}

static bool signed_with_own_key(const struct connect_request *rq, const char **why)
{
	for (size_t i = 0; rq->identity && i < 2; i++) {
		if (emu_sas_is_signed(&rq->sas, emu_key_bytes(&rq->identity->keys[i]),
				      rq->packet->properties.authentication_data))
			return true;
	}
	*why = rq->is_service ? "the service side needs a policy" : "none of the device's keys signed this";
	return false;
}

static bool signature_check(const struct emu_client *c, struct connect_request *rq,
			    struct emu_outcome *outcome)
{
	const char *why = NULL;
	bool has_policy = rq->sas.policy.data != NULL;

	rq->identity = emu_registry_find(c->hub->registry, rq->sas.client_id);
	if (!rq->identity && !rq->is_service)
		why = "unknown device";
	else if (has_policy ? !signed_with_policy(c, rq, &why) : !signed_with_own_key(rq, &why))
		;
	else if (rq->expiry_ms <= c->hub->wall_ms)
		why = "the authentication expired";
	if (why)
		emu_outcome_set(outcome, STATUS_NOT_AUTHORIZED, "%.*s: %s",
				rq->sas.client_id.len > 64 ? 64 : (int)rq->sas.client_id.len,
				(const char *)rq->sas.client_id.data, why);
	return !why;
}

/* 0, or the reason code to refuse with; @outcome stays a success when only the code is to tell. */
static uint8_t request_check(struct emu_client *c, struct connect_request *rq, struct emu_outcome *outcome)
{
	const struct mqtt_packet *packet = rq->packet;
	uint8_t fault = rq->is_service ? 0 : emu_fault_connect(&c->hub->fault);

	if (fault)
		return fault;
	if (packet->connect.client_id.len == 0) {
		emu_outcome_set(outcome, STATUS_SUCCESS, "client ids are not assigned");
		return MQTT_REASON_CLIENT_IDENTIFIER_NOT_VALID;
	}
	if (form_check(rq, outcome) && version_check(packet->properties.repeatable, outcome) &&
	    host_check(c, rq, outcome) && method_check(&packet->properties, outcome) &&
	    sas_times_check(rq, outcome) && signature_check(c, rq, outcome))
		return 0;
	return emu_status_info(outcome->status)->reason_code;
}

/* --- acceptance ------------------------------------------------------------------------------- */

static void connack_limits(const struct emu_hub_options *options, struct mqtt_properties *p)
{
	p->receive_maximum = options->receive_maximum;
	mqtt_set(p, MQTT_PROP_RECEIVE_MAXIMUM);
	p->maximum_qos = 1;
	mqtt_set(p, MQTT_PROP_MAXIMUM_QOS);
	p->retain_available = 0;
	mqtt_set(p, MQTT_PROP_RETAIN_AVAILABLE);
	p->maximum_packet_size = options->maximum_packet_size;
	mqtt_set(p, MQTT_PROP_MAXIMUM_PACKET_SIZE);
	p->topic_alias_maximum = options->topic_alias_maximum;
	mqtt_set(p, MQTT_PROP_TOPIC_ALIAS_MAXIMUM);
	mqtt_set(p, MQTT_PROP_WILDCARD_SUBSCRIPTION_AVAILABLE);
	mqtt_set(p, MQTT_PROP_SUBSCRIPTION_IDENTIFIER_AVAILABLE);
	mqtt_set(p, MQTT_PROP_SHARED_SUBSCRIPTION_AVAILABLE);
}

static void connack_put(struct emu_client *c, const struct connect_request *rq, bool session_present)
{
	uint32_t asked_expiry_s = rq->packet->properties.session_expiry_interval;
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.session_present = session_present}};
	struct mqtt_properties *p = &packet.properties;

	connack_limits(&c->hub->options, p);
	/* 4.12: the method is repeated. */
	p->authentication_method = rq->packet->properties.authentication_method;
	mqtt_set(p, MQTT_PROP_AUTHENTICATION_METHOD);
	if (c->keep_alive_s != rq->packet->connect.keep_alive) {
		p->server_keep_alive = c->keep_alive_s;
		mqtt_set(p, MQTT_PROP_SERVER_KEEP_ALIVE);
	}
	if (c->session->expiry_s != asked_expiry_s) {
		p->session_expiry_interval = c->session->expiry_s;
		mqtt_set(p, MQTT_PROP_SESSION_EXPIRY_INTERVAL);
	}
	emu_client_put(c, &packet);
}

/* @session is the client's from here on; a connection that has it gives it up. Returns Session Present. */
static bool session_take(struct emu_client *c, struct emu_session *session, const struct connect_request *rq)
{
	bool present;

	if (session->client)
		emu_client_end(session->client, MQTT_REASON_SESSION_TAKEN_OVER);
	present = !rq->packet->connect.clean_start && emu_session_is_present(session, c->hub->now_ns);
	emu_session_open(session, c, present);
	session->expiry_s = rq->is_service ? 0 : rq->packet->properties.session_expiry_interval;
	c->session = session;
	return present;
}

/* Connections of the service side with the same client id: the older one goes. */
static void service_take_over(struct emu_client *c)
{
	list_for_each (link, &c->hub->clients) {
		struct emu_client *other = container_of(link, struct emu_client, link);

		if (other != c && emu_client_is_service(other) && strcmp(other->id, c->id) == 0)
			emu_client_end(other, MQTT_REASON_SESSION_TAKEN_OVER);
	}
}

static void accept_connect(struct emu_client *c, const struct connect_request *rq)
{
	const struct mqtt_connect *connect = &rq->packet->connect;
	const struct emu_hub_options *options = &c->hub->options;
	bool present;

	c->identity = rq->is_service ? NULL : rq->identity;
	c->keep_alive_s = connect->keep_alive && connect->keep_alive <= options->keep_alive_s
				  ? connect->keep_alive
				  : options->keep_alive_s;
	c->connect_by_ns = TIME_NEVER;
	c->stream.max_packet = options->maximum_packet_size;
	if (__builtin_mul_overflow(rq->expiry_ms - c->hub->wall_ms, NSEC_PER_MSEC, &c->token_ends_ns) ||
	    __builtin_add_overflow(c->token_ends_ns, c->hub->now_ns, &c->token_ends_ns))
		c->token_ends_ns = TIME_NEVER;
	if (rq->is_service) {
		service_take_over(c);
		c->out.max = EMU_MONITOR_OUT_MAX;
	}
	present = session_take(c, c->identity ? &c->identity->session : &c->own_session, rq);
	log_info(c->hub->log, "%s: connected from %s%s", c->id, c->peer, present ? ", session present" : "");
	connack_put(c, rq, present);
}

void emu_on_connect(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct connect_request rq = {.packet = packet,
				     .is_service = is_service_id(packet->connect.client_id)};
	const struct mqtt_properties *p = &packet->properties;
	struct emu_outcome outcome = EMU_SUCCESS;
	uint8_t reason;

	if (packet->connect.level != MQTT_LEVEL_5) {
		refuse_level(c);
		return;
	}
	if (mqtt_has(p, MQTT_PROP_REQUEST_PROBLEM_INFORMATION))
		c->problem_information = p->request_problem_information;
	if (mqtt_has(p, MQTT_PROP_MAXIMUM_PACKET_SIZE))
		c->maximum_packet_size = p->maximum_packet_size;
	reason = request_check(c, &rq, &outcome);
	if (reason) {
		emu_refuse_connect(c, reason, &outcome);
		return;
	}
	c->id = strndup((const char *)packet->connect.client_id.data, packet->connect.client_id.len);
	if (!c->id)
		emu_refuse_connect(c, MQTT_REASON_SERVER_BUSY, &outcome);
	else
		accept_connect(c, &rq);
}
