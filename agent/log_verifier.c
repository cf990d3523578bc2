/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the verifier says of a program that it refuses: thousands of lines, of which one tells.
 * Reads from: libbpf's messages.
 * Writes to: the log, and a file that only its owner may read.
 */
#include "log_verifier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"
#include "util/cleanup.h"

#define VERIFIER_BEGIN "-- BEGIN PROG LOAD LOG --\n"
#define VERIFIER_END   "-- END PROG LOAD LOG --"

static char *verifier_path;

/* Lines at the end that say how much there was to verify. */
static bool verifier_is_statistics(const char *line, size_t len)
{
	static const char *const begins[] = {
		"processed ",		"verification time ", "stack depth ",
		"max_states_per_insn ", VERIFIER_END,
	};

	for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
		if (len >= strlen(begins[i]) && !strncmp(line, begins[i], strlen(begins[i])))
			return true;
	return false;
}

/* The last line that is none of those is why it was refused. */
static char *verifier_telling_line(const char *text)
{
	const char *found = "", *line = text;
	size_t found_len = 0;

	while (*line) {
		size_t len = strcspn(line, "\n");

		if (len && !verifier_is_statistics(line, len)) {
			found = line;
			found_len = len;
		}
		line += len + (line[len] == '\n');
	}
	return strndup(found, found_len);
}

/* "libbpf: prog 'NAME': -- BEGIN …" */
static char *verifier_program(const char *text, const char *end)
{
	const char *name = memchr(text, '\'', end - text);
	const char *quote = name ? memchr(name + 1, '\'', end - name - 1) : NULL;

	return quote ? strndup(name + 1, quote - name - 1) : strdup("?");
}

static int verifier_save(const char *text)
{
	_cleanup_close_ int fd = -1;
	size_t len = strlen(text);

	if (!verifier_path)
		return -ENOENT;
	fd = open(verifier_path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0)
			return -errno;
		text += n;
		len -= n;
	}
	return 0;
}

int log_verifier_keep_beside(const char *neighbour)
{
	const char *slash = strrchr(neighbour, '/');
	_cleanup_free_ char *dir = slash ? strndup(neighbour, slash + 1 - neighbour) : strdup("");
	_cleanup_free_ char *path = NULL;

	if (!dir || asprintf(&path, "%s" LOG_VERIFIER_FILE, dir) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (*dir && mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	if (unlink(path) && errno != ENOENT)
		return -errno;
	free(verifier_path);
	verifier_path = TAKE_PTR(path);
	return 0;
}

void log_verifier_hear(const char *text)
{
	const char *begin = strstr(text, VERIFIER_BEGIN);
	_cleanup_free_ char *program = NULL, *line = NULL;
	int r;

	if (!begin)
		return;
	program = verifier_program(text, begin);
	line = verifier_telling_line(begin + strlen(VERIFIER_BEGIN));
	r = verifier_save(text);
	log_warning("the verifier refuses a program: program=%s reason=\"%s\" details=%s",
		    program ?: "?", line ?: "?", r ? strerror(-r) : verifier_path);
}

void log_verifier_forget(void)
{
	if (verifier_path)
		unlink(verifier_path);
	free(TAKE_PTR(verifier_path));
}
