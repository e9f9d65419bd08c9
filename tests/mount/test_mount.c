/* SPDX-License-Identifier: MIT */
/*
 * Files of a real mount, used by shells, system calls and several processes, as users do.
 */

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "fuse/abi.h"
#include "tests/mount/mounted.h"

TEST_F(mounted, echo_from_bash_and_dash)
{
	static const char *const shells[] = {"bash", "dash"};
	char text[TOY_TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
		EXPECT_EQ(run(self, shells[i], "echo hello > sink"), 0);
		EXPECT_EQ(toy_ask(&self->toy, TOY_LAST_WRITE, 0, NULL, text), 6u);
		EXPECT_STREQ(text, "hello\n");
		EXPECT_EQ(run(self, shells[i], "echo more >> sink"), 0);
		EXPECT_EQ(toy_ask(&self->toy, TOY_LAST_WRITE, 0, NULL, text), 5u);
		EXPECT_EQ(run(self, shells[i], "printf 'a\\nb\\n' > sink"), 0);
		EXPECT_EQ(run(self, shells[i], "exec 3>sink; echo x >&3; echo y >&3"), 0);
	}
	/* bash writes line by line, dash at once. */
	EXPECT_EQ(ask(self, TOY_N_WRITES, 0), 6u + 5u);
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, 8), 8u);
}

/* A shell that runs on, in the mounted directory. */
struct shell {
	FILE *in, *out;
	pid_t pid;
};

