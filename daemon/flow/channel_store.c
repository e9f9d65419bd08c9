/* SPDX-License-Identifier: MIT */
/*
 * `channels.json`: what users made and set, and which number each channel has. One JSON text of one line,
 *
 *     {"crc32c":"XXXXXXXX","state":STATE}
 *
 * without spaces outside of STATE, with a newline behind it; the 8 lower-case hexadecimal digits are the CRC32C
 * (RFC 3720, appendix B.4) of the bytes of STATE. STATE is
 *
 *     {"next":N,"channels":[{"name":…,"number":…,"made":true,"ack":…,"when-full":…,"ttl":…,"priority":…,
 *      "content-type":…,"content-encoding":…,"user-id":…,"correlation-id":…,"properties":{…}},…]}
 *
 * next     the number that is tried first for the next channel
 * made     by mkdir(2); without it, a channel that is not declared any more is gone
 * ack …    only what users set: all else is as declared, and changes with the configuration. Properties are one
 *          thing here: a user who changed one of them has set them all
 *
 * A file is whole when it has exactly this form and the checksum holds; else it is set aside. Of a whole one all that
 * is good is taken, and what is not known or out of range is dropped.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/json_read.h"
#include "flow/channel_internal.h"

/* All names and values of all channels, each of their bytes escaped. */
#define FILE_MAX                                                                                             \
	((size_t)CHANNELS_MAX * (2 * (CHANNEL_PROPERTY_BYTES_MAX + CHANNEL_PROPERTIES_MAX * 256) + 4096))
#define HEAD      "{\"crc32c\":\"%08" PRIx32 "\",\"state\":"
#define HEAD_LEN  (sizeof("{\"crc32c\":\"XXXXXXXX\",\"state\":") - 1)
#define TAIL      "}\n"
#define TAIL_LEN  (sizeof(TAIL) - 1)
#define DEPTH_MAX 8

#define JSON      _cleanup_(json_object_put_cleanup) struct json_object

