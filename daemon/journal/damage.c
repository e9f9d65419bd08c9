/* SPDX-License-Identifier: MIT */
/*
 * What was lost: counted, told once a second at most, and kept in `damaged/` for whoever wants to look.
 *
 * `damaged/ID-OFFSET.bin` has the bytes of a segment from that offset (hexadecimal) up to the next good record,
 * `damaged/ID.segment` is a file that could not be used at all. Bounded: DAMAGED_FILES files, DAMAGED_BYTES bytes; the
 * oldest ones go. A single file that is larger is kept all the same.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "journal/internal.h"

#define DAMAGED_FILES 16
#define DAMAGED_BYTES (UINT64_C(64) << 20)
/* More than this are not kept in one second: they would only push each other out. */
#define DAMAGED_COPIES DAMAGED_FILES
#define EVENT_EVERY_NS NSEC_PER_SEC

static void closedir_ptr(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static int damaged_open(struct journal *j)
{
	if (mkdirat(j->dir.fd, "damaged", 0700) < 0 && errno != EEXIST)
		return -1;
	return openat(j->dir.fd, "damaged", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

struct damaged_sum {
	uint64_t n_files;
	uint64_t n_bytes;
	char oldest[256];
	struct timespec oldest_time;
};

static bool is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static int damaged_sum_up(int dir_fd, struct damaged_sum *out)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedir_ptr) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	*out = (struct damaged_sum){0};
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((entry = readdir(dir))) {
		struct stat st;

		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		++out->n_files;
		out->n_bytes += (uint64_t)st.st_blocks * 512;
		if (out->oldest[0] && !is_before(&st.st_mtim, &out->oldest_time))
			continue;
		out->oldest_time = st.st_mtim;
		snprintf(out->oldest, sizeof(out->oldest), "%s", entry->d_name);
	}
	return 0;
}

/* Deletes the oldest ones until one more of that size fits. */
static void damaged_make_room(int dir_fd, uint64_t n_bytes)
{
	struct damaged_sum sum;

	while (!damaged_sum_up(dir_fd, &sum) && sum.n_files > 0 &&
	       (sum.n_files >= DAMAGED_FILES || sum.n_bytes + n_bytes > DAMAGED_BYTES))
		if (unlinkat(dir_fd, sum.oldest, 0) < 0)
			return;
}

static void damage_copy(struct journal *j, const struct journal_segment *segment, uint64_t from, uint64_t to)
{
	_cleanup_(close_fd) int dir_fd = damaged_open(j), fd = -1;
	char name[64];

	if (dir_fd < 0 || !segment->map)
		return;
	if (to - from > DAMAGED_BYTES)
		to = from + DAMAGED_BYTES;
	damaged_make_room(dir_fd, to - from);
	snprintf(name, sizeof(name), "%016" PRIx64 "-%" PRIx64 ".bin", segment->identity.id, from);
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	while (fd >= 0 && from < to) {
		ssize_t n = write(fd, segment->map + from, (size_t)(to - from));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		from += (uint64_t)n;
	}
}

static void damage_tell_later(struct journal *j)
{
	uint64_t now_ns = loop_now_ns(j->loop);

	if (!loop_timer_is_armed(&j->damage_timer) && !j->is_stopped)
		loop_timer_arm(j->loop, &j->damage_timer,
			       now_ns > j->damage_at_ns ? now_ns : j->damage_at_ns);
}

static void damage_on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct journal *j = container_of(timer, struct journal, damage_timer);
	uint64_t n_records = j->stats.n_damaged - j->n_damage_told;
	char text[240];
	int n = snprintf(text, sizeof(text),
			 "damage in the journal: records lost: %" PRIu64 ", files set aside: %" PRIu64
			 "; what is left of them is in its directory damaged",
			 n_records, j->n_files_aside);

	if (j->n_files_left)
		snprintf(text + n, sizeof(text) - (size_t)n,
			 "; files not read as a whole, left until the next start: %" PRIu64, j->n_files_left);
	log_error(j->log, "%s", text);
	j->n_damage_told = j->stats.n_damaged;
	j->n_files_aside = 0;
	j->n_files_left = 0;
	j->n_copies = 0;
	j->damage_at_ns = now_ns + EVENT_EVERY_NS;
	journal_event(j, "journal-damaged", text);
}

void damage_note(struct journal *j, struct journal_segment *segment, uint64_t from, uint64_t to,
		 uint64_t n_records)
{
	log_debug(j->log, "%s: %" PRIu64 " records lost, bytes %" PRIu64 " to %" PRIu64, segment->name,
		  n_records, from, to);
	j->stats.n_damaged += n_records;
	if (j->n_copies < DAMAGED_COPIES && from < to) {
		++j->n_copies;
		damage_copy(j, segment, from, to);
	}
	damage_tell_later(j);
}

void damage_set_file_aside(struct journal *j, const char *name)
{
	_cleanup_(close_fd) int dir_fd = -1;
	struct stat st;

	if (fstatat(j->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) {
		log_warning(j->log, "%s in the journal's directory is no file: left alone", name);
		return;
	}
	++j->n_files_aside;
	damage_tell_later(j);
	if (j->n_copies >= DAMAGED_COPIES) {
		unlinkat(j->dir.fd, name, 0);
		return;
	}
	++j->n_copies;
	dir_fd = damaged_open(j);
	if (dir_fd < 0)
		return;
	damaged_make_room(dir_fd, (uint64_t)st.st_blocks * 512);
	if (renameat(j->dir.fd, name, dir_fd, name) < 0)
		log_warning(j->log, "cannot move %s to damaged: %s", name, strerror(errno));
}

void damage_leave_file(struct journal *j, const char *name, int error)
{
	log_error(j->log, "cannot read %s of the journal: %s", name,
		  error == -ENOTSUP ? "a newer iothubd wrote it" : strerror(-error));
	++j->n_files_left;
	damage_tell_later(j);
}

void damage_init(struct journal *j)
{
	loop_timer_init(&j->damage_timer, damage_on_timer);
}
