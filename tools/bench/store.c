/* SPDX-License-Identifier: MIT */
/*
 * How many messages a second a number of writers get onto the disk, one at a time each: through a telemetry file with
 * O_DSYNC, into SQLite (one connection for each writer, one INSERT a transaction, synchronous=FULL, journal_mode=WAL),
 * into Redis (RPUSH at a UNIX socket; whether the server syncs is its configuration), or into a preallocated file
 * with fdatasync(2), which is what the disk can do for one.
 *
 * Each writer is a process; a write counts when it was acknowledged before the time is over. Prints `rate N`, messages
 * a second, and `median NS` and `p99 NS` of one write.
 *
 * As `store order N` it reads what `hubctl monitor` prints, until a message begins with `end`; the N others begin with
 * their number, from 1 on. Prints `seen N`, `again N`, `missed N` (by the monitor), `lost N` (neither seen nor missed).
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"

#include "bench.h"

#define WRITERS_MAX 1024
#define SIZE_MAX_B  4096
/* Latencies kept of one writer; those of later writes are not. */
#define SAMPLES_MAX 65536
/* SQLite tells who waits for the lock to come again; so long at most. */
#define BUSY_MS    60000
#define FILE_BYTES (8 << 20)
#define SQLITE_DONE_OR_FAIL(db, r)                                                                           \
	do {                                                                                                 \
		if ((r) != SQLITE_OK && (r) != SQLITE_DONE)                                                  \
			bench_fail("sqlite: %s", sqlite3_errmsg(db));                                        \
	} while (0)

struct options {
	const char *path;
	size_t size;
	unsigned int n_writers;
	uint64_t time_ns;
	char payload[SIZE_MAX_B];
};

/* In shared memory. */
struct result {
	uint64_t start_ns;
	uint32_t n_ready;
	uint64_t n_done[WRITERS_MAX];
	uint64_t samples_ns[];
};

/* One kind of store: @number is the writer's; write() returns when the message is safe. */
struct store {
	const char *name;
	void (*prepare)(const struct options *o);
	void *(*open)(const struct options *o, unsigned int number);
	void (*write)(void *store, const struct options *o);
};

/* --- a file of telemetry ---------------------------------------------------------------------- */

static void *hub_open(const struct options *o, unsigned int number)
{
	static int fd;

	(void)number;
	fd = open(o->path, O_WRONLY | O_DSYNC | O_CLOEXEC);
	if (fd < 0)
		bench_fail_errno(o->path);
	return &fd;
}

static void hub_write(void *store, const struct options *o)
{
	const int *fd = store;

	if (write(*fd, o->payload, o->size) != (ssize_t)o->size)
		bench_fail_errno(o->path);
}

/* --- a preallocated file ---------------------------------------------------------------------- */

struct plain {
	int fd;
	off_t at;
};

static void *plain_open(const struct options *o, unsigned int number)
{
	static struct plain plain;
	char path[512];

	snprintf(path, sizeof(path), "%s.%u", o->path, number);
	plain.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (plain.fd < 0 || posix_fallocate(plain.fd, 0, FILE_BYTES) != 0 || fsync(plain.fd) < 0)
		bench_fail_errno(path);
	unlink(path);
	return &plain;
}

static void plain_write(void *store, const struct options *o)
{
	struct plain *plain = store;

	if (pwrite(plain->fd, o->payload, o->size, plain->at) != (ssize_t)o->size || fdatasync(plain->fd) < 0)
		bench_fail_errno(o->path);
	plain->at = (plain->at + (off_t)o->size) % (FILE_BYTES - (off_t)SIZE_MAX_B);
}

/* --- SQLite ----------------------------------------------------------------------------------- */

struct database {
	sqlite3 *db;
	sqlite3_stmt *insert;
};

static sqlite3 *database_open(const struct options *o)
{
	sqlite3 *db;
	int r = sqlite3_open(o->path, &db);

	if (r != SQLITE_OK)
		bench_fail("sqlite: %s", sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, BUSY_MS);
	r = sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", NULL, NULL, NULL);
	SQLITE_DONE_OR_FAIL(db, r);
	return db;
}

