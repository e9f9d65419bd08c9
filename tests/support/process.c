/* SPDX-License-Identifier: MIT */
/*
 * Programs as a test runs them, see process.h.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/process.h"

#define TEXT_MAX (1 << 20)

const char *process_path(const char *name)
{
	static char path[PROCESS_PATH_MAX];
	const char *build = getenv("IOTHUB_BUILD");

	snprintf(path, sizeof(path), "%s/%s", build ? build : "build", name);
	return path;
}

/* --- start ------------------------------------------------------------------------------------ */

/* In the child: never returns. */
__attribute__((noreturn)) static void process_exec(const char *const *argv, int fd, int out, int err)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(err, STDERR_FILENO);
	dup2(out >= 0 ? out : err, STDOUT_FILENO);
	if (fd == 3)
		fcntl(fd, F_SETFD, 0);
	else if (fd >= 0)
		dup2(fd, 3);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

pid_t process_start(const char *log, const char *const *argv, int fd, int out)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		process_exec(argv, fd, out, open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
	ASSERT_GT(pid, 0);
	return pid;
}

bool process_try_notify(pid_t *pid, const char *log, const char *const *argv, const char *notify, int *status)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_(close_fd) int end = -1;
	char message[512];
	ssize_t n;

	ASSERT_LT(strlen(notify), sizeof(addr.sun_path));
	strcpy(addr.sun_path, notify);
	unlink(notify);
	ASSERT_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	setenv("NOTIFY_SOCKET", notify, 1);
	*pid = process_start(log, argv, -1, -1);
	unsetenv("NOTIFY_SOCKET");
	end = pidfd_open(*pid, 0);
	ASSERT_GE(end, 0);
	do {
		struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = end, .events = POLLIN}};

		/* A program that ends instead sends nothing; its log says why. */
		ASSERT_GT(poll(p, 2, -1), 0);
		if (!p[0].revents) {
			*status = process_stop(pid, 0);
			return false;
		}
		n = recv(fd, message, sizeof(message) - 1, 0);
		ASSERT_GT(n, 0);
		message[n] = '\0';
	} while (!strstr(message, "READY=1"));
	return true;
}

void process_start_notify(pid_t *pid, const char *log, const char *const *argv, const char *notify)
{
	int status = 0;

	ASSERT_TRUE(process_try_notify(pid, log, argv, notify, &status));
}

/* --- end -------------------------------------------------------------------------------------- */

int process_stop(pid_t *pid, int signo)
{
	int status = -1;

	if (*pid <= 0)
		return -1;
	if (signo)
		kill(*pid, signo);
	while (waitpid(*pid, &status, 0) < 0 && errno == EINTR)
		;
	*pid = 0;
	return status;
}

int process_run(const char *const *argv, char *text, size_t size)
{
	size_t len = 0;
	int fds[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		process_exec(argv, -1, fds[1], fds[1]);
	ASSERT_GT(pid, 0);
	close(fds[1]);
	while (read(fds[0], &byte, 1) == 1)
		if (len + 1 < size)
			text[len++] = byte;
	text[len] = '\0';
	close(fds[0]);
	status = process_stop(&pid, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* --- what they left --------------------------------------------------------------------------- */

unsigned int text_count(const char *text, const char *needle)
{
	unsigned int n = 0;

	for (const char *p = text; (p = strstr(p, needle)); p += strlen(needle))
		++n;
	return n;
}

char *text_read(const char *path)
{
	_cleanup_(fclose_ptr) FILE *file = fopen(path, "re");
	char *text = calloc(1, TEXT_MAX);

	ASSERT_TRUE(text != NULL);
	if (file)
		text[fread(text, 1, TEXT_MAX - 1, file)] = '\0';
	return text;
}

uint16_t free_port(void)
{
	_cleanup_(close_fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	ASSERT_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	return ntohs(addr.sin_port);
}
