/* SPDX-License-Identifier: MIT */
/*
 * The files of methods, behind a tree without a kernel (fuse_line.h) and in front of a hub that is the test
 * (link_line.h): what each system call gives, and what the hub hears.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/method_files.h"
#include "hub/contract.h"
#include "tests/support/fuse_line.h"
#include "tests/support/methods_line.h"

#define SHORT_NS (40 * NSEC_PER_MSEC)

FIXTURE(files)
{
	struct methods_line device;
	struct fuse_line line;
	struct fuse_tree *tree;
	struct method_files *files;
	uint64_t methods_id, call_id; /* nodes: methods, methods/reboot/call */
};

/* --- the device ------------------------------------------------------------------------------- */

static uint64_t lookup(struct fixture_files *self, uint64_t dir, const char *name, struct fuse_entry_out *out)
{
	struct fuse_entry_out entry;

	fuse_line_body(&self->line,
		       fuse_line_request(&self->line, FUSE_LOOKUP, dir, name, strlen(name) + 1, BYTES("", 0)),
		       &entry, sizeof(entry));
	if (out)
		*out = entry;
	return entry.nodeid;
}

static uint64_t lookup_call(struct fixture_files *self, const char *method)
{
	return lookup(self, lookup(self, self->methods_id, method, NULL), "call", NULL);
}

static int make_files(struct fixture_files *self, mode_t mode, char *const *names, size_t n_names)
{
	const struct fuse_tree_options tree = {.root_mode = 0755};
	const struct config_access access = {.mode = mode, .uid = 5, .gid = 6};

	ASSERT_EQ(fuse_tree_new(&self->tree, &tree), 0);
	return method_files_new(&self->files, self->device.methods, fuse_tree_root(self->tree), &access,
				names, n_names, NULL);
}

static void free_files(struct fixture_files *self)
{
	fuse_tree_free(TAKE_PTR(self->tree));
	method_files_free(TAKE_PTR(self->files));
}

/* With the method `reboot` of the configuration, and a connection. */
static void start(struct fixture_files *self, uint64_t wait_ns, uint64_t timeout_ns)
{
	static char reboot[] = "reboot";
	static char *const names[] = {reboot};

	methods_line_init(&self->device, wait_ns, timeout_ns);
	ASSERT_EQ(make_files(self, 0660, names, 1), 0);
	fuse_line_init(&self->line, self->tree);
	self->methods_id = fuse_line_lookup(&self->line, "methods");
	self->call_id = lookup_call(self, "reboot");
	link_line_online(&self->device.hub);
}

FIXTURE_SETUP(files)
{
	(void)self;
}

FIXTURE_TEARDOWN(files)
{
	if (test_is_orphan() || !self->device.hub.loop)
		return;
	if (self->tree) {
		fuse_tree_detach(self->tree);
		free_files(self);
	}
	methods_line_deinit(&self->device);
}

/* --- the hub ---------------------------------------------------------------------------------- */

static void call_bytes(struct fixture_files *self, const char *correlation, struct bytes payload)
{
	link_line_publish(&self->device.hub, HUB_TOPIC_METHODS_PREFIX "reboot", bytes_from_str(correlation),
			  payload);
}

static void call(struct fixture_files *self, const char *correlation, const char *payload)
{
	call_bytes(self, correlation, bytes_from_str(payload));
}

/* @code: NULL = 06A0. */
static void expect_answer(struct fixture_files *self, const char *correlation, const char *code,
			  struct bytes payload)
{
	struct bytes value = BYTES(NULL, 0);
	struct mqtt_packet p;

