/* SPDX-License-Identifier: MIT */
/*
 * What can be set of a channel, see channel.h.
 *
 * A setter puts the new value in place, makes the stamp or the lane anew, and puts the old value back if that fails:
 * so a channel is always ready for the next message, and its stamp and lane are those of its values.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "flow/channel_internal.h"
#include "hub/contract.h"
#include "mqtt/packet.h"

#define PROPERTY_NAME_MAX 255

/* --- words ------------------------------------------------------------------------------------ */

static const char *const ack_names[CHANNEL_N_ACKS] = {
	[CHANNEL_ACK_QUEUED] = "queued",
	[CHANNEL_ACK_STORED] = "stored",
	[CHANNEL_ACK_HUB] = "hub",
};

static const char *const when_full_names[CHANNEL_N_FULLS] = {
	[CHANNEL_FULL_REJECT] = "reject",
	[CHANNEL_FULL_BLOCK] = "block",
	[CHANNEL_FULL_DROP_OLDEST] = "drop-oldest",
};

static const char *const text_names[CHANNEL_N_TEXTS] = {
	[CHANNEL_TEXT_CONTENT_TYPE] = "content-type",
	[CHANNEL_TEXT_CONTENT_ENCODING] = HUB_PROP_CONTENT_ENCODING,
	[CHANNEL_TEXT_USER_ID] = HUB_PROP_USER_ID,
	[CHANNEL_TEXT_CORRELATION_ID] = HUB_PROP_CORRELATION_ID,
};

/* Returns the index, or -EINVAL. */
static int word_find(const char *const *words, size_t n, struct bytes text)
{
	for (size_t i = 0; i < n; ++i)
		if (bytes_equal_str(text, words[i]))
			return (int)i;
	return -EINVAL;
}

const char *channel_ack_name(enum channel_ack ack)
{
	return ack_names[ack];
}

const char *channel_when_full_name(enum channel_when_full when_full)
{
	return when_full_names[when_full];
}

const char *channel_text_name(enum channel_text which)
{
	return text_names[which];
}

int channel_ack_parse(struct bytes text, enum channel_ack *out)
{
	int i = word_find(ack_names, CHANNEL_N_ACKS, text);

	if (i < 0)
		return i;
	*out = (enum channel_ack)i;
	return 0;
}

int channel_when_full_parse(struct bytes text, enum channel_when_full *out)
{
	int i = word_find(when_full_names, CHANNEL_N_FULLS, text);

	if (i < 0)
		return i;
	*out = (enum channel_when_full)i;
	return 0;
}

/* --- the stamp -------------------------------------------------------------------------------- */

static void put_text(struct writer *w, enum channel_text which, struct bytes value)
{
	struct mqtt_properties content_type = {.content_type = value};

	if (which != CHANNEL_TEXT_CONTENT_TYPE) {
		mqtt_user_property_put(w, bytes_from_str(text_names[which]), value);
		return;
	}
	mqtt_set(&content_type, MQTT_PROP_CONTENT_TYPE);
	mqtt_properties_encode(w, &content_type, MQTT_PUBLISH);
}

static void put_property(struct writer *w, const struct channel_property *property)
{
	char name[1 + PROPERTY_NAME_MAX];
	size_t len = strlen(property->name);

	name[0] = HUB_APPLICATION_PREFIX;
	memcpy(name + 1, property->name, len);
	mqtt_user_property_put(w, BYTES(name, 1 + len), bytes_from_str(property->value));
}

