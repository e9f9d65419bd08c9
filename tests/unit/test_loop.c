/* SPDX-License-Identifier: MIT */
/*
 * The event loop: operations, cancellation, timers, deferred functions, signals, and what older kernels lack.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "loop/loop.h"
#include "tests/harness.h"

struct probe {
	struct loop_op op;
	int n_calls;
	int last_res;
	uint64_t n_bytes;
	uint64_t sum;
	bool cancel_on_call;
};

FIXTURE(loop)
{
	struct loop *loop;
	struct log log;
	int pair[2];
	struct probe p;
};

FIXTURE_SETUP(loop)
{
	struct loop_options options = {.log = &self->log};

	log_init(&self->log, "test", LOG_LEVEL_DEBUG);
	ASSERT_EQ(loop_new(&self->loop, &options), 0);
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, self->pair), 0);
}

FIXTURE_TEARDOWN(loop)
{
	if (test_is_orphan())
		return;
	loop_free(self->loop);
	close(self->pair[0]);
	close(self->pair[1]);
}

static void probe_on_op(struct loop_op *op, int res)
{
	struct probe *p = container_of(op, struct probe, op);

	++p->n_calls;
	p->last_res = res;
	if (p->cancel_on_call)
		loop_op_cancel(op->loop, op);
}

static void probe_on_recv(struct loop_op *op, int res, struct bytes data)
{
	struct probe *p = container_of(op, struct probe, op);

	++p->n_calls;
	p->last_res = res;
	p->n_bytes += data.len;
	for (size_t i = 0; i < data.len; ++i)
		p->sum = p->sum * 31 + data.data[i];
	if (p->cancel_on_call)
		loop_op_cancel(op->loop, op);
}

static void turn_until_idle(struct loop *loop, struct loop_op *op)
{
	while (!loop_op_is_idle(op))
		ASSERT_EQ(loop_turn(loop, TIME_NEVER), 0);
}

TEST_F(loop, recv_gets_bytes_and_end_of_stream)
{
	loop_op_init_recv(&self->p.op, probe_on_recv);
	loop_op_recv(self->loop, &self->p.op, self->pair[0]);
	ASSERT_EQ(write(self->pair[1], "hello", 5), 5);
	while (self->p.n_bytes < 5)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_FALSE(loop_op_is_idle(&self->p.op));
	shutdown(self->pair[1], SHUT_WR);
	turn_until_idle(self->loop, &self->p.op);
	EXPECT_EQ(self->p.last_res, 0);
	EXPECT_EQ(loop_n_in_flight(self->loop), 0u);
}

static void check_recv_bulk(struct loop *loop, int *pair)
{
	const size_t total = 8 * LOOP_RECV_SIZE * LOOP_N_RECV_BUFFERS;
	struct probe p = {0};
	int writer = pair[1]; /* the fixture is shared with the child */
	uint64_t sum = 0;
	pid_t pid;

	for (size_t i = 0; i < total; ++i)
		sum = sum * 31 + (uint8_t)(i * 7 + i / 256);
	pid = fork();
	if (pid == 0) {
		uint8_t chunk[4096];

		for (size_t i = 0; i < total; i += sizeof(chunk)) {
			for (size_t k = 0; k < sizeof(chunk); ++k)
				chunk[k] = (uint8_t)((i + k) * 7 + (i + k) / 256);
			if (write(writer, chunk, sizeof(chunk)) != (ssize_t)sizeof(chunk))
				_exit(1);
		}
		_exit(0);
	}
	close(pair[1]);
	pair[1] = -1;
	loop_op_init_recv(&p.op, probe_on_recv);
	loop_op_recv(loop, &p.op, pair[0]);
	turn_until_idle(loop, &p.op);
	EXPECT_EQ(p.last_res, 0);
	EXPECT_EQ(p.n_bytes, total);
	EXPECT_EQ(p.sum, sum);
	waitpid(pid, NULL, 0);
}

