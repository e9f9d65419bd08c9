/* SPDX-License-Identifier: MIT */
/*
 * The twin as files, with a real hub: everyday tools find an ordinary directory there, what is written arrives, the
 * hub's errors come back, and what is known outlives connections and daemons.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "iothub.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define TEXT_SIZE 65536

FIXTURE(twin)
{
	struct lab lab;
};

static const char sample[] = "{\"interval\":5,\"mode\":\"day\",\"net\":{\"dns\":[\"1.1.1.1\",null],"
			     "\"name\":\"a b\",\"on\":true,\"x/y\":{\"z\":1.50}}}";

/* --- the hub's side --------------------------------------------------------------------------- */

static void patch_desired(const struct lab *lab, const char *patch)
{
	char text[256];

	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "twin", "patch", "dev1", patch), 0);
}

/* All that was reported is at the hub. */
static void await_reported(const struct lab *lab)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "twin/reported.json"), O_WRONLY | O_SYNC | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, "{}", 2), 2);
}

/* --- the device's ----------------------------------------------------------------------------- */

static int open_path(const struct lab *lab, const char *name, int flags)
{
	int fd = open(lab_path(lab, name), flags | O_CLOEXEC);

	ASSERT_GE(fd, 0);
	return fd;
}

static uint64_t read_number(int fd)
{
	char text[32];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0) {
		ASSERT_EQ(errno, ENODATA);
		return 0;
	}
	text[n] = '\0';
	return strtoull(text, NULL, 10);
}

static void await_version(const struct lab *lab, const char *name, uint64_t version)
{
	_cleanup_(close_fd) int fd = open_path(lab, name, O_RDONLY);
	struct pollfd p = {.fd = fd, .events = POLLPRI};

	while (read_number(fd) < version)
		ASSERT_EQ(poll(&p, 1, -1), 1);
}

/* Runs a script that ends with an error at the first command that fails. */
static void run(const struct lab *lab, const char *shell, const char *script)
{
	_cleanup_(free_ptr) char *text = NULL;

	ASSERT_GT(asprintf(&text,
			   "set -e; export W=$M/twin; reported() { hubctl twin show dev1 | "
			   "jq -Sc '.reported | del(.\"$version\")'; }\n"
			   "same() { [ \"$1\" = \"$2\" ] || { echo \"# $1, but expected: $2\"; exit 1; }; }\n"
			   "synced() { echo '{}' | dd of=$W/reported.json oflag=sync status=none; }\n%s",
			   script),
		  0);
	EXPECT_EQ(lab_shell(lab, shell, text), 0);
}

FIXTURE_SETUP(twin)
{
	lab_init(&self->lab);
	lab_start_emulator(&self->lab, NULL);
	lab_start_daemon(&self->lab);
	lab_await_state(&self->lab, "connected");
	await_version(&self->lab, "twin/desired.version", 1);
	patch_desired(&self->lab, sample);
	await_version(&self->lab, "twin/desired.version", 2);
}

FIXTURE_TEARDOWN(twin)
{
	lab_show_log(&self->lab, "daemon");
	lab_deinit(&self->lab);
}

/* --- tools ------------------------------------------------------------------------------------ */

TEST_F(twin, find)
{
	run(&self->lab, "sh",
	    "cd $W; find desired | LC_ALL=C sort > $D/out\n"
	    "printf 'desired%s\\n' '' /interval /mode /net /net/dns /net/name /net/on /net/x%2Fy "
	    "/net/x%2Fy/z > $D/want\n"
	    "diff $D/out $D/want\n"
	    "same \"$(find desired -type f -size -2c | wc -l)\" 0\n"
	    "same \"$(find desired -name 'd*' -type f)\" desired/net/dns\n"
	    "same \"$(find desired -type d -empty)\" ''\n");
}

