/* SPDX-License-Identifier: MIT */
/*
 * The status file, see status.h. Every open renders the text anew and keeps it until it is closed; the size
 * shown by stat(2) is that of the text as it would be rendered now.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "flow/status.h"

/* All values have bounds; what exceeds this is cut. */
#define STATUS_TEXT_MAX 4096

struct status {
	struct loop *loop;
	const struct config *config;
	struct link *link;
	struct telemetry *telemetry;
	struct journal *journal;
	struct rejected *rejected;
	struct twin *twin;
	struct fuse_node *node;
	struct loop_deferred changed;
};

struct status_text {
	size_t len;
	char data[STATUS_TEXT_MAX];
};

__attribute__((format(printf, 3, 4))) static void text_line(struct status_text *text, const char *key,
							    const char *fmt, ...)
{
	size_t left = sizeof(text->data) - text->len;
	va_list ap;
	int n, m;

	n = snprintf(text->data + text->len, left, "%s: ", key);
	if (n < 0 || (size_t)n >= left)
		return;
	va_start(ap, fmt);
	m = vsnprintf(text->data + text->len + n, left - (size_t)n, fmt, ap);
	va_end(ap);
	if (m < 0 || (size_t)(n + m) + 1 >= left)
		return;
	for (int i = n; i < n + m; ++i)
		if ((unsigned char)text->data[text->len + (size_t)i] < 0x20)
			text->data[text->len + (size_t)i] = '?';
	text->len += (size_t)(n + m);
	text->data[text->len++] = '\n';
}

static void status_render_link(const struct status *status, struct status_text *text)
{
	const struct config *config = status->config;
	char since[TIME_ISO_LEN + 1];
	struct link_info info;

	link_info(status->link, &info);
	time_format_iso(info.since_ms, since);
	text_line(text, "state", "%s", link_state_name(info.state));
	text_line(text, "since", "%s", since);
	text_line(text, "hub", "%s", config->host);
	if (config->gateway_host)
		text_line(text, "gateway", "%s", config->gateway_host);
	if (info.server[0])
		text_line(text, "server", "%s", info.server);
	text_line(text, "device", "%s", config->client_id);
	if (info.state == LINK_WAITING)
		text_line(text, "retry-in", "%" PRIu64 ".%" PRIu64 " s", info.retry_in_ns / NSEC_PER_SEC,
			  info.retry_in_ns % NSEC_PER_SEC / (100 * NSEC_PER_MSEC));
	text_line(text, "last-error", "%s", info.last_error[0] ? info.last_error : "none");
	if (info.state == LINK_ONLINE) {
		text_line(text, "peer", "%s", info.peer);
		text_line(text, "tls", "%s", info.cipher);
		text_line(text, "session", "%s", info.session_present ? "resumed" : "new");
		text_line(text, "receive-maximum", "%u", info.receive_maximum);
		text_line(text, "topic-alias-maximum", "%u", info.topic_alias_maximum);
		text_line(text, "keep-alive", "%u s", info.keep_alive_s);
		text_line(text, "packet-bytes-max", "%" PRIu32, info.packet_bytes_max);
	}
	text_line(text, "connects", "%" PRIu64, info.n_connects);
	text_line(text, "attempts", "%" PRIu64, info.n_attempts);
	text_line(text, "renewals", "%" PRIu64, info.n_renewals);
}

static void status_render_telemetry(const struct status *status, struct status_text *text)
{
	struct telemetry_stats stats;

	telemetry_stats(status->telemetry, &stats);
	text_line(text, "queued", "%" PRIu64, stats.n_queued);
	text_line(text, "queue-bytes", "%" PRIu64 " of %" PRIu64, stats.queue_bytes, stats.queue_bytes_max);
	text_line(text, "in-flight", "%" PRIu64, stats.n_in_flight);
	text_line(text, "written", "%" PRIu64, stats.n_written);
	text_line(text, "acknowledged", "%" PRIu64, stats.n_acked);
	text_line(text, "sent", "%" PRIu64, stats.n_sent);
	text_line(text, "sent-again", "%" PRIu64, stats.n_resent);
	text_line(text, "refused", "%" PRIu64, stats.n_refused);
	text_line(text, "rejected", "%" PRIu64, stats.n_rejected);
	text_line(text, "queue-full", "%" PRIu64, stats.n_full);
	text_line(text, "last-refusal", "%s", stats.last_refusal[0] ? stats.last_refusal : "none");
}

