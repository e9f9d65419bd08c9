/* SPDX-License-Identifier: MIT */
/*
 * UTF-8 validation after the table of well-formed byte sequences (Unicode 15, table 3-7): the first byte
 * decides the length and the range of the second byte; all others are 80..BF.
 */

#include "base/utf8.h"

/* Length of the valid sequence at @p, or 0. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > left)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; ++i)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

bool utf8_is_valid(struct bytes b)
{
	for (size_t i = 0, n; i < b.len; i += n) {
		n = utf8_sequence(b.data + i, b.len - i);
		if (!n)
			return false;
	}
	return true;
}

bool utf8_is_mqtt_string(struct bytes b)
{
	return (b.len == 0 || !memchr(b.data, 0, b.len)) && utf8_is_valid(b);
}
