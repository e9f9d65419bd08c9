/* SPDX-License-Identifier: MIT */
/*
 * Commits, and what the disk does when it fails.
 *
 * One commit is in flight at a time. It starts at the end of a turn in which somebody asked, takes up all segments
 * with records that no commit took up yet (and the directory, when files were made), and syncs them side by side. So
 * one sync serves all writers of the turns before it. Requests that come meanwhile are the next commit's.
 *
 * A sync that failed is not tried again: the kernel may have dropped the pages, and the next sync would succeed for
 * nothing. The segment is closed; its records are still sent, from memory or as far as the disk has them, and the CRC
 * says which. What was appended to it behind the commit's snapshot makes the next commit fail as well. Each failure costs
 * a segment, so the next commit is not before JOURNAL_RETRY_NS have passed.
 *
 * A sync that went well is not enough where the file system has to commit something for it, too: a new file, its entry,
 * or that blocks were written which were only allocated. ext4 (seen on Linux 6.18) answers a sync with a success once the
 * transaction is neither running nor being committed, so also when another sync, or its timer, made it commit that
 * transaction, that failed, and its journal was aborted. Then what was synced is gone. Only who begins a transaction is told.
 * So when the syncs of such a commit have ended, loop_op_check_fs() begins one, and only then something is called stored. An
 * abort stays: one check is for all files and for everything before it. Spare segments (is_settled) change nothing but data.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "base/time.h"
#include "journal/internal.h"

void journal_event(struct journal *j, const char *event, const char *text)
{
	if (j->ops && j->ops->on_event && !j->is_stopped)
		j->ops->on_event(j->userdata, event, text);
}

/* --- what the disk does ----------------------------------------------------------------------- */

static enum journal_disk disk_state_of(int error)
{
	if (!error)
		return JOURNAL_DISK_OK;
	return error == -ENOSPC || error == -EDQUOT ? JOURNAL_DISK_FULL : JOURNAL_DISK_FAILS;
}

static void disk_update(struct journal *j)
{
	int error = j->make_error ? j->make_error : j->sync_error ? j->sync_error : j->read_error;
	enum journal_disk disk = disk_state_of(error);
	char text[128];

	if (disk == j->disk)
		return;
	j->disk = disk;
	switch (disk) {
	case JOURNAL_DISK_OK:
		log_info(j->log, "the journal's disk works again");
		journal_event(j, "disk-ok", "the journal's disk works again");
		return;
	case JOURNAL_DISK_FULL:
		log_warning(j->log, "the journal's disk is full");
		journal_event(j, "disk-full", "the journal's disk is full");
		return;
	case JOURNAL_DISK_FAILS:
		snprintf(text, sizeof(text), "the journal's disk fails: %s", strerror(-error));
		log_error(j->log, "%s", text);
		journal_event(j, "disk-error", text);
		return;
	}
}

static void disk_arm_retry(struct journal *j)
{
	if (!loop_timer_is_armed(&j->retry) && !j->is_stopped)
		loop_timer_arm(j->loop, &j->retry, loop_now_ns(j->loop) + JOURNAL_RETRY_NS);
}

void disk_on_make(struct journal *j, uint64_t n_bytes, int error)
{
	j->make_error = error;
	if (error) {
		j->wanted_bytes = n_bytes;
		disk_arm_retry(j);
	}
	disk_update(j);
}

void disk_on_read(struct journal *j, int error)
{
	j->read_error = error;
	if (error)
		disk_arm_retry(j);
	disk_update(j);
}

int disk_error_now(const struct journal *j)
{
	struct statvfs st;

	return fstatvfs(j->dir.fd, &st) == 0 && (st.f_flag & ST_RDONLY) ? -EROFS : -EIO;
}

/* Makes the segment that could not be made, for whoever needs it first. */
static void disk_try_again(struct journal *j)
{
	struct journal_identity identity = {
		.size = j->wanted_bytes, .made_ms = loop_wall_ms(j->loop), .kind = JOURNAL_KIND_SPARE};
	struct journal_segment *segment;
	int r;

	if (spares_has(j->spares, identity.size)) {
		disk_on_make(j, identity.size, 0);
		return;
	}
	r = segment_new(&segment, &j->dir, &identity);
	if (!r) {
		list_init(&segment->unsynced);
		loop_op_init(&segment->sync, commit_on_synced);
		segment_unmap(segment);
		spares_give(j->spares, segment);
	}
	disk_on_make(j, identity.size, r);
}

