/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The status page, one file without anything from elsewhere, and what it shows as JSON. All of it
 * is for looking: nothing here changes anything. Each is a page of http; @user is the struct agent.
 */
#pragma once

#include "http.h"

int page_index(void *user, const struct http_request *request, struct http_answer *ret);
/* As shuntctl -j prints them. */
int page_status(void *user, const struct http_request *request, struct http_answer *ret);
int page_counters(void *user, const struct http_request *request, struct http_answer *ret);
int page_meshes(void *user, const struct http_request *request, struct http_answer *ret);
/* The busiest connections and edges: survey.h. */
int page_flows(void *user, const struct http_request *request, struct http_answer *ret);
int page_graph(void *user, const struct http_request *request, struct http_answer *ret);
