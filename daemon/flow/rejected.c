/* SPDX-License-Identifier: MIT */
/*
 * The table of rejected messages, see rejected.h; their files are in rejected_files.c.
 *
 * All lie in one lane of the journal, which sends nothing of it. A record there has the message's properties as they
 * were, and a payload of
 *
 *     0  u8  1
 *     1  u8  0
 *     2  u16 number of the message's channel
 *     4  u32 length of the reason
 *     8      the reason, then the message's payload
 *
 * with numbers in network order. It is valid when the reason ends within it. One that is not valid was written by
 * somebody newer: it stays where it is, and is not shown.
 *
 * Of a message memory has the reason and where the record lies, so the table is small whatever is in the journal.
 */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/cursor.h"
#include "flow/rejected_internal.h"

#define PAYLOAD_VERSION  1
#define PAYLOAD_OVERHEAD 8
/* Of drafts together; what goes beyond is kept at once or not at all. */
#define DRAFT_BYTES_MAX (UINT64_C(1) << 20)

/* A record to be: its properties, then its payload. */
struct draft {
	struct list link;
	uint64_t time_ms;
	size_t properties_len;
	size_t payload_len;
	uint8_t bytes[];
};

/* --- messages --------------------------------------------------------------------------------- */

static void message_free(struct rejected_message *message)
{
	free(message->reason);
	free(message);
}

void rejected_message_unref(struct rejected_message *message)
{
	assert(message->n_nodes > 0);
	if (--message->n_nodes == 0 && !list_is_linked(&message->link))
		message_free(message);
}

/* Out of the table, its record goes. */
static void message_end(struct rejected_message *message)
{
	if (!message->lost)
		journal_withdraw(message->owner->options.journal, &message->at);
	list_remove(&message->link);
	if (message->n_nodes == 0)
		message_free(message);
}

/* Out of the table, the record stays for the time being. */
static void message_leave(struct rejected_message *message)
{
	struct rejected *r = message->owner;

	list_remove(&message->link);
	list_append(&r->leaving, &message->link);
	--r->n_messages;
	r->n_bytes -= message->n_bytes;
	rejected_files_remove(message);
}

void rejected_drop(struct rejected_message *message)
{
	/* Gone, or on its way: its directory is open. */
	if (!list_is_linked(&message->link) || message->again)
		return;
	message_leave(message);
	message_end(message);
}

static struct rejected_message *oldest(struct rejected *r)
{
	struct list *link = list_first(&r->messages);

	return link ? container_of(link, struct rejected_message, link) : NULL;
}

static void drop_oldest(struct rejected *r)
{
	struct rejected_message *message = oldest(r);

	++r->n_dropped;
	if (r->options.events)
		events_emit(r->options.events, "rejected-dropped", NULL,
			    "%" PRIu64 " was the oldest of too many rejected messages", message->id);
	rejected_drop(message);
}

/* A single message may be larger than the bound. */
static void enforce_bounds(struct rejected *r)
{
	while (r->n_messages > REJECTED_MAX ||
	       (r->n_messages > 1 && r->n_bytes > journal_max_bytes(r->options.journal) / 4))
		drop_oldest(r);
}

/* --- records ---------------------------------------------------------------------------------- */

struct parts {
	uint16_t channel;
	struct bytes reason;
	struct bytes payload;
};

static bool payload_decode(struct bytes payload, struct parts *out)
{
	struct reader r = reader_init(payload);
	uint8_t version = reader_u8(&r);

	(void)reader_u8(&r);
	out->channel = reader_u16(&r);
	out->reason = reader_take(&r, reader_u32(&r));
	out->payload = reader_take(&r, reader_left(&r));
	return !r.error && version == PAYLOAD_VERSION;
}

