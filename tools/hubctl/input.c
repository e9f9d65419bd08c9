/* SPDX-License-Identifier: MIT */
/*
 * Reading a payload whole, up to a limit; see input.h.
 */

#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

static int say(const char *path, int error)
{
	fprintf(stderr, "hubctl: %s: %s\n", path, error == -EFBIG ? "too long" : strerror(-error));
	return error;
}

/* Up to INPUT_MAX bytes from @fd into @data. Returns how many, or a negative errno. */
static ssize_t read_all(int fd, char *data)
{
	size_t len = 0;
	ssize_t n;

	/* One more than is allowed shows that there is too much. */
	while (len <= INPUT_MAX && (n = read(fd, data + len, INPUT_MAX + 1 - len)) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			len += (size_t)n;
	}
	return len <= INPUT_MAX ? (ssize_t)len : -EFBIG;
}

static int read_file(const char *path, char **out, size_t *out_len)
{
	const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
	_cleanup_(close_fd) int opened = -1;
	_cleanup_(free_ptr) char *data = NULL;
	ssize_t n;

	if (name == path) {
		opened = open(path, O_RDONLY | O_CLOEXEC);
		if (opened < 0)
			return say(name, -errno);
	}
	data = malloc(INPUT_MAX + 2);
	if (!data)
		return say(name, -ENOMEM);
	n = read_all(name == path ? opened : STDIN_FILENO, data);
	if (n < 0)
		return say(name, (int)n);
	data[n] = '\0';
	*out = TAKE_PTR(data);
	*out_len = (size_t)n;
	return 0;
}

int input_read(const char *word, const char *path, char **out, size_t *out_len)
{
	if (!word && path)
		return read_file(path, out, out_len);
	*out = strdup(word ? word : "");
	*out_len = word ? strlen(word) : 0;
	return *out ? 0 : say("a payload", -ENOMEM);
}
