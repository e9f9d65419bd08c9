/* SPDX-License-Identifier: MIT */
/*
 * The twin's file: what is written comes back, whatever is wrong with the file is noticed, and the disk's errors are
 * no reason to stop.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/twin_doc.h"
#include "flow/twin_store.h"
#include "tests/harness.h"

#define IDENTITY "hub.example/dev1"

FIXTURE(store)
{
	struct loop *loop;
	struct log log;
	struct twin_store *s;
	char dir[64], path[96];
	uint64_t generation; /* of the last state */
};

static void open_store(struct fixture_store *self, const char *identity)
{
	ASSERT_EQ(twin_store_new(&self->s, self->loop, &self->log, self->path, identity), 0);
}

/* What is to be saved is on the disk. */
static void settle(struct fixture_store *self)
{
	do
		ASSERT_EQ(loop_turn(self->loop, 0), 0);
	while (loop_n_in_flight(self->loop));
}

static void close_store(struct fixture_store *self)
{
	twin_store_free(self->s);
	self->s = NULL;
	settle(self);
}

FIXTURE_SETUP(store)
{
	log_init(&self->log, "test", LOG_LEVEL_ERROR);
	snprintf(self->dir, sizeof(self->dir), "/tmp/test-twin.XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir));
	snprintf(self->path, sizeof(self->path), "%s/twin", self->dir);
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = &self->log}), 0);
	open_store(self, IDENTITY);
}

static void remove_files(const char *dir)
{
	static const char *const names[] = {
		"twin", "twin.new", "twin.bad", "twin.bad.1", "twin.bad.2", "twin.bad.3", "twin.bad.4",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); ++i) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path) < 0 && errno == EISDIR)
			rmdir(path);
	}
}

FIXTURE_TEARDOWN(store)
{
	if (!test_is_orphan()) {
		close_store(self);
		loop_free(self->loop);
	}
	remove_files(self->dir);
	rmdir(self->dir);
}

/* --- states ----------------------------------------------------------------------------------- */

static const struct json_object *parse(const char *text)
{
	struct json_object *object = text ? json_tokener_parse(text) : NULL;

	ASSERT_TRUE(!text || object);
	return object;
}

static struct twin_store_state state_make(const char *desired, uint64_t desired_version, const char *reported,
					  uint64_t reported_version, const char *pending)
{
	return (struct twin_store_state){
		.desired = parse(desired),
		.reported = parse(reported),
		.pending = parse(pending),
		.desired_version = desired_version,
		.reported_version = reported_version,
	};
}

static struct twin_store_state state_usual(void)
{
	return state_make("{\"interval\":1.50,\"n\":18446744073709551615}", 7, "{\"a\":{\"b\":[null,1]}}",
			  UINT64_MAX - 1, "{\"a\":null,\"c\":{\"$replace\":true,\"d\":\"\\u0001/\"}}");
}

#define STATE _cleanup_(twin_store_state_deinit) struct twin_store_state

static void save(struct fixture_store *self, const char *desired, uint64_t version)
{
	STATE state = state_make(desired, version, "{}", version, NULL);

	twin_store_save(self->s, &state, ++self->generation);
}

static void expect_text(const struct json_object *doc, const char *text)
{
	struct bytes got = twin_doc_text(doc, false);

	if (!bytes_equal_str(got, text))
		harness_fail(__FILE__, __LINE__, false, "expected %s, not %.*s", text, (int)got.len,
			     (const char *)got.data);
}

static void expect_usual(const struct twin_store_state *state)
{
	expect_text(state->desired, "{\"interval\":1.50,\"n\":18446744073709551615}");
	EXPECT_EQ(state->desired_version, 7u);
	expect_text(state->reported, "{\"a\":{\"b\":[null,1]}}");
	EXPECT_EQ(state->reported_version, UINT64_MAX - 1);
	expect_text(state->pending, "{\"a\":null,\"c\":{\"$replace\":true,\"d\":\"\\u0001/\"}}");
}

/* What a new process finds. */
static int load(struct fixture_store *self, struct twin_store_state *out)
{
	close_store(self);
	open_store(self, IDENTITY);
	return twin_store_load(self->s, out);
}

static bool exists(const struct fixture_store *self, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	return access(path, F_OK) == 0;
}

static void write_file(const struct fixture_store *self, struct bytes data)
{
	int fd = open(self->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, data.data, data.len), (ssize_t)data.len);
	close(fd);
}

/* --- the format ------------------------------------------------------------------------------- */

