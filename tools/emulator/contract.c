/* SPDX-License-Identifier: MIT */
/*
 * The contract as the hub applies it.
 *
 * Outcomes are a table, so that what a status carries on the wire (reason code, trace-id, reason) is decided
 * here and nowhere else. Topics match exactly, case included. Property rules are one table per operation:
 * what is neither in the table nor an application property is a Bad Request, as is a name given twice, since
 * the contract gives no meaning to a second value.
 *
 * Nothing here knows connections, sessions or devices.
 */

#include "contract.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "base/utf8.h"
#include "mqtt/packet.h"

/* --- outcomes --------------------------------------------------------------------------------- */

#define IMPLEMENTATION_SPECIFIC MQTT_REASON_IMPLEMENTATION_SPECIFIC_ERROR

static const struct emu_status_info statuses[] = {
	{STATUS_SUCCESS, MQTT_REASON_SUCCESS, false, false, "Success"},
	{STATUS_NOT_MODIFIED, MQTT_REASON_SUCCESS, false, false, "Not Modified"},
	{STATUS_BAD_REQUEST, IMPLEMENTATION_SPECIFIC, false, true, "Bad Request"},
	{STATUS_NOT_AUTHORIZED, MQTT_REASON_NOT_AUTHORIZED, true, false, "Not Authorized"},
	{STATUS_NOT_ALLOWED, IMPLEMENTATION_SPECIFIC, false, true, "Not Allowed"},
	{STATUS_CONFLICT, IMPLEMENTATION_SPECIFIC, true, true, "Conflict"},
	{STATUS_PRECONDITION_FAILED, IMPLEMENTATION_SPECIFIC, false, false, "Precondition Failed"},
	{STATUS_THROTTLED, MQTT_REASON_QUOTA_EXCEEDED, false, false, "Throttled"},
	{STATUS_QUOTA_EXCEEDED, MQTT_REASON_QUOTA_EXCEEDED, false, false, "Quota Exceeded"},
	{STATUS_RESOURCE_EXHAUSTED, IMPLEMENTATION_SPECIFIC, false, true, "Resource Exhausted"},
	{STATUS_NOT_FOUND, IMPLEMENTATION_SPECIFIC, false, true, "Not Found"},
	{STATUS_SERVER_ERROR, IMPLEMENTATION_SPECIFIC, true, false, "Server Error"},
	{STATUS_TIMEOUT, IMPLEMENTATION_SPECIFIC, true, false, "Timeout"},
	{STATUS_SERVER_BUSY, IMPLEMENTATION_SPECIFIC, true, false, "Server Busy"},
	{STATUS_TARGET_UNAVAILABLE, IMPLEMENTATION_SPECIFIC, false, false, "Target Unavailable"},
	{STATUS_TARGET_TIMEOUT, IMPLEMENTATION_SPECIFIC, true, true, "Target Timeout"},
	{STATUS_TARGET_FAILED, IMPLEMENTATION_SPECIFIC, false, true, "Target Failed"},
};

static const struct emu_status_info status_unknown = {0xffff, IMPLEMENTATION_SPECIFIC, false, false,
						      "Unknown"};

const struct emu_status_info *emu_status_info(uint16_t status)
{
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		if (statuses[i].status == status)
			return &statuses[i];
	}
	return &status_unknown;
}

/* What a client sent may be part of a reason, and a reason is an MQTT string on the wire. */
static void make_printable(char *text)
{
	bool valid = utf8_is_valid(bytes_from_str(text));

	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f || (!valid && (*c & 0x80)))
			*c = '?';
	}
}

void emu_outcome_set(struct emu_outcome *outcome, uint16_t status, const char *fmt, ...)
{
	va_list args;

	outcome->status = status;
	va_start(args, fmt);
	vsnprintf(outcome->reason, sizeof(outcome->reason), fmt, args);
	va_end(args);
	make_printable(outcome->reason);
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -EINVAL;
}

int emu_status_parse(struct bytes text, uint16_t *out)
{
	unsigned int value = 0;

	if (text.len != 4)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		int digit = hex_digit(text.data[i]);

		if (digit < 0)
			return digit;
		value = value << 4 | (unsigned int)digit;
	}
	*out = (uint16_t)value;
	return 0;
}

/* --- topics ----------------------------------------------------------------------------------- */

