/* SPDX-License-Identifier: MIT */
#ifndef FLOW_CHANNEL_H
#define FLOW_CHANNEL_H

/*
 * Channels: each is a way for telemetry to the hub, with properties that all its messages get and a policy of
 * delivery. `default` is always there; users make others with mkdir, or the configuration declares them. What users
 * set is kept in a file of the state directory.
 *
 * Appending uses what is ready in struct channel: the lane, and the encoded properties. Setting a value makes both
 * anew; messages that are queued stay as they are, those of a removed channel too: they still go out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "flow/stamp.h"
#include "journal/journal.h"
#include "loop/loop.h"

#define CHANNEL_DEFAULT "default"
/* The default one included; one more is -ENOSPC. */
#define CHANNELS_MAX 64
/* Of a name, in bytes: letters, digits, '-', '_' and '.', not first. */
#define CHANNEL_NAME_MAX JOURNAL_CHANNEL_NAME_MAX
/* Of one value, in bytes; values are UTF-8 without control characters. */
#define CHANNEL_VALUE_MAX 1024
/* Application properties, and bytes of all encoded properties together, besides the daemon's own two. */
#define CHANNEL_PROPERTIES_MAX     64
#define CHANNEL_PROPERTY_BYTES_MAX 16384
#define CHANNEL_TTL_MAX            315360000 /* ten years, in seconds */
#define CHANNEL_PRIORITY_MAX       9
#define CHANNEL_PRIORITY_DEFAULT   5

/* When write(2) returns. */
enum channel_ack {
	CHANNEL_ACK_QUEUED, /* appended: survives the daemon */
	CHANNEL_ACK_STORED, /* on the disk: survives power loss */
	CHANNEL_ACK_HUB,    /* acknowledged by the hub */
	CHANNEL_N_ACKS,
};

enum channel_when_full {
	CHANNEL_FULL_REJECT,      /* ENOSPC */
	CHANNEL_FULL_BLOCK,       /* wait; EAGAIN with O_NONBLOCK */
	CHANNEL_FULL_DROP_OLDEST, /* of this channel */
	CHANNEL_N_FULLS,
};

/* The values of one word each: first-class and user properties of every message. */
enum channel_text {
	CHANNEL_TEXT_CONTENT_TYPE,
	CHANNEL_TEXT_CONTENT_ENCODING,
	CHANNEL_TEXT_USER_ID,
	CHANNEL_TEXT_CORRELATION_ID,
	CHANNEL_N_TEXTS,
};

/* Messages, since the daemon started. */
struct channel_stats {
	uint64_t n_appended;
	uint64_t n_stored;
	uint64_t n_acked;
	uint64_t n_retried; /* PUBLISH packets of messages sent before */
	uint64_t n_rejected;
	uint64_t n_expired;
	uint64_t n_dropped;
};

struct channels;
struct channel_properties; /* name and value, owned by channel.c */

struct channel {
	struct list link; /* of all channels, in the order they were made */
	struct channels *owner;
	char name[CHANNEL_NAME_MAX + 1];
	uint16_t number; /* never used again for another name; 0: default */
	enum channel_ack ack;
	enum channel_when_full when_full;
	uint32_t ttl_s; /* 0 = for ever */
	uint8_t priority;
	char *texts[CHANNEL_N_TEXTS]; /* NULL = not sent */
	struct channel_properties *properties;
	struct journal_lane *lane; /* for what is appended now */
	struct stamp stamp;        /* what every message gets */
	struct channel_stats stats;
	/* telemetry.c's, to know how many are stored: `mark_n` are numbered up to `mark_sequence`; of `n_settled`, up to
	 * `settled_sequence`, it is known. */
	uint64_t last_sequence, mark_sequence, mark_n, settled_sequence, n_settled;
	unsigned int n_files; /* open files; the channel is freed when it was removed and this is 0 */
	bool removed;
	/* channel.c's: by number; what users did, which is kept and goes before the declaration. */
	struct list number_link;
	bool made;               /* by mkdir(2): is there without a declaration */
	unsigned int set_fields; /* bits of enum channel_field */
};

/* What users can set; properties as a whole. */
enum channel_field {
	CHANNEL_FIELD_ACK,
	CHANNEL_FIELD_WHEN_FULL,
	CHANNEL_FIELD_TTL,
	CHANNEL_FIELD_PRIORITY,
	CHANNEL_FIELD_PROPERTIES,
	CHANNEL_FIELD_TEXTS, /* one for each text from here on */
};

