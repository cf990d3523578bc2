/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The log: one fact, one line, one write(2).
 * Reads from: JOURNAL_STREAM, which tells whether stderr is the journal.
 * Writes to: stderr.
 */
#include "log.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/text.h"

#define LINE_MAX_BYTES 4096 /* one write to a pipe is whole up to here; the rest is cut */
#define LINE_CUT       "…"

static const struct {
	const char *name;
	const char *prefix; /* of sd-daemon(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "<3>"},
	[LOG_LEVEL_WARNING] = {"warning", "<4>"},
	[LOG_LEVEL_INFO] = {"info", "<6>"},
	[LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

static enum log_level log_max = LOG_LEVEL_INFO;

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	bool cut;
};

void log_set_level(enum log_level level)
{
	log_max = level;
}

int log_level_parse(const char *text, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(text, levels[i].name) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

/* JOURNAL_STREAM is "device:inode" of the journal's end; a redirected stderr is not that. */
static bool log_to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

static void line_put(struct line *line, const char *text, size_t len)
{
	/* Room stays for the mark of a cut and for the newline. */
	if (line->cut || len > sizeof(line->text) - sizeof(LINE_CUT) - line->len) {
		line->cut = true;
		return;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
}

/*
 * Texts come from config files, cgroup names and libbpf. None may begin a line of its own or speak
 * to the terminal.
 */
static void line_put_clean(struct line *line, const char *text)
{
	while (*text) {
		bool plain;
		size_t len = text_next(text, &plain);

		if (plain)
			line_put(line, text, len);
		else if (*text != '\n')
			line_put(line, "?", 1);
		else if (text[1])
			line_put(line, "; ", 2);
		text += len;
	}
}

static void log_line(enum log_level level, const char *text, const char *reason)
{
	struct line line = {.len = 0};
	const char *prefix = log_to_journal() ? levels[level].prefix : "shuntd: ";

	line_put(&line, prefix, strlen(prefix));
	line_put_clean(&line, text);
	if (reason) {
		line_put_clean(&line, ": ");
		line_put_clean(&line, reason);
	}
	if (line.cut) {
		memcpy(line.text + line.len, LINE_CUT, strlen(LINE_CUT));
		line.len += strlen(LINE_CUT);
	}
	line.text[line.len++] = '\n';
	if (write(STDERR_FILENO, line.text, line.len) < 0)
		return; /* there is nobody else to tell */
}

void log_write(enum log_level level, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	int saved = errno;
	va_list args;

	if (level > log_max)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_line(level, text, NULL);
	errno = saved;
}

int log_errno(int error, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	int saved = errno;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_line(LOG_LEVEL_ERROR, text, strerror(-error));
	errno = saved;
	return error;
}

/* What the verifier says is one message of many lines, of which none is to be lost. */
static int log_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;

	(void)level;
	if (log_max < LOG_LEVEL_DEBUG || vasprintf(&text, format, args) < 0)
		return 0;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			log_write(LOG_LEVEL_DEBUG, "%s", line);
	}
	return 0;
}

void log_adopt_libbpf(void)
{
	libbpf_set_print(log_libbpf);
}
