/* SPDX-License-Identifier: MIT */
/*
 * The twin's file, see twin_store.h. Integers are big-endian:
 *
 *      0   8   "IOHTWIN1"
 *      8   4   CRC32C (RFC 3720, appendix B.4) of all bytes from 12 on
 *     12   4   I, bytes of the identity, at most 255
 *     16   8   version of the desired properties, 0 when the hub's twin was never seen
 *     24   8   version of the reported properties as confirmed, 0 likewise
 *     32   4   D
 *     36   4   R
 *     40   4   P, 0 when no patch waits
 *     44   I   identity: whose twin this is
 *          D   desired properties, a JSON object without null members
 *          R   reported properties as the hub confirmed them, likewise
 *          P   the patch that is still to be sent, what is in flight included; a JSON object, which may have the
 *              marks that twin_doc.h describes
 *
 * A file is valid when it has exactly 44 + I + D + R + P bytes, the checksum holds, either both versions or none is
 * 0, and the texts are such objects. Anything else, a file cut off anywhere or with a bit changed, is set aside, and so
 * is another identity's.
 *
 * The file itself is store.c's. The state to save waits in `next` until it is asked for.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/cursor.h"
#include "flow/store.h"
#include "flow/twin_doc.h"
#include "flow/twin_store.h"

#define MAGIC       "IOHTWIN1"
#define CHECKED_AT  12 /* first byte under the checksum */
#define HEADER_SIZE 44
#define FILE_MAX    (HEADER_SIZE + TWIN_STORE_IDENTITY_MAX + 3 * HUB_TWIN_TEXT_BYTES_MAX)

void twin_store_state_deinit(struct twin_store_state *state)
{
	twin_doc_unref(state->desired);
	twin_doc_unref(state->reported);
	twin_doc_unref(state->pending);
	*state = (struct twin_store_state){0};
}

/* --- the format ------------------------------------------------------------------------------- */

static void writer_u64(struct writer *w, uint64_t v)
{
	writer_u32(w, (uint32_t)(v >> 32));
	writer_u32(w, (uint32_t)v);
}

static uint64_t reader_u64(struct reader *r)
{
	uint64_t high = reader_u32(r);

	return high << 32 | reader_u32(r);
}

/* The texts in the order of the file. */
struct texts {
	struct bytes identity, desired, reported, pending;
};

static void encode_texts(struct writer *w, const struct texts *t)
{
	writer_bytes_put(w, t->identity);
	writer_bytes_put(w, t->desired);
	writer_bytes_put(w, t->reported);
	writer_bytes_put(w, t->pending);
}

int twin_store_encode(const struct twin_store_state *state, struct bytes identity, uint8_t **out, size_t *len)
{
	const struct texts t = {
		.identity = identity,
		.desired = twin_doc_text(state->desired, false),
		.reported = twin_doc_text(state->reported, false),
		.pending = state->pending ? twin_doc_text(state->pending, false) : BYTES(NULL, 0),
	};
	struct writer w, checksum;

	if (!t.desired.len || !t.reported.len || (state->pending && !t.pending.len))
		return -ENOMEM;
	if (t.desired.len > HUB_TWIN_TEXT_BYTES_MAX || t.reported.len > HUB_TWIN_TEXT_BYTES_MAX ||
	    t.pending.len > HUB_TWIN_TEXT_BYTES_MAX)
		return -EMSGSIZE;
	*len = HEADER_SIZE + identity.len + t.desired.len + t.reported.len + t.pending.len;
	*out = malloc(*len);
	if (!*out)
		return -ENOMEM;
	w = writer_init(*out, *len);
	writer_bytes_put(&w, BYTES_LIT(MAGIC));
	writer_u32(&w, 0);
	writer_u32(&w, (uint32_t)identity.len);
	writer_u64(&w, state->desired_version);
	writer_u64(&w, state->reported_version);
	writer_u32(&w, (uint32_t)t.desired.len);
	writer_u32(&w, (uint32_t)t.reported.len);
	writer_u32(&w, (uint32_t)t.pending.len);
	encode_texts(&w, &t);
	assert(!w.error && writer_len(&w) == *len);
	checksum = writer_init(*out + sizeof(MAGIC) - 1, sizeof(uint32_t));
	writer_u32(&checksum, crc32c(0, *out + CHECKED_AT, *len - CHECKED_AT));
	return 0;
}

static int decode_object(struct bytes text, const struct json_object **out)
{
	struct hub_twin_reason reason;
	struct json_object *object;
	int r = hub_twin_parse(text, &object, &reason);

	if (r)
		return r == -ENOMEM ? r : -EBADMSG;
	*out = object;
	return 0;
}

static int decode_state(struct bytes text, const struct json_object **out)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *object = NULL;
	struct hub_twin_reason reason;
	int r = decode_object(text, &object);

	if (r)
		return r;
	if (hub_twin_check(object, &reason))
		return -EBADMSG;
	return twin_doc_apply(out, NULL, object);
}

