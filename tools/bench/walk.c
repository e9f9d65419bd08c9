/* SPDX-License-Identifier: MIT */
/*
 * What programs do with a directory tree, timed: go through it as find(1), or read every file of it as grep -r. Names
 * are looked up in the open directory they are in, as those two do.
 *
 *     walk [-n N] NAME ACTION PATH [NAME ACTION PATH]...
 *
 *     find DIR    lstat(2) of every entry; an operation is an entry, with its share of opening and reading directories
 *     read DIR    an operation is open(2), read(2) to the end and close(2) of a file; the directories are not timed
 *     list DIR    goes through the directories and does nothing else
 *     trip FILE   an operation is fsync(2) of the file: on a FUSE file one request, and its answer
 *     open FILE   an operation is open(2) and close(2): on a FUSE file one more request, for which nobody waits
 *
 * All are done one after the other, N times over, so that what the machine does meanwhile hits all of them. Prints for
 * each `NAME NS`, what an operation cost: of each one the lower quartile of the N times, so that those during which
 * something else ran do not count, and of these the mean.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#include "bench.h"

#define LEVELS_MAX        16
#define TIMES_MAX         100
#define CELLS_MAX         16
#define OPERATIONS_MAX    4096
#define N_FILE_OPERATIONS 2000

enum action {
	ACTION_FIND,
	ACTION_READ,
	ACTION_LIST,
	ACTION_TRIP,
	ACTION_OPEN,
};

struct walk {
	enum action action;
	DIR *levels[LEVELS_MAX]; /* open directories, from the top */
	size_t n_levels;
	uint64_t since_ns; /* the end of the last operation, or the begin of this one */
	size_t n_operations;
	uint64_t *op_ns; /* OPERATIONS_MAX */
};

static void begin_operation(struct walk *walk)
{
	walk->since_ns = bench_now_ns();
}

/* The next one begins here. */
static void end_operation(struct walk *walk)
{
	uint64_t now_ns = bench_now_ns();

	if (walk->n_operations == OPERATIONS_MAX)
		bench_fail("more than %d operations", OPERATIONS_MAX);
	walk->op_ns[walk->n_operations++] = now_ns - walk->since_ns;
	walk->since_ns = now_ns;
}

/* --- one entry -------------------------------------------------------------------------------- */

static void enter(struct walk *walk, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		bench_fail_errno(name);
	if (walk->n_levels == LEVELS_MAX)
		bench_fail("%s: too deep", name);
	walk->levels[walk->n_levels++] = dir;
}

static void read_file(struct walk *walk, int at, const char *name)
{
	char text[4096];
	ssize_t n;
	int fd;

	begin_operation(walk);
	fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		bench_fail_errno(name);
	do
		n = read(fd, text, sizeof(text));
	while (n > 0);
	if (n < 0 || close(fd) < 0)
		bench_fail_errno(name);
	end_operation(walk);
}

static void visit(struct walk *walk, const struct dirent *entry)
{
	int at = dirfd(walk->levels[walk->n_levels - 1]);
	struct stat st;

	if (walk->action == ACTION_FIND) {
		if (fstatat(at, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			bench_fail_errno(entry->d_name);
		end_operation(walk);
	}
	if (entry->d_type == DT_DIR)
		enter(walk, at, entry->d_name);
	else if (walk->action == ACTION_READ)
		read_file(walk, at, entry->d_name);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void walk_tree(struct walk *walk, const char *top)
{
	begin_operation(walk);
	enter(walk, AT_FDCWD, top);
	while (walk->n_levels) {
		const struct dirent *entry = readdir(walk->levels[walk->n_levels - 1]);

		if (!entry)
			closedir(walk->levels[--walk->n_levels]);
		else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			visit(walk, entry);
	}
	/* What is closed in the end belongs to the last entry. */
	if (walk->action == ACTION_FIND && walk->n_operations)
		walk->op_ns[walk->n_operations - 1] += bench_now_ns() - walk->since_ns;
}

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		bench_fail_errno(path);
	return fd;
}

static void time_file(struct walk *walk, const char *path)
{
	_cleanup_(close_fd) int fd = open_file(path);

	begin_operation(walk);
	while (walk->n_operations < N_FILE_OPERATIONS) {
		if (walk->action == ACTION_OPEN)
			close(open_file(path));
		else if (fsync(fd) < 0)
			bench_fail_errno(path);
		end_operation(walk);
	}
}

/* --- one after the other ---------------------------------------------------------------------- */

struct cell {
	const char *name;
	enum action action;
	const char *path;
	uint64_t *op_ns;     /* OPERATIONS_MAX of each time */
	size_t n_operations; /* likewise */
};

static void time_once(struct cell *cell, size_t time)
{
	struct walk walk = {.action = cell->action, .op_ns = cell->op_ns + time * OPERATIONS_MAX};

	if (cell->action == ACTION_TRIP || cell->action == ACTION_OPEN)
		time_file(&walk, cell->path);
	else
		walk_tree(&walk, cell->path);
	if (time && walk.n_operations != cell->n_operations)
		bench_fail("%s: not as many operations each time", cell->name);
	cell->n_operations = walk.n_operations;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static double cell_op_ns(const struct cell *cell, size_t n)
{
	uint64_t times_ns[TIMES_MAX], sum_ns = 0;

	for (size_t o = 0; o < cell->n_operations; ++o) {
		for (size_t i = 0; i < n; ++i)
			times_ns[i] = cell->op_ns[i * OPERATIONS_MAX + o];
		qsort(times_ns, n, sizeof(*times_ns), compare_u64);
		sum_ns += times_ns[n / 4];
	}
	return cell->n_operations ? (double)sum_ns / (double)cell->n_operations : 0;
}

static void run(struct cell *cells, size_t n_cells, size_t n)
{
	for (size_t c = 0; c < n_cells; ++c) {
		cells[c].op_ns = calloc(n, OPERATIONS_MAX * sizeof(*cells[c].op_ns));
		if (!cells[c].op_ns)
			bench_fail_errno(cells[c].name);
	}
	for (size_t i = 0; i < n; ++i)
		for (size_t c = 0; c < n_cells; ++c)
			time_once(&cells[c], i);
	for (size_t c = 0; c < n_cells; ++c) {
		printf("%s %.1f\n", cells[c].name, cell_op_ns(&cells[c], n));
		free(cells[c].op_ns);
	}
}

__attribute__((noreturn)) static void usage(void)
{
	fputs("usage: walk [-n N] NAME find|read|list|trip|open PATH...\n", stderr);
	exit(2);
}

static enum action parse_action(const char *name)
{
	static const char *const names[] = {
		[ACTION_FIND] = "find", [ACTION_READ] = "read", [ACTION_LIST] = "list",
		[ACTION_TRIP] = "trip", [ACTION_OPEN] = "open",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i)
		if (strcmp(name, names[i]) == 0)
			return (enum action)i;
	usage();
}

int main(int argc, char **argv)
{
	struct cell cells[CELLS_MAX];
	size_t n = 1, n_cells = 0;
	int c;

	while ((c = getopt(argc, argv, "n:")) == 'n')
		n = strtoul(optarg, NULL, 10);
	if (c >= 0 || optind == argc || (argc - optind) % 3 || (argc - optind) / 3 > CELLS_MAX || !n ||
	    n > TIMES_MAX)
		usage();
	for (; optind < argc; optind += 3, ++n_cells)
		cells[n_cells] = (struct cell){
			.name = argv[optind],
			.action = parse_action(argv[optind + 1]),
			.path = argv[optind + 2],
		};
	run(cells, n_cells, n);
	return 0;
}