/* Perhaps nobody asks for a sync, and the error is over all the same. */
static void disk_sync_again(struct journal *j)
{
	if (j->dir.is_volatile) {
		j->sync_error = 0;
		disk_update(j);
		return;
	}
	j->is_sync_wanted = true;
}

static void disk_on_retry(struct loop_timer *timer, uint64_t now_ns)
{
	struct journal *j = container_of(timer, struct journal, retry);

	(void)now_ns;
	if (j->make_error)
		disk_try_again(j);
	if (j->sync_error)
		disk_sync_again(j);
	if (j->is_sync_wanted)
		loop_defer(j->loop, &j->turn_end);
	list_for_each (link, &j->lanes)
		lane_wake(container_of(link, struct journal_lane, link));
	if (j->ops && j->ops->on_room)
		j->ops->on_room(j->userdata);
}

/* --- commits ---------------------------------------------------------------------------------- */

void journal_sync(struct journal *j)
{
	if (j->dir.is_volatile || j->is_stopped)
		return;
	j->is_sync_wanted = true;
	loop_defer(j->loop, &j->turn_end);
}

void commit_add(struct journal *j, struct journal_segment *segment)
{
	int r;

	if (j->dir.is_volatile || list_is_linked(&segment->unsynced))
		return;
	/* It is mapped, and stays so: a file that is closed and opened again may have forgotten an error of writing. */
	r = segment_map(segment);
	assert(r == 0);
	(void)r;
	list_append(&j->unsynced, &segment->unsynced);
}

static void forget_unsynced(struct journal_segment *segment)
{
	if (!list_is_linked(&segment->unsynced))
		return;
	list_remove(&segment->unsynced);
	segment_unmap(segment);
}

void commit_forget(struct journal_segment *segment)
{
	forget_unsynced(segment);
	list_remove(&segment->synced);
}

void commit_fail_segment(struct journal *j, struct journal_segment *segment, int error)
{
	segment->is_failed = true;
	forget_unsynced(segment);
	/* Those of the commit under way hear of it there. */
	if (segment->head > (segment->sync_head ? segment->sync_head : segment->state.stored_offset))
		j->lost_error = error;
	j->sync_error = error;
	disk_arm_retry(j);
	disk_update(j);
}

static void commit_end(struct journal *j)
{
	int error = j->commit_error;

	j->is_committing = false;
	if (error) {
		++j->stats.n_failed;
		j->sync_error = error;
		j->sync_failed_ns = loop_now_ns(j->loop);
		disk_arm_retry(j);
	} else {
		++j->stats.n_commits;
		j->stored = j->commit_sequence;
		if (j->has_synced)
			j->sync_error = 0;
	}
	disk_update(j);
	if (j->ops && j->ops->on_stored && !j->is_stopped)
		j->ops->on_stored(j->userdata, j->commit_sequence, error);
	if (j->is_sync_wanted)
		loop_defer(j->loop, &j->turn_end);
}

/* The first error is the commit's. */
static void commit_note(struct journal *j, int error)
{
	if (error && !j->commit_error)
		j->commit_error = error;
}

static void commit_unref(struct journal *j, int error)
{
	commit_note(j, error);
	if (--j->n_syncs > 0)
		return;
	if (!j->needs_check) {
		commit_end(j);
		return;
	}
	j->needs_check = false;
	++j->n_syncs;
	loop_op_check_fs(j->loop, &j->check, j->dir.check_fd);
}

/* The segment's part of the commit ended. Returns its error. */
static int commit_end_segment(struct journal *j, struct journal_segment *segment, int error)
{
	struct journal_lane *lane = segment->owner;

	if (!error && segment->is_failed)
		error = -EIO;
	if (error) {
		commit_fail_segment(j, segment, error);
	} else {
		j->has_synced = true;
		segment->state.stored_offset = segment->sync_head;
		/* Some are written at the end of the turn anyway. */
		if (!j->is_stopped && (segment == lane->active || segment == lane->next.segment))
			lane_touch(lane, segment);
		else
			lane_write_state(lane, segment);
	}
	segment->sync_head = 0;
	return error;
}

/* What was done with while it was synced. */
static void zombie_bury(struct journal *j, struct journal_segment *segment)
{
	list_remove(&segment->link);
	if (j->is_stopped || segment->is_private || segment->is_failed)
		segment_delete(segment);
	else
		spares_give(j->spares, segment);
}

