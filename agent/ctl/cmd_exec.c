/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl exec: a command inside a cgroup, which the agent knows before the command starts.
 * Reads from: the agent.
 * Writes to: the cgroup tree; stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "client.h"
#include "cmd.h"
#include "util/path.h"

/* As shells have it. */
#define EXIT_NOT_RUNNABLE 126
#define EXIT_NOT_FOUND	  127

/* A path below @root, which may be given with the root in front. */
static const char *path_below(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (strncmp(path, root, len) != 0 || (path[len] && path[len] != '/'))
		return path;
	return path[len] ? path + len : "/";
}

static int make_directories(char *path, size_t existing_len)
{
	for (char *end = path + existing_len; *end;) {
		char saved;
		int r;

		end = strchrnul(end + 1, '/');
		saved = *end;
		*end = '\0';
		r = mkdir(path, 0755);
		*end = saved;
		if (r < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int enter(const char *directory)
{
	_cleanup_close_ int dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), procs = -1;

	if (dir < 0)
		return -errno;
	procs = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs < 0)
		return -errno;
	return write(procs, "0", 1) < 0 ? -errno : 0; /* 0: whoever writes */
}

/* The command's first connection is redirected only if the agent has seen the cgroup by then. */
static int classify(const struct ctl *ctl, const char *path)
{
	_cleanup_json_ json_t *cgroup = NULL;
	int r = client_ask(ctl->socket, json_pack("{s:s, s:s}", "verb", "classify", "cgroup", path),
			   &cgroup);

	if (r == 0 && strcmp(out_string(cgroup, "role"), "none") == 0)
		out_error("warning: %s is in no mesh; its connections are left alone", path);
	return r;
}

static int run(char **argv)
{
	int error;

	execvp(argv[0], argv);
	error = errno;
	out_error("%s: %s", argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUNNABLE;
}

int cmd_exec(const struct ctl *ctl, int argc, char **argv)
{
	_cleanup_free_ char *directory = NULL;
	_cleanup_json_ json_t *status = NULL;
	const char *root, *path;
	int r;

	(void)argc;
	path_trim(argv[1]); /* as shells complete it */
	if (!path_is_plain(argv[1])) {
		out_error("'%s' is not the path of a cgroup", argv[1]);
		return EXIT_USAGE;
	}
	if (strcmp(argv[2], "--") != 0) {
		out_error("exec: '--' must stand between the cgroup and the command");
		return EXIT_USAGE;
	}
	if (client_ask(ctl->socket, json_pack("{s:s}", "verb", "status"), &status) < 0)
		return EXIT_FAILURE;
	root = json_string_value(json_object_get(status, "cgroup_root"));
	if (!root || !*root) { /* else the directories would be made anywhere */
		out_error("nothing is redirected (rung off); the agent's log says why");
		return EXIT_FAILURE;
	}
	path = path_below(argv[1], root);
	if (asprintf(&directory, "%s%s", root, path) < 0)
		return EXIT_FAILURE;

	r = make_directories(directory, strlen(root));
	if (r == 0) {
		if (classify(ctl, path) < 0)
			return EXIT_FAILURE;
		r = enter(directory);
	}
	if (r < 0) {
		out_error("%s: %s", directory, strerror(-r));
		return EXIT_FAILURE;
	}
	return run(argv + 3);
}
