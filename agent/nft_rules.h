/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A policy as rules of nftables: what the kernel half would decide, as far as a packet shows it.
 * Pure: touches no file descriptor.
 *
 *   table inet shunt
 *     chain output    the first packet of each connection of the namespace: whose cgroup?
 *     map levelN      cgroups N levels below the root: to the chain of their mesh, or let go
 *     chain meshN     the rules of a mesh, numbered in the order of the file
 *     chain owner_X   empty; says which agent the table belongs to
 */
#pragma once

#include <stddef.h>

#include "policy.h"

#define NFT_RULES_TABLE "inet shunt"

/* A cgroup that is something else than the one above it. Those below it are what it is. */
struct nft_rules_cgroup {
	const char *path;   /* of its directory, absolute */
	unsigned int level; /* below the root of the hierarchy, 1 and more */
	int mesh;	    /* number in the file; -1: left alone, the sidecar's too */
};

/*
 * The table's commands for nft(8), without what removes one that is there. @owner: of the agent, by
 * which nft_rules_owner() knows it again. Paths have no '"' (nft_rules_path_fits()). The caller
 * frees; NULL without memory.
 */
char *nft_rules(const struct policy *policy, const struct nft_rules_cgroup *cgroups, size_t n,
		const char *owner);

/* nftables has no way to write a path with a quotation mark. */
bool nft_rules_path_fits(const char *path);

/* The name of the chain that tells whose the table is. The caller frees; NULL without memory. */
char *nft_rules_owner(const char *owner);
