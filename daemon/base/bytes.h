/* SPDX-License-Identifier: MIT */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

/*
 * A borrowed run of bytes: never owned, never NUL-terminated. Whoever hands one out says how long it lives.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const uint8_t *data;
	size_t len;
};

#define BYTES(ptr, n) ((struct bytes){.data = (const uint8_t *)(ptr), .len = (n)})

/* The bytes of a string literal, without its NUL. */
#define BYTES_LIT(lit) BYTES("" lit, sizeof(lit) - 1)

/* The bytes of a C string; NULL gives the empty run. */
static inline struct bytes bytes_from_str(const char *str)
{
	return BYTES(str, str ? strlen(str) : 0);
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool bytes_equal_str(struct bytes a, const char *str)
{
	return bytes_equal(a, bytes_from_str(str));
}

/* Without one newline at the end, which `echo` puts there. */
static inline struct bytes bytes_chomp(struct bytes text)
{
	return BYTES(text.data, text.len && text.data[text.len - 1] == '\n' ? text.len - 1 : text.len);
}

static inline bool bytes_start_with(struct bytes a, struct bytes prefix)
{
	return a.len >= prefix.len && bytes_equal(BYTES(a.data, prefix.len), prefix);
}

#endif
