/* SPDX-License-Identifier: MIT */
/* File names of keys, see key_name.h. */

#include "flow/key_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_escaped(const char *key, uint8_t c)
{
	if (c == '.')
		return strcmp(key, ".") == 0 || strcmp(key, "..") == 0;
	return c < 0x20 || c == 0x7f || c == '%' || c == '/';
}

int key_name_encode(const char *key, char out[static KEY_NAME_SIZE])
{
	static const char digits[] = "0123456789ABCDEF";
	size_t len = 0;

	if (!key[0])
		out[len++] = '%';
	for (const char *at = key; *at; ++at) {
		uint8_t c = (uint8_t)*at;
		bool escaped = is_escaped(key, c);

		if (len + (escaped ? 3 : 1) >= KEY_NAME_SIZE)
			return -ENAMETOOLONG;
		if (!escaped) {
			out[len++] = *at;
			continue;
		}
		out[len++] = '%';
		out[len++] = digits[c >> 4];
		out[len++] = digits[c & 0xf];
	}
	out[len] = '\0';
	return 0;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int key_name_decode(const char *name, char out[static KEY_NAME_SIZE])
{
	char again[KEY_NAME_SIZE];
	size_t len = 0;

	if (!name[0] || strlen(name) >= KEY_NAME_SIZE)
		return -EINVAL;
	for (const char *at = strcmp(name, "%") == 0 ? "" : name; *at; ++at) {
		int high, low;

		if (*at != '%') {
			out[len++] = *at;
			continue;
		}
		high = digit(at[1]);
		low = high < 0 ? -1 : digit(at[2]);
		if (low < 0 || (high == 0 && low == 0))
			return -EINVAL;
		out[len++] = (char)(high << 4 | low);
		at += 2;
	}
	out[len] = '\0';
	/* Another spelling of a name is none. */
	if (key_name_encode(out, again) || strcmp(again, name) != 0)
		return -EINVAL;
	return 0;
}