static struct shell start_shell(struct fixture_mounted *self, const char *name)
{
	struct shell shell;
	int in[2], out[2];

	ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
	shell.pid = fork();
	if (shell.pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		if (chdir(self->path) == 0)
			execlp(name, name, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	shell.in = fdopen(in[1], "w");
	shell.out = fdopen(out[0], "r");
	return shell;
}

/* Returns when @command has run. */
static void shell_run(struct shell *shell, const char *command)
{
	char line[16] = "";

	fprintf(shell->in, "%s; echo done\n", command);
	fflush(shell->in);
	ASSERT_TRUE(fgets(line, sizeof(line), shell->out) != NULL);
	ASSERT_STREQ(line, "done\n");
}

static void count_all(struct fixture_mounted *self, uint64_t n[static FUSE_LSEEK + 1])
{
	for (uint32_t op = 0; op <= FUSE_LSEEK; op++)
		n[op] = ask(self, TOY_N_REQUESTS, op);
}

/* What `echo x > sink` costs a shell that has done it before. */
static void count_echo(struct fixture_mounted *self, const char *name)
{
	uint64_t before[FUSE_LSEEK + 1], after[FUSE_LSEEK + 1], n_released = ask(self, TOY_N_RELEASED, 0);
	struct shell shell = start_shell(self, name);

	for (int attempt = 0; attempt < 10; attempt++) {
		shell_run(&shell, "echo warm > sink");
		n_released = ask(self, TOY_AWAIT_RELEASED, n_released + 1);
		count_all(self, before);
		shell_run(&shell, "echo x > sink");
		n_released = ask(self, TOY_AWAIT_RELEASED, n_released + 1);
		count_all(self, after);
		/* Names and attributes are asked for again after a second: when that fell in between, once
		 * more. */
		if (after[FUSE_LOOKUP] == before[FUSE_LOOKUP] && after[FUSE_GETATTR] == before[FUSE_GETATTR])
			break;
	}
	for (uint32_t op = 0; op <= FUSE_LSEEK; op++) {
		uint64_t want = op == FUSE_OPEN || op == FUSE_WRITE || op == FUSE_RELEASE;

		if (after[op] - before[op] != want)
			TEST_LOG("%s: opcode %u", name, op);
		EXPECT_EQ(after[op] - before[op], want);
	}
	fclose(shell.in);
	fclose(shell.out);
	waitpid(shell.pid, NULL, 0);
}

TEST_F(mounted, echo_costs_three_requests)
{
	count_echo(self, "bash");
	count_echo(self, "dash");
}

static void write_size(struct fixture_mounted *self, int fd, size_t skew, size_t size, ssize_t want)
{
	uint64_t n = ask(self, TOY_N_REQUESTS, FUSE_WRITE);
	_cleanup_(free_ptr) char *data = malloc(size + 4096);
	ssize_t got;

	ASSERT_TRUE(data != NULL);
	memset(data, 'x', size + 4096);
	got = write(fd, data + skew, size);
	EXPECT_EQ(got < 0 ? -errno : got, want);
	EXPECT_EQ(ask(self, TOY_N_REQUESTS, FUSE_WRITE), n + 1);
}

TEST_F(mounted, large_writes_arrive_whole)
{
	int fd = open_file(self, "sink", O_WRONLY);

	write_size(self, fd, 0, TOY_MAX_RECORD, TOY_MAX_RECORD);
	write_size(self, fd, 1, TOY_MAX_RECORD, TOY_MAX_RECORD);
	write_size(self, fd, 4095, TOY_MAX_RECORD, TOY_MAX_RECORD);
	write_size(self, fd, 1, TOY_MAX_RECORD + 1, -EMSGSIZE);
	write_size(self, fd, 4095, 1 << 20, -EMSGSIZE);
	EXPECT_EQ(ask(self, TOY_N_BYTES, 0), 3u * TOY_MAX_RECORD);
	close(fd);
}

TEST_F(mounted, record_files_have_no_position)
{
	int fd = open_file(self, "stream", O_RDWR);
	char c;

	EXPECT_EQ(lseek(fd, 0, SEEK_CUR), -1);
	EXPECT_EQ(errno, ESPIPE);
	EXPECT_EQ(pread(fd, &c, 1, 0), -1);
	close(fd);
}

TEST_F(mounted, nonblocking_read)
{
	int fd = open_file(self, "stream", O_RDONLY | O_NONBLOCK);
	char text[16];

	EXPECT_EQ(read(fd, text, sizeof(text)), -1);
	EXPECT_EQ(errno, EAGAIN);
	tell(self, TOY_PUSH, "abc");
	EXPECT_EQ(read(fd, text, sizeof(text)), 3);
	EXPECT_EQ(read(fd, text, sizeof(text)), -1);
	/* By fcntl(2) after the open. */
	ASSERT_EQ(fcntl(fd, F_SETFL, 0), 0);
	tell(self, TOY_PUSH, "abc");
	EXPECT_EQ(read(fd, text, sizeof(text)), 3);
	ASSERT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	EXPECT_EQ(read(fd, text, sizeof(text)), -1);
	close(fd);
}

static void on_signal(int signo)
{
	(void)signo;
}

/* A child that reads (or writes synchronously); its exit status is errno, 0 when it succeeded. */
static pid_t fork_user(struct fixture_mounted *self, const char *name, int flags)
{
	int fd = open_file(self, name, flags);
	pid_t pid = fork();

	if (pid == 0) {
		struct sigaction sa = {.sa_handler = on_signal};
		char text[16];
		ssize_t n;

		sigaction(SIGINT, &sa, NULL);
		n = (flags & O_ACCMODE) == O_RDONLY ? read(fd, text, sizeof(text)) : write(fd, "abc", 3);
		_exit(n < 0 ? errno : 0);
	}
	close(fd);
	return pid;
}

TEST_F(mounted, parked_read_gets_data)
{
	pid_t pid = fork_user(self, "stream", O_RDONLY);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	tell(self, TOY_PUSH, "abc");
	EXPECT_EQ(wait_child(pid), 0);
}

TEST_F(mounted, signal_ends_a_parked_read_with_eintr)
{
	pid_t pid = fork_user(self, "stream", O_RDONLY);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	kill(pid, SIGINT);
	EXPECT_EQ(wait_child(pid), EINTR);
	EXPECT_EQ(ask(self, TOY_N_PARKED, 0), 0u);
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, 1), 1u);
}

TEST_F(mounted, signal_ends_a_parked_write_with_eintr)
{
	pid_t pid = fork_user(self, "sink", O_WRONLY | O_SYNC);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	kill(pid, SIGINT);
	EXPECT_EQ(wait_child(pid), EINTR);
}

TEST_F(mounted, synchronous_write_returns_the_owner_s_error)
{
	pid_t pid = fork_user(self, "sink", O_WRONLY | O_SYNC);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	ask(self, TOY_ACK, EDQUOT);
	EXPECT_EQ(wait_child(pid), EDQUOT);
}

TEST_F(mounted, killed_readers_are_gone)
{
	pid_t pids[8];

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		pids[i] = fork_user(self, "stream", O_RDONLY);
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, ARRAY_SIZE(pids)), ARRAY_SIZE(pids));
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		kill(pids[i], SIGKILL);
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(wait_child(pids[i]), -SIGKILL);
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, ARRAY_SIZE(pids)), ARRAY_SIZE(pids));
	EXPECT_EQ(ask(self, TOY_N_PARKED, 0), 0u);
}

