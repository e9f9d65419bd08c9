/* SPDX-License-Identifier: MIT */
/*
 * The toy tree, see fuse_toy.h, and the process that serves it.
 */

#include "tests/support/fuse_toy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"
#include "fuse/dev.h"
#include "fuse/mount.h"
#include "loop/loop.h"
#include "tests/support/toy_box.h"

struct toy_message {
	uint64_t arg;
	enum toy_ask what;
	char text[TOY_TEXT_SIZE];
};

struct toy_tree {
	struct fuse_tree *fuse;
	struct fuse_node *stream, *doc, *sub;
	struct list parked; /* struct parked_one */
	uint64_t n_parked;
	uint64_t n_writes;
	uint64_t n_bytes;
	uint64_t n_released;
	bool gone;
	char last_write[TOY_TEXT_SIZE];
	char queued[TOY_TEXT_SIZE]; /* for the next READ of stream; empty: none */
	char document[TOY_TEXT_SIZE];
	struct toy_box box;
};

struct parked_one {
	struct list link;
	struct fuse_parked fuse;
};

struct server {
	struct toy_tree *toy;
	struct loop *loop;
	struct fuse_dev *dev;
	struct fuse_mount mount;
	struct loop_op control_op;
	int control;
	struct toy_message waiting; /* TOY_AWAIT_*, 0 when none */
	bool is_waiting;
	bool stopping;
};

static struct toy_tree *file_toy(const struct fuse_file *file)
{
	return fuse_node_userdata(file->node);
}

static int park(struct toy_tree *toy, struct fuse_request *req)
{
	struct parked_one *one = calloc(1, sizeof(*one));

	if (!one)
		return -ENOMEM;
	one->fuse.owner_data = one;
	fuse_park(req, &one->fuse);
	list_append(&toy->parked, &one->link);
	toy->n_parked++;
	return FUSE_PARKED;
}

static void unpark(struct toy_tree *toy, struct parked_one *one)
{
	list_remove(&one->link);
	toy->n_parked--;
}

static void toy_interrupt(struct fuse_parked *parked)
{
	unpark(file_toy(parked->file), parked->owner_data);
	free(parked->owner_data);
}

static void toy_release(struct fuse_file *file)
{
	file_toy(file)->n_released++;
}

static ssize_t sink_write(struct fuse_file *file, struct fuse_request *req, uint64_t offset,
			  struct bytes data)
{
	struct toy_tree *toy = file_toy(file);
	size_t n = data.len < TOY_TEXT_SIZE - 1 ? data.len : TOY_TEXT_SIZE - 1;

	(void)offset;
	if (data.len > TOY_MAX_RECORD)
		return -EMSGSIZE;
	memcpy(toy->last_write, data.data, n);
	toy->last_write[n] = '\0';
	toy->n_writes++;
	toy->n_bytes += data.len;
	return file->write_flags & O_SYNC ? park(toy, req) : (ssize_t)data.len;
}

static int sink_fsync(struct fuse_file *file, struct fuse_request *req, bool datasync)
{
	(void)datasync;
	return park(file_toy(file), req);
}

static int stream_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	struct toy_tree *toy = file_toy(file);
	struct bytes data = bytes_from_str(toy->queued);

	(void)offset;
	if (data.len == 0)
		return file->flags & O_NONBLOCK ? -EAGAIN : park(toy, req);
	if (data.len > size)
		return -EMSGSIZE;
	fuse_reply_data(req, data);
	toy->queued[0] = '\0';
	return 0;
}

static int call_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	(void)offset;
	(void)size;
	return park(file_toy(file), req);
}

static void call_flush(struct fuse_file *file)
{
	struct toy_box *box = &file_toy(file)->box;

	if (fuse_pid_was_killed(file->pid))
		box->n_killed++;
	else
		box->n_closed++;
}

static uint32_t stream_poll(struct fuse_file *file)
{
	return file_toy(file)->queued[0] ? POLLIN | POLLOUT : POLLOUT;
}

static int text_read(struct fuse_request *req, struct bytes text, uint64_t offset, uint32_t size)
{
	size_t left = offset < text.len ? text.len - offset : 0;

	fuse_reply_data(req, BYTES(text.data + (left ? offset : 0), left < size ? left : size));
	return 0;
}

static int paper_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	return text_read(req, bytes_from_str(file_toy(file)->last_write), offset, size);
}

static uint64_t paper_size(struct fuse_node *node)
{
	const struct toy_tree *toy = fuse_node_userdata(node);

	return strlen(toy->last_write);
}

