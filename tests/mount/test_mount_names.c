/* SPDX-License-Identifier: MIT */
/*
 * Names that users make, move and remove in a real mount, and those that the daemon removes while they are in
 * use.
 */

#include <dirent.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "fuse/abi.h"
#include "tests/mount/mounted.h"
#include "tests/support/toy_box.h"

/* Kernels before 6.18 keep names until they need the memory. */
static void expect_forgotten(struct fixture_mounted *self)
{
	struct utsname name;
	int major, minor;

	if (uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	    (major > 6 || (major == 6 && minor >= 18)))
		EXPECT_EQ(ask(self, TOY_AWAIT_FORGOTTEN, 0), 0u);
}

static const char *const shells[] = {"bash", "dash"};

TEST_F(mounted, shells_make_and_remove)
{
	uint64_t n_items = ask(self, TOY_N_ITEMS, 0);

	for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
		EXPECT_EQ(run(self, shells[i], "mkdir box/a && mkdir -p box/a/b/c && test -d box/a/b/c"), 0);
		EXPECT_EQ(run(self, shells[i], "echo hello > box/a/f && echo more >> box/a/f"), 0);
		EXPECT_EQ(run(self, shells[i], "test \"$(cat box/a/f)\" = \"$(printf 'hello\\nmore')\""), 0);
		EXPECT_EQ(run(self, shells[i], "echo x > box/a/f; test \"$(cat box/a/f)\" = x"), 0);
		EXPECT_EQ(run(self, shells[i], "touch box/a/g && test \"$(ls box/a | xargs)\" = 'b f g'"), 0);
		EXPECT_EQ(run(self, shells[i], "test $(find box | wc -l) = 6"), 0);
		EXPECT_NE(run(self, shells[i], "rmdir box/a 2>/dev/null"), 0);
		EXPECT_EQ(run(self, shells[i], "rmdir box/a/b/c && test ! -e box/a/b/c"), 0);
		EXPECT_EQ(run(self, shells[i], "mv box/a/f box/a/b/h && test ! -e box/a/f -a -f box/a/b/h"),
			  0);
		EXPECT_EQ(run(self, shells[i], "mv box/a/b/h box/a/g && test \"$(cat box/a/g)\" = x"), 0);
		EXPECT_EQ(run(self, shells[i], "mv box/a box/z && test -d box/z/b && ls -lR box >/dev/null"),
			  0);
		EXPECT_EQ(run(self, shells[i], "rm box/z/g && test ! -e box/z/g"), 0);
		EXPECT_EQ(run(self, shells[i], "rm -r box/z && test -z \"$(ls -A box)\""), 0);
	}
	EXPECT_EQ(ask(self, TOY_AWAIT_ITEMS, n_items), n_items);
	expect_forgotten(self);
}

static void expect_error(int result, int error)
{
	EXPECT_EQ(result < 0 ? errno : 0, error);
}

TEST_F(mounted, what_is_refused)
{
	char a[128], b[128];

	snprintf(a, sizeof(a), "%s/box/a", self->path);
	snprintf(b, sizeof(b), "%s/box/b", self->path);
	ASSERT_EQ(mkdir(a, 0755), 0);
	expect_error(mkdir(a, 0755), EEXIST);
	expect_error(mkdir(file_path(self, "box/no"), 0755), EACCES);
	expect_error(open(file_path(self, "box/no"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644), EACCES);
	expect_error(open(file_path(self, "sub/x"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644), EPERM);
	expect_error(mkdir(file_path(self, "live/x"), 0755), EPERM);
	expect_error(unlink(a), EISDIR);
	expect_error(rmdir(b), ENOENT);
	expect_error(symlink("a", b), EPERM);
	expect_error(mkfifo(b, 0644), EPERM);
	expect_error(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), ENOENT);
	ASSERT_EQ(mkdir(b, 0755), 0);
	expect_error(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), EINVAL);
	expect_error(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE), EEXIST);
	expect_error(rename(a, b), 0);
	expect_error(rename(b, file_path(self, "box/b/c")), EINVAL);
	expect_error(rename(b, file_path(self, "live/b")), EXDEV);
	expect_error(rename(file_path(self, "sink"), a), EPERM);
	expect_error(rmdir(b), 0);
}

