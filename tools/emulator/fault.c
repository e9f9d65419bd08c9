/* SPDX-License-Identifier: MIT */
/*
 * The table of faults, asked in the order in which they were added; the first that acts is the answer. A fault
 * acts when it is about the identity and the operation, has times left, and the draw falls within its
 * fraction. One that has acted for the last time stays to be looked at until its place is needed.
 *
 * Cuts of `either` come in pairs, one before and one after the answer, in an order drawn from the seed: so
 * half of an even number of cuts loses an acknowledgement, whatever the seed.
 */

#include "fault.h"

#include "base/time.h"

#define LEVEL_ONE UINT64_C(1000)

static uint64_t draw(struct emu_faults *f)
{
	/* splitmix64 */
	uint64_t z = f->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

struct emu_fault emu_fault_make(enum emu_fault_kind kind)
{
	return (struct emu_fault){
		.kind = kind, .left = EMU_FAULT_ALWAYS, .fraction = EMU_FAULT_FRACTION_ONE, .every = 1};
}

/* --- the table -------------------------------------------------------------------------------- */

static void table_remove(struct emu_faults *f, size_t i)
{
	memmove(&f->table[i], &f->table[i + 1], (f->n - i - 1) * sizeof(f->table[0]));
	f->n--;
}

static void make_room(struct emu_faults *f)
{
	for (size_t i = 0; i < f->n; i++) {
		if (f->table[i].left == 0) {
			table_remove(f, i);
			return;
		}
	}
}

const struct emu_fault *emu_faults_add(struct emu_faults *f, const struct emu_fault *fault)
{
	struct emu_fault *added;

	if (f->n == EMU_FAULTS_MAX)
		make_room(f);
	if (f->n == EMU_FAULTS_MAX)
		return NULL;
	added = &f->table[f->n++];
	*added = *fault;
	added->id = ++f->last_id;
	added->hits = 0;
	added->n_occasions = 0;
	return added;
}

size_t emu_faults_clear(struct emu_faults *f, uint32_t id)
{
	size_t n = f->n;

	for (size_t i = f->n; i > 0; i--) {
		if (id == 0 || f->table[i - 1].id == id)
			table_remove(f, i - 1);
	}
	return n - f->n;
}

void emu_faults_init(struct emu_faults *f, const struct emu_fault_options *options)
{
	struct emu_fault fault;

	*f = (struct emu_faults){.random = options->seed};
	if (options->refuse_n) {
		fault = emu_fault_make(FAULT_STATUS);
		fault.operation = OPERATION_TELEMETRY;
		fault.status = options->refuse_status;
		fault.left = options->refuse_n;
		emu_faults_add(f, &fault);
	}
	if (options->refuse_connect_n) {
		fault = emu_fault_make(FAULT_REFUSE);
		fault.reason = options->refuse_connect_reason;
		fault.left = options->refuse_connect_n;
		emu_faults_add(f, &fault);
	}
	if (options->cut_every) {
		fault = emu_fault_make(FAULT_CUT);
		fault.operation = OPERATION_TELEMETRY;
		fault.every = options->cut_every;
		fault.left = options->cut_n;
		emu_faults_add(f, &fault);
	}
	if (options->puback_delay_ms) {
		fault = emu_fault_make(FAULT_DELAY);
		fault.operation = OPERATION_TELEMETRY;
		fault.ms = options->puback_delay_ms;
		emu_faults_add(f, &fault);
	}
}

/* --- occasions -------------------------------------------------------------------------------- */

bool emu_fault_is_about(const struct emu_fault *fault, const char *id)
{
	return !fault->device[0] || strcmp(fault->device, id) == 0;
}

static bool fault_matches(const struct emu_fault *fault, enum emu_fault_kind kind, const char *id,
			  enum emu_operation operation)
{
	return fault->kind == kind && fault->left > 0 && emu_fault_is_about(fault, id) &&
	       (fault->operation == OPERATION_ANY || operation == OPERATION_ANY ||
		fault->operation == operation);
}

static bool fault_act(struct emu_faults *f, struct emu_fault *fault)
{
	if (fault->fraction < EMU_FAULT_FRACTION_ONE && draw(f) % EMU_FAULT_FRACTION_ONE >= fault->fraction)
		return false;
	if (fault->left != EMU_FAULT_ALWAYS)
		fault->left--;
	fault->hits++;
	return true;
}

const struct emu_fault *emu_faults_take(struct emu_faults *f, enum emu_fault_kind kind, const char *id,
					enum emu_operation operation)
{
	for (size_t i = 0; i < f->n; i++) {
		if (fault_matches(&f->table[i], kind, id, operation) && fault_act(f, &f->table[i]))
			return &f->table[i];
	}
	return NULL;
}

bool emu_faults_refuse(struct emu_faults *f, const char *id, enum emu_operation operation,
		       struct emu_outcome *outcome)
{
	const struct emu_fault *fault = emu_faults_take(f, FAULT_STATUS, id, operation);

	if (fault)
		emu_outcome_set(outcome, fault->status, "refused on demand");
	return fault;
}

/* A bucket of @burst messages that fills by @rate. */
static bool over_rate(const struct emu_fault *fault, struct emu_meter *meter, uint64_t now_ns)
{
	uint64_t full = fault->burst * LEVEL_ONE, gained;

	if (meter->fault_id != fault->id)
		*meter = (struct emu_meter){.fault_id = fault->id, .last_ns = now_ns, .level = full};
	gained = (now_ns - meter->last_ns) / NSEC_PER_USEC;
	gained = gained > NSEC_PER_SEC ? full : gained * fault->rate / (NSEC_PER_MSEC / LEVEL_ONE);
	if (gained > 0) {
		meter->level = meter->level + gained > full ? full : meter->level + gained;
		meter->last_ns = now_ns;
	}
	if (meter->level < LEVEL_ONE)
		return true;
	meter->level -= LEVEL_ONE;
	return false;
}

static bool over_quota(const struct emu_fault *fault, struct emu_meter *meter)
{
	if (meter->fault_id != fault->id)
		*meter = (struct emu_meter){.fault_id = fault->id};
	if (meter->level >= fault->messages)
		return true;
	meter->level++;
	return false;
}

/* A device has one meter of a kind, so only the first fault of it counts. */
static struct emu_fault *first_match(struct emu_faults *f, enum emu_fault_kind kind, const char *id)
{
	for (size_t i = 0; i < f->n; i++) {
		if (fault_matches(&f->table[i], kind, id, OPERATION_TELEMETRY))
			return &f->table[i];
	}
	return NULL;
}

bool emu_faults_meter(struct emu_faults *f, const char *id, struct emu_meter *throttle,
		      struct emu_meter *quota, uint64_t now_ns, struct emu_outcome *outcome)
{
	struct emu_fault *rate = first_match(f, FAULT_THROTTLE, id), *total = first_match(f, FAULT_QUOTA, id);

	if (rate && over_rate(rate, throttle, now_ns) && fault_act(f, rate)) {
		emu_outcome_set(outcome, STATUS_THROTTLED, "over the rate");
		return true;
	}
	if (total && over_quota(total, quota) && fault_act(f, total)) {
		emu_outcome_set(outcome, STATUS_QUOTA_EXCEEDED, "over the quota");
		return true;
	}
	return false;
}

static enum emu_cut cut_draw(struct emu_faults *f, struct emu_fault *fault)
{
	switch (fault->when) {
	case CUT_BEFORE:
		return EMU_CUT_BEFORE;
	case CUT_UNANSWERED:
		return EMU_CUT_BEFORE_ACK;
	case CUT_AFTER:
		return EMU_CUT_AFTER_ACK;
	case CUT_EITHER:
		break;
	}
	if (fault->hits % 2 == 1)
		fault->next_cut = draw(f) & 1 ? EMU_CUT_BEFORE_ACK : EMU_CUT_AFTER_ACK;
	else
		fault->next_cut =
			fault->next_cut == EMU_CUT_AFTER_ACK ? EMU_CUT_BEFORE_ACK : EMU_CUT_AFTER_ACK;
	return fault->next_cut;
}

enum emu_cut emu_faults_cut(struct emu_faults *f, const char *id, enum emu_operation operation)
{
	for (size_t i = 0; i < f->n; i++) {
		struct emu_fault *fault = &f->table[i];

		if (!fault_matches(fault, FAULT_CUT, id, operation) || ++fault->n_occasions < fault->every)
			continue;
		fault->n_occasions = 0;
		if (fault_act(f, fault))
			return cut_draw(f, fault);
	}
	return EMU_CUT_NONE;
}

uint8_t emu_faults_suback(struct emu_faults *f, const char *id, struct bytes topic)
{
	for (size_t i = 0; i < f->n; i++) {
		struct emu_fault *fault = &f->table[i];

		if (fault_matches(fault, FAULT_SUBACK, id, OPERATION_SUBSCRIBE) &&
		    (!fault->topic[0] || bytes_equal_str(topic, fault->topic)) && fault_act(f, fault))
			return fault->reason;
	}
	return 0;
}

uint64_t emu_faults_delay_ms(struct emu_faults *f, const char *id, enum emu_operation operation)
{
	const struct emu_fault *fault = emu_faults_take(f, FAULT_DELAY, id, operation);

	return fault ? fault->ms : 0;
}