static int doc_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	return text_read(req, bytes_from_str(file_toy(file)->document), offset, size);
}

static uint64_t doc_size(struct fuse_node *node)
{
	const struct toy_tree *toy = fuse_node_userdata(node);

	return strlen(toy->document);
}

static int leaf_read(struct fuse_file *file, struct fuse_request *req, uint64_t offset, uint32_t size)
{
	(void)file;
	return text_read(req, BYTES_LIT("leaf\n"), offset, size);
}

static uint64_t leaf_size(struct fuse_node *node)
{
	(void)node;
	return 5;
}

static const struct fuse_file_ops sink_ops = {
	.write = sink_write, .fsync = sink_fsync, .release = toy_release, .interrupt = toy_interrupt};
static const struct fuse_file_ops stream_ops = {
	.read = stream_read, .poll = stream_poll, .release = toy_release, .interrupt = toy_interrupt};
static const struct fuse_file_ops call_ops = {.read = call_read,
					      .write = sink_write,
					      .flush = call_flush,
					      .release = toy_release,
					      .interrupt = toy_interrupt};
static const struct fuse_file_ops paper_ops = {.read = paper_read,
					       .write = sink_write,
					       .fsync = sink_fsync,
					       .size = paper_size,
					       .release = toy_release,
					       .interrupt = toy_interrupt};
static const struct fuse_file_ops doc_ops = {.read = doc_read, .size = doc_size, .release = toy_release};
static const struct fuse_file_ops leaf_ops = {.read = leaf_read, .size = leaf_size, .release = toy_release};

static int add_paper(struct toy_tree *toy, struct fuse_node *parent)
{
	const struct fuse_node_options options = {
		.name = "paper",
		.mode = S_IFREG | 0666,
		.uid = geteuid(),
		.gid = getegid(),
		.ops = &paper_ops,
		.writers_wait = true,
		.userdata = toy,
	};

	return fuse_node_add(NULL, parent, &options);
}

static int add(struct toy_tree *toy, struct fuse_node **out, struct fuse_node *parent, const char *name,
	       mode_t mode, const struct fuse_file_ops *ops, bool record)
{
	struct fuse_node_options options = {
		.name = name,
		.mode = mode,
		.uid = geteuid(),
		.gid = getegid(),
		.ops = ops,
		.record = record,
		.userdata = toy,
	};

	return fuse_node_add(out, parent, &options);
}

static void toy_on_gone(void *userdata)
{
	struct toy_tree *toy = userdata;

	toy->gone = true;
}

int toy_tree_new(struct toy_tree **out, struct loop *loop, struct log *log)
{
	struct toy_tree *toy = calloc(1, sizeof(*toy));
	struct fuse_tree_options options = {
		.loop = loop,
		.log = log,
		.root_mode = 0755,
		.uid = geteuid(),
		.gid = getegid(),
		.on_gone = toy_on_gone,
		.userdata = toy,
	};
	struct fuse_node *root;

	if (!toy)
		return -ENOMEM;
	list_init(&toy->parked);
	strcpy(toy->document, "document\n");
	if (fuse_tree_new(&toy->fuse, &options) < 0) {
		free(toy);
		return -ENOMEM;
	}
	root = fuse_tree_root(toy->fuse);
	if (add(toy, NULL, root, "sink", S_IFREG | 0666, &sink_ops, true) < 0 ||
	    add(toy, &toy->stream, root, "stream", S_IFREG | 0666, &stream_ops, true) < 0 ||
	    add(toy, &toy->doc, root, "doc", S_IFREG | 0644, &doc_ops, false) < 0 ||
	    add(toy, NULL, root, "private", S_IFREG | 0600, &sink_ops, true) < 0 ||
	    add(toy, &toy->sub, root, "sub", S_IFDIR | 0755, NULL, false) < 0 ||
	    add(toy, NULL, toy->sub, "leaf", S_IFREG | 0444, &leaf_ops, false) < 0 ||
	    add_paper(toy, root) < 0 || add(toy, NULL, root, "call", S_IFREG | 0666, &call_ops, true) < 0 ||
	    toy_box_add(&toy->box, root) < 0) {
		toy_tree_free(toy);
		return -ENOMEM;
	}
	*out = toy;
	return 0;
}

void toy_tree_free(struct toy_tree *toy)
{
	if (!toy)
		return;
	fuse_tree_free(toy->fuse);
	assert(list_is_empty(&toy->parked) && toy->box.n_items == 0);
	free(toy);
}

