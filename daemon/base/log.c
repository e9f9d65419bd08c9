/* SPDX-License-Identifier: MIT */
/*
 * Log lines, see log.h. One write(2) a line, so that lines of several processes on one stderr do not mix.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* Whether stderr is the journal's: a terminal inherits the variable, not the socket it names (systemd.exec(5)). */
static bool log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char ours[48];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(ours, sizeof(ours), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, ours) == 0;
}

void log_init(struct log *log, const char *name, enum log_level level)
{
	*log = (struct log){
		.fd = STDERR_FILENO,
		.level = level,
		.journal = log_is_journal(),
		.name = name,
	};
}

static const char *log_prefix(const struct log *log, enum log_level level)
{
	static const char *const words[] = {"error: ", "warning: ", "", "debug: "};
	static const char *const numbers[] = {"<3>", "<4>", "<6>", "<7>"};

	return log->journal ? numbers[level] : words[level];
}

static void log_emit(struct log *log, enum log_level level, const char *text)
{
	char line[1024 + 64];
	int n;

	n = snprintf(line, sizeof(line), "%s%s%s%s", log->name && !log->journal ? log->name : "",
		     log->name && !log->journal ? ": " : "", log_prefix(log, level), text);
	if (n < 0)
		return;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (int i = 0; i < n; ++i)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	/* Nobody can be told that the log does not work. */
	if (write(log->fd, line, (size_t)n) < 0)
		return;
}

void log_write(struct log *log, enum log_level level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!log || level > log->level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_emit(log, level, text);
}

bool log_once_changed(struct log_once *once, const char *text)
{
	if (strncmp(once->text, text, sizeof(once->text) - 1) == 0)
		return false;
	snprintf(once->text, sizeof(once->text), "%.*s", (int)sizeof(once->text) - 1, text);
	return true;
}

void log_write_once(struct log *log, struct log_once *once, enum log_level level, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (log_once_changed(once, text) && log && level <= log->level)
		log_emit(log, level, text);
}
