/* SPDX-License-Identifier: MIT */
/*
 * For LD_PRELOAD: makes one call of the allocator fail, wherever it comes from, see fail_malloc.h. Calls of libraries
 * count, too: a library that dies of it would take the daemon with it.
 */

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/crash/preload/fail_malloc.h"

/* glibc's own names of what is replaced here. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static struct fail_malloc before_init;
static struct fail_malloc *control = &before_init;
static uintptr_t text_start, text_end; /* of the program */

/* The program comes first. */
static int note_text(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		text_start = info->dlpi_addr + p->p_vaddr;
		text_end = text_start + p->p_memsz;
	}
	return 1;
}

__attribute__((constructor)) static void map_control(void)
{
	const char *path = getenv("FAIL_MALLOC_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *map;

	dl_iterate_phdr(note_text, NULL);
	/* Programs that the daemon starts are none of this. */
	unsetenv("LD_PRELOAD");
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		control = map;
}

/* Notes in which object the caller is. */
static int note_object(struct dl_phdr_info *info, size_t size, void *data)
{
	uintptr_t at = *(const uintptr_t *)data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || at < info->dlpi_addr + p->p_vaddr ||
		    at >= info->dlpi_addr + p->p_vaddr + p->p_memsz)
			continue;
		control->caller = at - info->dlpi_addr;
		strncpy(control->object, info->dlpi_name, sizeof(control->object) - 1);
		return 1;
	}
	return 0;
}

static bool fails(const void *caller)
{
	uint64_t n = __atomic_add_fetch(&control->n_calls, 1, __ATOMIC_RELAXED);
	uintptr_t at = (uintptr_t)caller;
	uint64_t n_own = 0;

	if (at >= text_start && at < text_end)
		n_own = __atomic_add_fetch(&control->n_own, 1, __ATOMIC_RELAXED);
	if (n != control->fail_at && (!n_own || n_own != control->fail_own_at))
		return false;
	dl_iterate_phdr(note_object, &at);
	__atomic_add_fetch(&control->n_failed, 1, __ATOMIC_RELEASE);
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}
