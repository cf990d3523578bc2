/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The text of a configuration: lines, and through inih the keys and values in them.
 * Reads from: a stream.
 * Writes to: the draft, by way of config_section.c.
 *
 * inih takes lines from line_next() and gives keys and values to pair_take(). It passes over empty
 * sections, lines that it does not understand and the ends of lines and section names that are too
 * long for it; so what a line is gets looked at here first, and inih reads no section name.
 */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <string.h>

#include "config_draft.h"

struct source {
	FILE *stream;
	struct config_draft *draft;
	size_t bytes;
	bool indented;	/* the line begins with a blank */
	bool unclaimed; /* the line has text in it that inih has made nothing of yet */
	bool named;	/* inih has a key that an indented line continues */
	int error;
};

/* Debian's inih is set at run time. This is the one place. */
static void set_up_inih(void)
{
	ini_max_line = CONFIG_LINE_MAX + 3; /* two ends of line and a NUL */
	ini_initial_alloc = ini_max_line;
	ini_use_stack = false;
	ini_allow_realloc = false;
	ini_allow_multiline = true;
	ini_allow_inline_comments = false; /* see comment_cut() */
	ini_allow_no_value = false;
	ini_stop_on_first_error = false;
}

/* One line, without its end; what is wrong with it is reported, and leaves an empty one. */
static bool line_read(struct source *source, char *line, size_t size)
{
	struct config_draft *draft = source->draft;
	bool nul = false;
	size_t n = 0;
	int c;

	while ((c = getc(source->stream)) != EOF && c != '\n' &&
	       ++source->bytes <= CONFIG_FILE_MAX) {
		if (n < size)
			line[n] = c;
		nul |= !c;
		n++;
	}
	if (c == EOF && ferror(source->stream)) {
		source->error = errno ? -errno : -EIO;
		config_draft_error(draft, 0, "cannot be read: %s", strerror(-source->error));
		return false;
	}
	if (c == EOF && !n)
		return false;

	draft->line++;
	source->bytes += c == '\n';
	if (source->bytes > CONFIG_FILE_MAX) {
		config_draft_error(draft, draft->line, "the file is longer than %d bytes",
				   CONFIG_FILE_MAX);
		source->error = -EINVAL;
		return false;
	}
	if (n > CONFIG_LINE_MAX)
		config_draft_error(
			draft, draft->line,
			"the line is longer than %d characters; a list may go on in lines that begin with a blank",
			CONFIG_LINE_MAX);
	else if (nul)
		config_draft_error(draft, draft->line, "the line has a NUL byte in it");
	line[n > CONFIG_LINE_MAX || nul ? 0 : n] = '\0';
	return true;
}

/* inih would, but up to release 55 not in a line that continues a value. */
static void comment_cut(char *line)
{
	for (char *p = line; (p = strchr(p, ';')); p++) {
		if (p > line && isspace((unsigned char)p[-1])) {
			*p = '\0';
			return;
		}
	}
}

static void refuse_unclaimed(struct source *source)
{
	struct config_draft *draft = source->draft;

	if (source->unclaimed)
		config_draft_error(draft, draft->line,
				   "neither a [section] nor KEY = VALUE nor a comment");
	source->unclaimed = false;
}

/* An ini_reader: the next line for inih, once a line. */
static char *line_next(char *line, int size, void *user)
{
	struct source *source = user;
	const char *text;

	refuse_unclaimed(source);
	if (!line_read(source, line, size))
		return NULL;

	/* Editors of other systems put this mark at the start of a file; nobody sees it. */
	if (source->draft->line == 1 && !strncmp(line, "\xef\xbb\xbf", 3))
		memmove(line, line + 3, strlen(line + 3) + 1);

	comment_cut(line);
	for (text = line; isspace((unsigned char)*text); text++)
		;
	if (*line == '[') {
		config_section_begin(source->draft, line);
		strcpy(line, "[]"); /* makes inih forget the key before it */
		source->named = false;
	} else {
		source->indented = text > line;
		source->unclaimed = *text && *text != ';' && *text != '#';
	}
	return line;
}

/* An ini_handler. A line that continues a value comes with the same name again. */
static int pair_take(void *user, const char *section, const char *name, const char *value)
{
	struct source *source = user;
	bool continued = source->indented && source->named;

	source->unclaimed = false;
	if (!continued) {
		source->named = *name;
		config_section_key(source->draft, name);
	}
	config_section_value(source->draft, value, continued);
	return 1;
}

int config_ini_read(FILE *stream, struct config_draft *draft)
{
	struct source source = {.stream = stream, .draft = draft};

	set_up_inih();
	if (ini_parse_stream(line_next, &source, pair_take, &source) == -2)
		return -ENOMEM;
	return source.error;
}
