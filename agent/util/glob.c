/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Patterns of cgroup paths: are they well-formed, do they match, do two of them overlap.
 * Reads from: the caller's patterns and paths.
 * Writes to: nothing.
 *
 * A path is a sequence of parts and a part a sequence of characters, and both have a wildcard that
 * stands for any number of elements: '**' among parts, '*' among characters. So one algorithm does
 * for both levels, and the one for parts asks the one for characters if two parts agree.
 */
#include "glob.h"

#include <string.h>

enum level { PARTS, CHARS };

struct span {
	const char *at;
	size_t n;
};

/* A part with the slash in front of it, or a character. */
static struct span first(struct span s, enum level level)
{
	const char *slash;

	if (level == CHARS)
		return (struct span){s.at, 1};
	slash = memchr(s.at + 1, '/', s.n - 1);
	return (struct span){s.at, slash ? (size_t)(slash - s.at) : s.n};
}

static struct span rest(struct span s, enum level level)
{
	size_t n = first(s, level).n;

	return (struct span){s.at + n, s.n - n};
}

/* Does @s begin with the wildcard of its level? */
static bool is_any(struct span s, enum level level)
{
	struct span element;

	if (!s.n)
		return false;
	element = first(s, level);
	if (level == CHARS)
		return *element.at == '*';
	return element.n == 3 && !memcmp(element.at, "/**", 3);
}

static struct span path_span(const char *path)
{
	/* The root has no parts. */
	return (struct span){path, path[1] ? strlen(path) : 0};
}

static bool match(struct span pattern, struct span text, enum level level);

/* Do the first elements of the two match? */
static bool elements_match(struct span p, struct span t, enum level level)
{
	if (level == PARTS)
		return match(first(p, PARTS), first(t, PARTS), CHARS);
	return *p.at == '?' || *p.at == *t.at;
}

/*
 * To go back to the last wildcard only is enough: what stood before it has matched as early as it
 * could, and a later match would only leave less for the rest. Hence at most pattern * text steps.
 */
static bool match(struct span pattern, struct span text, enum level level)
{
	struct span retry_pattern = {0}, retry_text = {0};

	while (text.n) {
		if (is_any(pattern, level)) {
			pattern = retry_pattern = rest(pattern, level);
			retry_text = text;
			continue;
		}
		if (pattern.n && elements_match(pattern, text, level)) {
			pattern = rest(pattern, level);
			text = rest(text, level);
			continue;
		}
		if (!retry_text.n)
			return false;
		text = retry_text = rest(retry_text, level);
		pattern = retry_pattern;
	}
	while (is_any(pattern, level))
		pattern = rest(pattern, level);
	return !pattern.n;
}

static bool overlap(struct span a, struct span b, enum level level);

static bool elements_overlap(struct span p, struct span q, enum level level)
{
	if (level == PARTS)
		return overlap(first(p, PARTS), first(q, PARTS), CHARS);
	return *p.at == *q.at || *p.at == '?' || *q.at == '?';
}

/*
 * Follows both patterns at once. After each element of @b, meets[i] says: is there a text that
 * the first i elements of @a and what was seen of @b both match?
 */
static bool overlap(struct span a, struct span b, enum level level)
{
	bool meets[GLOB_MAX + 1];
	struct span p, q;
	size_t n = 0, i;

	meets[0] = true;
	for (p = a; p.n; p = rest(p, level), n++)
		meets[n + 1] = meets[n] && is_any(p, level);

	for (q = b; q.n; q = rest(q, level)) {
		bool q_any = is_any(q, level), before = meets[0];

		meets[0] = before && q_any;
		for (p = a, i = 0; i < n; p = rest(p, level), i++) {
			bool old = meets[i + 1];

			/* A wildcard takes one more element of the other, or has taken its last. */
			if (q_any || is_any(p, level))
				meets[i + 1] = old || meets[i];
			else
				meets[i + 1] = before && elements_overlap(p, q, level);
			before = old;
		}
	}
	return meets[n];
}

const char *glob_check(const char *pattern)
{
	const char *part, *end;

	if (*pattern != '/')
		return "does not begin with '/'";
	if (strlen(pattern) > GLOB_MAX)
		return "is longer than 4095 characters";
	if (!pattern[1])
		return NULL;

	for (part = pattern + 1;; part = end + 1) {
		size_t n;

		end = strchrnul(part, '/');
		n = end - part;
		if (!n)
			return *end ? "has an empty part ('//')" : "ends with '/'";
		if ((n == 1 && *part == '.') || (n == 2 && !memcmp(part, "..", 2)))
			return "has a part '.' or '..'";
		if (n > 2 && memmem(part, n, "**", 2))
			return "has '**' that is not a whole part";
		if (!*end)
			return NULL;
	}
}

bool glob_match(const char *pattern, const char *path)
{
	return match(path_span(pattern), path_span(path), PARTS);
}

size_t glob_prefix_len(const char *pattern)
{
	size_t n = strcspn(pattern, "*?");

	if (!pattern[n])
		return n;
	while (pattern[n] != '/')
		n--;
	return n ? n : 1;
}

bool glob_overlap(const char *a, const char *b)
{
	return overlap(path_span(a), path_span(b), PARTS);
}