int channel_stamp(struct channel *channel)
{
	uint8_t others[CHANNEL_PROPERTY_BYTES_MAX];
	struct writer w = writer_init(others, sizeof(others));
	struct stamp stamp;
	int r;

	for (enum channel_text i = 0; i < CHANNEL_N_TEXTS; ++i)
		if (channel->texts[i])
			put_text(&w, i, bytes_from_str(channel->texts[i]));
	for (size_t i = 0; i < channel->properties->n; ++i)
		if (channel->properties->items[i].value[0])
			put_property(&w, &channel->properties->items[i]);
	if (w.error)
		return w.error == -ENOSPC ? -EMSGSIZE : w.error;
	r = stamp_init(&stamp, channel->owner->run, writer_bytes(&w));
	if (r)
		return r;
	stamp_deinit(&channel->stamp);
	channel->stamp = stamp;
	return 0;
}

/* --- policy ----------------------------------------------------------------------------------- */

int channel_enter_lane(struct channel *channel, uint8_t priority, uint32_t ttl_s)
{
	const struct journal_lane_key key = {
		.kind = JOURNAL_KIND_QUEUE,
		.priority = priority,
		.channel = channel->number,
		.ttl_s = ttl_s,
		.channel_name = channel->name,
	};
	struct journal_lane *lane;
	int r = journal_lane_get(channel->owner->journal, &key, &lane);

	if (r)
		return r;
	if (channel->lane)
		journal_lane_put(channel->lane);
	channel->lane = lane;
	channel->priority = priority;
	channel->ttl_s = ttl_s;
	return 0;
}

/* A user set @field. */
static int set_by_user(struct channel *channel, unsigned int field)
{
	channel->set_fields |= channel_field_bit(field);
	channel_changed(channel);
	return 0;
}

int channel_set_ack(struct channel *channel, enum channel_ack ack)
{
	channel->ack = ack;
	return set_by_user(channel, CHANNEL_FIELD_ACK);
}

int channel_set_when_full(struct channel *channel, enum channel_when_full when_full)
{
	channel->when_full = when_full;
	return set_by_user(channel, CHANNEL_FIELD_WHEN_FULL);
}

int channel_set_ttl(struct channel *channel, uint32_t ttl_s)
{
	int r = ttl_s > CHANNEL_TTL_MAX ? -EINVAL : channel_enter_lane(channel, channel->priority, ttl_s);

	return r ? r : set_by_user(channel, CHANNEL_FIELD_TTL);
}

int channel_set_priority(struct channel *channel, uint8_t priority)
{
	int r = priority > CHANNEL_PRIORITY_MAX ? -EINVAL
						: channel_enter_lane(channel, priority, channel->ttl_s);

	return r ? r : set_by_user(channel, CHANNEL_FIELD_PRIORITY);
}

/* --- texts ------------------------------------------------------------------------------------ */

static int value_check(struct bytes value)
{
	if (value.len > CHANNEL_VALUE_MAX)
		return -EMSGSIZE;
	return check_channel_value(value) ? 0 : -EINVAL;
}

int channel_set_text(struct channel *channel, enum channel_text which, struct bytes value)
{
	char *old = channel->texts[which], *text = NULL;
	int r = value_check(value);

	if (r)
		return r;
	if (value.len) {
		text = strndup((const char *)value.data, value.len);
		if (!text)
			return -ENOMEM;
	}
	channel->texts[which] = text;
	r = channel_stamp(channel);
	if (r) {
		channel->texts[which] = old;
		free(text);
		return r;
	}
	free(old);
	return set_by_user(channel, (unsigned int)CHANNEL_FIELD_TEXTS + which);
}

/* --- properties ------------------------------------------------------------------------------- */

/* The place of @name, or behind the last one. */
static size_t property_find(const struct channel_properties *properties, const char *name)
{
	size_t i = 0;

	while (i < properties->n && strcmp(properties->items[i].name, name) != 0)
		++i;
	return i;
}

static int name_check(const char *name)
{
	size_t len = strlen(name);

	return len && len <= PROPERTY_NAME_MAX && check_channel_value(BYTES(name, len)) ? 0 : -EINVAL;
}

static int property_replace(struct channel *channel, struct channel_property *property, char **value_take)
{
	char *old = property->value;
	int r;

	property->value = *value_take;
	r = channel_stamp(channel);
	if (r) {
		property->value = old;
		return r;
	}
	*value_take = old;
	return 0;
}

