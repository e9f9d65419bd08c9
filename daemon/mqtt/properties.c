/* SPDX-License-Identifier: MIT */
/*
 * Property blocks, see properties.h.
 *
 * Wire form (2.2.2): length of the block as a variable byte integer, then properties, each an identifier (a
 * variable byte integer, though all known ones fit one byte) and a value of the type that the identifier has.
 * A property that is unknown or of another packet type is a Malformed Packet (2.2.2.2); one that is repeated,
 * or has a value its section forbids, is a Protocol Error.
 *
 * Order on writing: Topic Alias, then by identifier, then what is repeatable in the order the packet's owner
 * gave it. Topic Alias comes first so that the hot path can put it before a block that was encoded long ago.
 */

#include <errno.h>

#include "base/utf8.h"
#include "mqtt/properties.h"
#include "mqtt/rules.h"
#include "mqtt/wire.h"

enum property_type {
	TYPE_NONE, /* not a property */
	TYPE_BYTE,
	TYPE_U16,
	TYPE_U32,
	TYPE_VARINT,
	TYPE_BINARY,
	TYPE_STRING,
	TYPE_PAIR,
};

enum property_rule {
	RULE_NONE,
	RULE_BOOLEAN, /* 0 or 1 */
	RULE_NONZERO,
	RULE_TOPIC_NAME, /* no wildcards, not empty */
};

struct property_spec {
	enum property_type type;
	enum property_rule rule;
	uint16_t from_client; /* bits of places: 1 << packet type */
	uint16_t from_server;
	uint16_t repeatable; /* the places it may stand in more than once */
	uint16_t offset;     /* of the value in struct mqtt_properties */
};

#define AT(type)   (1u << (type))
#define WILL       AT(MQTT_PLACE_WILL)
#define CONNECT    AT(MQTT_CONNECT)
#define CONNACK    AT(MQTT_CONNACK)
#define PUBLISH    AT(MQTT_PUBLISH)
#define SUBSCRIBE  AT(MQTT_SUBSCRIBE)
#define DISCONNECT AT(MQTT_DISCONNECT)
#define AUTH       AT(MQTT_AUTH)
#define ACKS       (AT(MQTT_PUBACK) | AT(MQTT_PUBREC) | AT(MQTT_PUBREL) | AT(MQTT_PUBCOMP))
#define SUBACKS    (AT(MQTT_SUBACK) | AT(MQTT_UNSUBACK))

#define USER_FROM_CLIENT                                                                                     \
	(WILL | CONNECT | PUBLISH | ACKS | SUBSCRIBE | AT(MQTT_UNSUBSCRIBE) | DISCONNECT | AUTH)
#define USER_FROM_SERVER (CONNACK | PUBLISH | ACKS | SUBACKS | DISCONNECT | AUTH)

#define SPEC(id, kind, check, client, server, field)                                                         \
	[MQTT_PROP_##id] = {.type = TYPE_##kind,                                                             \
			    .rule = RULE_##check,                                                            \
			    .from_client = (client),                                                         \
			    .from_server = (server),                                                         \
			    .offset = offsetof(struct mqtt_properties, field)}

