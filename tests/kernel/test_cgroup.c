/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The cgroup tree against a real cgroup2, and against renames in an ordinary file system.
 * Reads from: directories of its own, see cgroup_fixture.h.
 * Writes to: the same. Needs root; exits 77 where it cannot make a cgroup. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/vfs.h>

#include <cmocka.h>

#include "cgroup_fixture.h"
#include "util/cleanup.h"

static void write_text(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void test_mount(void **state)
{
	const long cgroup2_magic = 0x63677270;
	_cleanup_free_ char *mount = NULL;
	struct statfs fs;

	CHECK(cgroup_find_mount(&mount) == 0);
	CHECK(statfs(mount, &fs) == 0 && fs.f_type == cgroup2_magic);
}

static void test_refusals(void **state)
{
	const struct cgroup_listener listener = {};
	struct fixture *f = *state;
	struct cgroup_tree *tree = NULL;
	const char *relative = "a", *nested[] = {"/a/b", "/a"};

	CHECK(cgroup_tree_new(&f->loop, "/does/not/exist", &listener, &tree) == -ENOENT);
	CHECK(cgroup_tree_new(&f->loop, "/proc/self/mountinfo", &listener, &tree) == -ENOTDIR);
	CHECK(!tree);

	fixture_make(f, "/a");
	WATCH(f, "/a");
	CHECK(cgroup_tree_watch(f->tree, &relative, 1) == -EINVAL);
	CHECK(cgroup_tree_watch(f->tree, nested, 2) == -EINVAL);
	fixture_compare(f);
	CHECK(f->added == 1 && f->removed == 0);
}

static void test_initial_walk(void **state)
{
	struct fixture *f = *state;

	fixture_make(f, "/a/b/c/d");
	fixture_make(f, "/a/b2");
	fixture_make(f, "/other/x");
	fixture_make(f, "/z/y");
	CHECK(cgroup_tree_count(f->tree) == 0);

	WATCH(f, "/a", "/z");
	CHECK(f->added == 7);
	fixture_compare(f);
	CHECK(!cgroup_tree_find(f->tree, "/a")->parent);
	CHECK(!cgroup_tree_find(f->tree, "/"));
	CHECK(!cgroup_tree_find(f->tree, "/other"));

	WATCH(f, "/");
	fixture_compare(f);
	CHECK(f->added == 10 && f->removed == 0);
	CHECK(!strcmp(cgroup_tree_find(f->tree, "/a")->parent->path, "/"));
}

/* As the agent has it: the root is the mount itself, and the rest of it is not ours. */
static void test_below_the_mount(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *mount = NULL;
	char path[PATH_MAX];

	fixture_make(f, "/a/b");
	CHECK(cgroup_find_mount(&mount) == 0);
	fixture_use_root(f, mount);
	snprintf(path, sizeof(path), "%s/a", fixture_cgroups + strlen(mount));
	WATCH(f, path);
	CHECK(f->added == 2);
	fixture_make(f, "%s/c", path);
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->added == 3);
	f->root = fixture_cgroups;
}

static void test_recreated_is_another(void **state)
{
	struct fixture *f = *state;
	uint64_t id;

	fixture_make(f, "/a/b/c");
	WATCH(f, "/a");
	id = cgroup_tree_find(f->tree, "/a/b")->id;

	fixture_drop(f, "/a/b");
	fixture_make(f, "/a/b/c");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(cgroup_tree_find(f->tree, "/a/b")->id != id);
	CHECK(f->added == 5 && f->removed == 2);

	/* The same for a watched path itself. */
	fixture_drop(f, "/a");
	fixture_make(f, "/a/b");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->added == 7 && f->removed == 5);

	/* Of one that came and went between two looks nothing needs to be said. */
	fixture_make(f, "/a/x/y");
	fixture_drop(f, "/a/x");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->added == 7 && f->removed == 5);
}

static void test_path_that_comes_and_goes(void **state)
{
	static const char *const steps[] = {"/x", "/x/y", "/x/y/z", "/x/y/z/1"};
	struct fixture *f = *state;
	int i, round;

	WATCH(f, "/x/y/z", "/x/other");
	fixture_compare(f);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 4; i++) {
			fixture_make(f, "%s", steps[i]);
			fixture_make(f, "%s-not", steps[i]);
			fixture_settle(f);
			fixture_compare(f);
		}
		CHECK(cgroup_tree_count(f->tree) == 3);
		for (i = 3; i >= 0; i--) {
			fixture_drop(f, "%s-not", steps[i]);
			fixture_drop(f, "%s", steps[i]);
			fixture_settle(f);
			fixture_compare(f);
		}
		CHECK(cgroup_tree_count(f->tree) == 0);
	}

	/* All at once, and with ancestors that are others each time. */
	for (round = 0; round < 3; round++) {
		fixture_make(f, "/x/y/z/1/2");
		fixture_make(f, "/x/other");
		fixture_settle(f);
		fixture_compare(f);
		CHECK(cgroup_tree_count(f->tree) == 4);
		fixture_drop(f, "/x");
		if (round == 1)
			fixture_make(f, "/x/y");
		fixture_settle(f);
		fixture_compare(f);
		CHECK(cgroup_tree_count(f->tree) == 0);
	}
	CHECK(f->added == f->removed && f->failed == 0);
}

