/* SPDX-License-Identifier: MIT */
#ifndef TESTS_SUPPORT_JOURNAL_IMAGE_H
#define TESTS_SUPPORT_JOURNAL_IMAGE_H

/*
 * What is in a journal's directory at one moment, to be put there again with damage: the files of one level.
 */

#include <stddef.h>
#include <stdint.h>

#define IMAGE_FILES_MAX 64

struct image_file {
	char name[64];
	uint8_t *data;
	size_t len;
};

struct image {
	struct image_file files[IMAGE_FILES_MAX];
	size_t n;
};

/* Reads all files of @dir, as a kill of who writes them would leave them. What goes wrong ends the test. */
void image_take(struct image *image, const char *dir);
/* A copy of its own. */
void image_copy(struct image *out, const struct image *from);
/* Makes @dir hold these files and nothing else; made if need be. */
void image_put(const struct image *image, const char *dir);
void image_free(struct image *image);

/* NULL: there is none of the name. */
struct image_file *image_find(struct image *image, const char *name);

/* Deletes @dir with its files and those of directories in it. */
void image_clear(const char *dir);
/* Files in a directory; 0 when there is none. */
size_t image_count(const char *dir, const char *below);

/* A new directory in memory, or in $TMPDIR; @out of 128 bytes. */
void image_make_dir(char out[static 128]);

/* From the environment, or @usual. */
uint64_t image_samples(const char *variable, uint64_t usual);

#endif
