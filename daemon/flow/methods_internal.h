/* SPDX-License-Identifier: MIT */
#ifndef FLOW_METHODS_INTERNAL_H
#define FLOW_METHODS_INTERNAL_H

/*
 * The inside of methods, shared by its files: methods.c (methods, openers, calls on their way to one) and
 * method_calls.c (responses, refusals, how calls end).
 */

#include "flow/link.h"
#include "flow/methods.h"
#include "hub/contract.h"

enum call_state {
	CALL_WAITING,  /* for an opener */
	CALL_OPEN,     /* has one, and no response */
	CALL_QUEUED,   /* has a response for which the link has no room; perhaps no opener any more */
	CALL_SENT,     /* its opener waits for the acknowledgement */
	CALL_ANSWERED, /* its opener has to close */
	CALL_LATE,     /* likewise; it ended without a response */
};

struct method_call {
	struct list link;  /* methods.calls */
	struct list queue; /* WAITING: method.waiting; QUEUED: methods.queued */
	struct methods *owner;
	struct method *method; /* WAITING */
	struct method_opener *opener;
	enum call_state state;
	bool was_read; /* its opener knows of it: has read from it, or tried to answer */
	bool awaited;  /* QUEUED, SENT: its opener waits for on_answered */
	struct loop_timer timer;
	struct link_delivery_wait delivery;
	uint64_t arrived_ns;
	size_t n_bytes; /* counted in methods.n_bytes */
	uint8_t correlation[HUB_CORRELATION_BYTES_MAX];
	size_t correlation_len;
	uint32_t code; /* QUEUED, as is the next */
	uint8_t *response;
	size_t response_len;
	size_t n_read; /* of the request */
	size_t request_len;
	uint8_t request[];
};

struct method {
	struct list link; /* methods.methods */
	struct methods *owner;
	struct link_subscription sub;
	struct list reading; /* openers, as are the next two */
	struct list idle;
	struct list busy;
	struct list waiting; /* calls in the order of arrival */
	unsigned int n_waiting;
	char topic[]; /* HUB_TOPIC_METHODS_PREFIX and the name */
};

struct methods {
	struct loop *loop;
	struct log *log;
	struct link *link;
	uint64_t wait_ns;
	uint64_t timeout_ns;
	struct list methods;
	struct list calls;
	struct list queued; /* calls */
	struct list refusals;
	unsigned int n_refusals;
	uint64_t n_bytes;
	struct log_once full_log;
};

/* --- method_calls.c --- */

/* Tells the hub that nobody answers. A connection that is over has no use for it. */
void methods_refuse(struct methods *m, struct bytes correlation);
/* Refusals that had no room yet are of no use any more. */
void methods_drop_refusals(struct methods *m);

struct bytes method_call_correlation(const struct method_call *call);
/* Moves the call's time limit; TIME_NEVER: there is none. */
void method_call_arm(struct method_call *call, uint64_t at_ns);
/* Its opener does not know it any more. */
void method_call_free(struct method_call *call);
/* The same, and tells the hub that nobody answers. */
void method_call_refuse(struct method_call *call);
/* Somebody has read from it, and it is too late for a response. */
void method_call_end_late(struct method_call *call);
/* It has had a response: tells its opener how it went if he waits, and stays for him; without opener it is freed. */
void method_call_finish(struct method_call *call, int error);

#endif
