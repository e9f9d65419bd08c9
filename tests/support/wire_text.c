/* SPDX-License-Identifier: MIT */
/*
 * The little language of wire_text.h, by recursive descent. Lengths are put in front once their content is
 * known. It has its own variable byte integers: the codec's are what it tests.
 */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/wire_text.h"

struct state {
	const char *text;
	const char *pos;
	uint8_t *out;
	size_t len;
	size_t size;
};

static void fail(const struct state *s, const char *why)
{
	fprintf(stderr, "wire text \"%s\" at %td: %s\n", s->text, s->pos - s->text, why);
	abort();
}

static void insert(struct state *s, size_t at, const uint8_t *src, size_t n)
{
	if (s->size - s->len < n)
		fail(s, "too long");
	memmove(s->out + at + n, s->out + at, s->len - at);
	memcpy(s->out + at, src, n);
	s->len += n;
}

static void insert_u16(struct state *s, size_t at)
{
	size_t len = s->len - at;
	uint8_t bytes[] = {(uint8_t)(len >> 8), (uint8_t)len};

	insert(s, at, bytes, sizeof(bytes));
}

static void insert_varint(struct state *s, size_t at)
{
	size_t len = s->len - at, n = 0;
	uint8_t bytes[4];

	do {
		bytes[n] = (uint8_t)(len % 128);
		len /= 128;
		if (len)
			bytes[n] |= 128;
		++n;
	} while (len);
	insert(s, at, bytes, n);
}

static void hex_byte(struct state *s)
{
	char digits[3] = {s->pos[0], s->pos[1], 0}, *end;
	uint8_t byte = (uint8_t)strtoul(digits, &end, 16);

	if (end != digits + 2)
		fail(s, "two hex digits expected");
	insert(s, s->len, &byte, 1);
	s->pos += 2;
}

static void quoted(struct state *s)
{
	const char *end = strchr(++s->pos, '\'');

	if (!end)
		fail(s, "quote not closed");
	else
		insert(s, s->len, (const uint8_t *)s->pos, (size_t)(end - s->pos));
	s->pos = end + 1;
}

/* Everything up to @close, which is consumed. */
static void sequence(struct state *s, char close)
{
	while (*s->pos != close) {
		size_t at = s->len;
		char c = *s->pos;

		if (!c)
			fail(s, "bracket not closed");
		if (c == '\'') {
			quoted(s);
		} else if (!isspace((unsigned char)c) && !strchr("([|", c)) {
			hex_byte(s);
		} else {
			++s->pos;
			if (isspace((unsigned char)c))
				continue;
			sequence(s, (char)(c == '(' ? ')' : c == '[' ? ']' : close));
			if (c == '(') {
				insert_u16(s, at);
			} else {
				insert_varint(s, at);
				if (c == '|')
					return;
			}
		}
	}
	if (close)
		++s->pos;
}

struct bytes wire_text(const char *text, uint8_t *out, size_t size)
{
	struct state s = {.text = text, .pos = text, .out = out, .size = size};

	sequence(&s, '\0');
	return BYTES(out, s.len);
}
