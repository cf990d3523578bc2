/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Does redirection by nftables work on the kernel that runs? It is tried with a connection in a
 * network namespace of its own. */
#pragma once

enum nft_try_step {
	NFT_TRY_NETNS,	   /* a network namespace can be made */
	NFT_TRY_RULES,	   /* it takes rules that match by cgroup and redirect */
	NFT_TRY_REDIRECT,  /* a connection of the cgroup goes to where the rule says */
	NFT_TRY_CONNTRACK, /* SO_ORIGINAL_DST tells where it was going */
	NFT_TRY_PASSED,
};

/*
 * @cgroup: an open directory of a cgroup that nobody is in, and that is free again when this
 * returns. Returns the step that failed, or NFT_TRY_PASSED. *@ret_error: why, for the caller to
 * free, or NULL.
 */
enum nft_try_step nft_try(int cgroup, char **ret_error);
