/* SPDX-License-Identifier: MIT */
/*
 * Bounded byte queue, see buf.h. Invariant: start <= end <= size, end - start <= max.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"

#define BUF_SIZE_MIN 256

void buf_deinit(struct buf *b)
{
	free(b->data);
	buf_init(b, b->max);
}

int buf_reserve(struct buf *b, size_t n, uint8_t **out)
{
	size_t len = buf_len(b), size = b->size ? b->size : BUF_SIZE_MIN;
	uint8_t *data;

	if (n > b->max || len > b->max - n)
		return -ENOBUFS;
	if (b->size - b->end < n) {
		if (b->size - len >= n && b->start >= len) {
			memcpy(b->data, b->data + b->start, len);
		} else {
			while (size < len + n || size < 2 * len)
				size *= 2;
			data = malloc(size);
			if (!data)
				return -ENOMEM;
			if (len)
				memcpy(data, b->data + b->start, len);
			free(b->data);
			b->data = data;
			b->size = size;
		}
		b->start = 0;
		b->end = len;
	}
	*out = b->data + b->end;
	return 0;
}

int buf_append(struct buf *b, struct bytes src)
{
	uint8_t *at;
	int r;

	if (!src.len)
		return 0;
	r = buf_reserve(b, src.len, &at);
	if (r)
		return r;
	memcpy(at, src.data, src.len);
	buf_commit(b, src.len);
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->start += n;
	if (b->start == b->end) {
		b->start = 0;
		b->end = 0;
	}
}
