/* SPDX-License-Identifier: MIT */
/*
 * `channels` of the JSON file: an object of channels by name, each an object with what its files would have.
 *
 * Everything is checked here that a channel would refuse when it is made, so that a wrong value names its field: names,
 * lengths, and what all its properties take when they are encoded, which is limited because every message has them.
 */

#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "config/check.h"
#include "config/fields.h"
#include "hub/contract.h"

/* An encoded User Property: identifier and two lengths; Content Type: identifier and one. */
#define USER_PROPERTY_OVERHEAD 5
#define CONTENT_TYPE_OVERHEAD  3

static void channel_deinit(struct config_channel *channel)
{
	free(channel->name);
	for (size_t i = 0; i < CONFIG_CHANNEL_N_TEXTS; ++i)
		free(channel->texts[i]);
	for (size_t i = 0; i < channel->n_properties; ++i) {
		free(channel->property_names[i]);
		free(channel->property_values[i]);
	}
	free(channel->property_names);
	free(channel->property_values);
}

void settings_free_channels(struct config *c)
{
	for (size_t i = 0; i < c->n_channels; ++i)
		channel_deinit(&c->channels[i]);
	free(c->channels);
	c->channels = NULL;
	c->n_channels = 0;
}

/* --- values ----------------------------------------------------------------------------------- */

static int set_ack(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char *const words[] = {
		[CONFIG_ACK_QUEUED] = "queued",
		[CONFIG_ACK_STORED] = "stored",
		[CONFIG_ACK_HUB] = "hub",
	};

	(void)f;
	return field_set_word(p, value, "\"queued\", \"stored\" or \"hub\"", words, ARRAY_SIZE(words), to);
}

static int set_when_full(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	static const char *const words[] = {
		[CONFIG_FULL_REJECT] = "reject",
		[CONFIG_FULL_BLOCK] = "block",
		[CONFIG_FULL_DROP_OLDEST] = "drop-oldest",
	};

	(void)f;
	return field_set_word(p, value, "\"reject\", \"block\" or \"drop-oldest\"", words, ARRAY_SIZE(words),
			      to);
}

static int set_priority(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	uint16_t priority = 0;
	int r = field_set_u16(p, f, value, &priority);

	if (r == 0)
		*(uint8_t *)to = (uint8_t)priority;
	return r;
}

/* char *: what is sent with every message. */
static int set_text(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct bytes text = field_get_string(p, value, "a string");

	(void)f;
	if (!text.data)
		return -EINVAL;
	if (text.len > CONFIG_CHANNEL_VALUE_MAX || !check_channel_value(text))
		return field_fail(p, "is not valid: use at most %d bytes without control characters",
				  CONFIG_CHANNEL_VALUE_MAX);
	return field_store_string(to, text);
}

static int property_add(struct place *p, struct config_channel *channel, struct json_object *value)
{
	struct bytes name = bytes_from_str(p->name);
	size_t i = channel->n_properties;
	int r;

	if (!name.len || name.len > CONFIG_CHANNEL_PROPERTY_NAME_MAX || !check_channel_value(name) ||
	    memchr(name.data, '/', name.len) || bytes_equal_str(name, ".") || bytes_equal_str(name, ".."))
		return field_fail(p,
				  "is a name no property can have: use 1 to %d bytes without control "
				  "characters and slashes",
				  CONFIG_CHANNEL_PROPERTY_NAME_MAX);
	r = set_text(p, NULL, value, &channel->property_values[i]);
	if (r)
		return r;
	/* Counted now: what is half done is freed with the rest. */
	channel->n_properties = i + 1;
	return field_store_string(&channel->property_names[i], name);
}

/* struct config_channel: its application properties. */
static int set_properties(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct config_channel *channel = to;
	size_t entered, n;
	int r = 0;

	(void)f;
	if (!json_object_is_type(value, json_type_object))
		return field_fail(p, "must be an object, not %s", field_type_name(value));
	n = (size_t)json_object_object_length(value);
	if (n > CONFIG_CHANNEL_PROPERTIES_MAX)
		return field_fail(p, "has %zu properties: a channel has at most %d", n,
				  CONFIG_CHANNEL_PROPERTIES_MAX);
	channel->property_names = calloc(n + 1, sizeof(char *));
	channel->property_values = calloc(n + 1, sizeof(char *));
	if (!channel->property_names || !channel->property_values)
		return -ENOMEM;
	entered = place_enter(p);
	json_object_object_foreach(value, key, property)
	{
		p->name = key;
		r = property_add(p, channel, property);
		if (r)
			break;
	}
	place_leave(p, entered);
	return r;
}