TEST_F(twin, grep_r)
{
	run(&self->lab, "sh",
	    "cd $W; same \"$(grep -r '1.1' desired)\" 'desired/net/dns:[\"1.1.1.1\",null]'\n"
	    "same \"$(grep -rl day .  --exclude=changes | LC_ALL=C sort | tr '\\n' ' ')\" './desired.json "
	    "./desired/mode '\n"
	    "same \"$(grep -rc . desired/net/x%2Fy)\" desired/net/x%2Fy/z:1\n");
}

TEST_F(twin, jq)
{
	run(&self->lab, "bash",
	    "same \"$(jq -r .net.name $W/desired.json)\" 'a b'\n"
	    "jq '{net: .net, interval}' $W/desired.json > $W/reported.json; synced\n"
	    "same \"$(jq -Sc . $W/reported.json)\" \"$(reported)\"\n"
	    "same \"$(jq -Sc .net $W/reported.json)\" \"$(jq -Sc .net $W/desired.json)\"\n"
	    "same \"$(stat -c %s $W/desired.json)\" \"$(cat $W/desired.json | wc -c)\"\n");
}

TEST_F(twin, cp_r_and_diff_r)
{
	run(&self->lab, "sh",
	    "cp -r $W/desired $D/copy; diff -r $W/desired $D/copy\n"
	    "cp -r $D/copy/. $W/reported/; diff -r $W/desired $W/reported; synced\n"
	    "same \"$(reported)\" \"$(jq -Sc . $W/desired.json)\"\n"
	    "echo 6 > $W/reported/interval; ! diff -r $W/desired $W/reported > $D/out\n"
	    "grep -q '^> 6' $D/out\n"
	    "cp -rT $W/desired $W/reported; diff -r $W/desired $W/reported\n");
}

/* Few patches, however many files. */
TEST_F(twin, cp_r_of_many_files)
{
	run(&self->lab, "bash",
	    "mkdir $D/many; for i in {1..300}; do echo $i > $D/many/k$i; done\n"
	    "v=$(cat $W/reported.version); cp -r $D/many $W/reported/; diff -r $D/many $W/reported/many; "
	    "synced\n"
	    "same \"$(reported | jq -r '.many | length')\" 300\n"
	    "n=$(($(cat $W/reported.version) - v)); echo \"# $n patches\"; [ $n -lt 300 ]\n"
	    "rm -r $W/reported/many; synced; same \"$(reported)\" '{}'\n");
}

TEST_F(twin, tar)
{
	run(&self->lab, "sh",
	    "tar -C $W -cf $D/t.tar desired; mkdir $D/out; tar -C $D/out -xf $D/t.tar; diff -r "
	    "$D/out/desired $W/desired\n"
	    "tar -C $D/out/desired -cf - . | tar -C $W/reported --no-same-permissions -xf -\n"
	    "diff -r $W/desired $W/reported; synced; same \"$(reported)\" \"$(jq -Sc . $W/desired.json)\"\n");
}

TEST_F(twin, watch_cat)
{
	SKIP_IF(system("command -v watch > /dev/null") != 0, "there is no watch (package procps)");
	run(&self->lab, "bash",
	    "TERM=xterm watch -t -g -n 0.1 cat $W/desired/interval > $D/out & pid=$!\n"
	    "n=10; while jobs -r | grep -q .; do n=$((n + 1)); hubctl twin patch dev1 "
	    "\"{\\\"interval\\\":$n}\" > /dev/null; done\n"
	    "wait $pid; [ -s $D/out ]\n");
}

