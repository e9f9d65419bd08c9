/* SPDX-License-Identifier: MIT */
/*
 * Which files iothub-run runs.
 */

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tools/run/handlers.h"

FIXTURE(handlers)
{
	char dir[64];
	char said_path[80];
	struct log log;
	struct handlers *handlers;
};

FIXTURE_SETUP(handlers)
{
	strcpy(self->dir, "/tmp/iothub-handlers-XXXXXX");
	ASSERT_TRUE(mkdtemp(self->dir) != NULL);
	snprintf(self->said_path, sizeof(self->said_path), "%s.log", self->dir);
	log_init(&self->log, NULL, LOG_LEVEL_DEBUG);
	self->log.fd = open(self->said_path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	ASSERT_GE(self->log.fd, 0);
	umask(022);
}

FIXTURE_TEARDOWN(handlers)
{
	char command[256];

	if (!test_is_orphan())
		handlers_unref(self->handlers);
	snprintf(command, sizeof(command), "rm -rf '%s' '%s'", self->dir, self->said_path);
	ASSERT_EQ(system(command), 0);
}

static void make(struct fixture_handlers *self, const char *name, mode_t mode)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", self->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(fchmod(fd, mode), 0);
	close(fd);
}

/* Names of all, each with a blank behind it. */
static const char *load(struct fixture_handlers *self)
{
	static char names[8192];
	size_t n = 0;

	handlers_unref(self->handlers);
	self->handlers = NULL;
	ASSERT_EQ(handlers_load(&self->handlers, self->dir, &self->log), 0);
	names[0] = '\0';
	for (size_t i = 0; i < self->handlers->n; i++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s ", self->handlers->list[i].name);
	return names;
}

/* What was logged since the last time. */
static const char *said(struct fixture_handlers *self)
{
	static char text[4096];
	ssize_t n = pread(self->log.fd, text, sizeof(text) - 1, 0);

	ASSERT_GE(n, 0);
	text[n] = '\0';
	ASSERT_EQ(ftruncate(self->log.fd, 0), 0);
	return text;
}

TEST_F(handlers, are_the_programs_in_order_of_name)
{
	make(self, "b", 0755);
	make(self, "a.sh", 0700);
	make(self, "B", 0755);
	make(self, "10-first", 0775);
	EXPECT_STREQ(load(self), "10-first B a.sh b ");
	EXPECT_STREQ(said(self), "");
	EXPECT_CONTAINS(self->handlers->list[0].path, "/10-first");
}

TEST_F(handlers, what_others_leave_behind_is_passed_over)
{
	make(self, ".hidden", 0755);
	make(self, "a~", 0755);
	make(self, "a.dpkg-new", 0755);
	make(self, "a.dpkg-old", 0755);
	EXPECT_STREQ(load(self), "");
	EXPECT_STREQ(said(self), "");
}

TEST_F(handlers, what_is_not_run_is_said)
{
	char path[128];

	make(self, "readme", 0644);
	make(self, "open", 0757);
	snprintf(path, sizeof(path), "%s/sub", self->dir);
	ASSERT_EQ(mkdir(path, 0755), 0);
	make(self, "good", 0755);
	EXPECT_STREQ(load(self), "good ");
	EXPECT_CONTAINS(said(self), "readme is not run: not executable");
	load(self);
	EXPECT_CONTAINS(said(self), "open is not run: everybody may write to it");
	load(self);
	EXPECT_CONTAINS(said(self), "sub is not run: not a file");
}

TEST_F(handlers, links_are_followed)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/link", self->dir);
	ASSERT_EQ(symlink("/bin/sh", path), 0);
	snprintf(path, sizeof(path), "%s/broken", self->dir);
	ASSERT_EQ(symlink("/nowhere", path), 0);
	EXPECT_STREQ(load(self), "link ");
}

TEST_F(handlers, directories_that_are_not_good)
{
	struct handlers *handlers;

	ASSERT_EQ(chmod(self->dir, 0777), 0);
	EXPECT_EQ(handlers_load(&handlers, self->dir, &self->log), -EPERM);
	EXPECT_CONTAINS(said(self), "everybody may write to it");
	EXPECT_EQ(handlers_load(&handlers, "/nowhere", &self->log), -ENOENT);
	EXPECT_CONTAINS(said(self), "/nowhere: No such file");
	EXPECT_EQ(handlers_load(&handlers, "/bin/sh", &self->log), -ENOTDIR);
}