/* Whoever asks for a cgroup may write what he likes. */
static void test_other_names_of_a_directory(void **state)
{
	static const char *const names[] = {"/a/.", "/a/./x", "/a/..", "/a/../b/y", "/a/x/..",
					    "/..",  "//a",    "/a//x", "/a/x/",	    "/."};
	struct fixture *f = *state;

	fixture_make(f, "/a/x");
	fixture_make(f, "/b/y");
	WATCH(f, "/a");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		cgroup_tree_look(f->tree, names[i]);
		CHECK(!cgroup_tree_find(f->tree, names[i]));
		fixture_compare(f);
	}
	CHECK(f->added == 2 && f->removed == 0);
}

static void test_replaced_set(void **state)
{
	struct fixture *f = *state;
	struct cgroup_node *b, *c;

	fixture_make(f, "/a/b/c");
	fixture_make(f, "/a/d");
	fixture_make(f, "/e/f");
	WATCH(f, "/a");
	CHECK(f->added == 4);
	b = cgroup_tree_find(f->tree, "/a/b");
	c = cgroup_tree_find(f->tree, "/a/b/c");

	/* What stays is not reported anew, and keeps its identity. */
	WATCH(f, "/a/b", "/e", "/later");
	fixture_compare(f);
	CHECK(f->added == 6 && f->removed == 2);
	CHECK(cgroup_tree_find(f->tree, "/a/b") == b && !b->parent);
	CHECK(cgroup_tree_find(f->tree, "/a/b/c") == c && c->parent == b);

	fixture_make(f, "/a/d/not");
	fixture_make(f, "/a/b/new");
	fixture_make(f, "/later/l");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->added == 9 && f->removed == 2);

	WATCH(f, "/a");
	fixture_compare(f);
	CHECK(f->added == 12 && f->removed == 6);
	CHECK(cgroup_tree_find(f->tree, "/a/b") == b && b->parent);

	/* Nothing is watched, and then nothing wakes anybody. */
	fixture_watch(f, NULL, 0);
	fixture_settle(f);
	fixture_compare(f);
	fixture_make(f, "/a/unseen");
	CHECK(fixture_is_idle(f, 0));
	CHECK(f->added == f->removed);
}

/* Limits of inotify are per user namespace, so this one harms nobody. */
static void exhaust_watches(struct fixture *f)
{
	int i;

	CHECK(unshare(CLONE_NEWUSER) == 0);
	write_text("/proc/self/uid_map", "0 0 1");
	fixture_use_root(f, f->root);
	write_text("/proc/sys/user/max_inotify_watches", "5");

	for (i = 0; i < 20; i++)
		fixture_make(f, "/a/%d/x/y", i);
	WATCH(f, "/a");
	CHECK(f->failed == 1 && f->error == -ENOSPC);
	fixture_compare(f);

	/* Without a watch nothing is heard, and nothing is said twice. */
	for (i = 0; i < 20; i++)
		fixture_make(f, "/a/%d/x/y/z", i);
	fixture_settle(f);

	CHECK(f->added == 61);
	cgroup_tree_rescan(f->tree);
	fixture_compare(f);
	CHECK(f->failed == 1);

	write_text("/proc/sys/user/max_inotify_watches", "1000");
	cgroup_tree_rescan(f->tree);
	for (i = 0; i < 20; i++)
		fixture_make(f, "/a/%d/x/y/z/1", i);
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->failed == 1);

	/* All went well meanwhile, so the next shortage is news. */
	write_text("/proc/sys/user/max_inotify_watches", "5");
	for (i = 0; i < 20; i++)
		fixture_make(f, "/a/more/%d", i);
	fixture_settle(f);
	CHECK(f->failed == 2);

	/* Watches of what is gone are given back. */
	fixture_drop(f, "/a");
	fixture_settle(f);
	fixture_make(f, "/a/1/2");
	fixture_settle(f);
	fixture_make(f, "/a/1/2/3");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->failed == 2);
}

static void test_watches_run_out(void **state)
{
	struct fixture *f = *state;

	fixture_spawn(f, exhaust_watches);
	fixture_join(f);
}