/* The queue's disk. */
static void status_render_storage(const struct status *status, struct status_text *text)
{
	struct journal_stats stats;

	journal_stats(status->journal, &stats);
	text_line(text, "storage", "%s", journal_is_durable(status->journal) ? "persistent" : "volatile");
	if (journal_is_durable(status->journal))
		text_line(text, "stored", "%" PRIu64 " of %" PRIu64, journal_stored(status->journal),
			  journal_appended(status->journal));
	if (stats.error)
		text_line(text, "disk", "%s: %s", strerrorname_np(-stats.error), strerror(-stats.error));
	else
		text_line(text, "disk", "ok");
	text_line(text, "disk-bytes", "%" PRIu64 " in %" PRIu64 " segments", stats.segment_bytes,
		  stats.n_segments);
	text_line(text, "disk-syncs", "%" PRIu64, stats.n_commits);
	text_line(text, "disk-sync-errors", "%" PRIu64, stats.n_failed);
	text_line(text, "recovered", "%" PRIu64, stats.n_recovered);
	text_line(text, "damaged", "%" PRIu64, stats.n_damaged);
	text_line(text, "rejected-kept", "%" PRIu64, rejected_n(status->rejected));
	text_line(text, "rejected-dropped", "%" PRIu64, rejected_n_dropped(status->rejected));
}

static void status_render_twin(const struct status *status, struct status_text *text)
{
	struct twin_info info;

	twin_info(status->twin, &info);
	text_line(text, "twin", "%s",
		  info.current                       ? "current"
		  : twin_desired(status->twin).known ? "as last seen"
						     : "not known");
	text_line(text, "twin-pending", "%" PRIu64, info.n_pending);
	text_line(text, "twin-refused", "%" PRIu64, info.n_refused);
	text_line(text, "twin-error", "%s", info.last_error[0] ? info.last_error : "none");
}

static void status_render(const struct status *status, struct status_text *text)
{
	text->len = 0;
	status_render_link(status, text);
	status_render_telemetry(status, text);
	status_render_storage(status, text);
	status_render_twin(status, text);
}

/* --- the file --------------------------------------------------------------------------------- */

static int status_open(struct fuse_file *file)
{
	struct status_text *text;

	if ((file->flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	text = malloc(sizeof(*text));
	if (!text)
		return -ENOMEM;
	status_render(fuse_node_userdata(file->node), text);
	file->data = text;
	return 0;
}

static void status_release(struct fuse_file *file)
{
	free(file->data);
}

static int status_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct status_text *text = file->data;

	(void)size;
	/* As in sysfs: who polls reads again from the start, and sees what is true then. */
	if (offset == 0)
		status_render(fuse_node_userdata(file->node), text);
	fuse_reply_document(req, BYTES(text->data, text->len), offset);
	return 0;
}

static uint64_t status_size(struct fuse_node *node)
{
	struct status_text text;

	status_render(fuse_node_userdata(node), &text);
	return text.len;
}

static const struct fuse_file_ops status_ops = {
	.open = status_open,
	.release = status_release,
	.read = status_read,
	.size = status_size,
};

static void status_on_deferred(struct loop_deferred *deferred)
{
	fuse_node_changed(container_of(deferred, struct status, changed)->node);
}

void status_changed(struct status *status)
{
	loop_defer(status->loop, &status->changed);
}

int status_new(struct status **out, const struct status_options *options)
{
	const struct config_access *access = &options->config->files[CONFIG_FILE_STATUS];
	struct status *status = calloc(1, sizeof(*status));
	const struct fuse_node_options node = {
		.name = config_file_name(CONFIG_FILE_STATUS),
		.mode = S_IFREG | access->mode,
		.uid = access->uid,
		.gid = access->gid,
		.ops = &status_ops,
		.userdata = status,
	};
	int r;

	if (!status)
		return -ENOMEM;
	status->loop = options->loop;
	status->config = options->config;
	status->link = options->link;
	status->telemetry = options->telemetry;
	status->journal = options->journal;
	status->rejected = options->rejected;
	status->twin = options->twin;
	loop_deferred_init(&status->changed, status_on_deferred);
	r = fuse_node_add(&status->node, options->parent, &node);
	if (r) {
		free(status);
		return r;
	}
	*out = status;
	return 0;
}

void status_free(struct status *status)
{
	if (!status)
		return;
	loop_undefer(&status->changed);
	free(status);
}
