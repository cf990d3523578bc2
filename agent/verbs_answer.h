/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the files of verbs share: answers, and how they are made. */
#pragma once

#include "control.h"

struct agent;

extern const char *const verbs_roles[]; /* by enum shunt_role */

/* Returns @error; *@ret_error is what to say. */
__attribute__((format(printf, 3, 4))) int verbs_fail(char **ret_error, int error,
						     const char *format, ...);
/* -ENOTCONN and what to say, if no cgroups are enrolled; else 0. */
int verbs_need_enrol(const struct agent *agent, char **ret_error);
/* Takes @result; -ENOMEM if it is NULL. */
int verbs_done(json_t *result, json_t **ret_result);
/* verbs_text(), or null for NULL. */
json_t *verbs_text_or_null(const char *text);
/* Why nothing is spliced although some mesh asks for it, or null. */
json_t *verbs_splice_lacks(const struct agent *agent);

/* Verbs: see control_verb_fn. */
int verbs_status(void *user, const json_t *request, json_t **ret_result, char **ret_error);
int verbs_meshes(void *user, const json_t *request, json_t **ret_result, char **ret_error);
int verbs_cgroups(void *user, const json_t *request, json_t **ret_result, char **ret_error);
int verbs_classify(void *user, const json_t *request, json_t **ret_result, char **ret_error);
int verbs_explain(void *user, const json_t *request, json_t **ret_result, char **ret_error);
