/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happens to connections, told to whoever asks as it happens. The kernel half tells it only
 * while somebody does.
 */
#pragma once

#include <jansson.h>
#include <uv.h>

#include "control.h"

struct agent;
struct watch;

/* @agent has a loader, a policy before the first event, and outlives it. 0 or negative errno. */
int watch_new(struct agent *agent, struct watch **ret);
/* NULL-safe. The control is closed, or has no streams. A handle is closed in a later turn. */
void watch_close(struct watch *watch);

/* A verb; @user is the struct agent. The question has the filters of flows (flow_filter.h). */
int watch_answer(void *user, const json_t *request, struct control_stream *stream,
		 char **ret_error);
