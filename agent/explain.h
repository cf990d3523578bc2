/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What would happen to a connect(): the kernel half's own decision code (bpf/decide.bpf.h), asked
 * in user space, with the line of the configuration that decides.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "policy.h"

#define EXPLAIN_STEPS_MAX 16

struct explain_query {
	const char *cgroup_root; /* the cgroup2 mount or what the configuration says */
	pid_t pid;    /* whose network namespace is asked for the sidecar; 0: none is known */
	uint32_t uid; /* of the process, or of nobody: see owner_known */
	uint32_t gid;
	bool owner_known;
	struct shunt_endpoint destination;
	uint32_t protocol; /* IPPROTO_… */
};

struct explain_answer {
	enum shunt_outcome outcome;
	struct shunt_endpoint target;	/* if redirected */
	char *rule;			/* "file:line: key = …", or NULL */
	char *steps[EXPLAIN_STEPS_MAX]; /* what was asked and found, in order */
	size_t n_steps;
};

/* @match: what the cgroup is, NULL if nobody has classified it. 0 or -ENOMEM. */
int explain_connect(const struct policy *policy, const struct policy_match *match,
		    const struct explain_query *query, struct explain_answer *ret);
void explain_answer_deinit(struct explain_answer *answer);

const char *explain_outcome_name(enum shunt_outcome outcome);
const char *explain_outcome_text(enum shunt_outcome outcome);

/* "file:line: cgroups = /a" for the rule of @match, or NULL (also when out of memory). */
char *explain_match_rule(const struct policy *policy, const struct policy_match *match);
