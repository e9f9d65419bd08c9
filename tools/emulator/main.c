/* SPDX-License-Identifier: MIT */
/*
 * iothub-emulator: arguments, the state directory, start and stop. What a hub says to a device is in the
 * modules.
 *
 * State directory, mode 0700: ca.pem, ca.key (made once), server.pem, server.key (issued at every start for
 * the names of the day), devices.json, state.log (twins, commands, sessions), devices/<id>.connection-string, service.connection-string. It belongs
 * to one emulator at a time.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "file.h"
#include "hub.h"
#include "loop/loop.h"
#include "net/devca.h"
#include "net/tls.h"
#include "options.h"
#include "server.h"
#include "state.h"

struct emulator {
	struct emu_options options;
	struct log log;
	int lock_fd;
	struct loop *loop;
	struct loop_signals *signals;
	struct tls_context *tls;
	struct emu_registry *registry;
	struct emu_hub hub;
	bool has_hub;
	struct emu_server *server;
};

static uint64_t wall_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * MSEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_MSEC;
}

/* --- state directory -------------------------------------------------------------------------- */

static int state_open(struct emulator *e)
{
	const char *dir = e->options.state;
	int r = emu_dir_make(dir);

	if (r == 0) {
		e->lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = e->lock_fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		log_error(&e->log, "state directory %s: %s; choose another with --state", dir, strerror(-r));
		return r;
	}
	if (flock(e->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		r = -errno;
		log_error(&e->log,
			  "state directory %s is in use by another emulator; choose another with --state",
			  dir);
	}
	return r;
}

static int state_path(const struct emulator *e, const char *name, char out[static PATH_MAX])
{
	return snprintf(out, PATH_MAX, "%s/%s", e->options.state, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

DEFINE_CLEANUP(struct devca *, devca_free)

static int ca_open(struct emulator *e, struct devca **ca)
{
	char cert[PATH_MAX], key[PATH_MAX];
	int r = state_path(e, "ca.pem", cert);

	if (r == 0)
		r = state_path(e, "ca.key", key);
	if (r == 0)
		r = devca_load(ca, cert, key, &e->log);
	if (r != -ENOENT)
		return r;
	r = devca_new(ca, "iothub-emulator development CA", wall_clock_ms());
	return r < 0 ? r : devca_save(*ca, cert, key, &e->log);
}

static int tls_open(struct emulator *e)
{
	const char *names[] = {e->options.hub.host, "localhost", "127.0.0.1", "::1"};
	_cleanup_(devca_free_ptr) struct devca *ca = NULL;
	char cert[PATH_MAX], key[PATH_MAX];
	/* A name twice in a certificate helps nobody. */
	size_t skip = strcasecmp(names[0], names[1]) == 0 ? 1 : 0;
	int r = ca_open(e, &ca);

	if (r == 0)
		r = state_path(e, "server.pem", cert);
	if (r == 0)
		r = state_path(e, "server.key", key);
	if (r == 0)
		r = devca_issue_server(ca, names + skip, ARRAY_SIZE(names) - skip, wall_clock_ms(), cert, key,
				       &e->log);
	if (r == -EINVAL)
		log_error(&e->log, "--host %s: not a host name", e->options.hub.host);
	if (r == 0)
		r = tls_context_new_server(&e->tls, cert, key, &e->log);
	/* What its own authority signed is good for devices, too. */
	if (r == 0)
		r = state_path(e, "ca.pem", cert);
	if (r == 0)
		r = tls_context_ask_client(e->tls, cert, &e->log);
	if (r == 0 && e->options.client_ca)
		r = tls_context_ask_client(e->tls, e->options.client_ca, &e->log);
	return r;
}

static int devices_open(struct emulator *e)
{
	int r = emu_registry_load(&e->registry, e->options.state, &e->log);

	for (size_t i = 0; i < e->options.n_devices && r == 0; i++)
		r = emu_registry_add(e->registry, e->options.devices[i]);
	return r < 0 ? r : emu_registry_save(e->registry);
}

/* --- run -------------------------------------------------------------------------------------- */

static void on_stopped(void *userdata)
{
	struct emulator *e = userdata;

	loop_stop(e->loop);
}

static void on_signal(void *userdata, int signo)
{
	struct emulator *e = userdata;

	if (signo == SIGUSR1) {
		emu_server_cut_devices(e->server);
		return;
	}
	sd_notify(0, "STOPPING=1");
	emu_server_stop(e->server, on_stopped, e);
}

/* A device costs a descriptor each. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* Twins, commands and sessions. The loop has not read its clocks yet. */
static int state_restore(struct emulator *e)
{
	char path[PATH_MAX];
	struct timespec ts;
	int r = state_path(e, "state.log", path);

	clock_gettime(CLOCK_MONOTONIC, &ts);
	emu_hub_set_time(&e->hub, (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec, wall_clock_ms());
	return r < 0 ? r : emu_state_open(&e->hub, path);
}

static int start(struct emulator *e)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGUSR1};
	struct loop_options loop_options = {.log = &e->log};
	int r = state_open(e);

	if (r == 0)
		r = devices_open(e);
	if (r == 0)
		r = tls_open(e);
	if (r == 0)
		r = loop_new(&e->loop, &loop_options);
	if (r == 0)
		r = loop_signals_new(&e->signals, e->loop, signals, ARRAY_SIZE(signals), on_signal, e);
	if (r == 0)
		r = emu_hub_init(&e->hub, &e->options.hub, e->registry, &e->log, wall_clock_ms());
	if (r < 0)
		return r;
	e->has_hub = true;
	r = state_restore(e);
	if (r < 0)
		return r;
	r = emu_server_new(&e->server, e->loop, &e->hub, e->tls, &e->log);
	if (r == 0)
		r = emu_server_listen(e->server, e->options.listen, e->options.port);
	if (r == 0)
		r = emu_registry_write_connection_strings(e->registry, e->options.hub.host,
							  emu_server_port(e->server));
	return r;
}

static void announce(struct emulator *e)
{
	char path[PATH_MAX];

	if (e->options.level == LOG_LEVEL_WARNING)
		return;
	for (size_t i = 0; i < emu_registry_n_identities(e->registry); i++) {
		const struct emu_identity *identity = emu_registry_identity(e->registry, i);

		if (emu_registry_connection_string_path(e->registry, identity, path, sizeof(path)) == 0)
			printf("device %s: connection string in %s\n", identity->id, path);
	}
	printf("monitor: hubctl monitor --connection-string-file %s/service.connection-string\n",
	       e->options.state);
	printf("listening on %s:%u as %s, CA certificate in %s/ca.pem\n",
	       e->options.listen ? e->options.listen : "localhost", emu_server_port(e->server),
	       e->options.hub.host, e->options.state);
	fflush(stdout);
}

static int tell_ready(struct emulator *e)
{
	char text[8];
	int n = snprintf(text, sizeof(text), "%u\n", emu_server_port(e->server));
	int fd = e->options.ready_fd;

	sd_notify(0, "READY=1");
	if (fd < 0)
		return 0;
	if (write(fd, text, (size_t)n) != n) {
		log_error(&e->log, "--ready-fd %d: %s", fd, strerror(errno));
		return -EINVAL;
	}
	close(fd);
	return 0;
}

static void stop(struct emulator *e)
{
	emu_server_free(e->server);
	loop_signals_free(e->signals);
	while (e->loop && loop_n_in_flight(e->loop) > 0) {
		if (loop_turn(e->loop, TIME_NEVER) < 0)
			break;
	}
	if (e->has_hub) {
		emu_hub_commit(&e->hub);
		emu_hub_deinit(&e->hub);
	}
	loop_free(e->loop);
	tls_context_free(e->tls);
	emu_registry_free(e->registry);
	emu_options_deinit(&e->options);
	close_fd(&e->lock_fd);
}

int main(int argc, char **argv)
{
	struct emulator e = {.lock_fd = -1};
	enum emu_options_result parsed = emu_options_parse(&e.options, argc, argv);
	int r;

	if (parsed != OPTIONS_RUN) {
		emu_options_deinit(&e.options);
		return parsed == OPTIONS_WRONG ? 2 : 0;
	}
	log_init(&e.log, "iothub-emulator", e.options.level);
	raise_file_limit();
	umask(0077);
	signal(SIGPIPE, SIG_IGN);
	r = start(&e);
	if (r == 0) {
		announce(&e);
		r = tell_ready(&e);
	}
	if (r == 0)
		r = loop_run(e.loop);
	if (e.server && emu_server_failed(e.server))
		r = -EIO;
	stop(&e);
	return r < 0 ? 1 : 0;
}
