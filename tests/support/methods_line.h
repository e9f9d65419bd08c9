/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_METHODS_LINE_H
#define TESTS_SUPPORT_METHODS_LINE_H

/*
 * Methods in front of a hub that is the test (link_line.h).
 */

#include "base/cleanup.h"
#include "flow/methods.h"
#include "tests/harness.h"
#include "tests/support/link_line.h"

struct methods_line {
	struct link_line hub;
	struct methods *methods;
	unsigned int n_online;
};

static inline void methods_line_on_online(void *userdata, bool session_present)
{
	(void)session_present;
	++((struct methods_line *)userdata)->n_online;
}

static inline void methods_line_on_offline(void *userdata)
{
	methods_on_offline(((struct methods_line *)userdata)->methods);
}

static inline void methods_line_on_writable(void *userdata)
{
	methods_on_writable(((struct methods_line *)userdata)->methods);
}

static inline void methods_line_on_changed(void *userdata)
{
	(void)userdata;
}

/* There is no method, and no connection yet. */
static inline void methods_line_init(struct methods_line *line, uint64_t wait_ns, uint64_t timeout_ns)
{
	static const struct link_ops ops = {.on_online = methods_line_on_online,
					    .on_offline = methods_line_on_offline,
					    .on_writable = methods_line_on_writable,
					    .on_changed = methods_line_on_changed};
	struct methods_options options = {.wait_ns = wait_ns, .timeout_ns = timeout_ns};

	link_line_init(&line->hub, &ops, line);
	options.loop = line->hub.loop;
	options.log = &line->hub.log;
	options.link = line->hub.link;
	ASSERT_EQ(methods_new(&line->methods, &options), 0);
}

static inline void methods_line_deinit(struct methods_line *line)
{
	methods_free(TAKE_PTR(line->methods));
	link_line_deinit(&line->hub);
}

#endif