static void test_descriptors_run_out(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, none;
	int i;

	for (i = 0; i < 20; i++)
		fixture_make(f, "/a/%d/x", i);
	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = old.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
	f->watched = (const char *const[]){"/a"};
	f->n_watched = 1;
	i = cgroup_tree_watch(f->tree, f->watched, 1);
	CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
	CHECK(i == 0 && f->failed == 1 && f->error == -EMFILE);

	cgroup_tree_rescan(f->tree);
	fixture_make(f, "/a/later");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->failed == 1);
}

static void test_paths_too_long(void **state)
{
	static char part[201];
	struct fixture *f = *state;
	_cleanup_close_ int fd = open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int i, next;

	memset(part, 'p', sizeof(part) - 1);
	for (i = 0; i < 25; i++) {
		CHECK(mkdirat(fd, part, 0755) == 0);
		next = openat(fd, part, O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = next;
		CHECK(fd >= 0);
	}
	f->watched = (const char *const[]){"/"};
	f->n_watched = 1;
	CHECK(cgroup_tree_watch(f->tree, f->watched, 1) == 0);
	CHECK(f->failed == 1 && f->error == -ENAMETOOLONG);
	CHECK(cgroup_tree_count(f->tree) == 1 + (PATH_MAX - 1) / sizeof(part));

	fixture_drop(f, "/%s", part);
	fixture_settle(f);
	fixture_compare(f);
}

static void test_renames(void **state)
{
	struct fixture *f = *state;
	char from[PATH_MAX], to[PATH_MAX];
	static const char *const moves[][2] = {
		{"/a/x", "/a/y"}, /* within a directory */
		{"/a/y", "/b/y"}, /* from one to another */
		{"/b/y", "/out"}, /* out of what is watched */
		{"/out", "/b/x"}, /* and in again */
		{"/b/x", "/a/x"},
	};
	size_t i;

	fixture_use_root(f, fixture_plain);
	fixture_make(f, "/a/x/1/2");
	fixture_make(f, "/b");
	WATCH(f, "/a", "/b");
	/* One at a time, then all of them before anybody looks. */
	for (i = 0; i < 2 * ARRAY_SIZE(moves); i++) {
		snprintf(from, sizeof(from), "%s%s", f->root, moves[i % ARRAY_SIZE(moves)][0]);
		snprintf(to, sizeof(to), "%s%s", f->root, moves[i % ARRAY_SIZE(moves)][1]);
		CHECK(rename(from, to) == 0);
		if (i >= ARRAY_SIZE(moves))
			continue;
		fixture_settle(f);
		fixture_compare(f);
		fixture_make(f, "/a/x%zu/3", i);
		fixture_settle(f);
		fixture_compare(f);
	}
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->failed == 0);
}

/* A directory that is found under its new name while the news of its old one is still under way. */
static void test_rename_seen_late(void **state)
{
	struct fixture *f = *state;
	char from[PATH_MAX], to[PATH_MAX];
	int i;

	fixture_use_root(f, fixture_plain);
	fixture_make(f, "/a/x/y");
	WATCH(f, "/a");
	fixture_make(f, "/a/new");
	/* More than is read in one turn. */
	for (i = 0; i < 1000; i++) {
		fixture_make(f, "/a/noise");
		fixture_drop(f, "/a/noise");
	}
	snprintf(from, sizeof(from), "%s/a/x", f->root);
	snprintf(to, sizeof(to), "%s/a/new/x", f->root);
	CHECK(rename(from, to) == 0);
	fixture_settle(f);
	fixture_compare(f);
	CHECK(f->failed == 0);

	fixture_make(f, "/a/new/x/later");
	fixture_settle(f);
	fixture_compare(f);
}

/* Ordinary file systems do that, cgroup2 does not. The watch is gone all the same. */
static void test_inode_number_given_again(void **state)
{
	struct fixture *f = *state;

	fixture_use_root(f, fixture_plain);
	fixture_make(f, "/a/x/y");
	WATCH(f, "/a");
	fixture_drop(f, "/a/x");
	fixture_make(f, "/a/x");
	fixture_settle(f);
	fixture_compare(f);
	fixture_make(f, "/a/x/later");
	fixture_settle(f);
	fixture_compare(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mount),
		TEST(test_refusals),
		TEST(test_initial_walk),
		TEST(test_below_the_mount),
		TEST(test_recreated_is_another),
		TEST(test_path_that_comes_and_goes),
		TEST(test_other_names_of_a_directory),
		TEST(test_replaced_set),
		TEST(test_watches_run_out),
		TEST(test_descriptors_run_out),
		TEST(test_paths_too_long),
		TEST(test_renames),
		TEST(test_rename_seen_late),
		TEST(test_inode_number_given_again),
	};

	if (!fixture_begin())
		return 77;
	return cmocka_run_group_tests_name("cgroup", tests, NULL, NULL);
}
