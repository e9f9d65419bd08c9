/* SPDX-License-Identifier: MIT */
/*
 * Faults as JSON. One table says which members there are, where their value goes, in which bounds, and which
 * kinds take or need them; reading and writing both follow it.
 */

#include "fault_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "mqtt/packet.h"

#define DAY_MS 86400000

static const char *const kinds[] = {
	[FAULT_STATUS] = "status",
	[FAULT_THROTTLE] = "throttle",
	[FAULT_QUOTA] = "quota",
	[FAULT_DELAY] = "delay",
	[FAULT_LOSE_PUBACK] = "lose-puback",
	[FAULT_CUT] = "cut",
	[FAULT_SLOW] = "slow",
	[FAULT_REFUSE] = "refuse",
	[FAULT_SUBACK] = "suback",
	[FAULT_LIMITS] = "limits",
	[FAULT_EXPIRE] = "expire",
	[FAULT_TAKE_OVER] = "take-over",
	[FAULT_DISCONNECT] = "disconnect",
	[FAULT_DROP] = "drop",
	[FAULT_FORGET_SESSION] = "forget-session",
};

static const char *const operation_names[] = {
	[OPERATION_ANY] = "any",
	[OPERATION_CONNECT] = "connect",
	[OPERATION_TELEMETRY] = "telemetry",
	[OPERATION_TWIN_GET] = "twin-get",
	[OPERATION_TWIN_PATCH] = "twin-patch",
	[OPERATION_SUBSCRIBE] = "subscribe",
	[OPERATION_AUTH] = "auth",
};

static const char *const when_names[] = {
	[CUT_EITHER] = "either",
	[CUT_BEFORE] = "before",
	[CUT_UNANSWERED] = "unanswered",
	[CUT_AFTER] = "after",
};

#define KIND(kind) (1u << (kind))

enum member_type {
	MEMBER_U64,
	MEMBER_U32,
	MEMBER_U16,
	MEMBER_REASON, /* a number or "0x97" */
	MEMBER_STATUS, /* "0501" */
	MEMBER_TEXT,
	MEMBER_OPERATION,
	MEMBER_WHEN,
	MEMBER_FRACTION,
};

struct member {
	const char *name;
	enum member_type type;
	unsigned int limit; /* its bit in limits_given */
	size_t offset;
	uint64_t min, max; /* of a number; max: of a text's length */
	unsigned int kinds;
	unsigned int required_by;
};

#define ALL_KINDS   UINT32_MAX
#define TABLE_KINDS (KIND(FAULT_EXPIRE) - 1)

