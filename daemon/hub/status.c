/* SPDX-License-Identifier: MIT */
/*
 * Outcomes, see status.h.
 *
 * A status is two bytes. First byte, flags: bits 0-1 the type (0 success, 1 client error, 2 server error),
 * bit 2 set when the request can be repeated. Second byte: the code within the type. Two tables give names
 * and errno, one by status and one by reason code; class and retryability of a status always come from its
 * bits, never from the table.
 */

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "hub/status.h"

#define STATUS_DIGITS      4
#define STATUS_TYPE_MASK   0x0300
#define STATUS_TYPE_OK     0x0000
#define STATUS_TYPE_CLIENT 0x0100
#define STATUS_RETRYABLE   0x0400

/* MQTT 5 section 2.4: codes below are successes. */
#define REASON_ERROR_MIN 0x80

struct status_entry {
	uint16_t code;
	int error;
	const char *name;
};

static const struct status_entry status_table[] = {
	{HUB_STATUS_NOT_MODIFIED, 0, "Not Modified"},
	{HUB_STATUS_BAD_REQUEST, -EINVAL, "Bad Request"},
	{HUB_STATUS_NOT_AUTHORIZED, -EACCES, "Not Authorized"},
	{HUB_STATUS_NOT_ALLOWED, -EPERM, "Not Allowed"},
	{HUB_STATUS_CONFLICT, -EBUSY, "Conflict"},
	{HUB_STATUS_PRECONDITION_FAILED, -ESTALE, "Precondition Failed"},
	{HUB_STATUS_THROTTLED, -EAGAIN, "Throttled"},
	{HUB_STATUS_QUOTA_EXCEEDED, -EDQUOT, "Quota Exceeded"},
	{HUB_STATUS_RESOURCE_EXHAUSTED, -ENOSPC, "Resource Exhausted"},
	{HUB_STATUS_NOT_FOUND, -ENOENT, "Not Found"},
	{HUB_STATUS_SERVER_ERROR, -EIO, "Server Error"},
	{HUB_STATUS_TIMEOUT, -ETIMEDOUT, "Timeout"},
	{HUB_STATUS_SERVER_BUSY, -EBUSY, "Server Busy"},
	{HUB_STATUS_TARGET_UNAVAILABLE, -EHOSTUNREACH, "Target Unavailable"},
	{HUB_STATUS_TARGET_TIMEOUT, -ETIMEDOUT, "Target Timeout"},
	{HUB_STATUS_TARGET_FAILED, -EPROTO, "Target Failed"},
};

struct reason_entry {
	uint8_t reason;
	enum hub_class class;
	bool retryable;
	int error;
	const char *name;
};

/*
 * Reason codes of CONNACK, PUBACK, SUBACK and DISCONNECT that mean more than "an error". Retryable are those
 * about the hub's load or the state of a session, which the same message can outlive.
 */
static const struct reason_entry reason_table[] = {
	{0x84, HUB_CLIENT_ERROR, false, -EPROTONOSUPPORT, "Unsupported Protocol Version"},
	{0x85, HUB_CLIENT_ERROR, false, -EINVAL, "Client Identifier Not Valid"},
	{0x86, HUB_CLIENT_ERROR, false, -EACCES, "Bad User Name or Password"},
	{0x87, HUB_CLIENT_ERROR, false, -EACCES, "Not Authorized"},
	{0x88, HUB_SERVER_ERROR, true, -EAGAIN, "Server Unavailable"},
	{0x89, HUB_SERVER_ERROR, true, -EBUSY, "Server Busy"},
	{0x8a, HUB_CLIENT_ERROR, false, -EACCES, "Banned"},
	{0x8b, HUB_SERVER_ERROR, true, -EAGAIN, "Server Shutting Down"},
	{0x8c, HUB_CLIENT_ERROR, false, -EACCES, "Bad Authentication Method"},
	{0x8d, HUB_SERVER_ERROR, true, -ETIMEDOUT, "Keep Alive Timeout"},
	{0x8e, HUB_CLIENT_ERROR, false, -EBUSY, "Session Taken Over"},
	{0x8f, HUB_CLIENT_ERROR, false, -EINVAL, "Topic Filter Invalid"},
	{0x90, HUB_CLIENT_ERROR, false, -EINVAL, "Topic Name Invalid"},
	{0x91, HUB_SERVER_ERROR, true, -EAGAIN, "Packet Identifier in Use"},
	{0x95, HUB_CLIENT_ERROR, false, -EMSGSIZE, "Packet Too Large"},
	{0x97, HUB_CLIENT_ERROR, true, -EAGAIN, "Quota Exceeded"},
	{0x99, HUB_CLIENT_ERROR, false, -EINVAL, "Payload Format Invalid"},
	{0x9a, HUB_CLIENT_ERROR, false, -EINVAL, "Retain Not Supported"},
	{0x9b, HUB_CLIENT_ERROR, false, -EINVAL, "QoS Not Supported"},
	{0x9c, HUB_SERVER_ERROR, false, -EREMOTE, "Use Another Server"},
	{0x9d, HUB_SERVER_ERROR, false, -EREMOTE, "Server Moved"},
	{0x9f, HUB_CLIENT_ERROR, true, -EAGAIN, "Connection Rate Exceeded"},
	{0xa2, HUB_CLIENT_ERROR, false, -EINVAL, "Wildcard Subscriptions Not Supported"},
};

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hub_status_parse(struct bytes text, uint16_t *code)
{
	unsigned int v = 0;

	if (text.len != STATUS_DIGITS)
		return -EINVAL;
	for (size_t i = 0; i < text.len; ++i) {
		int d = hex_value(text.data[i]);

		if (d < 0)
			return -EINVAL;
		v = v << 4 | (unsigned int)d;
	}
	*code = (uint16_t)v;
	return 0;
}