TEST_F(mounted, fsync_waits)
{
	int fd = open_file(self, "sink", O_WRONLY), status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fsync(fd) < 0 ? errno : 0);
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
	ask(self, TOY_ACK, 0);
	EXPECT_EQ(wait_child(pid), 0);
	close(fd);
}

TEST_F(mounted, poll_wakes)
{
	struct pollfd p = {.fd = open_file(self, "stream", O_RDONLY), .events = POLLIN};
	pid_t pid;

	EXPECT_EQ(poll(&p, 1, 0), 0);
	pid = fork();
	if (pid == 0)
		_exit(poll(&p, 1, -1) == 1 && p.revents == POLLIN ? 0 : 1);
	tell(self, TOY_PUSH, "abc");
	EXPECT_EQ(wait_child(pid), 0);
	EXPECT_EQ(poll(&p, 1, -1), 1);
	close(p.fd);
}

static void push_and_wait(struct fixture_mounted *self, int epfd, int fd)
{
	struct epoll_event event;
	char text[16];

	EXPECT_EQ(epoll_wait(epfd, &event, 1, 0), 0);
	tell(self, TOY_PUSH, "abc");
	EXPECT_EQ(epoll_wait(epfd, &event, 1, 10000), 1);
	EXPECT_TRUE(event.events & EPOLLIN);
	EXPECT_EQ(read(fd, text, sizeof(text)), 3);
}

TEST_F(mounted, epoll_wakes_again_and_again)
{
	static const uint32_t modes[] = {0, EPOLLET};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		int fd = open_file(self, "stream", O_RDONLY | O_NONBLOCK),
		    epfd = epoll_create1(EPOLL_CLOEXEC);
		struct epoll_event event = {.events = EPOLLIN | modes[i]};

		ASSERT_EQ(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event), 0);
		for (int round = 0; round < 5; round++)
			push_and_wait(self, epfd, fd);
		close(epfd);
		close(fd);
	}
}

TEST_F(mounted, changed_document)
{
	struct pollfd p = {.fd = open_file(self, "doc", O_RDONLY), .events = POLLPRI};
	char text[64] = "";
	struct stat before, after;

	ASSERT_EQ(fstat(p.fd, &before), 0);
	EXPECT_EQ(before.st_size, 9);
	EXPECT_EQ(poll(&p, 1, 0), 0);
	tell(self, TOY_SET_DOC, "a longer text\n");
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT_TRUE(p.revents & POLLPRI);
	ASSERT_EQ(fstat(p.fd, &after), 0);
	EXPECT_EQ(after.st_size, 14);
	EXPECT_TRUE(after.st_mtim.tv_sec > before.st_mtim.tv_sec ||
		    after.st_mtim.tv_nsec >= before.st_mtim.tv_nsec);
	EXPECT_EQ(pread(p.fd, text, sizeof(text), 0), 14);
	EXPECT_STREQ(text, "a longer text\n");
	EXPECT_EQ(poll(&p, 1, 0), 0);
	EXPECT_EQ(pread(p.fd, text, 4, 2), 4);
	EXPECT_MEMEQ(text, "long", 4);
	close(p.fd);
	EXPECT_EQ(run(self, "bash", "test \"$(cat doc)\" = 'a longer text'"), 0);
}