int rejected_read(struct rejected_message *message, struct bytes *properties, struct bytes *payload)
{
	struct journal_record record;
	struct parts parts;
	int r;

	if (!list_is_linked(&message->link))
		return -ESTALE;
	if (message->lost)
		return -EIO;
	r = journal_read(&message->at, &record);
	if (!r && !payload_decode(record.payload, &parts))
		r = -EBADMSG;
	if (r == -EBADMSG) {
		/* Whoever asks may be using its nodes. */
		message->unreadable = true;
		loop_defer(message->owner->options.loop, &message->owner->deferred);
	}
	if (r)
		return -EIO;
	*properties = record.properties;
	*payload = parts.payload;
	return 0;
}

/* The message of the record at @at joins the table. Returns 0, -ENOMEM, or -EBADMSG or -EIO: there is none that can be read
 * (now). */
static int message_add(struct rejected *r, const struct journal_cursor *at)
{
	struct rejected_message *message;
	struct journal_record record;
	struct parts parts;
	int error = journal_read(at, &record);

	if (error == -EBADMSG)
		journal_withdraw(r->options.journal, at);
	if (error)
		return error;
	if (!payload_decode(record.payload, &parts)) {
		log_warning(r->options.log, "a rejected message cannot be shown: a newer iothubd wrote it");
		return -EBADMSG;
	}
	message = calloc(1, sizeof(*message));
	if (!message || !(message->reason = malloc(parts.reason.len + 1))) {
		free(message);
		return -ENOMEM;
	}
	message->owner = r;
	message->at = *at;
	message->id = record.sequence;
	message->time_ms = record.time_ms;
	message->n_bytes = JOURNAL_RECORD_OVERHEAD + record.properties.len + record.payload.len;
	message->payload_len = parts.payload.len;
	message->channel = parts.channel;
	if (parts.reason.len)
		memcpy(message->reason, parts.reason.data, parts.reason.len);
	message->reason[parts.reason.len] = '\n';
	message->reason_len = parts.reason.len + 1;
	list_append(&r->messages, &message->link);
	++r->n_messages;
	r->n_bytes += message->n_bytes;
	rejected_files_add(message);
	return 0;
}

/* --- keep ------------------------------------------------------------------------------------- */

/* One line, whatever the hub said. */
static void reason_put(struct writer *w, const char *reason, size_t len)
{
	uint8_t *to = writer_reserve(w, len);

	for (size_t i = 0; to && i < len; ++i)
		to[i] = (uint8_t)reason[i] < 0x20 || reason[i] == 0x7f ? '?' : (uint8_t)reason[i];
}

static struct draft *draft_new(const struct journal_record *record, const char *reason, uint64_t now_ms)
{
	size_t reason_len = strnlen(reason, REJECTED_REASON_MAX);
	size_t payload_len = PAYLOAD_OVERHEAD + reason_len + record->payload.len;
	struct draft *draft = malloc(sizeof(*draft) + record->properties.len + payload_len);
	struct writer w;

	if (!draft)
		return NULL;
	list_init(&draft->link);
	draft->time_ms = now_ms;
	draft->properties_len = record->properties.len;
	draft->payload_len = payload_len;
	w = writer_init(draft->bytes, record->properties.len + payload_len);
	writer_bytes_put(&w, record->properties);
	writer_u8(&w, PAYLOAD_VERSION);
	writer_u8(&w, 0);
	writer_u16(&w, record->channel);
	writer_u32(&w, (uint32_t)reason_len);
	reason_put(&w, reason, reason_len);
	writer_bytes_put(&w, record->payload);
	assert(!w.error);
	return draft;
}

static struct bytes draft_reason(const struct draft *draft)
{
	struct parts parts = {.reason = BYTES(NULL, 0)};

	(void)payload_decode(BYTES(draft->bytes + draft->properties_len, draft->payload_len), &parts);
	return parts.reason;
}

static size_t draft_len(const struct draft *draft)
{
	return draft->properties_len + draft->payload_len;
}

