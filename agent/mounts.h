/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tells when something was mounted or unmounted, here or where mounts come from. */
#pragma once

#include <uv.h>

struct mounts {
	uv_poll_t poll;
	int fd; /* -1: not watched */
	void (*changed)(void *user);
	void *user;
};

/* 0 or negative errno; then nothing is watched, and mounts_close() need not be called. */
int mounts_watch(struct mounts *mounts, uv_loop_t *loop, void (*changed)(void *user), void *user);
/* Safe for one that is zeroed, or not watched. */
void mounts_close(struct mounts *mounts);
