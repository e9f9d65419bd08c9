/* SPDX-License-Identifier: MIT */
/*
 * The twin under whatever happens: random sequences of the hub's patches, of documents and leaves written here,
 * directories made, moved and removed, and connections, hubs and daemons that end. When the dust has settled the tree,
 * the documents and the hub's twin are the same, with the same versions, and no reader ever saw a version go back.
 *
 * $IOTHUB_SEQUENCES: how many sequences; 60 unless it is set. Settled and compared after each.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"

#define N_SEQUENCES 60
#define N_STEPS_MAX 8
#define N_KEYS      6
#define TEXT_SIZE   65536
/* Out of so many steps one ends the daemon, and one the hub. */
#define DAEMON_EVERY 25
#define HUB_EVERY    40

FIXTURE(twin)
{
	struct lab lab;
	uint64_t version[2]; /* desired, reported: the last seen */
	unsigned int n_steps, n_daemons, n_hubs;
	char text[TEXT_SIZE], leaf[TEXT_SIZE], path[512];
};

static const char *const halves[2] = {"desired", "reported"};

FIXTURE_SETUP(twin)
{
	lab_init(&self->lab);
}

FIXTURE_TEARDOWN(twin)
{
	static const char *const programs[] = {"emulator", "daemon"};

	for (size_t i = 0; i < 2 && !test_is_orphan() && harness_state.result->n_failed; ++i) {
		_cleanup_(free_ptr) char *log = lab_log(&self->lab, programs[i]);

		TEST_LOG("%s: %s", programs[i], log + (strlen(log) > 2000 ? strlen(log) - 2000 : 0));
	}
	lab_deinit(&self->lab);
}

static unsigned int pick(unsigned int n)
{
	return (unsigned int)(test_random() % n);
}

/* --- steps ------------------------------------------------------------------------------------ */

/* A value as JSON text: any kind, null too. */
static void value_random(char *out, size_t size)
{
	switch (pick(7)) {
	case 0:
		snprintf(out, size, "null");
		return;
	case 1:
		snprintf(out, size, "{\"k%u\":%u,\"k%u\":null}", pick(N_KEYS), pick(100), pick(N_KEYS));
		return;
	case 2:
		snprintf(out, size, "{\"k%u\":{\"k%u\":\"%u\"}}", pick(N_KEYS), pick(N_KEYS), pick(100));
		return;
	case 3:
		snprintf(out, size, "[%u,true,null,{\"a\":%u}]", pick(9), pick(9));
		return;
	case 4:
		snprintf(out, size, "\"text %u\"", pick(1000));
		return;
	case 5:
		snprintf(out, size, "%u.5", pick(1000));
		return;
	default:
		snprintf(out, size, "%u", pick(1000));
		return;
	}
}

static void patch_random(char *out, size_t size)
{
	char value[128];

	value_random(value, sizeof(value));
	snprintf(out, size, "{\"k%u\":%s}", pick(N_KEYS), value);
}

static const char *path_random(struct fixture_twin *self)
{
	int depth = (int)pick(3);
	size_t n = (size_t)snprintf(self->path, sizeof(self->path), "twin/reported/k%u", pick(N_KEYS));

	while (depth-- > 0)
		n += (size_t)snprintf(self->path + n, sizeof(self->path) - n, "/k%u", pick(N_KEYS));
	return lab_path(&self->lab, self->path);
}

/* What cannot be, because of what is there at the moment, is refused as in any directory. */
static void expect_plain_error(int r)
{
	static const int errors[] = {ENOENT, ENOTDIR, EISDIR, EEXIST, ENOTEMPTY, EINVAL, ESTALE};

	if (r >= 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(errors); ++i)
		if (errno == errors[i])
			return;
	EXPECT_EQ(errno, 0);
}

static void text_write(const char *path, int flags, const char *text)
{
	_cleanup_(close_fd) int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | flags, 0660);

	expect_plain_error(fd);
	if (fd >= 0)
		expect_plain_error((int)write(fd, text, strlen(text)));
}