TEST_F(mounted, attributes_and_listing)
{
	struct stat st;
	struct statfs fs;

	ASSERT_EQ(stat(file_path(self, "sink"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFREG | 0666));
	EXPECT_EQ(st.st_size, 0);
	ASSERT_EQ(stat(file_path(self, "sub/leaf"), &st), 0);
	EXPECT_EQ(st.st_size, 5);
	EXPECT_EQ(stat(file_path(self, "none"), &st), -1);
	EXPECT_EQ(errno, ENOENT);
	ASSERT_EQ(stat(self->path, &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFDIR | 0755));
	EXPECT_EQ(st.st_nlink, 5u);
	ASSERT_EQ(statfs(self->path, &fs), 0);
	EXPECT_EQ(fs.f_type, 0x65735546);
	EXPECT_EQ(fs.f_namelen, 255);
	EXPECT_EQ(run(self, "bash",
		      "test \"$(ls)\" = $'box\\ncall\\ndoc\\nlive\\npaper\\nprivate\\nsink\\nstream\\nsub'"),
		  0);
	EXPECT_EQ(run(self, "bash", "ls -lR > /dev/null && df . > /dev/null && find . > /dev/null"), 0);
	EXPECT_EQ(ask(self, TOY_ADD_FILES, 2000), 2000u);
	EXPECT_EQ(run(self, "bash", "test \"$(ls -l sub | wc -l)\" = 2002"), 0);
}

TEST_F(mounted, refusals)
{
	EXPECT_EQ(mkdir(file_path(self, "new"), 0755), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(open(file_path(self, "new"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(unlink(file_path(self, "sink")), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(truncate(file_path(self, "sink"), 5), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(truncate(file_path(self, "sink"), 0), 0);
	EXPECT_EQ(run(self, "bash", "touch sink doc && chmod 0600 doc && test \"$(stat -c %a doc)\" = 600"),
		  0);
}

/* Exit status of @script as user @uid. */
static int run_as(struct fixture_mounted *self, uid_t uid, const char *script)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(uid) == 0 && setuid(uid) == 0)
			_exit(WEXITSTATUS(run(self, "bash", script)));
		_exit(126);
	}
	return wait_child(pid);
}

TEST_F(mounted, permissions_are_by_mode)
{
	SKIP_IF(geteuid() != 0, "becoming other users needs root");
	EXPECT_EQ(run_as(self, 65534, "echo x > sink"), 0);
	EXPECT_EQ(run_as(self, 65534, "cat doc > /dev/null"), 0);
	EXPECT_EQ(run_as(self, 65534, "echo x 2>/dev/null > private"), 1);
	EXPECT_EQ(run_as(self, 65534, "echo x 2>/dev/null > doc"), 1);
	EXPECT_EQ(run_as(self, 65534, "chmod 777 private 2>/dev/null"), 1);
	EXPECT_EQ(run(self, "bash", "echo x > private"), 0);
	ASSERT_EQ(chown(file_path(self, "private"), 65534, 65534), 0);
	EXPECT_EQ(run_as(self, 65534, "echo x > private"), 0);
}

TEST_F(mounted, many_open_files)
{
	int fds[500];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = open_file(self, "sink", O_WRONLY);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		ASSERT_EQ(write(fds[i], "x", 1), 1);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	EXPECT_EQ(ask(self, TOY_N_BYTES, 0), ARRAY_SIZE(fds));
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, ARRAY_SIZE(fds)), ARRAY_SIZE(fds));
}

TEST_F(mounted, duplicates_share_one_open_file)
{
	int fd = open_file(self, "sink", O_WRONLY), copy = dup(fd);

	EXPECT_EQ(write(fd, "a", 1), 1);
	close(fd);
	EXPECT_EQ(write(copy, "b", 1), 1);
	EXPECT_EQ(ask(self, TOY_N_RELEASED, 0), 0u);
	close(copy);
	EXPECT_EQ(ask(self, TOY_AWAIT_RELEASED, 1), 1u);
}

/* More requests at once than one turn of the loop serves. */
TEST_F(mounted, many_writers)
{
	/* Composed here: the fixture lies in memory that the children share. */
	const char *path = file_path(self, "sink");
	pid_t pids[4];

	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			int fd = open(path, O_WRONLY | O_CLOEXEC);

			for (int n = 0; n < 2500; n++) {
				if (write(fd, "0123456789", 10) != 10)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(wait_child(pids[i]), 0);
	EXPECT_EQ(ask(self, TOY_N_WRITES, 0), 10000u);
	EXPECT_EQ(ask(self, TOY_N_BYTES, 0), 100000u);
}

/* --- files beside a WRITE or FSYNC that waits and holds the kernel's lock of its inode */

#define SOON_MS 10000

/* As wait_child(); a child that does not end soon fails the test, and hangs until the server is gone. */
static int wait_child_soon(pid_t pid)
{
	struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int n;

	ASSERT_GE(p.fd, 0);
	n = poll(&p, 1, SOON_MS);
	close(p.fd);
	ASSERT_EQ(n, 1);
	return wait_child(pid);
}

static pid_t start_script(struct fixture_mounted *self, const char *shell, const char *script)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(WEXITSTATUS(run(self, shell, script)));
	return pid;
}

/* Two that wait until TOY_ACK: a synchronous write, and an fsync of a file opened beside it. */
struct stall {
	pid_t writer, syncer;
};

static struct stall start_stall(struct fixture_mounted *self)
{
	static const char dd[] = "echo wait | dd oflag=sync of=sink status=none";
	struct stall stall = {.writer = start_script(self, "bash", dd)};
	int fd;

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	fd = open_file(self, "sink", O_WRONLY);
	stall.syncer = fork();
	if (stall.syncer == 0)
		_exit(fsync(fd) < 0 ? errno : 0);
	close(fd);
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 2), 2u);
	return stall;
}

