/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: makes one call of the allocator fail, wherever it comes from, see fail_malloc.h. Calls of libraries
 * count, too: a library that dies of it would take the daemon with it.
 */

#include <string.h>
#include <unwind.h>

#include "tests/crash/preload/fail_malloc.h"
#include "tools/bench/preload/allocator.h"

static struct fail_malloc before_init;
static struct fail_malloc *control = &before_init;
static struct allocator_program program;

__attribute__((constructor)) static void map_control(void)
{
	struct fail_malloc *map = allocator_map("FAIL_MALLOC_FILE", sizeof(*map));

	allocator_find_program(&program);
	/* Programs that the daemon starts are none of this. */
	unsetenv("LD_PRELOAD");
	if (map)
		control = map;
}

/* Notes in which object the innermost frame that has no name yet is. */
static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct fail_malloc_frame *frame = data;
	const char *slash = strrchr(info->dlpi_name, '/');
	uintptr_t at = frame->at;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || at < info->dlpi_addr + p->p_vaddr ||
		    at >= info->dlpi_addr + p->p_vaddr + p->p_memsz)
			continue;
		frame->at = at - info->dlpi_addr;
		strncpy(frame->object, slash ? slash + 1 : info->dlpi_name, sizeof(frame->object) - 1);
		return 1;
	}
	return 0;
}

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *data)
{
	struct fail_malloc_frame *frame = &control->frames[control->n_frames];

	(void)data;
	if (control->n_frames == FAIL_MALLOC_FRAMES)
		return _URC_END_OF_STACK;
	frame->at = _Unwind_GetIP(context);
	dl_iterate_phdr(note_object, frame);
	++control->n_frames;
	return _URC_NO_REASON;
}

bool allocator_fails(const void *caller)
{
	uint64_t n = __atomic_add_fetch(&control->n_calls, 1, __ATOMIC_RELAXED);
	uint64_t n_own = 0;

	if (allocator_is_own(&program, caller))
		n_own = __atomic_add_fetch(&control->n_own, 1, __ATOMIC_RELAXED);
	if (n != control->fail_at && (!n_own || n_own != control->fail_own_at))
		return false;
	_Unwind_Backtrace(note_frame, NULL);
	__atomic_add_fetch(&control->n_failed, 1, __ATOMIC_RELEASE);
	return true;
}