	ASSERT_TRUE(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
	EXPECT_TRUE(bytes_equal_str(p.properties.correlation_data, correlation));
	EXPECT_TRUE(mqtt_user_property_find(p.properties.repeatable,
					    code ? HUB_PROP_RESPONSE_CODE : HUB_PROP_STATUS, &value));
	EXPECT_TRUE(bytes_equal_str(value, code ? code : "06A0"));
	EXPECT_TRUE(bytes_equal(p.publish.payload, payload));
}

static void expect_refused(struct fixture_files *self, const char *correlation)
{
	expect_answer(self, correlation, NULL, BYTES(NULL, 0));
}

static void expect_no_answer(struct fixture_files *self)
{
	struct mqtt_packet p;

	EXPECT_FALSE(link_line_next(&self->device.hub, MQTT_PUBLISH, &p));
}

/* --- system calls ----------------------------------------------------------------------------- */

static uint64_t open_call(struct fixture_files *self)
{
	return fuse_line_open(&self->line, self->call_id, O_RDWR);
}

static int open_error(struct fixture_files *self, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	return fuse_line_result(&self->line, fuse_line_request(&self->line, FUSE_OPEN, self->call_id, &in,
							       sizeof(in), BYTES("", 0)));
}

static void close_call(struct fixture_files *self, uint64_t fh)
{
	fuse_line_release(&self->line, self->call_id, fh);
}

static uint64_t read_flags(struct fixture_files *self, uint64_t fh, uint32_t size, uint32_t flags)
{
	return fuse_line_read(&self->line, self->call_id, fh, O_RDWR | flags, 0, size);
}

static void expect_data(struct fixture_files *self, uint64_t unique, struct bytes want)
{
	EXPECT_EQ(fuse_line_result(&self->line, unique), 0);
	EXPECT_TRUE(bytes_equal(fuse_line_data(&self->line, unique), want));
}

static void expect_read(struct fixture_files *self, uint64_t fh, uint32_t size, const char *want)
{
	expect_data(self, read_flags(self, fh, size, 0), bytes_from_str(want));
}

static int read_error(struct fixture_files *self, uint64_t fh)
{
	return fuse_line_result(&self->line, read_flags(self, fh, 100, O_NONBLOCK));
}

static uint64_t write_bytes(struct fixture_files *self, uint64_t fh, uint32_t flags, struct bytes text)
{
	return fuse_line_write(&self->line, self->call_id, fh, O_RDWR | flags, text);
}

static int write_error(struct fixture_files *self, uint64_t fh, const char *text)
{
	return fuse_line_result(&self->line, write_bytes(self, fh, 0, bytes_from_str(text)));
}

static int mkdir_error(struct fixture_files *self, const char *name)
{
	const struct fuse_mkdir_in in = {.mode = 0700};
	char arg[sizeof(in) + 300];

	memcpy(arg, &in, sizeof(in));
	memcpy(arg + sizeof(in), name, strlen(name) + 1);
	return fuse_line_result(&self->line, fuse_line_request(&self->line, FUSE_MKDIR, self->methods_id, arg,
							       sizeof(in) + strlen(name) + 1, BYTES("", 0)));
}

static int name_error(struct fixture_files *self, uint32_t opcode, uint64_t dir, const char *name)
{
	return fuse_line_result(&self->line, fuse_line_request(&self->line, opcode, dir, name,
							       strlen(name) + 1, BYTES("", 0)));
}

static int rmdir_error(struct fixture_files *self, const char *name)
{
	return name_error(self, FUSE_RMDIR, self->methods_id, name);
}

#define POLLS_IN     (POLLIN | POLLRDNORM)
#define POLLS_IN_OUT (POLLS_IN | POLLOUT | POLLWRNORM)

/* --- examples --------------------------------------------------------------------------------- */

TEST_F(files, a_call_is_read_and_answered)
{
	uint64_t fh, u;

	start(self, 0, TIME_NEVER);
	fh = open_call(self);
	EXPECT_EQ(read_error(self, fh), -EAGAIN);
	u = read_flags(self, fh, 5, 0);
	EXPECT_EQ(fuse_line_result(&self->line, u), FUSE_LINE_WAITS);
	call(self, "c1", "request");
	expect_data(self, u, BYTES_LIT("reque"));
	expect_read(self, fh, 1, "s");
	expect_read(self, fh, 100, "t");
	expect_read(self, fh, 100, "");
	expect_read(self, fh, 100, "");
	u = write_bytes(self, fh, 0, BYTES_LIT("200 {\"ok\": true}\n"));
	EXPECT_EQ(fuse_line_result(&self->line, u), FUSE_LINE_WAITS);
	expect_answer(self, "c1", "200", BYTES_LIT("{\"ok\": true}\n"));
	link_line_acknowledge(&self->device.hub);
	EXPECT_EQ(fuse_line_result(&self->line, u), 0);
	EXPECT_EQ(write_error(self, fh, "200 again"), -EALREADY);
	EXPECT_EQ(write_error(self, fh, "nonsense"), -EALREADY);
	close_call(self, fh);
	expect_no_answer(self);
}

TEST_F(files, any_bytes_both_ways_and_none)
{
	uint8_t bytes[120], text[124] = "7 ";
	uint64_t fh;

	start(self, 0, TIME_NEVER);
	for (size_t i = 0; i < sizeof(bytes); ++i)
		text[i + 2] = bytes[i] = (uint8_t)(i * 7);
	fh = open_call(self);
	call_bytes(self, "c1", BYTES(bytes, sizeof(bytes)));
	expect_data(self, read_flags(self, fh, 120, 0), BYTES(bytes, sizeof(bytes)));
	EXPECT_EQ(fuse_line_result(&self->line,
				   write_bytes(self, fh, O_NONBLOCK, BYTES(text, sizeof(bytes) + 2))),
		  0);
	expect_answer(self, "c1", "7", BYTES(bytes, sizeof(bytes)));
	close_call(self, fh);

	fh = open_call(self);
	call(self, "c2", "");
	expect_read(self, fh, 100, "");
	EXPECT_EQ(fuse_line_result(&self->line, write_bytes(self, fh, O_NONBLOCK, BYTES_LIT("4294967295\n"))),
		  0);
	expect_answer(self, "c2", "4294967295", BYTES(NULL, 0));
	close_call(self, fh);
}

TEST_F(files, a_bad_text_leaves_the_call_open)
{
	static const char *const texts[] = {"ok", "200x", "-1 x", "4294967296", "\n", "200\nx"};
	uint64_t fh;

	start(self, 0, TIME_NEVER);
	fh = open_call(self);
	EXPECT_EQ(write_error(self, fh, "200 early"), -ENOTCONN);
	EXPECT_EQ(write_error(self, fh, "nonsense"), -ENOTCONN);
	call(self, "c1", "x");
	for (size_t i = 0; i < ARRAY_SIZE(texts); ++i)
		EXPECT_EQ(write_error(self, fh, texts[i]), -EINVAL);
	expect_no_answer(self);
	expect_read(self, fh, 100, "x");
	EXPECT_EQ(write_error(self, fh, "200 good"), FUSE_LINE_WAITS);
	expect_answer(self, "c1", "200", BYTES_LIT("good"));
	link_line_acknowledge(&self->device.hub);
	close_call(self, fh);
}

TEST_F(files, a_response_larger_than_the_hub_takes)
{
	_cleanup_(free_ptr) char *text = malloc(HUB_PACKET_BYTES_MAX);
	uint64_t fh;

	start(self, 0, TIME_NEVER);
	memset(text, 'x', HUB_PACKET_BYTES_MAX);
	memcpy(text, "200 ", 4);
	fh = open_call(self);
	call(self, "c1", "x");
	EXPECT_EQ(fuse_line_result(&self->line, write_bytes(self, fh, 0, BYTES(text, HUB_PACKET_BYTES_MAX))),
		  -EMSGSIZE);
	EXPECT_EQ(fuse_line_result(&self->line, write_bytes(self, fh, O_NONBLOCK,
							    BYTES(text, HUB_PACKET_BYTES_MAX - 100))),
		  0);
	expect_answer(self, "c1", "200", BYTES(text + 4, HUB_PACKET_BYTES_MAX - 104));
	close_call(self, fh);
}

TEST_F(files, opening)
{
	start(self, 0, TIME_NEVER);
	EXPECT_EQ(open_error(self, O_RDONLY), -EINVAL);
	EXPECT_EQ(open_error(self, O_WRONLY), -EINVAL);
	call(self, "c1", "x");
	expect_refused(self, "c1");
}

TEST_F(files, closed_in_every_state)
{
	uint64_t fh, u;

	start(self, 0, TIME_NEVER);
	fh = open_call(self);
	close_call(self, fh);
	/* While a read waits: the kernel interrupts first. */
	fh = open_call(self);
	u = read_flags(self, fh, 100, 0);
	fuse_line_interrupt(&self->line, u);
	EXPECT_EQ(fuse_line_result(&self->line, u), -EINTR);
	call(self, "c1", "x");
	close_call(self, fh);
	expect_refused(self, "c1");
	/* Read and closed. */
	fh = open_call(self);
	call(self, "c2", "x");
	expect_read(self, fh, 100, "x");
	close_call(self, fh);
	expect_refused(self, "c2");
	expect_no_answer(self);
}

/* Leaves no room in the link. */
static void fill(struct fixture_files *self)
{
	static const uint8_t payload[200000];

	while (link_respond(self->device.hub.link, BYTES_LIT("filler"), 1, BYTES(payload, sizeof(payload))) ==
	       0)
		continue;
}

TEST_F_TIMEOUT(files, signals_while_a_write_waits, 20)
{
	struct mqtt_packet p;
	uint64_t first, second, u;

	start(self, 0, TIME_NEVER);
	first = open_call(self);
	second = open_call(self);
	call(self, "c1", "x");
	call(self, "c2", "x");
	/* On its way: it does not take long. */
	u = write_bytes(self, first, 0, BYTES_LIT("200 x"));
	fuse_line_interrupt(&self->line, u);
	EXPECT_EQ(fuse_line_result(&self->line, u), FUSE_LINE_WAITS);
	link_line_acknowledge(&self->device.hub);
	EXPECT_EQ(fuse_line_result(&self->line, u), 0);
	expect_answer(self, "c1", "200", BYTES_LIT("x"));
	/* Not on its way yet: nobody knows how long. It goes all the same. */
	fill(self);
	u = write_bytes(self, second, 0, BYTES_LIT("201 y"));
	EXPECT_EQ(fuse_line_result(&self->line, u), FUSE_LINE_WAITS);
	fuse_line_interrupt(&self->line, u);
	EXPECT_EQ(fuse_line_result(&self->line, u), -EINTR);
	EXPECT_EQ(write_error(self, second, "201 y"), -EALREADY);
	close_call(self, second);
	link_kick(self->device.hub.link);
	do {
		while (!link_line_next(&self->device.hub, MQTT_PUBLISH, &p))
			link_line_turn(&self->device.hub);
	} while (bytes_equal_str(p.properties.correlation_data, "filler"));
	EXPECT_TRUE(bytes_equal_str(p.properties.correlation_data, "c2"));
	EXPECT_TRUE(bytes_equal_str(p.publish.payload, "y"));
	close_call(self, first);
	/* It takes longer than anybody expected. */
	first = open_call(self);
	call(self, "c3", "x");
	u = write_bytes(self, first, 0, BYTES_LIT("202 z"));
	fuse_line_interrupt(&self->line, u);
	while (fuse_line_result(&self->line, u) == FUSE_LINE_WAITS)
		link_line_turn(&self->device.hub);
	EXPECT_EQ(fuse_line_result(&self->line, u), -ETIMEDOUT);
	EXPECT_EQ(link_line_n_awaited(&self->device.hub), 0u);
	close_call(self, first);
}

TEST_F(files, reads_of_one_open_file)
{
	uint64_t fh, first, second;

	start(self, 0, TIME_NEVER);
	fh = open_call(self);
	first = read_flags(self, fh, 1, 0);
	second = read_flags(self, fh, 1, 0);
	EXPECT_EQ(fuse_line_result(&self->line, second), -EBUSY);
	EXPECT_EQ(read_error(self, fh), -EAGAIN);
	call(self, "c1", "xyz");
	expect_data(self, first, BYTES_LIT("x"));
	expect_read(self, fh, 1, "y");
	close_call(self, fh);
	expect_refused(self, "c1");
}

TEST_F(files, polling)
{
	uint64_t fh, n_notes;

	start(self, 0, TIME_NEVER);
	/* The very first handle is 0, which is none for poll. */
	close_call(self, open_call(self));
	fh = open_call(self);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, fh), 0u);
	n_notes = self->line.n_notes;
	call(self, "c1", "x");
	EXPECT_EQ(self->line.n_notes, n_notes + 1);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, fh), (uint32_t)POLLS_IN_OUT);
	expect_read(self, fh, 100, "x");
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, fh), (uint32_t)POLLS_IN_OUT);
	link_line_offline(&self->device.hub);
	EXPECT_EQ(self->line.n_notes, n_notes + 2);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, fh), (uint32_t)(POLLS_IN_OUT | POLLERR));
	EXPECT_EQ(write_error(self, fh, "200"), -ETIMEDOUT);
	close_call(self, fh);
	link_line_online(&self->device.hub);
	fh = open_call(self);
	call(self, "c2", "x");
	EXPECT_EQ(fuse_line_result(&self->line, write_bytes(self, fh, O_NONBLOCK, BYTES_LIT("1"))), 0);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, fh), (uint32_t)POLLS_IN);
	close_call(self, fh);
}

