/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Long answers that come page after page, as text.
 * Reads from: the agent.
 * Writes to: stderr.
 */
#include "pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "out.h"
#include "util/cleanup.h"

/* Appends one to an array that grows by doubling: realloc only where the number is a power of 2. */
static void *pages_grow(void *array, size_t n, size_t size)
{
	if (n & (n - 1))
		return array;
	array = reallocarray(array, n ? 2 * n : 1, size);
	if (!array) {
		out_error("out of memory");
		exit(EXIT_FAILURE);
	}
	return array;
}

/* What follows the object that @text begins with; NULL if it has no end. */
static const char *pages_skip_object(const char *text)
{
	int depth = 0;

	do {
		text += strcspn(text, "{}\"");
		if (*text == '{') {
			depth++;
		} else if (*text == '}') {
			depth--;
		} else if (*text == '"') {
			for (text++; *text && *text != '"'; text++)
				text += *text == '\\' && text[1];
		}
		if (!*text++)
			return NULL;
	} while (depth);
	return text;
}

/* What follows the objects of the array that begins behind @text; NULL: that is not one. */
static const char *pages_take(struct pages *pages, const char *text)
{
	while (*text == '{') {
		const char *end = pages_skip_object(text);

		if (!end)
			return NULL;
		pages->items = pages_grow(pages->items, pages->n, sizeof(*pages->items));
		pages->items[pages->n++] = (struct pages_item){text, end - text};
		text = *end == ',' ? end + 1 : end;
	}
	return *text == ']' ? text + 1 : NULL;
}

/* *@ret_next: the number of the next page, 0 if this was the last. */
static int pages_read(struct pages *pages, const char *answer, const char *key,
		      json_int_t *ret_next)
{
	_cleanup_free_ char *begin = NULL;
	const char *at;
	int end = 0;

	if (asprintf(&begin, "{\"ok\":true,\"result\":{\"%s\":[", key) < 0)
		return -ENOMEM;
	at = strncmp(answer, begin, strlen(begin)) == 0 ? pages_take(pages, answer + strlen(begin))
							: NULL;
	*ret_next = 0;
	if (at && strcmp(at, ",\"next\":null}}\n") == 0)
		return 0;
	if (at && sscanf(at, ",\"next\":%" JSON_INTEGER_FORMAT "}}%n", ret_next, &end) == 1 && end)
		return 0;
	out_error("what the agent answers is not understood");
	return -EBADMSG;
}

/* Asks for the page after the one that was read: 0 if there is none. */
static int pages_ask(const char *socket_path, const char *verb, json_int_t next, FILE **ret_stream)
{
	*ret_stream = NULL;
	if (!next)
		return 0;
	return client_ask_text(socket_path, json_pack("{s:s, s:I}", "verb", verb, "next", next),
			       ret_stream);
}

int pages_fetch(const char *socket_path, const char *verb, const char *key, json_t *request,
		void (*take)(void *user, const struct pages_item *item), void *user,
		struct pages *ret)
{
	FILE *stream = NULL;
	int r;

	*ret = (struct pages){};
	if (json_object_set_new(request, "verb", json_string(verb)) < 0) {
		out_error("out of memory");
		json_decref(request);
		return -ENOMEM;
	}
	r = client_ask_text(socket_path, request, &stream);
	while (r == 0 && stream) {
		size_t first = ret->n;
		char *answer = NULL;
		json_int_t next;

		r = client_take_text(TAKE_PTR(stream), &answer);
		if (r < 0)
			return r;
		ret->answers = pages_grow(ret->answers, ret->n_answers, sizeof(*ret->answers));
		ret->answers[ret->n_answers++] = answer;
		r = pages_read(ret, answer, key, &next);
		if (r == 0)
			r = pages_ask(socket_path, verb, next, &stream);
		for (size_t i = first; take && r == 0 && i < ret->n; i++)
			take(user, &ret->items[i]);
	}
	return r;
}

void pages_deinit(struct pages *pages)
{
	for (size_t i = 0; i < pages->n_answers; i++)
		free(pages->answers[i]);
	free(pages->answers);
	free(pages->items);
}

/* A quote within a string is escaped: what looks like a key is one. */
json_int_t pages_sum(const struct pages_item *item, const char *key)
{
	const char *at = item->text, *end = item->text + item->len;
	json_int_t sum = 0;
	char quoted[64];
	int len = snprintf(quoted, sizeof(quoted), "\"%s\":", key);

	while ((at = memmem(at, end - at, quoted, len))) {
		at += len;
		sum += strtoll(at, NULL, 10);
	}
	return sum;
}
