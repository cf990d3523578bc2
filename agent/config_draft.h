/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A configuration while it is read: what the config_*.c files share and nobody else includes.
 *
 * config_ini.c cuts the text into sections, keys and values; config_section.c knows which there
 * are; config_value.c turns one value into data; config_check.c judges what only the whole can
 * show. A mistake is noted, and reading goes on: the functions return nothing, the draft remembers.
 */
#pragma once

#include "config.h"

struct config_draft;

struct config_choice {
	const char *name;
};

struct config_key {
	const char *name;
	/* Puts a value, or an item of a list, into @field. NULL: not built yet. */
	void (*parse)(struct config_draft *draft, void *field, const char *text);
	size_t offset; /* of the field in struct config or struct config_mesh */
	bool list;
	uint32_t min;			     /* of a size */
	uint32_t max;			     /* of a number, or of the length of a path; 0: none */
	const struct config_choice *choices; /* in the order of their enum; the last has no name */
	uint16_t port;			     /* of the example in messages */
};

enum config_agent_key {
	CONFIG_AGENT_CGROUP_ROOT,
	CONFIG_AGENT_PIN_DIR,
	CONFIG_AGENT_CONTROL_SOCKET,
	CONFIG_AGENT_METRICS_LISTEN,
	CONFIG_AGENT_LOG_LEVEL,
	CONFIG_AGENT_FALLBACK,
	CONFIG_AGENT_SPLICE_NEVER,
	CONFIG_AGENT_RELOAD_ON_CHANGE,
	CONFIG_AGENT_KEYS,
};

enum config_mesh_key {
	CONFIG_MESH_CGROUPS,
	CONFIG_MESH_SIDECAR_CGROUPS,
	CONFIG_MESH_SIDECAR_UIDS,
	CONFIG_MESH_SIDECAR_GIDS,
	CONFIG_MESH_TCP_REDIRECT,
	CONFIG_MESH_DNS_REDIRECT,
	CONFIG_MESH_INBOUND_REDIRECT,
	CONFIG_MESH_INCLUDE_CIDRS,
	CONFIG_MESH_EXCLUDE_CIDRS,
	CONFIG_MESH_INCLUDE_PORTS,
	CONFIG_MESH_EXCLUDE_PORTS,
	CONFIG_MESH_EXCLUDE_UIDS,
	CONFIG_MESH_EXCLUDE_GIDS,
	CONFIG_MESH_INBOUND_INCLUDE_PORTS,
	CONFIG_MESH_INBOUND_EXCLUDE_PORTS,
	CONFIG_MESH_SPLICE,
	CONFIG_MESH_ON_SIDECAR_DOWN,
	CONFIG_MESH_KEYS,
};

enum config_section_kind {
	CONFIG_SECTION_AGENT,
	CONFIG_SECTION_LIMITS,
	CONFIG_SECTION_MESH,
	CONFIG_SECTIONS,
};

struct config_section {
	const char *name;
	const struct config_key *keys;
	size_t n_keys;
};

/* What a section said about one of its keys. */
struct config_given {
	unsigned int line; /* 0: nothing */
	size_t n;	   /* values, wrong ones too */
};

struct config_draft {
	const char *path;
	unsigned int line; /* that is being read */
	struct config *config;
	struct config_problems *problems;
	size_t first_problem; /* of this file; those before it are of others */

	const struct config_section *section;	     /* NULL: none, or an unknown one */
	const struct config_key *key;		     /* NULL: its values are passed over */
	struct config_given given[CONFIG_MESH_KEYS]; /* by index of the key in its section */
	unsigned int section_lines[CONFIG_SECTIONS]; /* of [agent] and [limits]; 0: none yet */
	bool splice_never_given;

	int error; /* -ENOMEM: what is missing here is no mistake of the file */
};

/* config.c */
__attribute__((format(printf, 3, 4))) void
config_draft_error(struct config_draft *draft, unsigned int line, const char *format, ...);
__attribute__((format(printf, 3, 4))) void
config_draft_warning(struct config_draft *draft, unsigned int line, const char *format, ...);
/* Room for one more behind @n items, or NULL: the room doubles whenever @n is a power of two. */
void *config_draft_grow(struct config_draft *draft, void *items, size_t n, size_t size);

/* config_keys.c */
extern const struct config_section config_sections[CONFIG_SECTIONS];

/* config_ini.c: 0, -ENOMEM, the errno of reading @stream, or -EINVAL: not read to its end. */
int config_ini_read(FILE *stream, struct config_draft *draft);

/* config_section.c. @header is a line that begins with '['. A value may come in several pieces. */
void config_section_begin(struct config_draft *draft, char *header);
void config_section_key(struct config_draft *draft, const char *name);
void config_section_value(struct config_draft *draft, const char *text, bool continued);
void config_section_end(struct config_draft *draft);
/* What no section of the file said. */
void config_section_defaults(struct config_draft *draft);

/* config_value.c: values of struct config_key.parse. */
void config_value_path(struct config_draft *draft, void *field, const char *text);
void config_value_number(struct config_draft *draft, void *field, const char *text);
void config_value_size(struct config_draft *draft, void *field, const char *text);
void config_value_choice(struct config_draft *draft, void *field, const char *text);
void config_value_log_level(struct config_draft *draft, void *field, const char *text);
void config_value_glob(struct config_draft *draft, void *field, const char *text);
void config_value_program(struct config_draft *draft, void *field, const char *text);
void config_value_endpoint(struct config_draft *draft, void *field, const char *text);
void config_value_listen(struct config_draft *draft, void *field, const char *text);
void config_value_cidr(struct config_draft *draft, void *field, const char *text);
void config_value_ports(struct config_draft *draft, void *field, const char *text);
void config_value_uid(struct config_draft *draft, void *field, const char *text);
void config_value_gid(struct config_draft *draft, void *field, const char *text);

/* config_check.c. A mesh is checked while what was given is at hand: at the end of its section. */
void config_check_mesh(struct config_draft *draft, const struct config_mesh *mesh);
void config_check_file(struct config_draft *draft);