static void sqlite_prepare(const struct options *o)
{
	sqlite3 *db = database_open(o);
	int r = sqlite3_exec(
		db, "CREATE TABLE IF NOT EXISTS queue (id INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB)",
		NULL, NULL, NULL);

	SQLITE_DONE_OR_FAIL(db, r);
	sqlite3_close(db);
}

static void *sqlite_open(const struct options *o, unsigned int number)
{
	static struct database database;
	int r;

	(void)number;
	database.db = database_open(o);
	r = sqlite3_prepare_v2(database.db, "INSERT INTO queue (payload) VALUES (?)", -1, &database.insert,
			       NULL);
	SQLITE_DONE_OR_FAIL(database.db, r);
	return &database;
}

static void sqlite_write(void *store, const struct options *o)
{
	struct database *database = store;
	int r = sqlite3_bind_blob(database->insert, 1, o->payload, (int)o->size, SQLITE_STATIC);

	SQLITE_DONE_OR_FAIL(database->db, r);
	r = sqlite3_step(database->insert);
	SQLITE_DONE_OR_FAIL(database->db, r);
	sqlite3_reset(database->insert);
}

/* --- Redis ------------------------------------------------------------------------------------ */

static void *redis_open(const struct options *o, unsigned int number)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	static int fd;

	(void)number;
	if (strlen(o->path) >= sizeof(addr.sun_path))
		bench_fail("the path of the socket is too long");
	strcpy(addr.sun_path, o->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		bench_fail_errno(o->path);
	return &fd;
}

static void redis_write(void *store, const struct options *o)
{
	const int *fd = store;
	char request[SIZE_MAX_B + 64], answer[256];
	size_t len = (size_t)snprintf(request, sizeof(request),
				      "*3\r\n$5\r\nRPUSH\r\n$5\r\nqueue\r\n$%zu\r\n", o->size);
	ssize_t n;

	memcpy(request + len, o->payload, o->size);
	memcpy(request + len + o->size, "\r\n", 2);
	len += o->size + 2;
	if (write(*fd, request, len) != (ssize_t)len)
		bench_fail_errno("redis");
	n = read(*fd, answer, sizeof(answer) - 1);
	if (n <= 0)
		bench_fail_errno("redis");
	answer[n] = '\0';
	if (answer[0] != ':')
		bench_fail("redis: %s", answer);
}

/* --- writers ---------------------------------------------------------------------------------- */

static const struct store stores[] = {
	{"iothubd", NULL, hub_open, hub_write},
	{"sqlite", sqlite_prepare, sqlite_open, sqlite_write},
	{"redis", NULL, redis_open, redis_write},
	{"file", NULL, plain_open, plain_write},
};

/* Until the time is over. All begin together. */
static void writer_run(const struct store *kind, const struct options *o, struct result *result,
		       unsigned int number)
{
	void *store = kind->open(o, number);
	uint64_t end_ns, before_ns, n = 0;

	__atomic_add_fetch(&result->n_ready, 1, __ATOMIC_ACQ_REL);
	while (!(end_ns = __atomic_load_n(&result->start_ns, __ATOMIC_ACQUIRE)))
		poll(NULL, 0, 1);
	end_ns += o->time_ns;
	for (before_ns = bench_now_ns();;) {
		uint64_t after_ns;

		kind->write(store, o);
		after_ns = bench_now_ns();
		if (after_ns > end_ns)
			break;
		if (n < SAMPLES_MAX)
			result->samples_ns[(size_t)number * SAMPLES_MAX + n] = after_ns - before_ns;
		before_ns = after_ns;
		++n;
	}
	result->n_done[number] = n;
}

