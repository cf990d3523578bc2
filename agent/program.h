/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a program reads from its sockets, as far as its executable tells. */
#pragma once

#include <stdint.h>

#include "config.h"

/*
 * Looks at the executable of process @pid:
 *   NEVER    splice_never of @config names its path, as its mount namespace has it
 *   SPLICES  it is a Go program (io.Copy from one socket to another is splice(2)), or shows nothing
 *            of what is in it
 *   SUSPECT  it imports splice(), or what it imports cannot be told
 *   FINE     all else
 * Libraries that it loads are not looked at. 0, and the caller frees *@ret_path; -ESRCH: there is
 * no such process, or it has no executable (any more); -ENOMEM; or the errno of following
 * /proc/PID/exe, which takes CAP_SYS_PTRACE. *@ret and *@ret_path are then left alone.
 */
int program_classify(uint32_t pid, const struct config *config, enum shunt_program *ret,
		     char **ret_path);
