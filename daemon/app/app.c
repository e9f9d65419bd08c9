/* SPDX-License-Identifier: MIT */
/*
 * The daemon, see app.h. Objects in the order of their start:
 *
 *     loop, signals, tree with the events, directories of the state (storage.c), TLS context, resolver, journal, channels,
 *     waiters, telemetry, link, rejected, commands, methods, twin, files, mount, transport
 *
 * Objects know those before them; what goes the other way (the outcomes of link and disk, room in the queue) goes
 * through the small functions below.
 *
 * Taking down: files refuse new messages while what is queued has its last chance, with writers that wait still
 * being answered; then the transport, the mount and the tree, which closes the open files and so ends the messages
 * under way, which get what is left of that chance; then the rest. What did not reach the hub stays in the journal.
 */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <systemd/sd-daemon.h>

#include "app/app.h"
#include "app/declarations.h"
#include "app/storage.h"
#include "base/cleanup.h"
#include "base/time.h"
#include "flow/channel.h"
#include "flow/channel_files.h"
#include "flow/command_files.h"
#include "flow/commands.h"
#include "flow/events.h"
#include "flow/link.h"
#include "flow/method_files.h"
#include "flow/methods.h"
#include "flow/rejected.h"
#include "flow/status.h"
#include "flow/store.h"
#include "flow/telemetry.h"
#include "flow/telemetry_files.h"
#include "flow/twin.h"
#include "flow/twin_files.h"
#include "fuse/dev.h"
#include "fuse/mount.h"
#include "journal/journal.h"
#include "loop/loop.h"
#include "net/resolver.h"
#include "net/tls.h"

_Static_assert(STORE_END_NS <= APP_SETTLE_NS, "the store has said whose file it is");

struct app {
	const struct config *config;
	struct log *log;
	struct journal_guard *guard;
	struct loop *loop;
	struct loop_signals *signals;
	struct events *events;
	struct storage storage;
	struct tls_context *tls;
	struct resolver *resolver;
	struct journal *journal;
	struct channels *channels;
	struct waiters *waiters;
	struct telemetry *telemetry;
	struct link *link;
	struct rejected *rejected;
	struct commands *commands;
	struct methods *methods;
	struct twin *twin;
	struct fuse_tree *tree;
	struct telemetry_files *files;
	struct channel_files *channel_files;
	struct command_files *command_files;
	struct method_files *method_files;
	struct twin_files *twin_files;
	struct status *status;
	struct fuse_mount mount;
	struct fuse_dev *dev;
	struct loop_timer drain;
	bool draining;
	int result;
};

/* --- what goes up ----------------------------------------------------------------------------- */

static void app_on_online(void *userdata, bool session_present)
{
	struct app *app = userdata;

	events_emit(app->events, "connected", NULL, NULL);
	telemetry_on_online(app->telemetry, session_present);
	twin_on_online(app->twin, session_present);
}

static void app_on_offline(void *userdata)
{
	struct app *app = userdata;
	struct link_info info;

	link_info(app->link, &info);
	events_emit(app->events, "disconnected", NULL, "%s", info.last_error);
	telemetry_on_offline(app->telemetry);
	commands_on_offline(app->commands);
	methods_on_offline(app->methods);
	twin_on_offline(app->twin);
	if (app->draining)
		loop_stop(app->loop);
}

static void app_on_writable(void *userdata)
{
	struct app *app = userdata;

	/* Answers first: telemetry takes all the room there is. */
	commands_on_writable(app->commands);
	methods_on_writable(app->methods);
	twin_on_writable(app->twin);
	telemetry_on_writable(app->telemetry);
}

static void app_on_puback(void *userdata, uint64_t cookie, const struct hub_status *status,
			  struct bytes reason)
{
	struct app *app = userdata;

	telemetry_on_puback(app->telemetry, cookie, status, reason);
}

static void app_on_changed(void *userdata)
{
	struct app *app = userdata;

	if (app->status)
		status_changed(app->status);
}

static const struct link_ops app_link_ops = {
	.on_online = app_on_online,
	.on_offline = app_on_offline,
	.on_writable = app_on_writable,
	.on_puback = app_on_puback,
	.on_changed = app_on_changed,
};

static void app_on_room(void *userdata)
{
	struct app *app = userdata;

	if (app->files)
		telemetry_files_on_room(app->files);
}

