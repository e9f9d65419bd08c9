/* SPDX-License-Identifier: MIT */
#ifndef MQTT_PACKET_H
#define MQTT_PACKET_H

/*
 * MQTT control packets as C structs, for both directions and both protocol levels (4 = MQTT 3.1.1, 5 =
 * MQTT 5.0). Pure: bytes in, structs out, and back. Nothing here allocates: a decoded packet borrows from the
 * bytes it was decoded from, an encoded one is written where the caller says.
 *
 * Sources: OASIS MQTT Version 5.0 (2019-03-07) and MQTT Version 3.1.1; section numbers are those of 5.0.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/cursor.h"

#define MQTT_LEVEL_3_1_1 4
#define MQTT_LEVEL_5     5

/* Largest value of a variable byte integer (1.5.5), and so of the remaining length. */
#define MQTT_VARINT_MAX 268435455u

/* Longest fixed header: type and flags, four bytes of remaining length (2.1). */
#define MQTT_FIXED_HEADER_MAX 5

enum mqtt_type {
	MQTT_CONNECT = 1,
	MQTT_CONNACK,
	MQTT_PUBLISH,
	MQTT_PUBACK,
	MQTT_PUBREC,
	MQTT_PUBREL,
	MQTT_PUBCOMP,
	MQTT_SUBSCRIBE,
	MQTT_SUBACK,
	MQTT_UNSUBSCRIBE,
	MQTT_UNSUBACK,
	MQTT_PINGREQ,
	MQTT_PINGRESP,
	MQTT_DISCONNECT,
	MQTT_AUTH, /* level 5 only */
};

/* Property identifiers (2.2.2.2). */
enum mqtt_property {
	MQTT_PROP_PAYLOAD_FORMAT_INDICATOR = 1,
	MQTT_PROP_MESSAGE_EXPIRY_INTERVAL = 2,
	MQTT_PROP_CONTENT_TYPE = 3,
	MQTT_PROP_RESPONSE_TOPIC = 8,
	MQTT_PROP_CORRELATION_DATA = 9,
	MQTT_PROP_SUBSCRIPTION_IDENTIFIER = 11,
	MQTT_PROP_SESSION_EXPIRY_INTERVAL = 17,
	MQTT_PROP_ASSIGNED_CLIENT_IDENTIFIER = 18,
	MQTT_PROP_SERVER_KEEP_ALIVE = 19,
	MQTT_PROP_AUTHENTICATION_METHOD = 21,
	MQTT_PROP_AUTHENTICATION_DATA = 22,
	MQTT_PROP_REQUEST_PROBLEM_INFORMATION = 23,
	MQTT_PROP_WILL_DELAY_INTERVAL = 24,
	MQTT_PROP_REQUEST_RESPONSE_INFORMATION = 25,
	MQTT_PROP_RESPONSE_INFORMATION = 26,
	MQTT_PROP_SERVER_REFERENCE = 28,
	MQTT_PROP_REASON_STRING = 31,
	MQTT_PROP_RECEIVE_MAXIMUM = 33,
	MQTT_PROP_TOPIC_ALIAS_MAXIMUM = 34,
	MQTT_PROP_TOPIC_ALIAS = 35,
	MQTT_PROP_MAXIMUM_QOS = 36,
	MQTT_PROP_RETAIN_AVAILABLE = 37,
	MQTT_PROP_USER_PROPERTY = 38,
	MQTT_PROP_MAXIMUM_PACKET_SIZE = 39,
	MQTT_PROP_WILDCARD_SUBSCRIPTION_AVAILABLE = 40,
	MQTT_PROP_SUBSCRIPTION_IDENTIFIER_AVAILABLE = 41,
	MQTT_PROP_SHARED_SUBSCRIPTION_AVAILABLE = 42,
};