void commit_on_synced(struct loop_op *op, int res)
{
	struct journal_segment *segment = container_of(op, struct journal_segment, sync);
	struct journal *j = container_of(segment->dir, struct journal, dir);
	/* A page that is not the file's any more was not synced. */
	bool is_torn = segment_was_hit(segment) || segment->is_torn;
	int error = res < 0 ? res : is_torn ? disk_error_now(j) : 0;

	segment_unmap(segment);
	if (!segment->owner) {
		bool is_probe = segment == j->probe;

		/* The hub has all of it: whether the disk has it, too, matters to nobody. */
		if (is_probe) {
			j->probe = NULL;
			j->has_synced |= !error;
			segment->is_failed = error != 0;
		}
		zombie_bury(j, segment);
		commit_unref(j, is_probe ? error : 0);
		return;
	}
	if (error || segment->is_settled)
		error = commit_end_segment(j, segment, error);
	else
		list_append(&j->synced, &segment->synced);
	commit_unref(j, error);
}

static void commit_on_checked(struct loop_op *op, int res)
{
	struct journal *j = container_of(op, struct journal, check);
	int error = loop_check_fs_error(res);
	struct list *link;

	if (error)
		j->dir.is_dirty = true;
	while ((link = list_first(&j->synced))) {
		list_remove(link);
		commit_note(j,
			    commit_end_segment(j, container_of(link, struct journal_segment, synced), error));
	}
	commit_unref(j, error);
}

static void commit_on_dir_synced(struct loop_op *op, int res)
{
	struct journal *j = container_of(op, struct journal, dir_sync);

	/* Once more with the next commit: what is in new files is not stored before. */
	if (res < 0)
		j->dir.is_dirty = true;
	commit_unref(j, res < 0 ? res : 0);
}

/* Its user is the sync's now. */
static void commit_sync_segment(struct journal *j, struct journal_segment *segment)
{
	list_remove(&segment->unsynced);
	segment->sync_head = segment->head;
	j->needs_check |= !segment->is_settled;
	++j->n_syncs;
	loop_op_fdatasync(j->loop, &segment->sync, segment->fd);
}

/* Nothing is there to sync, so nobody would hear that the disk works again: a new file tells. */
static void commit_probe(struct journal *j)
{
	struct journal_identity identity = {.size = JOURNAL_SEGMENT_BYTES_MIN,
					    .made_ms = loop_wall_ms(j->loop),
					    .kind = JOURNAL_KIND_SPARE};
	struct journal_segment *segment;
	int r = segment_new(&segment, &j->dir, &identity);

	if (r) {
		j->commit_error = r;
		return;
	}
	list_init(&segment->unsynced);
	loop_op_init(&segment->sync, commit_on_synced);
	list_append(&j->zombies, &segment->link);
	j->probe = segment;
	j->needs_check = true;
	++j->n_syncs;
	loop_op_fdatasync(j->loop, &segment->sync, segment->fd);
}

void commit_start(struct journal *j)
{
	if (!j->is_sync_wanted || j->is_committing)
		return;
	if (j->sync_error && !j->is_stopped && loop_now_ns(j->loop) - j->sync_failed_ns < JOURNAL_RETRY_NS) {
		disk_arm_retry(j);
		return;
	}
	j->is_sync_wanted = false;
	j->is_committing = true;
	j->commit_sequence = j->appended;
	j->commit_error = j->lost_error;
	j->lost_error = 0;
	j->has_synced = false;
	j->n_syncs = 1;
	if (j->sync_error && list_is_empty(&j->unsynced) && !j->is_stopped)
		commit_probe(j);
	while (!list_is_empty(&j->unsynced))
		commit_sync_segment(j, container_of(j->unsynced.next, struct journal_segment, unsynced));
	if (j->dir.is_dirty) {
		j->dir.is_dirty = false;
		j->needs_check = true;
		++j->n_syncs;
		loop_op_fsync(j->loop, &j->dir_sync, j->dir.fd);
	}
	/* It could not be made at the start. */
	if (j->needs_check && j->lock_fd < 0)
		journal_open_lock(j);
	commit_unref(j, 0);
}

void commit_init(struct journal *j)
{
	list_init(&j->unsynced);
	list_init(&j->synced);
	loop_op_init(&j->dir_sync, commit_on_dir_synced);
	loop_op_init(&j->check, commit_on_checked);
	loop_timer_init(&j->retry, disk_on_retry);
}
