/* SPDX-License-Identifier: MIT */
/*
 * Base64 after RFC 4648 section 4. Strict: a text has one decoding and a decoding one text, so unused bits of
 * the last group must be zero.
 */

#include <errno.h>

#include "base/base64.h"

static const char base64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct bytes src, char *out)
{
	for (size_t i = 0; i < src.len; i += 3) {
		size_t n = src.len - i < 3 ? src.len - i : 3;
		uint32_t v = (uint32_t)src.data[i] << 16;

		if (n > 1)
			v |= (uint32_t)src.data[i + 1] << 8;
		if (n > 2)
			v |= src.data[i + 2];
		*out++ = base64_alphabet[v >> 18];
		*out++ = base64_alphabet[v >> 12 & 63];
		*out++ = n > 1 ? base64_alphabet[v >> 6 & 63] : '=';
		*out++ = n > 2 ? base64_alphabet[v & 63] : '=';
	}
	*out = '\0';
}

static int base64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(struct bytes text, uint8_t *out, size_t size)
{
	size_t n_pad = 0, n_out;

	if (text.len % 4)
		return -EINVAL;
	while (n_pad < 2 && n_pad < text.len && text.data[text.len - 1 - n_pad] == '=')
		++n_pad;
	n_out = text.len / 4 * 3 - n_pad;
	if (n_out > size)
		return -ENOSPC;
	for (size_t i = 0, o = 0; i < text.len; i += 4) {
		uint32_t v = 0;
		size_t n = i + 4 == text.len ? 4 - n_pad : 4;

		for (size_t k = 0; k < 4; ++k) {
			int d = k < n ? base64_value(text.data[i + k]) : 0;

			if (d < 0)
				return -EINVAL;
			v = v << 6 | (uint32_t)d;
		}
		if ((n == 2 && (v & 0xffff)) || (n == 3 && (v & 0xff)))
			return -EINVAL;
		for (size_t k = 0; k < n - 1; ++k)
			out[o++] = (uint8_t)(v >> (16 - 8 * k));
	}
	return (ssize_t)n_out;
}
