/* SPDX-License-Identifier: MIT */
/*
 * A stock Mosquitto, see broker.h.
 */

#include <fcntl.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/broker.h"

#define MOSQUITTO     "/usr/sbin/mosquitto"
#define MOSQUITTO_SUB "/usr/bin/mosquitto_sub"
/* Seconds the broker keeps the subscriber's session; longer than any test. */
#define SESSION_EXPIRY "3600"

bool broker_is_installed(void)
{
	return access(MOSQUITTO, X_OK) == 0 && access(MOSQUITTO_SUB, X_OK) == 0;
}

void broker_version(char *text, size_t size)
{
	static const char *const argv[] = {MOSQUITTO, "-h", NULL};

	(void)process_run(argv, text, size);
	text[strcspn(text, "\n")] = '\0';
}

static const char *broker_path(const struct broker *b, const char *name)
{
	static char paths[4][PROCESS_PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, PROCESS_PATH_MAX, "%s/%s", b->dir, name);
	return path;
}

void broker_init(struct broker *b)
{
	*b = (struct broker){0};
	snprintf(b->dir, sizeof(b->dir), "/tmp/iothub-broker-XXXXXX");
	ASSERT_TRUE(mkdtemp(b->dir) != NULL);
}

void broker_deinit(struct broker *b)
{
	char command[128];

	if (!b->dir[0])
		return;
	process_stop(&b->pid, SIGKILL);
	snprintf(command, sizeof(command), "rm -rf '%s'", b->dir);
	if (system(command) != 0)
		fprintf(stderr, "# %s is left behind\n", b->dir);
	b->dir[0] = '\0';
}

void broker_start(struct broker *b, const char *config)
{
	const char *argv[] = {MOSQUITTO, "-v", "-c", broker_path(b, "mosquitto.conf"), NULL};
	FILE *file = fopen(argv[3], "we");

	ASSERT_TRUE(file != NULL);
	/* Started by root it would become a user who cannot read the test's key. */
	fprintf(file, "%spersistence_location %s/\nallow_anonymous true\n%s",
		geteuid() == 0 ? "user root\n" : "", b->dir, config);
	ASSERT_EQ(fclose(file), 0);
	process_start_notify(&b->pid, broker_path(b, "log"), argv, broker_path(b, "notify"));
}

int broker_stop(struct broker *b, int signo)
{
	return process_stop(&b->pid, signo);
}

char *broker_log(const struct broker *b)
{
	return text_read(broker_path(b, "log"));
}

/* --- the subscriber --------------------------------------------------------------------------- */

/* Fills @argv; @format NULL = gone as soon as the subscription is acknowledged. */
#define SUBSCRIBER_ARGS 24

static void subscriber_argv(const char **argv, const char *port, const char *ca_file, const char *topic,
			    const char *format)
{
	const char *const args[SUBSCRIBER_ARGS] = {
		MOSQUITTO_SUB,
		"-V",
		"5",
		"-h",
		"localhost",
		"-p",
		port,
		"--cafile",
		ca_file,
		"-i",
		"watcher",
		"-c",
		"-x",
		SESSION_EXPIRY,
		"-q",
		"1",
		"-t",
		topic,
		format ? "-F" : "-E",
		format,
	};

	memcpy(argv, args, sizeof(args));
}

void broker_subscribe(uint16_t port, const char *ca_file, const char *topic)
{
	const char *argv[SUBSCRIBER_ARGS];
	char text[1024], number[8];
	int r;

	snprintf(number, sizeof(number), "%u", port);
	subscriber_argv(argv, number, ca_file, topic, NULL);
	r = process_run(argv, text, sizeof(text));
	if (r)
		TEST_LOG("mosquitto_sub: %s", text);
	ASSERT_EQ(r, 0);
}

pid_t broker_watch(const struct broker *b, uint16_t port, const char *ca_file, const char *topic,
		   const char *format, int *fd)
{
	const char *argv[SUBSCRIBER_ARGS];
	char number[8];
	int fds[2];
	pid_t pid;

	snprintf(number, sizeof(number), "%u", port);
	subscriber_argv(argv, number, ca_file, topic, format);
	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	pid = process_start(broker_path(b, "watcher.log"), argv, -1, fds[1]);
	close(fds[1]);
	*fd = fds[0];
	return pid;
}
