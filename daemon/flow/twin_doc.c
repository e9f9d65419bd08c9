/* SPDX-License-Identifier: MIT */
/*
 * Documents of a twin, see twin_doc.h.
 *
 * Documents are made of two others by one walk over the objects both have, level by level, with a rule for what
 * becomes of the members of one name. All that is made is new, at each level the walk enters, and takes references for
 * the rest: what is published is never touched. The levels are bounded, so there is no recursion here.
 *
 * Rules of a patch with marks:
 *   apply    the members of a marked object replace whatever was there;
 *   merge    what comes after a marked object changes the members it has, and it stays marked; an object that
 *            comes after anything but an object becomes a marked one;
 *   resolve  a marked object becomes the members it has, and null for what the state has besides.
 * A marked object holds a state: no nulls and no other mark. The patch itself is never marked.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "flow/twin_doc.h"

#define MARK "$replace"

/* The library's functions that change nothing take no const pointer. */
static struct json_object *unconst(const struct json_object *doc)
{
	return (struct json_object *)(uintptr_t)doc;
}

const struct json_object *twin_doc_ref(const struct json_object *doc)
{
	return json_object_get(unconst(doc));
}

void twin_doc_unref(const struct json_object *doc)
{
	json_object_put(unconst(doc));
}

static inline void json_object_put_ptr(struct json_object **object)
{
	json_object_put(*object);
}

const struct json_object *twin_doc_new(void)
{
	return json_object_new_object();
}

bool twin_doc_equal(const struct json_object *a, const struct json_object *b)
{
	return json_object_equal(unconst(a), unconst(b));
}

struct bytes twin_doc_text(const struct json_object *doc, bool indented)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE |
		    (indented ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN);
	const char *text;
	size_t len = 0;

	if (!doc)
		return BYTES_LIT("null");
	text = json_object_to_json_string_length(unconst(doc), flags, &len);
	return text ? BYTES(text, len) : BYTES("", 0);
}

static bool is_object(const struct json_object *value)
{
	return json_object_is_type(value, json_type_object);
}

/* --- paths ------------------------------------------------------------------------------------ */

bool twin_doc_member(const struct json_object *doc, const char *key, const struct json_object **out)
{
	struct json_object *value;

	if (!is_object(doc) || !json_object_object_get_ex(doc, key, &value))
		return false;
	*out = value;
	return true;
}

bool twin_doc_find(const struct json_object *doc, const char *const *keys, size_t n,
		   const struct json_object **out)
{
	for (size_t i = 0; i < n; ++i)
		if (!twin_doc_member(doc, keys[i], &doc))
			return false;
	*out = doc;
	return true;
}

/* Adds a member that is not there yet; the reference moves. On failure it is dropped: -ENOMEM. */
static int add_take(struct json_object *object, const char *key, const struct json_object *value_take)
{
	if (json_object_object_add_ex(object, key, unconst(value_take), JSON_C_OBJECT_ADD_KEY_IS_NEW) == 0)
		return 0;
	twin_doc_unref(value_take);
	return -ENOMEM;
}

int twin_doc_patch_at(const struct json_object **out, const char *const *keys, size_t n,
		      const struct json_object *value)
{
	const struct json_object *inner = twin_doc_ref(value);

	while (n--) {
		struct json_object *object = json_object_new_object();

		if (!object || add_take(object, keys[n], inner)) {
			if (!object)
				twin_doc_unref(inner);
			json_object_put(object);
			return -ENOMEM;
		}
		inner = object;
	}
	*out = inner;
	return 0;
}

/* --- two objects become one ------------------------------------------------------------------- */

/* Objects inside each other, at most: what the parser lets pass. */
#define LEVELS_MAX (HUB_TWIN_PARSE_LEVELS_MAX + 1)

/* What is made of the left and the right object. */
enum rule {
	RULE_APPLY,      /* a state and a patch: the state after it */
	RULE_MERGE,      /* two patches, neither marked: the patch that is both */
	RULE_RESOLVE,    /* a state and a patch: the patch without marks */
	RULE_DIFFERENCE, /* a state and the members it is to have, maybe marked: the patch that does it */
};

/* The members of one name. */
struct pair {
	const char *key;
	bool in_left, in_right;
	const struct json_object *left, *right;
};

enum verdict {
	VERDICT_OMIT,
	VERDICT_PUT,
	VERDICT_ENTER,
};

/* What is to be done about a pair. */
struct decision {
	enum verdict verdict;
	const struct json_object *value;        /* to PUT, borrowed */
	enum rule rule;                         /* to ENTER with, as is the rest */
	const struct json_object *left, *right; /* objects; left NULL: an empty one */
	bool marked;                            /* what is made gets a mark */
};