struct fuse_tree *toy_tree_fuse(struct toy_tree *toy)
{
	return toy->fuse;
}

static void push(struct toy_tree *toy, const char *text)
{
	list_for_each (l, &toy->parked) {
		struct parked_one *one = container_of(l, struct parked_one, link);

		if (one->fuse.file->node != toy->stream)
			continue;
		unpark(toy, one);
		fuse_parked_reply_data(&one->fuse, bytes_from_str(text));
		free(one);
		return;
	}
	snprintf(toy->queued, sizeof(toy->queued), "%s", text);
	fuse_node_poll_wake(toy->stream);
}

static void ack(struct toy_tree *toy, int error)
{
	list_for_each_safe (l, &toy->parked) {
		struct parked_one *one = container_of(l, struct parked_one, link);

		if (one->fuse.file->node == toy->stream)
			continue;
		unpark(toy, one);
		fuse_parked_reply(&one->fuse, error ? -error : (ssize_t)one->fuse.size);
		free(one);
	}
}

static uint64_t add_files(struct toy_tree *toy, uint64_t n)
{
	char name[32];

	for (uint64_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%llu", (unsigned long long)i);
		if (add(toy, NULL, toy->sub, name, S_IFREG | 0444, &leaf_ops, false) < 0)
			return i;
	}
	return n;
}

uint64_t toy_tree_do(struct toy_tree *toy, enum toy_ask what, uint64_t arg, char *text)
{
	switch (what) {
	case TOY_N_REQUESTS:
		return fuse_tree_n_requests(toy->fuse, (uint32_t)arg);
	case TOY_N_WRITES:
		return toy->n_writes;
	case TOY_N_BYTES:
		return toy->n_bytes;
	case TOY_N_RELEASED:
		return toy->n_released;
	case TOY_N_PARKED:
		return toy->n_parked;
	case TOY_LAST_WRITE:
		strcpy(text, toy->last_write);
		return strlen(text);
	case TOY_PUSH:
		push(toy, text);
		return 0;
	case TOY_ACK:
		ack(toy, (int)arg);
		return 0;
	case TOY_SET_DOC:
		strcpy(toy->document, text);
		fuse_node_changed(toy->doc);
		return 0;
	case TOY_ADD_FILES:
		return add_files(toy, arg);
	case TOY_GONE:
		return toy->gone;
	case TOY_ADD_LIVE:
		return toy_box_add_live(&toy->box, arg);
	case TOY_REMOVE_LIVE:
		snprintf(text, TOY_TEXT_SIZE, "live/%llu", (unsigned long long)arg);
		return (uint64_t)-toy_box_remove(&toy->box, text);
	case TOY_REMOVE:
		return (uint64_t)-toy_box_remove(&toy->box, text);
	case TOY_MOVE:
		return (uint64_t)-toy_box_move(&toy->box, text);
	case TOY_N_ITEMS:
		return toy->box.n_items;
	case TOY_N_REMOVED:
		return fuse_tree_n_removed(toy->fuse);
	case TOY_N_CLOSED:
		return toy->box.n_closed;
	case TOY_N_KILLED:
		return toy->box.n_killed;
	case TOY_QUIT:
	case TOY_AWAIT_PARKED:
	case TOY_AWAIT_RELEASED:
	case TOY_AWAIT_GONE:
	case TOY_AWAIT_CLOSED:
	case TOY_AWAIT_FORGOTTEN:
	case TOY_AWAIT_ITEMS:
		break;
	}
	return 0;
}

/* --- the process ------------------------------------------------------------------------------ */