TEST_F(files, too_late)
{
	uint64_t timed_out, cut_off, u;

	start(self, 0, SHORT_NS);
	timed_out = open_call(self);
	cut_off = open_call(self);
	call(self, "c1", "x");
	expect_read(self, timed_out, 100, "x");
	while (fuse_line_poll(&self->line, self->call_id, timed_out) == POLLS_IN_OUT)
		link_line_turn(&self->device.hub);
	expect_refused(self, "c1");
	EXPECT_EQ(write_error(self, timed_out, "200"), -ETIMEDOUT);
	EXPECT_EQ(write_error(self, timed_out, "nonsense"), -ETIMEDOUT);
	call(self, "c2", "x");
	u = write_bytes(self, cut_off, 0, BYTES_LIT("200"));
	EXPECT_EQ(fuse_line_result(&self->line, u), FUSE_LINE_WAITS);
	link_line_offline(&self->device.hub);
	EXPECT_EQ(fuse_line_result(&self->line, u), -ECONNRESET);
	close_call(self, timed_out);
	close_call(self, cut_off);
}

/* --- directories ------------------------------------------------------------------------------ */

TEST_F(files, modes_and_owners)
{
	struct fuse_entry_out dir, method, file;

	start(self, 0, TIME_NEVER);
	lookup(self, FUSE_ROOT_ID, "methods", &dir);
	lookup(self, self->methods_id, "reboot", &method);
	lookup(self, method.nodeid, "call", &file);
	EXPECT_EQ(dir.attr.mode, (uint32_t)(S_IFDIR | 0775));
	EXPECT_EQ(method.attr.mode, (uint32_t)(S_IFDIR | 0775));
	EXPECT_EQ(file.attr.mode, (uint32_t)(S_IFREG | 0660));
	EXPECT_EQ(dir.attr.uid + method.attr.uid + file.attr.uid, 15u);
	EXPECT_EQ(dir.attr.gid + method.attr.gid + file.attr.gid, 18u);
}

