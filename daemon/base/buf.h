/* SPDX-License-Identifier: MIT */
#ifndef BASE_BUF_H
#define BASE_BUF_H

/*
 * A byte queue with a bound: bytes go in at the end and come out at the front. Memory grows by doubling as
 * bytes arrive, never ahead of them, and never beyond @max bytes: then appending fails with -ENOBUFS and
 * nothing changes. What has been consumed is reclaimed by moving the rest, at most once per doubling.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct buf {
	uint8_t *data;
	size_t start; /* first byte not consumed */
	size_t end;   /* one past the last byte */
	size_t size;  /* allocated */
	size_t max;   /* bound of end - start, in bytes */
};

static inline void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.max = max_bytes};
}

/* Idempotent. */
void buf_deinit(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

/* Borrowed until the next call that changes @b. */
static inline struct bytes buf_bytes(const struct buf *b)
{
	return b->data ? BYTES(b->data + b->start, buf_len(b)) : BYTES(NULL, 0);
}

/* Makes room for @n more bytes and points *@out at them; buf_commit() then says how many were filled.
 * Returns 0, -ENOBUFS (bound), -ENOMEM. */
int buf_reserve(struct buf *b, size_t n, uint8_t **out);

static inline void buf_commit(struct buf *b, size_t n)
{
	b->end += n;
}

/* Returns 0, -ENOBUFS, -ENOMEM; on error nothing was appended. */
int buf_append(struct buf *b, struct bytes src);

/* Drops @n bytes at the front; @n at most buf_len(). Memory is kept for reuse. */
void buf_consume(struct buf *b, size_t n);

#endif
