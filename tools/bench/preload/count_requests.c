/* SPDX-License-Identifier: MIT */
/*
 * Counts FUSE requests that a program reads, for LD_PRELOAD: one number for each opcode below N_OPCODES, eight bytes
 * each in the machine's order, in the file that $BENCH_REQUEST_COUNT names, so that they can be read while the program
 * runs.
 */

#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N_OPCODES 64

static uint64_t before_init[N_OPCODES];
static uint64_t *counts = before_init;

__attribute__((constructor)) static void map_counts(void)
{
	const char *path = getenv("BENCH_REQUEST_COUNT");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *map;

	if (fd < 0 || ftruncate(fd, sizeof(before_init)) < 0)
		return;
	map = mmap(NULL, sizeof(before_init), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		counts = map;
}

/* Nothing else that is read begins with its own length, which is at least that of this header. */
ssize_t read(int fd, void *buffer, size_t size)
{
	ssize_t n = syscall(SYS_read, fd, buffer, size);
	struct fuse_in_header header;

	if (n < (ssize_t)sizeof(header))
		return n;
	memcpy(&header, buffer, sizeof(header));
	if (header.len == n && header.opcode < N_OPCODES)
		++counts[header.opcode];
	return n;
}
