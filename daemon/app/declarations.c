/* SPDX-License-Identifier: MIT */
/*
 * Declared channels, see declarations.h. Each word of the configuration has its counterpart by name, so that neither
 * side depends on the order of the other's.
 */

#include <errno.h>
#include <stdlib.h>

#include "app/declarations.h"

_Static_assert(CONFIG_CHANNELS_MAX + 1 == CHANNELS_MAX, "as many as there can be, with the default one");
_Static_assert(CONFIG_CHANNEL_VALUE_MAX == CHANNEL_VALUE_MAX, "the longest value");
_Static_assert(CONFIG_CHANNEL_PROPERTIES_MAX == CHANNEL_PROPERTIES_MAX, "the number of properties");
_Static_assert(CONFIG_CHANNEL_PROPERTY_BYTES_MAX == CHANNEL_PROPERTY_BYTES_MAX, "their bytes");
_Static_assert(CONFIG_CHANNEL_TTL_MAX == CHANNEL_TTL_MAX, "the longest ttl");
_Static_assert(CONFIG_CHANNEL_PRIORITY_MAX == CHANNEL_PRIORITY_MAX, "the last priority");
_Static_assert(CONFIG_CHANNEL_PRIORITY_DEFAULT == CHANNEL_PRIORITY_DEFAULT, "the usual priority");

static const enum channel_ack acks[] = {
	[CONFIG_ACK_QUEUED] = CHANNEL_ACK_QUEUED,
	[CONFIG_ACK_STORED] = CHANNEL_ACK_STORED,
	[CONFIG_ACK_HUB] = CHANNEL_ACK_HUB,
};

static const enum channel_when_full fulls[] = {
	[CONFIG_FULL_REJECT] = CHANNEL_FULL_REJECT,
	[CONFIG_FULL_BLOCK] = CHANNEL_FULL_BLOCK,
	[CONFIG_FULL_DROP_OLDEST] = CHANNEL_FULL_DROP_OLDEST,
};

static const enum channel_text texts[] = {
	[CONFIG_CHANNEL_CONTENT_TYPE] = CHANNEL_TEXT_CONTENT_TYPE,
	[CONFIG_CHANNEL_CONTENT_ENCODING] = CHANNEL_TEXT_CONTENT_ENCODING,
	[CONFIG_CHANNEL_USER_ID] = CHANNEL_TEXT_USER_ID,
	[CONFIG_CHANNEL_CORRELATION_ID] = CHANNEL_TEXT_CORRELATION_ID,
};

static void declaration_fill(struct channel_declaration *out, const struct config_channel *channel)
{
	*out = (struct channel_declaration){
		.name = channel->name,
		.ack = acks[channel->ack],
		.when_full = fulls[channel->when_full],
		.ttl_s = channel->ttl_s,
		.priority = channel->priority,
		.property_names = (const char *const *)channel->property_names,
		.property_values = (const char *const *)channel->property_values,
		.n_properties = channel->n_properties,
	};
	for (size_t i = 0; i < CONFIG_CHANNEL_N_TEXTS; ++i)
		out->texts[texts[i]] = channel->texts[i];
}

int declarations_new(struct channel_declaration **out, const struct config *config)
{
	*out = calloc(config->n_channels + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_channels; ++i)
		declaration_fill(&(*out)[i], &config->channels[i]);
	return 0;
}