TEST_F(twin, an_editor_saves)
{
	run(&self->lab, "sh",
	    "echo old text > $W/reported/a; mkdir $W/reported/d; echo 5 > $W/reported/d/b\n"
	    "sed -i s/old/new/ $W/reported/a; same \"$(cat $W/reported/a)\" 'new text'\n"
	    "sed -i s/5/6/ $W/reported/d/b\n"
	    "! command -v ed > /dev/null || printf ',s/new/newer/\\nw\\nq\\n' | ed -s $W/reported/a > "
	    "$D/out\n"
	    "! command -v vim > /dev/null || vim -es -c '%s/6/7/' -c wq $W/reported/d/b < /dev/null\n"
	    "! command -v vim > /dev/null || same \"$(cat $W/reported/d/b)\" 7\n"
	    "! command -v ed > /dev/null || same \"$(cat $W/reported/a)\" 'newer text'\n"
	    "echo end >> $W/reported/a; same \"$(tail -n 1 $W/reported/a)\" end; synced\n"
	    "same \"$(reported | jq -c keys)\" '[\"a\",\"d\"]'\n"
	    "same \"$(reported | jq -c '.d | keys')\" '[\"b\"]'\n");
}

static const char *const shells[] = {"bash", "dash"};

TEST_F(twin, shells)
{
	for (size_t i = 0; i < ARRAY_SIZE(shells); ++i)
		run(&self->lab, shells[i],
		    "printf '{\\n\"a\": 1,\\n\"b\": [1,\\n2]\\n}\\n' > $W/reported.json\n"
		    "echo 2.5 > $W/reported/n; echo '\"5\"' > $W/reported/s; echo text > $W/reported/t\n"
		    "{ echo '['; echo '1,'; echo '2]'; } > $W/reported/l\n"
		    "mkdir -p $W/reported/o/p; touch $W/reported/o/p/empty; echo '{\"deep\":{}}' > "
		    "$W/reported/o/q\n"
		    "echo null > $W/reported/a; rm $W/reported/t; mv $W/reported/n $W/reported/o/m; synced\n"
		    "same \"$(reported)\" "
		    "'{\"b\":[1,2],\"l\":[1,2],\"o\":{\"m\":2.5,\"p\":{\"empty\":\"\"},\"q\":{\"deep\":{}}},"
		    "\"s\":\"5\"}'\n"
		    "! echo x 2> $D/err > $W/reported/a.b; ! rmdir $W/reported/o 2>> $D/err\n"
		    "! echo 1 2> $D/err > $W/desired/interval; ! mkdir $W/desired/x 2>> $D/err\n"
		    "rm -r $W/reported/*; synced; same \"$(reported)\" '{}'\n");
}

TEST_F(twin, who_may_what)
{
	SKIP_IF(geteuid() != 0 || system("command -v setpriv > /dev/null") != 0, "needs root and setpriv");
	run(&self->lab, "bash",
	    "! (echo 1 > $W/desired/interval) 2> $D/err; grep -q 'Read-only file system' $D/err\n"
	    "! rm -f $W/desired/interval 2> $D/err; grep -q 'Read-only file system' $D/err\n"
	    "! (echo 1 > $W/desired.json) 2> $D/err; grep -q 'Read-only file system' $D/err\n"
	    "chmod 755 $W/desired; chmod 444 $W/desired/interval\n"
	    "as() { setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; }\n"
	    "same \"$(as cat $W/desired/interval)\" 5\n"
	    "! as sh -c \"echo 1 > $W/desired/interval\" 2> $D/err; grep -q 'Permission denied' $D/err\n"
	    "! as mkdir $W/reported/x 2> $D/err; grep -q 'Permission denied' $D/err\n");
}

/* --- programs --------------------------------------------------------------------------------- */

