/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tells when the configuration file is another one.
 * Reads from: the directory that the file is in, by inotify; what the file is.
 * Writes to: whoever listens.
 */
#include "refresh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

/* Until nothing has been done to the file for so long: who writes it may do so in pieces. */
#define REFRESH_SETTLE_MS 250

static bool refresh_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Is there a file, and is it another than the last time? */
static bool refresh_look(struct refresh *refresh)
{
	struct stat now;

	if (stat(refresh->path, &now) || refresh_same(&now, &refresh->seen))
		return false;
	refresh->seen = now;
	return true;
}

static void refresh_on_settled(uv_timer_t *timer)
{
	struct refresh *refresh = container_of(timer, struct refresh, settle);

	refresh->changed(refresh->user);
}

/* Whatever the event is about: it may be a link on the way to the file. */
static void refresh_on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct refresh *refresh = container_of(event, struct refresh, event);

	if (refresh_look(refresh))
		uv_timer_start(&refresh->settle, refresh_on_settled, REFRESH_SETTLE_MS, 0);
}

int refresh_init(struct refresh *refresh, uv_loop_t *loop, const char *path,
		 void (*changed)(void *user), void *user)
{
	*refresh = (struct refresh){.path = strdup(path), .changed = changed, .user = user};
	uv_fs_event_init(loop, &refresh->event);
	uv_timer_init(loop, &refresh->settle);
	refresh_note(refresh);
	return refresh->path ? 0 : -ENOMEM;
}

static int refresh_start(struct refresh *refresh)
{
	const char *slash = strrchr(refresh->path, '/');
	_cleanup_free_ char *directory = NULL;
	int r;

	directory = slash ? strndup(refresh->path, slash - refresh->path + 1) : strdup(".");
	if (!directory)
		return -ENOMEM;
	r = uv_fs_event_start(&refresh->event, refresh_on_event, directory, 0);
	/* What was done to it before it was watched. */
	if (!r && refresh_look(refresh))
		uv_timer_start(&refresh->settle, refresh_on_settled, REFRESH_SETTLE_MS, 0);
	return r;
}

int refresh_set(struct refresh *refresh, bool on)
{
	if (on == !!uv_is_active((uv_handle_t *)&refresh->event))
		return 0;
	if (on)
		return refresh_start(refresh);
	uv_timer_stop(&refresh->settle);
	return uv_fs_event_stop(&refresh->event);
}

void refresh_note(struct refresh *refresh)
{
	if (!refresh->path || stat(refresh->path, &refresh->seen))
		refresh->seen = (struct stat){};
	uv_timer_stop(&refresh->settle);
}

void refresh_close(struct refresh *refresh)
{
	uv_close((uv_handle_t *)&refresh->event, NULL);
	uv_close((uv_handle_t *)&refresh->settle, NULL);
	free(TAKE_PTR(refresh->path));
}
