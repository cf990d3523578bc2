/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent answers to shuntctl. The user pointer of each verb is the struct agent. */
#pragma once

#include "control.h"

/* Ends with a NULL name. */
const struct control_verb *verbs_table(void);