TEST_F(files, methods_are_made_and_removed)
{
	struct mqtt_packet p;
	uint64_t fh;

	start(self, 0, TIME_NEVER);
	while (!link_line_next(&self->device.hub, MQTT_SUBSCRIBE, &p))
		link_line_turn(&self->device.hub);
	EXPECT_EQ(mkdir_error(self, "on/off"), -EINVAL);
	EXPECT_EQ(mkdir_error(self, "+"), -EINVAL);
	EXPECT_EQ(mkdir_error(self, "a\nb"), -EINVAL);
	EXPECT_EQ(mkdir_error(self, "reboot"), -EEXIST);
	EXPECT_EQ(mkdir_error(self, "blink"), 0);
	self->call_id = lookup_call(self, "blink");
	fh = open_call(self);
	link_line_publish(&self->device.hub, HUB_TOPIC_METHODS_PREFIX "blink", BYTES_LIT("c"),
			  BYTES_LIT("x"));
	expect_read(self, fh, 100, "x");
	EXPECT_EQ(rmdir_error(self, "blink"), -EBUSY);
	EXPECT_EQ(fuse_line_result(&self->line, write_bytes(self, fh, O_NONBLOCK, BYTES_LIT("1"))), 0);
	EXPECT_EQ(rmdir_error(self, "blink"), 0);
	EXPECT_EQ(rmdir_error(self, "blink"), -ENOENT);
	EXPECT_EQ(name_error(self, FUSE_LOOKUP, self->methods_id, "blink"), -ENOENT);
	/* Who has it open goes on. */
	EXPECT_EQ(write_error(self, fh, "1"), -EALREADY);
	expect_read(self, fh, 100, "");
	close_call(self, fh);
	/* Also one of the configuration. */
	EXPECT_EQ(rmdir_error(self, "reboot"), 0);
	EXPECT_EQ(mkdir_error(self, "reboot"), 0);
}