TEST_F(loop, recv_bulk_runs_out_of_buffers_and_goes_on)
{
	check_recv_bulk(self->loop, self->pair);
}

TEST_F(loop, recv_without_multishot)
{
	struct loop_options options = {
		.log = &self->log, .no_multishot_recv = true, .no_defer_taskrun = true};
	struct loop *loop;

	ASSERT_EQ(loop_new(&loop, &options), 0);
	check_recv_bulk(loop, self->pair);
	loop_free(loop);
}

TEST_F(loop, recv_cancel_from_callback_ends_it)
{
	self->p.cancel_on_call = true;
	loop_op_init_recv(&self->p.op, probe_on_recv);
	loop_op_recv(self->loop, &self->p.op, self->pair[0]);
	ASSERT_EQ(write(self->pair[1], "x", 1), 1);
	turn_until_idle(self->loop, &self->p.op);
	EXPECT_EQ(self->p.n_bytes, 1u);
	EXPECT_EQ(self->p.last_res, -ECANCELED);
}

TEST_F(loop, cancel_before_submission)
{
	loop_op_init_recv(&self->p.op, probe_on_recv);
	loop_op_recv(self->loop, &self->p.op, self->pair[0]);
	loop_op_cancel(self->loop, &self->p.op);
	turn_until_idle(self->loop, &self->p.op);
	EXPECT_EQ(self->p.last_res, -ECANCELED);
	EXPECT_EQ(self->p.n_calls, 1);
}

TEST_F(loop, cancel_of_idle_is_nothing)
{
	loop_op_init(&self->p.op, probe_on_op);
	loop_op_cancel(self->loop, &self->p.op);
	EXPECT_EQ(loop_n_in_flight(self->loop), 0u);
}

TEST_F(loop, error_comes_as_result)
{
	loop_op_init_recv(&self->p.op, probe_on_recv);
	loop_op_recv(self->loop, &self->p.op, -1);
	turn_until_idle(self->loop, &self->p.op);
	EXPECT_EQ(self->p.last_res, -EBADF);
}

TEST_F(loop, send_and_one_enter_per_turn)
{
	struct probe send[8] = {0};
	uint64_t n = loop_n_turns(self->loop);
	char buf[64];

	for (size_t i = 0; i < ARRAY_SIZE(send); ++i) {
		loop_op_init(&send[i].op, probe_on_op);
		loop_op_send(self->loop, &send[i].op, self->pair[0], BYTES_LIT("abc"));
	}
	ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_EQ(loop_n_turns(self->loop) - n, 1u);
	for (size_t i = 0; i < ARRAY_SIZE(send); ++i)
		EXPECT_EQ(send[i].last_res, 3);
	EXPECT_EQ(read(self->pair[1], buf, sizeof(buf)), 24);
}

TEST_F(loop, more_operations_than_queue_entries)
{
	static struct probe many[1000];

	for (size_t i = 0; i < ARRAY_SIZE(many); ++i) {
		loop_op_init(&many[i].op, probe_on_op);
		loop_op_poll_once(self->loop, &many[i].op, self->pair[0], POLLIN);
	}
	ASSERT_EQ(write(self->pair[1], "x", 1), 1);
	while (loop_n_in_flight(self->loop))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	for (size_t i = 0; i < ARRAY_SIZE(many); ++i)
		ASSERT_EQ(many[i].last_res & POLLIN, POLLIN);
}

TEST_F(loop, poll_is_multishot)
{
	char c;

	loop_op_init(&self->p.op, probe_on_op);
	loop_op_poll(self->loop, &self->p.op, self->pair[0], POLLIN);
	for (int i = 1; i <= 3; ++i) {
		ASSERT_EQ(write(self->pair[1], "x", 1), 1);
		while (self->p.n_calls < i)
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		ASSERT_EQ(read(self->pair[0], &c, 1), 1);
	}
	loop_op_cancel(self->loop, &self->p.op);
	turn_until_idle(self->loop, &self->p.op);
}