static const struct status_entry *status_find(uint16_t code)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_table); ++i)
		if (status_table[i].code == code)
			return &status_table[i];
	return NULL;
}

static enum hub_class status_class(uint16_t code)
{
	switch (code & STATUS_TYPE_MASK) {
	case STATUS_TYPE_OK:
		return HUB_SUCCESS;
	case STATUS_TYPE_CLIENT:
		return HUB_CLIENT_ERROR;
	default:
		return HUB_SERVER_ERROR;
	}
}

static int status_error_unknown(enum hub_class class, bool retryable)
{
	if (class == HUB_SUCCESS)
		return 0;
	if (retryable)
		return -EAGAIN;
	return class == HUB_CLIENT_ERROR ? -EINVAL : -EIO;
}

struct hub_status hub_status_from_code(uint16_t code)
{
	const struct status_entry *entry = status_find(code);
	enum hub_class class = status_class(code);
	bool retryable = class != HUB_SUCCESS && (code & STATUS_RETRYABLE);

	return (struct hub_status){
		.class = class,
		.retryable = retryable,
		.has_code = true,
		.code = code,
		.error = entry ? entry->error : status_error_unknown(class, retryable),
		.name = entry ? entry->name : "unknown status",
	};
}

struct hub_status hub_status_from_reason(uint8_t reason)
{
	struct hub_status out = {
		.class = HUB_SERVER_ERROR, .reason = reason, .error = -EIO, .name = "Server Error"};

	if (reason < REASON_ERROR_MIN)
		return (struct hub_status){.class = HUB_SUCCESS, .reason = reason, .name = "Success"};
	for (size_t i = 0; i < ARRAY_SIZE(reason_table); ++i) {
		if (reason_table[i].reason != reason)
			continue;
		out.class = reason_table[i].class;
		out.retryable = reason_table[i].retryable;
		out.error = reason_table[i].error;
		out.name = reason_table[i].name;
	}
	return out;
}

struct hub_status hub_status_from_packet(uint8_t reason, struct bytes text)
{
	struct hub_status by_reason = hub_status_from_reason(reason), by_code;
	uint16_t code;

	if (!text.data)
		return by_reason;
	if (hub_status_parse(text, &code)) {
		if (by_reason.class == HUB_SUCCESS)
			return (struct hub_status){.class = HUB_SERVER_ERROR,
						   .reason = reason,
						   .error = -EPROTO,
						   .name = "unreadable status"};
		return by_reason;
	}
	by_code = hub_status_from_code(code);
	if (by_code.class == HUB_SUCCESS && by_reason.class != HUB_SUCCESS)
		return by_reason;
	by_code.reason = reason;
	return by_code;
}

void hub_status_format(const struct hub_status *status, char out[static HUB_STATUS_TEXT_SIZE])
{
	if (status->has_code)
		snprintf(out, HUB_STATUS_TEXT_SIZE, "%s (%04X)", status->name, status->code);
	else if (status->class == HUB_SUCCESS)
		snprintf(out, HUB_STATUS_TEXT_SIZE, "%s", status->name);
	else
		snprintf(out, HUB_STATUS_TEXT_SIZE, "%s (reason %u)", status->name, status->reason);
}
