/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of connections that are over, with spliced bytes unread before those of TCP. The kernel
 * half cannot tell them anything any more; once they have read the first, this takes them out of
 * the sockhash, so that FIONREAD counts the second, and gives them an edge. docs/SPLICING.md.
 */
#pragma once

#include <stdbool.h>

#include "maps.h"

/* An edge without a byte for the reader of @fd, if it has bytes of TCP to read. 0 or negative
 * errno. */
int strand_kick(int fd);

/* @stop: SHUNT_WALK_STRANDED, _BEHIND or _KICK. *@ret_waits: it is to be visited again, once it has
 * read. 0 or negative errno; -ENOENT: it is not there any more, and may be elsewhere. */
int strand_visit(const struct maps *maps, const struct shunt_stop *stop, bool *ret_waits);
