/* SPDX-License-Identifier: MIT */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

/*
 * Cursors over a byte range that remember their first error. Code that reads or writes a packet is a straight
 * line; it asks for the error once, at the end. After an error every read gives zero or the empty run and
 * every write does nothing, so no caller can go past the range.
 *
 * All integers are big-endian, as on the MQTT wire. Nothing here allocates or copies on the reading side.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct reader {
	const uint8_t *pos;
	const uint8_t *end;
	int error; /* 0 or the first negative error */
};

static inline struct reader reader_init(struct bytes src)
{
	return (struct reader){.pos = src.data, .end = src.data ? src.data + src.len : src.data};
}

static inline size_t reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->pos);
}

/* Makes @error (negative) the cursor's error unless it already has one. */
static inline void reader_fail(struct reader *r, int error)
{
	if (!r->error)
		r->error = error;
	r->pos = r->end;
}

/* The next @n bytes, borrowed from the source; -EBADMSG when fewer are left. */
struct bytes reader_take(struct reader *r, size_t n);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);

struct writer {
	uint8_t *start;
	uint8_t *pos;
	uint8_t *end;
	int error; /* 0, -ENOSPC when the range was too small, or what writer_fail() was given */
};

static inline struct writer writer_init(void *dst, size_t len)
{
	return (struct writer){.start = dst, .pos = dst, .end = (uint8_t *)dst + len};
}

static inline size_t writer_len(const struct writer *w)
{
	return (size_t)(w->pos - w->start);
}

static inline struct bytes writer_bytes(const struct writer *w)
{
	return BYTES(w->start, writer_len(w));
}

static inline void writer_fail(struct writer *w, int error)
{
	if (!w->error)
		w->error = error;
}

/* @n bytes for the caller to fill, or NULL after an error. */
uint8_t *writer_reserve(struct writer *w, size_t n);
void writer_bytes_put(struct writer *w, struct bytes src);
void writer_u8(struct writer *w, uint8_t v);
void writer_u16(struct writer *w, uint16_t v);
void writer_u32(struct writer *w, uint32_t v);

#endif
