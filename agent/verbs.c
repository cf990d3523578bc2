/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent answers to shuntctl: which verbs there are, the short ones, and what all answers
 * are made with.
 * Reads from: a question.
 * Writes to: JSON results; reload and detach act through agent.
 */
#include "verbs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "flows.h"
#include "util/cleanup.h"
#include "verbs_answer.h"

static const char *const verbs_counters[] = {
#define X(name, text) "connect_" #name,
	SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) "sendmsg_" #name,
		SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) "splice_plain_" #name,
			SHUNT_REASONS(X)
#undef X
#define X(name, text) "closed_" #name,
				SHUNT_REASONS(X)
#undef X
#define X(name, text) #name,
					SHUNT_COUNTERS(X)
#undef X
};

int verbs_fail(char **ret_error, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (vasprintf(ret_error, format, args) < 0)
		*ret_error = NULL;
	va_end(args);
	return error;
}

/* Most of what can be asked is of what is in force. */
int verbs_need_redirect(const struct agent *agent, char **ret_error)
{
	if (agent->rung == AGENT_RUNG_REDIRECT)
		return 0;
	return verbs_fail(ret_error, -ENOTCONN,
			  agent->rung == AGENT_RUNG_NFTABLES
				  ? "nftables redirects (rung nftables), which does not tell"
				  : "nothing is redirected (rung off); the agent's log says why");
}

/* What can be asked wherever cgroups are enrolled, by programs or by rules of nftables. */
int verbs_need_enrol(const struct agent *agent, char **ret_error)
{
	return agent->rung != AGENT_RUNG_OFF ? 0 : verbs_need_redirect(agent, ret_error);
}

/* Takes @result; jansson gives NULL where memory ran out. */
int verbs_done(json_t *result, json_t **ret_result)
{
	if (!result)
		return -ENOMEM;
	*ret_result = result;
	return 0;
}

json_t *verbs_text(const char *text)
{
	json_t *string = json_string(text);
	_cleanup_free_ char *escaped = NULL;
	size_t n = 0;

	if (string)
		return string;
	escaped = calloc(strlen(text) + 1, 4);
	if (!escaped)
		return NULL;
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		n += sprintf(escaped + n, *c < 0x80 ? "%c" : "\\x%02x", *c);
	return json_string(escaped);
}

json_t *verbs_text_or_null(const char *text)
{
	return text ? verbs_text(text) : json_null();
}

static int verbs_read_counters(void *user, const json_t *request, json_t **ret_result,
			       char **ret_error)
{
	uint64_t counters[SHUNT_COUNTER_MAX];
	struct agent *agent = user;
	json_t *result;
	int r;

	if (verbs_need_redirect(user, ret_error))
		return -ENOTCONN;
	r = maps_read_counters(loader_maps(agent->loader), counters);
	if (r)
		return verbs_fail(ret_error, r, "the counters cannot be read: %s", strerror(-r));
	result = json_object();
	for (int i = 0; i < SHUNT_COUNTER_MAX; i++)
		json_object_set_new(result, verbs_counters[i], json_integer(counters[i]));
	return verbs_done(result, ret_result);
}

static int verbs_join(const struct config_problems *problems, char **ret)
{
	size_t size;
	FILE *stream = open_memstream(ret, &size);

	if (!stream)
		return -ENOMEM;
	for (size_t i = 0; i < problems->n; i++)
		if (problems->items[i].severity == CONFIG_ERROR)
			fprintf(stream, "%s%s", ftell(stream) ? "\n" : "", problems->items[i].text);
	return fclose(stream) ? -errno : 0;
}

/* What a reload asks for and does not get is no reason to refuse the rest of it. */
static void verbs_warn_of_splice(const struct agent *agent, json_t *warnings)
{
	json_t *lacks = verbs_splice_lacks(agent);

	if (json_is_string(lacks))
		json_array_append_new(
			warnings, json_sprintf("nothing is spliced: %s", json_string_value(lacks)));
	json_decref(lacks);
}

static int verbs_reload(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	struct config_problems problems = {};
	json_t *warnings = json_array();
	struct agent *agent = user;
	int r;

	r = agent_reload(agent, &problems);
	for (size_t i = 0; i < problems.n; i++)
		if (problems.items[i].severity == CONFIG_WARNING)
			json_array_append_new(warnings, verbs_text(problems.items[i].text));
	if (r && problems.n_errors)
		verbs_join(&problems, ret_error);
	else if (r == -ESHUTDOWN)
		verbs_fail(ret_error, r, "not reloaded: everything is being taken out");
	else if (r)
		verbs_fail(ret_error, r, "not reloaded: %s; the agent's log says more",
			   strerror(-r));
	config_problems_deinit(&problems);
	if (r) {
		json_decref(warnings);
		return r;
	}
	verbs_warn_of_splice(agent, warnings);
	return verbs_done(json_pack("{s:I, s:o}", "meshes", (json_int_t)agent->config->n_meshes,
				    "warnings", warnings),
			  ret_result);
}

/* Who asked has its answer when the connection ends, which is when everything is out. */
static int verbs_detach(void *user, const json_t *request, json_t **ret_result, char **ret_error)
{
	agent_detach(user);
	*ret_result = NULL;
	return 0;
}

const struct control_verb *verbs_table(void)
{
	static const struct control_verb table[] = {
		{"status", .run = verbs_status},
		{"counters", .run = verbs_read_counters},
		{"meshes", .run = verbs_meshes},
		{"cgroups", .run = verbs_cgroups},
		{"classify", .run = verbs_classify},
		{"explain", .run = verbs_explain},
		{"flows", .write = flows_answer},
		{"events", .stream = watch_answer},
		{"reload", .run = verbs_reload},
		{"detach", .run = verbs_detach},
		{.name = NULL},
	};

	return table;
}
