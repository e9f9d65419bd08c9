/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets: accepting, running out of descriptors, addresses that cannot be listened on.
 */

#include <fcntl.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "net/addrs.h"
#include "net/listener.h"
#include "tests/harness.h"

#define N_FDS_MAX 64u

FIXTURE(listener)
{
	struct log log;
	int log_pipe[2];
	struct loop *loop;
	struct listener *listener;
	unsigned int n_accepted;
	int fds[N_FDS_MAX];
	bool free_on_accept;
};

static void on_accepted(void *userdata, int fd_take)
{
	struct fixture_listener *self = userdata;

	ASSERT_LT(self->n_accepted, N_FDS_MAX);
	self->fds[self->n_accepted++] = fd_take;
	if (self->free_on_accept)
		listener_free(TAKE_PTR(self->listener));
}

FIXTURE_SETUP(listener)
{
	ASSERT_EQ(pipe2(self->log_pipe, O_CLOEXEC | O_NONBLOCK), 0);
	self->log = (struct log){.fd = self->log_pipe[1], .level = LOG_LEVEL_DEBUG};
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = &self->log}), 0);
	ASSERT_EQ(listener_new(&self->listener, self->loop, "localhost", 0, on_accepted, self, &self->log),
		  0);
}

FIXTURE_TEARDOWN(listener)
{
	if (test_is_orphan())
		return;
	listener_free(self->listener);
	while (loop_n_in_flight(self->loop))
		loop_turn(self->loop, TIME_NEVER);
	loop_free(self->loop);
	for (unsigned int i = 0; i < self->n_accepted; ++i)
		close(self->fds[i]);
	close(self->log_pipe[0]);
	close(self->log_pipe[1]);
}

/* A connection to the listener; the kernel completes it without the loop. */
static int dial(uint16_t port)
{
	union addr addr;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(addr_parse("127.0.0.1", port, &addr), 0);
	ASSERT_EQ(connect(fd, &addr.sa, addr_len(&addr)), 0);
	return fd;
}

static const char *logged(struct fixture_listener *self, char out[static 1100])
{
	ssize_t n = read(self->log_pipe[0], out, 1099);

	out[n > 0 ? n : 0] = '\0';
	return out;
}

TEST_F(listener, accepts_many)
{
	int fds[20];

	for (size_t i = 0; i < ARRAY_SIZE(fds); ++i)
		fds[i] = dial(listener_port(self->listener));
	while (self->n_accepted < ARRAY_SIZE(fds))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	for (size_t i = 0; i < ARRAY_SIZE(fds); ++i)
		close(fds[i]);
}

TEST_F(listener, may_be_freed_from_its_callback)
{
	int a = dial(listener_port(self->listener)), b = dial(listener_port(self->listener));

	self->free_on_accept = true;
	while (loop_n_in_flight(self->loop))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_EQ(self->n_accepted, 1u);
	close(a);
	close(b);
}

TEST_F(listener, hears_again_after_running_out_of_descriptors)
{
	int fds[3], spare, next;
	struct rlimit limit, tight;
	char text[1100];

	for (size_t i = 0; i < ARRAY_SIZE(fds); ++i)
		fds[i] = dial(listener_port(self->listener));
	spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(spare);
	ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	tight = limit;
	tight.rlim_cur = (rlim_t)spare + 1;
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &tight), 0);
	while (!self->n_accepted || loop_n_in_flight(self->loop))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_LT(self->n_accepted, 3u);
	EXPECT_CONTAINS(logged(self, text), "cannot accept connections on port");
	EXPECT_CONTAINS(text, "Too many open files");
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (self->n_accepted < 3)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	next = dial(listener_port(self->listener));
	while (self->n_accepted < 4)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	close(next);
	for (size_t i = 0; i < ARRAY_SIZE(fds); ++i)
		close(fds[i]);
}

TEST_F(listener, addresses_that_cannot_be_used_are_named)
{
	struct listener *l = NULL;
	char text[1100];
	uint16_t port = listener_port(self->listener);

	EXPECT_EQ(listener_new(&l, self->loop, "hub.test", 0, on_accepted, self, &self->log), -EINVAL);
	EXPECT_CONTAINS(logged(self, text), "cannot listen on \"hub.test\": it is not an IP address");
	EXPECT_EQ(listener_new(&l, self->loop, "127.0.0.1", port, on_accepted, self, &self->log),
		  -EADDRINUSE);
	EXPECT_CONTAINS(logged(self, text), "Address already in use");
	EXPECT_EQ(listener_new(&l, self->loop, "192.0.2.77", 0, on_accepted, self, &self->log),
		  -EADDRNOTAVAIL);
	EXPECT_TRUE(l == NULL);
}

TEST_HARNESS_MAIN
