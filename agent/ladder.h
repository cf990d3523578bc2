/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The ladder: what redirects, and how the agent comes to a higher rung of it. */
#pragma once

#include "agent.h"

/* Down from the highest rung, as far as the configuration lets. A second agent is no reason to go
 * down, and neither is one that cannot take over. */
int ladder_climb(struct agent *agent);
/* A reload tries a higher rung again: what was missing may have been mended. Takes @config on
 * success. */
int ladder_climb_again(struct agent *agent, struct config *config);
/* Takes out what a start that failed has put in. What an earlier agent left stays in force. */
void ladder_unload(struct agent *agent);