TEST_F(mounted, modes_and_owner_of_what_is_made)
{
	struct stat st;

	umask(027);
	ASSERT_EQ(mkdir(file_path(self, "box/a"), 0777), 0);
	ASSERT_EQ(stat(file_path(self, "box/a"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFDIR | 0750));
	EXPECT_EQ(st.st_nlink, 2u);
	close(open_file(self, "box/a", O_RDONLY | O_DIRECTORY));
	close(open(file_path(self, "box/a/f"), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
	ASSERT_EQ(stat(file_path(self, "box/a/f"), &st), 0);
	EXPECT_EQ(st.st_mode, (mode_t)(S_IFREG | 0640));
	expect_error(open(file_path(self, "box/a/f"), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666), EEXIST);
	ASSERT_EQ(mkdir(file_path(self, "box/a/d"), 0777), 0);
	ASSERT_EQ(stat(file_path(self, "box/a"), &st), 0);
	EXPECT_EQ(st.st_nlink, 3u);
	EXPECT_EQ(run(self, "bash", "rm -r box/a"), 0);
}

TEST_F(mounted, documents_are_written_at_offsets)
{
	int fd = open(file_path(self, "box/f"), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	char text[32] = "";
	struct stat st;

	ASSERT_GE(fd, 0);
	EXPECT_EQ(write(fd, "0123", 4), 4);
	EXPECT_EQ(write(fd, "4567", 4), 4);
	EXPECT_EQ(pwrite(fd, "ab", 2, 2), 2);
	EXPECT_EQ(pread(fd, text, sizeof(text), 0), 8);
	EXPECT_STREQ(text, "01ab4567");
	ASSERT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, 8);
	EXPECT_EQ(ftruncate(fd, 3), 0);
	ASSERT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, 3);
	EXPECT_EQ(truncate(file_path(self, "box/f"), 5), 0);
	EXPECT_EQ(pread(fd, text, sizeof(text), 0), 5);
	EXPECT_MEMEQ(text, "01a\0\0", 5);
	expect_error(ftruncate(fd, TOY_BOX_DOCUMENT + 1), EFBIG);
	close(fd);
	fd = open_file(self, "box/f", O_WRONLY | O_TRUNC);
	ASSERT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_size, 0);
	close(fd);
}

TEST_F(mounted, ioctl_with_bytes)
{
	struct toy_box_bytes bytes = {.text = "1234567"};
	int fd = open(file_path(self, "box/f"), O_CREAT | O_RDWR | O_CLOEXEC, 0644), dir, sink;

	ASSERT_GE(fd, 0);
	EXPECT_EQ(ioctl(fd, TOY_BOX_SET, &bytes), 0);
	memcpy(bytes.text, "abcdefg", 8);
	EXPECT_EQ(ioctl(fd, TOY_BOX_SWAP, &bytes), 0);
	EXPECT_STREQ(bytes.text, "1234567");
	EXPECT_EQ(ioctl(fd, TOY_BOX_GET, &bytes), 0);
	EXPECT_STREQ(bytes.text, "abcdefg");
	EXPECT_EQ(ioctl(fd, TOY_BOX_CLEAR), 0);
	EXPECT_EQ(pread(fd, bytes.text, 8, 0), 0);
	expect_error(ioctl(fd, _IO('T', 99)), ENOTTY);
	dir = open_file(self, "box", O_RDONLY | O_DIRECTORY);
	expect_error(ioctl(dir, TOY_BOX_CLEAR), ENOTTY);
	sink = open_file(self, "sink", O_WRONLY);
	expect_error(ioctl(sink, TOY_BOX_CLEAR), ENOTTY);
	close(sink);
	close(dir);
	close(fd);
}

/* --- removed by the daemon ------------------------------------------------------------------- */

TEST_F(mounted, an_open_file_outlives_its_name)
{
	char text[16] = "", again[64];
	struct stat st;
	int fd;

	EXPECT_EQ(ask(self, TOY_ADD_LIVE, 1), 1u);
	fd = open_file(self, "live/0/leaf", O_RDWR);
	EXPECT_EQ(write(fd, "abc", 3), 3);
	EXPECT_EQ(tell(self, TOY_REMOVE, "live/0"), 0u);
	/* live/0 is gone, its leaf is open: live, box and leaf. */
	EXPECT_EQ(ask(self, TOY_N_ITEMS, 0), 3u);
	EXPECT_EQ(write(fd, "def", 3), 3);
	EXPECT_EQ(pread(fd, text, sizeof(text), 0), 6);
	EXPECT_STREQ(text, "abcdef");
	ASSERT_EQ(fstat(fd, &st), 0);
	EXPECT_EQ(st.st_nlink, 0u);
	EXPECT_EQ(st.st_size, 6);
	expect_error(stat(file_path(self, "live/0"), &st), ENOENT);
	expect_error(stat(file_path(self, "live/0/leaf"), &st), ENOENT);
	expect_error(open(file_path(self, "live/0/leaf"), O_RDONLY | O_CLOEXEC), ENOENT);
	snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
	expect_error(open(again, O_RDONLY | O_CLOEXEC), ENOENT);
	close(fd);
	EXPECT_EQ(ask(self, TOY_AWAIT_ITEMS, 2), 2u);
	expect_forgotten(self);
}

/* Names that may be cached for a second, and what is there after them. */
TEST_F(mounted, names_that_are_not_transient)
{
	struct stat st, first;

	ASSERT_EQ(mkdir(file_path(self, "box/d"), 0755), 0);
	close(open(file_path(self, "box/d/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	ASSERT_EQ(stat(file_path(self, "box/d/f"), &first), 0);
	EXPECT_EQ(tell(self, TOY_REMOVE, "box/d"), 0u);
	expect_error(open(file_path(self, "box/d/f"), O_RDONLY | O_CLOEXEC), ENOENT);
	expect_error(open(file_path(self, "box/d"), O_RDONLY | O_CLOEXEC), ENOENT);
	expect_error(mkdir(file_path(self, "box/d/x"), 0755), ENOENT);
	ASSERT_EQ(mkdir(file_path(self, "box/d"), 0755), 0);
	close(open(file_path(self, "box/d/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	ASSERT_EQ(stat(file_path(self, "box/d/f"), &st), 0);
	EXPECT_NE(st.st_ino, first.st_ino);
	/* At another place. */
	EXPECT_EQ(tell(self, TOY_MOVE, "box/d/f"), 0u);
	ASSERT_EQ(stat(file_path(self, "box/moved-f"), &first), 0);
	EXPECT_EQ(st.st_ino, first.st_ino);
	EXPECT_EQ(run(self, "bash", "rm -r box/d box/moved-f"), 0);
	EXPECT_EQ(ask(self, TOY_AWAIT_ITEMS, 2), 2u);
	expect_forgotten(self);
}

TEST_F(mounted, a_working_directory_that_is_removed)
{
	struct stat st;
	DIR *dir;

	EXPECT_EQ(ask(self, TOY_ADD_LIVE, 1), 1u);
	ASSERT_EQ(chdir(file_path(self, "live/0")), 0);
	EXPECT_EQ(tell(self, TOY_REMOVE, "live/0"), 0u);
	EXPECT_EQ(ask(self, TOY_N_ITEMS, 0), 2u);
	expect_error(stat(".", &st), ENOENT);
	expect_error(stat("leaf", &st), ENOENT);
	expect_error(open("leaf", O_RDONLY | O_CLOEXEC), ENOENT);
	expect_error(open("new", O_CREAT | O_WRONLY | O_CLOEXEC, 0644), ENOENT);
	dir = opendir(".");
	EXPECT_TRUE(dir == NULL);
	EXPECT_EQ(errno, ENOENT);
	EXPECT_NE(system("ls 2>/dev/null"), 0);
	expect_error(stat("../0", &st), ENOENT);
	ASSERT_EQ(chdir("/"), 0);
	expect_forgotten(self);
}

TEST_F(mounted, a_directory_that_is_removed_while_it_is_read)
{
	struct dirent *entry;
	struct stat st;
	size_t n = 0;
	DIR *dir;

	ASSERT_EQ(mkdir(file_path(self, "box/d"), 0755), 0);
	EXPECT_EQ(run(self, "bash", "for i in {1..1500}; do echo > box/d/$i; done"), 0);
	dir = opendir(file_path(self, "box/d"));
	ASSERT_TRUE(dir != NULL);
	ASSERT_TRUE(readdir(dir) != NULL);
	EXPECT_EQ(tell(self, TOY_REMOVE, "box/d"), 0u);
	errno = 0;
	while ((entry = readdir(dir)))
		n++;
	EXPECT_EQ(errno, 0);
	EXPECT_GT(n, 0u);
	EXPECT_LT(n, 1500u);
	ASSERT_EQ(fstat(dirfd(dir), &st), 0);
	EXPECT_EQ(st.st_nlink, 0u);
	expect_error(openat(dirfd(dir), "1", O_RDONLY | O_CLOEXEC), ENOENT);
	closedir(dir);
	/* The kernel remembers what is not in it, until somebody asks for the directory. */
	expect_error(stat(file_path(self, "box/d"), &st), ENOENT);
	EXPECT_EQ(ask(self, TOY_AWAIT_ITEMS, 2), 2u);
	expect_forgotten(self);
}

/*
 * Directories come and go while somebody looks, 10,000 of them at least. What is found may be gone when it is asked
 * for, nothing else goes wrong; and neither the kernel nor the daemon goes on to remember them.
 */
TEST_F_TIMEOUT(mounted, ten_thousand_come_and_go, 120)
{
	static const char look[] = "for i in {1..40}; do "
				   "ls -lR live 2>&1 >/dev/null | grep -v 'No such file' >&2 && exit 1; "
				   "find live -name leaf >/dev/null 2>&1; done; true";
	pid_t pid = fork();
	uint64_t n = 0;

	if (pid == 0)
		_exit(WEXITSTATUS(run(self, "bash", look)));
	while (n < 10000 || waitpid(pid, NULL, WNOHANG | WNOWAIT) == 0) {
		ASSERT_EQ(ask(self, TOY_ADD_LIVE, 1), ++n);
		if (n > 20)
			ASSERT_EQ(ask(self, TOY_REMOVE_LIVE, n - 21), 0u);
	}
	for (uint64_t i = n - 20; i < n; i++)
		EXPECT_EQ(ask(self, TOY_REMOVE_LIVE, i), 0u);
	EXPECT_EQ(wait_child(pid), 0);
	TEST_LOG("%llu directories, %llu nodes are remembered", (unsigned long long)n,
		 (unsigned long long)ask(self, TOY_N_REMOVED, 0));
	EXPECT_EQ(ask(self, TOY_N_ITEMS, 0), 2u);
	expect_forgotten(self);
}

TEST_HARNESS_MAIN
