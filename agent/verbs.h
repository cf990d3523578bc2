/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent answers to shuntctl. The user pointer of each verb is the struct agent. */
#pragma once

#include "agent.h"
#include "control.h"

/* Ends with a NULL name. */
const struct control_verb *verbs_table(void);

/* -ENOTCONN and what to say, if nothing is redirected; else 0. */
int verbs_need_redirect(const struct agent *agent, char **ret_error);
/* The rung of the ladder that is in force. */
const char *verbs_rung(const struct agent *agent);
/* Whether anything is spliced: "on", "off" (not wanted), "kernel" (cannot). */
const char *verbs_splice(const struct agent *agent);

struct verbs_map_fill {
	const char *name;
	uint64_t used;
	uint64_t max;
};

#define VERBS_MAPS	4
#define VERBS_MAP_PAIRS 3 /* which of them has the connections */

/* How full the maps are; not on rung off. @counters: by enum shunt_counter. */
void verbs_map_fills(const struct agent *agent, const uint64_t *counters,
		     struct verbs_map_fill ret[VERBS_MAPS]);
/* @text, of any bytes, as JSON, which is UTF-8: what is not is written as \xNN. */
json_t *verbs_text(const char *text);
/* Begins with /, and has no . or .. for a part. What to say of one that is none. */
bool verbs_is_cgroup_path(const char *text);
#define VERBS_NO_CGROUP_PATH "cgroup: a path that begins with /, without . and .., is needed"
/* "/a/b" for "/a/b/", "/sys/fs/cgroup/a/b" and "/a/b"; the caller frees. */
char *verbs_cgroup_path(struct agent *agent, const char *text);
