/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the tests of the cgroup tree stand on.
 * Reads from: the cgroup2 file system and an ordinary one, below directories of its own.
 * Writes to: the same. */
#include "cgroup_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <search.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "util/cleanup.h"

struct told {
	uint64_t id;
	size_t visited; /* in which walk */
	const char *path;
	char text[];
};

char fixture_cgroups[PATH_MAX];
char fixture_plain[PATH_MAX];
static pid_t main_pid;

void fixture_check(bool ok, const char *text, const char *file, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, text);
	if (getpid() != main_pid)
		_exit(1);
	_fail(file, line);
}

/* Paths may be too long to be written in one piece. Consumes @fd. */
static void remove_below(int fd)
{
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	while (stream && (entry = readdir(stream))) {
		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") ||
		    !strcmp(entry->d_name, ".."))
			continue;
		remove_below(openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		unlinkat(fd, entry->d_name, AT_REMOVEDIR);
	}
	if (stream)
		closedir(stream);
}

static void remove_content(const char *path)
{
	remove_below(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void remove_all(void)
{
	if (getpid() != main_pid)
		return;
	remove_content(fixture_cgroups);
	rmdir(fixture_cgroups);
	remove_content(fixture_plain);
	rmdir(fixture_plain);
}

/* Waits for the end of every process that has the pipe, so it cleans up even after SIGKILL. */
static bool start_guard(void)
{
	int ends[2];
	pid_t pid;
	char c;

	if (pipe(ends) < 0)
		return false;
	pid = fork();
	if (pid < 0)
		return false;
	if (pid == 0) {
		setsid();
		close(ends[1]);
		while (read(ends[0], &c, 1) < 0)
			;
		main_pid = getpid();
		remove_all();
		_exit(0);
	}
	close(ends[0]);
	return true;
}

bool fixture_begin(void)
{
	_cleanup_free_ char *mount = NULL;
	const char *tmp = getenv("TMPDIR");

	main_pid = getpid();
	if (cgroup_find_mount(&mount) < 0) {
		fprintf(stderr, "no cgroup2 file system is mounted\n");
		return false;
	}
	snprintf(fixture_cgroups, PATH_MAX, "%s/shunt-test-cgroup-%d", mount, main_pid);
	snprintf(fixture_plain, PATH_MAX, "%s/shunt-test-cgroup-%d", tmp ? tmp : "/tmp", main_pid);
	if (mkdir(fixture_cgroups, 0755) < 0 || mkdir(fixture_plain, 0755) < 0 || !start_guard()) {
		perror("cannot make directories for the test");
		remove_all();
		return false;
	}
	atexit(remove_all);
	return true;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct told *)a)->path, ((const struct told *)b)->path);
}

static struct told *find(struct fixture *f, const char *path)
{
	const struct told key = {.path = path};
	struct told **slot = tfind(&key, &f->told, compare);

	return slot ? *slot : NULL;
}

static struct told *find_parent(struct fixture *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	char parent[PATH_MAX];

	if (!path[1])
		return NULL;
	snprintf(parent, sizeof(parent), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return find(f, parent);
}

static bool is_watched(struct fixture *f, const char *path)
{
	size_t i;

	for (i = 0; i < f->n_watched; i++)
		if (!strcmp(f->watched[i], path))
			return true;
	return false;
}

/* Parents come first and go last, so that only a watched path is ever without one. */
static void check_parent(struct fixture *f, struct cgroup_node *node)
{
	struct told *parent = find_parent(f, node->path);

	CHECK(!node->parent == !parent);
	if (parent)
		CHECK(node->parent->user == parent && node->parent->id == parent->id);
	else
		CHECK(is_watched(f, node->path) || f->replacing);
}

static void on_added(void *user, struct cgroup_node *node)
{
	struct fixture *f = user;
	size_t size = strlen(node->path) + 1;
	struct told *told = calloc(1, sizeof(*told) + size);

	f->added++;
	f->n_told++;
	CHECK(!find(f, node->path));
	CHECK(node->id);
	check_parent(f, node);
	CHECK(cgroup_tree_find(f->tree, node->path) == node);
	CHECK(cgroup_tree_count(f->tree) == f->n_told);

	told->id = node->id;
	told->path = memcpy(told->text, node->path, size);
	tsearch(told, &f->told, compare);
	node->user = told;
}

static void on_removed(void *user, struct cgroup_node *node)
{
	struct fixture *f = user;
	struct told *told = find(f, node->path);

	f->removed++;
	f->n_told--;
	CHECK(told && node->user == told && node->id == told->id);
	check_parent(f, node);
	CHECK(!cgroup_tree_find(f->tree, node->path));
	CHECK(cgroup_tree_count(f->tree) == f->n_told);

	tdelete(told, &f->told, compare);
	free(told);
}

static void on_failed(void *user, const char *path, int error)
{
	struct fixture *f = user;

	CHECK(path[0] == '/' && error < 0);
	f->failed++;
	f->error = error;
}

int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	CHECK(uv_loop_init(&f->loop) == 0);
	fixture_use_root(f, fixture_cgroups);
	return 0;
}

