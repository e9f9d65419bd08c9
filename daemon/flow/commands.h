/* SPDX-License-Identifier: MIT */
#ifndef FLOW_COMMANDS_H
#define FLOW_COMMANDS_H

/*
 * Commands of the hub, from their arrival to their settlement. A command is what the hub numbered so, a
 * sequence-no with an enqueued-time: a delivery that is repeated, on a later connection, is the same command. The
 * hub keeps a command until it is settled; nothing is stored here.
 *
 * A command that waits leaves with its connection. One that is being handled stays, and its settlement reaches the
 * hub when that delivers it again. What was completed or rejected lately is known, should the hub deliver it again
 * because its answer was lost: it is answered as before, not handed out.
 *
 * Who handles commands (command_files.h) watches this table, takes what waits, and settles what it took.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "flow/command_json.h"
#include "flow/link.h"

struct commands;
struct command;

/* Commands that are being handled at most, those of earlier connections included; what comes beyond that waits. */
#define COMMANDS_HANDED_MAX 48
/* Commands in the table at most: those, and as many as the hub may deliver on a connection. */
#define COMMANDS_MAX 64

enum command_state {
	COMMAND_WAITING, /* nobody has it */
	COMMAND_HANDED,  /* somebody took it */
	COMMAND_SETTLED, /* decided; the hub has the answer, or gets it when that is possible */
	COMMAND_GONE,    /* the connection ended while it waited: the hub delivers it again, as a new one */
};

enum commands_phase {
	COMMANDS_SERVING,
	COMMANDS_DRAINING, /* nothing is taken any more */
	COMMANDS_CLOSED,   /* nor settled */
};

struct commands_options {
	struct log *log;
	struct link *link; /* borrowed */
};

/* Returns 0, -ENOMEM, or as link_subscribe(). */
int commands_new(struct commands **out, const struct commands_options *options);
/* Before the link, and after the files: nobody has a command any more. NULL is fine. */
void commands_free(struct commands *c);

/* Called from inside the functions of this table, which they may call in turn. */
struct commands_watcher {
	/* A command entered the table, or left it: settled, or gone. Between the two it stands for a directory. */
	void (*on_added)(void *userdata, struct command *command);
	void (*on_removed)(void *userdata, struct command *command);
	/* commands_take() has something to give. */
	void (*on_available)(void *userdata);
	/* There will be nothing to take any more. */
	void (*on_draining)(void *userdata);
};

/* At most one, before the link starts; NULL: nobody any more. */
void commands_set_watcher(struct commands *c, const struct commands_watcher *watcher, void *userdata);

/* Whether commands_take() has something to give. */
bool commands_available(const struct commands *c);
enum commands_phase commands_phase(const struct commands *c);

/* Takes the command that waits longest, or NULL. It is HANDED then and referenced for the caller, who settles it. */
struct command *commands_take(struct commands *c);

/*
 * Decides on a command that is WAITING or HANDED. Returns 0: the hub has the answer, or gets it as soon as there is
 * room or when it delivers the command again; -ESTALE: it has been decided, or is gone; -ESHUTDOWN after
 * commands_close().
 */
int commands_settle(struct commands *c, struct command *command, enum link_settlement settlement);

struct command *command_ref(struct command *command);
/* NULL is fine. */
void command_unref(struct command *command);

enum command_state command_state(const struct command *command);
/* What the hub sent; valid as long as the command. Behind the payload there is one more byte, a newline. */
const struct command_message *command_message(const struct command *command);

/* A place for the watcher's own data, NULL at first. */
void **command_userdata(struct command *command);

/*
 * The daemon ends, in two steps, and the hub delivers again what is not settled. From the first on nothing is taken:
 * who waits for a command is told, while the transport still serves the files. What was taken before can be settled
 * until the second, after which the daemon closes the files by itself: what their users would decide by that is not
 * decided. Both are idempotent, and the second does the first.
 */
void commands_drain(struct commands *c);
void commands_close(struct commands *c);

/* --- the link's side, see struct link_ops ----------------------------------------------------- */

void commands_on_offline(struct commands *c);
void commands_on_writable(struct commands *c);

#endif
