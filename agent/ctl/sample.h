/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One look at the agent. What happens between two of them are rates. */
#pragma once

#include "cmd.h"

struct sample {
	double at; /* CLOCK_MONOTONIC, in seconds */
	json_t *status;
	json_t *counters;
	json_t *flows; /* an array, as `shuntctl -j flows` prints it */
};

/* Asks the agent. Returns 0, or negative errno after it has said what is wrong. */
int sample_take(const struct ctl *ctl, struct sample *ret);
void sample_deinit(struct sample *sample);
