/* SPDX-License-Identifier: MIT */
/*
 * Small text files, see textfile.h. The buffer has its final size from the start: growing it would leave
 * copies of a secret behind in freed memory.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "config/textfile.h"

/* Fills at most @size bytes of @data; returns how many there were, or a negative errno. */
static ssize_t read_all(int fd, char *data, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, data + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

int textfile_read(struct textfile *out, const char *path, size_t max_bytes)
{
	_cleanup_(close_fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct textfile file = {0};
	struct stat st;
	ssize_t n;
	int r = 0;

	*out = file;
	if (fd < 0 || fstat(fd, &st))
		return -errno;
	file.mode = st.st_mode;
	file.data = calloc(1, max_bytes + 1);
	if (!file.data)
		return -ENOMEM;
	file.len = max_bytes + 1;
	n = read_all(fd, file.data, file.len);
	if (n < 0)
		r = (int)n;
	else if ((size_t)n > max_bytes)
		r = -EFBIG;
	else if (memchr(file.data, '\0', (size_t)n))
		r = -EILSEQ;
	if (r) {
		textfile_wipe(&file);
		return r;
	}
	file.len = (size_t)n;
	*out = file;
	return 0;
}

void textfile_log_error(struct log *log, const char *what, const char *path, int error)
{
	switch (error) {
	case -ENOENT:
		log_error(log, "%s %s does not exist: create it or name another", what, path);
		break;
	case -EACCES:
		log_error(log, "%s %s cannot be read: permission denied: let user %u read it", what, path,
			  (unsigned int)geteuid());
		break;
	case -EISDIR:
		log_error(log, "%s %s is a directory: name a file", what, path);
		break;
	case -EFBIG:
		log_error(log, "%s %s is too large: check that it is the right file", what, path);
		break;
	case -EILSEQ:
		log_error(log, "%s %s is not text: check that it is the right file", what, path);
		break;
	default:
		log_error(log, "%s %s cannot be read: %s", what, path, strerror(-error));
		break;
	}
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct bytes textfile_trimmed(const struct textfile *file)
{
	size_t start = 0, end = file->len;

	while (start < end && is_space(file->data[start]))
		++start;
	while (end > start && is_space(file->data[end - 1]))
		--end;
	return BYTES(file->data + start, end - start);
}

void textfile_wipe(struct textfile *file)
{
	if (file->data)
		explicit_bzero(file->data, file->len);
	free(file->data);
	*file = (struct textfile){0};
}