/* Reason codes the project names (2.4); a packet may carry any that section 3.x allows for its type. */
enum mqtt_reason {
	MQTT_REASON_SUCCESS = 0x00,
	MQTT_REASON_CONTINUE_AUTHENTICATION = 0x18,
	MQTT_REASON_RE_AUTHENTICATE = 0x19,
	MQTT_REASON_UNSPECIFIED_ERROR = 0x80,
	MQTT_REASON_MALFORMED_PACKET = 0x81,
	MQTT_REASON_PROTOCOL_ERROR = 0x82,
	MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR = 0x83,
	MQTT_REASON_UNSUPPORTED_PROTOCOL_VERSION = 0x84,
	MQTT_REASON_CLIENT_IDENTIFIER_NOT_VALID = 0x85,
	MQTT_REASON_BAD_USER_NAME_OR_PASSWORD = 0x86,
	MQTT_REASON_NOT_AUTHORIZED = 0x87,
	MQTT_REASON_SERVER_UNAVAILABLE = 0x88,
	MQTT_REASON_SERVER_BUSY = 0x89,
	MQTT_REASON_SERVER_SHUTTING_DOWN = 0x8b,
	MQTT_REASON_BAD_AUTHENTICATION_METHOD = 0x8c,
	MQTT_REASON_KEEP_ALIVE_TIMEOUT = 0x8d,
	MQTT_REASON_SESSION_TAKEN_OVER = 0x8e,
	MQTT_REASON_TOPIC_FILTER_INVALID = 0x8f,
	MQTT_REASON_TOPIC_NAME_INVALID = 0x90,
	MQTT_REASON_PACKET_IDENTIFIER_IN_USE = 0x91,
	MQTT_REASON_PACKET_IDENTIFIER_NOT_FOUND = 0x92,
	MQTT_REASON_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
	MQTT_REASON_TOPIC_ALIAS_INVALID = 0x94,
	MQTT_REASON_PACKET_TOO_LARGE = 0x95,
	MQTT_REASON_QUOTA_EXCEEDED = 0x97,
	MQTT_REASON_PAYLOAD_FORMAT_INVALID = 0x99,
	MQTT_REASON_RETAIN_NOT_SUPPORTED = 0x9a,
	MQTT_REASON_QOS_NOT_SUPPORTED = 0x9b,
	MQTT_REASON_USE_ANOTHER_SERVER = 0x9c,
	MQTT_REASON_SERVER_MOVED = 0x9d,
	MQTT_REASON_CONNECTION_RATE_EXCEEDED = 0x9f,
	MQTT_REASON_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xa2,
};

/*
 * All properties of one packet. @present has bit (1 << identifier) for each property that is there, so a
 * value of 0 and an absent property differ. User Properties and Subscription Identifiers can repeat: they
 * stay encoded.
 */
struct mqtt_properties {
	uint64_t present;
	uint8_t payload_format_indicator;
	uint8_t request_problem_information;
	uint8_t request_response_information;
	uint8_t maximum_qos;
	uint8_t retain_available;
	uint8_t wildcard_subscription_available;
	uint8_t subscription_identifier_available;
	uint8_t shared_subscription_available;
	uint16_t server_keep_alive; /* seconds */
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t topic_alias;
	uint32_t message_expiry_interval; /* seconds */
	uint32_t session_expiry_interval; /* seconds */
	uint32_t will_delay_interval;     /* seconds */
	uint32_t maximum_packet_size;     /* bytes */
	uint32_t subscription_identifier; /* the first one */
	struct bytes content_type;
	struct bytes response_topic;
	struct bytes correlation_data;
	struct bytes assigned_client_identifier;
	struct bytes authentication_method;
	struct bytes authentication_data;
	struct bytes response_information;
	struct bytes server_reference;
	struct bytes reason_string;

	/* Encoded properties whose repeatable ones count (User Property; Subscription Identifiers after the
	 * first); others in it are skipped. After decoding: the packet's whole property field. For encoding:
	 * what mqtt_user_property_put() wrote, or the field of another packet. */
	struct bytes repeatable;
};

static inline bool mqtt_has(const struct mqtt_properties *p, enum mqtt_property id)
{
	return p->present >> id & 1;
}

static inline void mqtt_set(struct mqtt_properties *p, enum mqtt_property id)
{
	p->present |= UINT64_C(1) << id;
}

