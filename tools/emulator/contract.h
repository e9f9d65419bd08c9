/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_CONTRACT_H
#define EMULATOR_CONTRACT_H

/*
 * The hub's reading of HUB-CONTRACT.md: outcomes, topics, property rules, signatures. Pure, and written from
 * that page alone: nothing here is shared with the device's side, so that the two check each other.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* --- outcomes (section 4) --------------------------------------------------------------------- */

enum emu_status {
	STATUS_SUCCESS = 0x0000,
	STATUS_NOT_MODIFIED = 0x0001,
	STATUS_BAD_REQUEST = 0x0100,
	STATUS_NOT_AUTHORIZED = 0x0101,
	STATUS_NOT_ALLOWED = 0x0102,
	STATUS_CONFLICT = 0x0103,
	STATUS_PRECONDITION_FAILED = 0x0104,
	STATUS_THROTTLED = 0x0501,
	STATUS_QUOTA_EXCEEDED = 0x0502,
	STATUS_RESOURCE_EXHAUSTED = 0x0503,
	STATUS_NOT_FOUND = 0x0504,
	STATUS_SERVER_ERROR = 0x0601,
	STATUS_TIMEOUT = 0x0602,
	STATUS_SERVER_BUSY = 0x0603,
	STATUS_TARGET_UNAVAILABLE = 0x06a0,
	STATUS_TARGET_TIMEOUT = 0x06a1,
	STATUS_TARGET_FAILED = 0x06a2,
};

struct emu_status_info {
	uint16_t status;
	uint8_t reason_code; /* of PUBACK, CONNACK and DISCONNECT */
	bool has_trace_id;
	bool has_reason;
	const char *name;
};

/* Never NULL: a status that is not in the table reads as "Unknown" with reason code 131 and no extra
 * properties. */
const struct emu_status_info *emu_status_info(uint16_t status);

/* How an operation ended. @reason is for people, "" for none. */
struct emu_outcome {
	uint16_t status;
	char reason[160];
};

#define EMU_SUCCESS ((struct emu_outcome){.status = STATUS_SUCCESS})

/* Sets both; @fmt is cut to what fits at a character's end, control characters and bytes that are not UTF-8
 * become `?`. */
__attribute__((format(printf, 3, 4))) void emu_outcome_set(struct emu_outcome *outcome, uint16_t status,
							   const char *fmt, ...);

/* Reads `0501`: exactly four hex digits in either case. Returns 0 or -EINVAL. */
int emu_status_parse(struct bytes text, uint16_t *out);

/* --- topics (sections 2 and 3) ---------------------------------------------------------------- */

/* Topics a device publishes to. */
enum emu_topic {
	TOPIC_NONE, /* no topic: an alias that was never set */
	TOPIC_UNKNOWN,
	TOPIC_TELEMETRY,
	TOPIC_TWIN_GET,
	TOPIC_TWIN_PATCH_REPORTED,
	TOPIC_RESPONSES,
};

enum emu_topic emu_topic_from_name(struct bytes name);

/* Topics a client subscribes to. */
enum emu_filter {
	FILTER_UNKNOWN,
	FILTER_WILDCARD, /* `#`, or `+` where there is no parameter */
	FILTER_SHARED,   /* `$share/…` */
	FILTER_RESPONSES,
	FILTER_COMMANDS,
	FILTER_TWIN_DESIRED,
	FILTER_METHODS, /* one method, or `+` */
};

/* What a device's filter asks for. */
enum emu_filter emu_filter_from_topic(struct bytes topic);

/* Highest QoS the hub grants for a known filter. */
uint8_t emu_filter_max_qos(enum emu_filter filter);

#define CONTRACT_SUBSCRIPTIONS_MAX    50
#define CONTRACT_CORRELATION_DATA_MAX 16
#define CONTRACT_API_VERSION          "2020-10-01-preview"
#define CONTRACT_SERVER_KEEP_ALIVE_S  1140
#define CONTRACT_RECEIVE_MAXIMUM      16
#define CONTRACT_TOPIC_ALIAS_MAXIMUM  10
#define CONTRACT_MAXIMUM_PACKET_SIZE  262144
#define CONTRACT_CONNECT_LIMIT_S      30

/* --- properties (section 1) ------------------------------------------------------------------- */

enum emu_property_type {
	PROPERTY_STRING,
	PROPERTY_TIME,
	PROPERTY_U64,
};

struct emu_property_rule {
	const char *name;
	enum emu_property_type type;
	bool required;
};

#define PROPERTY_RULES_MAX 16

/*
 * Checks the User Properties of a packet against the @n_rules of its operation: each is named there, of the
 * right type and given once, or starts with `@` and has a name after it. True when all hold; otherwise
 * @outcome is a Bad Request that names the property.
 */
bool emu_properties_check(struct bytes field, const struct emu_property_rule *rules, size_t n_rules,
			  struct emu_outcome *outcome);

/* Decimal digits only, no sign, no more than 64 bits. Returns 0 or -EINVAL. */
int emu_u64_parse(struct bytes text, uint64_t *out);

bool emu_telemetry_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_connect_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_auth_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_response_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_puback_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_twin_get_properties_check(struct bytes field, struct emu_outcome *outcome);
bool emu_twin_patch_properties_check(struct bytes field, struct emu_outcome *outcome);

/* Whether @status is an error that may go away by itself, by its bits alone. */
static inline bool emu_status_is_retryable(uint16_t status)
{
	return status & 0x0400;
}

/* --- SAS (section 2) -------------------------------------------------------------------------- */

#define SAS_SIGNATURE_LEN 32

/* What is signed; absent optional fields are empty runs. */
struct emu_sas_fields {
	struct bytes host;
	struct bytes client_id;
	struct bytes policy;
	struct bytes at;
	struct bytes expiry;
};

/* Writes HMAC-SHA256 with the raw @key over the fields. Returns 0 or -EIO when the library fails. */
int emu_sas_sign(const struct emu_sas_fields *fields, struct bytes key,
		 uint8_t out[static SAS_SIGNATURE_LEN]);

/* Compares in constant time. */
bool emu_sas_is_signed(const struct emu_sas_fields *fields, struct bytes key, struct bytes signature);

#endif
