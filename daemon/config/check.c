/* SPDX-License-Identifier: MIT */
/*
 * Checks of names and numbers, see check.h.
 */

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>

#include "base/utf8.h"
#include "config/check.h"

#define DISTANCE_LEN_MAX 64

static bool host_is_ipv6(struct bytes text)
{
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr addr;

	if (text.len >= sizeof(copy))
		return false;
	memcpy(copy, text.data, text.len);
	copy[text.len] = '\0';
	return strlen(copy) == text.len && inet_pton(AF_INET6, copy, &addr) == 1;
}

/* Names of channels have these, too. */
static bool host_has_char(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '_';
}

bool check_host(struct bytes text)
{
	bool in_label = false;

	if (text.len == 0 || text.len > CHECK_HOST_MAX || text.data[0] == '-')
		return false;
	if (memchr(text.data, ':', text.len))
		return host_is_ipv6(text);
	for (size_t i = 0; i < text.len; ++i) {
		if (text.data[i] == '.' ? !in_label : !host_has_char(text.data[i]))
			return false;
		in_label = text.data[i] != '.';
	}
	return in_label;
}

bool check_channel_name(struct bytes text)
{
	if (text.len == 0 || text.len > CHECK_CHANNEL_NAME_MAX || text.data[0] == '.')
		return false;
	for (size_t i = 0; i < text.len; ++i)
		if (!host_has_char(text.data[i]) && text.data[i] != '.')
			return false;
	return true;
}

bool check_channel_value(struct bytes text)
{
	for (size_t i = 0; i < text.len; ++i) {
		uint8_t c = text.data[i];

		/* U+0080 to U+009F are controls, too. */
		if (c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < text.len && text.data[i + 1] < 0xa0))
			return false;
	}
	return utf8_is_valid(text);
}

int check_u64(struct bytes text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (text.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < text.len; ++i)
		if (text.data[i] < '0' || text.data[i] > '9')
			return -EINVAL;
	for (size_t i = 0; i < text.len; ++i) {
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text.data[i] - '0'), &v))
			return -ERANGE;
	}
	if (v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t check_distance(struct bytes a, struct bytes b)
{
	uint8_t rows[3][DISTANCE_LEN_MAX + 1];

	if (a.len > DISTANCE_LEN_MAX || b.len > DISTANCE_LEN_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.len; ++j)
		rows[0][j] = (uint8_t)j;
	for (size_t i = 1; i <= a.len; ++i) {
		uint8_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];

		row[0] = (uint8_t)i;
		for (size_t j = 1; j <= b.len; ++j) {
			int ca = tolower(a.data[i - 1]), cb = tolower(b.data[j - 1]);
			size_t d = min_size((size_t)above[j] + 1, (size_t)row[j - 1] + 1);

			d = min_size(d, (size_t)above[j - 1] + (ca != cb));
			if (i > 1 && j > 1 && ca == tolower(b.data[j - 2]) && cb == tolower(a.data[i - 2]))
				d = min_size(d, (size_t)above2[j - 2] + 1);
			row[j] = (uint8_t)d;
		}
	}
	return rows[a.len % 3][b.len];
}

bool check_is_near(struct bytes a, struct bytes b, size_t distance)
{
	/* Two slips, but not so many that nothing is left of a short name. */
	return distance <= 2 && distance * 3 <= min_size(a.len, b.len);
}
