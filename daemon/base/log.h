/* SPDX-License-Identifier: MIT */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/*
 * Log lines on stderr: `<severity>: message`, or with the kernel's <N> prefix when systemd's journal reads
 * stderr ($JOURNAL_STREAM). An object, not a global: every module is given the log it writes to.
 *
 * log_once() is for conditions that repeat (each retry of a connection, each write into a full queue): the
 * line appears when its text changes, not every time.
 */

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

struct log {
	int fd;
	enum log_level level; /* lines above it are dropped */
	bool journal;         /* <N> prefixes */
	const char *name;     /* put before each line, borrowed, may be NULL */
};

/* One remembered text; zero-initialise. */
struct log_once {
	char text[256];
};

/* Logs to stderr; @name is borrowed. */
void log_init(struct log *log, const char *name, enum log_level level);

/* @log may be NULL: nothing is written. Lines are cut at 1023 bytes; control characters become `?`. */
__attribute__((format(printf, 3, 4))) void log_write(struct log *log, enum log_level level, const char *fmt,
						     ...);

/* Writes the line unless it is the one @once saw last. */
__attribute__((format(printf, 4, 5))) void log_write_once(struct log *log, struct log_once *once,
							  enum log_level level, const char *fmt, ...);

/* Whether @text is not the one @once saw last, as it is from then on: for lines that say more than what is repeated. */
bool log_once_changed(struct log_once *once, const char *text);

static inline void log_once_reset(struct log_once *once)
{
	once->text[0] = '\0';
}

#define log_error(log, ...)   log_write((log), LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_write((log), LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...)    log_write((log), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...)   log_write((log), LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