TEST_F(twin, waiting_for_changes)
{
	struct lab *lab = &self->lab;
	_cleanup_(close_fd) int doc = open_path(lab, "twin/desired.json", O_RDONLY);
	_cleanup_(close_fd) int leaf = open_path(lab, "twin/desired/net/on", O_RDONLY);
	_cleanup_(close_fd) int other = open_path(lab, "twin/desired/mode", O_RDONLY);
	_cleanup_(close_fd) int changes = open_path(lab, "twin/changes", O_RDONLY);
	struct pollfd p[] = {{.fd = doc, .events = POLLPRI},
			     {.fd = leaf, .events = POLLPRI},
			     {.fd = other, .events = POLLPRI},
			     {.fd = changes, .events = POLLIN}};
	char text[256];
	ssize_t n;

	ASSERT_EQ(poll(p, ARRAY_SIZE(p), 0), 0);
	patch_desired(lab, "{\"net\":{\"on\":false}}");
	for (size_t i = 0; i < ARRAY_SIZE(p); ++i)
		if (i != 2)
			ASSERT_EQ(poll(&p[i], 1, -1), 1);
	ASSERT_EQ(poll(p, ARRAY_SIZE(p), 0), 3);
	EXPECT_EQ(p[0].revents, POLLPRI | POLLERR);
	EXPECT_EQ(p[1].revents, POLLPRI | POLLERR);
	EXPECT_EQ(p[2].revents, 0);
	EXPECT_EQ(p[3].revents, POLLIN);
	n = read(changes, text, sizeof(text) - 1);
	ASSERT_GT(n, 0);
	text[n] = '\0';
	EXPECT_STREQ(text, "{\"version\":3,\"patch\":{\"net\":{\"on\":false}}}\n");
	ASSERT_EQ(pread(leaf, text, sizeof(text), 0), 6);
	EXPECT_EQ(memcmp(text, "false\n", 6), 0);
	ASSERT_GT(pread(doc, text, sizeof(text), 0), 0);
	EXPECT_EQ(poll(p, ARRAY_SIZE(p), 0), 0);
}

/* The hub's answer, as errno of an O_SYNC write. */
TEST_F(twin, errors_of_the_hub)
{
	static const struct {
		const char *status;
		int error;
	} rows[] = {
		{"status=0100", EINVAL}, {"status=0101", EACCES}, {"status=0102", EPERM},
		{"status=0104", ESTALE}, {"status=0501", 0},
	};
	struct lab *lab = &self->lab;
	_cleanup_(close_fd) int fd = open_path(lab, "twin/reported.json", O_WRONLY | O_SYNC);
	_cleanup_(close_fd) int later = open_path(lab, "twin/reported.json", O_WRONLY);
	char text[256];

	for (size_t i = 0; i < ARRAY_SIZE(rows); ++i) {
		ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "fault", "set", "status", rows[i].status,
				     "operation=twin-patch", "count=1"),
			  0);
		errno = 0;
		EXPECT_EQ(write(fd, "{\"a\":1}", 7), rows[i].error ? -1 : 7);
		EXPECT_EQ(errno, rows[i].error);
	}
	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "fault", "set", "status", "status=0102",
			     "operation=twin-patch", "count=1"),
		  0);
	ASSERT_EQ(write(later, "{\"b\":1}", 7), 7);
	EXPECT_EQ(fsync(later), -1);
	EXPECT_EQ(errno, EPERM);
	EXPECT_EQ(fsync(later), 0);
	run(lab, "sh", "same \"$(reported)\" '{\"a\":1}'; same \"$(jq -c . $W/reported.json)\" '{\"a\":1}'");
}

TEST_F(twin, for_one_version)
{
	struct lab *lab = &self->lab;
	_cleanup_(close_fd) int fd = open_path(lab, "twin/reported.json", O_RDWR | O_SYNC);
	_cleanup_(close_fd) int leaf = open_path(lab, "twin/desired/mode", O_RDONLY);
	__u64 version = 0, next = 0;

	ASSERT_EQ(ioctl(fd, IOTHUB_IOC_TWIN_GET_VERSION, &version), 0);
	EXPECT_EQ(version, 1u);
	ASSERT_EQ(ioctl(fd, IOTHUB_IOC_TWIN_SET_IF_VERSION, &version), 0);
	EXPECT_EQ(write(fd, "{\"a\":1}", 7), 7);
	ASSERT_EQ(ioctl(fd, IOTHUB_IOC_TWIN_GET_VERSION, &next), 0);
	EXPECT_EQ(next, version + 1);
	EXPECT_EQ(write(fd, "{\"a\":2}", 7), -1);
	EXPECT_EQ(errno, ESTALE);
	ASSERT_EQ(ioctl(fd, IOTHUB_IOC_TWIN_SET_IF_VERSION, &next), 0);
	EXPECT_EQ(write(fd, "{\"a\":3}", 7), 7);
	EXPECT_EQ(ioctl(leaf, IOTHUB_IOC_TWIN_GET_VERSION, &next), -1);
	EXPECT_EQ(errno, ENOTTY);
	run(lab, "sh", "same \"$(reported)\" '{\"a\":3}'");
}