static const struct member members[] = {
	{"device", MEMBER_TEXT, 0, offsetof(struct emu_fault, device), 1, EMU_FAULT_ID_MAX, ALL_KINDS, 0},
	{"operation", MEMBER_OPERATION, 0, offsetof(struct emu_fault, operation), 0, 0,
	 KIND(FAULT_STATUS) | KIND(FAULT_DELAY) | KIND(FAULT_CUT), 0},
	{"count", MEMBER_U64, 0, offsetof(struct emu_fault, left), 1, INT64_MAX, TABLE_KINDS, 0},
	{"fraction", MEMBER_FRACTION, 0, offsetof(struct emu_fault, fraction), 0, 0, TABLE_KINDS, 0},
	{"status", MEMBER_STATUS, 0, offsetof(struct emu_fault, status), STATUS_NOT_MODIFIED, UINT16_MAX,
	 KIND(FAULT_STATUS) | KIND(FAULT_DISCONNECT), KIND(FAULT_STATUS)},
	{"rate", MEMBER_U64, 0, offsetof(struct emu_fault, rate), 1, 1000000, KIND(FAULT_THROTTLE),
	 KIND(FAULT_THROTTLE)},
	{"burst", MEMBER_U64, 0, offsetof(struct emu_fault, burst), 1, 1000000, KIND(FAULT_THROTTLE), 0},
	{"messages", MEMBER_U64, 0, offsetof(struct emu_fault, messages), 0, INT64_MAX, KIND(FAULT_QUOTA),
	 KIND(FAULT_QUOTA)},
	{"ms", MEMBER_U64, 0, offsetof(struct emu_fault, ms), 0, DAY_MS, KIND(FAULT_DELAY) | KIND(FAULT_SLOW),
	 KIND(FAULT_DELAY)},
	{"bytes", MEMBER_U64, 0, offsetof(struct emu_fault, bytes), 1, 1048576, KIND(FAULT_SLOW), 0},
	{"every", MEMBER_U64, 0, offsetof(struct emu_fault, every), 1, INT64_MAX, KIND(FAULT_CUT), 0},
	{"when", MEMBER_WHEN, 0, offsetof(struct emu_fault, when), 0, 0, KIND(FAULT_CUT), 0},
	{"reason", MEMBER_REASON, 0, offsetof(struct emu_fault, reason), 0, UINT8_MAX,
	 KIND(FAULT_REFUSE) | KIND(FAULT_SUBACK) | KIND(FAULT_DISCONNECT),
	 KIND(FAULT_REFUSE) | KIND(FAULT_DISCONNECT)},
	{"server-reference", MEMBER_TEXT, 0, offsetof(struct emu_fault, server_reference), 1,
	 EMU_FAULT_REFERENCE_MAX, KIND(FAULT_REFUSE) | KIND(FAULT_DISCONNECT), 0},
	{"topic", MEMBER_TEXT, 0, offsetof(struct emu_fault, topic), 1, EMU_FAULT_TOPIC_MAX,
	 KIND(FAULT_SUBACK), 0},
	{"receive-maximum", MEMBER_U16, EMU_LIMIT_RECEIVE_MAXIMUM,
	 offsetof(struct emu_fault, limits.receive_maximum), 1, UINT16_MAX, KIND(FAULT_LIMITS), 0},
	{"topic-alias-maximum", MEMBER_U16, EMU_LIMIT_TOPIC_ALIAS_MAXIMUM,
	 offsetof(struct emu_fault, limits.topic_alias_maximum), 0, UINT16_MAX, KIND(FAULT_LIMITS), 0},
	{"keep-alive", MEMBER_U16, EMU_LIMIT_KEEP_ALIVE, offsetof(struct emu_fault, limits.keep_alive_s), 1,
	 UINT16_MAX, KIND(FAULT_LIMITS), 0},
	{"maximum-packet-size", MEMBER_U32, EMU_LIMIT_MAXIMUM_PACKET_SIZE,
	 offsetof(struct emu_fault, limits.maximum_packet_size), 128, 8388608, KIND(FAULT_LIMITS), 0},
	{"session-expiry", MEMBER_U32, EMU_LIMIT_SESSION_EXPIRY,
	 offsetof(struct emu_fault, limits.session_expiry_s), 0, UINT32_MAX, KIND(FAULT_LIMITS), 0},
};

/* --- reading: each returns 0 or -EINVAL
 * ------------------------------------------------------------------------ */

static int name_find(const char *const *names, size_t n, json_object *value)
{
	for (size_t i = 0; i < n; i++) {
		if (json_object_is_type(value, json_type_string) &&
		    strcmp(json_object_get_string(value), names[i]) == 0)
			return (int)i;
	}
	return -EINVAL;
}

static int number_read(const struct member *m, json_object *value, uint64_t *out)
{
	if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0)
		return -EINVAL;
	*out = json_object_get_uint64(value);
	return *out < m->min || *out > m->max ? -EINVAL : 0;
}

static int reason_read(const struct member *m, json_object *value, uint64_t *out)
{
	const char *text;
	char *end;

	if (!json_object_is_type(value, json_type_string))
		return number_read(m, value, out);
	text = json_object_get_string(value);
	*out = strtoul(text, &end, 0);
	return *text < '0' || *text > '9' || *end || *out > m->max ? -EINVAL : 0;
}

static int status_read(const struct member *m, json_object *value, uint64_t *out)
{
	uint16_t status;

	if (!json_object_is_type(value, json_type_string) ||
	    emu_status_parse(bytes_from_str(json_object_get_string(value)), &status) < 0)
		return -EINVAL;
	*out = status;
	return *out < m->min ? -EINVAL : 0;
}

static int fraction_read(json_object *value, uint64_t *out)
{
	double share = json_object_get_double(value);

	if ((!json_object_is_type(value, json_type_double) && !json_object_is_type(value, json_type_int)) ||
	    !(share >= 0 && share <= 1))
		return -EINVAL;
	*out = (uint64_t)(share * EMU_FAULT_FRACTION_ONE + 0.5);
	return 0;
}