/* json_object_put() returns a number, and takes NULL. */
static void json_object_put_cleanup(struct json_object **object)
{
	json_object_put(*object);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* A text under way. json-c would leave out what it has no memory for, and say nothing. */
struct text {
	struct buf buf;
	int error;  /* the first one */
	bool comma; /* before the next member */
};

static void put(struct text *t, struct bytes raw)
{
	if (!t->error)
		t->error = buf_append(&t->buf, raw);
}

/* Values have no control characters. */
static void put_string(struct text *t, const char *string)
{
	put(t, BYTES_LIT("\""));
	while (*string) {
		size_t len = strcspn(string, "\"\\");

		put(t, BYTES(string, len));
		string += len;
		if (!*string)
			break;
		put(t, BYTES_LIT("\\"));
		put(t, BYTES(string++, 1));
	}
	put(t, BYTES_LIT("\""));
}

static void put_key(struct text *t, const char *key)
{
	if (t->comma)
		put(t, BYTES_LIT(","));
	t->comma = true;
	put_string(t, key);
	put(t, BYTES_LIT(":"));
}

static void put_text(struct text *t, const char *key, const char *value)
{
	put_key(t, key);
	put_string(t, value);
}

static void put_number(struct text *t, const char *key, uint32_t value)
{
	char digits[16];

	snprintf(digits, sizeof(digits), "%" PRIu32, value);
	put_key(t, key);
	put(t, bytes_from_str(digits));
}

static bool is_set(const struct channel *channel, unsigned int field)
{
	return channel->set_fields & channel_field_bit(field);
}

static void put_values(struct text *t, const struct channel *c)
{
	if (is_set(c, CHANNEL_FIELD_ACK))
		put_text(t, "ack", channel_ack_name(c->ack));
	if (is_set(c, CHANNEL_FIELD_WHEN_FULL))
		put_text(t, "when-full", channel_when_full_name(c->when_full));
	if (is_set(c, CHANNEL_FIELD_TTL))
		put_number(t, "ttl", c->ttl_s);
	if (is_set(c, CHANNEL_FIELD_PRIORITY))
		put_number(t, "priority", c->priority);
	for (enum channel_text i = 0; i < CHANNEL_N_TEXTS; ++i)
		if (is_set(c, (unsigned int)CHANNEL_FIELD_TEXTS + i))
			put_text(t, channel_text_name(i), c->texts[i] ? c->texts[i] : "");
}

static void put_properties(struct text *t, const struct channel *c)
{
	put_key(t, "properties");
	put(t, BYTES_LIT("{"));
	t->comma = false;
	for (size_t i = 0; i < c->properties->n; ++i)
		put_text(t, c->properties->items[i].name, c->properties->items[i].value);
	put(t, BYTES_LIT("}"));
	t->comma = true;
}

static void put_channel(struct text *t, const struct channel *c)
{
	put(t, c->number ? BYTES_LIT(",{") : BYTES_LIT("{"));
	t->comma = false;
	put_text(t, "name", c->name);
	put_number(t, "number", c->number);
	if (c->made) {
		put_key(t, "made");
		put(t, BYTES_LIT("true"));
	}
	put_values(t, c);
	if (is_set(c, CHANNEL_FIELD_PROPERTIES))
		put_properties(t, c);
	put(t, BYTES_LIT("}"));
}

static void put_state(struct text *t, struct channels *channels)
{
	put(t, BYTES_LIT("{\"channels\":["));
	/* The first one is number 0. */
	for (struct channel *c = NULL; (c = channels_next(channels, c));)
		put_channel(t, c);
	put(t, BYTES_LIT("]"));
	put_number(t, "next", channels->next_number);
	put(t, BYTES_LIT("}"));
}

int channels_encode(struct channels *channels, uint8_t **out, size_t *len)
{
	struct text t = {0};
	char head[HEAD_LEN + 1];
	struct bytes state;

	buf_init(&t.buf, FILE_MAX);
	snprintf(head, sizeof(head), HEAD, UINT32_C(0));
	put(&t, BYTES(head, HEAD_LEN));
	put_state(&t, channels);
	put(&t, BYTES_LIT(TAIL));
	if (t.error) {
		buf_deinit(&t.buf);
		return t.error;
	}
	*len = buf_len(&t.buf);
	*out = TAKE_PTR(t.buf.data);
	state = BYTES(*out + HEAD_LEN, *len - HEAD_LEN - TAIL_LEN);
	snprintf(head, sizeof(head), HEAD, crc32c(0, state.data, state.len));
	memcpy(*out, head, HEAD_LEN);
	return 0;
}

static int store_encode(void *userdata, uint8_t **out, size_t *len)
{
	struct channels *channels = userdata;

	channels->n_encoded = channels->n_changes;
	return channels_encode(channels, out, len);
}

static void channels_tell_error(struct channels *channels)
{
	if (channels->on_event)
		channels->on_event(channels->event_userdata, "channels-error", store_error(channels->store));
}

void channels_tell_unread(struct loop_deferred *deferred)
{
	struct channels *channels = container_of(deferred, struct channels, tell_unread);

	if (store_is_unread(channels->store))
		channels_tell_error(channels);
}

static void store_on_tried(void *userdata)
{
	struct channels *channels = userdata;
	bool has_failed = store_result(channels->store) != 0;

	channels->n_tried = channels->n_encoded;
	if (has_failed && !channels->told_error)
		channels_tell_error(channels);
	channels->told_error = has_failed;
	if (channels->on_kept)
		channels->on_kept(channels->userdata);
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What is being read. */
struct kept {
	struct channels *channels;
	struct json_object *array; /* of the channels; NULL = nothing was kept */
	size_t n_dropped;          /* values nobody could have set */
};

/* Returns 0 and *@out, or -EBADMSG, -ENOMEM. */
static int file_decode(struct bytes file, struct json_object **out)
{
	char head[HEAD_LEN + 1];
	struct bytes state;
	int r;

	if (file.len < HEAD_LEN + TAIL_LEN)
		return -EBADMSG;
	state = BYTES(file.data + HEAD_LEN, file.len - HEAD_LEN - TAIL_LEN);
	snprintf(head, sizeof(head), HEAD, crc32c(0, state.data, state.len));
	if (!bytes_equal(BYTES(file.data, HEAD_LEN), BYTES(head, HEAD_LEN)) ||
	    !bytes_equal(BYTES(state.data + state.len, TAIL_LEN), BYTES_LIT(TAIL)))
		return -EBADMSG;
	r = json_read(state, DEPTH_MAX, out);
	return r == -EINVAL ? -EBADMSG : r;
}

static struct json_object *get(struct json_object *object, const char *key, enum json_type type)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) && json_object_is_type(value, type) ? value
												  : NULL;
}

static struct bytes text_of(struct json_object *string)
{
	return BYTES(json_object_get_string(string), (size_t)json_object_get_string_len(string));
}

/* @value is a number from @min to @max, which are more than INT64_MIN and less than INT64_MAX. */
static bool number_of(struct json_object *value, int64_t min, int64_t max, int64_t *out)
{
	*out = json_object_get_int64(value);
	return value && *out >= min && *out <= max;
}