/* Byte by byte, as twin_store.c has it: whoever changes the format must see the files that are there. */
TEST(format)
{
	/* clang-format off */
	static const char wanted[] = "IOHTWIN1"
				     "\x96\x8b\x20\x01" /* checksum */
				     "\0\0\0\x03" /* identity */
				     "\0\0\0\0\0\0\0\x02" /* versions */
				     "\0\0\0\0\0\0\x01\0"
				     "\0\0\0\x07" /* the texts */
				     "\0\0\0\x02"
				     "\0\0\0\x07"
				     "h/d"
				     "{\"a\":1}"
				     "{}"
				     "{\"b\":2}";
	/* clang-format on */
	STATE state = state_make("{\"a\":1}", 2, "{}", 256, "{\"b\":2}"), back = {0};
	_cleanup_(free_ptr) uint8_t *file = NULL;
	size_t len = 0;

	ASSERT_EQ(twin_store_encode(&state, BYTES_LIT("h/d"), &file, &len), 0);
	ASSERT_EQ(len, sizeof(wanted) - 1);
	EXPECT_MEMEQ(file, wanted, len);
	ASSERT_EQ(twin_store_decode(BYTES(file, len), BYTES_LIT("h/d"), &back), 0);
	EXPECT_EQ(back.reported_version, 256u);
}

TEST(every_cut_and_every_bit_is_noticed)
{
	STATE state = state_usual(), back = {0};
	_cleanup_(free_ptr) uint8_t *file = NULL, *copy = NULL;
	struct bytes identity = BYTES_LIT(IDENTITY);
	size_t len = 0;

	ASSERT_EQ(twin_store_encode(&state, identity, &file, &len), 0);
	for (size_t n = 0; n < len; ++n) {
		free(copy);
		/* Of exactly this size, for the address sanitizer. */
		copy = malloc(n ? n : 1);
		ASSERT_TRUE(copy);
		memcpy(copy, file, n);
		ASSERT_EQ(twin_store_decode(BYTES(copy, n), identity, &back), -EBADMSG);
	}
	for (size_t bit = 0; bit < len * 8; ++bit) {
		file[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ASSERT_EQ(twin_store_decode(BYTES(file, len), identity, &back), -EBADMSG);
		file[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	copy = realloc(copy, len + 1);
	ASSERT_TRUE(copy);
	memcpy(copy, file, len);
	copy[len] = 0;
	EXPECT_EQ(twin_store_decode(BYTES(copy, len + 1), identity, &back), -EBADMSG);
	EXPECT_EQ(twin_store_decode(BYTES(file, len), BYTES_LIT("hub.example/dev2"), &back), -ESTALE);
	EXPECT_TRUE(!back.desired);
	ASSERT_EQ(twin_store_decode(BYTES(file, len), identity, &back), 0);
	expect_usual(&back);
}

/* A good checksum around something this daemon would not have written. */
TEST(good_checksums_of_bad_states)
{
	struct twin_store_state cases[] = {
		state_make("{}", 0, "{}", 1, NULL),
		state_make("{}", UINT64_MAX, "{}", 1, NULL),
		state_make("[]", 1, "{}", 1, NULL),
		state_make("{\"a\":{\"$replace\":true}}", 1, "{}", 1, NULL),
		state_make("{}", 1, "{\"a b\":1}", 1, NULL),
		state_make("{}", 1, "{}", 1, "7"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); ++i) {
		_cleanup_(free_ptr) uint8_t *file = NULL;
		STATE back = {0};
		size_t len = 0;

		ASSERT_EQ(twin_store_encode(&cases[i], BYTES_LIT("i"), &file, &len), 0);
		EXPECT_EQ(twin_store_decode(BYTES(file, len), BYTES_LIT("i"), &back), -EBADMSG);
		twin_store_state_deinit(&cases[i]);
	}
}

/* --- the file --------------------------------------------------------------------------------- */

TEST_F(store, nothing_is_there)
{
	STATE state = {0};

	EXPECT_EQ(twin_store_load(self->s, &state), -ENOENT);
	EXPECT_TRUE(!exists(self, "twin.bad"));
}

TEST_F(store, what_is_saved_comes_back)
{
	STATE state = state_usual(), back = {0};
	struct stat st;

	twin_store_save(self->s, &state, ++self->generation);
	settle(self);
	ASSERT_EQ(stat(self->path, &st), 0);
	EXPECT_EQ(st.st_mode & 0777u, 0600u);
	EXPECT_TRUE(!exists(self, "twin.new"));
	ASSERT_EQ(load(self, &back), 0);
	expect_usual(&back);
	EXPECT_STREQ(twin_store_error(self->s), "");
}

TEST_F(store, of_many_states_the_last_one_stays)
{
	STATE back = {0};

	for (unsigned int i = 1; i <= 100; ++i) {
		save(self, "{\"a\":1}", i);
		/* Between any two steps of the one under way. */
		if (i % 3 == 0)
			ASSERT_EQ(loop_turn(self->loop, 0), 0);
	}
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 100u);
}

TEST_F(store, one_that_is_freed_saves_first)
{
	STATE back = {0};

	save(self, "{\"a\":1}", 1);
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 1u);
	twin_store_state_deinit(&back);
	save(self, "{\"a\":2}", 2);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	save(self, "{\"a\":3}", 3);
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 3u);
}

