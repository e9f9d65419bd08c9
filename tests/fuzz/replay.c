/* SPDX-License-Identifier: MIT */
/*
 * Runs a fuzz target over stored inputs, for compilers without libFuzzer and for `make check`. Arguments:
 * directories; without any, tests/fuzz/corpus/<target>, the target being what follows `replay_` in the
 * program's name. Prints TAP: one test for each directory. An input that breaks a rule ends the program, and
 * prove notices the missing line.
 */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns 0 or a negative errno. */
static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	uint8_t *data;
	size_t size;
	int r = 0;

	if (!file)
		return -errno;
	if (fstat(fileno(file), &st) < 0 || !S_ISREG(st.st_mode)) {
		fclose(file);
		return -EINVAL;
	}
	/* Exactly the input's size, so that the address sanitizer sees reads beyond it. */
	size = (size_t)st.st_size;
	data = malloc(size ? size : 1);
	if (!data || fread(data, 1, size, file) != size)
		r = -EIO;
	fclose(file);
	if (!r)
		LLVMFuzzerTestOneInput(data, size);
	free(data);
	return r;
}

/* Returns the number of inputs, or a negative errno. */
static int run_directory(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort), n_run = 0, r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; ++i) {
		char name[4096];

		if (entries[i]->d_name[0] != '.' && r == 0) {
			snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
			r = run_file(name);
			n_run += r == 0;
			if (r)
				printf("# %s: %s\n", name, strerror(-r));
		}
		free(entries[i]);
	}
	free(entries);
	return r ? r : n_run;
}

static int report(int number, const char *target, const char *path)
{
	int n = run_directory(path);

	if (n > 0)
		printf("ok %d - %s: %d inputs\n", number, target, n);
	else
		printf("not ok %d - %s: %s: %s\n", number, target, path, n ? strerror(-n) : "no inputs");
	fflush(stdout);
	return n > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	const char *target = strncmp(name, "replay_", 7) == 0 ? name + 7 : name;
	int n_failed = 0;

	printf("TAP version 13\n1..%d\n", argc > 1 ? argc - 1 : 1);
	fflush(stdout);
	if (argc < 2) {
		char path[4096];

		snprintf(path, sizeof(path), "tests/fuzz/corpus/%s", target);
		return report(1, target, path);
	}
	for (int i = 1; i < argc; ++i)
		n_failed += report(i, target, argv[i]);
	return n_failed ? 1 : 0;
}