void fixture_use_root(struct fixture *f, const char *root)
{
	const struct cgroup_listener listener = {
		.added = on_added,
		.removed = on_removed,
		.failed = on_failed,
		.user = f,
	};

	if (f->tree)
		cgroup_tree_close(f->tree);
	f->root = root;
	CHECK(cgroup_tree_new(&f->loop, root, &listener, &f->tree) == 0);
}

int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	size_t removed = f->removed;

	/* With events still to come, after which none may. */
	fixture_make(f, "/last");
	cgroup_tree_close(f->tree);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(&f->loop) == 0);
	CHECK(f->removed == removed);

	tdestroy(f->told, free);
	free(f);
	remove_content(fixture_cgroups);
	remove_content(fixture_plain);
	return 0;
}

void fixture_watch(struct fixture *f, const char *const *paths, size_t n)
{
	f->watched = paths;
	f->n_watched = n;
	f->replacing = true;
	CHECK(cgroup_tree_watch(f->tree, paths, n) == 0);
	f->replacing = false;
}

static void full_path(struct fixture *f, char path[PATH_MAX], const char *format, va_list args)
{
	int n = snprintf(path, PATH_MAX, "%s", f->root);

	vsnprintf(path + n, (size_t)(PATH_MAX - n), format, args);
}

void fixture_make(struct fixture *f, const char *format, ...)
{
	char path[PATH_MAX], *slash;
	va_list args;

	va_start(args, format);
	full_path(f, path, format, args);
	va_end(args);

	for (slash = path + strlen(f->root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	CHECK(mkdir(path, 0755) == 0 || errno == EEXIST);
}

void fixture_drop(struct fixture *f, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	full_path(f, path, format, args);
	va_end(args);

	remove_content(path);
	CHECK(rmdir(path) == 0 || errno == ENOENT);
}

void fixture_spawn(struct fixture *f, void (*work)(struct fixture *f))
{
	int ends[2];

	CHECK(pipe(ends) == 0);
	f->child = fork();
	CHECK(f->child >= 0);
	if (f->child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work(f);
		_exit(0);
	}
	close(ends[1]);
	f->child_fd = ends[0];
}

void fixture_run(struct fixture *f, int fd)
{
	struct pollfd fds[] = {{uv_backend_fd(&f->loop), POLLIN, 0}, {fd, POLLIN, 0}};

	/* libuv hands new descriptors to the kernel only when it runs. */
	do {
		uv_run(&f->loop, UV_RUN_NOWAIT);
		CHECK(poll(fds, ARRAY_SIZE(fds), -1) > 0);
	} while (!fds[1].revents);
}

void fixture_join(struct fixture *f)
{
	int status;

	fixture_run(f, f->child_fd);
	close(f->child_fd);
	CHECK(waitpid(f->child, &status, 0) == f->child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	fixture_settle(f);
}

bool fixture_is_idle(struct fixture *f, int ms)
{
	struct pollfd fd = {uv_backend_fd(&f->loop), POLLIN, 0};

	return uv_backend_timeout(&f->loop) == -1 && poll(&fd, 1, ms) == 0;
}

void fixture_settle(struct fixture *f)
{
	do
		uv_run(&f->loop, UV_RUN_NOWAIT);
	while (!fixture_is_idle(f, 0));
}

/* Every directory at and below @path is known. Returns how many there are. */
static size_t walk(struct fixture *f, const char *path)
{
	char full[PATH_MAX], child[PATH_MAX];
	struct cgroup_node *node;
	struct dirent *entry;
	struct stat st;
	size_t n = 1;
	DIR *stream;

	snprintf(full, sizeof(full), "%s%s", f->root, path);
	if (stat(full, &st) < 0)
		return 0;
	node = cgroup_tree_find(f->tree, path);
	if (!node)
		fprintf(stderr, "not known: %s\n", path);
	CHECK(node && node->id == st.st_ino);
	CHECK(find(f, path) && find(f, path)->id == st.st_ino);

	stream = opendir(full);
	CHECK(stream);
	while ((entry = readdir(stream))) {
		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") ||
		    !strcmp(entry->d_name, ".."))
			continue;
		snprintf(child, sizeof(child), "%s/%s", path[1] ? path : "", entry->d_name);
		n += walk(f, child);
	}
	closedir(stream);
	return n;
}

static void on_each(void *user, struct cgroup_node *node)
{
	struct fixture *f = user;
	struct told *told = node->user;

	CHECK(told == find(f, node->path));
	CHECK(told->visited < f->visits);
	told->visited = f->visits;
	if (node->parent)
		CHECK(((struct told *)node->parent->user)->visited == f->visits);
	f->n_visited++;
}

void fixture_compare(struct fixture *f)
{
	size_t i, n = 0;

	for (i = 0; i < f->n_watched; i++)
		n += walk(f, f->watched[i]);
	f->visits++;
	f->n_visited = 0;
	cgroup_tree_each(f->tree, on_each, f);
	CHECK(f->n_visited == n && f->n_told == n);
	CHECK(cgroup_tree_count(f->tree) == n);
}