static int text_read(const struct member *m, json_object *value, char *out)
{
	const char *text = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
	size_t len = strlen(text);

	if (len < m->min || len > m->max || len != (size_t)json_object_get_string_len(value))
		return -EINVAL;
	memcpy(out, text, len + 1);
	return 0;
}

static int member_read(const struct member *m, json_object *value, struct emu_fault *fault)
{
	void *place = (char *)fault + m->offset;
	uint64_t number = 0;
	int r = 0;

	switch (m->type) {
	case MEMBER_TEXT:
		return text_read(m, value, place);
	case MEMBER_OPERATION:
		r = name_find(operation_names, ARRAY_SIZE(operation_names), value);
		*(enum emu_operation *)place = r < 0 ? OPERATION_ANY : (enum emu_operation)r;
		return r < 0 ? r : 0;
	case MEMBER_WHEN:
		r = name_find(when_names, ARRAY_SIZE(when_names), value);
		*(enum emu_cut_when *)place = r < 0 ? CUT_EITHER : (enum emu_cut_when)r;
		return r < 0 ? r : 0;
	case MEMBER_REASON:
		r = reason_read(m, value, &number);
		*(uint8_t *)place = (uint8_t)number;
		return r;
	case MEMBER_STATUS:
		r = status_read(m, value, &number);
		*(uint16_t *)place = (uint16_t)number;
		return r;
	case MEMBER_FRACTION:
		r = fraction_read(value, &number);
		*(uint32_t *)place = (uint32_t)number;
		return r;
	case MEMBER_U64:
		return number_read(m, value, place);
	case MEMBER_U32:
		r = number_read(m, value, &number);
		*(uint32_t *)place = (uint32_t)number;
		return r;
	case MEMBER_U16:
		r = number_read(m, value, &number);
		*(uint16_t *)place = (uint16_t)number;
		return r;
	}
	return -EINVAL;
}

static const struct member *member_find(const char *name, enum emu_fault_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		if (strcmp(name, members[i].name) == 0 && (members[i].kinds & KIND(kind)))
			return &members[i];
	}
	return NULL;
}

/* A packet that cannot be encoded cannot be sent. */
static bool reason_is_valid(enum mqtt_type type, uint8_t reason)
{
	struct mqtt_packet packet = {.type = type};
	uint8_t bytes[16];
	struct writer w = writer_init(bytes, sizeof(bytes));

	if (type == MQTT_CONNACK)
		packet.connack.reason = reason;
	else if (type == MQTT_DISCONNECT)
		packet.disconnect.reason = reason;
	else
		packet.suback = (struct mqtt_suback){.packet_id = 1, .reasons = BYTES(&reason, 1)};
	return mqtt_encode(&w, &packet, MQTT_LEVEL_5) == 0;
}

static bool operation_is_valid(const struct emu_fault *fault)
{
	switch (fault->operation) {
	case OPERATION_CONNECT:
	case OPERATION_AUTH:
		return fault->kind != FAULT_DELAY;
	case OPERATION_SUBSCRIBE:
	case OPERATION_OTHER:
		return fault->kind == FAULT_CUT;
	case OPERATION_ANY:
	case OPERATION_TELEMETRY:
	case OPERATION_TWIN_GET:
	case OPERATION_TWIN_PATCH:
		break;
	}
	return true;
}

/* What no single member can say. NULL, or what is wrong. */
static const char *fault_check(const struct emu_fault *fault)
{
	if (fault->kind == FAULT_STATUS && fault->status < STATUS_BAD_REQUEST &&
	    (fault->operation == OPERATION_ANY || fault->operation == OPERATION_CONNECT ||
	     fault->operation == OPERATION_AUTH))
		return "that status is no refusal";
	if (!operation_is_valid(fault))
		return "this fault has no such operation";
	if (fault->kind == FAULT_REFUSE &&
	    (fault->reason < 0x80 || !reason_is_valid(MQTT_CONNACK, fault->reason)))
		return "reason is none of CONNACK";
	if (fault->kind == FAULT_DISCONNECT && !reason_is_valid(MQTT_DISCONNECT, fault->reason))
		return "reason is none of DISCONNECT";
	if (fault->kind == FAULT_SUBACK &&
	    (fault->reason < 0x80 || !reason_is_valid(MQTT_SUBACK, fault->reason)))
		return "reason is none of SUBACK";
	if (fault->kind == FAULT_LIMITS && !fault->limits_given)
		return "limits without one";
	return NULL;
}

