/* SPDX-License-Identifier: MIT */
/*
 * Reading a payload whole, or line by line, up to a limit; see input.h.
 */

#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define READ_MAX (64u * 1024)

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

/* --- lines ------------------------------------------------------------------------------------ */

int input_lines_open(struct input_lines *l, const char *path)
{
	*l = (struct input_lines){.fd = STDIN_FILENO};
	buf_init(&l->buf, INPUT_MAX + 1);
	if (strcmp(path, "-") == 0)
		return 0;
	l->fd = open(path, O_RDONLY | O_CLOEXEC);
	return l->fd < 0 ? say(path, -errno) : 0;
}

void input_lines_close(struct input_lines *l)
{
	if (l->fd != STDIN_FILENO)
		close_fd(&l->fd);
	buf_deinit(&l->buf);
}

int input_lines_read(struct input_lines *l)
{
	size_t room = INPUT_MAX + 1 - buf_len(&l->buf);
	uint8_t *dst;
	ssize_t n;
	int r;

	/* A line is looked for before more is read, so a full buffer is one line. */
	if (room == 0)
		return say("a line", -EFBIG);
	if (room > READ_MAX)
		room = READ_MAX;
	r = buf_reserve(&l->buf, room, &dst);
	if (r < 0)
		return say("a line", r);
	n = read(l->fd, dst, room);
	if (n < 0 && errno != EINTR && errno != EAGAIN)
		return say("the lines", -errno);
	if (n > 0)
		buf_commit(&l->buf, (size_t)n);
	l->is_at_end = n == 0;
	return 0;
}

bool input_lines_next(struct input_lines *l, struct bytes *out)
{
	struct bytes all = buf_bytes(&l->buf);
	const uint8_t *newline = all.len > 0 ? memchr(all.data, '\n', all.len) : NULL;

	if (!newline && (!l->is_at_end || all.len == 0))
		return false;
	*out = BYTES(all.data, newline ? (size_t)(newline - all.data) : all.len);
	buf_consume(&l->buf, out->len + (newline ? 1 : 0));
	return true;
}

bool input_lines_are_done(const struct input_lines *l)
{
	return l->is_at_end && buf_len(&l->buf) == 0;
}