struct acceptor {
	struct loop_op op;
	int fds[4];
	int n;
};

static void acceptor_on_accept(struct loop_op *op, int res)
{
	struct acceptor *a = container_of(op, struct acceptor, op);

	if (res >= 0)
		a->fds[a->n++] = res;
}

TEST_F(loop, accept_and_connect)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct acceptor acceptor = {0};
	struct probe connect[4] = {0};
	socklen_t len = sizeof(addr);
	int fd, client[4];

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(bind(fd, (struct sockaddr *)&addr, len), 0);
	ASSERT_EQ(listen(fd, 8), 0);
	ASSERT_EQ(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	loop_op_init(&acceptor.op, acceptor_on_accept);
	loop_op_accept(self->loop, &acceptor.op, fd);
	for (int i = 0; i < 4; ++i) {
		client[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		loop_op_init(&connect[i].op, probe_on_op);
		loop_op_connect(self->loop, &connect[i].op, client[i], (struct sockaddr *)&addr, len);
	}
	while (acceptor.n < 4 || loop_n_in_flight(self->loop) > 1)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	for (int i = 0; i < 4; ++i) {
		EXPECT_EQ(connect[i].last_res, 0);
		close(client[i]);
		close(acceptor.fds[i]);
	}
	loop_op_cancel(self->loop, &acceptor.op);
	turn_until_idle(self->loop, &acceptor.op);
	close(fd);
}

struct firing {
	struct loop_timer timer;
	uint64_t at_ns;
	bool armed;
	uint64_t *last_ns; /* time of the timer that fired before */
	int *n_fired;
};

static void firing_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct firing *f = container_of(timer, struct firing, timer);

	EXPECT_TRUE(f->armed);
	EXPECT_GE(f->at_ns, *f->last_ns);
	EXPECT_GE(now_ns, f->at_ns);
	*f->last_ns = f->at_ns;
	f->armed = false;
	++*f->n_fired;
}

TEST_F(loop, timers_fire_in_order_and_not_when_disarmed)
{
	static struct firing many[2000];
	uint64_t now = loop_now_ns(self->loop), last = 0;
	int n_fired = 0, n_armed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(many); ++i) {
		loop_timer_init(&many[i].timer, firing_on_timer);
		many[i].last_ns = &last;
		many[i].n_fired = &n_fired;
	}
	for (int step = 0; step < 10000; ++step) {
		struct firing *f = &many[test_random() % ARRAY_SIZE(many)];

		if (test_random() % 3 == 0) {
			loop_timer_disarm(&f->timer);
			n_armed -= f->armed;
			f->armed = false;
			continue;
		}
		f->at_ns = now + test_random() % (20 * NSEC_PER_MSEC);
		loop_timer_arm(self->loop, &f->timer, f->at_ns);
		n_armed += !f->armed;
		f->armed = true;
	}
	while (n_fired < n_armed)
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_EQ(n_fired, n_armed);
	for (size_t i = 0; i < ARRAY_SIZE(many); ++i)
		EXPECT_FALSE(loop_timer_is_armed(&many[i].timer));
}

struct chain {
	struct loop_deferred deferred;
	struct loop *loop;
	int n_calls;
};

static void chain_on_deferred(struct loop_deferred *d)
{
	struct chain *c = container_of(d, struct chain, deferred);

	if (++c->n_calls < 3)
		loop_defer(c->loop, d);
}

TEST_F(loop, deferred_runs_once_and_may_defer_again)
{
	struct chain c = {.loop = self->loop};

	loop_deferred_init(&c.deferred, chain_on_deferred);
	loop_defer(self->loop, &c.deferred);
	loop_defer(self->loop, &c.deferred);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(c.n_calls, 3);
	loop_defer(self->loop, &c.deferred);
	loop_undefer(&c.deferred);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	EXPECT_EQ(c.n_calls, 3);
}