static void step_hub_patch(struct fixture_twin *self)
{
	char patch[256], out[1024];

	patch_random(patch, sizeof(patch));
	ASSERT_EQ(lab_hubctl(&self->lab, out, sizeof(out), "twin", "patch", "dev1", patch), 0);
}

static void step_document(struct fixture_twin *self)
{
	char patch[256];

	patch_random(patch, sizeof(patch));
	text_write(lab_path(&self->lab, "twin/reported.json"), 0, patch);
}

static void step_leaf(struct fixture_twin *self)
{
	char value[128];

	/* An object would be one here as well, in place of the file. */
	do
		value_random(value, sizeof(value));
	while (value[0] == '{');
	text_write(path_random(self), O_CREAT, value);
}

static void step_remove(struct fixture_twin *self)
{
	const char *path = path_random(self);
	struct stat st;

	if (stat(path, &st) == 0)
		expect_plain_error(S_ISDIR(st.st_mode) ? rmdir(path) : unlink(path));
}

static void step_move(struct fixture_twin *self)
{
	char from[512];

	snprintf(from, sizeof(from), "%s", path_random(self));
	expect_plain_error(rename(from, path_random(self)));
}

static void restart_daemon(struct fixture_twin *self)
{
	lab_stop_daemon(&self->lab, pick(2) ? SIGKILL : SIGTERM);
	lab_start_daemon(&self->lab);
	++self->n_daemons;
}

static void restart_hub(struct fixture_twin *self)
{
	/* Not killed: the kernel takes a ring down later than its process, and the port with it. */
	lab_stop_emulator(&self->lab, SIGTERM);
	lab_start_emulator(&self->lab, NULL);
	++self->n_hubs;
}

static void step(struct fixture_twin *self)
{
	++self->n_steps;
	if (pick(DAEMON_EVERY) == 0) {
		restart_daemon(self);
		return;
	}
	if (pick(HUB_EVERY) == 0) {
		restart_hub(self);
		return;
	}
	switch (pick(8)) {
	case 0:
		step_hub_patch(self);
		break;
	case 1:
	case 2:
		step_document(self);
		break;
	case 3:
	case 4:
		step_leaf(self);
		break;
	case 5:
		expect_plain_error(mkdir(path_random(self), 0770));
		break;
	case 6:
		step_remove(self);
		break;
	default:
		step_move(self);
		break;
	}
}

/* --- the dust settles ------------------------------------------------------------------------- */

static const char *file_read(struct fixture_twin *self, const char *name, char *out)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, name), O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	ASSERT_GE(fd, 0);
	while ((n = read(fd, out + len, TEXT_SIZE - 1 - len)) > 0)
		len += (size_t)n;
	ASSERT_EQ(n, 0);
	out[len] = '\0';
	return out;
}

static uint64_t version_read(struct fixture_twin *self, int half)
{
	char name[64];
	uint64_t version;

	snprintf(name, sizeof(name), "twin/%s.version", halves[half]);
	version = strtoull(file_read(self, name, self->text), NULL, 10);
	EXPECT_GE(version, self->version[half]);
	self->version[half] = version;
	return version;
}

/* All that was written before has its outcome when a synchronous write has. */
static void flush_reported(struct fixture_twin *self, unsigned int number)
{
	_cleanup_(close_fd) int fd =
		open(lab_path(&self->lab, "twin/reported.json"), O_WRONLY | O_SYNC | O_CLOEXEC);
	char patch[64];
	int n = snprintf(patch, sizeof(patch), "{\"settled\":%u}", number);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, patch, (size_t)n), n);
}

static json_object *hub_twin(struct fixture_twin *self, const char *half, uint64_t *version)
{
	json_object *twin, *part, *v;

	ASSERT_EQ(lab_hubctl(&self->lab, self->text, sizeof(self->text), "twin", "show", "dev1", "--json"),
		  0);
	twin = json_tokener_parse(self->text);
	ASSERT_TRUE(json_object_object_get_ex(twin, half, &part));
	ASSERT_TRUE(json_object_object_get_ex(part, "$version", &v));
	*version = json_object_get_uint64(v);
	json_object_object_del(part, "$version");
	part = json_object_get(part);
	json_object_put(twin);
	return part;
}

