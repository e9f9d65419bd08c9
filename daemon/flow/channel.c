/* SPDX-License-Identifier: MIT */
/*
 * Channels, see channel.h: which there are, and what they are called. Their values are in channel_values.c, what is
 * kept of them in channel_store.c.
 *
 * Numbers stand in the records of the journal. A number is given to another name only when no channel has it and the
 * journal has no lane of it: then nobody can take the records of one for those of the other. A name that the journal
 * still knows gets its number back, also when `channels.json` was lost.
 *
 * A channel that was removed is in no list any more; it is freed when no file of it is open.
 */

#include "flow/channel.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "flow/channel_internal.h"

/* --- numbers ---------------------------------------------------------------------------------- */

struct number_set {
	uint64_t words[(UINT16_MAX + 1) / 64];
};

static void number_set_add(struct number_set *set, uint16_t number)
{
	set->words[number / 64] |= UINT64_C(1) << number % 64;
}

static bool number_set_has(const struct number_set *set, uint16_t number)
{
	return set->words[number / 64] >> number % 64 & 1;
}

/* *@used: numbers that @name cannot have. Returns the number that it had when the journal's records were written, 0 =
 * none. */
static uint16_t numbers_find(struct channels *channels, const char *name, struct number_set *used)
{
	struct journal_lane_key key;
	uint16_t number = 0;

	*used = (struct number_set){.words = {1}};
	for (struct channel *c = NULL; (c = channels_next(channels, c));)
		number_set_add(used, c->number);
	for (struct journal_lane *lane = NULL; (lane = journal_next_lane(channels->journal, lane));) {
		journal_lane_key(lane, &key);
		if (!key.channel_name || strcmp(key.channel_name, name) != 0)
			number_set_add(used, key.channel);
		else if (key.channel)
			number = key.channel;
	}
	return number;
}

/* Returns 0 and *@number, which comes in as the one that is wanted, 0 = any; or -ENOSPC. */
static int number_take(struct channels *channels, const char *name, uint16_t *number)
{
	struct number_set used;
	uint16_t before = numbers_find(channels, name, &used);

	if (before && !number_set_has(&used, before))
		*number = before;
	if (*number && !number_set_has(&used, *number))
		return 0;
	for (unsigned int i = 0; i <= UINT16_MAX; ++i) {
		*number = channels->next_number;
		channels->next_number = *number == UINT16_MAX ? 1 : (uint16_t)(*number + 1);
		if (!number_set_has(&used, *number))
			return 0;
	}
	return -ENOSPC;
}

/* --- one channel ------------------------------------------------------------------------------ */

static void channel_free(struct channel *channel)
{
	if (channel->lane)
		journal_lane_put(channel->lane);
	if (channel->properties)
		channel_clear_properties(channel);
	free(channel->properties);
	for (size_t i = 0; i < CHANNEL_N_TEXTS; ++i)
		free(channel->texts[i]);
	stamp_deinit(&channel->stamp);
	free(channel);
}

static int channel_new(struct channel **out, struct channels *channels, const char *name, uint16_t number)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	int r;

	if (!channel)
		return -ENOMEM;
	list_init(&channel->link);
	list_init(&channel->number_link);
	channel->owner = channels;
	channel->number = number;
	memcpy(channel->name, name, strlen(name) + 1);
	channel->properties = calloc(1, sizeof(*channel->properties));
	r = channel->properties ? channel_stamp(channel) : -ENOMEM;
	if (!r)
		r = channel_enter_lane(channel, CHANNEL_PRIORITY_DEFAULT, 0);
	if (r)
		channel_free(channel);
	else
		*out = channel;
	return r;
}

void channel_ref(struct channel *channel)
{
	++channel->n_files;
}

void channel_unref(struct channel *channel)
{
	assert(channel->n_files);
	if (!--channel->n_files && channel->removed)
		channel_free(channel);
}

void channels_save(struct channels *channels)
{
	++channels->n_changes;
	store_save(channels->store);
}

void channel_changed(struct channel *channel)
{
	if (!channel->removed && channel->owner->store)
		channels_save(channel->owner);
}

uint64_t channels_changed(const struct channels *channels)
{
	return channels->n_changes;
}

uint64_t channels_kept(const struct channels *channels)
{
	return channels->n_tried;
}

