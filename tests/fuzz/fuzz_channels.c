/* SPDX-License-Identifier: MIT */
/*
 * Anything as the state in `channels.json`, with a good checksum around it. What must hold: channels are within their
 * bounds, each has a number of its own and a stamp that a packet can have, and what is kept of them is read back as
 * the same.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "config/check.h"
#include "flow/channel_internal.h"
#include "mqtt/packet.h"

/* The ring and the journal are worth more than one input. */
struct lab {
	struct loop *loop;
	struct journal *journal;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

/* The directory is needed until the journal has opened it: lanes without records have no files. */
static void lab_init(struct lab *lab)
{
	char dir[] = "/dev/shm/iothub-fuzz-XXXXXX", command[64];
	struct journal_options options = {.dir = dir, .is_volatile = true, .max_bytes = 1 << 20};

	must(mkdtemp(dir) != NULL);
	must(loop_new(&lab->loop, &(struct loop_options){.log = NULL}) == 0);
	options.loop = lab->loop;
	must(journal_new(&lab->journal, &options) == 0);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	must(system(command) == 0);
}

static struct channels *make(const struct lab *lab)
{
	const struct channels_options options = {.loop = lab->loop, .journal = lab->journal, .run = 1};
	struct channels *channels;

	must(channels_new(&channels, &options) == 0);
	return channels;
}

/* With the lanes, which the journal has until the end of the turn. */
static void forget(const struct lab *lab, struct channels *channels)
{
	channels_free(channels);
	must(loop_turn(lab->loop, 0) == 0);
}

/* --- what must hold --------------------------------------------------------------------------- */

static void check_stamp(struct channel *c)
{
	size_t len = channel_properties_len(c);
	_cleanup_(free_ptr) uint8_t *bytes = malloc(len);
	struct mqtt_properties p;
	struct bytes value;

	must(len >= STAMP_LEN && len <= STAMP_LEN + CHANNEL_PROPERTY_BYTES_MAX && bytes);
	stamp_put(&c->stamp, 1, 1, bytes);
	must(mqtt_properties_decode(&p, BYTES(bytes, len), MQTT_PUBLISH) == 0);
	must(mqtt_has(&p, MQTT_PROP_CONTENT_TYPE) == (c->texts[CHANNEL_TEXT_CONTENT_TYPE] != NULL));
	must(mqtt_user_property_find(p.repeatable, "user-id", &value) ==
	     (c->texts[CHANNEL_TEXT_USER_ID] != NULL));
}

static void check(struct channels *channels)
{
	struct journal_lane_key key;
	size_t n = 0;

	for (struct channel *c = NULL; (c = channels_next(channels, c)); ++n) {
		must(check_channel_name(bytes_from_str(c->name)));
		must(channels_by_number(channels, c->number) == c && channels_find(channels, c->name) == c);
		must((c->number == 0) == (n == 0));
		must(c->ack < CHANNEL_N_ACKS && c->when_full < CHANNEL_N_FULLS);
		must(c->ttl_s <= CHANNEL_TTL_MAX && c->priority <= CHANNEL_PRIORITY_MAX);
		journal_lane_key(c->lane, &key);
		must(key.channel == c->number && key.ttl_s == c->ttl_s && key.priority == c->priority);
		check_stamp(c);
	}
	must(n && n == channels->n && n <= CHANNELS_MAX && channels->next_number);
}

/* Another daemon finds the same. */
static void check_kept(const struct lab *lab, struct channels *channels)
{
	_cleanup_(free_ptr) uint8_t *first = NULL, *second = NULL;
	size_t first_len, second_len;

	must(channels_encode(channels, &first, &first_len) == 0);
	forget(lab, channels);
	channels = make(lab);
	must(channels_decode(channels, BYTES(first, first_len)) == 0);
	must(channels_encode(channels, &second, &second_len) == 0);
	must(bytes_equal(BYTES(first, first_len), BYTES(second, second_len)));
	check(channels);
	forget(lab, channels);
}

/* --- inputs ----------------------------------------------------------------------------------- */

/* A copy of exactly its size. */
static uint8_t *file_make(struct bytes state, size_t *len)
{
	char head[64];
	int head_len = snprintf(head, sizeof(head),
				"{\"crc32c\":\"%08" PRIx32 "\",\"state\":", crc32c(0, state.data, state.len));
	uint8_t *file;

	*len = (size_t)head_len + state.len + 2;
	file = malloc(*len);
	must(file != NULL);
	memcpy(file, head, (size_t)head_len);
	if (state.len)
		memcpy(file + head_len, state.data, state.len);
	memcpy(file + *len - 2, "}\n", 2);
	return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lab lab;
	_cleanup_(free_ptr) uint8_t *file = NULL;
	struct channels *channels;
	size_t len;
	int r;

	if (!lab.loop)
		lab_init(&lab);
	channels = make(&lab);
	r = channels_decode(channels, BYTES(data, size));
	must(r == 0 || r == -EBADMSG);
	file = file_make(BYTES(data, size), &len);
	r = channels_decode(channels, BYTES(file, len));
	must(r == 0 || r == -EBADMSG);
	check(channels);
	check_kept(&lab, channels);
	return 0;
}