/* Until the device has the desired version of the hub. */
static void await_desired(struct fixture_twin *self, uint64_t version)
{
	_cleanup_(close_fd) int fd = open(lab_path(&self->lab, "twin/changes"), O_RDONLY | O_CLOEXEC);
	char line[4096];

	ASSERT_GE(fd, 0);
	while (version_read(self, 0) < version)
		ASSERT_GT(read(fd, line, sizeof(line)), 0);
}

/* --- what is compared ------------------------------------------------------------------------- */

static void expect_leaf(struct fixture_twin *self, const char *path, json_object *value)
{
	char want[TEXT_SIZE];

	if (json_object_is_type(value, json_type_string))
		snprintf(want, sizeof(want), "%s\n", json_object_get_string(value));
	else
		snprintf(want, sizeof(want), "%s\n",
			 json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
								       JSON_C_TO_STRING_NOSLASHESCAPE));
	EXPECT_STREQ(file_read(self, path, self->leaf), want);
}

static unsigned int n_entries(struct fixture_twin *self, const char *path)
{
	DIR *dir = opendir(lab_path(&self->lab, path));
	unsigned int n = 0;

	ASSERT_TRUE(dir != NULL);
	for (struct dirent *d; (d = readdir(dir));)
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* What is still to be compared. */
struct branch {
	char path[256];
	json_object *object;
};

/* The tree at @root has what @object has, and nothing else. */
static void expect_tree(struct fixture_twin *self, const char *root, json_object *object)
{
	static struct branch branches[512];
	size_t n = 1;

	snprintf(branches[0].path, sizeof(branches[0].path), "%s", root);
	branches[0].object = object;
	while (n) {
		struct branch b = branches[--n];

		EXPECT_EQ(n_entries(self, b.path), (unsigned int)json_object_object_length(b.object));
		json_object_object_foreach(b.object, key, value)
		{
			char path[256 + 64];

			snprintf(path, sizeof(path), "%s/%s", b.path, key);
			if (!json_object_is_type(value, json_type_object)) {
				expect_leaf(self, path, value);
				continue;
			}
			ASSERT_LT(n, ARRAY_SIZE(branches));
			ASSERT_LT(strlen(path), sizeof(branches[n].path));
			memcpy(branches[n].path, path, strlen(path) + 1);
			branches[n++].object = value;
		}
	}
}

static void expect_same(struct fixture_twin *self, int half)
{
	char name[64], tree[64];
	json_object *hub, *document;
	uint64_t version;

	hub = hub_twin(self, halves[half], &version);
	if (half == 0)
		await_desired(self, version);
	EXPECT_EQ(version_read(self, half), version);
	snprintf(name, sizeof(name), "twin/%s.json", halves[half]);
	snprintf(tree, sizeof(tree), "twin/%s", halves[half]);
	document = json_tokener_parse(file_read(self, name, self->text));
	ASSERT_TRUE(document != NULL);
	if (!json_object_equal(hub, document)) {
		TEST_LOG("hub: %s", json_object_to_json_string(hub));
		TEST_LOG("device: %s", json_object_to_json_string(document));
		EXPECT_TRUE(json_object_equal(hub, document));
	}
	expect_tree(self, tree, document);
	json_object_put(hub);
	json_object_put(document);
}

TEST_F_TIMEOUT(twin, tree_documents_and_hub_agree_in_the_end, 1800)
{
	const char *text = getenv("IOTHUB_SEQUENCES");
	unsigned int n = text ? (unsigned int)strtoul(text, NULL, 10) : N_SEQUENCES;

	lab_start_emulator(&self->lab, NULL);
	lab_start_daemon(&self->lab);
	for (unsigned int i = 1; i <= n && !harness_state.result->n_failed; ++i) {
		for (unsigned int k = pick(N_STEPS_MAX) + 1; k > 0; --k)
			step(self);
		flush_reported(self, i);
		for (int half = 0; half < 2; ++half)
			expect_same(self, half);
	}
	TEST_LOG("%u sequences, %u steps, %u daemons, %u hubs", n, self->n_steps, self->n_daemons,
		 self->n_hubs);
}

TEST_HARNESS_MAIN