static bool is_mark(const char *key)
{
	return strcmp(key, MARK) == 0;
}

static bool is_marked(const struct json_object *value)
{
	const struct json_object *mark;

	return twin_doc_member(value, MARK, &mark);
}

static struct decision omit(void)
{
	return (struct decision){.verdict = VERDICT_OMIT};
}

static struct decision put(const struct json_object *value)
{
	return (struct decision){.verdict = VERDICT_PUT, .value = value};
}

/* What is no object counts as an empty one. */
static struct decision enter(enum rule rule, const struct json_object *left, const struct json_object *right)
{
	return (struct decision){
		.verdict = VERDICT_ENTER,
		.rule = rule,
		.left = is_object(left) ? left : NULL,
		.right = right,
	};
}

static struct decision decide_apply(const struct pair *p)
{
	if (!p->in_right)
		return put(p->left);
	if (!p->right)
		return omit();
	if (!is_object(p->right))
		return put(p->right);
	return enter(RULE_APPLY, is_marked(p->right) ? NULL : p->left, p->right);
}

static struct decision decide_merge(const struct pair *p)
{
	struct decision marked;

	if (!p->in_right)
		return put(p->left);
	if (!p->in_left || !is_object(p->right) || is_marked(p->right))
		return put(p->right);
	if (is_object(p->left) && !is_marked(p->left))
		return enter(RULE_MERGE, p->left, p->right);
	marked = enter(RULE_APPLY, p->left, p->right);
	marked.marked = true;
	return marked;
}

static struct decision decide_resolve(const struct pair *p)
{
	if (!p->in_right)
		return omit();
	if (!is_object(p->right))
		return put(p->right);
	return enter(is_marked(p->right) ? RULE_DIFFERENCE : RULE_RESOLVE, p->left, p->right);
}

static struct decision decide_difference(const struct pair *p)
{
	if (!p->in_right)
		return put(NULL);
	if (!p->in_left || !is_object(p->right))
		return put(p->right);
	return enter(RULE_DIFFERENCE, p->left, p->right);
}

static struct decision decide(enum rule rule, const struct pair *p)
{
	if (is_mark(p->key))
		return omit();
	switch (rule) {
	case RULE_APPLY:
		return decide_apply(p);
	case RULE_MERGE:
		return decide_merge(p);
	case RULE_RESOLVE:
		return decide_resolve(p);
	case RULE_DIFFERENCE:
		return decide_difference(p);
	}
	return omit();
}

/* One object that is being made: of the members on the left, then of those that are only on the right. */
struct level {
	enum rule rule;
	struct json_object *made; /* owned */
	const struct json_object *left, *right;
	const struct lh_entry *next; /* NULL: this side is done */
	bool on_right;
	const char *key; /* of what is made inside the level before */
};

static const struct lh_entry *first_member(const struct json_object *object)
{
	return object ? lh_table_head(json_object_get_object(object)) : NULL;
}

static int level_begin(struct level *l, const char *key, const struct decision *d)
{
	*l = (struct level){
		.rule = d->rule,
		.made = json_object_new_object(),
		.left = d->left,
		.right = d->right,
		.next = first_member(d->left),
		.key = key,
	};
	if (!l->made)
		return -ENOMEM;
	return d->marked ? add_take(l->made, MARK, json_object_new_boolean(true)) : 0;
}

/* The next pair; false: there are no more. */
static bool level_next(struct level *l, struct pair *p)
{
	const struct lh_entry *entry;

	for (;;) {
		if (!l->next && !l->on_right) {
			l->on_right = true;
			l->next = first_member(l->right);
		}
		entry = l->next;
		if (!entry)
			return false;
		l->next = lh_entry_next(entry);
		*p = (struct pair){.key = lh_entry_k(entry)};
		p->in_left = twin_doc_member(l->left, p->key, &p->left);
		if (l->on_right && p->in_left)
			continue;
		p->in_right = twin_doc_member(l->right, p->key, &p->right);
		return true;
	}
}

struct levels {
	struct level levels[LEVELS_MAX];
	size_t n;
};

static void levels_deinit(struct levels *s)
{
	while (s->n)
		json_object_put(s->levels[--s->n].made);
}

/* Does what is next: a member, or the end of the innermost object; *@out when that was the last one. */
static int levels_step(struct levels *s, const struct json_object **out)
{
	struct level *l = &s->levels[s->n - 1];
	struct decision d;
	struct pair pair;

	if (!level_next(l, &pair)) {
		struct json_object *made = TAKE_PTR(l->made);

		if (--s->n)
			return add_take(l[-1].made, l->key, made);
		*out = made;
		return 0;
	}
	d = decide(l->rule, &pair);
	switch (d.verdict) {
	case VERDICT_OMIT:
		return 0;
	case VERDICT_PUT:
		return add_take(l->made, pair.key, twin_doc_ref(d.value));
	case VERDICT_ENTER:
		break;
	}
	if (s->n == LEVELS_MAX)
		return -EINVAL;
	return level_begin(&s->levels[s->n++], pair.key, &d);
}

