/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sections of the configuration: where one begins and ends, and where the values in it go.
 * Reads from: lines, keys and values that config_ini.c found.
 * Writes to: struct config, by way of config_value.c; problems to the draft.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "config_draft.h"
#include "util/cleanup.h"

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

/* What stands in it is passed over: it was refused as a whole. */
static const struct config_section unknown_section = {};

/*
 * The default of splice_never: what reads from sockets by splice(2) and cannot be told not to, from
 * the first byte on (systemd-socket-proxyd, passt as pasta) or wherever much is waiting (lighttpd
 * as a proxy). By name alone: distributions put them in different places, and passt, which leaves
 * the root directory behind that it was started in, may show less of its path.
 */
static const char *const programs_that_splice[] = {
	"/**/systemd-socket-proxyd",
	"/**/passt*",
	"/**/lighttpd",
};

static bool in_mesh(const struct config_draft *draft)
{
	return draft->section == &config_sections[CONFIG_SECTION_MESH];
}

static struct config_mesh *last_mesh(const struct config_draft *draft)
{
	return &draft->config->meshes[draft->config->n_meshes - 1];
}

/* In place. */
static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return text;
}

static void check_mesh_name(struct config_draft *draft, const char *name)
{
	const struct config *config = draft->config;
	unsigned int line = draft->line;
	size_t n = strlen(name);

	if (!n)
		config_draft_error(draft, line, "the mesh has no name; write [mesh NAME]");
	else if (name[strspn(name, NAME_CHARS)])
		config_draft_error(
			draft, line,
			"bad mesh name '%s': a name has letters, digits, '_', '.' and '-'", name);
	else if (n > CONFIG_MESH_NAME_MAX)
		config_draft_error(draft, line,
				   "the mesh name has %zu characters; there is room for %d", n,
				   CONFIG_MESH_NAME_MAX);

	for (size_t i = 0; n && i < config->n_meshes; i++) {
		if (strcmp(config->meshes[i].name, name))
			continue;
		config_draft_error(draft, line, "mesh %s is there twice; the first is in line %u",
				   name, config->meshes[i].line);
		break;
	}
}

/* A mesh with a bad name is one too: the rest of its mistakes shall be found as well. */
static void mesh_begin(struct config_draft *draft, const char *name)
{
	struct config *config = draft->config;
	struct config_mesh *meshes;
	char *copy;

	check_mesh_name(draft, name);
	if (config->n_meshes == SHUNT_MESHES_MAX)
		config_draft_error(draft, draft->line, "too many meshes: there is room for %d",
				   SHUNT_MESHES_MAX);

	meshes = config_draft_grow(draft, config->meshes, config->n_meshes, sizeof(*meshes));
	if (!meshes)
		return;
	config->meshes = meshes;
	copy = strdup(*name ? name : "?");
	if (!copy) {
		draft->error = -ENOMEM;
		return;
	}
	meshes[config->n_meshes++] = (struct config_mesh){
		.name = copy,
		.line = draft->line,
		.splice = SHUNT_SCOPE_SIDECAR,
	};
	draft->section = &config_sections[CONFIG_SECTION_MESH];
}

/* An empty value is one: nowhere. */
static void agent_end(struct config_draft *draft)
{
	const struct config_given *metrics = &draft->given[CONFIG_AGENT_METRICS_LISTEN];

	if (metrics->line && !metrics->n)
		draft->config->metrics_listen = (struct shunt_endpoint){};
	draft->splice_never_given |= draft->given[CONFIG_AGENT_SPLICE_NEVER].line;
}

static void singleton_begin(struct config_draft *draft, const struct config_section *section)
{
	unsigned int *line = &draft->section_lines[section - config_sections];

	if (*line)
		config_draft_error(draft, draft->line,
				   "section [%s] is there twice; the first is in line %u",
				   section->name, *line);
	else
		*line = draft->line;
	draft->section = section;
}

void config_section_begin(struct config_draft *draft, char *header)
{
	char *end = strchrnul(header, ']'), *name, *argument;

	config_section_end(draft);
	if (*end) {
		*end = '\0';
		end = trim(end + 1);
		if (*end && *end != ';' && *end != '#')
			config_draft_error(draft, draft->line,
					   "'%s' stands after the section's ']'", end);
	} else {
		config_draft_error(draft, draft->line, "the section's name has no ']' after it");
	}

	name = trim(header + 1);
	argument = name + strcspn(name, " \t");
	if (*argument)
		*argument++ = '\0';
	argument = trim(argument);

	if (!strcmp(name, config_sections[CONFIG_SECTION_MESH].name)) {
		mesh_begin(draft, argument);
		return;
	}
	for (size_t i = 0; !*argument && i < CONFIG_SECTION_MESH; i++) {
		if (strcmp(name, config_sections[i].name))
			continue;
		singleton_begin(draft, &config_sections[i]);
		return;
	}
	config_draft_error(draft, draft->line,
			   "unknown section [%s%s%s]; there are [agent], [limits] and [mesh NAME]",
			   name, *argument ? " " : "", argument);
}