static void run_writers(const struct store *kind, const struct options *o, struct result *result)
{
	int status;

	for (unsigned int i = 0; i < o->n_writers; ++i) {
		pid_t pid = fork();

		if (pid < 0)
			bench_fail_errno("fork");
		if (pid == 0) {
			writer_run(kind, o, result, i);
			_exit(0);
		}
	}
	while (__atomic_load_n(&result->n_ready, __ATOMIC_ACQUIRE) < o->n_writers) {
		if (waitpid(-1, &status, WNOHANG) > 0)
			bench_fail("a writer ended early");
		poll(NULL, 0, 1);
	}
	__atomic_store_n(&result->start_ns, bench_now_ns(), __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < o->n_writers; ++i)
		if (wait(&status) < 0 || status != 0)
			exit(1);
}

static void report(const struct options *o, struct result *result)
{
	uint64_t n_all = 0, n_samples = 0;

	for (unsigned int i = 0; i < o->n_writers; ++i) {
		uint64_t n = result->n_done[i] < SAMPLES_MAX ? result->n_done[i] : SAMPLES_MAX;

		memmove(result->samples_ns + n_samples, result->samples_ns + (size_t)i * SAMPLES_MAX,
			n * sizeof(uint64_t));
		n_samples += n;
		n_all += result->n_done[i];
	}
	if (n_all == 0)
		bench_fail("nothing was written in time");
	printf("rate %.1f\n", (double)n_all * 1e9 / (double)o->time_ns);
	bench_print_latencies(result->samples_ns, n_samples);
}

/* --- order ------------------------------------------------------------------------------------ */

static uint64_t number_after(const char *line, const char *key)
{
	const char *at = strstr(line, key);

	return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static void check_order(uint64_t n_messages)
{
	_cleanup_(free_ptr) char *line = NULL;
	uint64_t last = 0, n_seen = 0, n_again = 0, n_missed = 0;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0) {
		uint64_t number = number_after(line, "\"payload\":\"");

		n_missed += number_after(line, "\"dropped\":");
		if (strstr(line, "\"payload\":\"end"))
			break;
		if (!number)
			continue;
		if (number <= last) {
			++n_again;
			continue;
		}
		++n_seen;
		last = number;
	}
	printf("seen %" PRIu64 "\nagain %" PRIu64 "\nmissed %" PRIu64 "\n", n_seen, n_again, n_missed);
	printf("lost %" PRIu64 "\n", n_messages > n_seen + n_missed ? n_messages - n_seen - n_missed : 0);
}

/* --- arguments -------------------------------------------------------------------------------- */

static void usage(void)
{
	fputs("usage: store iothubd|sqlite|redis|file [-w WRITERS] [-s BYTES] [-t MILLISECONDS] PATH\n"
	      "       store order MESSAGES\n",
	      stderr);
	exit(2);
}

static void parse(struct options *o, int argc, char **argv)
{
	int c;

	optind = 2;
	while ((c = getopt(argc, argv, "w:s:t:")) >= 0) {
		if (c == 'w')
			o->n_writers = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 's')
			o->size = strtoul(optarg, NULL, 10);
		else if (c == 't')
			o->time_ns = strtoull(optarg, NULL, 10) * NSEC_PER_MSEC;
		else
			usage();
	}
	if (optind + 1 != argc || !o->n_writers || o->n_writers > WRITERS_MAX || !o->size ||
	    o->size > SIZE_MAX_B || !o->time_ns)
		usage();
	o->path = argv[optind];
	memset(o->payload, 'x', sizeof(o->payload));
}

int main(int argc, char **argv)
{
	static struct options o = {.n_writers = 1, .size = 128, .time_ns = NSEC_PER_SEC};
	const struct store *kind = NULL;
	struct result *result;

	if (argc == 3 && strcmp(argv[1], "order") == 0) {
		check_order(strtoull(argv[2], NULL, 10));
		return 0;
	}
	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]) && argc > 1; ++i)
		if (strcmp(argv[1], stores[i].name) == 0)
			kind = &stores[i];
	if (!kind)
		usage();
	parse(&o, argc, argv);
	result = mmap(NULL, sizeof(*result) + (size_t)o.n_writers * SAMPLES_MAX * sizeof(uint64_t),
		      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		bench_fail_errno("mmap");
	if (kind->prepare)
		kind->prepare(&o);
	run_writers(kind, &o, result);
	report(&o, result);
	return 0;
}
