/* SPDX-License-Identifier: MIT */
/*
 * CONNECT: every rule of section 2, then the session, then CONNACK.
 *
 * The checks run in the order in which a client would be told what to mend: form, properties, host, and what
 * auth.c has to say about the claim last.
 *
 * The host that is signed is the one of the `host` property, or the SNI without it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "connect.h"
#include "deliver.h"
#include "method.h"
#include "state.h"

static bool is_service_id(struct bytes client_id)
{
	struct bytes prefix = BYTES_LIT("service/");

	return bytes_start_with(client_id, prefix) && client_id.len > prefix.len &&
	       client_id.len <= IDENTITY_ID_MAX;
}

/* --- refusal ---------------------------------------------------------------------------------- */

static void refuse(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome,
		   const char *server_reference)
{
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.reason = reason}};

	log_info(c->hub->log, "%s: refused: %s%s%s", c->peer, mqtt_reason_name(reason),
		 outcome->reason[0] ? ": " : "", outcome->reason);
	emu_client_put_end(c, packet, outcome, server_reference);
	if (c->closing)
		return;
	c->closing = EMU_CLOSE;
	c->ops->on_wake(c->userdata);
}

void emu_refuse_connect(struct emu_client *c, uint8_t reason, const struct emu_outcome *outcome)
{
	refuse(c, reason, outcome, "");
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

static bool form_check(const struct emu_claim *rq, struct emu_outcome *outcome)
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

static bool host_check(const struct emu_client *c, struct emu_claim *rq, struct emu_outcome *outcome)
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

static bool method_check(struct emu_claim *rq, struct emu_outcome *outcome)
{
	const struct mqtt_properties *p = &rq->packet->properties;

	rq->sas.client_id = rq->packet->connect.client_id;
	mqtt_user_property_find(p->repeatable, "sas-policy", &rq->sas.policy);
	return bytes_equal_str(p->authentication_method, "SAS") ? emu_claim_times_check(rq, outcome) : true;
}

/* False: refused already. */
static bool faults_pass(struct emu_client *c, struct bytes client_id)
{
	const struct emu_fault *fault;
	struct emu_outcome outcome = EMU_SUCCESS;
	char id[IDENTITY_ID_MAX + 1];
	int len = client_id.len > IDENTITY_ID_MAX ? IDENTITY_ID_MAX : (int)client_id.len;

	snprintf(id, sizeof(id), "%.*s", len, (const char *)client_id.data);
	fault = emu_faults_take(&c->hub->faults, FAULT_REFUSE, id, OPERATION_CONNECT);
	if (fault)
		refuse(c, fault->reason, &outcome, fault->server_reference);
	else if (emu_faults_refuse(&c->hub->faults, id, OPERATION_CONNECT, &outcome))
		emu_refuse_connect(c, emu_status_info(outcome.status)->reason_code, &outcome);
	else
		return true;
	return false;
}

/* 0, or the reason code to refuse with; @outcome stays a success when only the code is to tell. */
static uint8_t request_check(struct emu_client *c, struct emu_claim *rq, struct emu_outcome *outcome)
{
	const struct mqtt_packet *packet = rq->packet;

	if (packet->connect.client_id.len == 0) {
		emu_outcome_set(outcome, STATUS_SUCCESS, "client ids are not assigned");
		return MQTT_REASON_CLIENT_IDENTIFIER_NOT_VALID;
	}
	if (form_check(rq, outcome) && version_check(packet->properties.repeatable, outcome) &&
	    host_check(c, rq, outcome) && method_check(rq, outcome) && emu_claim_check(c, rq, outcome))
		return 0;
	return emu_status_info(outcome->status)->reason_code;
}

/* --- acceptance ------------------------------------------------------------------------------- */

static void limits_apply(struct emu_client *c)
{
	const struct emu_fault *fault =
		c->identity ? emu_faults_take(&c->hub->faults, FAULT_LIMITS, c->id, OPERATION_CONNECT) : NULL;
	uint8_t given = fault ? fault->limits_given : 0;

	if (given & EMU_LIMIT_RECEIVE_MAXIMUM)
		c->limits.receive_maximum = fault->limits.receive_maximum;
	if (given & EMU_LIMIT_TOPIC_ALIAS_MAXIMUM)
		c->limits.topic_alias_maximum = fault->limits.topic_alias_maximum;
	if (given & EMU_LIMIT_KEEP_ALIVE)
		c->limits.keep_alive_s = fault->limits.keep_alive_s;
	if (given & EMU_LIMIT_MAXIMUM_PACKET_SIZE)
		c->limits.maximum_packet_size = fault->limits.maximum_packet_size;
	if (given & EMU_LIMIT_SESSION_EXPIRY)
		c->limits.session_expiry_s = fault->limits.session_expiry_s;
	fault = c->identity ? emu_faults_take(&c->hub->faults, FAULT_SLOW, c->id, OPERATION_CONNECT) : NULL;
	if (fault) {
		c->slow_bytes = fault->bytes;
		c->slow_ns = fault->ms * NSEC_PER_MSEC;
	}
}

static void connack_limits(const struct emu_limits *options, struct mqtt_properties *p)
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

static void connack_put(struct emu_client *c, const struct emu_claim *rq, bool session_present)
{
	uint32_t asked_expiry_s = rq->packet->properties.session_expiry_interval;
	struct mqtt_packet packet = {.type = MQTT_CONNACK, .connack = {.session_present = session_present}};
	struct mqtt_properties *p = &packet.properties;

	connack_limits(&c->limits, p);
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
static bool session_take(struct emu_client *c, struct emu_session *session, const struct emu_claim *rq)
{
	bool present;

	uint32_t expiry_s = rq->packet->properties.session_expiry_interval;

	if (session->client)
		emu_client_end(session->client, MQTT_REASON_SESSION_TAKEN_OVER);
	present = !rq->packet->connect.clean_start && emu_session_is_present(session, c->hub->now_ns);
	emu_session_open(session, c, present);
	session->expiry_s = expiry_s < c->limits.session_expiry_s ? expiry_s : c->limits.session_expiry_s;
	if (rq->is_service)
		session->expiry_s = 0;
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

/* What the connection goes by from here on. False: no memory. */
static bool claim_keep(struct emu_client *c, const struct emu_claim *rq)
{
	struct bytes policy = rq->sas.policy, host = rq->sas.host;
	bool is_sas = host.data && rq->signed_by != SIGNED_BY_CERTIFICATE;

	c->id = strndup((const char *)rq->packet->connect.client_id.data, rq->packet->connect.client_id.len);
	c->sas_host = is_sas ? strndup((const char *)host.data, host.len) : NULL;
	c->sas_policy = policy.data ? strndup((const char *)policy.data, policy.len) : NULL;
	c->identity = rq->is_service ? NULL : rq->identity;
	if (!c->id || (is_sas && !c->sas_host) || (policy.data && !c->sas_policy))
		return false;
	limits_apply(c);
	c->aliases = calloc(c->limits.topic_alias_maximum + 1u, 1);
	return c->aliases;
}

static void accept_connect(struct emu_client *c, const struct emu_claim *rq)
{
	const struct mqtt_connect *connect = &rq->packet->connect;
	bool present;

	emu_claim_accept(c, rq);
	c->keep_alive_s = connect->keep_alive && connect->keep_alive <= c->limits.keep_alive_s
				  ? connect->keep_alive
				  : c->limits.keep_alive_s;
	c->connect_by_ns = TIME_NEVER;
	c->connected_ms = c->hub->wall_ms;
	c->stream.max_packet = c->limits.maximum_packet_size;
	if (rq->is_service) {
		service_take_over(c);
		c->out.max = EMU_MONITOR_OUT_MAX;
	}
	present = session_take(c, c->identity ? &c->identity->session : &c->own_session, rq);
	log_info(c->hub->log, "%s: connected from %s%s", c->id, c->peer, present ? ", session present" : "");
	connack_put(c, rq, present);
	if (!c->identity)
		return;
	emu_commands_attached(c, present);
	emu_state_session(c->hub, c->identity);
	emu_commands_deliver(c);
	emu_methods_device_ready(c);
}

void emu_on_connect(struct emu_client *c, const struct mqtt_packet *packet)
{
	struct emu_claim rq = {.packet = packet, .is_service = is_service_id(packet->connect.client_id)};
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
	if (mqtt_has(p, MQTT_PROP_RECEIVE_MAXIMUM))
		c->receive_maximum = p->receive_maximum;
	if (!rq.is_service && !faults_pass(c, packet->connect.client_id))
		return;
	reason = request_check(c, &rq, &outcome);
	if (reason)
		emu_refuse_connect(c, reason, &outcome);
	else if (!claim_keep(c, &rq))
		emu_refuse_connect(c, MQTT_REASON_SERVER_BUSY, &outcome);
	else
		accept_connect(c, &rq);
}