static int decode_texts(const struct texts *t, struct twin_store_state *state)
{
	int r = decode_state(t->desired, &state->desired);

	if (!r)
		r = decode_state(t->reported, &state->reported);
	if (!r && t->pending.len)
		r = decode_object(t->pending, &state->pending);
	if (r)
		twin_store_state_deinit(state);
	return r;
}

/* Up to the texts, of which nothing is known yet. */
static int decode_header(struct bytes file, struct twin_store_state *state, struct texts *t)
{
	struct reader r = reader_init(file);
	uint32_t checksum, identity_len, desired_len, reported_len, pending_len;

	if (!bytes_equal(reader_take(&r, sizeof(MAGIC) - 1), BYTES_LIT(MAGIC)))
		return -EBADMSG;
	checksum = reader_u32(&r);
	if (r.error || checksum != crc32c(0, r.pos, reader_left(&r)))
		return -EBADMSG;
	identity_len = reader_u32(&r);
	state->desired_version = reader_u64(&r);
	state->reported_version = reader_u64(&r);
	desired_len = reader_u32(&r);
	reported_len = reader_u32(&r);
	pending_len = reader_u32(&r);
	t->identity = reader_take(&r, identity_len);
	t->desired = reader_take(&r, desired_len);
	t->reported = reader_take(&r, reported_len);
	t->pending = reader_take(&r, pending_len);
	if (r.error || reader_left(&r) || !state->desired_version != !state->reported_version ||
	    state->desired_version == UINT64_MAX || state->reported_version == UINT64_MAX)
		return -EBADMSG;
	return 0;
}

int twin_store_decode(struct bytes file, struct bytes identity, struct twin_store_state *out)
{
	struct twin_store_state state = {0};
	struct texts t;
	int error = decode_header(file, &state, &t);

	if (error)
		return error;
	if (!bytes_equal(t.identity, identity))
		return -ESTALE;
	error = decode_texts(&t, &state);
	if (!error)
		*out = state;
	return error;
}

/* --- the file --------------------------------------------------------------------------------- */

struct twin_store {
	struct store *store;
	struct log *log;
	char *identity;
	struct twin_store_state next;         /* to be saved; no desired properties: nothing is */
	uint64_t next_generation, generation; /* of `next`, and of what was encoded last */
	twin_store_fn fn;
	void *userdata;
};

static int store_encode(void *userdata, uint8_t **out, size_t *len)
{
	struct twin_store *s = userdata;
	int r = twin_store_encode(&s->next, bytes_from_str(s->identity), out, len);

	twin_store_state_deinit(&s->next);
	s->generation = s->next_generation;
	return r;
}

static void store_on_tried(void *userdata)
{
	struct twin_store *s = userdata;

	if (s->fn)
		s->fn(s->userdata, s->generation);
}

/* The patch is nowhere else. */
static bool file_has_patch(struct bytes file)
{
	struct twin_store_state state;
	struct texts texts;

	return decode_header(file, &state, &texts) == 0 && texts.pending.len > 0;
}

int twin_store_new(struct twin_store **out, struct loop *loop, struct log *log, const char *path,
		   const char *identity)
{
	static const struct store_ops ops = {
		.encode = store_encode, .on_tried = store_on_tried, .is_precious = file_has_patch};
	struct store_options options = {
		.loop = loop,
		.log = log,
		.path = path,
		.bytes_max = FILE_MAX,
		.without = "starting without a known twin",
		.precious = "properties that were not sent",
		.ops = &ops,
	};
	struct twin_store *s;

	if (strlen(identity) > TWIN_STORE_IDENTITY_MAX)
		return -ENAMETOOLONG;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	options.userdata = s;
	s->log = log;
	s->identity = strdup(identity);
	if (!s->identity || store_new(&s->store, &options)) {
		twin_store_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void twin_store_watch(struct twin_store *s, twin_store_fn fn, void *userdata)
{
	s->fn = fn;
	s->userdata = userdata;
}

void twin_store_free(struct twin_store *s)
{
	if (!s)
		return;
	/* First: it asks for what is not written yet. */
	store_free(s->store);
	twin_store_state_deinit(&s->next);
	free(s->identity);
	free(s);
}

const char *twin_store_error(const struct twin_store *s)
{
	return store_error(s->store);
}

int twin_store_load(struct twin_store *s, struct twin_store_state *out)
{
	_cleanup_(free_ptr) uint8_t *data = NULL;
	size_t len = 0;
	int r = store_load(s->store, &data, &len);

	if (r)
		return r;
	r = twin_store_decode(BYTES(data, len), bytes_from_str(s->identity), out);
	if (r == -EBADMSG || r == -ESTALE)
		store_set_aside(s->store, r == -ESTALE ? "is the twin of another device" : "is damaged");
	else if (r)
		log_error(s->log, "cannot read the known twin: %s", strerror(-r));
	return r;
}

void twin_store_save(struct twin_store *s, const struct twin_store_state *state, uint64_t generation)
{
	assert(state->desired && state->reported);
	twin_store_state_deinit(&s->next);
	s->next = *state;
	s->next_generation = generation;
	twin_doc_ref(s->next.desired);
	twin_doc_ref(s->next.reported);
	twin_doc_ref(s->next.pending);
	store_save(s->store);
}