struct mqtt_connect {
	uint8_t level;
	bool clean_start;
	uint16_t keep_alive; /* seconds, 0 = off */
	struct bytes client_id;
	bool has_user_name;
	struct bytes user_name;
	bool has_password;
	struct bytes password;
	bool has_will;
	uint8_t will_qos;
	bool will_retain;
	struct bytes will_topic;
	struct bytes will_payload;
	struct mqtt_properties will_properties;
};

struct mqtt_connack {
	bool session_present;
	uint8_t reason; /* level 4: the return code */
};

struct mqtt_publish {
	bool dup;
	uint8_t qos;
	bool retain;
	struct bytes topic;
	uint16_t packet_id; /* only when qos > 0 */
	struct bytes payload;
};

/* PUBACK, PUBREC, PUBREL, PUBCOMP. A reason left out on the wire reads as 0. */
struct mqtt_ack {
	uint16_t packet_id;
	uint8_t reason;
};

/* SUBSCRIBE and UNSUBSCRIBE; the filters stay encoded, see mqtt_filter_next(). */
struct mqtt_subscribe {
	uint16_t packet_id;
	struct bytes filters;
};

struct mqtt_filter {
	struct bytes topic;
	uint8_t options; /* 3.8.3.1; 0 in UNSUBSCRIBE */
};

/* SUBACK and UNSUBACK: one reason code for each filter, in order. Level 4 UNSUBACK has none. */
struct mqtt_suback {
	uint16_t packet_id;
	struct bytes reasons;
};

/* DISCONNECT and AUTH. A reason left out on the wire reads as 0. */
struct mqtt_disconnect {
	uint8_t reason;
};

struct mqtt_packet {
	enum mqtt_type type;
	struct mqtt_properties properties; /* of the packet itself; empty at level 4 */
	union {
		struct mqtt_connect connect;
		struct mqtt_connack connack;
		struct mqtt_publish publish;
		struct mqtt_ack ack;
		struct mqtt_subscribe subscribe;
		struct mqtt_suback suback;
		struct mqtt_disconnect disconnect;
	};
};

/* The side a packet was sent by: some packets, reason codes and properties are legal from one side only. */
enum mqtt_sender {
	MQTT_FROM_CLIENT,
	MQTT_FROM_SERVER,
};

/* "PUBLISH" for MQTT_PUBLISH; "reserved" for what is no type. */
const char *mqtt_type_name(enum mqtt_type type);

/* "Not authorized" for 0x87 (2.4, table 2-6); "unknown reason" for a code the specification does not have. */
const char *mqtt_reason_name(uint8_t reason);

/* --- decode.c --------------------------------------------------------------------------------- */

/*
 * Decodes one whole packet, fixed header included. Everything borrows from @src. @level is the level of the
 * connection, 4 or 5; for CONNECT it is taken from the packet (4 and 5 are understood) and the argument is
 * ignored. Returns 0, or -EBADMSG   malformed packet (answer: DISCONNECT 0x81), -EPROTO    well-formed but
 * not allowed: a Protocol Error (answer: DISCONNECT 0x82), -EPROTONOSUPPORT  CONNECT of another protocol name
 * or level (answer: CONNACK 0x84). After an error @out is unspecified.
 */
int mqtt_decode(struct mqtt_packet *out, struct bytes src, uint8_t level, enum mqtt_sender sender);

/*
 * Steps over the User Properties of @field (properties.repeatable), in order: start with *@pos = 0. Returns
 * true and the pair, or false at the end. The field must come from mqtt_decode() or mqtt_user_property_put().
 */
bool mqtt_user_property_next(struct bytes field, size_t *pos, struct bytes *key, struct bytes *value);

/* Value of the first User Property called @key; false when there is none. */
bool mqtt_user_property_find(struct bytes field, const char *key, struct bytes *value);

/*
 * Decodes the inside of a property field, as it stands in a packet of @type (without the length before it):
 * for fields that were stored. Returns 0, -EBADMSG or -EPROTO as mqtt_decode() does.
 */
int mqtt_properties_decode(struct mqtt_properties *out, struct bytes field, enum mqtt_type type);

/* Steps over the filters of a SUBSCRIBE (@type MQTT_SUBSCRIBE) or UNSUBSCRIBE as mqtt_user_property_next()
 * does. */
bool mqtt_filter_next(enum mqtt_type type, struct bytes filters, size_t *pos, struct mqtt_filter *out);