static void end_stall(struct fixture_mounted *self, const struct stall *stall)
{
	EXPECT_EQ(ask(self, TOY_N_PARKED, 0), 2u);
	ask(self, TOY_ACK, 0);
	EXPECT_EQ(wait_child_soon(stall->writer), 0);
	EXPECT_EQ(wait_child_soon(stall->syncer), 0);
}

TEST_F(mounted, shells_go_on_beside_waiting_writers)
{
	static const char *const scripts[] = {
		"echo x > sink",
		"echo x >> sink",
		"exec 3> sink; echo x >&3; echo x > /dev/fd/3; echo x >&3",
		"for i in 1 2 3 4 5 6 7 8 9; do echo x > sink & done; wait",
		"echo x | dd of=sink status=none && echo x | tee sink | cat > sink",
		"stat sink && ls -l . && test -w sink && cat sink && cp sink /dev/null",
		"chmod 0622 sink && chmod 0666 sink && touch sink && truncate -s 0 sink",
	};
	static const char *const shells[] = {"bash", "dash"};
	struct stall stall = start_stall(self);

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(scripts); k++) {
			char script[256];

			snprintf(script, sizeof(script), "exec > /dev/null; %s", scripts[k]);
			EXPECT_EQ(wait_child_soon(start_script(self, shells[i], script)), 0);
		}
	}
	end_stall(self, &stall);
}

/* What one process does with the file while others wait; 0 when all of it succeeded. */
static int use_file(const char *path, int flags)
{
	struct pollfd p = {.fd = open(path, flags | O_CLOEXEC, 0666), .events = POLLOUT};
	struct stat st;

	if (p.fd < 0)
		return errno;
	if (write(p.fd, "x", 1) != 1 || poll(&p, 1, 0) != 1 || fstat(p.fd, &st) < 0 || ftruncate(p.fd, 0) < 0)
		return errno;
	return close(p.fd) < 0 ? errno : 0;
}

TEST_F(mounted, programs_go_on_beside_waiting_writers)
{
	static const int flags[] = {O_WRONLY, O_WRONLY | O_APPEND, O_RDWR | O_TRUNC,
				    O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK};
	struct stall stall;
	struct stat before, after;
	pid_t pids[16];
	int fd;

	ASSERT_EQ(stat(file_path(self, "sink"), &before), 0);
	stall = start_stall(self);
	file_path(self, "sink");
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(use_file(self->name, flags[i % ARRAY_SIZE(flags)]));
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(wait_child_soon(pids[i]), 0);
	EXPECT_EQ(ask(self, TOY_N_BYTES, 0), 5 + ARRAY_SIZE(pids));

	fd = open_file(self, "sink", O_PATH);
	ASSERT_EQ(fstat(fd, &after), 0);
	close(fd);
	EXPECT_EQ(after.st_ino, before.st_ino);
	EXPECT_EQ(after.st_nlink, 1u);
	end_stall(self, &stall);
}

/* All that wait do so at the same time, not one behind the other's lock; each ends alone. */
static void many_wait(struct fixture_mounted *self, int flags)
{
	pid_t pids[50];

	file_path(self, "sink");
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct sigaction sa = {.sa_handler = on_signal};
			int fd = open(self->name, flags | O_CLOEXEC, 0666);

			sigaction(SIGINT, &sa, NULL);
			_exit(fd < 0 || write(fd, "abc", 3) < 0 ? errno : 0);
		}
	}
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, ARRAY_SIZE(pids)), ARRAY_SIZE(pids));
	for (size_t i = 0; i < ARRAY_SIZE(pids); i += 2) {
		kill(pids[i], SIGINT);
		EXPECT_EQ(wait_child_soon(pids[i]), EINTR);
		kill(pids[i + 1], SIGKILL);
		EXPECT_EQ(wait_child_soon(pids[i + 1]), -SIGKILL);
	}
	EXPECT_EQ(ask(self, TOY_N_PARKED, 0), 0u);
}

TEST_F(mounted, fifty_synchronous_writers_wait_side_by_side)
{
	many_wait(self, O_WRONLY | O_SYNC);
	many_wait(self, O_WRONLY | O_DSYNC | O_APPEND | O_SYNC);
	many_wait(self, O_WRONLY | O_CREAT | O_TRUNC | O_SYNC);
}