enum emu_topic emu_topic_from_name(struct bytes name)
{
	if (bytes_equal(name, BYTES_LIT("$iothub/telemetry")))
		return TOPIC_TELEMETRY;
	if (bytes_equal(name, BYTES_LIT("$iothub/responses")))
		return TOPIC_RESPONSES;
	if (bytes_equal(name, BYTES_LIT("$iothub/twin/get")))
		return TOPIC_TWIN_GET;
	if (bytes_equal(name, BYTES_LIT("$iothub/twin/patch/reported")))
		return TOPIC_TWIN_PATCH_REPORTED;
	return TOPIC_UNKNOWN;
}

static struct bytes after_prefix(struct bytes topic, struct bytes prefix)
{
	return BYTES(topic.data + prefix.len, topic.len - prefix.len);
}

static bool has_byte(struct bytes b, int byte)
{
	return b.len > 0 && memchr(b.data, byte, b.len);
}

/* The alias `methods/{name}` is for one method; only the full topic takes `+`. */
static enum emu_filter filter_from_method(struct bytes name, bool plus_allowed)
{
	if (plus_allowed && bytes_equal(name, BYTES_LIT("+")))
		return FILTER_METHODS;
	if (has_byte(name, '+') || has_byte(name, '#'))
		return FILTER_WILDCARD;
	if (name.len == 0 || has_byte(name, '/'))
		return FILTER_UNKNOWN;
	return FILTER_METHODS;
}

enum emu_filter emu_filter_from_topic(struct bytes topic)
{
	if (bytes_start_with(topic, BYTES_LIT("$share/")))
		return FILTER_SHARED;
	if (bytes_start_with(topic, BYTES_LIT("$iothub/methods/")))
		return filter_from_method(after_prefix(topic, BYTES_LIT("$iothub/methods/")), true);
	if (bytes_start_with(topic, BYTES_LIT("methods/")))
		return filter_from_method(after_prefix(topic, BYTES_LIT("methods/")), false);
	if (has_byte(topic, '+') || has_byte(topic, '#'))
		return FILTER_WILDCARD;
	if (bytes_equal(topic, BYTES_LIT("$iothub/responses")))
		return FILTER_RESPONSES;
	if (bytes_equal(topic, BYTES_LIT("$iothub/commands")))
		return FILTER_COMMANDS;
	if (bytes_equal(topic, BYTES_LIT("$iothub/twin/patch/desired")))
		return FILTER_TWIN_DESIRED;
	return FILTER_UNKNOWN;
}

uint8_t emu_filter_max_qos(enum emu_filter filter)
{
	return filter == FILTER_COMMANDS ? 1 : 0;
}

/* --- properties ------------------------------------------------------------------------------- */

int emu_u64_parse(struct bytes text, uint64_t *out)
{
	uint64_t value = 0;

	if (text.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
			return -EINVAL;
	}
	*out = value;
	return 0;
}

static bool value_has_type(struct bytes value, enum emu_property_type type)
{
	uint64_t number;

	switch (type) {
	case PROPERTY_STRING:
		return true;
	case PROPERTY_TIME:
		return time_parse(value, &number) == 0;
	case PROPERTY_U64:
		return emu_u64_parse(value, &number) == 0;
	}
	return false;
}

static const struct emu_property_rule *rule_find(const struct emu_property_rule *rules, size_t n_rules,
						 struct bytes key)
{
	for (size_t i = 0; i < n_rules; i++) {
		if (bytes_equal_str(key, rules[i].name))
			return &rules[i];
	}
	return NULL;
}

static bool property_check(struct bytes key, struct bytes value, const struct emu_property_rule *rule,
			   bool seen, struct emu_outcome *outcome)
{
	int key_len = key.len > 64 ? 64 : (int)key.len;
	int value_len = value.len > 48 ? 48 : (int)value.len;

	if (!rule)
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "unknown user property %.*s", key_len,
				(const char *)key.data);
	else if (seen)
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s is given twice", rule->name);
	else if (!value_has_type(value, rule->type))
		emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s is no valid %s: %.*s", rule->name,
				rule->type == PROPERTY_TIME ? "time" : "number", value_len,
				(const char *)value.data);
	else
		return true;
	return false;
}

bool emu_properties_check(struct bytes field, const struct emu_property_rule *rules, size_t n_rules,
			  struct emu_outcome *outcome)
{
	struct bytes key, value;
	uint32_t seen = 0;
	size_t pos = 0;

