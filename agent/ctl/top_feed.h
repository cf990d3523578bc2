/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Samples, one after the other, from a thread of their own: an agent that is slow to answer does
 * not keep the keys waiting.
 */
#pragma once

#include "sample.h"

struct top_feed;

struct top_look {
	struct sample sample; /* .flows is NULL if there is none … */
	char *trouble;	      /* … for this reason */
};

/*
 * Looks every @seconds, the second time after one second at most. The feed ends with the
 * process. Returns 0 or negative errno.
 */
int top_feed_start(const struct ctl *ctl, double seconds, struct top_feed **ret);
int top_feed_fd(const struct top_feed *feed); /* readable: there is one to be taken */
/* The newest; false if it was taken already. The caller frees what is in it. */
bool top_feed_take(struct top_feed *feed, struct top_look *ret);
void top_feed_set_delay(struct top_feed *feed, double seconds);
void top_feed_hurry(struct top_feed *feed); /* look at once */

void top_look_deinit(struct top_look *look);
