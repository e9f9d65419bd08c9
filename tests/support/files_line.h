/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_FILES_LINE_H
#define TESTS_SUPPORT_FILES_LINE_H

/*
 * The telemetry files with their queue, behind a tree without a kernel (fuse_line.h), on a real journal in memory's
 * file system, and in front of a hub that is the test (link_line.h).
 */

#include "flow/telemetry_files.h"
#include "journal/journal.h"
#include "tests/support/fuse_line.h"
#include "tests/support/link_line.h"

struct files_line_options {
	uint64_t queue_bytes;
	uint64_t run;        /* the first half of message ids */
	uint64_t timeout_ns; /* how long writers wait; 0 = for ever */
	bool is_durable;
	struct journal_guard *guard;
};

struct files_line {
	struct link_line hub;
	struct journal *journal;
	struct channels *channels;
	struct waiters *waiters;
	struct telemetry *telemetry;
	struct fuse_tree *tree;
	struct telemetry_files *files;
	struct fuse_line line;
	struct files_line_options options;
	char dir[64];
	char events[4096]; /* `event: text` lines */
	uint64_t n_rejected;
	char rejected[256]; /* payload of the last one, and why */
	char reason[256];
	uint64_t n_room, n_empty; /* times that was said */
};

void files_line_init(struct files_line *f, const struct files_line_options *options);
/* Works with a zeroed struct, and in a process that did not make it. */
void files_line_deinit(struct files_line *f);
/* The daemon ends and another one finds its journal; no file is open. */
void files_line_restart(struct files_line *f);

/* The default channel. */
struct channel *files_line_default(struct files_line *f);
/* Makes a channel, with its files in a directory of its name in the root. */
struct channel *files_line_add(struct files_line *f, const char *name);
/* The node id of a file of it. */
uint64_t files_line_lookup(struct files_line *f, const char *channel, const char *name);

/* Writes @text with @flags to a fresh open of the file and closes it, as echo does; the result. The write may not
 * wait. */
int files_line_echo(struct files_line *f, uint64_t node_id, const char *text);

/* Turns the loop until everything that is due has been done, or once more than there is. */
void files_line_turn(struct files_line *f);
/* Turns it until the request has an answer, which it returns. */
int files_line_await(struct files_line *f, uint64_t unique);
/* Turns it until all that was written is stored. */
void files_line_await_stored(struct files_line *f);

/* Online, with the session it had or a new one; and offline. */
void files_line_online(struct files_line *f, bool session_present);
void files_line_offline(struct files_line *f);
/* The hub ends the connection; @status: of its DISCONNECT, or NULL. */
void files_line_disconnect(struct files_line *f, uint8_t reason, const char *status);

/* The next PUBLISH the hub has not seen; false: there is none. */
bool files_line_next(struct files_line *f, struct mqtt_packet *out);
/* The hub's answer. @status: "0501", or NULL. */
void files_line_puback(struct files_line *f, uint16_t packet_id, uint8_t reason, const char *status);
/* Takes the next message, which is expected to have that payload, and acknowledges it unless @keep. Returns its
 * packet id. */
uint16_t files_line_expect(struct files_line *f, const char *payload, bool keep);
void files_line_expect_none(struct files_line *f);

/* The hub takes all records up to @last without being asked; offline only. */
void files_line_take(struct files_line *f, uint64_t last);

/* Records in the queue. */
uint64_t files_line_n_queued(struct files_line *f);

#endif
