/* SPDX-License-Identifier: MIT */
/*
 * How what is written to a telemetry file is cut into messages.
 *
 * Between writes an open file has a `partial` message: the rest of a line, or a file so far. While it is not empty,
 * `held` bytes of the queue are promised to it. `refusing` is the error of everything up to the end of that line or
 * file; partial is empty then.
 *
 * A write that was not taken though it was good (the queue was full, the disk failed) is remembered: only who
 * repeats it goes on with the message it belongs to. Who ignores the error, as a shell's echo does, writes what
 * comes next, and a message with a hole would be worse than none. EAGAIN and EINTR are no such errors: they ask to
 * come again, and who does may have more to write by then.
 */

#include <assert.h>
#include <errno.h>

#include "flow/telemetry_files_internal.h"

/* --- what is promised to a partial message ---------------------------------------------------- */

/* Promises grow by steps, so that a line of small pieces does not ask each time. */
#define HOLD_STEP 4096

static uint64_t tfile_hold_bytes(const struct tfile *f, size_t n_partial)
{
	return n_partial
		       ? (n_partial + HOLD_STEP - 1) / HOLD_STEP * HOLD_STEP + telemetry_overhead(f->channel)
		       : 0;
}

/* Gives the promised room back for a moment, of which nobody hears: to use it, or to hold it again. Who is told of room
 * and finds none lends his own meanwhile: that must not be news of room. Returns the bytes in use before. */
static uint64_t tfile_lend(struct tfile *f)
{
	struct journal *journal = telemetry_journal(f->telemetry);
	uint64_t n_bytes = journal_n_bytes(journal);

	journal_lend(journal, f->held);
	f->held = 0;
	return n_bytes;
}

/* Less is in use than before the room was lent: that is news. */
static void tfile_lent(struct tfile *f, uint64_t n_bytes_before)
{
	if (journal_n_bytes(telemetry_journal(f->telemetry)) < n_bytes_before)
		telemetry_on_room(f->telemetry);
}

/* Only with room that was checked, or that was just given back. */
static void tfile_hold(struct tfile *f, uint64_t n_bytes)
{
	int r = telemetry_hold(f->telemetry, n_bytes);

	assert(r == 0);
	(void)r;
	f->held = n_bytes;
}

void tfile_drop_partial(struct tfile *f, int error)
{
	buf_consume(&f->partial, buf_len(&f->partial));
	telemetry_unhold(f->telemetry, f->held);
	f->held = 0;
	f->refusing = error;
}

/* FNV-1a. */
static uint64_t hash_bytes(struct bytes data)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < data.len; ++i)
		hash = (hash ^ data.data[i]) * UINT64_C(0x100000001b3);
	return hash;
}

void tfile_refuse(struct tfile *f, struct bytes data, int error)
{
	if (f->framing == FRAMING_RAW || error == -EAGAIN)
		return;
	f->refused = error;
	f->refused_len = data.len;
	f->refused_hash = hash_bytes(data);
	f->refused_ends = f->framing == FRAMING_LINES && data.data[data.len - 1] == '\n';
}

void tfile_note_undo(const struct tfile *f, struct bytes data, const struct taken *taken,
		     struct wait_write *out)
{
	out->number = f->n_taken;
	out->head_len = taken->head_len;
	out->hash = hash_bytes(data);
	out->ends = data.data[data.len - 1] == '\n';
}

void tfile_undo(struct tfile *f, const struct wait_write *write, struct bytes payload, int error)
{
	uint64_t n_held = tfile_hold_bytes(f, write->head_len), n_bytes;
	int r = f->n_taken == write->number && payload.len >= write->head_len ? 0 : error;

	buf_consume(&f->partial, buf_len(&f->partial));
	/* Borrowed until the journal is asked for room. */
	if (!r && write->head_len)
		r = buf_append(&f->partial, BYTES(payload.data, write->head_len));
	n_bytes = tfile_lend(f);
	if (!r)
		r = telemetry_hold(f->telemetry, n_held);
	f->held = r ? 0 : n_held;
	tfile_lent(f, n_bytes);
	if (r) {
		tfile_drop_partial(f, error);
		return;
	}
	f->refused = error;
	f->refused_len = write->size;
	f->refused_hash = write->hash;
	f->refused_ends = write->ends;
}

void tfile_begin_write(struct tfile *f, struct bytes data)
{
	int error = f->refused;

	f->refused = 0;
	if (error && (f->refused_len != data.len || f->refused_hash != hash_bytes(data)))
		tfile_drop_partial(f, f->refused_ends ? 0 : error);
}