/* The last message of the table is new. */
static void tell_kept(struct rejected *r)
{
	const struct rejected_message *message =
		container_of(r->messages.prev, struct rejected_message, link);
	char file[64], reason[REJECTED_REASON_MAX + 1];

	snprintf(file, sizeof(file), "rejected/%" PRIu64, message->id);
	snprintf(reason, sizeof(reason), "%.*s", (int)message->reason_len - 1, message->reason);
	if (log_once_changed(&r->logged, reason))
		log_warning(r->options.log, "the hub does not take a message, which is kept as %s: %s", file,
			    reason);
	if (r->options.events)
		events_emit(r->options.events, "rejected", file, "%s", reason);
}

/* Returns 0, or the error of the journal. */
static int draft_append(struct rejected *r, const struct draft *draft)
{
	uint8_t *properties, *payload;
	struct journal_cursor at;
	uint64_t sequence;
	int error;

	error = journal_append(r->lane, 0, draft->time_ms, draft->properties_len, draft->payload_len,
			       &properties, &payload);
	if (error)
		return error;
	memcpy(properties, draft->bytes, draft->properties_len);
	memcpy(payload, draft->bytes + draft->properties_len, draft->payload_len);
	error = journal_commit(r->lane, &sequence);
	if (error)
		return error;
	if (journal_is_durable(r->options.journal))
		journal_sync(r->options.journal);
	if (!journal_find(r->lane, sequence, &at))
		return -EIO;
	error = message_add(r, &at);
	if (error)
		return error;
	tell_kept(r);
	enforce_bounds(r);
	return 0;
}

static void lost(struct rejected *r, struct bytes reason, int error)
{
	log_error(r->options.log, "a message the hub rejected (%.*s) could not be kept, it is lost: %s",
		  (int)reason.len, (const char *)reason.data, strerror(-error));
	if (r->options.events)
		events_emit(r->options.events, "rejected-lost", NULL,
			    "a message the hub rejected could not be kept: %s", strerror(-error));
}

static void drop_unreadable(struct rejected *r)
{
	list_for_each_safe (link, &r->messages) {
		struct rejected_message *message = container_of(link, struct rejected_message, link);

		if (message->unreadable)
			rejected_drop(message);
	}
}

/* The originals are out of the queue. */
static void on_deferred(struct loop_deferred *deferred)
{
	struct rejected *r = container_of(deferred, struct rejected, deferred);
	struct list *link;

	drop_unreadable(r);
	while ((link = list_first(&r->drafts))) {
		struct draft *draft = container_of(link, struct draft, link);
		int error = draft_append(r, draft);

		/* What comes now says more about what is wrong now; on a full disk, dropping is no help. */
		while (error == -ENOSPC && r->n_messages &&
		       !journal_has_room(r->options.journal, 1, draft_len(draft))) {
			drop_oldest(r);
			error = draft_append(r, draft);
		}
		if (error)
			lost(r, draft_reason(draft), error);
		list_remove(&draft->link);
		free(draft);
	}
	r->n_draft_bytes = 0;
}

void rejected_keep(struct rejected *r, const struct journal_record *record, const char *reason)
{
	struct draft *draft = draft_new(record, reason, loop_wall_ms(r->options.loop));
	int error = draft ? draft_append(r, draft) : -ENOMEM;

	if (error == -ENOSPC && r->n_draft_bytes + draft_len(draft) <= DRAFT_BYTES_MAX) {
		list_append(&r->drafts, &draft->link);
		r->n_draft_bytes += draft_len(draft);
		loop_defer(r->options.loop, &r->deferred);
		return;
	}
	if (error)
		lost(r, draft ? draft_reason(draft) : bytes_from_str(reason), error);
	free(draft);
}

/* --- retry ------------------------------------------------------------------------------------ */

