/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration as a whole: how it is made, its defaults, what was wrong with it, its end.
 * Reads from: the configuration file.
 * Writes to: struct config and struct config_problems of the caller.
 */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "config_draft.h"
#include "shunt/proto.h"
#include "util/addr.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(struct config *, config_free)

static int config_new(const char *path, struct config **ret)
{
	_cleanup_(cleanup_config_free) struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return -ENOMEM;
	*config = (struct config){
		.path = strdup(path),
		.pin_dir = strdup(SHUNT_DEFAULT_PIN_DIR),
		.control_socket = strdup(SHUNT_DEFAULT_SOCKET),
		.log_level = strdup("info"),
		.fallback = CONFIG_FALLBACK_NFTABLES,
		.limit_flows = 65536,
		.limit_cgroups = 16384,
		.limit_rules = 65536,
		.limit_splice_queue = 1 << 20,
	};
	addr_parse("127.0.0.1", config->metrics_listen.addr);
	config->metrics_listen.port = htons(CONFIG_METRICS_PORT);
	if (!config->path || !config->pin_dir || !config->control_socket || !config->log_level)
		return -ENOMEM;
	*ret = TAKE_PTR(config);
	return 0;
}

static void globs_deinit(struct config_globs *globs)
{
	for (size_t i = 0; i < globs->n; i++)
		free(globs->items[i].pattern);
	free(globs->items);
}

static void mesh_deinit(struct config_mesh *mesh)
{
	free(mesh->name);
	globs_deinit(&mesh->cgroups);
	globs_deinit(&mesh->sidecar_cgroups);
	free(mesh->sidecar_uids.items);
	free(mesh->sidecar_gids.items);
	free(mesh->include_cidrs.items);
	free(mesh->exclude_cidrs.items);
	free(mesh->include_ports.items);
	free(mesh->exclude_ports.items);
	free(mesh->exclude_uids.items);
	free(mesh->exclude_gids.items);
}

struct config *config_free(struct config *config)
{
	if (!config)
		return NULL;
	for (size_t i = 0; i < config->n_meshes; i++)
		mesh_deinit(&config->meshes[i]);
	free(config->meshes);
	globs_deinit(&config->splice_never);
	free(config->path);
	free(config->cgroup_root);
	free(config->pin_dir);
	free(config->control_socket);
	free(config->log_level);
	free(config);
	return NULL;
}

void config_problems_deinit(struct config_problems *problems)
{
	for (size_t i = 0; i < problems->n; i++)
		free(problems->items[i].text);
	free(problems->items);
	*problems = (struct config_problems){0};
}

void *config_draft_grow(struct config_draft *draft, void *items, size_t n, size_t size)
{
	if (n & (n - 1))
		return items;
	items = reallocarray(items, n ? 2 * n : 1, size);
	if (!items)
		draft->error = -ENOMEM;
	return items;
}

/* Returns NULL if there is no memory. */
static char *problem_text(const struct config_draft *draft, unsigned int line, const char *format,
			  va_list args)
{
	_cleanup_free_ char *what = NULL;
	char *text;
	int r;

	if (vasprintf(&what, format, args) < 0) {
		what = NULL;
		return NULL;
	}
	/* It quotes the file, and ends up on terminals. */
	for (char *p = what; *p; p++)
		if (iscntrl((unsigned char)*p))
			*p = '?';
	if (line)
		r = asprintf(&text, "%s:%u: %s", draft->path, line, what);
	else
		r = asprintf(&text, "%s: %s", draft->path, what);
	return r < 0 ? NULL : text;
}

/* Keeps the order of the lines: a section is judged as a whole after its lines were. */
static void add_problem(struct config_draft *draft, enum config_severity severity,
			unsigned int line, const char *format, va_list args)
{
	struct config_problem problem = {
		.severity = severity,
		.line = line,
		.text = problem_text(draft, line, format, args),
	};
	struct config_problems *problems = draft->problems;
	struct config_problem *items;
	size_t i;

	items = config_draft_grow(draft, problems->items, problems->n, sizeof(*items));
	if (!problem.text || !items) {
		free(problem.text);
		draft->error = -ENOMEM;
	}
	if (!items)
		return;
	problems->items = items;
	if (!problem.text)
		return;

	for (i = problems->n; i > draft->first_problem && items[i - 1].line > problem.line; i--)
		items[i] = items[i - 1];
	items[i] = problem;
	problems->n++;
	problems->n_errors += problem.severity == CONFIG_ERROR;
}

void config_draft_error(struct config_draft *draft, unsigned int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem(draft, CONFIG_ERROR, line, format, args);
	va_end(args);
}

void config_draft_warning(struct config_draft *draft, unsigned int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	add_problem(draft, CONFIG_WARNING, line, format, args);
	va_end(args);
}

void config_problems_warn(struct config_problems *problems, const struct config *config,
			  const char *what)
{
	struct config_draft draft = {.path = config->path, .problems = problems};

	config_draft_warning(&draft, 0, "%s", what);
}

int config_parse(FILE *stream, const char *path, struct config_problems *problems,
		 struct config **ret)
{
	_cleanup_(cleanup_config_free) struct config *config = NULL;
	struct config_draft draft = {0};
	size_t errors_before = problems->n_errors;
	int r;

	r = config_new(path, &config);
	if (r < 0)
		return r;
	draft.path = path;
	draft.config = config;
	draft.problems = problems;
	draft.first_problem = problems->n;

	r = config_ini_read(stream, &draft);
	if (r < 0)
		return r;
	config_section_end(&draft);
	config_section_defaults(&draft);
	config_check_file(&draft);
	if (draft.error < 0)
		return draft.error;
	if (problems->n_errors > errors_before)
		return -EINVAL;
	*ret = TAKE_PTR(config);
	return 0;
}

int config_load(const char *path, struct config_problems *problems, struct config **ret)
{
	_cleanup_fclose_ FILE *stream = NULL;

	stream = fopen(path, "re");
	if (!stream) {
		struct config_draft draft = {
			.path = path,
			.problems = problems,
			.first_problem = problems->n,
		};
		int r = -errno;

		config_draft_error(&draft, 0, "cannot be opened: %s", strerror(-r));
		return draft.error < 0 ? draft.error : r;
	}
	return config_parse(stream, path, problems, ret);
}
