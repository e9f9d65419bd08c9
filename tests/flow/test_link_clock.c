/* SPDX-License-Identifier: MIT */
/*
 * The link on a machine whose clock is wrong, and is set: the time of day in this process is the test's own. The
 * link runs in here, the emulator in a process with the right time.
 */

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/link_internal.h"
#include "net/resolver.h"
#include "net/tls.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

/* How far this process's time of day is off. */
static int64_t clock_offset_s;

/* In place of the C library's, for everything in this process. */
int clock_gettime(clockid_t id, struct timespec *out)
{
	int r = (int)syscall(SYS_clock_gettime, id, out);

	if (r == 0 && id == CLOCK_REALTIME)
		out->tv_sec += clock_offset_s;
	return r;
}

time_t time(time_t *out)
{
	struct timespec ts = {0};

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

FIXTURE(clock)
{
	struct lab lab;
	struct config config;
	struct loop *loop;
	struct log log;
	struct tls_context *tls;
	struct resolver *resolver;
	struct link *link;
	char log_path[LAB_PATH_MAX];
	unsigned int n_online;
};

static void on_online(void *userdata, bool session_present)
{
	struct fixture_clock *self = userdata;

	(void)session_present;
	++self->n_online;
}

static void on_nothing(void *userdata)
{
	(void)userdata;
}

static const struct link_ops clock_ops = {
	.on_online = on_online,
	.on_offline = on_nothing,
	.on_writable = on_nothing,
	.on_changed = on_nothing,
};

FIXTURE_SETUP(clock)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_configure(&self->lab, "\"token-lifetime\": 3600");
}

FIXTURE_TEARDOWN(clock)
{
	if (!test_is_orphan()) {
		if (harness_state.result->n_failed) {
			_cleanup_(free_ptr) char *log = text_read(self->log_path);

			TEST_LOG("device: %s", log);
		}
		link_free(self->link);
		resolver_free(self->resolver);
		while (self->loop && loop_n_in_flight(self->loop) > 0)
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);
		tls_context_free(self->tls);
		loop_free(self->loop);
		config_deinit(&self->config);
	}
	lab_deinit(&self->lab);
}

/* The device starts on a machine whose clock is @offset_s off. */
static void device_start(struct fixture_clock *self, int64_t offset_s)
{
	char path[LAB_PATH_MAX];
	const struct config_source source = {.config_file = path, .config_dir = "/nowhere"};
	struct link_options options;

	clock_offset_s = offset_s;
	snprintf(path, sizeof(path), "%s/iothubd.json", self->lab.dir);
	snprintf(self->log_path, sizeof(self->log_path), "%s/device.log", self->lab.dir);
	self->log = (struct log){.fd = open(self->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
				 .level = LOG_LEVEL_DEBUG};
	ASSERT_EQ(config_load(&self->config, &source, &self->log), 0);
	ASSERT_EQ(loop_new(&self->loop, &(struct loop_options){.log = &self->log}), 0);
	ASSERT_EQ(tls_context_new_client(&self->tls, self->config.ca_file, &self->log), 0);
	ASSERT_EQ(resolver_new(&self->resolver, self->loop, &self->log, NULL), 0);
	options = (struct link_options){
		.loop = self->loop,
		.log = &self->log,
		.config = &self->config,
		.resolver = self->resolver,
		.tls = self->tls,
		.ops = &clock_ops,
		.userdata = self,
	};
	ASSERT_EQ(link_new(&self->link, &options), 0);
	link_start(self->link);
}

#define AWAIT(condition)                                                                                     \
	do {                                                                                                 \
		while (!(condition))                                                                         \
			ASSERT_EQ(loop_turn(self->loop, TIME_NEVER), 0);                                     \
	} while (0)

/* Somebody sets the clock, and the kernel says so. */
static void clock_set(struct fixture_clock *self, int64_t offset_s)
{
	clock_offset_s = offset_s;
	/* The loop reads its clocks once a turn. */
	ASSERT_EQ(loop_turn(self->loop, 1), 0);
	link_on_clock_set(self->link);
}

static struct link_info info_of(struct fixture_clock *self)
{
	struct link_info info;

	link_info(self->link, &info);
	return info;
}

static void expect_log_lines(struct fixture_clock *self, const char *text, unsigned int n)
{
	_cleanup_(free_ptr) char *log = text_read(self->log_path);

	EXPECT_EQ(text_count(log, text), n);
}

TEST_F(clock, not_set_at_boot)
{
	/* 1970, whatever the year is. */
	device_start(self, -(int64_t)time(NULL) + 60);
	AWAIT(info_of(self).n_attempts == 3 && info_of(self).state == LINK_WAITING);
	expect_log_lines(self, "this machine's clock is not set", 1);
	EXPECT_EQ(self->n_online, 0u);
	clock_set(self, 0);
	expect_log_lines(self, "this machine's clock was set: trying again", 1);
	EXPECT_EQ(info_of(self).retry_in_ns, 0u);
	AWAIT(self->n_online == 1);
}

/* The certificates are good, the signature is not. */
TEST_F(clock, behind_by_two_hours_at_boot)
{
	device_start(self, -7200);
	AWAIT(info_of(self).state == LINK_WAITING);
	EXPECT_CONTAINS(info_of(self).last_error, "and this machine's clock");
	EXPECT_GE(info_of(self).retry_in_ns, 9 * NSEC_PER_SEC);
	/* A little: nothing that matters. */
	clock_set(self, -7190);
	EXPECT_GE(info_of(self).retry_in_ns, 8 * NSEC_PER_SEC);
	clock_set(self, 0);
	AWAIT(self->n_online == 1);
}

TEST_F(clock, set_while_connected)
{
	device_start(self, -600);
	AWAIT(self->n_online == 1);
	clock_set(self, -599);
	EXPECT_EQ(info_of(self).n_renewals, 0u);
	clock_set(self, 0);
	expect_log_lines(self, "this machine's clock was set: signing anew", 1);
	AWAIT(info_of(self).n_renewals == 1);
	/* Once a jump. */
	clock_set(self, 0);
	EXPECT_TRUE(!mqtt_session_is_authenticating(self->link->session));
	/* While the answer is under way. */
	clock_set(self, -300);
	EXPECT_TRUE(mqtt_session_is_authenticating(self->link->session));
	clock_set(self, 0);
	AWAIT(info_of(self).n_renewals == 3);
	EXPECT_EQ(self->n_online, 1u);
	EXPECT_STREQ(info_of(self).last_error, "");
}

/* A jump after which the hub cannot accept us ends in slow attempts, and the next one in a connection. */
TEST_F(clock, set_wrong_while_connected)
{
	device_start(self, 0);
	AWAIT(self->n_online == 1);
	clock_set(self, -7200);
	AWAIT(info_of(self).state == LINK_WAITING && info_of(self).n_attempts >= 2);
	EXPECT_CONTAINS(info_of(self).last_error, "and this machine's clock");
	clock_set(self, 0);
	AWAIT(self->n_online == 2);
}

TEST_HARNESS_MAIN
