/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* `shuntctl top` on a terminal: keys, refresh, resizes, and a clean end. */
#pragma once

#include "cmd.h"

#define TOP_DELAY_MIN 0.1 /* seconds between two looks */
#define TOP_DELAY_MAX 3600

/* Returns an exit status, with the terminal as it was before. */
int top_terminal_run(const struct ctl *ctl, double delay);
