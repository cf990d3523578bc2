/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl top: the busiest connections and meshes: on a terminal live, else printed.
 * Reads from: the agent.
 * Writes to: stdout.
 */
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "top_terminal.h"
#include "top_view.h"

#define DELAY_DEFAULT 2
#define PRINT_WIDTH   200
#define TIMES_MAX     1000000

struct options {
	bool print;   /* without a terminal … */
	double times; /* … so often */
	double delay;
};

static int take_options(int argc, char **argv, struct options *ret)
{
	int option, r = 0;

	optind = 0; /* begin anew: main has read the options before the command */
	while (r == 0 && (option = getopt(argc, argv, "+:bd:n:")) != -1) {
		switch (option) {
		case 'b':
			ret->print = true;
			break;
		case 'd':
			r = cmd_take_number("top: -d", optarg, TOP_DELAY_MIN, TOP_DELAY_MAX,
					    &ret->delay);
			break;
		case 'n':
			r = cmd_take_number("top: -n", optarg, 1, TIMES_MAX, &ret->times);
			break;
		case ':':
			out_error("top: option '-%c' needs a value", optopt);
			return -EINVAL;
		default:
			out_error("top: an option is not understood; see shuntctl(8)");
			return -EINVAL;
		}
	}
	if (r == 0 && optind < argc) {
		out_error("top: '%s' is not understood", argv[optind]);
		return -EINVAL;
	}
	return r;
}

static json_t *mesh_json(const struct rates_mesh *mesh)
{
	return json_pack("{s:o, s:I, s:I, s:f, s:f, s:I}", "mesh",
			 mesh->name ? json_string(mesh->name) : json_null(), "flows",
			 (json_int_t)mesh->flows, "flows_spliced", (json_int_t)mesh->flows_spliced,
			 "spliced_per_s", mesh->spliced, "tcp_per_s", mesh->tcp, "spills",
			 mesh->spills);
}

/* A flow as `flows` tells it, and its rates; null: not known. */
static json_t *flow_json(const struct rates_flow *rate)
{
	json_t *flow = json_copy((json_t *)rate->flow);

	json_object_set_new(flow, "spliced_per_s",
			    rate->known ? json_real(rate->spliced) : json_null());
	json_object_set_new(flow, "tcp_per_s", rate->known ? json_real(rate->tcp) : json_null());
	return flow;
}

static void print_json(const struct rates *rates)
{
	_cleanup_json_ json_t *result = NULL;
	json_t *meshes = json_array(), *flows = json_array();

	for (size_t i = 0; i < rates->n_meshes; i++)
		json_array_append_new(meshes, mesh_json(&rates->meshes[i]));
	for (size_t i = 0; i < rates->n_flows; i++)
		json_array_append_new(flows, flow_json(&rates->flows[i]));
	result = json_pack("{s:f, s:o, s:o, s:o}", "seconds", rates->seconds, "all",
			   mesh_json(&rates->all), "meshes", meshes, "flows", flows);
	out_json(stdout, result);
}

static int print_text(const struct sample *now, const struct rates *rates, double delay)
{
	time_t seconds = time(NULL);
	struct top_screen screen;
	struct top_view view = {.now = now, .rates = rates, .delay = delay};
	char clock[16];
	int r;

	strftime(clock, sizeof(clock), "%H:%M:%S", localtime(&seconds));
	view.clock = clock;
	r = top_view_draw(&view, 0, PRINT_WIDTH, &screen);
	for (size_t i = 0; r == 0 && i < screen.n_lines; i++)
		puts(screen.lines[i].text);
	top_screen_deinit(&screen);
	return r;
}

static int print(const struct ctl *ctl, const struct options *options)
{
	struct sample before = {}, now = {};
	int r = sample_take(ctl, &before);

	for (int i = 0; r == 0 && i < options->times; i++) {
		struct rates rates;

		poll(NULL, 0, options->delay * 1000);
		r = sample_take(ctl, &now);
		if (r)
			break;
		r = rates_init(&rates, &before, &now);
		if (r) {
			out_error("top: %s", strerror(-r));
			break;
		}
		if (i && !ctl->json)
			puts("");
		if (ctl->json)
			print_json(&rates);
		else
			r = print_text(&now, &rates, options->delay);
		fflush(stdout);
		rates_deinit(&rates);
		sample_deinit(&before);
		before = now;
		now = (struct sample){};
	}
	sample_deinit(&before);
	sample_deinit(&now);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

int cmd_top(const struct ctl *ctl, int argc, char **argv)
{
	struct options options = {.times = 1, .delay = DELAY_DEFAULT};

	if (take_options(argc, argv, &options) < 0)
		return EXIT_USAGE;
	if (options.print || ctl->json)
		return print(ctl, &options);
	/* For ncurses, which is to know UTF-8. Numbers stay as they are everywhere else. */
	setlocale(LC_CTYPE, "");
	return top_terminal_run(ctl, options.delay);
}