/* --- encode.c --------------------------------------------------------------------------------- */

/*
 * Writes one whole packet to @w. Writer errors stick (cursor.h): -ENOSPC when it does not fit, -EINVAL for a
 * packet no side may send (string over 65535 bytes, value out of range, property of another packet type,
 * packet id 0; also fields that contradict each other, as a packet identifier with QoS 0, or a will topic
 * without has_will). The level of a CONNECT is its own, as in mqtt_decode(). A property block that is empty
 * and a reason that is Success are left out where the specification allows it. Returns 0 or the writer's
 * error; on error what was written after the start of the packet is to be discarded.
 */
int mqtt_encode(struct writer *w, const struct mqtt_packet *packet, uint8_t level);

/*
 * Writes the inside of a property field, as it stands in a packet of @type (without the length before it):
 * for mqtt_publish_parts. -EINVAL sticks for what a packet of @type may not carry.
 */
void mqtt_properties_encode(struct writer *w, const struct mqtt_properties *p, enum mqtt_type type);

/* Appends one encoded User Property; -EINVAL sticks for strings over 65535 bytes or not MQTT UTF-8. */
void mqtt_user_property_put(struct writer *w, struct bytes key, struct bytes value);

/* Appends one SUBSCRIBE filter (options as in 3.8.3.1), or one UNSUBSCRIBE filter. */
void mqtt_filter_put(struct writer *w, enum mqtt_type type, struct bytes topic, uint8_t options);

/* Bytes that @value takes as a variable byte integer: 1 to 4. */
size_t mqtt_varint_len(uint32_t value);
void mqtt_varint_put(struct writer *w, uint32_t value);

/*
 * The hot path's PUBLISH at level 5: header, topic, packet identifier, Topic Alias (0 = none), then
 * @properties (already encoded, as they stand in the journal) and the payload. Same bytes as mqtt_encode()
 * would give when @properties came from mqtt_properties_encode(); they are not checked here and must not hold
 * a Topic Alias.
 */
struct mqtt_publish_parts {
	bool dup;
	uint8_t qos;
	uint16_t packet_id;
	uint16_t topic_alias;
	struct bytes topic;
	struct bytes properties;
	struct bytes payload;
};

/* Size of the packet in bytes, or 0 when it would exceed MQTT_VARINT_MAX. */
size_t mqtt_publish_parts_len(const struct mqtt_publish_parts *p);

/* -EINVAL sticks for a QoS, packet identifier, DUP, topic or size that mqtt_encode() would refuse too. */
void mqtt_publish_parts_put(struct writer *w, const struct mqtt_publish_parts *p);

/* --- stream.c --------------------------------------------------------------------------------- */

#include "base/buf.h"

/*
 * Cuts a byte stream into packets. Whole packets inside one piece of input are handed out where they lie;
 * only a packet that spans pieces is collected, and memory for it grows with the bytes that arrived, not with
 * the length it claims. A claimed size over @max_packet is refused as soon as the fixed header is complete.
 */
struct mqtt_stream {
	struct buf partial;
	struct bytes input; /* rest of the current piece, borrowed */
	size_t max_packet;  /* bytes, fixed header included */
	size_t handed_out;  /* bytes of @partial given out by the last call */
};

void mqtt_stream_init(struct mqtt_stream *s, size_t max_packet_bytes);
void mqtt_stream_deinit(struct mqtt_stream *s);

/* Forgets everything collected: for a new connection. */
void mqtt_stream_reset(struct mqtt_stream *s);

/* Gives the next piece of input, which must stay valid until mqtt_stream_next() returned 0 or an error. The
 * piece before must have been used up. */
void mqtt_stream_push(struct mqtt_stream *s, struct bytes piece);

/*
 * Returns 1 and one whole packet, borrowed until the next call; 0 when more input is needed; or
 *   -EBADMSG   remaining length of five bytes or not in its shortest form,
 *   -EMSGSIZE  larger than @max_packet (answer: DISCONNECT 0x95),
 *   -ENOMEM.
 */
int mqtt_stream_next(struct mqtt_stream *s, struct bytes *packet);

#endif
