/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Commands for nftables, run.
 * Reads from: nothing.
 * Writes to: the packet filter of the network namespace that the caller is in.
 */
#include "nft_run.h"

#include <errno.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "util/cleanup.h"

CLEANUP_DEFINE(struct nft_ctx *, nft_ctx_free)

/* "file:1:2-3: Error: Could not process rule: Operation not permitted": the line that says why. */
static char *nft_run_reason(const char *text)
{
	const char *begin = strstr(text, "Error: ");
	char *reason;

	if (!begin)
		begin = text;
	else
		begin += strlen("Error: ");
	reason = strndup(begin, strcspn(begin, "\n"));
	if (reason && !*reason) {
		free(reason);
		reason = strdup("nothing is said of why");
	}
	return reason;
}

/* libnftables ends the process where it gets no such socket. */
static int nft_run_may(void)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	return fd < 0 ? -errno : 0;
}

static int nft_run_or_check(const char *commands, bool dry, char **ret_error)
{
	_cleanup_(cleanup_nft_ctx_free) struct nft_ctx *nft = NULL;
	int r = nft_run_may();

	if (ret_error)
		*ret_error = r ? strdup(strerror(-r)) : NULL;
	if (r)
		return -EIO;
	nft = nft_ctx_new(NFT_CTX_DEFAULT);
	/* Else it would print to the caller's own streams. */
	if (!nft || nft_ctx_buffer_output(nft) || nft_ctx_buffer_error(nft))
		return -ENOMEM;
	nft_ctx_set_dry_run(nft, dry);
	if (!nft_run_cmd_from_buffer(nft, commands))
		return 0;
	if (ret_error)
		*ret_error = nft_run_reason(nft_ctx_get_error_buffer(nft));
	return -EIO;
}

int nft_run(const char *commands, char **ret_error)
{
	return nft_run_or_check(commands, false, ret_error);
}

int nft_check(const char *commands, char **ret_error)
{
	return nft_run_or_check(commands, true, ret_error);
}