int channels_kept_error(const struct channels *channels)
{
	return channels->store ? store_result(channels->store) : 0;
}

void channels_keep(struct channels *channels)
{
	if (channels->store && store_result(channels->store))
		channels_save(channels);
}

void channels_watch(struct channels *channels, void (*fn)(void *userdata), void *userdata)
{
	channels->on_kept = fn;
	channels->userdata = userdata;
}

/* --- all of them ------------------------------------------------------------------------------ */

struct channel *channels_next(struct channels *channels, struct channel *after)
{
	struct list *link = after ? after->link.next : channels->all.next;

	return link == &channels->all ? NULL : container_of(link, struct channel, link);
}

struct channel *channels_find(struct channels *channels, const char *name)
{
	struct channel *c = NULL;

	while ((c = channels_next(channels, c)) && strcmp(c->name, name) != 0)
		;
	return c;
}

static struct list *bucket(struct channels *channels, uint16_t number)
{
	return &channels->by_number[number % CHANNEL_N_BUCKETS];
}

struct channel *channels_by_number(struct channels *channels, uint16_t number)
{
	list_for_each (link, bucket(channels, number)) {
		struct channel *c = container_of(link, struct channel, number_link);

		if (c->number == number)
			return c;
	}
	return NULL;
}

/* Always there, and the first one. */
struct channel *channels_default(struct channels *channels)
{
	return channels_next(channels, NULL);
}

static int channels_insert(struct channels *channels, const char *name, uint16_t number, struct channel **out)
{
	int r = channel_new(out, channels, name, number);

	if (r)
		return r;
	list_append(&channels->all, &(*out)->link);
	list_append(bucket(channels, number), &(*out)->number_link);
	++channels->n;
	return 0;
}

int channels_make(struct channels *channels, const char *name, uint16_t number, struct channel **out)
{
	uint16_t next_number = channels->next_number;
	int r;

	if (!check_channel_name(bytes_from_str(name)))
		return -EINVAL;
	if (channels_find(channels, name))
		return -EEXIST;
	if (channels->n == CHANNELS_MAX)
		return -ENOSPC;
	r = number_take(channels, name, &number);
	if (!r)
		r = channels_insert(channels, name, number, out);
	if (r)
		channels->next_number = next_number;
	return r;
}

int channels_add(struct channels *channels, const char *name, struct channel **out)
{
	int r = channels_make(channels, name, 0, out);

	if (r)
		return r;
	(*out)->made = true;
	channel_changed(*out);
	return 0;
}

void channels_drop(struct channel *channel)
{
	list_remove(&channel->link);
	list_remove(&channel->number_link);
	--channel->owner->n;
	channel->removed = true;
	if (!channel->n_files)
		channel_free(channel);
}

int channels_remove(struct channel *channel)
{
	if (channel->number == 0)
		return -EBUSY;
	channel_changed(channel);
	channels_drop(channel);
	return 0;
}

/* --- life cycle ------------------------------------------------------------------------------- */

int channels_new(struct channels **out, const struct channels_options *options)
{
	struct channels *channels = calloc(1, sizeof(*channels));
	struct channel *channel;
	int r;

	if (!channels)
		return -ENOMEM;
	channels->loop = options->loop;
	channels->log = options->log;
	channels->journal = options->journal;
	channels->run = options->run;
	channels->on_event = options->on_event;
	channels->event_userdata = options->userdata;
	loop_deferred_init(&channels->tell_unread, channels_tell_unread);
	channels->next_number = 1;
	list_init(&channels->all);
	for (size_t i = 0; i < CHANNEL_N_BUCKETS; ++i)
		list_init(&channels->by_number[i]);
	r = channels_insert(channels, CHANNEL_DEFAULT, 0, &channel);
	if (!r)
		r = channels_load(channels, options);
	if (r) {
		channels_free(channels);
		return r;
	}
	*out = channels;
	return 0;
}

void channels_free(struct channels *channels)
{
	struct channel *channel;

	if (!channels)
		return;
	/* First: it asks for what is not written yet. */
	store_free(channels->store);
	loop_undefer(&channels->tell_unread);
	while ((channel = channels_next(channels, NULL))) {
		assert(!channel->n_files);
		channels_drop(channel);
	}
	free(channels);
}