TEST_F(handlers, what_belongs_to_somebody_else)
{
	struct handlers *handlers;
	char path[128];

	SKIP_IF(geteuid() != 0, "only root can give files away");
	make(self, "good", 0755);
	make(self, "other", 0755);
	snprintf(path, sizeof(path), "%s/other", self->dir);
	ASSERT_EQ(chown(path, 1, 1), 0);
	EXPECT_STREQ(load(self), "good ");
	EXPECT_CONTAINS(said(self), "other is not run: it is neither root's nor this user's");
	EXPECT_EQ(handlers_load_program(&handlers, path, &self->log), -EACCES);
	EXPECT_CONTAINS(said(self), "neither root's nor this user's");
	ASSERT_EQ(chown(self->dir, 1, 1), 0);
	EXPECT_EQ(handlers_load(&handlers, self->dir, &self->log), -EPERM);
	EXPECT_CONTAINS(said(self), "neither root's nor this user's");
	/* To that user both are fine, and so is what is root's. */
	ASSERT_EQ(seteuid(1), 0);
	EXPECT_STREQ(load(self), "good other ");
	EXPECT_STREQ(said(self), "");
	ASSERT_EQ(seteuid(0), 0);
}

TEST_F(handlers, there_can_be_too_many)
{
	struct handlers *handlers;
	char name[16];

	for (int i = 0; i < HANDLERS_MAX; i++) {
		snprintf(name, sizeof(name), "%04d", i);
		make(self, name, 0755);
	}
	load(self);
	EXPECT_EQ(self->handlers->n, (size_t)HANDLERS_MAX);
	make(self, "another", 0755);
	EXPECT_EQ(handlers_load(&handlers, self->dir, &self->log), -E2BIG);
	EXPECT_CONTAINS(said(self), "too many programs");
}

TEST_F(handlers, one_program)
{
	struct handlers *handlers;
	char path[128];

	ASSERT_EQ(handlers_load_program(&handlers, "/bin/sh", &self->log), 0);
	EXPECT_EQ(handlers->n, 1u);
	EXPECT_STREQ(handlers->list[0].path, "/bin/sh");
	handlers_unref(handlers);
	/* By $PATH, whose empty parts lead nowhere. */
	ASSERT_EQ(setenv("PATH", ":/nowhere:/usr/bin:/bin", 1), 0);
	ASSERT_EQ(handlers_load_program(&handlers, "sh", &self->log), 0);
	EXPECT_STREQ(handlers->list[0].path, "/usr/bin/sh");
	handlers_unref(handlers);
	/* What is here is not looked at: it could be anybody's. */
	make(self, "sh", 0755);
	make(self, "here", 0755);
	ASSERT_EQ(chdir(self->dir), 0);
	ASSERT_EQ(handlers_load_program(&handlers, "sh", &self->log), 0);
	EXPECT_STREQ(handlers->list[0].path, "/usr/bin/sh");
	handlers_unref(handlers);
	EXPECT_EQ(handlers_load_program(&handlers, "here", &self->log), -ENOENT);
	EXPECT_CONTAINS(said(self), "here: No such file");
	ASSERT_EQ(handlers_load_program(&handlers, "./here", &self->log), 0);
	EXPECT_STREQ(handlers->list[0].path, "./here");
	handlers_unref(handlers);
	EXPECT_EQ(handlers_load_program(&handlers, "there-is-no-such-program", &self->log), -ENOENT);
	EXPECT_CONTAINS(said(self), "there-is-no-such-program: No such file");
	make(self, "open", 0777);
	snprintf(path, sizeof(path), "%s/open", self->dir);
	EXPECT_EQ(handlers_load_program(&handlers, path, &self->log), -EACCES);
	EXPECT_CONTAINS(said(self), "everybody may write to it");
}

TEST_HARNESS_MAIN
