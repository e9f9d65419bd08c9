/* SPDX-License-Identifier: MIT */
/*
 * The files of a journal as bytes, see journal_image.h.
 */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/journal_image.h"

DEFINE_CLEANUP(DIR *, closedir)

static void file_read(struct image_file *file, int dir_fd, const char *name)
{
	_cleanup_(close_fd) int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	ASSERT_EQ(fstat(fd, &st), 0);
	ASSERT_LT(strlen(name), sizeof(file->name));
	strcpy(file->name, name);
	file->len = (size_t)st.st_size;
	file->data = malloc(file->len + 1);
	ASSERT_TRUE(file->data != NULL);
	ASSERT_EQ(pread(fd, file->data, file->len, 0), (ssize_t)file->len);
}

void image_take(struct image *image, const char *path)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(path);
	struct dirent *entry;

	image->n = 0;
	ASSERT_TRUE(dir != NULL);
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_REG)
			continue;
		ASSERT_LT(image->n, (size_t)IMAGE_FILES_MAX);
		file_read(&image->files[image->n++], dirfd(dir), entry->d_name);
	}
}

void image_copy(struct image *out, const struct image *from)
{
	*out = *from;
	for (size_t i = 0; i < out->n; ++i) {
		out->files[i].data = malloc(out->files[i].len + 1);
		ASSERT_TRUE(out->files[i].data != NULL);
		memcpy(out->files[i].data, from->files[i].data, from->files[i].len);
	}
}

void image_put(const struct image *image, const char *dir)
{
	image_clear(dir);
	ASSERT_EQ(mkdir(dir, 0700), 0);
	for (size_t i = 0; i < image->n; ++i) {
		const struct image_file *file = &image->files[i];
		_cleanup_(close_fd) int fd = -1;
		char path[256];

		snprintf(path, sizeof(path), "%s/%s", dir, file->name);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		ASSERT_EQ(write(fd, file->data, file->len), (ssize_t)file->len);
	}
}

void image_free(struct image *image)
{
	while (image->n)
		free(image->files[--image->n].data);
}

struct image_file *image_find(struct image *image, const char *name)
{
	for (size_t i = 0; i < image->n; ++i)
		if (strcmp(image->files[i].name, name) == 0)
			return &image->files[i];
	return NULL;
}

/* The files; returns false when something is left. */
static bool clear_files(const char *path)
{
	_cleanup_(closedir_ptr) DIR *dir = opendir(path);
	bool is_empty = true;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0) < 0)
			is_empty = false;
	return is_empty;
}

void image_clear(const char *path)
{
	char below[256];

	if (!clear_files(path)) {
		snprintf(below, sizeof(below), "%s/damaged", path);
		clear_files(below);
		rmdir(below);
	}
	rmdir(path);
}

size_t image_count(const char *path, const char *below)
{
	_cleanup_(closedir_ptr) DIR *dir = NULL;
	struct dirent *entry;
	char name[256];
	size_t n = 0;

	snprintf(name, sizeof(name), "%s/%s", path, below);
	dir = opendir(name);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	return n;
}

void image_make_dir(char out[static 128])
{
	const char *parent = getenv("TMPDIR");

	snprintf(out, 128, "%s/iothub-test-XXXXXX", parent ? parent : "/dev/shm");
	ASSERT_TRUE(mkdtemp(out) != NULL);
}

uint64_t image_samples(const char *variable, uint64_t usual)
{
	const char *text = getenv(variable);

	return text && strtoull(text, NULL, 0) ? strtoull(text, NULL, 0) : usual;
}