TEST_F(files, those_who_wait_when_a_method_goes)
{
	uint64_t reads, polls, late, u;

	start(self, 0, SHORT_NS);
	late = open_call(self);
	call(self, "c0", "x");
	expect_read(self, late, 1, "x");
	while (fuse_line_poll(&self->line, self->call_id, late) == POLLS_IN_OUT)
		link_line_turn(&self->device.hub);
	expect_refused(self, "c0");
	polls = open_call(self);
	call(self, "c1", "x");
	reads = open_call(self);
	u = read_flags(self, reads, 100, 0);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, polls), (uint32_t)POLLS_IN_OUT);
	EXPECT_EQ(rmdir_error(self, "reboot"), 0);
	EXPECT_EQ(fuse_line_result(&self->line, u), -ENODEV);
	expect_refused(self, "c1");
	EXPECT_EQ(read_error(self, polls), -ENODEV);
	EXPECT_EQ(write_error(self, polls, "200"), -ENODEV);
	EXPECT_EQ(fuse_line_poll(&self->line, self->call_id, polls), (uint32_t)(POLLS_IN_OUT | POLLERR));
	EXPECT_EQ(write_error(self, late, "200"), -ETIMEDOUT);
	/* Made anew it is another one. */
	EXPECT_EQ(mkdir_error(self, "reboot"), 0);
	EXPECT_EQ(read_error(self, polls), -ENODEV);
	close_call(self, reads);
	close_call(self, late);
	close_call(self, polls);
}

