/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A cgroup to try something in, which is there for that time only. */
#pragma once

#include <stdbool.h>

struct cgroup_trial {
	int root; /* open directories: where it is made, … */
	int fd;	  /* … and itself */
	char name[64];
};

#define CGROUP_TRIAL_NULL             \
	{                             \
		.root = -1, .fd = -1, \
	}

/*
 * Makes it below @cgroup_root, or below the agent's own if it may not write there, named @prefix
 * and the number of this process; removes first what processes that are gone left of such. 0 or
 * negative errno.
 */
int cgroup_trial_init(struct cgroup_trial *trial, const char *cgroup_root, const char *prefix);
/* Removes it; who was in it has ended. Logs if that fails. */
void cgroup_trial_deinit(struct cgroup_trial *trial);

/* Can one be made now, but by none of the privileges that the agent keeps when it is ready? */
bool cgroup_trial_now_or_never(const char *cgroup_root);
