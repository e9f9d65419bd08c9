/* SPDX-License-Identifier: MIT */
#ifndef TESTS_WIRE_TEXT_H
#define TESTS_WIRE_TEXT_H

/*
 * Packets as readable text, for tables of tests:
 *
 *     10 | ('MQTT') 05 02 003c [ 11 00000e10 ] ('dev')
 *
 *   00 .. ff   a byte in hex; several may stand together
 *   'text'     these characters
 *   ( ... )    two bytes of length, then what is inside: a string or binary data
 *   [ ... ]    a variable byte integer of length, then what is inside: a property block
 *   | ...      the same with all that follows: the remaining length
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Writes the bytes of @text to @out and returns them; aborts when they do not fit or the text makes no sense.
 */
struct bytes wire_text(const char *text, uint8_t *out, size_t size);

#endif