static void mesh_end(struct config_draft *draft)
{
	const struct config_given *given = draft->given;
	struct config_mesh *mesh = last_mesh(draft);
	unsigned int line = draft->line;

	draft->line = 0; /* of what no line says */
	if (!given[CONFIG_MESH_INCLUDE_CIDRS].line) {
		config_value_cidr(draft, &mesh->include_cidrs, "0.0.0.0/0");
		config_value_cidr(draft, &mesh->include_cidrs, "::/0");
	}
	if (!given[CONFIG_MESH_INCLUDE_PORTS].line)
		config_value_ports(draft, &mesh->include_ports, "*");
	draft->line = line;

	mesh->tcp_redirect_line = given[CONFIG_MESH_TCP_REDIRECT].line;
	mesh->dns_redirect_line = given[CONFIG_MESH_DNS_REDIRECT].line;
	mesh->on_sidecar_down_line = given[CONFIG_MESH_ON_SIDECAR_DOWN].line;
	config_check_mesh(draft, mesh);
}

void config_section_end(struct config_draft *draft)
{
	if (in_mesh(draft))
		mesh_end(draft);
	if (draft->section == &config_sections[CONFIG_SECTION_AGENT])
		agent_end(draft);
	draft->section = &unknown_section;
	draft->key = NULL;
	memset(draft->given, 0, sizeof(draft->given));
}

void config_section_defaults(struct config_draft *draft)
{
	unsigned int line = draft->line;

	draft->line = 0; /* of what no line says */
	for (size_t i = 0; !draft->splice_never_given && i < ARRAY_SIZE(programs_that_splice); i++)
		config_value_program(draft, &draft->config->splice_never, programs_that_splice[i]);
	draft->line = line;
}

static const struct config_key *find_key(const struct config_section *section, const char *name)
{
	for (size_t i = 0; i < section->n_keys; i++)
		if (!strcmp(section->keys[i].name, name))
			return &section->keys[i];
	return NULL;
}

static void refuse_key(struct config_draft *draft, const char *name)
{
	const struct config_section *section = draft->section;
	char known[512];
	size_t n = 0;

	for (size_t i = 0; i < CONFIG_SECTIONS; i++) {
		if (!find_key(&config_sections[i], name))
			continue;
		config_draft_error(draft, draft->line, "unknown key '%s': it belongs in [%s]", name,
				   config_sections[i].name);
		return;
	}
	for (size_t i = 0; i < section->n_keys; i++)
		if (section->keys[i].parse)
			n += snprintf(known + n, sizeof(known) - n, "%s%s", n ? ", " : "",
				      section->keys[i].name);
	config_draft_error(draft, draft->line, "unknown key '%s'; [%s] has %s", name, section->name,
			   known);
}

void config_section_key(struct config_draft *draft, const char *name)
{
	const struct config_section *section = draft->section;
	const struct config_key *key;
	struct config_given *given;

	draft->key = NULL;
	if (section == &unknown_section)
		return;
	if (!*name) {
		config_draft_error(draft, draft->line, "no key in front of the '='");
		return;
	}
	if (!section) {
		config_draft_error(draft, draft->line, "'%s' stands before the first [section]",
				   name);
		return;
	}
	key = find_key(section, name);
	if (!key) {
		refuse_key(draft, name);
		return;
	}
	given = &draft->given[key - section->keys];
	if (given->line) {
		config_draft_error(draft, draft->line,
				   "%s: is there twice; the first is in line %u", name,
				   given->line);
		return;
	}
	given->line = draft->line;
	draft->key = key;
}

/* Not a comment, as in other files: what looks like one would become part of the value. */
static bool has_stray_hash(const char *text)
{
	for (const char *p = text; (p = strchr(p, '#')); p++)
		if (p == text || isspace((unsigned char)p[-1]))
			return true;
	return false;
}

static void value_set(struct config_draft *draft, const char *text)
{
	const struct config_key *key = draft->key;
	char *base = in_mesh(draft) ? (char *)last_mesh(draft) : (char *)draft->config;

	draft->given[key - draft->section->keys].n++;
	if (has_stray_hash(text))
		config_draft_error(draft, draft->line,
				   "%s: '%s': a comment after a value begins with ';'", key->name,
				   text);
	else
		key->parse(draft, base + key->offset, text);
}

static void list_set(struct config_draft *draft, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);
	char *rest = copy, *item;

	if (!copy)
		draft->error = -ENOMEM;
	while ((item = strsep(&rest, ","))) {
		item = trim(item);
		if (*item)
			value_set(draft, item);
		else if (rest)
			config_draft_error(draft, draft->line, "%s: nothing in front of a comma",
					   draft->key->name);
	}
}

void config_section_value(struct config_draft *draft, const char *text, bool continued)
{
	const struct config_key *key = draft->key;

	if (!key)
		return;
	if (!key->parse && !*text)
		return;
	if (!key->parse) {
		config_draft_error(draft, draft->line, "%s: not built yet; leave it out",
				   key->name);
		draft->key = NULL;
	} else if (key->list) {
		list_set(draft, text);
	} else if (continued) {
		config_draft_error(
			draft, draft->line,
			"%s: has one value only, and a line that begins with a blank goes on with it",
			key->name);
	} else if (!*text) {
		config_draft_error(draft, draft->line, "%s: no value; leave it out for the default",
				   key->name);
	} else {
		value_set(draft, text);
	}
}
