/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Redirection by nftables, for where programs cannot be had: one table, the same in each network
 * namespace that has processes of enrolled cgroups, kept in step with cgroups and namespaces. A
 * table is always replaced in one transaction. It stays in force when the agent ends; the next one
 * knows it by its owner and takes it over.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "enrol.h"
#include "policy.h"

#define NFT_NAMESPACES_MAX 1024 /* that have a table; those beyond are left alone, and told */

struct nft;

/*
 * @root: the cgroup root. @owner: what tells this agent's tables from those of others, its pin_dir.
 * @enrol is borrowed, its changes are listened to, and its warnings are added to. 0 or -errno.
 */
int nft_new(uv_loop_t *loop, const char *root, const char *owner, struct enrol *enrol,
	    struct nft **ret);
/* Leaves the tables. NULL-safe. Handles are closed in later turns of the loop. */
void nft_close(struct nft *nft);

/*
 * Puts @policy, which @enrol has in force, into the tables; borrowed until the next call succeeds.
 * The kernel is asked first whether it takes the rules. On failure the tables are as before. 0 or
 * -errno.
 */
int nft_apply(struct nft *nft, const struct policy *policy);
/* Looks for namespaces in a moment: somebody is about to enter a cgroup. */
void nft_look_soon(struct nft *nft);
/* Adds to the warnings of @enrol, which were cleared, what nftables cannot do. */
void nft_warn_of_bypass(const struct nft *nft);
/* Removes the tables that it has put in and looks for namespaces no more. 0 or -errno. */
int nft_uninstall_all(struct nft *nft);
/* The same, and also what earlier agents left. 0 or -errno. */
int nft_remove(struct nft *nft);

size_t nft_namespaces(const struct nft *nft); /* that have a table */
bool nft_adopted(const struct nft *nft);      /* were tables of an earlier agent there? */

/* Removes the tables of @owner wherever they are, such as an earlier agent's. Returns how many. */
unsigned int nft_remove_stale(const char *owner);
