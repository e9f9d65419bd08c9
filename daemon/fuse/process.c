/* SPDX-License-Identifier: MIT */
/*
 * What became of the thread that closes a file.
 *
 * The kernel sends FLUSH from the thread itself, which waits for the answer: while the operation runs the thread
 * is there, and when it ends its end has been decided. /proc/<thread>/stat then says so (proc(5)): field 9 has
 * PF_EXITING, and the low 7 bits of field 52 are the number of the signal, or 0 after _exit(2).
 *
 * That file must not be read of a thread that goes on. execve(2) closes what is O_CLOEXEC while it holds a lock
 * (exec_update_lock) that a reader of `stat` wants, so that each would wait for the other. `statm` needs no lock,
 * and a thread that ends has given up its memory before its files: then it has a size of 0. When other threads end
 * because of an execve(2), its lock is taken only after them.
 *
 * Field 52 is 0 for those who may not trace the thread, and kernels 6.3 and 6.4 send FLUSH of a thread that ends
 * from one of their own: nobody was killed, then.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/tree.h"

#define FIELD_FLAGS     9
#define FIELD_EXIT_CODE 52
#define PF_EXITING      0x4
#define EXIT_SIGNAL     0x7f

/* Field @n of what follows the name, which is field 2 and may have spaces and parentheses in it. */
static unsigned long stat_field(const char *after_name, int n)
{
	const char *p = after_name;

	for (int i = 2; p && i < n; i++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p ? strtoul(p, NULL, 10) : 0;
}

/* Reads a file of /proc/<pid> as a string; false when that cannot be. */
static bool read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	_cleanup_(close_fd) int fd = -1;
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

bool fuse_pid_was_killed(pid_t pid)
{
	const char *after_name;
	char text[1024];

	/* A thread that this pid namespace does not know. */
	if (pid <= 0)
		return false;
	if (!read_proc(pid, "statm", text, sizeof(text)) || strncmp(text, "0 ", 2) != 0)
		return false;
	if (!read_proc(pid, "stat", text, sizeof(text)))
		return false;
	after_name = strrchr(text, ')');
	return after_name && (stat_field(after_name, FIELD_FLAGS) & PF_EXITING) &&
	       (stat_field(after_name, FIELD_EXIT_CODE) & EXIT_SIGNAL);
}