int rejected_retry(struct rejected_message *message)
{
	const struct rejected_options *options = &message->owner->options;
	_cleanup_(free_ptr) uint8_t *copy = NULL;
	struct bytes properties, payload;
	struct channel *channel;
	int r;

	if (message->again)
		return -ESTALE;
	if (telemetry_is_closed(options->telemetry))
		return -ESHUTDOWN;
	r = rejected_read(message, &properties, &payload);
	if (r)
		return r;
	/* Appending may unmap what is read. */
	copy = malloc(properties.len + payload.len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, properties.data, properties.len);
	memcpy(copy + properties.len, payload.data, payload.len);
	channel = channels_by_number(options->channels, message->channel);
	if (!channel)
		channel = channels_default(options->channels);
	r = telemetry_append_again(options->telemetry, channel, BYTES(copy, properties.len),
				   BYTES(copy + properties.len, payload.len));
	if (r)
		return r;
	message->again = journal_appended(options->journal);
	message_leave(message);
	if (journal_is_durable(options->journal))
		journal_sync(options->journal);
	else
		message_end(message);
	return 0;
}

/* After an error the record stays: the next start shows the message again, and it may be sent twice, with one
 * message-id. */
void rejected_on_stored(struct rejected *r, uint64_t sequence, int error)
{
	list_for_each_safe (link, &r->leaving) {
		struct rejected_message *message = container_of(link, struct rejected_message, link);

		if (message->again > sequence)
			continue;
		if (error)
			message->again = UINT64_MAX;
		else
			message_end(message);
	}
}

static void list_lose(struct list *messages, const struct journal_lane *lane, uint64_t first, uint64_t last)
{
	list_for_each (link, messages) {
		struct rejected_message *message = container_of(link, struct rejected_message, link);

		if (message->at.lane == lane && message->id >= first && message->id <= last)
			message->lost = message->unreadable = true;
	}
}

void rejected_on_lost(struct rejected *r, const struct journal_lane *lane, uint64_t first, uint64_t last)
{
	list_lose(&r->messages, lane, first, last);
	list_lose(&r->leaving, lane, first, last);
	/* Not from within the journal. */
	loop_defer(r->options.loop, &r->deferred);
}

/* --- life cycle ------------------------------------------------------------------------------- */

/* Takes over what is in a lane, which an earlier version may have numbered in another way. */
static int lane_recover(struct rejected *r, struct journal_lane *lane)
{
	struct journal_cursor at;
	bool more = journal_first(lane, &at);

	while (more) {
		struct journal_cursor next;
		int error;

		/* Before the record goes, if it does. */
		more = journal_next(&at, &next);
		error = message_add(r, &at);
		if (error == -ENOMEM)
			return error;
		at = next;
	}
	return 0;
}

static int rejected_recover(struct rejected *r)
{
	const struct journal_lane_key key = {
		.kind = JOURNAL_KIND_REJECTED,
		.priority = CHANNEL_PRIORITY_DEFAULT,
		.channel_name = CHANNEL_DEFAULT,
	};
	int error = journal_lane_get(r->options.journal, &key, &r->lane);

	if (!error)
		error = lane_recover(r, r->lane);
	if (!error)
		enforce_bounds(r);
	return error;
}

int rejected_new(struct rejected **out, const struct rejected_options *options)
{
	struct rejected *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	r->options = *options;
	list_init(&r->messages);
	list_init(&r->leaving);
	list_init(&r->drafts);
	loop_deferred_init(&r->deferred, on_deferred);
	error = rejected_recover(r);
	if (error) {
		rejected_free(r);
		return error;
	}
	*out = r;
	return 0;
}

static void messages_free(struct list *messages)
{
	list_for_each_safe (link, messages) {
		struct rejected_message *message = container_of(link, struct rejected_message, link);

		assert(message->n_nodes == 0);
		list_remove(link);
		message_free(message);
	}
}

void rejected_free(struct rejected *r)
{
	if (!r)
		return;
	assert(!r->dir);
	loop_undefer(&r->deferred);
	list_for_each_safe (link, &r->drafts) {
		list_remove(link);
		free(container_of(link, struct draft, link));
	}
	messages_free(&r->messages);
	messages_free(&r->leaving);
	if (r->lane)
		journal_lane_put(r->lane);
	free(r);
}

uint64_t rejected_n(const struct rejected *r)
{
	return r->n_messages;
}

uint64_t rejected_n_dropped(const struct rejected *r)
{
	return r->n_dropped;
}
