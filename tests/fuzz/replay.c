/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stands in for libFuzzer: gives a target the inputs that are kept.
 * Reads from: the files in the directories that are named.
 * Writes to: the target.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"
#include "util/cleanup.h"

static void run_file(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	_cleanup_free_ uint8_t *data = NULL;
	struct stat st;

	fuzz_check(file && fstat(fileno(file), &st) == 0);
	/* As large as it is, so that a byte too many is noticed. */
	data = malloc(st.st_size ? st.st_size : 1);
	fuzz_check(data && fread(data, 1, st.st_size, file) == (size_t)st.st_size);
	LLVMFuzzerTestOneInput(data, st.st_size);
}

static size_t run_directory(const char *path)
{
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);
	size_t ran = 0;

	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *file = NULL;

		fuzz_check(asprintf(&file, "%s/%s", path, entries[i]->d_name) > 0);
		if (*entries[i]->d_name != '.') {
			run_file(file);
			ran++;
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return ran;
}

int main(int argc, char **argv)
{
	size_t ran = 0;

	for (int i = 1; i < argc; i++)
		ran += run_directory(argv[i]);
	printf("%zu inputs\n", ran);
	return ran ? EXIT_SUCCESS : EXIT_FAILURE;
}
