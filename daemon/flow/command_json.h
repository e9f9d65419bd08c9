/* SPDX-License-Identifier: MIT */
#ifndef FLOW_COMMAND_JSON_H
#define FLOW_COMMAND_JSON_H

/*
 * A command as JSON text. Members, those of the hub's optional properties only when the command has them:
 *
 *   "sequence-no", "delivery-count"            numbers
 *   "enqueued-time", "creation-time"           YYYY-MM-DDTHH:MM:SS.mmmZ
 *   "message-id", "user-id", "correlation-id", "content-type", "content-encoding"
 *   "properties"                               an object of strings: the application's, without the @; of several
 *                                              with one name, the last
 *   "payload"                                  a string, when it is valid UTF-8; else
 *   "payload-base64"
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct command_message {
	uint64_t sequence_no;
	uint64_t enqueued_ms;
	uint32_t delivery_count;
	struct bytes properties; /* the PUBLISH's property field, as received */
	struct bytes payload;
};

/* Everything, or everything but the payload, as one line with a newline at its end. The caller frees *@out, which
 * has a NUL behind its @len bytes. Returns 0, -ENOMEM, or as mqtt_properties_decode(). */
int command_json_line(const struct command_message *message, char **out, size_t *len);
int command_json_properties(const struct command_message *message, char **out, size_t *len);

#endif
