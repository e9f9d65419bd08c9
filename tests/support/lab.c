/* SPDX-License-Identifier: MIT */
/*
 * The lab, see lab.h.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness.h"
#include "tests/support/lab.h"
#include "tests/support/process.h"

#define LAB_ARGS_MAX 32

/* --- processes -------------------------------------------------------------------------------- */

static const char *lab_log_path(const struct lab *lab, const char *program)
{
	static char path[LAB_PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s.log", lab->dir, program);
	return path;
}

/* Reads one line from @fd, which a program writes when it is ready; empty when it died first. */
static void lab_read_line(int fd, char *line, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && read(fd, line + n, 1) == 1 && line[n] != '\n')
		++n;
	line[n] = '\0';
}

/* --- life cycle ------------------------------------------------------------------------------- */

void lab_init(struct lab *lab)
{
	char run[LAB_PATH_MAX];

	*lab = (struct lab){.monitor_fd = -1, .device = "dev1"};
	snprintf(lab->dir, sizeof(lab->dir), "/tmp/iothub-lab-XXXXXX");
	ASSERT_TRUE(mkdtemp(lab->dir) != NULL);
	snprintf(lab->mount, sizeof(lab->mount), "%s/hub", lab->dir);
	/* For configurations without `state-directory`: nothing is left outside. */
	setenv("STATE_DIRECTORY", lab->dir, 1);
	setenv("XDG_STATE_HOME", lab->dir, 1);
	/* And with volatile storage; a user's is in XDG_RUNTIME_DIR, which is for the test to choose. */
	snprintf(run, sizeof(run), "%s/run", lab->dir);
	setenv("RUNTIME_DIRECTORY", run, 1);
	/* Emulator keys and mount are for their owner; tests of other users only need to get through. */
	chmod(lab->dir, 0755);
}

void lab_deinit(struct lab *lab)
{
	char command[2 * LAB_PATH_MAX];

	if (!lab->dir[0])
		return;
	process_stop(&lab->daemon, SIGKILL);
	process_stop(&lab->monitor, SIGKILL);
	process_stop(&lab->emulator, SIGKILL);
	if (lab->monitor_fd > 2)
		close(lab->monitor_fd);
	/* A user's mount is fusermount3's business; it may well be gone already. */
	snprintf(command, sizeof(command), "fusermount3 -u -q -z '%s' 2>/dev/null", lab->mount);
	if (umount2(lab->mount, MNT_DETACH) < 0 && errno == EPERM)
		(void)!system(command);
	snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", lab->dir);
	if (system(command) != 0)
		fprintf(stderr, "# %s is left behind\n", lab->dir);
	lab->dir[0] = '\0';
}

/* --- emulator --------------------------------------------------------------------------------- */

void lab_start_emulator(struct lab *lab, const char *const *options)
{
	char state[LAB_PATH_MAX], port[16], line[64];
	const char *argv[LAB_ARGS_MAX] = {process_path("iothub-emulator"),
					  "--state",
					  state,
					  "--device",
					  lab->device,
					  "--listen",
					  "127.0.0.1",
					  "--ready-fd",
					  "3",
					  "--port",
					  port};
	int ready[2], n = 0;

	snprintf(state, sizeof(state), "%s/state", lab->dir);
	snprintf(port, sizeof(port), "%u", lab->port);
	while (argv[n])
		++n;
	for (; options && *options; ++options)
		argv[n++] = *options;
	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	lab->emulator = process_start(lab_log_path(lab, "emulator"), argv, ready[1], -1);
	close(ready[1]);
	lab_read_line(ready[0], line, sizeof(line));
	close(ready[0]);
	lab->port = (uint16_t)atoi(line);
	ASSERT_GT(lab->port, 0);
}

int lab_stop_emulator(struct lab *lab, int signo)
{
	return process_stop(&lab->emulator, signo);
}

/* --- daemon ----------------------------------------------------------------------------------- */

