/* SPDX-License-Identifier: MIT */
#ifndef FLOW_CHANNEL_INTERNAL_H
#define FLOW_CHANNEL_INTERNAL_H

/* What channel.c, channel_values.c and channel_store.c share; nobody else includes it. */

#include "flow/channel.h"
#include "flow/store.h"

#define CHANNEL_N_BUCKETS 64

struct channels {
	struct loop *loop;
	struct log *log;
	struct journal *journal;
	uint64_t run;
	struct list all;
	size_t n;
	struct list by_number[CHANNEL_N_BUCKETS];
	uint16_t next_number; /* to try first; not 0 */
	struct store *store;  /* NULL: nothing is kept, or not yet */
	/* Changes, those that are in what was encoded last, and those that were tried. */
	uint64_t n_changes, n_encoded, n_tried;
	void (*on_kept)(void *userdata);
	void *userdata;
	void (*on_event)(void *userdata, const char *event, const char *text);
	void *event_userdata;
	bool told_error; /* of the last try */
	struct loop_deferred tell_unread;
};

/* In the order they were added; strings are owned. */
struct channel_properties {
	size_t n;
	struct channel_property {
		char *name, *value;
	} items[CHANNEL_PROPERTIES_MAX];
};

static inline unsigned int channel_field_bit(unsigned int field)
{
	return 1u << field;
}

/* As channels_add(), with the number @number if that is free, 0 = any; not made by a user yet, and nothing is saved. */
int channels_make(struct channels *channels, const char *name, uint16_t number, struct channel **out);
/* Takes it out; the number is free when the journal has nothing of it. */
void channels_drop(struct channel *channel);

/* Keeps what is now; there is a store. */
void channels_save(struct channels *channels);
/* Something of the channel is not as it was: keeps it. */
void channel_changed(struct channel *channel);

/* Encodes the properties anew. Returns 0, -ENOMEM, -EMSGSIZE or -EINVAL, after which the stamp is as before. */
int channel_stamp(struct channel *channel);
/* The lane for @priority and @ttl_s, which the channel has from here on. Returns as journal_lane_get(). */
int channel_enter_lane(struct channel *channel, uint8_t priority, uint32_t ttl_s);

/* Takes all properties away, without a word to anybody. */
void channel_clear_properties(struct channel *channel);

/* --- channel_store.c -------------------------------------------------------------------------- */

/* The file's content: *@out is malloc()ed. Returns 0 or -ENOMEM. */
int channels_encode(struct channels *channels, uint8_t **out, size_t *len);
/* Takes over what a file says. Returns 0; -EBADMSG: it is none of ours; -ENOMEM: some of it was taken. */
int channels_decode(struct channels *channels, struct bytes file);

/* `events` is told that the file could not be read. */
void channels_tell_unread(struct loop_deferred *deferred);
/* Makes what is declared and what was kept, and keeps what changes from here on. Returns as channels_new(). */
int channels_load(struct channels *channels, const struct channels_options *options);

#endif
