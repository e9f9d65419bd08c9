/* SPDX-License-Identifier: MIT */
/*
 * A twin between a hub that says anything and a writer. The input is a list of steps: answers and changes with these
 * bytes or with good ones, lost connections, timers, patches. What must hold after each: what is known is within the
 * limits and has versions, what is held is within its bounds, one request is under way at most, and what goes to the
 * hub is a patch it can take.
 */

#include <stdlib.h>

#include <json-c/json.h>

#include "tests/support/twin_line.h"

#define N_STEPS_MAX 200

/* The input, from its front. */
struct input {
	struct bytes left;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static uint8_t take(struct input *in)
{
	uint8_t byte = in->left.len ? in->left.data[0] : 0;

	if (in->left.len)
		in->left = BYTES(in->left.data + 1, in->left.len - 1);
	return byte;
}

/* A copy of the next bytes of exactly their size, to be freed: their number stands before them. */
static uint8_t *take_bytes(struct input *in, struct bytes *out)
{
	size_t len = (size_t)take(in) << 8;
	uint8_t *copy;

	len |= take(in);
	len = len < in->left.len ? len : in->left.len;
	copy = malloc(len ? len : 1);
	must(copy);
	if (len) {
		memcpy(copy, in->left.data, len);
		in->left = BYTES(in->left.data + len, in->left.len - len);
	}
	*out = BYTES(copy, len);
	return copy;
}

/* --- steps ------------------------------------------------------------------------------------ */

/* A version close to @known, or a text that is none. */
static const char *version_make(struct input *in, uint64_t known, char out[static 24])
{
	static const char *const odd[] = {
		NULL, "", "x", "-1", "18446744073709551615", "18446744073709551616"};
	uint8_t how = take(in);

	if (how >= 250)
		return odd[how - 250];
	snprintf(out, 24, "%" PRIu64, known + how % 5 - (known > 2 ? 2 : 0));
	return out;
}

static void step_desired(struct twin_line *l, struct input *in)
{
	char text[24];
	const char *version = version_make(in, twin_desired(l->twin).version + 1, text);
	struct bytes payload;
	uint8_t *copy = take_bytes(in, &payload);

	twin_line_desired(l, version, payload);
	free(copy);
}

static void step_answer(struct twin_line *l, struct input *in)
{
	char text[24];
	const char *version = version_make(in, twin_reported(l->twin).version + 1, text);
	struct bytes payload;
	uint8_t *copy = take_bytes(in, &payload);

	twin_line_respond(l, NULL, version, payload);
	free(copy);
}

static void step_refusal(struct twin_line *l, struct input *in)
{
	static const char *const statuses[] = {"0100", "0104", "0501", "0601", "0602", "0700", "zz"};

	twin_line_respond(l, statuses[take(in) % ARRAY_SIZE(statuses)], NULL, BYTES(NULL, 0));
}

/* A good twin with the next bytes as its properties, if they are an object's members. */
static void step_whole(struct twin_line *l, struct input *in)
{
	static char text[140000];
	unsigned int desired = take(in), reported = take(in);
	struct bytes members;
	uint8_t *copy = take_bytes(in, &members);
	int len = snprintf(text, sizeof(text), "{\"desired\":{%.*s%s\"$version\":%u},\"reported\":{%s%u}}",
			   (int)members.len, (const char *)members.data, members.len ? "," : "", desired,
			   "\"r\":{\"x\":1},\"$version\":", reported);

	twin_line_respond(l, NULL, NULL, BYTES(text, (size_t)len));
	free(copy);
}

static void step_write(struct twin_line *l, struct input *in)
{
	uint64_t version = twin_reported(l->twin).version;
	bool conditional = take(in) % 4 == 0;
	struct json_object *patch = NULL;
	struct hub_twin_reason reason;
	struct bytes text;
	uint8_t *copy = take_bytes(in, &text);

	if (hub_twin_parse(text, &patch, &reason) == 0) {
		int r = twin_patch(l->twin, patch, conditional ? &version : NULL, NULL, NULL, &reason);

		must(r == 0 || ((r == -EINVAL || r == -EMSGSIZE || r == -ENOSPC) && reason.text[0]));
		json_object_put(patch);
	}
	free(copy);
}

static void step_line(struct twin_line *l)
{
	if (l->hub.link->state == LINK_ONLINE)
		twin_line_offline(l);
	else
		twin_line_online(l);
}

static void step_timer(struct twin_line *l)
{
	if (loop_timer_is_armed(&l->twin->get_retry))
		twin_line_fire(l, &l->twin->get_retry);
	if (loop_timer_is_armed(&l->twin->patch_retry))
		twin_line_fire(l, &l->twin->patch_retry);
}

/* What the device sends is what a hub can take. */
static void step_turn(struct twin_line *l)
{
	struct json_object *patch = NULL;
	struct hub_twin_reason reason;
	const char *request = twin_line_next(l);

	if (strncmp(request, "patch", 5) != 0)
		return;
	must(hub_twin_parse(l->payload, &patch, &reason) == 0);
	must(hub_twin_check_patch(patch, &reason) == 0);
	json_object_put(patch);
}

static void step(struct twin_line *l, struct input *in)
{
	uint8_t op = take(in) % 16;
	bool online = l->hub.link->state == LINK_ONLINE;

	if (op < 3 && online)
		step_desired(l, in);
	else if (op < 5 && online)
		step_answer(l, in);
	else if (op == 5 && online)
		step_refusal(l, in);
	else if (op < 8 && online)
		step_whole(l, in);
	else if (op < 11)
		step_write(l, in);
	else if (op == 11)
		step_line(l);
	else if (op == 12)
		step_timer(l);
	else
		step_turn(l);
}

static void check(const struct twin *t)
{
	struct hub_twin_reason reason;

	must(hub_twin_check(t->desired.state, &reason) == 0);
	must(!t->desired.version == !t->reported.version && t->desired.version < UINT64_MAX);
	must(t->seen && twin_doc_text(t->seen, false).len);
	must(t->n_held <= TWIN_HELD_MAX && t->held_bytes <= TWIN_HELD_BYTES_MAX);
	must(t->n_conditional <= TWIN_CONDITIONAL_MAX && t->n_changes <= 2 * TWIN_CONDITIONAL_MAX + 2);
	must(!t->in_flight || (t->n_changes && t->sync != TWIN_FETCHING && t->sync != TWIN_OFFLINE));
	must(list_is_empty(&t->held) || t->sync == TWIN_STALE || t->sync == TWIN_FETCHING);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* The ring is worth more than one input. */
	static struct twin_line line;
	struct input in = {.left = BYTES(data, size)};

	if (!line.hub.loop) {
		line.deaf = true;
		twin_line_init(&line);
		line.hub.log.fd = -1;
	}
	line.correlation_len = 1;
	twin_line_start(&line);
	twin_line_online(&line);
	step_turn(&line);
	for (unsigned int i = 0; in.left.len && i < N_STEPS_MAX; ++i) {
		step(&line, &in);
		check(line.twin);
	}
	twin_line_stop(&line);
	return 0;
}