static void app_on_empty(void *userdata)
{
	struct app *app = userdata;

	if (app->draining)
		loop_stop(app->loop);
}

static void app_on_rejected(void *userdata, const struct journal_record *record, const char *reason)
{
	struct app *app = userdata;

	rejected_keep(app->rejected, record, reason);
}

/* Of the queue and of the disk it is on. */
static void app_on_event(void *userdata, const char *event, const char *text)
{
	struct app *app = userdata;

	events_emit(app->events, event, NULL, "%s", text);
}

static void app_on_stored(void *userdata, uint64_t sequence, int error)
{
	struct app *app = userdata;

	telemetry_on_stored(app->telemetry, sequence, error);
	rejected_on_stored(app->rejected, sequence, error);
}

static void app_on_disk_room(void *userdata)
{
	struct app *app = userdata;

	telemetry_on_room(app->telemetry);
}

static void app_on_lost(void *userdata, struct journal_lane *lane, uint64_t first, uint64_t last)
{
	struct app *app = userdata;

	/* Before there are files nobody waits. */
	if (app->telemetry)
		telemetry_on_lost(app->telemetry, lane, first, last);
	if (app->rejected)
		rejected_on_lost(app->rejected, lane, first, last);
}

static const struct journal_ops app_journal_ops = {
	.on_stored = app_on_stored,
	.on_room = app_on_disk_room,
	.on_lost = app_on_lost,
	.on_event = app_on_event,
};

static void app_on_desired_changed(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct app *app = userdata;

	if (app->twin_files)
		twin_files_on_desired_changed(app->twin_files, patch, version);
}

static void app_on_reported_changed(void *userdata, const struct json_object *patch, uint64_t version)
{
	struct app *app = userdata;

	if (app->twin_files)
		twin_files_on_reported_changed(app->twin_files, patch, version);
}

static void app_on_refused(void *userdata, int error, const char *reason)
{
	struct app *app = userdata;

	if (app->twin_files)
		twin_files_on_refused(app->twin_files, error, reason);
}

static const struct twin_ops app_twin_ops = {
	.on_desired_changed = app_on_desired_changed,
	.on_reported_changed = app_on_reported_changed,
	.on_refused = app_on_refused,
};

static void app_on_gone(void *userdata)
{
	struct app *app = userdata;

	log_error(app->log, "%s was unmounted by somebody else: stopping", app->config->mount);
	app->result = -ENODEV;
	loop_stop(app->loop);
}

static void app_on_signal(void *userdata, int signo)
{
	struct app *app = userdata;

	log_info(app->log, "SIG%s: stopping", sigabbrev_np(signo));
	loop_stop(app->loop);
}

static void app_on_drain_timeout(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	loop_stop(container_of(timer, struct app, drain)->loop);
}

/* --- start ------------------------------------------------------------------------------------ */

static int app_start_loop(struct app *app)
{
	/* A terminal that closes or asks for a core is no reason to leave a dead mount behind. */
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	const struct loop_options options = {.log = app->log};
	int r;

	r = loop_new(&app->loop, &options);
	if (r)
		return r;
	loop_timer_init(&app->drain, app_on_drain_timeout);
	return loop_signals_new(&app->signals, app->loop, signals, ARRAY_SIZE(signals), app_on_signal, app);
}

/* How long somebody waits for the hub. */
static uint64_t app_timeout_ns(const struct app *app)
{
	return app->config->ack_timeout_s ? app->config->ack_timeout_s * NSEC_PER_SEC : TIME_NEVER;
}

/* The tree is there first: what happens from here on is told in `events`. */
static int app_start_tree(struct app *app)
{
	const struct config *config = app->config;
	const struct fuse_tree_options options = {
		.loop = app->loop,
		.log = app->log,
		.root_mode = 0755,
		.uid = config->uid,
		.gid = config->gid,
		.on_gone = app_on_gone,
		.userdata = app,
	};
	int r;

	r = fuse_tree_new(&app->tree, &options);
	if (!r)
		r = events_new(&app->events, app->loop);
	if (!r)
		r = events_add_file(app->events, fuse_tree_root(app->tree),
				    &config->files[CONFIG_FILE_EVENTS]);
	return r;
}

