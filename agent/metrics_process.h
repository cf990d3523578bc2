/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What Prometheus is told of the agent as a process, under the names that every exporter has. */
#pragma once

#include "metrics_text.h"

/* What cannot be read is left out. */
void metrics_add_process(struct metrics_text *text);
