/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Long answers that come page after page, as text: most of what is in them is printed as it is, or
 * not at all, and to make objects of all of it would take longer than everything else.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

/* One object of an answer; its text is not terminated. */
struct pages_item {
	const char *text;
	size_t len;
};

struct pages {
	char **answers;
	size_t n_answers;
	struct pages_item *items;
	size_t n;
};

/*
 * Asks for @verb, with what else is in @request, until there is no "next" page, and gathers the
 * objects of the array @key. @take, if there is one, is called for each as it comes; the agent is
 * busy with the next page meanwhile. Steals @request. 0, or negative errno after it has said on
 * stderr what is wrong; @ret is to be freed in either case.
 */
int pages_fetch(const char *socket_path, const char *verb, const char *key, json_t *request,
		void (*take)(void *user, const struct pages_item *item), void *user,
		struct pages *ret);
void pages_deinit(struct pages *pages);

/* The sum of the numbers under @key, wherever in the object it stands. */
json_int_t pages_sum(const struct pages_item *item, const char *key);