static int app_start_twin(struct app *app)
{
	const struct twin_options twin = {
		.loop = app->loop,
		.log = app->log,
		.link = app->link,
		.ops = &app_twin_ops,
		.userdata = app,
		.store_path = app->storage.twin_path,
		.identity = app->storage.identity,
	};

	return twin_new(&app->twin, &twin);
}

/* What the hub asks of the device. */
static int app_start_services(struct app *app)
{
	const struct commands_options commands = {.log = app->log, .link = app->link};
	const struct methods_options methods = {
		.loop = app->loop,
		.log = app->log,
		.link = app->link,
		.wait_ns = app->config->method_wait_s * NSEC_PER_SEC,
		.timeout_ns = app->config->method_timeout_s * NSEC_PER_SEC,
	};
	int r;

	r = commands_new(&app->commands, &commands);
	if (!r)
		r = methods_new(&app->methods, &methods);
	if (!r)
		r = app_start_twin(app);
	if (r)
		log_error(app->log, "cannot start: %s", strerror(-r));
	return r;
}

static int app_start_channels(struct app *app)
{
	struct channels_options channels = {
		.loop = app->loop,
		.log = app->log,
		.journal = app->journal,
		.path = app->storage.channels_path,
		.n_declarations = app->config->n_channels,
		.on_event = app_on_event,
		.userdata = app,
	};
	struct channel_declaration *declarations;
	int r;

	if (getrandom(&channels.run, sizeof(channels.run), 0) != (ssize_t)sizeof(channels.run))
		return -EIO;
	r = declarations_new(&declarations, app->config);
	if (r)
		return r;
	channels.declarations = declarations;
	r = channels_new(&app->channels, &channels);
	free(declarations);
	return r;
}

static int app_start_journal(struct app *app)
{
	const struct journal_options journal = {
		.loop = app->loop,
		.log = app->log,
		.dir = app->storage.journal_dir,
		.is_volatile = app->config->storage == CONFIG_STORAGE_VOLATILE,
		.max_bytes = app->config->queue_bytes,
		.guard = app->guard,
		.ops = &app_journal_ops,
		.userdata = app,
	};
	int r = journal_new(&app->journal, &journal);

	/* All others it says itself. */
	if (r == -ENOMEM)
		log_error(app->log, "cannot start: %s", strerror(-r));
	return r;
}

/* From writers to the hub. */
static int app_start_queue(struct app *app)
{
	struct telemetry_options telemetry = {
		.loop = app->loop,
		.log = app->log,
		.on_room = app_on_room,
		.on_empty = app_on_empty,
		.on_rejected = app_on_rejected,
		.on_event = app_on_event,
		.userdata = app,
	};
	int r;

	r = app_start_channels(app);
	if (!r)
		r = waiters_new(&app->waiters, app->loop, app_timeout_ns(app));
	telemetry.journal = app->journal;
	telemetry.channels = app->channels;
	telemetry.waiters = app->waiters;
	return r ? r : telemetry_new(&app->telemetry, &telemetry);
}

static int app_start_link(struct app *app)
{
	const struct link_options link = {
		.loop = app->loop,
		.log = app->log,
		.config = app->config,
		.ops = &app_link_ops,
		.userdata = app,
		.resolver = app->resolver,
		.tls = app->tls,
	};
	const struct rejected_options rejected = {
		.loop = app->loop,
		.log = app->log,
		.events = app->events,
		.journal = app->journal,
		.channels = app->channels,
		.telemetry = app->telemetry,
	};
	int r = link_new(&app->link, &link);

	if (r)
		return r;
	telemetry_set_link(app->telemetry, app->link);
	return rejected_new(&app->rejected, &rejected);
}

static int app_start_hub(struct app *app)
{
	int r;

	r = tls_context_new_client(&app->tls, app->config->ca_file, app->log);
	if (!r && app->config->authentication == CONFIG_AUTHENTICATION_X509)
		r = tls_context_use_certificate(app->tls, app->config->certificate_file,
						app->config->private_key, app->log);
	if (!r)
		r = storage_prepare(&app->storage, app->config, app->log);
	if (!r)
		r = app_start_journal(app);
	if (r)
		return r;
	r = resolver_new(&app->resolver, app->loop, app->log, NULL);
	if (!r)
		r = app_start_queue(app);
	if (!r)
		r = app_start_link(app);
	if (r) {
		log_error(app->log, "cannot start: %s", strerror(-r));
		return r;
	}
	return app_start_services(app);
}