/* Table 2-4, and the sections of the packets for what one side only may send. */
static const struct property_spec property_specs[] = {
	SPEC(PAYLOAD_FORMAT_INDICATOR, BYTE, BOOLEAN, WILL | PUBLISH, PUBLISH, payload_format_indicator),
	SPEC(MESSAGE_EXPIRY_INTERVAL, U32, NONE, WILL | PUBLISH, PUBLISH, message_expiry_interval),
	SPEC(CONTENT_TYPE, STRING, NONE, WILL | PUBLISH, PUBLISH, content_type),
	SPEC(RESPONSE_TOPIC, STRING, TOPIC_NAME, WILL | PUBLISH, PUBLISH, response_topic),
	SPEC(CORRELATION_DATA, BINARY, NONE, WILL | PUBLISH, PUBLISH, correlation_data),
	[MQTT_PROP_SUBSCRIPTION_IDENTIFIER] = {.type = TYPE_VARINT,
					       .rule = RULE_NONZERO,
					       .from_client = SUBSCRIBE,
					       .from_server = PUBLISH, /* [MQTT-3.3.4-6] */
					       .repeatable = PUBLISH,
					       .offset = offsetof(struct mqtt_properties,
								  subscription_identifier)},
	/* [MQTT-3.14.2-2]: not in DISCONNECT from a server. */
	SPEC(SESSION_EXPIRY_INTERVAL, U32, NONE, CONNECT | DISCONNECT, CONNACK, session_expiry_interval),
	SPEC(ASSIGNED_CLIENT_IDENTIFIER, STRING, NONE, 0, CONNACK, assigned_client_identifier),
	SPEC(SERVER_KEEP_ALIVE, U16, NONE, 0, CONNACK, server_keep_alive),
	SPEC(AUTHENTICATION_METHOD, STRING, NONE, CONNECT | AUTH, CONNACK | AUTH, authentication_method),
	SPEC(AUTHENTICATION_DATA, BINARY, NONE, CONNECT | AUTH, CONNACK | AUTH, authentication_data),
	SPEC(REQUEST_PROBLEM_INFORMATION, BYTE, BOOLEAN, CONNECT, 0, request_problem_information),
	SPEC(WILL_DELAY_INTERVAL, U32, NONE, WILL, 0, will_delay_interval),
	SPEC(REQUEST_RESPONSE_INFORMATION, BYTE, BOOLEAN, CONNECT, 0, request_response_information),
	SPEC(RESPONSE_INFORMATION, STRING, NONE, 0, CONNACK, response_information),
	SPEC(SERVER_REFERENCE, STRING, NONE, 0, CONNACK | DISCONNECT, server_reference), /* 3.14.2.2.5 */
	SPEC(REASON_STRING, STRING, NONE, ACKS | DISCONNECT | AUTH,
	     CONNACK | ACKS | SUBACKS | DISCONNECT | AUTH, reason_string),
	SPEC(RECEIVE_MAXIMUM, U16, NONZERO, CONNECT, CONNACK, receive_maximum),
	SPEC(TOPIC_ALIAS_MAXIMUM, U16, NONE, CONNECT, CONNACK, topic_alias_maximum),
	SPEC(TOPIC_ALIAS, U16, NONZERO, PUBLISH, PUBLISH, topic_alias),
	SPEC(MAXIMUM_QOS, BYTE, BOOLEAN, 0, CONNACK, maximum_qos),
	SPEC(RETAIN_AVAILABLE, BYTE, BOOLEAN, 0, CONNACK, retain_available),
	[MQTT_PROP_USER_PROPERTY] = {.type = TYPE_PAIR,
				     .from_client = USER_FROM_CLIENT,
				     .from_server = USER_FROM_SERVER,
				     .repeatable = USER_FROM_CLIENT | USER_FROM_SERVER},
	SPEC(MAXIMUM_PACKET_SIZE, U32, NONZERO, CONNECT, CONNACK, maximum_packet_size),
	SPEC(WILDCARD_SUBSCRIPTION_AVAILABLE, BYTE, BOOLEAN, 0, CONNACK, wildcard_subscription_available),
	SPEC(SUBSCRIPTION_IDENTIFIER_AVAILABLE, BYTE, BOOLEAN, 0, CONNACK, subscription_identifier_available),
	SPEC(SHARED_SUBSCRIPTION_AVAILABLE, BYTE, BOOLEAN, 0, CONNACK, shared_subscription_available),
};

#define N_SPECS (sizeof(property_specs) / sizeof(property_specs[0]))

/* NULL for what is no property. */
static const struct property_spec *spec_find(uint32_t id)
{
	return id < N_SPECS && property_specs[id].type != TYPE_NONE ? &property_specs[id] : NULL;
}

static bool spec_allows(const struct property_spec *spec, unsigned int place)
{
	return ((unsigned int)spec->from_client | spec->from_server) >> place & 1;
}

/* --- one property on the wire ----------------------------------------------------------------- */

/* Returns the property's spec, or NULL after an error. */
static const struct property_spec *item_get(struct reader *r, struct mqtt_property_item *out)
{
	uint32_t id = mqtt_varint_get(r);
	const struct property_spec *spec = spec_find(id);

	if (r->error || !spec) {
		reader_fail(r, -EBADMSG);
		return NULL;
	}
	*out = (struct mqtt_property_item){.id = (uint8_t)id};
	switch (spec->type) {
	case TYPE_NONE:
		break;
	case TYPE_BYTE:
		out->number = reader_u8(r);
		break;
	case TYPE_U16:
		out->number = reader_u16(r);
		break;
	case TYPE_U32:
		out->number = reader_u32(r);
		break;
	case TYPE_VARINT:
		out->number = mqtt_varint_get(r);
		break;
	case TYPE_PAIR:
		out->key = mqtt_binary_get(r);
		out->value = mqtt_binary_get(r);
		break;
	case TYPE_BINARY:
	case TYPE_STRING:
		out->value = mqtt_binary_get(r);
		break;
	}
	return r->error ? NULL : spec;
}