static bool members_read(json_object *object, struct emu_fault *fault, struct emu_outcome *outcome)
{
	unsigned int seen = 0;

	json_object_object_foreach(object, name, value)
	{
		const struct member *m = member_find(name, fault->kind);

		if (strcmp(name, "fault") == 0)
			continue;
		if (!m || member_read(m, value, fault) < 0) {
			emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s: %s %.64s", kinds[fault->kind],
					m ? "no valid" : "unknown", name);
			return false;
		}
		seen |= 1u << (m - members);
		fault->limits_given = (uint8_t)(fault->limits_given | m->limit);
	}
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		if ((members[i].required_by & KIND(fault->kind)) && !(seen & 1u << i)) {
			emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s needs %s", kinds[fault->kind],
					members[i].name);
			return false;
		}
	}
	return true;
}

bool emu_fault_from_json(json_object *object, struct emu_fault *out, struct emu_outcome *outcome)
{
	json_object *value;
	const char *wrong;
	int kind = -EINVAL;

	if (json_object_is_type(object, json_type_object) &&
	    json_object_object_get_ex(object, "fault", &value))
		kind = name_find(kinds, ARRAY_SIZE(kinds), value);
	if (kind < 0) {
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "not an object with a known fault");
		return false;
	}
	*out = emu_fault_make((enum emu_fault_kind)kind);
	out->burst = 1;
	out->bytes = 1;
	out->reason = kind == FAULT_SUBACK ? MQTT_REASON_NOT_AUTHORIZED : 0;
	out->ms = kind == FAULT_SLOW;
	if (!members_read(object, out, outcome))
		return false;
	wrong = fault_check(out);
	if (wrong)
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s", wrong);
	return !wrong;
}

bool emu_fault_is_immediate(const struct emu_fault *fault)
{
	return fault->kind >= FAULT_EXPIRE;
}

/* --- writing
 * --------------------------------------------------------------------------------------------------- */

static json_object *reason_to_json(uint8_t reason)
{
	char text[8];

	snprintf(text, sizeof(text), "0x%02x", reason);
	return json_object_new_string(text);
}

static json_object *status_to_json(uint16_t status)
{
	char text[8];

	snprintf(text, sizeof(text), "%04X", status);
	return json_object_new_string(text);
}

static json_object *member_to_json(const struct member *m, const struct emu_fault *fault)
{
	const void *place = (const char *)fault + m->offset;

	switch (m->type) {
	case MEMBER_TEXT:
		return *(const char *)place ? json_object_new_string(place) : NULL;
	case MEMBER_OPERATION:
		return json_object_new_string(operation_names[*(const enum emu_operation *)place]);
	case MEMBER_WHEN:
		return json_object_new_string(when_names[*(const enum emu_cut_when *)place]);
	case MEMBER_REASON:
		return reason_to_json(*(const uint8_t *)place);
	case MEMBER_STATUS:
		return status_to_json(*(const uint16_t *)place);
	case MEMBER_FRACTION:
		return json_object_new_double((double)*(const uint32_t *)place / EMU_FAULT_FRACTION_ONE);
	case MEMBER_U64:
		return json_object_new_uint64(*(const uint64_t *)place);
	case MEMBER_U32:
		return json_object_new_uint64(*(const uint32_t *)place);
	case MEMBER_U16:
		return json_object_new_uint64(*(const uint16_t *)place);
	}
	return NULL;
}

json_object *emu_fault_to_json(const struct emu_fault *fault)
{
	json_object *object = json_object_new_object(), *value;

	json_object_object_add(object, "id", json_object_new_uint64(fault->id));
	json_object_object_add(object, "fault", json_object_new_string(kinds[fault->kind]));
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const struct member *m = &members[i];

		if (!(m->kinds & KIND(fault->kind)) || m->offset == offsetof(struct emu_fault, left) ||
		    (m->limit && !(fault->limits_given & m->limit)))
			continue;
		value = member_to_json(m, fault);
		if (value)
			json_object_object_add(object, m->name, value);
	}
	if (fault->left != EMU_FAULT_ALWAYS)
		json_object_object_add(object, "left", json_object_new_uint64(fault->left));
	json_object_object_add(object, "hits", json_object_new_uint64(fault->hits));
	return object;
}
