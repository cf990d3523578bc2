/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl graph: who talks to whom, as Graphviz DOT, or drawn by Graphviz.
 * Reads from: the agent, twice.
 * Writes to: stdout; with -T by way of dot(1).
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cmd.h"
#include "graph.h"

#define SECONDS_DEFAULT 1
#define SECONDS_MAX	3600
#define EDGES_DEFAULT	200
#define EDGES_MAX	10000

struct options {
	double seconds; /* between the samples; 0: one is enough */
	size_t edges;
	const char *format; /* NULL: DOT */
};

/* What dot(1) may be told: svg, png:cairo, … */
static int take_format(const char *text, const char **ret)
{
	if (!*text || text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789:_")]) {
		out_error("graph: -T: '%s' is no format; svg, png and pdf are", text);
		return -EINVAL;
	}
	*ret = text;
	return 0;
}

static int take_options(int argc, char **argv, struct options *ret)
{
	double edges = EDGES_DEFAULT;
	int option, r = 0;

	optind = 0; /* begin anew: main has read the options before the command */
	while (r == 0 && (option = getopt(argc, argv, "+:i:n:T:")) != -1) {
		switch (option) {
		case 'i':
			r = cmd_take_number("graph: -i", optarg, 0, SECONDS_MAX, &ret->seconds);
			break;
		case 'n':
			r = cmd_take_number("graph: -n", optarg, 1, EDGES_MAX, &edges);
			break;
		case 'T':
			r = take_format(optarg, &ret->format);
			break;
		case ':':
			out_error("graph: option '-%c' needs a value", optopt);
			return -EINVAL;
		default:
			out_error("graph: an option is not understood; see shuntctl(8)");
			return -EINVAL;
		}
	}
	ret->edges = edges;
	if (r == 0 && optind < argc) {
		out_error("graph: '%s' is not understood", argv[optind]);
		return -EINVAL;
	}
	return r;
}

/* Has dot(1) draw @text. Returns an exit status. */
static int draw(const char *text, size_t len, const char *format)
{
	_cleanup_free_ char *argument = NULL;
	int ends[2], status;
	FILE *stream;
	pid_t pid;

	if (asprintf(&argument, "-T%s", format) < 0 || pipe(ends) < 0) {
		out_error("graph: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	pid = fork();
	if (pid == 0) {
		dup2(ends[0], STDIN_FILENO);
		close(ends[0]);
		close(ends[1]);
		execlp("dot", "dot", argument, (char *)NULL);
		if (errno == ENOENT)
			out_error("graph: there is no dot(1): install graphviz, or leave out -T");
		else
			out_error("graph: dot: %s", strerror(errno));
		_exit(127);
	}
	close(ends[0]);
	signal(SIGPIPE, SIG_IGN); /* its exit status says more */
	stream = fdopen(ends[1], "w");
	if (stream) {
		fwrite(text, 1, len, stream);
		fclose(stream);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		out_error("graph: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int print(const struct ctl *ctl, const struct options *options, const struct graph *graph)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *text = NULL;
	FILE *stream;
	size_t len;
	int r;

	if (ctl->json) {
		json = graph_json(graph);
		out_json(stdout, json);
		return EXIT_SUCCESS;
	}
	stream = open_memstream(&text, &len);
	r = stream ? graph_write_dot(graph, stream) : -ENOMEM;
	if (stream && fclose(stream) != 0)
		r = -ENOMEM;
	if (r < 0) {
		out_error("graph: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	if (options->format)
		return draw(text, len, options->format);
	fwrite(text, 1, len, stdout);
	return EXIT_SUCCESS;
}

static int look(const struct ctl *ctl, const struct options *options)
{
	struct sample before = {}, now = {};
	struct graph graph = {};
	struct rates rates = {};
	int status = EXIT_FAILURE, r;

	r = sample_take(ctl, &now);
	if (r == 0 && options->seconds > 0) {
		before = now;
		now = (struct sample){};
		poll(NULL, 0, options->seconds * 1000);
		r = sample_take(ctl, &now);
	}
	if (r == 0) {
		r = rates_init(&rates, options->seconds > 0 ? &before : NULL, &now);
		r = r ?: graph_init(&graph, &rates, options->edges);
		if (r < 0)
			out_error("graph: %s", strerror(-r));
	}
	if (r == 0)
		status = print(ctl, options, &graph);
	graph_deinit(&graph);
	rates_deinit(&rates);
	sample_deinit(&before);
	sample_deinit(&now);
	return status;
}

int cmd_graph(const struct ctl *ctl, int argc, char **argv)
{
	struct options options = {.seconds = SECONDS_DEFAULT};

	if (take_options(argc, argv, &options) < 0)
		return EXIT_USAGE;
	return look(ctl, &options);
}