static int app_make_telemetry_files(struct app *app)
{
	const struct config_access *access = app->config->files;
	struct fuse_node *root = fuse_tree_root(app->tree);
	struct channel_files_options channels = {
		.channels = app->channels,
		.journal = app->journal,
		.events = app->events,
		.loop = app->loop,
		.parent = root,
		.access = access,
	};
	int r;

	r = telemetry_files_new(&app->files, app->telemetry, app->log);
	if (!r)
		r = telemetry_files_add(app->files, channels_default(app->channels), root, access, NULL);
	channels.telemetry_files = app->files;
	if (!r)
		r = channel_files_new(&app->channel_files, &channels);
	if (!r)
		r = rejected_add_files(app->rejected, root, &access[CONFIG_FILE_REJECTED]);
	return r;
}

static int app_make_twin_files(struct app *app)
{
	const struct twin_files_options twin = {
		.loop = app->loop,
		.log = app->log,
		.events = app->events,
		.twin = app->twin,
		.parent = fuse_tree_root(app->tree),
		.twin_access = app->config->files[CONFIG_FILE_TWIN],
		.reported_access = app->config->files[CONFIG_FILE_REPORTED],
		.timeout_ns = app_timeout_ns(app),
	};

	return twin_files_new(&app->twin_files, &twin);
}

/* Everything below the mount point. */
static int app_make_files(struct app *app)
{
	const struct config *config = app->config;
	struct fuse_node *root = fuse_tree_root(app->tree);
	const struct status_options status = {
		.loop = app->loop,
		.config = config,
		.link = app->link,
		.telemetry = app->telemetry,
		.journal = app->journal,
		.rejected = app->rejected,
		.twin = app->twin,
		.parent = root,
	};
	int r;

	r = app_make_telemetry_files(app);
	if (!r)
		r = status_new(&app->status, &status);
	if (!r)
		r = command_files_new(&app->command_files, app->commands, root,
				      &config->files[CONFIG_FILE_COMMANDS],
				      &config->files[CONFIG_FILE_SETTLE], app->events);
	if (!r)
		r = method_files_new(&app->method_files, app->methods, root,
				     &config->files[CONFIG_FILE_METHODS], config->methods, config->n_methods,
				     app->events);
	if (!r)
		r = app_make_twin_files(app);
	if (r)
		log_error(app->log, "cannot make the files: %s", strerror(-r));
	return r;
}

static int app_start_files(struct app *app)
{
	int r = app_make_files(app);

	if (r)
		return r;
	r = fuse_mount(&app->mount, app->config->mount, app->log);
	if (r)
		return r;
	return fuse_dev_new(&app->dev, app->loop, app->tree, app->mount.fd, app->log);
}

int app_check(const struct config *config, struct log *log)
{
	struct tls_context *tls;
	int r = tls_context_new_client(&tls, config->ca_file, log);

	if (!r)
		tls_context_free(tls);
	return r;
}

int app_new(struct app **out, const struct config *config, struct log *log, struct journal_guard *guard)
{
	struct app *app = calloc(1, sizeof(*app));
	int r;

	if (!app)
		return -ENOMEM;
	app->config = config;
	app->log = log;
	app->guard = guard;
	app->mount.fd = -1;
	r = app_start_loop(app);
	if (!r)
		r = app_start_tree(app);
	if (!r)
		r = app_start_hub(app);
	if (!r)
		r = app_start_files(app);
	if (r) {
		(void)app_free(app);
		return r;
	}
	*out = app;
	return 0;
}

/* --- stop ------------------------------------------------------------------------------------- */