TEST_F(twin, who_waits_can_be_killed)
{
	struct lab *lab = &self->lab;
	char text[256];
	int ready[2];
	pid_t pid;

	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "fault", "set", "delay", "ms=20000",
			     "operation=twin-patch"),
		  0);
	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		int fd = open(lab_path(lab, "twin/reported.json"), O_WRONLY | O_SYNC);

		if (write(ready[1], "x", 1) == 1)
			_exit(write(fd, "{\"a\":1}", 7) == 7);
		_exit(1);
	}
	ASSERT_EQ(read(ready[0], text, 1), 1);
	/* It is in the tree when the write waits. */
	while (access(lab_path(lab, "twin/reported/a"), F_OK) < 0)
		ASSERT_EQ(errno, ENOENT);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	close(ready[0]);
	close(ready[1]);
}

static bool is_asleep(pid_t pid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	ASSERT_TRUE(file);
	ASSERT_EQ(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
	fclose(file);
	ASSERT_TRUE(state == 'R' || state == 'S');
	return state == 'S';
}

/* A process that waits for the hub, in its write(2) or fsync(2). */
static pid_t start_waiting(const struct lab *lab, const char *name, int flags)
{
	char byte;
	int ready[2];
	pid_t pid;

	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		const char *text = strstr(name, ".json") ? "{\"d\":1}" : "1";
		ssize_t n = (ssize_t)strlen(text);
		int fd = open(lab_path(lab, name), O_WRONLY | flags);
		bool ok =
			fd >= 0 && (flags || write(fd, text, (size_t)n) == n) && write(ready[1], "x", 1) == 1;

		_exit(!ok || (flags ? write(fd, text, (size_t)n) != n : fsync(fd) != 0));
	}
	close(ready[1]);
	ASSERT_EQ(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	while (!is_asleep(pid))
		;
	return pid;
}

/* A leaf and the document, each with a write and an fsync that wait for the hub: everybody else goes on. */
TEST_F(twin, nobody_stands_behind_who_waits)
{
	struct lab *lab = &self->lab;
	char text[256];
	pid_t pids[4];

	run(lab, "sh", "echo 0 > $W/reported/a; synced");
	ASSERT_EQ(lab_hubctl(lab, text, sizeof(text), "fault", "set", "delay", "ms=60000",
			     "operation=twin-patch"),
		  0);
	for (size_t i = 0; i < ARRAY_SIZE(pids); ++i)
		pids[i] = start_waiting(lab, i < 2 ? "twin/reported/a" : "twin/reported.json",
					i % 2 ? 0 : O_SYNC);
	run(lab, "bash",
	    "timeout -s KILL 10 sh -ec 'cd $W; for i in 1 2 3; do\n"
	    "  for f in reported/a reported.json; do\n"
	    "    text=$i; [ $f = reported/a ] || text={\\\"b\\\":$i}\n"
	    "    echo $text > $f; echo $text >> $f; cat $f; stat $f; chmod 0660 $f\n"
	    "    truncate -s 0 $f; touch $f; flock $f true\n"
	    "  done > $D/out\n"
	    "  [ $(stat -c %s reported.json) = $(cat reported.json | wc -c) ]\n"
	    "  cp -r reported $D/copy; diff -r reported $D/copy; rm -r $D/copy; tar -cf $D/t.tar reported\n"
	    "  echo 5 > reported/c; mv reported/c reported/a; rm reported/a; mkdir reported/a; rmdir "
	    "reported/a\n"
	    "  echo 1 > reported/a\n"
	    "done'\n");
	for (size_t i = 0; i < ARRAY_SIZE(pids); ++i) {
		EXPECT_TRUE(is_asleep(pids[i]));
		ASSERT_EQ(kill(pids[i], SIGKILL), 0);
		ASSERT_EQ(waitpid(pids[i], NULL, 0), pids[i]);
	}
}

/* --- restarts --------------------------------------------------------------------------------- */

TEST_F(twin, without_the_hub)
{
	struct lab *lab = &self->lab;

	run(lab, "sh", "echo 1 > $W/reported/a; synced");
	lab_stop_daemon(lab, SIGTERM);
	lab_stop_emulator(lab, SIGTERM);
	lab_start_daemon(lab);
	run(lab, "sh",
	    "same \"$(cat $W/desired/net/name)\" 'a b'; same \"$(cat $W/desired.version)\" 2\n"
	    "same \"$(jq -Sc . $W/desired.json)\" \"$(printf '%s' "
	    "'{\"interval\":5,\"mode\":\"day\",\"net\":{\"dns\":[\"1.1.1.1\",null],"
	    "\"name\":\"a b\",\"on\":true,\"x/y\":{\"z\":1.5}}}')\"\n"
	    "same \"$(cat $W/reported/a)\" 1; echo 2 > $W/reported/a; mkdir $W/reported/o; echo x > "
	    "$W/reported/o/b\n");
	lab_stop_daemon(lab, SIGTERM);
	lab_start_daemon(lab);
	run(lab, "sh",
	    "same \"$(cat $W/reported/a $W/reported/o/b | tr '\\n' ' ')\" '2 x '; rm $W/reported/o/b");
	lab_start_emulator(lab, NULL);
	lab_await_state(lab, "connected");
	await_reported(lab);
	run(lab, "sh", "same \"$(reported)\" '{\"a\":2,\"o\":{}}'");
}

/* What was on the disk when the daemon was killed is sent by the next one. */
TEST_F(twin, killed)
{
	struct lab *lab = &self->lab;
	_cleanup_(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	char dir[LAB_PATH_MAX], events[4096];

	lab_stop_emulator(lab, SIGTERM);
	snprintf(dir, sizeof(dir), "%s/device", lab->dir);
	ASSERT_GE(inotify_add_watch(watch, dir, IN_MOVED_TO | IN_CLOSE_WRITE), 0);
	run(lab, "sh", "echo survivor > $W/reported/a");
	do
		ASSERT_GT(read(watch, events, sizeof(events)), 0);
	while (lab_shell(lab, "sh", "grep -qa survivor $D/device/twin-dev1.json") != 0);
	lab_stop_daemon(lab, SIGKILL);
	lab_start_daemon(lab);
	run(lab, "sh", "same \"$(cat $W/reported/a)\" survivor");
	lab_start_emulator(lab, NULL);
	lab_await_state(lab, "connected");
	await_reported(lab);
	run(lab, "sh", "same \"$(reported)\" '{\"a\":\"survivor\"}'");
}

/* Without a place to keep it all works the same, and is forgotten. */
TEST_F(twin, no_state_directory)
{
	struct lab *lab = &self->lab;
	_cleanup_(free_ptr) char *log = NULL;

	lab_stop_daemon(lab, SIGTERM);
	lab_write_file(lab, "file", "");
	run(lab, "sh",
	    "sed -i 's|\"state-directory\": \"[^\"]*\"|\"storage\": \"volatile\", "
	    "\"state-directory\": \"'$D'/file/x\"|' $D/iothubd.json");
	lab_start_daemon(lab);
	lab_await_state(lab, "connected");
	await_version(lab, "twin/desired.version", 2);
	run(lab, "sh", "echo 1 > $W/reported/a; synced; same \"$(reported)\" '{\"a\":1}'");
	log = lab_log(lab, "daemon");
	EXPECT_CONTAINS(log, "the twin is not kept over a restart");
}

TEST_HARNESS_MAIN
