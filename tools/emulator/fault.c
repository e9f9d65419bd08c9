/* SPDX-License-Identifier: MIT */
/*
 * Which message is refused and which connection is cut.
 *
 * Cuts come in pairs, one before and one after the PUBACK, in an order drawn from the seed: so half of an
 * even number of cuts loses an acknowledgement, whatever the seed.
 */

#include "fault.h"

static uint64_t draw(struct emu_fault *f)
{
	/* splitmix64 */
	uint64_t z = f->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void emu_fault_init(struct emu_fault *f, const struct emu_fault_options *options)
{
	*f = (struct emu_fault){.left = *options, .random = options->seed};
}

static bool count_down(uint64_t *n)
{
	if (*n == 0)
		return false;
	if (*n != EMU_FAULT_ALWAYS)
		--*n;
	return true;
}

uint8_t emu_fault_connect(struct emu_fault *f)
{
	return count_down(&f->left.refuse_connect_n) ? f->left.refuse_connect_reason : 0;
}

bool emu_fault_telemetry(struct emu_fault *f, struct emu_outcome *outcome)
{
	if (!count_down(&f->left.refuse_n))
		return false;
	emu_outcome_set(outcome, f->left.refuse_status, "refused on demand");
	return true;
}

enum emu_cut emu_fault_cut(struct emu_fault *f)
{
	if (f->left.cut_every == 0 || ++f->n_messages < f->left.cut_every)
		return EMU_CUT_NONE;
	f->n_messages = 0;
	if (!count_down(&f->left.cut_n))
		return EMU_CUT_NONE;
	if (f->n_cuts++ % 2 == 0)
		f->next_cut = draw(f) & 1 ? EMU_CUT_BEFORE_ACK : EMU_CUT_AFTER_ACK;
	else
		f->next_cut = f->next_cut == EMU_CUT_AFTER_ACK ? EMU_CUT_BEFORE_ACK : EMU_CUT_AFTER_ACK;
	return f->next_cut;
}
