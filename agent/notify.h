/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tells systemd how the agent is, without libsystemd: sd_notify(3)'s protocol is one datagram. */
#pragma once

/* Sends @state, e.g. "READY=1". Nothing happens where no service manager listens. */
void notify_send(const char *state);
/* "RELOADING=1", with the time that systemd wants beside it. */
void notify_reloading(void);
