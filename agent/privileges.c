/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent may do.
 * Reads from: the capabilities that it was started with.
 * Writes to: the credentials of this process.
 */
#include "privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "util/cleanup.h"

/* shuntd(8) says what each is for. CAP_CHOWN goes: the control socket has its group by now. */
static const unsigned int privileges_kept[] = {
	CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH,
};

void privileges_guard_files(void)
{
	umask(0022);
}

int privileges_drop(void)
{
	bool had[ARRAY_SIZE(privileges_kept)];

	if (capng_get_caps_process())
		return -EPERM;
	for (size_t i = 0; i < ARRAY_SIZE(privileges_kept); i++)
		had[i] = capng_have_capability(CAPNG_EFFECTIVE, privileges_kept[i]);
	capng_clear(CAPNG_SELECT_CAPS);
	for (size_t i = 0; i < ARRAY_SIZE(privileges_kept); i++)
		if (had[i])
			capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED,
				     privileges_kept[i]);
	/* Else root would have all of them again after an execve(), which the agent never calls. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return capng_apply(CAPNG_SELECT_CAPS) ? -EPERM : 0;
}
