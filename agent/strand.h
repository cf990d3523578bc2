/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of connections that are over, with spliced bytes unread before those of TCP. The kernel
 * half cannot tell them anything any more; once they have read the first, this takes them out of
 * the sockhash, so that FIONREAD counts the second, and gives them an edge. docs/SPLICING.md.
 */
#pragma once

#include <uv.h>

#include "maps.h"

struct strand;

/* @maps is borrowed. 0 or -ENOMEM. */
int strand_new(uv_loop_t *loop, const struct maps *maps, struct strand **ret);
/* Handles are closed in later turns of the loop. NULL is fine. */
void strand_close(struct strand *strand);
/* Does FIONREAD count TCP's bytes of a socket that is in the sockhash? Not so until told. */
void strand_set_counts_all(struct strand *strand, bool counts_all);
/* @event: SHUNT_EVENT_STRANDED. Copied. */
void strand_add(struct strand *strand, const struct shunt_event *event);
/* @stop: SHUNT_WALK_STRANDED. For a reader that an agent before this one was told of. */
void strand_find(struct strand *strand, const struct shunt_stop *stop);
