/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A cgroup to try something in.
 * Reads from: the cgroup tree.
 * Writes to: the cgroup tree, for the time of the trial.
 */
#include "cgroup_trial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cgroup.h"
#include "log.h"
#include "process.h"
#include "util/cleanup.h"

#define CGROUP_TRIAL_REMOVE_MS 100 /* for the kernel to see that nobody is in it; … */
#define CGROUP_TRIAL_REMOVALS  10  /* … so often */

CLEANUP_DEFINE(DIR *, closedir)

static void cgroup_trial_await(int events)
{
	struct pollfd poll_fd = {.fd = events, .events = POLLPRI};
	int r;

	do
		r = poll(&poll_fd, 1, CGROUP_TRIAL_REMOVE_MS);
	while (r < 0 && errno == EINTR);
}

/* The kernel may need a moment to see that the last process of it is gone. */
static int cgroup_trial_remove(int root, const char *name)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int events = -1;
	char state[256];

	if (asprintf(&path, "%s/cgroup.events", name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	events = openat(root, path, O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < CGROUP_TRIAL_REMOVALS; i++) {
		/* An event is a change after it was read. */
		if (events >= 0 && pread(events, state, sizeof(state), 0) < 0)
			break;
		if (!unlinkat(root, name, AT_REMOVEDIR) || errno != EBUSY)
			break;
		cgroup_trial_await(events);
	}
	return faccessat(root, name, F_OK, 0) ? 0 : -EBUSY;
}

/* What is left of processes that were killed in a trial. */
static void cgroup_trial_remove_stale(int root, const char *prefix)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(cleanup_closedir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	size_t len = strlen(prefix);
	int pid, end;

	while (dir && (entry = readdir(dir))) {
		end = 0;
		if (!strncmp(entry->d_name, prefix, len) &&
		    sscanf(entry->d_name + len, "%d%n", &pid, &end) == 1 &&
		    !entry->d_name[len + end] &&
		    (pid == getpid() || (kill(pid, 0) && errno == ESRCH)))
			unlinkat(root, entry->d_name, AT_REMOVEDIR);
	}
}

static int cgroup_trial_open_own(void)
{
	_cleanup_free_ char *mount = NULL, *path = NULL;
	struct process own = {};
	int r;

	r = cgroup_find_mount(&mount);
	r = r ?: process_read(getpid(), &own);
	if (!r && asprintf(&path, "%s%s", mount, own.cgroup) < 0) {
		path = NULL;
		r = -ENOMEM;
	}
	free(own.cgroup);
	errno = -r;
	return r ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The root of the whole tree is nobody's to write to but for who may override that; the agent's own
 * cgroup is. */
static int cgroup_trial_open_place(const char *cgroup_root)
{
	_cleanup_close_ int root = open(cgroup_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root >= 0 && faccessat(root, ".", W_OK, AT_EACCESS) && errno == EACCES)
		return cgroup_trial_open_own();
	return TAKE_FD(root);
}

/* Whoever owns it may write there without more privileges. */
static bool cgroup_trial_is_ours(int fd)
{
	struct stat about;

	return fd >= 0 && !fstat(fd, &about) && about.st_uid == geteuid() &&
	       about.st_mode & S_IWUSR;
}

bool cgroup_trial_now_or_never(const char *cgroup_root)
{
	_cleanup_close_ int root = open(cgroup_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int own = -1;

	if (root < 0 || cgroup_trial_is_ours(root) || faccessat(root, ".", W_OK, AT_EACCESS))
		return false;
	own = cgroup_trial_open_own();
	return !cgroup_trial_is_ours(own);
}

int cgroup_trial_init(struct cgroup_trial *trial, const char *cgroup_root, const char *prefix)
{
	_cleanup_close_ int root = cgroup_trial_open_place(cgroup_root);
	int r;

	if (root < 0)
		return -errno;
	cgroup_trial_remove_stale(root, prefix);
	snprintf(trial->name, sizeof(trial->name), "%s%d", prefix, (int)getpid());
	if (mkdirat(root, trial->name, 0755))
		return -errno;
	trial->fd = openat(root, trial->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (trial->fd < 0) {
		r = -errno;
		cgroup_trial_remove(root, trial->name);
		return r;
	}
	trial->root = TAKE_FD(root);
	return 0;
}

void cgroup_trial_deinit(struct cgroup_trial *trial)
{
	int r;

	if (trial->fd < 0)
		return;
	close(TAKE_FD(trial->fd));
	r = cgroup_trial_remove(trial->root, trial->name);
	if (r)
		log_errno(r, "cgroup %s of a trial cannot be removed", trial->name);
	close(TAKE_FD(trial->root));
}