static void endless_on_deferred(struct loop_deferred *d)
{
	struct chain *c = container_of(d, struct chain, deferred);

	++c->n_calls;
	loop_defer(c->loop, d);
}

struct stopping {
	struct loop_timer timer;
	struct loop *loop;
};

static void stop_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	loop_stop(container_of(timer, struct stopping, timer)->loop);
}

TEST_F(loop, deferred_for_ever_stops_nobody)
{
	struct chain c = {.loop = self->loop};
	struct stopping stopping = {.loop = self->loop};

	loop_deferred_init(&c.deferred, endless_on_deferred);
	loop_defer(self->loop, &c.deferred);
	ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
	EXPECT_GE(c.n_calls, LOOP_DEFERRED_ROUNDS);
	EXPECT_LE(c.n_calls, 2 * LOOP_DEFERRED_ROUNDS);
	loop_timer_init(&stopping.timer, stop_on_timer);
	loop_timer_arm(self->loop, &stopping.timer, loop_now_ns(self->loop));
	EXPECT_EQ(loop_run(self->loop), 0);
	loop_undefer(&c.deferred);
}

static void stop_on_signal(void *userdata, int signo)
{
	struct fixture_loop *self = userdata;

	self->p.last_res = signo;
	loop_stop(self->loop);
}

TEST_F(loop, signals_stop_the_loop)
{
	static const int signals[] = {SIGTERM, SIGUSR1};
	struct loop_signals *s;

	ASSERT_EQ(loop_signals_new(&s, self->loop, signals, 2, stop_on_signal, self), 0);
	kill(getpid(), SIGUSR1);
	ASSERT_EQ(loop_run(self->loop), 0);
	EXPECT_EQ(self->p.last_res, SIGUSR1);
	kill(getpid(), SIGTERM);
	ASSERT_EQ(loop_run(self->loop), 0);
	EXPECT_EQ(self->p.last_res, SIGTERM);
	loop_signals_free(s);
	while (loop_n_in_flight(self->loop))
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
}

struct again {
	struct loop_timer timer;
	struct loop *loop;
	int n_calls;
};

static void again_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct again *a = container_of(timer, struct again, timer);

	if (++a->n_calls < 3)
		loop_timer_arm(a->loop, timer, now_ns);
}

TEST_F(loop, a_timer_armed_for_now_does_not_keep_the_turn_from_ending)
{
	struct again a = {.loop = self->loop};

	loop_timer_init(&a.timer, again_on_timer);
	loop_timer_arm(self->loop, &a.timer, 1);
	for (int i = 1; i <= 3; ++i) {
		ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		EXPECT_EQ(a.n_calls, i);
	}
}

static void stop_on_recv(struct loop_op *op, int res, struct bytes data)
{
	struct probe *p = container_of(op, struct probe, op);

	(void)data;
	p->last_res = res;
	loop_stop(op->loop);
}

TEST_F(loop, turns_after_a_stop_wait_for_something)
{
	uint64_t start_ns;

	loop_op_init_recv(&self->p.op, stop_on_recv);
	loop_op_recv(self->loop, &self->p.op, self->pair[0]);
	ASSERT_EQ(write(self->pair[1], "x", 1), 1);
	ASSERT_EQ(loop_run(self->loop), 0);
	start_ns = loop_now_ns(self->loop);
	ASSERT_EQ(loop_turn(self->loop, 20 * NSEC_PER_MSEC), 0);
	EXPECT_GE(loop_now_ns(self->loop) - start_ns, 20 * NSEC_PER_MSEC);
	loop_op_cancel(self->loop, &self->p.op);
	turn_until_idle(self->loop, &self->p.op);
}

/* The result of the operation under way. */
static int probe_wait(struct fixture_loop *self)
{
	turn_until_idle(self->loop, &self->p.op);
	return self->p.last_res;
}