/* Out of memory is the only reason not to go on. */
static int drop_bad(struct kept *kept, int r)
{
	if (r == -ENOMEM)
		return r;
	kept->n_dropped += r != 0;
	return 0;
}

static int read_policy(struct kept *kept, struct channel *c, struct json_object *object)
{
	struct json_object *ack = get(object, "ack", json_type_string);
	struct json_object *when_full = get(object, "when-full", json_type_string);
	struct json_object *ttl = get(object, "ttl", json_type_int);
	struct json_object *priority = get(object, "priority", json_type_int);
	enum channel_when_full full;
	enum channel_ack level;
	int64_t number;
	int r = 0;

	if (ack && channel_ack_parse(text_of(ack), &level) == 0)
		channel_set_ack(c, level);
	else
		kept->n_dropped += ack != NULL;
	if (when_full && channel_when_full_parse(text_of(when_full), &full) == 0)
		channel_set_when_full(c, full);
	else
		kept->n_dropped += when_full != NULL;
	if (ttl)
		r = drop_bad(kept, number_of(ttl, 0, CHANNEL_TTL_MAX, &number)
					   ? channel_set_ttl(c, (uint32_t)number)
					   : -EINVAL);
	if (!r && priority)
		r = drop_bad(kept, number_of(priority, 0, CHANNEL_PRIORITY_MAX, &number)
					   ? channel_set_priority(c, (uint8_t)number)
					   : -EINVAL);
	return r;
}

static int read_properties(struct kept *kept, struct channel *c, struct json_object *properties)
{
	struct json_object_iterator at = json_object_iter_begin(properties);
	struct json_object_iterator end = json_object_iter_end(properties);
	int r;

	channel_clear_properties(c);
	r = channel_stamp(c);
	c->set_fields |= channel_field_bit(CHANNEL_FIELD_PROPERTIES);
	for (; !r && !json_object_iter_equal(&at, &end); json_object_iter_next(&at)) {
		struct json_object *value = json_object_iter_peek_value(&at);

		r = drop_bad(kept, json_object_is_type(value, json_type_string)
					   ? channel_set_property(c, json_object_iter_peek_name(&at),
								  text_of(value))
					   : -EINVAL);
	}
	return r;
}

static int read_values(struct kept *kept, struct channel *c, struct json_object *object)
{
	struct json_object *properties = get(object, "properties", json_type_object);
	int r = read_policy(kept, c, object);

	/* First: those that are declared may leave no room for the texts. */
	if (!r && properties)
		r = read_properties(kept, c, properties);
	for (enum channel_text i = 0; !r && i < CHANNEL_N_TEXTS; ++i) {
		struct json_object *value = get(object, channel_text_name(i), json_type_string);

		if (value)
			r = drop_bad(kept, channel_set_text(c, i, text_of(value)));
	}
	return r;
}

/* The channel with its number, if it is still one: declared, or made by a user. */
static int read_channel(struct kept *kept, struct json_object *object)
{
	const char *name = json_object_get_string(get(object, "name", json_type_string));
	bool made = json_object_get_boolean(get(object, "made", json_type_boolean));
	struct channel *c = name ? channels_find(kept->channels, name) : NULL;
	int64_t number;
	int r;

	if (!name)
		return drop_bad(kept, -EINVAL);
	if (!c && !made)
		return 0;
	if (!number_of(get(object, "number", json_type_int), 0, UINT16_MAX, &number))
		number = 0;
	r = c ? 0 : channels_make(kept->channels, name, (uint16_t)number, &c);
	if (r)
		return drop_bad(kept, r);
	c->made |= made && c->number;
	return read_values(kept, c, object);
}

static int read_channels(struct kept *kept)
{
	size_t n = kept->array ? json_object_array_length(kept->array) : 0;
	int r = 0;

	for (size_t i = 0; !r && i < n; ++i) {
		struct json_object *object = json_object_array_get_idx(kept->array, i);

		r = json_object_is_type(object, json_type_object) ? read_channel(kept, object)
								  : drop_bad(kept, -EINVAL);
	}
	return r;
}

/* --- what is declared ------------------------------------------------------------------------- */

/* The number that the channel had, 0 = any. */
static uint16_t number_before(const struct kept *kept, const char *name)
{
	size_t n = kept->array ? json_object_array_length(kept->array) : 0;
	int64_t number;

	for (size_t i = 0; i < n; ++i) {
		struct json_object *object = json_object_array_get_idx(kept->array, i);
		const char *have;

		if (!json_object_is_type(object, json_type_object))
			continue;
		have = json_object_get_string(get(object, "name", json_type_string));
		if (have && strcmp(have, name) == 0 &&
		    number_of(get(object, "number", json_type_int), 0, UINT16_MAX, &number))
			return (uint16_t)number;
	}
	return 0;
}

