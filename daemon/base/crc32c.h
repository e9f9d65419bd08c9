/* SPDX-License-Identifier: MIT */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

/*
 * CRC-32C (Castagnoli; RFC 3720 section 12.1, appendix B.4): finds every single-bit error, every burst of up to 32
 * bits. With the processor's instructions where it has them.
 */

#include <stddef.h>
#include <stdint.h>

/* Goes on from @crc, which is 0 at first: crc32c(crc32c(0, a), b) is that of a and b one after the other. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same in plain C, for tests and other processors. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
