/* SPDX-License-Identifier: MIT */
#ifndef HUB_STATUS_H
#define HUB_STATUS_H

/*
 * Outcomes: what the hub says about a request, as a reason code of MQTT and, with errors, a `status` property
 * of 4 hexadecimal digits. The first byte of a status says what kind it is and whether trying again can help,
 * so a status that is not in the table still has a class and an errno.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* The statuses of the contract. */
enum hub_status_code {
	HUB_STATUS_NOT_MODIFIED = 0x0001,
	HUB_STATUS_BAD_REQUEST = 0x0100,
	HUB_STATUS_NOT_AUTHORIZED = 0x0101,
	HUB_STATUS_NOT_ALLOWED = 0x0102,
	HUB_STATUS_CONFLICT = 0x0103,
	HUB_STATUS_PRECONDITION_FAILED = 0x0104,
	HUB_STATUS_THROTTLED = 0x0501,
	HUB_STATUS_QUOTA_EXCEEDED = 0x0502,
	HUB_STATUS_RESOURCE_EXHAUSTED = 0x0503,
	HUB_STATUS_NOT_FOUND = 0x0504,
	HUB_STATUS_SERVER_ERROR = 0x0601,
	HUB_STATUS_TIMEOUT = 0x0602,
	HUB_STATUS_SERVER_BUSY = 0x0603,
	HUB_STATUS_TARGET_UNAVAILABLE = 0x06a0,
	HUB_STATUS_TARGET_TIMEOUT = 0x06a1,
	HUB_STATUS_TARGET_FAILED = 0x06a2,
};

enum hub_class {
	HUB_SUCCESS,
	HUB_CLIENT_ERROR,
	HUB_SERVER_ERROR,
};

struct hub_status {
	enum hub_class class;
	bool retryable;   /* the same request can succeed later; never with HUB_SUCCESS */
	bool has_code;    /* a readable status property was there */
	uint16_t code;    /* valid with has_code */
	uint8_t reason;   /* of MQTT; 0 where the packet has none (responses) */
	int error;        /* 0, or the negative errno for whoever asked */
	const char *name; /* "Quota Exceeded"; "unknown status" for one the contract does not have; static */
};

/* Reads exactly 4 hexadecimal digits of either case. Returns 0 or -EINVAL. */
int hub_status_parse(struct bytes text, uint16_t *code);

/* By the status alone. A type of 3, which the contract does not define, counts as a server error. */
struct hub_status hub_status_from_code(uint16_t code);

/*
 * By the reason code alone: all there is with Request Problem Information 0, from a plain broker, or when the
 * packet had no room for properties. Below 0x80 is success. 0x83 (implementation specific) stands for
 * statuses that can be retried as well as for some that cannot; it counts as a server error that is not
 * retryable: a message that is refused for good and tried for ever would block everything behind it, while an
 * error reaches its writer, who can try again. Any other code without a meaning of its own is treated the
 * same.
 */
struct hub_status hub_status_from_reason(uint8_t reason);

/*
 * The outcome in a packet: @reason, and the value of its `status` property (@text.data NULL when there is
 * none). An error in either is an error: the status decides unless it says success while the reason does not.
 * A status that cannot be read leaves the reason to decide; with a reason of success it is a server error,
 * not retryable, -EPROTO.
 */
struct hub_status hub_status_from_packet(uint8_t reason, struct bytes text);

/* Length of hub_status_format()'s longest text with its NUL. */
#define HUB_STATUS_TEXT_SIZE 64

/* "Quota Exceeded (0502)", or "Not Authorized (reason 135)" without a status; for logs and the status file.
 */
void hub_status_format(const struct hub_status *status, char out[static HUB_STATUS_TEXT_SIZE]);

#endif