/* Opens sink until the kernel was sent to another inode than that of the files that stay open. */
static void await_second_inode(struct fixture_mounted *self)
{
	uint64_t n;

	do {
		n = ask(self, TOY_N_REQUESTS, FUSE_OPEN);
		close(open_file(self, "sink", O_WRONLY));
	} while (ask(self, TOY_N_REQUESTS, FUSE_OPEN) == n + 1);
}

TEST_F(mounted, a_file_that_stays_open_is_not_held_up_by_a_later_one)
{
	int logger = open_file(self, "sink", O_WRONLY | O_TRUNC), other;
	pid_t syncer, writer;

	await_second_inode(self);
	other = open_file(self, "sink", O_WRONLY);
	syncer = fork();
	if (syncer == 0)
		_exit(fsync(other) < 0 ? errno : 0);
	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	writer = fork();
	if (writer == 0)
		_exit(write(logger, "x", 1) == 1 ? 0 : errno);
	EXPECT_EQ(wait_child_soon(writer), 0);
	ask(self, TOY_ACK, 0);
	EXPECT_EQ(wait_child_soon(syncer), 0);
	close(logger);
	close(other);
}

TEST_F(mounted, echo_costs_three_requests_beside_open_files)
{
	int logger = open_file(self, "sink", O_WRONLY), synchronous;

	await_second_inode(self);
	count_echo(self, "bash");
	synchronous = open_file(self, "sink", O_WRONLY | O_SYNC);
	count_echo(self, "bash");
	count_echo(self, "dash");
	close(logger);
	close(synchronous);
}

/* Opens and closes in any order, some through a descriptor instead of the name. */
static int open_at_random(const char *path, uint64_t seed)
{
	static const int flags[] = {O_WRONLY, O_WRONLY | O_SYNC, O_WRONLY | O_CREAT | O_TRUNC, O_RDONLY};
	char by_fd[64];

	for (int n = 0; n < 300; n++) {
		int fd, again = -1;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		fd = open(path, flags[seed >> 62] | O_CLOEXEC, 0666);
		if (fd < 0)
			return errno;
		snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
		if ((seed >> 59 & 7) == 0) {
			again = open(by_fd, O_WRONLY | O_TRUNC | O_CLOEXEC);
			if (again < 0)
				return errno;
			close(again);
		}
		close(fd);
	}
	return 0;
}

/* The kernel is asked to try again, the user never. */
TEST_F(mounted, nobody_sees_that_a_file_has_several_inodes)
{
	pid_t pids[8];

	file_path(self, "sink");
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++) {
		uint64_t seed = test_random();

		pids[i] = fork();
		if (pids[i] == 0)
			_exit(open_at_random(self->name, seed));
	}
	for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
		EXPECT_EQ(wait_child(pids[i]), 0);
}

/* The server ends while somebody waits: an error, no hanging. */
TEST_F(mounted, end_of_the_server_frees_who_waits)
{
	pid_t reader = fork_user(self, "stream", O_RDONLY),
	      writer = fork_user(self, "sink", O_WRONLY | O_SYNC);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 2), 2u);
	EXPECT_EQ(toy_stop(&self->toy), 0);
	EXPECT_EQ(wait_child(reader), ECONNABORTED);
	EXPECT_EQ(wait_child(writer), ECONNABORTED);
}

TEST_F(mounted, death_of_the_server_frees_who_waits)
{
	pid_t reader = fork_user(self, "stream", O_RDONLY);

	EXPECT_EQ(ask(self, TOY_AWAIT_PARKED, 1), 1u);
	toy_kill(&self->toy);
	EXPECT_NE(wait_child(reader), 0);
}

/* umount -l by the administrator while a file is open, then its last close: the server is told. */
TEST_F(mounted, unmount_from_outside)
{
	int fd = open_file(self, "sink", O_WRONLY);

	SKIP_IF(geteuid() != 0, "umount(2) needs root");
	ASSERT_EQ(umount2(self->path, MNT_DETACH), 0);
	EXPECT_EQ(write(fd, "x", 1), 1);
	EXPECT_EQ(ask(self, TOY_GONE, 0), 0u);
	close(fd);
	EXPECT_EQ(ask(self, TOY_AWAIT_GONE, 1), 1u);
	EXPECT_EQ(toy_stop(&self->toy), 0);
}

TEST_HARNESS_MAIN
