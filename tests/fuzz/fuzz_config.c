/* SPDX-License-Identifier: MIT */
/*
 * The configuration's parsers on any text. First byte: even = JSON file, odd = connection string; the rest is
 * the text.
 *
 * Checked beyond "does not crash": a failure leaves nothing behind and says why in one line; what is accepted
 * is in range; and a key that stands in a connection string appears in no error.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/connstr.h"
#include "config/settings.h"

#define PLANTED_KEY "cGxhbnRlZDEyMzQ1Njc4"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void settings_check(const struct config *c)
{
	assert(!c->host || *c->host);
	assert(!c->device_id || hub_id_is_valid(bytes_from_str(c->device_id)));
	assert(!c->module_id || hub_id_is_valid(bytes_from_str(c->module_id)));
	assert(!c->queue_bytes ||
	       (c->queue_bytes >= CONFIG_QUEUE_BYTES_MIN && c->queue_bytes <= CONFIG_QUEUE_BYTES_MAX));
	assert(c->n_channels <= CONFIG_CHANNELS_MAX + 1);
	for (size_t i = 0; i < c->n_channels; ++i) {
		assert(c->channels[i].name[0] && strlen(c->channels[i].name) <= 64);
		assert(c->channels[i].priority <= CONFIG_CHANNEL_PRIORITY_MAX);
		assert(c->channels[i].ttl_s <= CONFIG_CHANNEL_TTL_MAX);
		assert(c->channels[i].n_properties <= CONFIG_CHANNEL_PROPERTIES_MAX);
	}
	assert(c->ack_timeout_s <= CONFIG_ACK_TIMEOUT_MAX);
	assert(c->keep_alive_s >= CONFIG_KEEP_ALIVE_MIN);
	assert(c->token_lifetime_s >= CONFIG_TOKEN_LIFETIME_MIN &&
	       c->token_lifetime_s <= CONFIG_TOKEN_LIFETIME_MAX);
	assert(c->log_level <= LOG_LEVEL_DEBUG);
	for (size_t i = 0; i < CONFIG_N_FILES; ++i)
		assert((c->files[i].mode & ~0666u) == 0);
}

static void json_run(struct bytes text)
{
	struct settings s;

	settings_init(&s);
	if (settings_read(&s, text, "dir/file.json", NULL) == 0)
		settings_check(&s.config);
	settings_deinit(&s);
}

static void connstr_run(struct bytes text)
{
	static const char planted[] = ";SharedAccessKey=" PLANTED_KEY;
	char error[CONNSTR_ERROR_SIZE];
	struct connstr cs;
	char *with_key;

	if (connstr_parse(text, &cs, error) == 0) {
		assert(!error[0]);
		assert(cs.fields[CONNSTR_HOST].len && !cs.fields[CONNSTR_KEY].len == cs.x509);
		assert(hub_id_is_valid(cs.fields[CONNSTR_DEVICE]));
		assert(!cs.fields[CONNSTR_PORT].data == !cs.port);
	} else {
		assert(error[0] && !strchr(error, '\n'));
	}
	with_key = malloc(text.len + sizeof(planted));
	if (!with_key)
		return;
	if (text.len)
		memcpy(with_key, text.data, text.len);
	memcpy(with_key + text.len, planted, sizeof(planted));
	if (connstr_parse(BYTES(with_key, text.len + sizeof(planted) - 1), &cs, error))
		assert(!strstr(error, PLANTED_KEY));
	free(with_key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		connstr_run(BYTES(data + 1, size - 1));
	else
		json_run(BYTES(data + 1, size - 1));
	return 0;
}
