/* SPDX-License-Identifier: MIT */
#ifndef FLOW_METHODS_H
#define FLOW_METHODS_H

/*
 * Direct methods: which ones are registered with the hub, its calls, and who answers them.
 *
 * A call goes to one opener: somebody who said that he serves one call of that method, first those who wait for
 * it in a read, in the order they began to, then the others in the order they came. Without an opener the call
 * waits for one for `wait_ns`, within bounds, or the hub is told at once that nobody is there (status 06A0). It
 * is told the same when the opener goes without an answer, and when the answer takes longer than `timeout_ns`.
 *
 * Nothing of a call that nobody has read from is lost with its opener: it goes to the next one. And an opener who
 * has not read from his call does not notice when the call ends: he gets the next one.
 *
 * A call ends with the connection it came on, since the hub ends it then.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"

struct link;
struct methods;
struct method;
struct method_call;
struct method_opener;

/* Calls of one method that wait for an opener at most; one more is refused with 06A0. */
#define METHOD_WAITING_MAX 16
/* Memory of all calls, their requests, and responses the connection has no room for yet: over it a call is refused
 * with 06A0, and a response with -ENOBUFS. */
#define METHODS_BYTES_MAX (UINT64_C(16) * 1024 * 1024)

/* How long somebody who got a signal waits for the acknowledgement of his response. */
#define METHOD_HURRY_NS (UINT64_C(2) * 1000000000)

struct methods_options {
	struct loop *loop; /* borrowed, as are the following */
	struct log *log;   /* may be NULL */
	struct link *link;
	uint64_t wait_ns;    /* how long a call waits for an opener; 0 = not at all */
	uint64_t timeout_ns; /* from a call's arrival to its response; TIME_NEVER = for ever */
};

/* Returns 0 or -ENOMEM. */
int methods_new(struct methods **out, const struct methods_options *options);
/* Before the link; no method is registered any more. NULL is fine. */
void methods_free(struct methods *m);

/* The connection is over: so are its calls. */
void methods_on_offline(struct methods *m);
/* The link has room. To be called before others fill it. */
void methods_on_writable(struct methods *m);

/* Registers a method, now and on every later connection. Returns 0, -EINVAL (name), -EEXIST, -ENOSPC (the hub
 * allows no more subscriptions), -ENOMEM. */
int methods_register(struct methods *m, const char *name, struct method **out);
/* Takes it back and frees it: openers without a call they have read from hear that by on_gone, calls nobody has
 * read from are refused. Returns 0, or -EBUSY: a call has been read from and not been answered. */
int method_unregister(struct method *method);

/* --- openers ---------------------------------------------------------------------------------- */

/* Embedded in its owner, who fills in the functions. They may call anything here for the same opener. */
struct method_opener {
	/* There is a call: method_read() gives its request. */
	void (*on_call)(struct method_opener *opener);
	/* There is nothing left to do: the method is not registered any more and there will be no call, or the call has
	 * ended without a response. */
	void (*on_gone)(struct method_opener *opener);
	/* Once after method_respond() returned METHOD_WAITS, unless method_stop_waiting(): 0, the hub's machine has
	 * acknowledged the response; -ECONNRESET, the connection ended, and -ETIMEDOUT, time passed, before it had,
	 * and it may have arrived or not; -EMSGSIZE, -ENOMEM, nothing was sent and the call is open as before. */
	void (*on_answered)(struct method_opener *opener, int error);

	/* Private. */
	struct list link;
	struct method *method; /* NULL = not registered any more */
	struct method_call *call;
};

/* Result of method_respond(): on_answered follows. */
#define METHOD_WAITS 1

/* Serves one call of @method. It may be there at once; on_call is not called for it then. */
void method_open(struct method *method, struct method_opener *opener);
/* A call without a response goes to another opener if nothing of it was read, else it is refused with 06A0. */
void method_close(struct method_opener *opener);

/*
 * The next bytes of the request, at most @size; none = its end. Borrowed until the next call here. Returns 0;
 * -EAGAIN, there is no call yet; -ENODEV, the method is gone; -ETIMEDOUT, the call has ended before all of it was
 * read.
 */
int method_read(struct method_opener *opener, size_t size, struct bytes *out);
/* Whether the opener's owner waits in a read: such openers come first. After method_read() said -EAGAIN; a call ends
 * it. */
void method_set_reading(struct method_opener *opener, bool reading);

/*
 * Answers the call. @wait: until the hub's machine has acknowledged it. Returns 0, METHOD_WAITS; and with nothing
 * changed -ENOTCONN (there is no call yet), -ENODEV (and there will not be one), -EALREADY (it has its response),
 * -ETIMEDOUT (the call has ended), -EMSGSIZE (more than the hub takes), -ENOBUFS, -ENOMEM.
 */
int method_respond(struct method_opener *opener, uint32_t code, struct bytes payload, bool wait);
/* As method_respond() would return for a response that is good: 0 or negative. */
int method_respond_check(const struct method_opener *opener);
/* The opener's owner cannot wait long any more. True: on_answered follows within METHOD_HURRY_NS; false: the response
 * may not even be on its way by then. */
bool method_hurry(struct method_opener *opener);
/* Nobody waits for on_answered any more. The response goes its way. */
void method_stop_waiting(struct method_opener *opener);

/* poll(2): POLLIN when method_read() gives something other than -EAGAIN, POLLOUT when the call can be answered,
 * POLLERR with an error to be had from either. */
uint32_t method_poll(const struct method_opener *opener);

#endif