/* One channel as the configuration declares it; users' settings go before. Strings are borrowed. */
struct channel_declaration {
	const char *name;
	enum channel_ack ack;
	enum channel_when_full when_full;
	uint32_t ttl_s;
	uint8_t priority;
	const char *texts[CHANNEL_N_TEXTS];
	const char *const *property_names; /* without the '@' */
	const char *const *property_values;
	size_t n_properties;
};

struct channels_options {
	struct loop *loop;
	struct log *log;
	struct journal *journal; /* borrowed */
	const char *path;        /* of channels.json; NULL: nothing is kept */
	uint64_t run;            /* see stamp.h */
	const struct channel_declaration *declarations;
	size_t n_declarations;
	/* A line for `events`: `channels-error`. May be NULL. */
	void (*on_event)(void *userdata, const char *event, const char *text);
	void *userdata;
};

/* Makes `default`, what is declared and what was kept. A file that is damaged is set aside, which is logged, and
 * is no error; one that the disk cannot read now stays until something is changed, and is set aside then. Returns 0, -ENOMEM or -ENOSPC (declared too many). */
int channels_new(struct channels **out, const struct channels_options *options);
/* No file of a channel is open. What is being written in the loop ends by itself. NULL is fine. */
void channels_free(struct channels *channels);

/*
 * What was changed until now is the change with this number. Once channels_kept() has reached it, it is on the disk,
 * unless there was an error: channels_kept_error() is that of the last try, 0 = none or one is under way. @fn is called from the loop
 * after each try, until channels_free(). Where nothing is kept all is at once.
 */
uint64_t channels_changed(const struct channels *channels);
uint64_t channels_kept(const struct channels *channels);
int channels_kept_error(const struct channels *channels);
/* Tries again if the last try failed; a change like others. */
void channels_keep(struct channels *channels);
void channels_watch(struct channels *channels, void (*fn)(void *userdata), void *userdata);

struct channel *channels_default(struct channels *channels);
/* NULL: there is none (any more). */
struct channel *channels_find(struct channels *channels, const char *name);
struct channel *channels_by_number(struct channels *channels, uint16_t number);
/* NULL @after is the first; NULL at the end. */
struct channel *channels_next(struct channels *channels, struct channel *after);

/* -EINVAL (name), -EEXIST, -ENOSPC, -ENOMEM. */
int channels_add(struct channels *channels, const char *name, struct channel **out);
/* Its queued messages still go out. -EBUSY: `default`. A declared one comes back with the next start. */
int channels_remove(struct channel *channel);
/* An open file begins and ends to use the channel. */
void channel_ref(struct channel *channel);
void channel_unref(struct channel *channel);

/* Values as text. @out of the getters: the value or "", borrowed. Setters: 0, -EINVAL (the value), -EMSGSIZE (too long, or
 * all properties together), -ENOMEM, -ENOSPC (too many properties; too many lanes). "" is not sent. */
const char *channel_ack_name(enum channel_ack ack);
const char *channel_when_full_name(enum channel_when_full when_full);
/* The name of its file: "content-type". */
const char *channel_text_name(enum channel_text which);
int channel_ack_parse(struct bytes text, enum channel_ack *out);
int channel_when_full_parse(struct bytes text, enum channel_when_full *out);
int channel_set_ack(struct channel *channel, enum channel_ack ack);
int channel_set_when_full(struct channel *channel, enum channel_when_full when_full);
int channel_set_ttl(struct channel *channel, uint32_t ttl_s);
int channel_set_priority(struct channel *channel, uint8_t priority);
int channel_set_text(struct channel *channel, enum channel_text which, struct bytes value);
/* @name without the '@', at most 255 bytes, UTF-8 without control characters. */
int channel_set_property(struct channel *channel, const char *name, struct bytes value);
const char *channel_property(const struct channel *channel, const char *name); /* NULL: there is none */
int channel_remove_property(struct channel *channel, const char *name);        /* -ENOENT, -ENOMEM */
/* Gives @name another name, in the place of what has that one. Returns as channel_set_property(), or -ENOENT. */
int channel_rename_property(struct channel *channel, const char *name, const char *new_name);
/* Name of the property at @i, in the order they were added; NULL at the end. */
const char *channel_property_name(const struct channel *channel, size_t i);

/* The length of the encoded properties of each of its messages, in bytes. */
static inline size_t channel_properties_len(const struct channel *channel)
{
	return stamp_len(&channel->stamp);
}

#endif
