/* SPDX-License-Identifier: MIT */
/*
 * Telemetry files without kernel and network, see files_line.h.
 */

#include "base/time.h"
#include "tests/harness.h"
#include "tests/support/files_line.h"

static void on_changed(void *userdata)
{
	(void)userdata;
}

void files_line_init(struct files_line *f, uint64_t queue_bytes, uint64_t run)
{
	static const struct link_ops link_ops = {.on_changed = on_changed};
	const struct loop_options loop = {0};
	const struct fuse_tree_options tree = {.root_mode = 0755};
	struct config_access access[CONFIG_N_FILES] = {0};
	struct telemetry_options telemetry = {.log = &f->log, .run = run};
	struct link_options link = {.log = &f->log, .config = &f->config, .ops = &link_ops};

	for (size_t i = 0; i < CONFIG_N_FILES; ++i)
		access[i].mode = 0222;
	log_init(&f->log, "test", LOG_LEVEL_ERROR);
	ASSERT_EQ(loop_new(&f->loop, &loop), 0);
	ASSERT_EQ(journal_new(&f->journal, queue_bytes), 0);
	ASSERT_EQ(waiters_new(&f->waiters, f->loop, TIME_NEVER), 0);
	telemetry.loop = f->loop;
	telemetry.journal = f->journal;
	telemetry.waiters = f->waiters;
	ASSERT_EQ(telemetry_new(&f->telemetry, &telemetry), 0);
	link.loop = f->loop;
	ASSERT_EQ(link_new(&f->link, &link), 0);
	telemetry_set_link(f->telemetry, f->link);
	ASSERT_EQ(fuse_tree_new(&f->tree, &tree), 0);
	ASSERT_EQ(telemetry_files_new(&f->files, f->telemetry, fuse_tree_root(f->tree), access), 0);
	fuse_line_init(&f->line, f->tree);
}

void files_line_deinit(struct files_line *f)
{
	if (!f->loop)
		return;
	fuse_tree_detach(f->tree);
	fuse_tree_free(f->tree);
	telemetry_files_free(f->files);
	telemetry_free(f->telemetry);
	link_free(f->link);
	waiters_free(f->waiters);
	journal_free(f->journal);
	while (loop_n_in_flight(f->loop))
		ASSERT_EQ(loop_turn(f->loop, TIME_NEVER), 0);
	loop_free(f->loop);
	f->loop = NULL;
}

void files_line_take(struct files_line *f, uint64_t last)
{
	while (journal_acked(f->journal) < last) {
		struct journal_cursor at = journal_first(f->journal);
		struct journal_record record;
		struct origin *origin;

		journal_read(f->journal, at, &record);
		origin = origin_find(f->waiters, record.origin);
		journal_mark_sent(f->journal, at.sequence);
		journal_mark_acked(f->journal, at);
		if (origin && origin->n_unfinished)
			origin_record_done(origin, at.sequence, 0);
	}
}
