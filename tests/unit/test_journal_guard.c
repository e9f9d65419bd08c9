/* SPDX-License-Identifier: MIT */
/*
 * The guard: a mapped file that is cut under whoever reads and writes it, the table of ranges, and a SIGBUS that is
 * none of ours.
 */

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "journal/guard.h"
#include "tests/harness.h"

#define N_PAGES 16

/* As in main.c: the handler gets no argument. */
static struct journal_guard guard;
static volatile sig_atomic_t n_signals;

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	(void)context;
	++n_signals;
	if (info->si_code > 0 && journal_guard_handle(&guard, info->si_addr))
		return;
	signal(signo, SIG_DFL);
	raise(signo);
}

FIXTURE(guard)
{
	uint8_t *map;
	size_t page_bytes, len;
	struct journal_guard_range *range;
	int fd;
};

FIXTURE_SETUP(guard)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	self->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	self->len = N_PAGES * self->page_bytes;
	self->fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(ftruncate(self->fd, (off_t)self->len), 0);
	self->map = mmap(NULL, self->len, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_TRUE(self->map != MAP_FAILED);
	memset(self->map, 'x', self->len);
	self->range = journal_guard_add(&guard, self->map, self->len);
	ASSERT_TRUE(self->range);
	sigemptyset(&action.sa_mask);
	ASSERT_EQ(sigaction(SIGBUS, &action, NULL), 0);
}

FIXTURE_TEARDOWN(guard)
{
	if (test_is_orphan())
		return;
	journal_guard_remove(self->range);
	munmap(self->map, self->len);
	close(self->fd);
}

/* Not at all before, and once after it. */
static void expect_hit(struct fixture_guard *self, int n)
{
	EXPECT_EQ(n_signals, n);
	EXPECT_TRUE(journal_guard_take_hit(self->range));
	EXPECT_FALSE(journal_guard_take_hit(self->range));
}

TEST_F(guard, what_is_cut_reads_as_zeros)
{
	volatile const uint8_t *map = self->map;

	EXPECT_EQ(map[self->len - 1], 'x');
	EXPECT_EQ(journal_guard_hit_end(self->range), 0u);
	EXPECT_FALSE(journal_guard_take_hit(self->range));
	ASSERT_EQ(ftruncate(self->fd, (off_t)self->page_bytes), 0);
	EXPECT_EQ(map[0], 'x');
	EXPECT_EQ(n_signals, 0);
	/* The last byte of a page, the first of the next but one, and one in the middle of the range's last page. */
	EXPECT_EQ(map[2 * self->page_bytes - 1], 0);
	EXPECT_EQ(map[3 * self->page_bytes], 0);
	EXPECT_EQ(map[self->len - 100], 0);
	expect_hit(self, 3);
	EXPECT_EQ(journal_guard_hit_end(self->range), (uintptr_t)self->map + self->len);
	/* Those pages are there now. */
	EXPECT_EQ(map[self->page_bytes], 0);
	EXPECT_EQ(n_signals, 3);
}

TEST_F(guard, what_is_cut_can_be_written)
{
	uint8_t text[300];

	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	memset(text, 'y', sizeof(text));
	/* Over the end of a page. */
	memcpy(self->map + self->page_bytes - 100, text, sizeof(text));
	expect_hit(self, 2);
	EXPECT_MEMEQ(self->map + self->page_bytes - 100, text, sizeof(text));
	EXPECT_EQ(journal_guard_hit_end(self->range), (uintptr_t)self->map + 2 * self->page_bytes);
	EXPECT_EQ(lseek(self->fd, 0, SEEK_END), 0);
}

TEST_F(guard, errno_stays_as_it_was)
{
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	errno = EPROTO;
	self->map[0] = 1;
	EXPECT_EQ(errno, EPROTO);
	expect_hit(self, 1);
}

static void *write_each_page(void *argument)
{
	struct fixture_guard *self = argument;

	for (size_t i = 0; i < N_PAGES; ++i)
		self->map[i * self->page_bytes] = 1;
	return NULL;
}

TEST_F(guard, several_threads_may_be_hit)
{
	pthread_t threads[4];

	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	for (size_t i = 0; i < 4; ++i)
		ASSERT_EQ(pthread_create(&threads[i], NULL, write_each_page, self), 0);
	for (size_t i = 0; i < 4; ++i)
		pthread_join(threads[i], NULL);
	EXPECT_TRUE(journal_guard_take_hit(self->range));
}

/* The signal that ended a child, 0: none. */
static int child_signal(void (*run)(struct fixture_guard *self), struct fixture_guard *self)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		run(self);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void read_what_was_removed(struct fixture_guard *self)
{
	journal_guard_remove(self->range);
	*(volatile uint8_t *)self->map = 1;
}

static void send_to_myself(struct fixture_guard *self)
{
	(void)self;
	raise(SIGBUS);
}

TEST_F(guard, another_sigbus_ends_the_process)
{
	ASSERT_EQ(ftruncate(self->fd, 0), 0);
	EXPECT_EQ(child_signal(read_what_was_removed, self), SIGBUS);
	EXPECT_EQ(child_signal(send_to_myself, self), SIGBUS);
}

TEST(a_range_has_a_place_until_it_is_removed)
{
	static struct journal_guard table;
	static uint8_t bytes[JOURNAL_GUARD_MAX + 1];
	struct journal_guard_range *first = journal_guard_add(&table, bytes, 1), *last = first;

	ASSERT_TRUE(first);
	for (size_t i = 1; i < JOURNAL_GUARD_MAX; ++i) {
		last = journal_guard_add(&table, bytes + i, 1);
		ASSERT_TRUE(last);
	}
	EXPECT_TRUE(!journal_guard_add(&table, bytes + JOURNAL_GUARD_MAX, 1));
	journal_guard_remove(last);
	EXPECT_FALSE(journal_guard_handle(&table, bytes + JOURNAL_GUARD_MAX - 1));
	EXPECT_TRUE(journal_guard_add(&table, bytes + JOURNAL_GUARD_MAX, 1) == last);
	/* Neither of these is anybody's: nothing is put in their place. */
	EXPECT_FALSE(journal_guard_handle(&table, NULL));
	EXPECT_FALSE(journal_guard_handle(&table, (const void *)1));
	EXPECT_FALSE(journal_guard_handle(&table, bytes + sizeof(bytes)));
}

TEST(no_guard_and_no_range_are_fine)
{
	uint8_t byte;

	EXPECT_TRUE(!journal_guard_add(NULL, &byte, 1));
	journal_guard_remove(NULL);
	EXPECT_FALSE(journal_guard_take_hit(NULL));
	EXPECT_EQ(journal_guard_hit_end(NULL), 0u);
}

TEST_HARNESS_MAIN
