/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What Prometheus is told of the agent, its maps and what the kernel half has counted. */
#pragma once

#include "http.h"

/* A page; @user is the struct agent. */
int metrics_page(void *user, const struct http_request *request, struct http_answer *ret);