static int combine(const struct json_object **out, enum rule rule, const struct json_object *left,
		   const struct json_object *right)
{
	_cleanup_(levels_deinit) struct levels s = {.n = 1};
	const struct decision all = enter(rule, left, right);
	int r = level_begin(&s.levels[0], NULL, &all);

	while (!r && s.n)
		r = levels_step(&s, out);
	return r;
}

int twin_doc_apply(const struct json_object **out, const struct json_object *state,
		   const struct json_object *patch)
{
	return combine(out, RULE_APPLY, state, patch);
}

int twin_doc_merge(const struct json_object **out, const struct json_object *first,
		   const struct json_object *second)
{
	return combine(out, RULE_MERGE, first, second);
}

int twin_doc_resolve(const struct json_object **out, const struct json_object *patch,
		     const struct json_object *state)
{
	return combine(out, RULE_RESOLVE, state, patch);
}

/* --- what the hub sends ----------------------------------------------------------------------- */

static int fail(struct hub_twin_reason *reason, int error, const char *text)
{
	snprintf(reason->text, sizeof(reason->text), "%s", text);
	return error;
}

/* *@out: @object without the hub's own members. */
static int without_own(const struct json_object **out, const struct json_object *object)
{
	_cleanup_(json_object_put_ptr) struct json_object *copy = json_object_new_object();

	if (!copy)
		return -ENOMEM;
	json_object_object_foreach(object, key,
				   value) if (key[0] != '$' &&
					      add_take(copy, key, twin_doc_ref(value))) return -ENOMEM;
	*out = TAKE_PTR(copy);
	return 0;
}

static int parse_version(uint64_t *out, const struct json_object *part, struct hub_twin_reason *reason)
{
	const struct json_object *value;

	if (!twin_doc_member(part, "$version", &value) || !json_object_is_type(value, json_type_int))
		return fail(reason, -EINVAL, "there is no $version that is a number");
	/* A negative one becomes 0, one that is too large the largest. */
	*out = json_object_get_uint64(value);
	if (*out == 0 || *out == UINT64_MAX)
		return fail(reason, -EINVAL, "a $version is out of range");
	return 0;
}

static int parse_part(struct twin_doc_part *out, const struct json_object *root, const char *name,
		      struct hub_twin_reason *reason)
{
	_cleanup_(twin_doc_unref_ptr) const struct json_object *members = NULL;
	const struct json_object *part;
	int r;

	if (!twin_doc_member(root, name, &part) || !is_object(part))
		return fail(reason, -EINVAL, "there is no object of desired or of reported properties");
	r = parse_version(&out->version, part, reason);
	if (r)
		return r;
	if (without_own(&members, part))
		return fail(reason, -ENOMEM, "not enough memory");
	/* As a patch of nothing: a member that is null is none. Before it is applied, which would know a mark. */
	r = hub_twin_check_patch(members, reason);
	if (!r && twin_doc_apply(&out->state, NULL, members))
		return fail(reason, -ENOMEM, "not enough memory");
	return r;
}

void twin_doc_whole_deinit(struct twin_doc_whole *whole)
{
	twin_doc_unref(whole->desired.state);
	twin_doc_unref(whole->reported.state);
	*whole = (struct twin_doc_whole){0};
}

int twin_doc_parse_whole(struct bytes text, struct twin_doc_whole *out, struct hub_twin_reason *reason)
{
	_cleanup_(json_object_put_ptr) struct json_object *root = NULL;
	_cleanup_(twin_doc_whole_deinit) struct twin_doc_whole whole = {0};
	int r = hub_twin_parse(text, &root, reason);

	if (!r)
		r = parse_part(&whole.desired, root, "desired", reason);
	if (!r)
		r = parse_part(&whole.reported, root, "reported", reason);
	if (r)
		return r;
	*out = whole;
	whole.desired.state = NULL;
	whole.reported.state = NULL;
	return 0;
}

int twin_doc_parse_patch(struct bytes text, const struct json_object **out, struct hub_twin_reason *reason)
{
	_cleanup_(json_object_put_ptr) struct json_object *root = NULL;
	_cleanup_(twin_doc_unref_ptr) const struct json_object *patch = NULL;
	int r = hub_twin_parse(text, &root, reason);

	if (r)
		return r;
	if (without_own(&patch, root))
		return fail(reason, -ENOMEM, "not enough memory");
	r = hub_twin_check_patch(patch, reason);
	if (!r)
		*out = TAKE_PTR(patch);
	return r;
}
