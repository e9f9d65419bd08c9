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
 * Field 52 is 0 for those who may not trace the thread, as a service without CAP_SYS_PTRACE may not most of them.
 * Then PF_SIGNALED decides. It is also on the threads that go because another one ended their process in order:
 * a command handled there may be delivered once more, which is better than one that is lost.
 *
 * Kernels 6.3 and 6.4 send FLUSH of a thread that ends from one of their own: nobody was killed, then.
 */

#include <errno.h>
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
#define PF_SIGNALED     0x400
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

/* Whether the kernel hides field 52 from us; of a thread that ends. */
static bool is_hidden(pid_t pid)
{
	char path[48], target[8];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return readlink(path, target, sizeof(target)) < 0 && errno == EACCES;
}

bool fuse_pid_was_killed(pid_t pid)
{
	const char *after_name;
	unsigned long flags;
	char text[1024];

	/* A thread that this pid namespace does not know. */
	if (pid <= 0)
		return false;
	if (!read_proc(pid, "statm", text, sizeof(text)) || strncmp(text, "0 ", 2) != 0)
		return false;
	if (!read_proc(pid, "stat", text, sizeof(text)))
		return false;
	after_name = strrchr(text, ')');
	if (!after_name)
		return false;
	flags = stat_field(after_name, FIELD_FLAGS);
	if (!(flags & PF_EXITING))
		return false;
	if (stat_field(after_name, FIELD_EXIT_CODE) & EXIT_SIGNAL)
		return true;
	return (flags & PF_SIGNALED) && is_hidden(pid);
}