TEST_F(store, damage_is_set_aside)
{
	STATE state = state_usual(), back = {0};
	uint8_t byte;
	int fd;

	twin_store_save(self->s, &state, ++self->generation);
	settle(self);
	fd = open(self->path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(pread(fd, &byte, 1, 60), 1);
	byte ^= 4;
	ASSERT_EQ(pwrite(fd, &byte, 1, 60), 1);
	close(fd);
	EXPECT_EQ(load(self, &back), -EBADMSG);
	EXPECT_TRUE(exists(self, "twin.bad") && !exists(self, "twin"));
	EXPECT_EQ(load(self, &back), -ENOENT);
	twin_store_save(self->s, &state, ++self->generation);
	ASSERT_EQ(load(self, &back), 0);
	expect_usual(&back);
}

TEST_F(store, what_is_no_file_of_ours_is_set_aside)
{
	static const uint8_t large[2 << 20] = "IOHTWIN1";
	STATE back = {0};

	write_file(self, BYTES(large, 0));
	EXPECT_EQ(load(self, &back), -EBADMSG);
	write_file(self, BYTES(large, sizeof(large)));
	EXPECT_EQ(load(self, &back), -EBADMSG);
	unlink(self->path);
	remove_files(self->dir);
	ASSERT_EQ(mkdir(self->path, 0700), 0);
	EXPECT_EQ(load(self, &back), -EBADMSG);
	EXPECT_TRUE(!exists(self, "twin"));
}

TEST_F(store, another_devices_twin_is_not_used)
{
	STATE back = {0};

	save(self, "{\"a\":1}", 1);
	close_store(self);
	open_store(self, "hub.example/dev2");
	EXPECT_EQ(twin_store_load(self->s, &back), -ESTALE);
	EXPECT_TRUE(exists(self, "twin.bad") && !exists(self, "twin"));
}

/* Until the filesystem gives another time: of some it moves on in steps of milliseconds. */
static void pass_time(const struct fixture_store *self)
{
	struct stat before, after;

	ASSERT_TRUE(chmod(self->dir, 0700) == 0 && stat(self->dir, &before) == 0);
	do
		ASSERT_TRUE(chmod(self->dir, 0700) == 0 && stat(self->dir, &after) == 0);
	while (after.st_ctim.tv_sec == before.st_ctim.tv_sec &&
	       after.st_ctim.tv_nsec == before.st_ctim.tv_nsec);
}

static void set_aside(struct fixture_store *self, const char *pending, uint64_t version)
{
	STATE state = state_make("{}", version, "{}", version, pending), back = {0};

	twin_store_save(self->s, &state, ++self->generation);
	close_store(self);
	open_store(self, "hub.example/dev2");
	EXPECT_EQ(twin_store_load(self->s, &back), -ESTALE);
	close_store(self);
	open_store(self, IDENTITY);
	pass_time(self);
}

/* The version in a file that was set aside; 0: there is none. */
static uint64_t version_aside(const struct fixture_store *self, const char *name)
{
	STATE state = {0};
	uint8_t data[512];
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, data, sizeof(data));
	close(fd);
	ASSERT_GT(n, 0);
	ASSERT_EQ(twin_store_decode(BYTES(data, (size_t)n), BYTES_LIT(IDENTITY), &state), 0);
	return state.desired_version;
}

TEST_F(store, what_is_set_aside_is_kept_the_oldest_goes)
{
	static const char *const names[] = {"twin.bad", "twin.bad.1", "twin.bad.2", "twin.bad.3",
					    "twin.bad.4"};
	char path[128];

	for (uint64_t i = 0; i < ARRAY_SIZE(names); ++i)
		set_aside(self, "{\"a\":1}", i + 1);
	for (uint64_t i = 0; i < ARRAY_SIZE(names); ++i)
		EXPECT_EQ(version_aside(self, names[i]), i + 1);
	set_aside(self, "{\"a\":1}", 6);
	EXPECT_EQ(version_aside(self, "twin.bad"), 6u);
	EXPECT_EQ(version_aside(self, "twin.bad.1"), 2u);
	/* One with nothing that the hub does not have takes nobody's place, */
	set_aside(self, NULL, 7);
	for (uint64_t i = 1; i < ARRAY_SIZE(names); ++i)
		EXPECT_EQ(version_aside(self, names[i]), i + 1);
	/* and gives up its own before older ones that have. */
	snprintf(path, sizeof(path), "%s.bad.3", self->path);
	ASSERT_EQ(unlink(path), 0);
	set_aside(self, NULL, 8);
	EXPECT_EQ(version_aside(self, "twin.bad.3"), 8u);
	set_aside(self, "{\"a\":1}", 9);
	EXPECT_EQ(version_aside(self, "twin.bad.3"), 9u);
	set_aside(self, "{\"a\":1}", 10);
	EXPECT_EQ(version_aside(self, "twin.bad.1"), 10u);
}

