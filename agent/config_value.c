/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Values of the configuration: one value, or one item of a list, from text to data.
 * Reads from: the text, and this host's users and groups.
 * Writes to: a field of struct config or struct config_mesh; problems to the draft.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "config_draft.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "util/glob.h"
#include "util/number.h"
#include "util/path.h"

#define value_error(draft, format, ...) \
	config_draft_error(draft, (draft)->line, "%s: " format, (draft)->key->name, ##__VA_ARGS__)

/* Appends to a list, a struct of items and n. False: there is no memory. */
#define list_add(draft, list, item)                                                       \
	({                                                                                \
		__typeof__(&(item)) items_ =                                              \
			config_draft_grow(draft, (list)->items, (list)->n, sizeof(item)); \
		if (items_) {                                                             \
			(list)->items = items_;                                           \
			items_[(list)->n++] = (item);                                     \
		}                                                                         \
		!!items_;                                                                 \
	})

static void set_string(struct config_draft *draft, char **field, const char *text)
{
	char *copy = strdup(text);

	if (!copy) {
		draft->error = -ENOMEM;
		return;
	}
	free(*field);
	*field = copy;
}

/* Without slashes at the end: others put a path behind it, and compare it. */
void config_value_path(struct config_draft *draft, void *field, const char *text)
{
	uint32_t max = draft->key->max;
	char **path = field;

	if (*text != '/')
		value_error(draft, "'%s' is not an absolute path", text);
	else if (max && strlen(text) > max)
		value_error(draft, "the path has %zu bytes; there is room for %u", strlen(text),
			    max);
	else
		set_string(draft, path, text);
	if (*path)
		path_trim(*path);
}

void config_value_number(struct config_draft *draft, void *field, const char *text)
{
	uint32_t max = draft->key->max, value;
	int r;

	r = number_parse(text, UINT32_MAX, &value);
	if (r == -EINVAL)
		value_error(draft, "'%s' is not a number; write 1 to %u", text, max);
	else if (r < 0 || !value || value > max)
		value_error(draft, "%s is out of range; write 1 to %u", text, max);
	else
		*(uint32_t *)field = value;
}

static const char *format_size(uint32_t value, char *buf, size_t size)
{
	const char *unit = "";

	for (const char *u = "KMG"; *u && value && value % 1024 == 0; u++) {
		value /= 1024;
		unit = u;
	}
	snprintf(buf, size, "%u%.1s", value, unit);
	return buf;
}

/* 0, -EINVAL: not a size, or -ERANGE. */
static int parse_size(const char *text, uint32_t *ret)
{
	static const char units[] = "KMG";
	size_t n = strspn(text, "0123456789");
	const char *unit = text[n] ? strchr(units, text[n]) : NULL;
	_cleanup_free_ char *number = NULL;
	uint64_t value;
	int r;

	if (text[n] && (!unit || text[n + 1]))
		return -EINVAL;
	number = strndup(text, n);
	if (!number)
		return -ENOMEM;
	r = number_parse(number, UINT32_MAX, ret);
	if (r < 0)
		return r;
	value = (uint64_t)*ret << (unit ? 10 * (unit - units + 1) : 0);
	*ret = value;
	return value > UINT32_MAX ? -ERANGE : 0;
}

void config_value_size(struct config_draft *draft, void *field, const char *text)
{
	const struct config_key *key = draft->key;
	char min[16], max[16];
	uint32_t value;
	int r;

	format_size(key->min, min, sizeof(min));
	format_size(key->max, max, sizeof(max));
	r = parse_size(text, &value);
	if (r == -ENOMEM)
		draft->error = r;
	else if (r == -EINVAL)
		value_error(draft, "'%s' is not a size, such as 65536, 64K or 1M; write %s to %s",
			    text, min, max);
	else if (r < 0 || value < key->min || value > key->max)
		value_error(draft, "%s is out of range; write %s to %s", text, min, max);
	else
		*(uint32_t *)field = value;
}

/* "a", "a or b", "a, b or c". */
static const char *list_choices(const struct config_choice *choices, char *buf, size_t size)
{
	const struct config_choice *last = NULL;
	size_t n = 0;

	for (const struct config_choice *c = choices; c->name; c++)
		last = c;
	for (const struct config_choice *c = choices; c->name; c++)
		n += snprintf(buf + n, size - n, "%s%s",
			      !n	  ? ""
			      : c == last ? " or "
					  : ", ",
			      c->name);
	return buf;
}

/* Returns NULL if there is no such choice, and has reported it. */
static const struct config_choice *find_choice(struct config_draft *draft, const char *text)
{
	const struct config_choice *choice = draft->key->choices;
	char buf[128];

	while (choice->name && strcmp(choice->name, text))
		choice++;
	if (choice->name)
		return choice;
	list_choices(draft->key->choices, buf, sizeof(buf));
	value_error(draft, "'%s' is not known; write %s", text, buf);
	return NULL;
}

void config_value_choice(struct config_draft *draft, void *field, const char *text)
{
	const struct config_choice *choice = find_choice(draft, text);

	if (choice)
		*(unsigned int *)field = choice - draft->key->choices;
}

void config_value_log_level(struct config_draft *draft, void *field, const char *text)
{
	const struct config_choice *choice = find_choice(draft, text);

	if (choice)
		set_string(draft, field, choice->name);
}

static bool is_pattern(struct config_draft *draft, const char *text)
{
	const char *wrong = glob_check(text);

	if (wrong)
		value_error(draft, "'%s' %s", text, wrong);
	else if (strpbrk(text, " \t"))
		value_error(draft, "'%s' has a blank in it; put a comma between patterns", text);
	else
		return true;
	return false;
}

static void add_pattern(struct config_draft *draft, struct config_globs *globs, const char *pattern,
			bool negated)
{
	struct config_glob glob = {
		.pattern = strdup(pattern),
		.negated = negated,
		.line = draft->line,
	};

	if (!glob.pattern)
		draft->error = -ENOMEM;
	else if (!list_add(draft, globs, glob))
		free(glob.pattern);
}

void config_value_glob(struct config_draft *draft, void *field, const char *text)
{
	bool negated = *text == '!';
	const char *pattern = text + negated;

	pattern += strspn(pattern, " \t");
	if (!is_pattern(draft, pattern))
		return;
	if (!negated && glob_prefix_len(pattern) == 1) {
		value_error(
			draft,
			"'%s' would attach to the root of the cgroup tree; begin it with a literal path",
			pattern);
		return;
	}
	add_pattern(draft, field, pattern, negated);
}

void config_value_program(struct config_draft *draft, void *field, const char *text)
{
	if (is_pattern(draft, text))
		add_pattern(draft, field, text, false);
}

/* Says what is wrong with a text that addr_parse_endpoint() does not take. */
static void refuse_endpoint(struct config_draft *draft, const char *text)
{
	uint16_t port = draft->key->port;
	struct shunt_endpoint endpoint;
	char buf[ADDR_STRLEN];

	snprintf(buf, sizeof(buf), "%s:%u", text, port);
	if (addr_parse_endpoint(buf, &endpoint) < 0)
		snprintf(buf, sizeof(buf), "[%s]:%u", text, port);
	if (addr_parse_endpoint(buf, &endpoint) < 0)
		value_error(draft,
			    "'%s' is not an address and a port; write 127.0.0.1:%u or [::1]:%u",
			    text, port, port);
	else
		value_error(draft, "'%s' has no port; write %s", text, buf);
}

void config_value_endpoint(struct config_draft *draft, void *field, const char *text)
{
	struct shunt_endpoint *endpoints = field, endpoint;
	char buf[ADDR_STRLEN];
	bool v4;

	if (addr_parse_endpoint(text, &endpoint) < 0) {
		refuse_endpoint(draft, text);
		return;
	}
	v4 = addr_is_v4(endpoint.addr);
	/* A link-local address is none without an interface, and there is no way to write one. */
	if (addr_is_unspecified(endpoint.addr) || addr_is_multicast(endpoint.addr) ||
	    addr_is_link_local(endpoint.addr)) {
		value_error(draft, "nothing can connect to '%s'; write %s:%u", text,
			    v4 ? "127.0.0.1" : "[::1]", ntohs(endpoint.port));
		return;
	}
	endpoints += v4 ? SHUNT_V4 : SHUNT_V6;
	if (endpoints->port)
		value_error(draft, "'%s' is a second %s address; the first is %s", text,
			    v4 ? "IPv4" : "IPv6", addr_format_endpoint(endpoints, buf));
	else
		*endpoints = endpoint;
}

/* Of a list with one item at the most, so that it may be empty. */
void config_value_listen(struct config_draft *draft, void *field, const char *text)
{
	if (draft->given[draft->key - draft->section->keys].n > 1)
		value_error(draft, "'%s' is a second address; there is room for one", text);
	else if (addr_parse_endpoint(text, field) < 0)
		refuse_endpoint(draft, text);
}

void config_value_cidr(struct config_draft *draft, void *field, const char *text)
{
	struct config_cidrs *cidrs = field;
	struct config_cidr cidr = {.line = draft->line};
	char buf[ADDR_STRLEN];
	int r;

	r = addr_parse_cidr(text, cidr.addr, &cidr.prefix);
	if (!r) {
		list_add(draft, cidrs, cidr);
	} else if (r == -ERANGE && !addr_parse_network(text, cidr.addr, &cidr.prefix)) {
		value_error(draft,
			    "'%s' has host bits set; write %s for the network or %.*s for the host",
			    text, addr_format_cidr(cidr.addr, cidr.prefix, buf),
			    (int)strcspn(text, "/"), text);
	} else {
		value_error(draft, "'%s' is not a CIDR; write one like 10.0.0.0/8 or fd00::/8",
			    text);
	}
}

static int parse_ports(const char *text, struct config_ports *ret)
{
	const char *dash = strchr(text, '-');
	char first[8];

	if (!strcmp(text, "*")) {
		ret->first = 0;
		ret->last = UINT16_MAX;
		return 0;
	}
	if (!dash)
		return addr_parse_port(text, &ret->first) ?: addr_parse_port(text, &ret->last);
	snprintf(first, sizeof(first), "%.*s", (int)(dash - text), text);
	return addr_parse_port(first, &ret->first) ?: addr_parse_port(dash + 1, &ret->last);
}

void config_value_ports(struct config_draft *draft, void *field, const char *text)
{
	struct config_port_list *list = field;
	struct config_ports ports = {.line = draft->line};

	if (parse_ports(text, &ports) < 0)
		value_error(draft,
			    "'%s' is not a port from 1 to 65535, a range like 9000-9100, or *",
			    text);
	else if (ports.first > ports.last)
		value_error(draft, "'%s' is backwards; write %u-%u", text, ports.last, ports.first);
	else
		list_add(draft, list, ports);
}

static int find_user(const char *name, uint32_t *ret)
{
	const struct passwd *user = getpwnam(name);

	if (!user)
		return -ENOENT;
	*ret = user->pw_uid;
	return 0;
}

static int find_group(const char *name, uint32_t *ret)
{
	const struct group *group = getgrnam(name);

	if (!group)
		return -ENOENT;
	*ret = group->gr_gid;
	return 0;
}

static void value_id(struct config_draft *draft, struct config_ids *list, const char *text,
		     const char *what, int (*find)(const char *name, uint32_t *ret))
{
	struct config_id id = {.line = draft->line};
	int r;

	r = number_parse(text, UINT32_MAX, &id.id);
	if (r == -EINVAL)
		r = find(text, &id.id);
	/* The kernel takes the highest number for "none". */
	if (r == -ERANGE || (!r && id.id == UINT32_MAX))
		value_error(draft, "%s is out of range; write 0 to %u", text, UINT32_MAX - 1);
	else if (r < 0)
		value_error(draft, "'%s' is neither a number nor a %s of this host", text, what);
	else
		list_add(draft, list, id);
}

void config_value_uid(struct config_draft *draft, void *field, const char *text)
{
	value_id(draft, field, text, "user", find_user);
}

void config_value_gid(struct config_draft *draft, void *field, const char *text)
{
	value_id(draft, field, text, "group", find_group);
}
