/* SPDX-License-Identifier: MIT */
/*
 * Sticky-error cursors, see cursor.h. Invariant: start <= pos <= end, also after an error.
 */

#include <errno.h>

#include "base/cursor.h"

struct bytes reader_take(struct reader *r, size_t n)
{
	struct bytes out;

	if (n > reader_left(r)) {
		reader_fail(r, -EBADMSG);
		return BYTES(NULL, 0);
	}
	out = BYTES(r->pos, n);
	if (n > 0)
		r->pos += n;
	return out;
}

uint8_t reader_u8(struct reader *r)
{
	struct bytes b = reader_take(r, 1);

	return b.len ? b.data[0] : 0;
}

uint16_t reader_u16(struct reader *r)
{
	struct bytes b = reader_take(r, 2);

	return b.len ? (uint16_t)((unsigned int)b.data[0] << 8 | b.data[1]) : 0;
}

uint32_t reader_u32(struct reader *r)
{
	struct bytes b = reader_take(r, 4);

	if (!b.len)
		return 0;
	return (uint32_t)b.data[0] << 24 | (uint32_t)b.data[1] << 16 | (uint32_t)b.data[2] << 8 | b.data[3];
}

uint8_t *writer_reserve(struct writer *w, size_t n)
{
	uint8_t *at = w->pos;

	if (w->error)
		return NULL;
	if (n > (size_t)(w->end - w->pos)) {
		writer_fail(w, -ENOSPC);
		return NULL;
	}
	w->pos += n;
	return at;
}

void writer_bytes_put(struct writer *w, struct bytes src)
{
	uint8_t *at = writer_reserve(w, src.len);

	if (at && src.len)
		memcpy(at, src.data, src.len);
}

void writer_u8(struct writer *w, uint8_t v)
{
	uint8_t *at = writer_reserve(w, 1);

	if (at)
		at[0] = v;
}

void writer_u16(struct writer *w, uint16_t v)
{
	uint8_t *at = writer_reserve(w, 2);

	if (!at)
		return;
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

void writer_u32(struct writer *w, uint32_t v)
{
	uint8_t *at = writer_reserve(w, 4);

	if (!at)
		return;
	at[0] = (uint8_t)(v >> 24);
	at[1] = (uint8_t)(v >> 16);
	at[2] = (uint8_t)(v >> 8);
	at[3] = (uint8_t)v;
}
