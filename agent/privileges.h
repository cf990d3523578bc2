/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent may do. */
#pragma once

/* What it makes is writable by nobody else, whatever it was started with. Before anything is. */
void privileges_guard_files(void);

/*
 * Gives up, for good, all capabilities but those that the agent needs after its start. Those that
 * it never had are not missed here: what needs them says so. Before any thread is made. Negative
 * errno if the kernel refuses.
 */
int privileges_drop(void);
