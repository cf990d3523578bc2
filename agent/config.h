/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file as data. config_load() reports every mistake at once; what it returns
 * without an error is complete: defaults filled in, lists parsed, every value in range.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "shunt/abi.h"

#define CONFIG_LINE_MAX	     4096	/* characters in a line */
#define CONFIG_FILE_MAX	     (16 << 20) /* bytes in the file */
#define CONFIG_MESH_NAME_MAX 63
#define CONFIG_METRICS_PORT  9464 /* of the default, on 127.0.0.1 */

enum config_fallback { CONFIG_FALLBACK_NFTABLES, CONFIG_FALLBACK_OFF, CONFIG_FALLBACK_FAIL };
enum config_sidecar_down { CONFIG_SIDECAR_DOWN_REFUSE, CONFIG_SIDECAR_DOWN_BYPASS };

/* Every list item knows its line, so that `shuntctl explain` can name the rule that decides. */
struct config_glob {
	char *pattern; /* absolute; of a cgroup: below cgroup_root, and without the '!' */
	bool negated;
	unsigned int line;
};

struct config_cidr {
	__be32 addr[4];	 /* v4-mapped, host bits zero */
	uint32_t prefix; /* 0 to 128, of the 128-bit address: 96 + n for IPv4 */
	unsigned int line;
};

struct config_ports {
	uint16_t first; /* host byte order, inclusive */
	uint16_t last;
	unsigned int line;
};

struct config_id {
	uint32_t id;
	unsigned int line;
};

struct config_globs {
	struct config_glob *items;
	size_t n;
};

struct config_cidrs {
	struct config_cidr *items;
	size_t n;
};

struct config_port_list {
	struct config_ports *items;
	size_t n;
};

enum config_switch { CONFIG_NO, CONFIG_YES };

struct config_ids {
	struct config_id *items;
	size_t n;
};

struct config_mesh {
	char *name;
	unsigned int line; /* of its section header */
	struct config_globs cgroups;
	struct config_globs sidecar_cgroups;
	struct config_ids sidecar_uids;
	struct config_ids sidecar_gids;
	struct shunt_endpoint tcp_redirect[SHUNT_FAMILIES]; /* port 0: none */
	unsigned int tcp_redirect_line;			    /* 0: not given */
	struct shunt_endpoint dns_redirect[SHUNT_FAMILIES];
	unsigned int dns_redirect_line;
	struct config_cidrs include_cidrs; /* default: 0.0.0.0/0, ::/0, with line 0 */
	struct config_cidrs exclude_cidrs;
	struct config_port_list include_ports; /* default: 0 to 65535, with line 0 */
	struct config_port_list exclude_ports;
	struct config_ids exclude_uids;
	struct config_ids exclude_gids;
	enum shunt_scope splice;
	enum config_sidecar_down on_sidecar_down;
	unsigned int on_sidecar_down_line;
};

struct config {
	char *path;	   /* of the file */
	char *cgroup_root; /* NULL: the cgroup2 mount */
	char *pin_dir;
	char *control_socket;
	struct shunt_endpoint metrics_listen; /* port 0: nowhere */
	char *log_level;		      /* one of error, warning, info, debug */
	enum config_fallback fallback;
	enum config_switch reload_on_change;
	struct config_globs splice_never; /* of paths of executables; a default has line 0 */
	uint32_t limit_flows;
	uint32_t limit_cgroups;
	uint32_t limit_rules;
	uint32_t limit_splice_queue; /* in bytes */
	struct config_mesh *meshes;  /* in the order of the file */
	size_t n_meshes;
};

enum config_severity { CONFIG_ERROR, CONFIG_WARNING };

struct config_problem {
	enum config_severity severity;
	unsigned int line; /* 0: the file as a whole */
	char *text;	   /* "file:line: what is wrong" */
};

struct config_problems {
	struct config_problem *items; /* in the order of the file */
	size_t n;
	size_t n_errors;
};

/*
 * Reads and checks the file at @path. Adds what is wrong to @problems, warnings too.
 * Returns 0 and *@ret, which the caller frees; -EINVAL if @problems has an error; -ENOMEM; or the
 * errno of opening and reading the file, which then stands in @problems as well.
 */
int config_load(const char *path, struct config_problems *problems, struct config **ret);

/* The same for a stream; @path is only used in texts. What fuzzers and unit tests call. */
int config_parse(FILE *stream, const char *path, struct config_problems *problems,
		 struct config **ret);

struct config *config_free(struct config *config); /* NULL-safe; returns NULL */
void config_problems_deinit(struct config_problems *problems);

/* Adds what only who applies @config can say of the file as a whole. */
void config_problems_warn(struct config_problems *problems, const struct config *config,
			  const char *what);
/* What only a start can change: gives @next the paths that @now has, and warns if it had others, or
 * other limits. @cgroup_root: the one in use, whether @now names it or not. 0 or -ENOMEM. */
int config_keep_until_restart(const struct config *now, const char *cgroup_root,
			      struct config *next, struct config_problems *problems);
