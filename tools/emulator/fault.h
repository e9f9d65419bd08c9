/* SPDX-License-Identifier: MIT */
#ifndef EMULATOR_FAULT_H
#define EMULATOR_FAULT_H

/*
 * Faults on demand: what goes wrong next. Pure and deterministic from the seed; who asks acts on the answer.
 */

#include <stdbool.h>
#include <stdint.h>

#include "contract.h"

/* For ever, as a number of times. */
#define EMU_FAULT_ALWAYS UINT64_MAX

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

enum emu_cut {
	EMU_CUT_NONE,
	EMU_CUT_BEFORE_ACK, /* the message counts, its PUBACK is never sent */
	EMU_CUT_AFTER_ACK,
};

struct emu_fault {
	struct emu_fault_options left; /* counters run down here */
	uint64_t random;
	uint64_t n_messages; /* telemetry since the last cut */
	uint64_t n_cuts;
	enum emu_cut next_cut;
};

void emu_fault_init(struct emu_fault *f, const struct emu_fault_options *options);

/* A device's CONNECT arrived: 0, or the reason to refuse it with. */
uint8_t emu_fault_connect(struct emu_fault *f);

/* Valid telemetry arrived: false, or true and @outcome when it is to be refused. */
bool emu_fault_telemetry(struct emu_fault *f, struct emu_outcome *outcome);

/* Telemetry arrived, whatever its outcome: what to do to its connection. */
enum emu_cut emu_fault_cut(struct emu_fault *f);

#endif