	while (mqtt_user_property_next(field, &pos, &key, &value)) {
		if (key.len > 1 && key.data[0] == '@')
			continue;

		const struct emu_property_rule *rule = rule_find(rules, n_rules, key);
		uint32_t bit = rule ? UINT32_C(1) << (rule - rules) : 0;

		if (!property_check(key, value, rule, seen & bit, outcome))
			return false;
		seen |= bit;
	}
	for (size_t i = 0; i < n_rules; i++) {
		if (rules[i].required && !(seen >> i & 1)) {
			emu_outcome_set(outcome, STATUS_BAD_REQUEST, "%s is missing", rules[i].name);
			return false;
		}
	}
	return true;
}

bool emu_telemetry_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	static const struct emu_property_rule rules[] = {
		{"message-id", PROPERTY_STRING, false},       {"creation-time", PROPERTY_TIME, false},
		{"content-encoding", PROPERTY_STRING, false}, {"user-id", PROPERTY_STRING, false},
		{"correlation-id", PROPERTY_STRING, false},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

bool emu_connect_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	/* sas-expiry is required by the method SAS only, host when no SNI was sent: for the caller to see. */
	static const struct emu_property_rule rules[] = {
		{"api-version", PROPERTY_STRING, true}, {"host", PROPERTY_STRING, false},
		{"sas-at", PROPERTY_TIME, false},       {"sas-expiry", PROPERTY_TIME, false},
		{"sas-policy", PROPERTY_STRING, false}, {"client-agent", PROPERTY_STRING, false},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

bool emu_auth_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	static const struct emu_property_rule rules[] = {
		{"sas-at", PROPERTY_TIME, false},
		{"sas-expiry", PROPERTY_TIME, true},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

/* What a device answers a method call with. response-code is for the caller to see: without it the call failed,
 * which is no error of the connection. */
bool emu_response_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	static const struct emu_property_rule rules[] = {
		{"response-code", PROPERTY_STRING, false},
		{"status", PROPERTY_STRING, false},
		{"reason", PROPERTY_STRING, false},
		{"trace-id", PROPERTY_STRING, false},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

/* What a device settles a command with. */
bool emu_puback_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	static const struct emu_property_rule rules[] = {
		{"status", PROPERTY_STRING, false},
		{"reason", PROPERTY_STRING, false},
		{"trace-id", PROPERTY_STRING, false},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

bool emu_twin_get_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	return emu_properties_check(field, NULL, 0, outcome);
}

bool emu_twin_patch_properties_check(struct bytes field, struct emu_outcome *outcome)
{
	static const struct emu_property_rule rules[] = {
		{"if-version", PROPERTY_U64, false},
	};

	return emu_properties_check(field, rules, ARRAY_SIZE(rules), outcome);
}

/* --- SAS -------------------------------------------------------------------------------------- */

DEFINE_CLEANUP(EVP_MAC *, EVP_MAC_free)
DEFINE_CLEANUP(EVP_MAC_CTX *, EVP_MAC_CTX_free)

int emu_sas_sign(const struct emu_sas_fields *fields, struct bytes key, uint8_t out[static SAS_SIGNATURE_LEN])
{
	const struct bytes parts[] = {fields->host, fields->client_id, fields->policy, fields->at,
				      fields->expiry};
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
			       OSSL_PARAM_construct_end()};
	_cleanup_(EVP_MAC_free_ptr) EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	_cleanup_(EVP_MAC_CTX_free_ptr) EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	size_t len;

	if (!ctx || !EVP_MAC_init(ctx, key.data, key.len, params))
		return -EIO;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!EVP_MAC_update(ctx, parts[i].data, parts[i].len) ||
		    !EVP_MAC_update(ctx, (const uint8_t *)"\n", 1))
			return -EIO;
	}
	if (!EVP_MAC_final(ctx, out, &len, SAS_SIGNATURE_LEN) || len != SAS_SIGNATURE_LEN)
		return -EIO;
	return 0;
}

bool emu_sas_is_signed(const struct emu_sas_fields *fields, struct bytes key, struct bytes signature)
{
	uint8_t expected[SAS_SIGNATURE_LEN];

	if (signature.len != sizeof(expected) || emu_sas_sign(fields, key, expected) < 0)
		return false;
	return CRYPTO_memcmp(signature.data, expected, sizeof(expected)) == 0;
}