static void answer(struct server *server, uint64_t value, const char *text)
{
	struct toy_message message = {.arg = value};

	if (text)
		snprintf(message.text, sizeof(message.text), "%s", text);
	if (send(server->control, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		server->stopping = true;
}

/* Whether what the test waits for is so; @now: what it asked about. */
static bool has_come(const struct server *server, uint64_t *now)
{
	const struct toy_tree *toy = server->toy;
	uint64_t want = server->waiting.arg;

	switch (server->waiting.what) {
	case TOY_AWAIT_PARKED:
		*now = toy->n_parked;
		return *now >= want;
	case TOY_AWAIT_RELEASED:
		*now = toy->n_released;
		return *now >= want;
	case TOY_AWAIT_CLOSED:
		*now = toy->box.n_closed + toy->box.n_killed;
		return *now >= want;
	case TOY_AWAIT_FORGOTTEN:
		*now = fuse_tree_n_removed(toy->fuse);
		return *now <= want;
	case TOY_AWAIT_ITEMS:
		*now = toy->box.n_items;
		return *now <= want;
	default:
		*now = toy->gone;
		return toy->gone;
	}
}

static void check_waiting(struct server *server)
{
	uint64_t now;

	if (!server->is_waiting || !has_come(server, &now))
		return;
	server->is_waiting = false;
	answer(server, now, NULL);
}

static void on_control(struct loop_op *op, int res)
{
	struct server *server = container_of(op, struct server, control_op);
	struct toy_message message;
	uint64_t value;
	ssize_t n;

	if (res < 0)
		return;
	while ((n = recv(server->control, &message, sizeof(message), MSG_DONTWAIT)) == sizeof(message)) {
		switch (message.what) {
		case TOY_QUIT:
			server->stopping = true;
			return;
		case TOY_AWAIT_PARKED:
		case TOY_AWAIT_RELEASED:
		case TOY_AWAIT_GONE:
		case TOY_AWAIT_CLOSED:
		case TOY_AWAIT_FORGOTTEN:
		case TOY_AWAIT_ITEMS:
			server->waiting = message;
			server->is_waiting = true;
			break;
		default:
			value = toy_tree_do(server->toy, message.what, message.arg, message.text);
			answer(server, value, message.text);
		}
	}
	if (n == 0)
		server->stopping = true;
}

static int serve(struct server *server, const char *path)
{
	struct log log;
	struct loop_options options = {.log = &log};
	int r;

	log_init(&log, "toy", LOG_LEVEL_WARNING);
	r = fuse_mount(&server->mount, path, &log);
	if (r < 0)
		return r;
	if (loop_new(&server->loop, &options) < 0 || toy_tree_new(&server->toy, server->loop, &log) < 0 ||
	    fuse_dev_new(&server->dev, server->loop, server->toy->fuse, server->mount.fd, &log) < 0)
		return -ENOMEM;
	loop_op_init(&server->control_op, on_control);
	loop_op_poll(server->loop, &server->control_op, server->control, POLLIN);
	answer(server, 0, NULL);

	for (r = 0; !server->stopping && !r; check_waiting(server))
		r = loop_turn(server->loop, TIME_NEVER);
	loop_op_cancel(server->loop, &server->control_op);
	fuse_dev_free(server->dev);
	while (loop_n_in_flight(server->loop) > 0)
		loop_turn(server->loop, TIME_NEVER);
	toy_tree_free(server->toy);
	fuse_unmount(&server->mount, &log);
	loop_free(server->loop);
	return r;
}

static void server_main(int control, const char *path, uid_t uid)
{
	struct server server = {.control = control};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid != 0 && (setgid(uid) < 0 || setuid(uid) < 0))
		_exit(1);
	r = serve(&server, path);
	if (r < 0)
		answer(&server, (uint64_t)-r, NULL);
	exit(r < 0 ? 1 : 0);
}

int toy_start(struct toy *toy, const char *path, uid_t uid)
{
	struct toy_message message;
	pid_t pid;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	fflush(NULL);
	/* Not straight into @toy: it may lie in memory that is shared with the child. */
	pid = fork();
	if (pid == 0) {
		close(sv[0]);
		server_main(sv[1], path, uid);
	}
	close(sv[1]);
	toy->pid = pid;
	toy->control = sv[0];
	if (recv(toy->control, &message, sizeof(message), 0) != sizeof(message))
		return -EPIPE;
	return -(int)message.arg;
}

uint64_t toy_ask(struct toy *toy, enum toy_ask what, uint64_t arg, const char *question, char *text)
{
	struct toy_message message = {.arg = arg, .what = what};

	if (question)
		snprintf(message.text, sizeof(message.text), "%s", question);
	if (send(toy->control, &message, sizeof(message), MSG_NOSIGNAL) < 0 ||
	    recv(toy->control, &message, sizeof(message), 0) != sizeof(message))
		return UINT64_MAX;
	if (text)
		memcpy(text, message.text, TOY_TEXT_SIZE);
	return message.arg;
}

static int reap(struct toy *toy)
{
	int status = -1;

	while (waitpid(toy->pid, &status, 0) < 0 && errno == EINTR)
		;
	close_fd(&toy->control);
	toy->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int toy_stop(struct toy *toy)
{
	struct toy_message message = {.what = TOY_QUIT};

	if (send(toy->control, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		toy_kill(toy);
	return toy->pid ? reap(toy) : -1;
}

void toy_kill(struct toy *toy)
{
	if (!toy->pid)
		return;
	kill(toy->pid, SIGKILL);
	reap(toy);
}
