/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tells when the configuration file is another one: it was written, replaced, or what a symbolic
 * link on the way to it leads to was. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <uv.h>

struct refresh {
	uv_fs_event_t event; /* of the directory that the file is in */
	uv_timer_t settle;
	char *path; /* of the file */
	struct stat seen;
	void (*changed)(void *user);
	void *user;
};

/* Nothing is watched yet. @path is copied. 0 or -ENOMEM; refresh_close() is needed in either
 * case. */
int refresh_init(struct refresh *refresh, uv_loop_t *loop, const char *path,
		 void (*changed)(void *user), void *user);
/* Begins or ends to watch; asking twice does nothing. 0 or negative errno. */
int refresh_set(struct refresh *refresh, bool on);
/* The file is about to be read: as it is now it is known. */
void refresh_note(struct refresh *refresh);
/* The memory is free when the loop has run. */
void refresh_close(struct refresh *refresh);