static int property_add(struct channel *channel, const char *name, char **value_take)
{
	struct channel_properties *properties = channel->properties;
	_cleanup_(free_ptr) char *copy = NULL;
	int r;

	if (properties->n == CHANNEL_PROPERTIES_MAX)
		return -ENOSPC;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	properties->items[properties->n++] = (struct channel_property){.name = copy, .value = *value_take};
	r = channel_stamp(channel);
	if (r) {
		--properties->n;
		return r;
	}
	TAKE_PTR(copy);
	TAKE_PTR(*value_take);
	return 0;
}

int channel_set_property(struct channel *channel, const char *name, struct bytes value)
{
	size_t i = property_find(channel->properties, name);
	_cleanup_(free_ptr) char *text = NULL;
	int r = name_check(name);

	if (!r)
		r = value_check(value);
	if (r)
		return r;
	text = value.len ? strndup((const char *)value.data, value.len) : strdup("");
	if (!text)
		return -ENOMEM;
	r = i < channel->properties->n ? property_replace(channel, &channel->properties->items[i], &text)
				       : property_add(channel, name, &text);
	return r ? r : set_by_user(channel, CHANNEL_FIELD_PROPERTIES);
}

const char *channel_property(const struct channel *channel, const char *name)
{
	size_t i = property_find(channel->properties, name);

	return i < channel->properties->n ? channel->properties->items[i].value : NULL;
}

const char *channel_property_name(const struct channel *channel, size_t i)
{
	return i < channel->properties->n ? channel->properties->items[i].name : NULL;
}

/* Without the one at @i, the rest in order; and back. */
static struct channel_property items_remove(struct channel_properties *properties, size_t i)
{
	struct channel_property item = properties->items[i];

	--properties->n;
	memmove(&properties->items[i], &properties->items[i + 1], (properties->n - i) * sizeof(item));
	return item;
}

static void items_insert(struct channel_properties *properties, size_t i, struct channel_property item)
{
	memmove(&properties->items[i + 1], &properties->items[i], (properties->n - i) * sizeof(item));
	properties->items[i] = item;
	++properties->n;
}

static void property_free(struct channel_property item)
{
	free(item.name);
	free(item.value);
}

int channel_remove_property(struct channel *channel, const char *name)
{
	struct channel_properties *properties = channel->properties;
	size_t i = property_find(properties, name);
	struct channel_property item;
	int r;

	if (i == properties->n)
		return -ENOENT;
	item = items_remove(properties, i);
	r = channel_stamp(channel);
	if (r) {
		items_insert(properties, i, item);
		return r;
	}
	property_free(item);
	return set_by_user(channel, CHANNEL_FIELD_PROPERTIES);
}

int channel_rename_property(struct channel *channel, const char *name, const char *new_name)
{
	struct channel_properties *properties = channel->properties, before = *properties;
	size_t i = property_find(properties, name), replaced = property_find(properties, new_name);
	_cleanup_(free_ptr) char *copy = NULL;
	int r = name_check(new_name);

	if (r || i == properties->n)
		return r ? r : -ENOENT;
	if (i == replaced)
		return 0;
	copy = strdup(new_name);
	if (!copy)
		return -ENOMEM;
	properties->items[i].name = copy;
	if (replaced < properties->n)
		items_remove(properties, replaced);
	r = channel_stamp(channel);
	if (r) {
		*properties = before;
		return r;
	}
	TAKE_PTR(copy);
	free(before.items[i].name);
	if (replaced < before.n)
		property_free(before.items[replaced]);
	return set_by_user(channel, CHANNEL_FIELD_PROPERTIES);
}

void channel_clear_properties(struct channel *channel)
{
	while (channel->properties->n)
		property_free(channel->properties->items[--channel->properties->n]);
}