int tfile_finish(struct tfile *f)
{
	uint64_t held = f->held, sequence, n_bytes;
	int r;

	f->refused = 0;
	if (buf_len(&f->partial)) {
		n_bytes = tfile_lend(f);
		r = telemetry_append(f->telemetry, f->channel, f->origin, buf_bytes(&f->partial),
				     BYTES(NULL, 0), &sequence);
		if (r) {
			tfile_hold(f, held);
			return r;
		}
		tfile_lent(f, n_bytes);
	}
	tfile_drop_partial(f, 0);
	return 0;
}

/* Room for what @taken asks, in place of what the file holds; which it holds again, unless this returns 0. */
static int tfile_reserve(struct tfile *f, struct taken *taken)
{
	uint64_t held = f->held;
	int r;

	tfile_lend(f);
	r = telemetry_reserve(f->telemetry, f->channel, taken->n_messages, taken->n_bytes, taken->n_held);
	if (r) {
		taken->is_disk = telemetry_has_room(f->telemetry, f->channel, taken->n_messages,
						    taken->n_bytes, taken->n_held);
		tfile_hold(f, held);
	}
	return r;
}

/* --- telemetry: lines ------------------------------------------------------------------------- */

/* What a write to a file of lines holds, counted before anything of it is taken. */
struct lines {
	uint64_t n_messages;
	uint64_t n_bytes; /* of their payload, the partial one's start included */
	size_t rest_at;   /* where the unterminated rest starts */
	bool too_long;    /* a message, or the rest, is over the limit */
};

static struct lines lines_scan(struct bytes data, size_t n_partial, size_t max)
{
	struct lines lines = {0};
	const uint8_t *newline;
	size_t len, n_before = n_partial;

	while (lines.rest_at < data.len &&
	       (newline = memchr(data.data + lines.rest_at, '\n', data.len - lines.rest_at))) {
		len = n_before + (size_t)(newline - data.data) - lines.rest_at;
		lines.n_messages += len > 0;
		lines.n_bytes += len;
		lines.too_long |= len > max;
		lines.rest_at = (size_t)(newline - data.data) + 1;
		n_before = 0;
	}
	lines.too_long |= n_before + data.len - lines.rest_at > max;
	return lines;
}

/* Appends the complete lines of @data, the first of them behind the partial message, which stays. Room was made; but
 * the disk can fail, and then none of them is there. */
