/* SPDX-License-Identifier: MIT */
/*
 * The emulator as a process, see emu_process.h.
 */

#include "tests/support/emu_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/cleanup.h"

#define READY_FD      3
#define N_OPTIONS_MAX 2048

int emu_process_init(struct emu_process *e)
{
	const char *tmp = getenv("TMPDIR");

	*e = (struct emu_process){.port = 0};
	snprintf(e->dir, sizeof(e->dir), "%s/emulator-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(e->dir))
		return -errno;
	snprintf(e->ca_file, sizeof(e->ca_file), "%s/ca.pem", e->dir);
	snprintf(e->log_file, sizeof(e->log_file), "%s/log", e->dir);
	return 0;
}

void emu_program_path(const char *name, char out[static EMU_PROCESS_PATH_MAX])
{
	const char *build = getenv("IOTHUB_BUILD");

	snprintf(out, EMU_PROCESS_PATH_MAX, "%s/%s", build ? build : "build", name);
}

/* In the child: one descriptor from a file. */
static void redirect(int fd, const char *path, int flags)
{
	int opened = open(path ? path : "/dev/null", flags, 0600);

	if (opened < 0 || dup2(opened, fd) < 0)
		_exit(126);
	close(opened);
}

pid_t emu_spawn(const char *const *argv, const char *out_file, const char *err_file, int ready_fd)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid < 0 ? -errno : pid;
	if (ready_fd >= 0 && ready_fd != READY_FD && dup2(ready_fd, READY_FD) < 0)
		_exit(126);
	redirect(0, NULL, O_RDONLY);
	redirect(1, out_file, O_WRONLY | O_CREAT | O_APPEND);
	redirect(2, err_file, O_WRONLY | O_CREAT | O_APPEND);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

int emu_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The port the emulator tells once it listens; an early end of file means that it failed. */
static int read_port(int fd, uint16_t *port)
{
	char text[16] = "";
	size_t n = 0;

	while (n < sizeof(text) - 1 && !strchr(text, '\n')) {
		ssize_t r = read(fd, text + n, sizeof(text) - 1 - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EPIPE;
		n += (size_t)r;
	}
	*port = (uint16_t)atoi(text);
	return *port ? 0 : -EPROTO;
}

int emu_process_start(struct emu_process *e, const char *const *options)
{
	const char *argv[N_OPTIONS_MAX + 8];
	char program[EMU_PROCESS_PATH_MAX];
	int fds[2], r;
	size_t n = 0;

	emu_program_path("iothub-emulator", program);
	argv[n++] = program;
	argv[n++] = "--state";
	argv[n++] = e->dir;
	argv[n++] = "--port=0";
	argv[n++] = "--ready-fd=3";
	for (size_t i = 0; options && options[i] && i < N_OPTIONS_MAX; i++)
		argv[n++] = options[i];
	argv[n] = NULL;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	e->pid = emu_spawn(argv, e->log_file, e->log_file, fds[1]);
	close(fds[1]);
	r = e->pid < 0 ? (int)e->pid : read_port(fds[0], &e->port);
	close(fds[0]);
	if (e->pid < 0)
		e->pid = 0;
	return r;
}

int emu_process_stop(struct emu_process *e, int signo)
{
	pid_t pid = e->pid;

	if (pid <= 0)
		return -ESRCH;
	e->pid = 0;
	kill(pid, signo);
	return emu_wait(pid);
}

void emu_process_deinit(struct emu_process *e)
{
	const char *const argv[] = {"rm", "-rf", e->dir, NULL};

	if (!e->dir[0])
		return;
	if (e->pid > 0)
		emu_process_stop(e, SIGKILL);
	emu_wait(emu_spawn(argv, NULL, NULL, -1));
	e->dir[0] = '\0';
}

char *emu_read_file(const char *path)
{
	_cleanup_(fclose_ptr) FILE *f = fopen(path, "re");
	_cleanup_(free_ptr) char *text = NULL;
	size_t size = 4096, len = 0, n;
	char *grown;

	while (f && (grown = realloc(text, size))) {
		text = grown;
		n = fread(text + len, 1, size - len - 1, f);
		len += n;
		text[len] = '\0';
		if (n == 0)
			return TAKE_PTR(text);
		size *= 2;
	}
	return NULL;
}

ssize_t emu_process_key(const struct emu_process *e, const char *device, uint8_t *out, size_t size)
{
	_cleanup_(free_ptr) char *text = NULL;
	char path[EMU_PROCESS_PATH_MAX + 300], *key;

	if (strcmp(device, "service") == 0)
		snprintf(path, sizeof(path), "%s/service.connection-string", e->dir);
	else
		snprintf(path, sizeof(path), "%s/devices/%s.connection-string", e->dir, device);
	text = emu_read_file(path);
	key = text ? strstr(text, ";SharedAccessKey=") : NULL;
	if (!key)
		return -ENOENT;
	key += sizeof(";SharedAccessKey=") - 1;
	return base64_decode(BYTES(key, strcspn(key, ";\n")), out, size);
}