#define AT(member) offsetof(struct config_channel, member)

static const struct field channel_fields[] = {
	{"ack", set_ack, AT(ack), 0, 0},
	{"when-full", set_when_full, AT(when_full), 0, 0},
	{"ttl", field_set_u32, AT(ttl_s), 0, CONFIG_CHANNEL_TTL_MAX},
	{"priority", set_priority, AT(priority), 0, CONFIG_CHANNEL_PRIORITY_MAX},
	{"content-type", set_text, AT(texts[CONFIG_CHANNEL_CONTENT_TYPE]), 0, 0},
	{"content-encoding", set_text, AT(texts[CONFIG_CHANNEL_CONTENT_ENCODING]), 0, 0},
	{"user-id", set_text, AT(texts[CONFIG_CHANNEL_USER_ID]), 0, 0},
	{"correlation-id", set_text, AT(texts[CONFIG_CHANNEL_CORRELATION_ID]), 0, 0},
	{"properties", set_properties, 0, 0, 0},
};

/* --- the whole -------------------------------------------------------------------------------- */

/* What the channel adds to every message, in bytes. */
static size_t channel_bytes(const struct config_channel *channel)
{
	static const size_t overhead[] = {
		[CONFIG_CHANNEL_CONTENT_TYPE] = CONTENT_TYPE_OVERHEAD,
		[CONFIG_CHANNEL_CONTENT_ENCODING] =
			USER_PROPERTY_OVERHEAD + sizeof(HUB_PROP_CONTENT_ENCODING) - 1,
		[CONFIG_CHANNEL_USER_ID] = USER_PROPERTY_OVERHEAD + sizeof(HUB_PROP_USER_ID) - 1,
		[CONFIG_CHANNEL_CORRELATION_ID] =
			USER_PROPERTY_OVERHEAD + sizeof(HUB_PROP_CORRELATION_ID) - 1,
	};
	size_t n = 0;

	for (size_t i = 0; i < CONFIG_CHANNEL_N_TEXTS; ++i)
		if (channel->texts[i])
			n += overhead[i] + strlen(channel->texts[i]);
	for (size_t i = 0; i < channel->n_properties; ++i)
		n += USER_PROPERTY_OVERHEAD + 1 + strlen(channel->property_names[i]) +
		     strlen(channel->property_values[i]);
	return n;
}

static int channel_read(struct place *p, struct config_channel *channel, struct json_object *value)
{
	const char *name = p->name;
	size_t n_bytes;
	int r;

	if (!check_channel_name(bytes_from_str(name)))
		return field_fail(
			p,
			"is a name no channel can have: use 1 to %d letters, digits and -_. (not a dot "
			"first)",
			CHECK_CHANNEL_NAME_MAX);
	channel->priority = CONFIG_CHANNEL_PRIORITY_DEFAULT;
	r = field_store_string(&channel->name, bytes_from_str(name));
	if (r == 0)
		r = field_read_object(p, (struct field_table){channel_fields, ARRAY_SIZE(channel_fields)},
				      value, channel);
	if (r)
		return r;
	p->name = name;
	n_bytes = channel_bytes(channel);
	if (n_bytes > CONFIG_CHANNEL_PROPERTY_BYTES_MAX)
		return field_fail(
			p, "has properties of %zu bytes: every message has them, so at most %d are allowed",
			n_bytes, CONFIG_CHANNEL_PROPERTY_BYTES_MAX);
	return 0;
}

int field_set_channels(struct place *p, const struct field *f, struct json_object *value, void *to)
{
	struct config *config = to;
	size_t entered, n;
	int r = 0;

	(void)f;
	if (!json_object_is_type(value, json_type_object))
		return field_fail(p, "must be an object, not %s", field_type_name(value));
	n = (size_t)json_object_object_length(value);
	if (n >
	    CONFIG_CHANNELS_MAX + (json_object_object_get_ex(value, CONFIG_CHANNEL_DEFAULT, NULL) ? 1u : 0u))
		return field_fail(p, "has %zu channels: at most %d besides \"%s\" are possible", n,
				  CONFIG_CHANNELS_MAX, CONFIG_CHANNEL_DEFAULT);
	config->channels = calloc(n + 1, sizeof(*config->channels));
	if (!config->channels)
		return -ENOMEM;
	entered = place_enter(p);
	json_object_object_foreach(value, key, channel)
	{
		p->name = key;
		r = channel_read(p, &config->channels[config->n_channels++], channel);
		if (r)
			break;
	}
	place_leave(p, entered);
	return r;
}