static void item_put(struct writer *w, const struct property_spec *spec,
		     const struct mqtt_property_item *item)
{
	writer_u8(w, item->id);
	switch (spec->type) {
	case TYPE_NONE:
		break;
	case TYPE_BYTE:
		writer_u8(w, (uint8_t)item->number);
		break;
	case TYPE_U16:
		writer_u16(w, (uint16_t)item->number);
		break;
	case TYPE_U32:
		writer_u32(w, item->number);
		break;
	case TYPE_VARINT:
		mqtt_varint_put(w, item->number);
		break;
	case TYPE_PAIR:
		mqtt_binary_put(w, item->key);
		mqtt_binary_put(w, item->value);
		break;
	case TYPE_BINARY:
	case TYPE_STRING:
		mqtt_binary_put(w, item->value);
		break;
	}
}

/* Returns 0, -EBADMSG for bad text, -EPROTO for a value its section forbids. */
static int item_check(const struct property_spec *spec, const struct mqtt_property_item *item)
{
	bool ok = true;

	if (spec->type == TYPE_PAIR && !utf8_is_mqtt_string(item->key))
		return -EBADMSG;
	if ((spec->type == TYPE_PAIR || spec->type == TYPE_STRING) && !utf8_is_mqtt_string(item->value))
		return -EBADMSG;
	switch (spec->rule) {
	case RULE_NONE:
		break;
	case RULE_BOOLEAN:
		ok = item->number <= 1;
		break;
	case RULE_NONZERO:
		ok = item->number != 0;
		break;
	case RULE_TOPIC_NAME:
		ok = mqtt_topic_name_is_valid(item->value);
		break;
	}
	return ok ? 0 : -EPROTO;
}

/* --- one property in the struct --------------------------------------------------------------- */

static void item_store(struct mqtt_properties *p, const struct property_spec *spec,
		       const struct mqtt_property_item *item)
{
	void *field = (char *)p + spec->offset;

	switch (spec->type) {
	case TYPE_NONE:
	case TYPE_PAIR:
		break;
	case TYPE_BYTE:
		*(uint8_t *)field = (uint8_t)item->number;
		break;
	case TYPE_U16:
		*(uint16_t *)field = (uint16_t)item->number;
		break;
	case TYPE_U32:
	case TYPE_VARINT:
		*(uint32_t *)field = item->number;
		break;
	case TYPE_BINARY:
	case TYPE_STRING:
		*(struct bytes *)field = item->value;
		break;
	}
}

static void item_load(const struct mqtt_properties *p, const struct property_spec *spec,
		      struct mqtt_property_item *item)
{
	const void *field = (const char *)p + spec->offset;

	switch (spec->type) {
	case TYPE_NONE:
	case TYPE_PAIR:
		break;
	case TYPE_BYTE:
		item->number = *(const uint8_t *)field;
		break;
	case TYPE_U16:
		item->number = *(const uint16_t *)field;
		break;
	case TYPE_U32:
	case TYPE_VARINT:
		item->number = *(const uint32_t *)field;
		break;
	case TYPE_BINARY:
	case TYPE_STRING:
		item->value = *(const struct bytes *)field;
		break;
	}
}

/* --- reading ---------------------------------------------------------------------------------- */

static void item_accept(struct reader *r, unsigned int place, struct mqtt_properties *out)
{
	struct mqtt_property_item item;
	const struct property_spec *spec = item_get(r, &item);
	int error;

	if (!spec)
		return;
	if (!spec_allows(spec, place)) {
		reader_fail(r, -EBADMSG);
		return;
	}
	error = item_check(spec, &item);
	if (error) {
		reader_fail(r, error);
		return;
	}
	if (!mqtt_has(out, item.id)) {
		item_store(out, spec, &item);
		mqtt_set(out, item.id);
	} else if (!(spec->repeatable >> place & 1)) {
		reader_fail(r, -EPROTO);
	}
}

int mqtt_properties_decode(struct mqtt_properties *out, struct bytes field, enum mqtt_type type)
{
	struct reader r = reader_init(field);

	*out = (struct mqtt_properties){.repeatable = field};
	while (reader_left(&r))
		item_accept(&r, type, out);
	return r.error;
}

void mqtt_property_block_get(struct reader *r, unsigned int place, struct mqtt_properties *out)
{
	struct bytes field = reader_take(r, mqtt_varint_get(r));
	int error = mqtt_properties_decode(out, field, (enum mqtt_type)place);

	if (error)
		reader_fail(r, error);
}

