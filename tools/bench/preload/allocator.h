/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_BENCH_PRELOAD_ALLOCATOR_H
#define TOOLS_BENCH_PRELOAD_ALLOCATOR_H

/*
 * Puts a question before each call of glibc's allocator: in a program that includes this, once, and in one that runs with
 * a library that does (LD_PRELOAD). Who includes it answers: may be to let the call fail, may be to count it.
 */

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A sanitizer has an allocator of its own: then nobody asks. */
#if defined(__SANITIZE_ADDRESS__)
#define ALLOCATOR_ASKS 0
#elif defined(__has_feature)
#define ALLOCATOR_ASKS !__has_feature(address_sanitizer)
#else
#define ALLOCATOR_ASKS 1
#endif

/* Whether the call that @caller makes is to fail: for who includes this to define. */
bool allocator_fails(const void *caller);

#if ALLOCATOR_ASKS
/* glibc's own names of what is replaced here. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static inline bool allocator_ask(const void *caller)
{
	if (!allocator_fails(caller))
		return false;
	errno = ENOMEM;
	return true;
}

void *malloc(size_t size)
{
	return allocator_ask(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return allocator_ask(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return allocator_ask(__builtin_return_address(0)) ? NULL : __libc_realloc(p, size);
}
#endif

/* --- for a library ---------------------------------------------------------------------------- */

/* Where the program's own code is. */
struct allocator_program {
	uintptr_t start, end;
};

/* The program comes first. */
static inline int allocator_note_program(struct dl_phdr_info *info, size_t size, void *data)
{
	struct allocator_program *program = data;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
			continue;
		program->start = info->dlpi_addr + p->p_vaddr;
		program->end = program->start + p->p_memsz;
	}
	return 1;
}

static inline void allocator_find_program(struct allocator_program *out)
{
	dl_iterate_phdr(allocator_note_program, out);
}

static inline bool allocator_is_own(const struct allocator_program *program, const void *caller)
{
	return (uintptr_t)caller >= program->start && (uintptr_t)caller < program->end;
}

/* Maps @size bytes of the file that the variable @name of the environment names, to be read while the program runs. NULL:
 * there is none. */
static inline void *allocator_map(const char *name, size_t size)
{
	const char *path = getenv(name);
	int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	void *map = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)size) == 0)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return map == MAP_FAILED ? NULL : map;
}

#endif
