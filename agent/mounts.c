/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells when something was mounted or unmounted.
 * Reads from: /proc/self/mountinfo, which says so without being read.
 * Writes to: whoever listens.
 */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "util/cleanup.h"

static void mounts_on_change(uv_poll_t *poll, int status, int events)
{
	struct mounts *mounts = container_of(poll, struct mounts, poll);

	if (status == 0)
		mounts->changed(mounts->user);
}

int mounts_watch(struct mounts *mounts, uv_loop_t *loop, void (*changed)(void *user), void *user)
{
	_cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	int r;

	*mounts = (struct mounts){.fd = -1, .changed = changed, .user = user};
	if (fd < 0)
		return -errno;
	r = uv_poll_init(loop, &mounts->poll, fd);
	if (r)
		return r;
	mounts->fd = TAKE_FD(fd);
	r = uv_poll_start(&mounts->poll, UV_PRIORITIZED, mounts_on_change);
	if (r)
		mounts_close(mounts);
	return r;
}

void mounts_close(struct mounts *mounts)
{
	if (!mounts->changed || mounts->fd < 0)
		return;
	uv_close((uv_handle_t *)&mounts->poll, NULL);
	close(mounts->fd);
	mounts->fd = -1;
}
