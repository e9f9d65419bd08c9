/* SPDX-License-Identifier: MIT */
#ifndef HUB_MESSAGE_H
#define HUB_MESSAGE_H

/*
 * Properties every telemetry message gets from the daemon. A message keeps its message-id over every re-send,
 * so a back end can drop duplicates.
 */

#include <stdint.h>

/* 16 digits, a dash, 16 digits. */
#define HUB_MESSAGE_ID_LEN 33

/*
 * Writes the message-id of message @sequence of the run @run, both as 16 hexadecimal digits, and a NUL. @run
 * is 64 random bits drawn once at start (and kept with the queue when the queue is kept); @sequence never
 * repeats within a run.
 */
void hub_message_id_format(uint64_t run, uint64_t sequence, char out[static HUB_MESSAGE_ID_LEN + 1]);

#endif