/* Nobody writes any more: open files are closed, and the messages under way with them. */
static void app_stop_files(struct app *app)
{
	if (app->commands)
		commands_close(app->commands);
	if (app->dev) {
		fuse_dev_stop(app->dev);
		/* An operation in flight would keep the connection to the kernel. */
		while (!fuse_dev_is_idle(app->dev))
			if (loop_turn(app->loop, TIME_NEVER))
				break;
		fuse_dev_free(app->dev);
		app->dev = NULL;
	}
	fuse_tree_free(app->tree);
	channel_files_free(app->channel_files);
	telemetry_files_free(app->files);
	command_files_free(app->command_files);
	method_files_free(app->method_files);
	twin_files_free(app->twin_files);
	if (app->events)
		events_remove_file(app->events);
	status_free(app->status);
	app->tree = NULL;
	app->channel_files = NULL;
	app->files = NULL;
	app->command_files = NULL;
	app->method_files = NULL;
	app->twin_files = NULL;
	app->status = NULL;
	fuse_unmount(&app->mount, app->log);
}

/* Runs until the queue is empty, the hub is away, or the time for it is over. */
static void app_drain(struct app *app)
{
	struct telemetry_stats stats;
	struct link_info info;

	telemetry_stats(app->telemetry, &stats);
	link_info(app->link, &info);
	if (!stats.n_queued || info.state != LINK_ONLINE || !loop_timer_is_armed(&app->drain))
		return;
	app->draining = true;
	link_kick(app->link);
	(void)loop_run(app->loop);
	app->draining = false;
}

/* What did not reach the hub. */
static void app_say_left(const struct app *app)
{
	struct telemetry_stats stats;
	const char *s;

	telemetry_stats(app->telemetry, &stats);
	s = stats.n_queued == 1 ? "" : "s";
	if (stats.n_queued && journal_is_durable(app->journal))
		log_info(app->log, "%" PRIu64 " message%s for the hub wait%s in %s for the next start",
			 stats.n_queued, s, stats.n_queued == 1 ? "s" : "", app->storage.journal_dir);
	else if (stats.n_queued)
		log_warning(
			app->log,
			"%" PRIu64
			" message%s did not reach the hub: lost if the machine stops before the next start",
			stats.n_queued, s);
}

static void app_stop(struct app *app)
{
	uint64_t drain_ns = journal_is_durable(app->journal) ? APP_DRAIN_NS : APP_DRAIN_VOLATILE_NS;

	loop_timer_arm(app->loop, &app->drain, loop_now_ns(app->loop) + drain_ns);
	telemetry_close(app->telemetry);
	commands_drain(app->commands);
	app_drain(app);
	app_stop_files(app);
	app_drain(app);
	loop_timer_disarm(&app->drain);
	app_say_left(app);
}

int app_run(struct app *app)
{
	int r;

	log_info(app->log, "files are at %s", app->config->mount);
	/* On its own: a text that is made takes memory, and whoever waits for this one would wait for ever. */
	sd_notify(0, "READY=1");
	sd_notifyf(0, "STATUS=Files are at %s", app->config->mount);
	link_start(app->link);
	r = loop_run(app->loop);
	sd_notify(0, "STOPPING=1");
	if (r) {
		log_error(app->log, "the event loop failed: %s", strerror(-r));
		return r;
	}
	app_stop(app);
	return app->result;
}

/* Ends what is in flight; whose disk does not answer has said so by then. Returns 0, -ETIMEDOUT, or the error of the
 * loop: then nothing that it serves can be freed. */
static int app_settle(struct app *app)
{
	uint64_t end_ns = loop_now_ns(app->loop) + APP_SETTLE_NS;
	int r = 0;

	while (!r && loop_n_in_flight(app->loop) > 0) {
		uint64_t now_ns = loop_now_ns(app->loop);

		r = now_ns < end_ns ? loop_turn(app->loop, end_ns - now_ns) : -ETIMEDOUT;
	}
	return r;
}

int app_free(struct app *app)
{
	int r;

	if (!app)
		return 0;
	if (app->loop)
		app_stop_files(app);
	twin_free(app->twin);
	methods_free(app->methods);
	commands_free(app->commands);
	link_free(app->link);
	rejected_free(app->rejected);
	telemetry_free(app->telemetry);
	waiters_free(app->waiters);
	channels_free(app->channels);
	/* What it writes is seen to below. */
	journal_stop(app->journal);
	resolver_free(app->resolver);
	events_free(app->events);
	loop_signals_free(app->signals);
	r = app->loop ? app_settle(app) : 0;
	if (r)
		return r;
	journal_free(app->journal);
	storage_deinit(&app->storage);
	tls_context_free(app->tls);
	loop_free(app->loop);
	free(app);
	return 0;
}
