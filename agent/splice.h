/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent's part in splicing: looks at programs that the kernel half asks about, and passes by
 * the sockets of processes where some are to be taken out, told something or let in. What the
 * kernel half can do alone it does; this makes it prompt. docs/SPLICING.md.
 */
#pragma once

#include <uv.h>

#include "loader.h"
#include "selftest.h"

struct splice;

/* Does any mesh of it splice? */
bool splice_wanted(const struct config *config);

/* Where the programs that splice are not loaded: tells those that are why nothing is spliced. */
int splice_refuse(const struct maps *maps, const struct config *config);

/* All are borrowed. On success the kernel half may splice from splice_apply() on. */
int splice_new(uv_loop_t *loop, struct loader *loader, struct splice **ret);
/* Leaves the kernel half as it is. Handles are closed in later turns of the loop. */
void splice_close(struct splice *splice);

/* What the kernel can. Until this says that it is enough nothing is spliced, for the reason
 * `kernel`. To be followed by splice_apply(). */
void splice_allow(struct splice *splice, const struct selftest *selftest);
/* Puts @config in force, at start and on reload: connections that are outside the scope now go back
 * to TCP, those that are inside are looked for. @cgroup_root: that of all cgroups there are. 0, or
 * -errno: then nothing is spliced any more. */
int splice_apply(struct splice *splice, const struct config *config, const char *cgroup_root);
/* Is anything spliced by what was applied last? */
bool splice_is_on(const struct splice *splice);
/* From now on everything goes back to TCP. */
void splice_stop(struct splice *splice);
/* Passes by all sockets once more: nobody is left in the sockhash who can be taken out. Returns how
 * many could not be yet. */
unsigned splice_drain(struct splice *splice);
