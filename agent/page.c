/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The status page.
 * Reads from: page/index.html, which is compiled in; verbs; survey.
 * Writes to: HTTP answers.
 */
#include "page.h"

#include <errno.h>
#include <string.h>

#include "agent.h"
#include "page_html.h"
#include "survey.h"
#include "util/cleanup.h"
#include "verbs.h"

CLEANUP_DEFINE(json_t *, json_decref)
#define _cleanup_json_ _cleanup_(cleanup_json_decref)

/* Nothing is run but what is in the file, known by its digest; nothing is fetched but from here. */
static const struct http_field page_fields[] = {
	{"Content-Security-Policy",
	 "default-src 'none'; script-src " PAGE_SCRIPT_DIGEST "; style-src " PAGE_STYLE_DIGEST
	 "; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{},
};

static const struct http_field page_json_fields[] = {
	{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{},
};

int page_index(void *user, const struct http_request *request, struct http_answer *ret)
{
	*ret = (struct http_answer){
		.type = "text/html; charset=utf-8",
		.fields = page_fields,
		.body = (char *)page_html,
		.borrowed = true,
		.len = sizeof(page_html),
	};
	return 0;
}

/* Takes @body. */
static int page_json(char *body, size_t len, struct http_answer *ret)
{
	if (!body)
		return -ENOMEM;
	*ret = (struct http_answer){
		.type = "application/json",
		.fields = page_json_fields,
		.body = body,
		.len = len,
	};
	return 0;
}

/* The answer to a question of shuntctl's that needs no more than its name. */
static int page_verb(struct agent *agent, const char *name, struct http_answer *ret)
{
	_cleanup_json_ json_t *request = json_pack("{s:s}", "verb", name), *result = NULL;
	const struct control_verb *verb = verbs_table();
	_cleanup_free_ char *error = NULL;
	char *body;
	int r;

	if (!request)
		return -ENOMEM;
	while (strcmp(verb->name, name) != 0)
		verb++;
	r = verb->run(agent, request, &result, &error);
	if (r)
		return r;
	body = json_dumps(result, JSON_COMPACT);
	return page_json(body, body ? strlen(body) : 0, ret);
}

int page_status(void *user, const struct http_request *request, struct http_answer *ret)
{
	return page_verb(user, "status", ret);
}

int page_counters(void *user, const struct http_request *request, struct http_answer *ret)
{
	return page_verb(user, "counters", ret);
}

int page_meshes(void *user, const struct http_request *request, struct http_answer *ret)
{
	return page_verb(user, "meshes", ret);
}

static int page_survey(struct agent *agent, enum survey_text which, struct http_answer *ret)
{
	const char *text;
	size_t len;

	if (agent->rung != AGENT_RUNG_REDIRECT)
		return -ENOTCONN;
	text = survey_text(agent->survey, which, &len);
	return page_json(strdup(text), len, ret);
}

int page_flows(void *user, const struct http_request *request, struct http_answer *ret)
{
	return page_survey(user, SURVEY_FLOWS, ret);
}

int page_graph(void *user, const struct http_request *request, struct http_answer *ret)
{
	return page_survey(user, SURVEY_GRAPH, ret);
}