void lab_configure(struct lab *lab, const char *extra)
{
	char path[LAB_PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/iothubd.json", lab->dir);
	file = fopen(path, "we");
	ASSERT_TRUE(file != NULL);
	fprintf(file,
		"{\"connection-string-file\": \"%s/state/devices/%s.connection-string\",\n"
		" \"ca-file\": \"%s/state/ca.pem\", \"port\": %u, \"mount\": \"%s\",\n"
		" \"state-directory\": \"%s/device\"%s%s}\n",
		lab->dir, lab->device, lab->dir, lab->port, lab->mount, lab->dir, extra ? ",\n " : "",
		extra ? extra : "");
	ASSERT_EQ(fclose(file), 0);
}

void lab_write_file(const struct lab *lab, const char *name, const char *text)
{
	char path[LAB_PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", lab->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

void lab_start_daemon(struct lab *lab)
{
	char config[LAB_PATH_MAX], notify[LAB_PATH_MAX];
	const char *argv[] = {process_path("iothubd"), "--config", config, "--log-level", "debug", NULL};

	snprintf(config, sizeof(config), "%s/iothubd.json", lab->dir);
	snprintf(notify, sizeof(notify), "%s/notify", lab->dir);
	if (access(config, F_OK) != 0)
		lab_configure(lab, NULL);
	process_start_notify(&lab->daemon, lab_log_path(lab, "daemon"), argv, notify);
}

int lab_stop_daemon(struct lab *lab, int signo)
{
	return process_stop(&lab->daemon, signo);
}

void lab_start_without_hub(struct lab *lab, const char *extra)
{
	lab_start_emulator(lab, NULL);
	lab_stop_emulator(lab, SIGTERM);
	lab_configure(lab, extra);
	lab_start_daemon(lab);
}

FILE *lab_restart_with_hub(struct lab *lab)
{
	lab_stop_daemon(lab, SIGKILL);
	lab_start_emulator(lab, NULL);
	lab_start_monitor(lab);
	lab_start_daemon(lab);
	return lab_monitor_stream(lab);
}

/* --- monitor ---------------------------------------------------------------------------------- */

void lab_start_monitor(struct lab *lab)
{
	char line[64];
	int ready[2], out[2];

	ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
	ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
	lab->monitor = lab_hubctl_start(lab, lab_log_path(lab, "monitor"), ready[1], out[1], "monitor",
					"--ready-fd", "3", "--quiet");
	close(ready[1]);
	close(out[1]);
	lab_read_line(ready[0], line, sizeof(line));
	close(ready[0]);
	ASSERT_TRUE(line[0] != '\0');
	lab->monitor_fd = out[0];
}

FILE *lab_monitor_stream(const struct lab *lab)
{
	FILE *stream = fdopen(dup(lab->monitor_fd), "re");

	ASSERT_TRUE(stream != NULL);
	return stream;
}

static char *json_string(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) ? strdup(json_object_get_string(value)) : NULL;
}

void lab_next_message(struct lab *lab, FILE *monitor, struct lab_message *out)
{
	struct json_object *object, *system, *payload, *dropped;
	_cleanup_(free_ptr) char *line = NULL;
	size_t size = 0;

	(void)lab;
	*out = (struct lab_message){0};
	ASSERT_GT(getline(&line, &size, monitor), 0);
	object = json_tokener_parse(line);
	ASSERT_TRUE(object != NULL);
	ASSERT_TRUE(json_object_object_get_ex(object, "system-properties", &system));
	out->message_id = json_string(system, "message-id");
	out->creation_time = json_string(system, "iothub-creation-time-utc");
	out->is_base64 = !json_object_object_get_ex(object, "payload", &payload);
	if (out->is_base64)
		ASSERT_TRUE(json_object_object_get_ex(object, "payload-base64", &payload));
	out->payload = strdup(json_object_get_string(payload));
	out->payload_len = strlen(out->payload);
	if (json_object_object_get_ex(object, "dropped", &dropped))
		out->n_dropped = (uint64_t)json_object_get_int64(dropped);
	json_object_put(object);
}

void lab_message_clear(struct lab_message *message)
{
	free(message->message_id);
	free(message->payload);
	free(message->creation_time);
	*message = (struct lab_message){0};
}

void lab_expect_payload(struct lab *lab, FILE *monitor, const char *payload)
{
	struct lab_message message;

	lab_next_message(lab, monitor, &message);
	EXPECT_FALSE(message.is_base64);
	EXPECT_STREQ(message.payload, payload);
	lab_message_clear(&message);
}

/* --- files ------------------------------------------------------------------------------------ */

const char *lab_path(const struct lab *lab, const char *name)
{
	static char paths[4][LAB_PATH_MAX];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, LAB_PATH_MAX, "%s/%s", lab->mount, name);
	return path;
}

int lab_open(const struct lab *lab, const char *name, int flags)
{
	int fd = open(lab_path(lab, name), O_WRONLY | O_CLOEXEC | flags);

	ASSERT_GE(fd, 0);
	return fd;
}

static bool status_find(const char *text, const char *key, char *out, size_t size)
{
	size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && strncmp(line + n, ": ", 2) == 0) {
			line += n + 2;
			snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
			return true;
		}
	}
	return false;
}

