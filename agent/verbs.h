/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent answers to shuntctl. The user pointer of each verb is the struct agent. */
#pragma once

#include "agent.h"
#include "control.h"

/* Ends with a NULL name. */
const struct control_verb *verbs_table(void);

/* -ENOTCONN and what to say, if nothing is redirected; else 0. */
int verbs_need_redirect(const struct agent *agent, char **ret_error);
/* @text, of any bytes, as JSON, which is UTF-8: what is not is written as \xNN. */
json_t *verbs_text(const char *text);
/* "/a/b" for "/a/b/", "/sys/fs/cgroup/a/b" and "/a/b"; the caller frees. */
char *verbs_cgroup_path(struct agent *agent, const char *text);