bool mqtt_property_item_next(struct bytes field, size_t *pos, struct mqtt_property_item *out)
{
	struct reader r;

	if (*pos >= field.len)
		return false;
	r = reader_init(BYTES(field.data + *pos, field.len - *pos));
	if (!item_get(&r, out))
		return false;
	*pos = field.len - reader_left(&r);
	return true;
}

bool mqtt_user_property_next(struct bytes field, size_t *pos, struct bytes *key, struct bytes *value)
{
	struct mqtt_property_item item;

	while (mqtt_property_item_next(field, pos, &item)) {
		if (item.id != MQTT_PROP_USER_PROPERTY)
			continue;
		*key = item.key;
		*value = item.value;
		return true;
	}
	return false;
}

bool mqtt_user_property_find(struct bytes field, const char *key, struct bytes *value)
{
	struct bytes name, found;

	for (size_t pos = 0; mqtt_user_property_next(field, &pos, &name, &found);) {
		if (!bytes_equal_str(name, key))
			continue;
		*value = found;
		return true;
	}
	return false;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void checked_put(struct writer *w, const struct property_spec *spec,
			const struct mqtt_property_item *item)
{
	if (item_check(spec, item))
		writer_fail(w, -EINVAL);
	else
		item_put(w, spec, item);
}

static void present_put(struct writer *w, unsigned int place, const struct mqtt_properties *p,
			unsigned int id)
{
	const struct property_spec *spec = spec_find(id);
	struct mqtt_property_item item = {.id = (uint8_t)id};

	if (!spec || !spec_allows(spec, place)) {
		writer_fail(w, -EINVAL);
	} else if (spec->type != TYPE_PAIR) {
		item_load(p, spec, &item);
		checked_put(w, spec, &item);
	}
}

/* Copies what may be repeated, except the first Subscription Identifier: that one is in the struct. */
static void repeatable_put(struct writer *w, unsigned int place, const struct mqtt_properties *p)
{
	struct reader r = reader_init(p->repeatable);
	bool first_identifier = true;

	while (reader_left(&r) && !w->error) {
		struct mqtt_property_item item;
		const struct property_spec *spec = item_get(&r, &item);

		if (!spec) {
			writer_fail(w, -EINVAL);
			return;
		}
		if (!(spec->repeatable >> place & 1))
			continue;
		if (item.id == MQTT_PROP_SUBSCRIPTION_IDENTIFIER) {
			bool skip = first_identifier || !mqtt_has(p, MQTT_PROP_SUBSCRIPTION_IDENTIFIER);

			first_identifier = false;
			if (skip)
				continue;
		}
		checked_put(w, spec, &item);
	}
}

void mqtt_properties_encode(struct writer *w, const struct mqtt_properties *p, enum mqtt_type type)
{
	uint64_t left = p->present & ~(UINT64_C(1) << MQTT_PROP_TOPIC_ALIAS);

	if (mqtt_has(p, MQTT_PROP_TOPIC_ALIAS))
		present_put(w, type, p, MQTT_PROP_TOPIC_ALIAS);
	for (; left; left &= left - 1)
		present_put(w, type, p, (unsigned int)__builtin_ctzll(left));
	repeatable_put(w, type, p);
}

void mqtt_property_block_put(struct writer *w, unsigned int place, const struct mqtt_properties *p)
{
	size_t start = writer_len(w);

	mqtt_properties_encode(w, p, (enum mqtt_type)place);
	mqtt_length_insert(w, start);
}

void mqtt_user_property_put(struct writer *w, struct bytes key, struct bytes value)
{
	struct mqtt_property_item item = {.id = MQTT_PROP_USER_PROPERTY, .key = key, .value = value};

	checked_put(w, &property_specs[MQTT_PROP_USER_PROPERTY], &item);
}

/* --- asking ----------------------------------------------------------------------------------- */

unsigned int mqtt_properties_senders(const struct mqtt_properties *p, unsigned int place)
{
	unsigned int senders = MQTT_SENDER_ANY;

	for (uint64_t left = p->present; left; left &= left - 1) {
		const struct property_spec *spec = spec_find((uint32_t)__builtin_ctzll(left));

		if (!spec || !spec_allows(spec, place))
			continue;
		if (!(spec->from_client >> place & 1))
			senders &= ~MQTT_SENDER_CLIENT;
		if (!(spec->from_server >> place & 1))
			senders &= ~MQTT_SENDER_SERVER;
	}
	return senders;
}

bool mqtt_properties_is_empty(const struct mqtt_properties *p)
{
	struct bytes key, value;
	size_t pos = 0;

	return !(p->present & ~(UINT64_C(1) << MQTT_PROP_USER_PROPERTY)) &&
	       !mqtt_user_property_next(p->repeatable, &pos, &key, &value);
}