static void status_read(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	ASSERT_GT(n, 0);
	text[n] = '\0';
}

void lab_status_text(const struct lab *lab, const char *key, char *out, size_t size)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "status"), O_RDONLY | O_CLOEXEC);
	char text[4096];

	ASSERT_GE(fd, 0);
	status_read(fd, text, sizeof(text));
	if (!status_find(text, key, out, size))
		out[0] = '\0';
}

uint64_t lab_status_number(const struct lab *lab, const char *key)
{
	char text[256];

	lab_status_text(lab, key, text, sizeof(text));
	return strtoull(text, NULL, 10);
}

void lab_expect_status(const struct lab *lab, const char *key, const char *want)
{
	char text[512];

	lab_status_text(lab, key, text, sizeof(text));
	EXPECT_CONTAINS(text, want);
}

/* Until the value of @key is @text, or with NULL a number of at least @number. */
static void status_await(const struct lab *lab, const char *key, const char *text, uint64_t number)
{
	_cleanup_(close_fd) int fd = open(lab_path(lab, "status"), O_RDONLY | O_CLOEXEC);
	char all[4096], value[512];

	ASSERT_GE(fd, 0);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLPRI};

		status_read(fd, all, sizeof(all));
		if (status_find(all, key, value, sizeof(value)) &&
		    (text ? strcmp(value, text) == 0 : strtoull(value, NULL, 10) >= number))
			return;
		ASSERT_EQ(poll(&p, 1, -1), 1);
	}
}

void lab_await_state(const struct lab *lab, const char *state)
{
	status_await(lab, "state", state, 0);
}

void lab_await_number(const struct lab *lab, const char *key, uint64_t at_least)
{
	status_await(lab, key, NULL, at_least);
}

/* @argv: hubctl, @args, and the service's connection string, whose path is a static buffer. */
static void hubctl_args(const struct lab *lab, const char *const *args, const char *argv[static LAB_ARGS_MAX])
{
	static char connection[LAB_PATH_MAX];
	size_t n = 1;

	snprintf(connection, sizeof(connection), "%s/state/service.connection-string", lab->dir);
	argv[0] = process_path("hubctl");
	for (; *args; ++args) {
		ASSERT_LT(n + 3, (size_t)LAB_ARGS_MAX);
		argv[n++] = *args;
	}
	argv[n++] = "--connection-string-file";
	argv[n++] = connection;
	argv[n] = NULL;
}

int lab_hubctl_argv(const struct lab *lab, char *text, size_t size, const char *const *args)
{
	const char *argv[LAB_ARGS_MAX];

	hubctl_args(lab, args, argv);
	return process_run(argv, text, size);
}

pid_t lab_hubctl_start_argv(const struct lab *lab, const char *log, int fd, int out, const char *const *args)
{
	const char *argv[LAB_ARGS_MAX];

	hubctl_args(lab, args, argv);
	return process_start(log, argv, fd, out);
}

int lab_hubctl_words(const struct lab *lab, const char *words, char *text, size_t size)
{
	char script[1024];
	_cleanup_(free_ptr) char *said = NULL;
	int r;

	snprintf(script, sizeof(script), "hubctl %s > $D/hubctl.log 2>&1", words);
	r = lab_shell(lab, "sh", script);
	said = lab_log(lab, "hubctl");
	if (text)
		snprintf(text, size, "%s", said);
	if (r)
		TEST_LOG("hubctl %s: %s", words, said);
	return r;
}

/* What a script finds defined. */
#define SHELL_FUNCTIONS                                                                                      \
	"hubctl() { \"$HUBCTL\" \"$@\" --connection-string-file \"$D/state/service.connection-string\"; }\n"

int lab_shell(const struct lab *lab, const char *shell, const char *script)
{
	_cleanup_(free_ptr) char *text = NULL;
	int status;
	pid_t pid;

	ASSERT_GE(asprintf(&text, "%s%s", SHELL_FUNCTIONS, script), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setenv("M", lab->mount, 1);
		setenv("D", lab->dir, 1);
		setenv("HUBCTL", process_path("hubctl"), 1);
		execlp(shell, shell, "-c", text, (char *)NULL);
		_exit(127);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

char *lab_log(const struct lab *lab, const char *program)
{
	return text_read(lab_log_path(lab, program));
}

void lab_show_log(const struct lab *lab, const char *program)
{
	_cleanup_(free_ptr) char *text = NULL;

	if (!lab->dir[0] || !harness_state.result->n_failed)
		return;
	text = lab_log(lab, program);
	TEST_LOG("%s: %s", program, text);
}