TEST_F(loop, files_are_made_written_and_renamed)
{
	char dir[] = "/tmp/test-loop.XXXXXX", text[16] = "";
	int dir_fd, fd;

	ASSERT_TRUE(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_GE(dir_fd, 0);
	loop_op_init(&self->p.op, probe_on_op);
	loop_op_openat(self->loop, &self->p.op, dir_fd, "a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	fd = probe_wait(self);
	ASSERT_GE(fd, 0);
	loop_op_pwrite(self->loop, &self->p.op, fd, BYTES_LIT("def"), 3);
	EXPECT_EQ(probe_wait(self), 3);
	loop_op_pwrite(self->loop, &self->p.op, fd, BYTES_LIT("abc"), 0);
	EXPECT_EQ(probe_wait(self), 3);
	loop_op_fsync(self->loop, &self->p.op, fd);
	EXPECT_EQ(probe_wait(self), 0);
	EXPECT_EQ(pread(fd, text, sizeof(text) - 1, 0), 6);
	EXPECT_STREQ(text, "abcdef");
	loop_op_close(self->loop, &self->p.op, fd);
	EXPECT_EQ(probe_wait(self), 0);
	EXPECT_EQ(fcntl(fd, F_GETFD), -1);
	loop_op_renameat(self->loop, &self->p.op, dir_fd, "a", dir_fd, "b");
	EXPECT_EQ(probe_wait(self), 0);
	loop_op_fsync(self->loop, &self->p.op, dir_fd);
	EXPECT_EQ(probe_wait(self), 0);
	loop_op_openat(self->loop, &self->p.op, dir_fd, "a", O_RDONLY | O_CLOEXEC, 0);
	EXPECT_EQ(probe_wait(self), -ENOENT);
	EXPECT_EQ(unlinkat(dir_fd, "b", 0), 0);
	close(dir_fd);
	EXPECT_EQ(rmdir(dir), 0);
}

TEST_F(loop, files_are_allocated_synced_and_deleted)
{
	char dir[] = "/tmp/test-loop.XXXXXX";
	struct stat st;
	int dir_fd, fd;

	ASSERT_TRUE(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_GE(dir_fd, 0);
	fd = openat(dir_fd, "a", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	loop_op_init(&self->p.op, probe_on_op);
	loop_op_fallocate(self->loop, &self->p.op, fd, 0, 0, 40000);
	if (probe_wait(self) != -EOPNOTSUPP) {
		EXPECT_EQ(self->p.last_res, 0);
		EXPECT_EQ(fstat(fd, &st), 0);
		EXPECT_EQ(st.st_size, 40000);
		EXPECT_GE(st.st_blocks * 512, 40000);
		loop_op_fallocate(self->loop, &self->p.op, fd, FALLOC_FL_KEEP_SIZE, 40000, 10000);
		EXPECT_EQ(probe_wait(self), 0);
		EXPECT_EQ(fstat(fd, &st), 0);
		EXPECT_EQ(st.st_size, 40000);
	}
	loop_op_fdatasync(self->loop, &self->p.op, fd);
	EXPECT_EQ(probe_wait(self), 0);
	loop_op_unlinkat(self->loop, &self->p.op, dir_fd, "a");
	EXPECT_EQ(probe_wait(self), 0);
	EXPECT_EQ(faccessat(dir_fd, "a", F_OK, 0), -1);
	loop_op_unlinkat(self->loop, &self->p.op, dir_fd, "a");
	EXPECT_EQ(probe_wait(self), -ENOENT);
	close(fd);
	loop_op_fdatasync(self->loop, &self->p.op, fd);
	EXPECT_EQ(probe_wait(self), -EBADF);
	close(dir_fd);
	EXPECT_EQ(rmdir(dir), 0);
}

TEST_HARNESS_MAIN
