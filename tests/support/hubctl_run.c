/* SPDX-License-Identifier: MIT */
/*
 * hubctl as a process, see hubctl_run.h.
 */

#include "tests/support/hubctl_run.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness.h"
#include "tests/support/hub_connect.h"

#define N_ARGS_MAX 40
#define READY_FD   3

void hubctl_run_init(struct hubctl_run *h, const char *const *options)
{
	ASSERT_EQ(emu_process_init(&h->e), 0);
	ASSERT_EQ(emu_process_start(&h->e, options), 0);
}

void hubctl_run_deinit(struct hubctl_run *h)
{
	if (h->pid > 0) {
		kill(h->pid, SIGKILL);
		emu_wait(h->pid);
		h->pid = 0;
	}
	emu_process_deinit(&h->e);
}

/* --- files
 * ----------------------------------------------------------------------------------------------------- */

const char *hubctl_file(const struct hubctl_run *h, const char *name)
{
	static char paths[8][EMU_PROCESS_PATH_MAX];
	static unsigned int next;
	char *path = paths[next++ % 8];

	snprintf(path, EMU_PROCESS_PATH_MAX, "%s/%s", h->e.dir, name);
	return path;
}

void hubctl_write_file(const struct hubctl_run *h, const char *name, const char *data, size_t len)
{
	FILE *f = fopen(hubctl_file(h, name), "we");

	ASSERT_TRUE(f != NULL);
	ASSERT_EQ(fwrite(data, 1, len, f), len);
	ASSERT_EQ(fclose(f), 0);
}

static void read_whole(const struct hubctl_run *h, const char *name, char *out, size_t size)
{
	FILE *f = fopen(hubctl_file(h, name), "re");
	size_t n = 0;

	if (f) {
		n = fread(out, 1, size - 1, f);
		fclose(f);
	}
	out[n] = '\0';
}

/* --- running
 * --------------------------------------------------------------------------------------------------- */

/* In the child. */
static void redirect(int fd, const char *path, int flags)
{
	int opened = open(path, flags, 0600);

	if (opened < 0 || dup2(opened, fd) < 0)
		_exit(126);
	close(opened);
}

static void spawn(struct hubctl_run *h, const char *input, int ready_fd, const char *const *args)
{
	const char *argv[N_ARGS_MAX + 1], *service = hubctl_file(h, "service.connection-string");
	const char *in = input ? hubctl_file(h, "hubctl.in") : "/dev/null";
	const char *out = hubctl_file(h, "hubctl.out"), *err = hubctl_file(h, "hubctl.err");
	char program[EMU_PROCESS_PATH_MAX];
	size_t n = 0;
	pid_t pid;

	emu_program_path("hubctl", program);
	argv[n++] = program;
	while (*args && n < N_ARGS_MAX)
		argv[n++] = *args++;
	argv[n] = NULL;
	if (input)
		hubctl_write_file(h, "hubctl.in", input, strlen(input));
	/* @h may lie in memory that the child shares. */
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid > 0) {
		h->pid = pid;
		return;
	}
	setenv("IOTHUB_SERVICE_CONNECTION_STRING_FILE", service, 1);
	redirect(STDIN_FILENO, in, O_RDONLY);
	redirect(STDOUT_FILENO, out, O_WRONLY | O_CREAT | O_TRUNC);
	redirect(STDERR_FILENO, err, O_WRONLY | O_CREAT | O_TRUNC);
	if (ready_fd >= 0 && ready_fd != READY_FD && dup2(ready_fd, READY_FD) < 0)
		_exit(126);
	if (ready_fd == READY_FD && fcntl(READY_FD, F_SETFD, 0) < 0)
		_exit(126);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

int hubctl_wait(struct hubctl_run *h)
{
	pid_t pid = h->pid;
	int code;

	h->pid = 0;
	code = emu_wait(pid);
	read_whole(h, "hubctl.out", h->out, sizeof(h->out));
	read_whole(h, "hubctl.err", h->err, sizeof(h->err));
	return code;
}

int hubctl_run_argv(struct hubctl_run *h, const char *input, const char *const *args)
{
	spawn(h, input, -1, args);
	return hubctl_wait(h);
}

void hubctl_start_argv(struct hubctl_run *h, const char *const *args)
{
	bool is_waited_for = false;
	char ready[16];
	int fds[2];

	ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
	for (size_t i = 0; args[i]; i++)
		is_waited_for |= strcmp(args[i], "--ready-fd=3") == 0;
	spawn(h, NULL, is_waited_for ? fds[1] : -1, args);
	close(fds[1]);
	if (is_waited_for)
		ASSERT_EQ(read(fds[0], ready, sizeof(ready)), 6);
	close(fds[0]);
}

/* --- JSON
 * ------------------------------------------------------------------------------------------------------ */

json_object *hubctl_json(struct hubctl_run *h)
{
	struct json_tokener *tokener = json_tokener_new();
	json_object *json;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	json = json_tokener_parse_ex(tokener, h->out, (int)strlen(h->out) + 1);
	if (json_tokener_get_error(tokener) != json_tokener_success || !json)
		HARNESS_STR(h->out, "(one JSON value)", true);
	json_tokener_free(tokener);
	return json;
}

const char *json_text(json_object *json, const char *path)
{
	json_object *value = NULL;

	return json_pointer_get(json, path, &value) == 0 ? json_object_get_string(value) : "(none)";
}

const char *hubctl_printed(struct hubctl_run *h, const char *path, char out[static HUBCTL_TEXT_MAX])
{
	json_object *json = hubctl_json(h);

	snprintf(out, HUBCTL_TEXT_MAX, "%s", json_text(json, path));
	json_object_put(json);
	return out;
}

/* --- devices
 * --------------------------------------------------------------------------------------------------- */

struct wire_client *hubctl_device(struct hubctl_run *h, struct wire *wire, const char *id,
				  const char *filters)
{
	struct wire_client *c = wire_open(wire, "localhost", h->e.port);
	uint8_t key[64], bytes[HUB_CONNECT_MAX], scratch[4096];
	ssize_t n = emu_process_key(&h->e, id, key, sizeof(key));
	struct mqtt_packet packet;
	struct hub_connect connect;

	ASSERT_GT(n, 0);
	connect = hub_connect_make(id, BYTES(key, (size_t)n));
	ASSERT_TRUE(wire_wait_open(c));
	ASSERT_TRUE(wire_send_bytes(c, hub_connect_encode(&connect, bytes)));
	ASSERT_TRUE(wire_next(c, &packet));
	ASSERT_EQ(packet.type, MQTT_CONNACK + 0u);
	ASSERT_EQ(packet.connack.reason, 0);
	if (!filters)
		return c;
	packet = hub_subscribe_make(MQTT_SUBSCRIBE, filters, scratch);
	ASSERT_TRUE(wire_send(c, &packet));
	ASSERT_TRUE(wire_next(c, &packet));
	ASSERT_EQ(packet.type, MQTT_SUBACK + 0u);
	return c;
}
