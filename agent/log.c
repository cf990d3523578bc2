/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The log: one fact, one line, one write(2). What repeats itself is written a few times and then
 * counted; the count is told when the window is over.
 * Reads from: JOURNAL_STREAM, which tells whether stderr is the journal.
 * Writes to: stderr.
 */
#include "log.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "log_verifier.h"
#include "util/cleanup.h"
#include "util/text.h"

#define LINE_MAX_BYTES 4096 /* one write to a pipe is whole up to here; the rest is cut */
#define LINE_CUT       "…"

#define LOG_KINDS     64    /* kinds of lines that are counted at a time */
#define LOG_SAME      3	    /* lines that say the very same, and are written … */
#define LOG_LIKE      50    /* … and warnings and errors of one kind … */
#define LOG_WINDOW_MS 30000 /* … in this time; what is more is counted */

static const struct {
	const char *name;
	const char *prefix; /* of sd-daemon(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "<3>"},
	[LOG_LEVEL_WARNING] = {"warning", "<4>"},
	[LOG_LEVEL_INFO] = {"info", "<6>"},
	[LOG_LEVEL_DEBUG] = {"debug", "<7>"},
};

/* A call that logs is a kind of line, known by its format. */
struct log_kind {
	const char *format; /* NULL: the place is free */
	enum log_level level;
	uint64_t since; /* begin of its window, in ms */
	unsigned like;	/* lines in this window … */
	unsigned same;	/* … in a row that say the very same … */
	unsigned held;	/* … and of all those the ones that were not written */
	bool differ;	/* these do not all say the same */
	char *last;	/* the last line */
};

static struct log_kind log_kinds[LOG_KINDS];
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

static void log_line(enum log_level level, const char *text)
{
	struct line line = {.len = 0};
	const char *prefix = log_to_journal() ? levels[level].prefix : "shuntd: ";

	line_put(&line, prefix, strlen(prefix));
	line_put_clean(&line, text);
	if (line.cut) {
		memcpy(line.text + line.len, LINE_CUT, strlen(LINE_CUT));
		line.len += strlen(LINE_CUT);
	}
	line.text[line.len++] = '\n';
	if (write(STDERR_FILENO, line.text, line.len) < 0)
		return; /* there is nobody else to tell */
}

static uint64_t log_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Ends the window of a kind: says what was held back in it. */
static void log_kind_close(struct log_kind *kind)
{
	_cleanup_free_ char *last = kind->last, *text = NULL;

	if (kind->held == 1)
		log_line(kind->level, last);
	else if (kind->held &&
		 asprintf(&text, "%s (%s=%u)", last, kind->differ ? "lines like this" : "repeated",
			  kind->held) > 0)
		log_line(kind->level, text);
	*kind = (struct log_kind){};
}

/* The place of @format; if there is none, that of the kind whose window began first. */
static struct log_kind *log_kind_find(const char *format, uint64_t now)
{
	struct log_kind *oldest = log_kinds;

	for (size_t i = 0; i < LOG_KINDS; i++) {
		struct log_kind *kind = &log_kinds[i];

		if (kind->format == format && now - kind->since < LOG_WINDOW_MS)
			return kind;
		if (kind->format == format || (oldest->format && kind->since < oldest->since))
			oldest = kind;
		if (kind->format == format)
			break;
	}
	if (oldest->format)
		log_kind_close(oldest);
	return oldest;
}

/* Writes @text, or counts it if there was enough like it. */
static void log_fold(enum log_level level, const char *format, const char *text)
{
	uint64_t now = log_now();
	struct log_kind *kind;
	bool same;

	if (level == LOG_LEVEL_DEBUG) {
		log_line(level, text);
		return;
	}
	kind = log_kind_find(format, now);
	if (!kind->format)
		*kind = (struct log_kind){.format = format, .level = level, .since = now};
	same = kind->last && !strcmp(kind->last, text);
	if (!same) {
		free(kind->last);
		kind->last = strdup(text);
	}
	kind->same = same ? kind->same + 1 : 1;
	kind->like++;
	if (!kind->last ||
	    (kind->same <= LOG_SAME && (kind->like <= LOG_LIKE || level > LOG_LEVEL_WARNING))) {
		log_line(level, text);
		return;
	}
	kind->differ |= !same;
	kind->held++;
}

int log_flush(bool all)
{
	uint64_t now = log_now(), next = LOG_WINDOW_MS;
	bool held = false;

	for (size_t i = 0; i < LOG_KINDS; i++) {
		struct log_kind *kind = &log_kinds[i];
		uint64_t age = now - kind->since;

		if (!kind->format)
			continue;
		if (all || age >= LOG_WINDOW_MS) {
			log_kind_close(kind);
		} else if (kind->held) {
			held = true;
			next = age + next > LOG_WINDOW_MS ? LOG_WINDOW_MS - age : next;
		}
	}
	return held ? (int)next : -1;
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
	log_fold(level, format, text);
	errno = saved;
}

int log_errno(int error, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	_cleanup_free_ char *whole = NULL;
	int saved = errno;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (asprintf(&whole, "%s: %s", text, strerror(-error)) < 0)
		whole = NULL;
	log_fold(LOG_LEVEL_ERROR, format, whole ?: text);
	errno = saved;
	return error;
}

/* What the verifier says is one message of many lines, of which none is to be lost. */
static int log_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;

	(void)level;
	if (vasprintf(&text, format, args) < 0) {
		text = NULL;
		return 0;
	}
	log_verifier_hear(text);
	if (log_max < LOG_LEVEL_DEBUG)
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