static int declare_values(struct channel *c, const struct channel_declaration *d)
{
	int r;

	c->ack = d->ack;
	c->when_full = d->when_full;
	r = channel_enter_lane(c, d->priority, d->ttl_s);
	for (enum channel_text i = 0; !r && i < CHANNEL_N_TEXTS; ++i)
		r = channel_set_text(c, i, bytes_from_str(d->texts[i]));
	for (size_t i = 0; !r && i < d->n_properties; ++i)
		r = channel_set_property(c, d->property_names[i], bytes_from_str(d->property_values[i]));
	c->set_fields = 0;
	return r;
}

static int declare(struct kept *kept, const struct channel_declaration *d)
{
	struct channels *channels = kept->channels;
	struct channel *c = channels_find(channels, d->name);
	int r = c ? 0 : channels_make(channels, d->name, number_before(kept, d->name), &c);

	if (!r)
		r = declare_values(c, d);
	if (r == 0 || r == -ENOMEM || r == -ENOSPC)
		return r;
	log_error(channels->log, "channel %s: %s", d->name, strerror(-r));
	return 0;
}

/* --- starting --------------------------------------------------------------------------------- */

/* @state: NULL = nothing was kept. */
static int make_all(struct channels *channels, const struct channel_declaration *declarations,
		    size_t n_declarations, struct json_object *state)
{
	struct kept kept = {.channels = channels, .array = get(state, "channels", json_type_array)};
	int64_t next;
	int r = 0;

	if (number_of(get(state, "next", json_type_int), 1, UINT16_MAX, &next))
		channels->next_number = (uint16_t)next;
	/* First: a file must not keep what is declared from being there. */
	for (size_t i = 0; !r && i < n_declarations; ++i)
		r = declare(&kept, &declarations[i]);
	if (!r)
		r = read_channels(&kept);
	if (kept.n_dropped)
		log_warning(channels->log, "of what was kept of channels, %zu values cannot be used",
			    kept.n_dropped);
	return r;
}

int channels_decode(struct channels *channels, struct bytes file)
{
	JSON *state = NULL;
	int r = file_decode(file, &state);

	return r ? r : make_all(channels, NULL, 0, state);
}

/* *@data is malloc()ed for the caller. Returns 0, also when nothing usable was kept, or -ENOMEM. */
static int load_file(struct store *store, uint8_t **data, size_t *len, struct json_object **state)
{
	int r = store_load(store, data, len);

	if (r)
		return r == -ENOMEM ? r : 0;
	r = file_decode(BYTES(*data, *len), state);
	if (r != -EBADMSG)
		return r;
	store_set_aside(store, "is damaged");
	return 0;
}

/* Numbers that are new, and what was dropped, change the file too. */
static int save_if_changed(struct channels *channels, struct bytes file)
{
	_cleanup_(free_ptr) uint8_t *data = NULL;
	size_t len = 0;
	int r = channels_encode(channels, &data, &len);

	if (!r && !bytes_equal(BYTES(data, len), file))
		channels_save(channels);
	return r;
}

int channels_load(struct channels *channels, const struct channels_options *options)
{
	static const struct store_ops ops = {.encode = store_encode, .on_tried = store_on_tried};
	const struct store_options store_options = {
		.loop = channels->loop,
		.log = channels->log,
		.path = options->path,
		.bytes_max = FILE_MAX,
		.without = "channels that users made are gone, and settings as they were declared",
		.ops = &ops,
		.userdata = channels,
	};
	_cleanup_(free_ptr) uint8_t *data = NULL;
	JSON *state = NULL;
	struct store *store;
	size_t len = 0;
	int r;

	if (!options->path)
		return make_all(channels, options->declarations, options->n_declarations, NULL);
	r = store_new(&store, &store_options);
	if (r)
		return r;
	r = load_file(store, &data, &len, &state);
	if (!r)
		r = make_all(channels, options->declarations, options->n_declarations, state);
	/* From here on what changes is kept. */
	channels->store = store;
	if (!r && store_is_unread(store)) {
		/* When there are readers of `events`. What is there may be good: the next start may find it. */
		loop_defer(channels->loop, &channels->tell_unread);
		return 0;
	}
	return r ? r : save_if_changed(channels, BYTES(data, data ? len : 0));
}
