/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one user of libnftables. */
#pragma once

/*
 * Runs @commands, in the language of nft(8), as one transaction in the network namespace that the
 * caller is in: all of it or nothing. Returns 0, or -ENOMEM, or -EIO; then *@ret_error, unless it
 * is NULL, is what libnftables says, in one line, for the caller to free, or NULL without memory.
 */
int nft_run(const char *commands, char **ret_error);
/* The same, but changes nothing: would the kernel take them? */
int nft_check(const char *commands, char **ret_error);