static int lines_append(struct tfile *f, struct bytes data, struct taken *taken)
{
	struct bytes head = buf_bytes(&f->partial);
	const uint8_t *at = data.data, *end = data.data + data.len, *newline;
	int r;

	for (; at < end && (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
		size_t len = (size_t)(newline - at);

		if (head.len || len) {
			r = telemetry_append(f->telemetry, f->channel, f->origin, head, BYTES(at, len),
					     &taken->last);
			if (r) {
				telemetry_withdraw(f->telemetry, f->channel->lane, taken->first, taken->last);
				return r;
			}
		}
		head = BYTES(NULL, 0);
	}
	return 0;
}

/* Takes nothing of this write, nor of the line it ends in. */
static int lines_refuse(struct tfile *f, struct bytes data, int error)
{
	tfile_drop_partial(f, data.data[data.len - 1] == '\n' ? 0 : error);
	return error;
}

static int lines_take(struct tfile *f, struct bytes data, struct taken *taken)
{
	size_t n_partial = buf_len(&f->partial);
	uint64_t held = f->held, n_bytes = journal_n_bytes(telemetry_journal(f->telemetry));
	struct lines lines;
	struct bytes rest;
	uint8_t *at;
	int r;

	if (f->refusing)
		return lines_refuse(f, data, f->refusing);
	lines = lines_scan(data, n_partial, telemetry_payload_max(f->telemetry, f->channel));
	if (lines.too_long)
		return lines_refuse(f, data, -EMSGSIZE);
	rest = BYTES(data.data + lines.rest_at, data.len - lines.rest_at);
	taken->n_messages = lines.n_messages;
	taken->n_bytes = lines.n_bytes;
	taken->n_held = tfile_hold_bytes(f, rest.len + (lines.rest_at ? 0 : n_partial));
	taken->is_split = rest.len || n_partial;
	taken->head_len = n_partial;
	taken->is_good = true;
	/* Before anything is appended, so that only the queue can refuse from here on. */
	r = rest.len ? buf_reserve(&f->partial, rest.len, &at) : 0;
	if (!r)
		r = tfile_reserve(f, taken);
	if (r)
		return r;
	r = lines_append(f, BYTES(data.data, lines.rest_at), taken);
	if (r) {
		tfile_hold(f, held);
		return r;
	}
	if (lines.rest_at)
		buf_consume(&f->partial, n_partial);
	tfile_hold(f, taken->n_held);
	tfile_lent(f, n_bytes);
	r = buf_append(&f->partial, rest);
	assert(r == 0);
	return 0;
}

/* --- telemetry.raw: writes -------------------------------------------------------------------- */

static int raw_take(struct tfile *f, struct bytes data, struct taken *taken)
{
	int r;

	if (data.len > telemetry_payload_max(f->telemetry, f->channel))
		return -EMSGSIZE;
	taken->is_good = true;
	taken->n_messages = 1;
	taken->n_bytes = data.len;
	r = tfile_reserve(f, taken);
	if (r)
		return r;
	return telemetry_append(f->telemetry, f->channel, f->origin, data, BYTES(NULL, 0), &taken->last);
}

/* --- telemetry.file: open to close ------------------------------------------------------------ */

/* On a channel that blocks, a file has room to its end from its first write on: files that have some of it, and wait for
 * more, would wait for one another. */
static uint64_t file_hold_bytes(const struct tfile *f, size_t len)
{
	uint64_t overhead = telemetry_overhead(f->channel);
	size_t max = telemetry_payload_max(f->telemetry, f->channel);

	if (len + overhead <= f->held)
		return f->held;
	return f->channel->when_full == CHANNEL_FULL_BLOCK ? max + overhead : tfile_hold_bytes(f, len);
}

static int file_take(struct tfile *f, struct bytes data, struct taken *taken)
{
	size_t len = buf_len(&f->partial) + data.len;
	uint8_t *at;
	int r;

	if (!f->refusing && len > telemetry_payload_max(f->telemetry, f->channel))
		tfile_drop_partial(f, -EMSGSIZE);
	if (f->refusing)
		return f->refusing;
	taken->is_good = true;
	taken->n_held = file_hold_bytes(f, len);
	r = buf_reserve(&f->partial, data.len, &at);
	if (!r)
		r = tfile_reserve(f, taken);
	if (r)
		return r;
	tfile_hold(f, taken->n_held);
	r = buf_append(&f->partial, data);
	assert(r == 0);
	return 0;
}

/* --- all -------------------------------------------------------------------------------------- */

static int framing_take(struct tfile *f, struct bytes data, struct taken *taken)
{
	*taken = (struct taken){.first = journal_appended(telemetry_journal(f->telemetry)) + 1};
	switch (f->framing) {
	case FRAMING_LINES:
		return lines_take(f, data, taken);
	case FRAMING_RAW:
		return raw_take(f, data, taken);
	case FRAMING_FILE:
		return file_take(f, data, taken);
	case N_FRAMINGS:
		break;
	}
	return -EINVAL;
}

bool tfile_is_promised(const struct tfile *f, struct bytes data)
{
	size_t n_partial = buf_len(&f->partial), max = telemetry_payload_max(f->telemetry, f->channel);
	struct lines lines;

	if (f->framing == FRAMING_FILE)
		return n_partial + data.len + telemetry_overhead(f->channel) <= f->held;
	if (f->framing == FRAMING_RAW || !f->held)
		return false;
	lines = lines_scan(data, n_partial, max);
	return !lines.too_long &&
	       lines.n_bytes + lines.n_messages * telemetry_overhead(f->channel) +
			       tfile_hold_bytes(f,
						data.len - lines.rest_at + (lines.rest_at ? 0 : n_partial)) <=
		       f->held;
}

bool tfile_is_promised_all(const struct tfile *f)
{
	return f->framing == FRAMING_FILE &&
	       f->held >= telemetry_payload_max(f->telemetry, f->channel) + telemetry_overhead(f->channel);
}

void tfile_give_up(struct tfile *f, struct bytes data)
{
	if (f->framing != FRAMING_RAW)
		tfile_drop_partial(
			f, f->framing == FRAMING_LINES && data.data[data.len - 1] == '\n' ? 0 : -ENOSPC);
}

int tfile_take(struct tfile *f, struct bytes data, struct taken *taken)
{
	int r = framing_take(f, data, taken);

	f->n_taken += !r;
	return r;
}
