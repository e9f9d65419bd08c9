/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_FAULT_H
#define EMULATOR_FAULT_H

/*
 * Faults on demand: a table of what goes wrong next. Pure and deterministic from the seed; who asks acts on the
 * answer. The table is filled from the command line and by the service side; fault_json.c has the texts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "contract.h"

/* For ever, as a number of times. */
#define EMU_FAULT_ALWAYS             UINT64_MAX

#define EMU_FAULTS_MAX               64
#define EMU_FAULT_ID_MAX             257 /* of an identity */
#define EMU_FAULT_TOPIC_MAX          160
#define EMU_FAULT_REFERENCE_MAX      255
#define EMU_FAULT_FRACTION_ONE       UINT32_C(1000000)
#define EMU_FAULT_SESSION_EXPIRY_ANY UINT32_MAX

enum emu_fault_kind {
	FAULT_STATUS,
	FAULT_THROTTLE,
	FAULT_QUOTA,
	FAULT_DELAY,
	FAULT_LOSE_PUBACK,
	FAULT_CUT,
	FAULT_SLOW,
	FAULT_REFUSE,
	FAULT_SUBACK,
	FAULT_LIMITS,
	/* These act at once and are never in the table. */
	FAULT_EXPIRE,
	FAULT_TAKE_OVER,
	FAULT_DISCONNECT,
	FAULT_DROP,
	FAULT_FORGET_SESSION,
};

enum emu_operation {
	OPERATION_ANY,
	OPERATION_CONNECT,
	OPERATION_TELEMETRY,
	OPERATION_TWIN_GET,
	OPERATION_TWIN_PATCH,
	OPERATION_SUBSCRIBE,
	OPERATION_AUTH,
	OPERATION_OTHER, /* a packet of none of these, which only OPERATION_ANY means */
};

enum emu_cut_when {
	CUT_EITHER, /* in turns unanswered and after, the first drawn from the seed */
	CUT_BEFORE,
	CUT_UNANSWERED,
	CUT_AFTER,
};

enum emu_cut {
	EMU_CUT_NONE,
	EMU_CUT_BEFORE,     /* the packet does not count */
	EMU_CUT_BEFORE_ACK, /* it counts, its answer is never sent */
	EMU_CUT_AFTER_ACK,
};

/* What CONNACK tells and a connection is held to. */
struct emu_limits {
	uint16_t receive_maximum;
	uint16_t topic_alias_maximum;
	uint16_t keep_alive_s;
	uint32_t maximum_packet_size;
	uint32_t session_expiry_s; /* at most; UINT32_MAX: no limit */
};

struct emu_fault {
	uint32_t id;
	enum emu_fault_kind kind;
	enum emu_operation operation;
	char device[EMU_FAULT_ID_MAX + 1]; /* "": every one */
	uint64_t left;                     /* times it will act; EMU_FAULT_ALWAYS */
	uint64_t hits;
	uint64_t n_occasions;
	uint32_t fraction; /* of EMU_FAULT_FRACTION_ONE */
	/* What belongs to the kind; the rest is 0. */
	uint16_t status;
	uint8_t reason;
	uint64_t rate;     /* messages per second */
	uint64_t burst;    /* messages */
	uint64_t messages; /* of a quota */
	uint64_t ms;
	uint64_t bytes;
	uint64_t every;
	enum emu_cut_when when;
	enum emu_cut next_cut;
	uint8_t limits_given; /* bits EMU_LIMIT_… */
	struct emu_limits limits;
	char topic[EMU_FAULT_TOPIC_MAX + 1]; /* "": every one */
	char server_reference[EMU_FAULT_REFERENCE_MAX + 1];
};

#define EMU_LIMIT_RECEIVE_MAXIMUM     1u
#define EMU_LIMIT_TOPIC_ALIAS_MAXIMUM 2u
#define EMU_LIMIT_KEEP_ALIVE          4u
#define EMU_LIMIT_MAXIMUM_PACKET_SIZE 8u
#define EMU_LIMIT_SESSION_EXPIRY      16u

struct emu_faults {
	uint64_t random;
	uint32_t last_id;
	size_t n;
	struct emu_fault table[EMU_FAULTS_MAX];
};

/* What throttle and quota remember of a device; zero-initialise. */
struct emu_meter {
	uint32_t fault_id; /* whose numbers these are */
	uint64_t last_ns;
	uint64_t level; /* throttle: thousandths of messages left; quota: messages so far */
};

/* The options of the command line. */
struct emu_fault_options {
	uint64_t seed;
	uint64_t puback_delay_ms;
	uint64_t refuse_n; /* telemetry messages to refuse with @refuse_status */
	uint16_t refuse_status;
	uint64_t refuse_connect_n; /* device connections to refuse with @refuse_connect_reason */
	uint8_t refuse_connect_reason;
	uint64_t cut_every; /* telemetry messages between two cuts, 0 = no cuts */
	uint64_t cut_n;     /* cuts to make */
};

/* A fault of @kind that acts always, on every device and operation; the caller fills in the rest. */
struct emu_fault emu_fault_make(enum emu_fault_kind kind);

void emu_faults_init(struct emu_faults *f, const struct emu_fault_options *options);

/* Adds a copy of @fault with an id of its own. Returns it, borrowed until the table changes, or NULL when it is
 * full of faults that still act. */
const struct emu_fault *emu_faults_add(struct emu_faults *f, const struct emu_fault *fault);

/* Takes the fault @id out, or all with 0. Returns how many went. */
size_t emu_faults_clear(struct emu_faults *f, uint32_t id);

/* Whether @fault is about the identity @id (a device's fault is not about its modules). */
bool emu_fault_is_about(const struct emu_fault *fault, const char *id);

/* An occasion for a fault of @kind: the one that acts, counted, borrowed; or NULL. */
const struct emu_fault *emu_faults_take(struct emu_faults *f, enum emu_fault_kind kind, const char *id,
					enum emu_operation operation);

/* An operation that was understood: true and @outcome when a fault refuses it. */
bool emu_faults_refuse(struct emu_faults *f, const char *id, enum emu_operation operation,
		       struct emu_outcome *outcome);

/* One valid telemetry message at @now_ns: true and @outcome when it is over a rate or a quota. Of several rates,
 * or quotas, for a device the one that was added first holds. */
bool emu_faults_meter(struct emu_faults *f, const char *id, struct emu_meter *throttle,
		      struct emu_meter *quota, uint64_t now_ns, struct emu_outcome *outcome);

/* A packet arrived: what to do to its connection. */
enum emu_cut emu_faults_cut(struct emu_faults *f, const char *id, enum emu_operation operation);

/* SUBACK's reason for @topic, or 0. */
uint8_t emu_faults_suback(struct emu_faults *f, const char *id, struct bytes topic);

/* How much later an answer goes out, in milliseconds. */
uint64_t emu_faults_delay_ms(struct emu_faults *f, const char *id, enum emu_operation operation);

#endif
