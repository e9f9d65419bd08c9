/* SPDX-License-Identifier: MIT */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <sys/types.h>

#include "base/bytes.h"

/* Size of the text for @n bytes, without a NUL. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_LEN(src.len) characters and a NUL to @out. */
void base64_encode(struct bytes src, char *out);

/* Decodes standard base64 (RFC 4648 section 4, padding required, no white space) to @out of @size bytes.
 * Returns the number of bytes, -EINVAL for anything else, -ENOSPC when @out is too small. */
ssize_t base64_decode(struct bytes text, uint8_t *out, size_t size);

#endif
