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
static bool refresh_look(struct refresh *watch)
{
	struct stat now;

	if (stat(watch->path, &now) || refresh_same(&now, &watch->seen))
		return false;
	watch->seen = now;
	return true;
}

static void refresh_on_settled(uv_timer_t *timer)
{
	struct refresh *watch = container_of(timer, struct refresh, settle);

	watch->changed(watch->user);
}

/* Whatever the event is about: it may be a link on the way to the file. */
static void refresh_on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	struct refresh *watch = container_of(event, struct refresh, event);

	if (refresh_look(watch))
		uv_timer_start(&watch->settle, refresh_on_settled, REFRESH_SETTLE_MS, 0);
}

int refresh_init(struct refresh *watch, uv_loop_t *loop, const char *path,
		 void (*changed)(void *user), void *user)
{
	*watch = (struct refresh){.path = strdup(path), .changed = changed, .user = user};
	uv_fs_event_init(loop, &watch->event);
	uv_timer_init(loop, &watch->settle);
	refresh_note(watch);
	return watch->path ? 0 : -ENOMEM;
}

static int refresh_start(struct refresh *watch)
{
	const char *slash = strrchr(watch->path, '/');
	_cleanup_free_ char *directory = NULL;
	int r;

	directory = slash ? strndup(watch->path, slash - watch->path + 1) : strdup(".");
	if (!directory)
		return -ENOMEM;
	r = uv_fs_event_start(&watch->event, refresh_on_event, directory, 0);
	/* What was done to it before it was watched. */
	if (!r && refresh_look(watch))
		uv_timer_start(&watch->settle, refresh_on_settled, REFRESH_SETTLE_MS, 0);
	return r;
}

int refresh_set(struct refresh *watch, bool on)
{
	if (on == !!uv_is_active((uv_handle_t *)&watch->event))
		return 0;
	if (on)
		return refresh_start(watch);
	uv_timer_stop(&watch->settle);
	return uv_fs_event_stop(&watch->event);
}

void refresh_note(struct refresh *watch)
{
	if (!watch->path || stat(watch->path, &watch->seen))
		watch->seen = (struct stat){};
	uv_timer_stop(&watch->settle);
}

void refresh_close(struct refresh *watch)
{
	uv_close((uv_handle_t *)&watch->event, NULL);
	uv_close((uv_handle_t *)&watch->settle, NULL);
	free(TAKE_PTR(watch->path));
}
