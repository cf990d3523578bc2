/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All connections, looked at again and again while somebody asks what goes on, a few of them in
 * each turn of the loop. Once nobody has asked for a while it rests, and keeps nothing.
 */
#pragma once

#include <stddef.h>

#include "agent.h"

#define SURVEY_EVERY_MS	   2000	 /* from the begin of one to the begin of the next, at least */
#define SURVEY_PATIENCE_MS 10000 /* after the last question */
#define SURVEY_EDGES	   200	 /* told, of who talks to whom */

struct survey;

/* What a survey came to, as JSON; shuntctl(8) and the status page say what it means. */
enum survey_text {
	SURVEY_FLOWS, /* sums, meshes, and the SUMS_FLOWS busiest connections */
	SURVEY_GRAPH, /* the SURVEY_EDGES busiest edges, as `shuntctl -j graph` has them */
	SURVEY_TEXTS,
};

/* @agent is borrowed. 0 or negative errno. */
int survey_new(struct agent *agent, struct survey **ret);
/* NULL-safe. Handles are closed in later turns of the loop. */
void survey_close(struct survey *survey);

/*
 * The newest that is there, borrowed until the next turn of the loop; and has more made for a
 * while. Before the first is complete it is an object with "taken": 0 alone; later ones have
 * other numbers.
 */
const char *survey_text(struct survey *survey, enum survey_text which, size_t *ret_len);
