/* SPDX-License-Identifier: MIT */
#ifndef FLOW_TELEMETRY_FILES_INTERNAL_H
#define FLOW_TELEMETRY_FILES_INTERNAL_H

/*
 * The inside of the telemetry files: telemetry_files.c (the files, their waiting and polling), telemetry_framing.c
 * (how what is written is cut into messages).
 */

#include "base/buf.h"
#include "base/list.h"
#include "flow/telemetry_files.h"

enum framing {
	FRAMING_LINES,
	FRAMING_RAW,
	FRAMING_FILE,
	N_FRAMINGS,
};

/* An open file. */
struct tfile {
	struct telemetry_files *owner;
	struct telemetry *telemetry;
	struct fuse_file *file;
	struct channel *channel; /* referenced */
	struct origin *origin;   /* NULL: closed */
	enum framing framing;
	struct list link; /* telemetry_files.spare or .late */
	struct list full; /* telemetry_files.full */
	struct buf partial;
	uint64_t held;
	uint64_t n_taken; /* writes */
	uint64_t walk;    /* over the blocked writes, the last that came to one of its */
	int refusing;     /* 0 or negative */
	int refused; /* the error of the write that was not taken and can be repeated; 0 = none since one that was */
	size_t refused_len; /* of its bytes */
	uint64_t refused_hash;
	bool refused_ends; /* it ended with a newline */
};

/* What a write came to, or would have. */
struct taken {
	uint64_t first, last; /* the messages it completed; none when last < first */
	bool is_split;        /* a part of them, or of the next one, is of another write */
	size_t head_len;      /* of the first, bytes that were there before */
	bool is_good;         /* it can be tried again: only the queue or the disk is in its way */
	bool is_disk;         /* the queue is not */
	uint64_t n_messages;  /* what was asked of the queue */
	uint64_t n_bytes, n_held;
};

/* --- telemetry_framing.c --- */

/* A writer is at it: whether it goes on without what was refused, and what that leads to. */
void tfile_begin_write(struct tfile *f, struct bytes data);
/* Takes a write, all of it or nothing. Returns 0; -EMSGSIZE; what the message was refused with before; or, with
 * @taken->is_good, as telemetry_reserve(). */
int tfile_take(struct tfile *f, struct bytes data, struct taken *taken);
/* A write that could be tried again is not: the writer was told the error. After -EAGAIN any write may be next. */
void tfile_refuse(struct tfile *f, struct bytes data, int error);

/* The same, of one that holds room others wait for: it cannot be repeated, and nothing is held any more. */
void tfile_give_up(struct tfile *f, struct bytes data);
/* Whether what is promised is enough for the write. */
bool tfile_is_promised(const struct tfile *f, struct bytes data);
/* Whether that is so for any write that may follow. */
bool tfile_is_promised_all(const struct tfile *f);

/* Fills in what tfile_undo() needs. */
void tfile_note_undo(const struct tfile *f, struct bytes data, const struct taken *taken,
		     struct wait_write *out);
/* Its messages could not be stored: all is as before the write, and that one can be repeated. @payload: of the first
 * message. */
void tfile_undo(struct tfile *f, const struct wait_write *write, struct bytes payload, int error);

/* Refuses all up to the end of the line or file, with the message under way. */
void tfile_drop_partial(struct tfile *f, int error);
/* Makes a message of what there is, if that is something. An error leaves it as it was. */
int tfile_finish(struct tfile *f);

#endif