TEST_F(files, nothing_else_can_be_made_or_removed)
{
	uint64_t dir;

	start(self, 0, TIME_NEVER);
	dir = lookup(self, self->methods_id, "reboot", NULL);
	EXPECT_EQ(name_error(self, FUSE_UNLINK, dir, "call"), -EPERM);
	EXPECT_EQ(name_error(self, FUSE_RMDIR, FUSE_ROOT_ID, "methods"), -EPERM);
}

TEST_F(files, more_methods_than_a_hub_allows)
{
	char name[16];

	start(self, 0, TIME_NEVER);
	for (unsigned int i = 1; i < HUB_SUBSCRIPTIONS_MAX; ++i) {
		snprintf(name, sizeof(name), "m%u", i);
		EXPECT_EQ(mkdir_error(self, name), 0);
	}
	EXPECT_EQ(mkdir_error(self, "more"), -ENOSPC);
	EXPECT_EQ(name_error(self, FUSE_LOOKUP, self->methods_id, "more"), -ENOENT);
	EXPECT_EQ(rmdir_error(self, "m7"), 0);
	EXPECT_EQ(mkdir_error(self, "more"), 0);
}

TEST_F(files, names_of_the_configuration_that_cannot_be)
{
	static char good[] = "good", bad[] = "not/good";
	static char *const twice[] = {good, good}, *const none[] = {good, bad};

	start(self, 0, TIME_NEVER);
	fuse_tree_detach(self->tree);
	free_files(self);
	EXPECT_EQ(make_files(self, 0660, twice, 2), -EEXIST);
	free_files(self);
	EXPECT_EQ(make_files(self, 0660, none, 2), -EINVAL);
	free_files(self);
}

TEST_F(files, the_tree_goes_with_everything_open)
{
	uint64_t fhs[4];

	start(self, 0, TIME_NEVER);
	for (size_t i = 0; i < ARRAY_SIZE(fhs); ++i)
		fhs[i] = open_call(self);
	call(self, "c0", "x");
	call(self, "c1", "x");
	call(self, "c2", "x");
	expect_read(self, fhs[2], 1, "x");
	EXPECT_EQ(fuse_line_result(&self->line, read_flags(self, fhs[3], 1, 0)), FUSE_LINE_WAITS);
	EXPECT_EQ(write_error(self, fhs[0], "200"), FUSE_LINE_WAITS);
	expect_answer(self, "c0", "200", BYTES(NULL, 0));
	fuse_tree_detach(self->tree);
	free_files(self);
	expect_refused(self, "c2");
	/* Nobody had read it, so the last one was asked. */
	expect_refused(self, "c1");
	expect_no_answer(self);
}

TEST_HARNESS_MAIN
