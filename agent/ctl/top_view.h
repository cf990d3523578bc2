/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What `shuntctl top` shows, as lines of text that fit. Pure: it knows nothing of terminals.
 */
#pragma once

#include "rates.h"

enum top_order {
	TOP_ORDER_BYTES, /* moved a second, either way */
	TOP_ORDER_SPLICED,
	TOP_ORDER_TCP,
	TOP_ORDER_SPILLS,
	TOP_ORDER_AGE,
	TOP_ORDERS,
};

struct top_view {
	const struct sample *now; /* NULL: nothing is known yet */
	const struct rates *rates;
	enum top_order order; /* the most first … */
	bool reverse;	      /* … or the least */
	bool hide_idle;	      /* connections that moved nothing */
	bool hide_meshes;
	bool help;	     /* in place of everything */
	size_t first;	     /* of the connections: which one stands at the top */
	double delay;	     /* seconds between two looks */
	const char *clock;   /* "23:14:05" */
	const char *trouble; /* NULL, or why this is not up to date */
	const char *prompt;  /* NULL, or what is being asked, with what was typed so far */
};

enum top_style {
	TOP_STYLE_PLAIN,
	TOP_STYLE_HEAD,	   /* of a table */
	TOP_STYLE_SPLICED, /* a connection that is */
	TOP_STYLE_TROUBLE,
};

struct top_line {
	char *text; /* UTF-8 without control characters; no wider than asked for */
	enum top_style style;
};

struct top_screen {
	struct top_line *lines;
	size_t n_lines; /* as many as asked for at most */
	size_t n_flows; /* that could be shown, scrolled or not */
	size_t page;	/* as many fit */
};

/* @rows: 0: as many as it takes. Returns 0 or -ENOMEM. */
int top_view_draw(const struct top_view *view, size_t rows, size_t columns, struct top_screen *ret);
void top_screen_deinit(struct top_screen *screen);
