/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a reload cannot change.
 * Reads from: the configuration in force, the next one.
 * Writes to: the next one; its problems.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool keep_same(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* What is in force stays so, and so does what the agent says of it; *@changed: @next has another.
 */
static int keep_path(const char *now, char **next, bool *changed)
{
	char *kept;

	if (keep_same(now, *next))
		return 0;
	kept = now ? strdup(now) : NULL;
	if (now && !kept)
		return -ENOMEM;
	free(*next);
	*next = kept;
	*changed = true;
	return 0;
}

int config_keep_until_restart(const struct config *now, const char *cgroup_root,
			      struct config *next, struct config_problems *problems)
{
	bool changed = false;
	int r = 0;

	/* Where it was left out, it may be given now as what it is. */
	if (!keep_same(next->cgroup_root, cgroup_root))
		r = keep_path(now->cgroup_root, &next->cgroup_root, &changed);
	r = r ?: keep_path(now->pin_dir, &next->pin_dir, &changed);
	r = r ?: keep_path(now->control_socket, &next->control_socket, &changed);
	if (r)
		return r;
	if (changed || now->limit_flows != next->limit_flows ||
	    now->limit_cgroups != next->limit_cgroups || now->limit_rules != next->limit_rules)
		config_problems_warn(
			problems, next,
			"changes of pin_dir, control_socket, cgroup_root and [limits] take effect when the agent is started again; that of flows when that is after a detach");
	return 0;
}
