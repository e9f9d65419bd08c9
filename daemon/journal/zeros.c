/* SPDX-License-Identifier: MIT */
/*
 * Files of zeros, see zeros.h. A segment that was made just before the machine stopped is one: nothing in it was promised.
 * One that only begins with zeros was written to, and has lost its header since.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "journal/zeros.h"

#define PIECE_BYTES 16384

bool zeros_are(const uint8_t *data, size_t len)
{
	return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

int zeros_is_file(int fd)
{
	uint8_t piece[PIECE_BYTES];
	uint64_t n_read = 0;
	off_t at = 0;

	while (n_read <= ZEROS_BYTES_MAX) {
		ssize_t n;

		at = lseek(fd, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 1 : -errno;
		n = pread(fd, piece, sizeof(piece), at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 1;
		if (!zeros_are(piece, (size_t)n))
			return 0;
		n_read += (uint64_t)n;
		at += n;
	}
	return 0;
}