TEST_F(store, what_cannot_be_replaced_is_left)
{
	STATE back = {0};
	char path[128];

	for (unsigned int i = 0; i < 5; ++i) {
		if (i)
			snprintf(path, sizeof(path), "%s.bad.%u", self->path, i);
		else
			snprintf(path, sizeof(path), "%s.bad", self->path);
		ASSERT_EQ(mkdir(path, 0700), 0);
	}
	set_aside(self, "{\"a\":1}", 1);
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 1u);
}

/* A process that died left its half of a file. */
TEST_F(store, leftovers_are_in_nobodys_way)
{
	STATE back = {0};
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s.new", self->path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, 100000), 0);
	close(fd);
	save(self, "{\"a\":1}", 1);
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_TRUE(!exists(self, "twin.new"));
}

static int n_open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	ASSERT_TRUE(dir);
	while (readdir(dir))
		++n;
	closedir(dir);
	return n;
}

TEST_F(store, disk_errors_are_said_and_the_next_state_is_tried)
{
	int n_before = n_open_files();
	char path[128];
	STATE back = {0};

	/* The new file cannot be made; then it cannot be renamed; then there is no directory. */
	snprintf(path, sizeof(path), "%s.new", self->path);
	ASSERT_EQ(mkdir(path, 0700), 0);
	save(self, "{\"a\":1}", 1);
	settle(self);
	EXPECT_CONTAINS(twin_store_error(self->s), "cannot write");
	ASSERT_EQ(rmdir(path), 0);
	ASSERT_EQ(mkdir(self->path, 0700), 0);
	save(self, "{\"a\":1}", 2);
	settle(self);
	EXPECT_CONTAINS(twin_store_error(self->s), "cannot write");
	remove_files(self->dir);
	ASSERT_EQ(rmdir(self->dir), 0);
	save(self, "{\"a\":1}", 3);
	settle(self);
	EXPECT_CONTAINS(twin_store_error(self->s), "cannot write");
	EXPECT_EQ(n_open_files(), n_before);
	ASSERT_EQ(mkdir(self->dir, 0700), 0);
	save(self, "{\"a\":1}", 4);
	settle(self);
	EXPECT_STREQ(twin_store_error(self->s), "");
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 4u);
}

/* Freed with a disk that does not work: that is the end of it. */
TEST_F(store, errors_do_not_keep_it_from_ending)
{
	ASSERT_EQ(rmdir(self->dir), 0);
	save(self, "{\"a\":1}", 1);
	ASSERT_EQ(loop_turn(self->loop, 0), 0);
	save(self, "{\"a\":1}", 2);
	close_store(self);
	EXPECT_EQ(loop_n_in_flight(self->loop), 0u);
	open_store(self, IDENTITY);
}

/* What a full disk does: a short write, and then an error. */
TEST_F(store, a_full_disk)
{
	const struct rlimit little = {.rlim_cur = 100, .rlim_max = RLIM_INFINITY};
	const struct rlimit all = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
	STATE state = state_usual(), back = {0};

	save(self, "{\"a\":1}", 1);
	settle(self);
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &little), 0);
	twin_store_save(self->s, &state, ++self->generation);
	settle(self);
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &all), 0);
	EXPECT_CONTAINS(twin_store_error(self->s), "cannot write");
	/* The old file is whole. */
	ASSERT_EQ(load(self, &back), 0);
	EXPECT_EQ(back.desired_version, 1u);
}

TEST_F(store, identities_have_a_bound)
{
	char identity[TWIN_STORE_IDENTITY_MAX + 2];
	struct twin_store *other = NULL;

	memset(identity, 'x', sizeof(identity) - 1);
	identity[sizeof(identity) - 1] = '\0';
	EXPECT_EQ(twin_store_new(&other, self->loop, &self->log, "twin", identity), -ENAMETOOLONG);
	ASSERT_EQ(twin_store_new(&other, self->loop, &self->log, "/twin", identity + 1), 0);
	twin_store_free(other);
}

TEST_HARNESS_MAIN
