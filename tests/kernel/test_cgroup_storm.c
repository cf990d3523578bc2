/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The cgroup tree when thousands of cgroups come and go at once, or events are lost.
 * Reads from: directories of its own, see cgroup_fixture.h.
 * Writes to: the same. Needs root; exits 77 where it cannot make a cgroup. */
#include <limits.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup_fixture.h"
#include "util/cleanup.h"

static void make_bursts(struct fixture *f)
{
	int i;

	for (i = 0; i < 600; i++) {
		fixture_make(f, "/w/%d/b/c/d", i);
		fixture_make(f, "/w/%d/b/c/e", i);
		if (i % 3)
			fixture_drop(f, "/w/%d", i);
		else if (i % 2)
			fixture_drop(f, "/w/%d/b", i);
	}
}

static void test_nested_bursts(void **state)
{
	struct fixture *f = *state;

	WATCH(f, "/w");
	fixture_spawn(f, make_bursts);
	fixture_join(f);
	fixture_compare(f);
	CHECK(cgroup_tree_count(f->tree) == 1 + 100 * 5 + 100);
	CHECK(f->failed == 0);
	CHECK(fixture_is_idle(f, 100));
}

#define MANY 5000

static void make_many(struct fixture *f)
{
	int i;

	for (i = 0; i < MANY; i++)
		fixture_make(f, "/m%d/%d/%d", i % 4, i / 8, i);
}

static void drop_many(struct fixture *f)
{
	int i;

	for (i = 0; i < 4; i++)
		fixture_drop(f, "/m%d", i);
}

static void test_many_leave_nothing(void **state)
{
	struct fixture *f = *state;
	size_t used[3];
	int round;

	WATCH(f, "/m0", "/m1", "/m2", "/m3");
	for (round = 0; round < 3; round++) {
		fixture_spawn(f, make_many);
		fixture_join(f);
		fixture_compare(f);
		CHECK(cgroup_tree_count(f->tree) == 4 + 4 * MANY / 8 + MANY);
		fixture_spawn(f, drop_many);
		fixture_join(f);
		fixture_compare(f);
		CHECK(cgroup_tree_count(f->tree) == 0);
		used[round] = mallinfo2().uordblks;
	}
	CHECK(f->failed == 0);
	/* What malloc itself keeps at hand differs by a little; 5,000 of anything do not hide in
	 * it. */
	CHECK(used[1] < used[0] + 8192 && used[2] < used[0] + 8192);
}

static long read_number(const char *path)
{
	_cleanup_fclose_ FILE *stream = fopen(path, "re");
	long n = 0;

	CHECK(stream && fscanf(stream, "%ld", &n) == 1);
	return n;
}

static void test_overflow(void **state)
{
	struct fixture *f = *state;
	long i, limit = read_number("/proc/sys/fs/inotify/max_queued_events");
	char path[PATH_MAX + 16];

	fixture_make(f, "/a/old/child");
	fixture_make(f, "/a/again");
	WATCH(f, "/a", "/missing/path");

	/* Two different names, since equal events in a row count as one. */
	snprintf(path, sizeof(path), "%s/a/noise", f->root);
	for (i = 0; i < limit / 2 + 16; i++) {
		CHECK(mkdir(path, 0755) == 0);
		CHECK(rmdir(path) == 0);
	}
	/* Of these no event can tell. */
	fixture_make(f, "/a/new/child");
	fixture_drop(f, "/a/old");
	fixture_drop(f, "/a/again");
	fixture_make(f, "/a/again/child");
	fixture_make(f, "/missing/path");

	fixture_settle(f);
	CHECK(cgroup_tree_resyncs(f->tree) == 1);
	fixture_compare(f);
	CHECK(cgroup_tree_find(f->tree, "/a/new/child") &&
	      cgroup_tree_find(f->tree, "/missing/path"));
	CHECK(f->failed == 0);

	fixture_make(f, "/a/after/all");
	fixture_settle(f);
	fixture_compare(f);
	CHECK(cgroup_tree_resyncs(f->tree) == 1);
}

#define SOAK_SECONDS 2

static unsigned int seed;
static int soak_request[2], soak_answer[2]; /* "look now", "go on" */

static void random_path(char path[64])
{
	static const char *const names[] = {"/a", "/b", "/c", "/d"};
	int depth = 1 + rand_r(&seed) % 5;

	path[0] = '\0';
	while (depth--)
		strcat(path, names[rand_r(&seed) % 4]);
}

static void soak(struct fixture *f)
{
	char path[64], from[PATH_MAX], to[PATH_MAX];
	time_t end = time(NULL) + SOAK_SECONDS;
	bool renames = f->root == fixture_plain;
	int i, n;
	char c;

	while (time(NULL) < end) {
		n = rand_r(&seed) % 300;
		for (i = 0; i < n; i++) {
			random_path(path);
			snprintf(from, sizeof(from), "%s%s", f->root, path);
			switch (rand_r(&seed) % (renames ? 9 : 8)) {
			case 0:
				fixture_drop(f, "%s", path);
				break;
			case 1:
			case 2:
				rmdir(from);
				break;
			case 3:
				rmdir(from);
				mkdir(from, 0755);
				break;
			case 8:
				random_path(path);
				snprintf(to, sizeof(to), "%s%s", f->root, path);
				rename(from, to);
				break;
			default:
				fixture_make(f, "%s", path);
			}
		}
		CHECK(write(soak_request[1], "?", 1) == 1);
		CHECK(read(soak_answer[0], &c, 1) == 1);
	}
	CHECK(write(soak_request[1], "!", 1) == 1);
}

static void run_soak(struct fixture *f)
{
	static const char *const sets[][3] = {{"/a", "/b/c", "/d/d/d/d"},
					      {"/a/a", "/a/b", "/c"},
					      {"/d", "/e/e", "/b/c/d"},
					      {"/"}};
	static const size_t sizes[] = {3, 3, 3, 1};
	unsigned int choice = seed;
	size_t i;
	char c;

	CHECK(pipe(soak_request) == 0 && pipe(soak_answer) == 0);
	fixture_watch(f, sets[0], sizes[0]);
	fixture_spawn(f, soak);
	close(soak_request[1]);
	close(soak_answer[0]);
	for (;;) {
		fixture_run(f, soak_request[0]);
		CHECK(read(soak_request[0], &c, 1) == 1);
		if (c == '!')
			break;
		if (rand_r(&choice) % 8 == 0)
			cgroup_tree_rescan(f->tree);
		if (rand_r(&choice) % 4 == 0) {
			i = (size_t)rand_r(&choice) % ARRAY_SIZE(sets);
			fixture_watch(f, sets[i], sizes[i]);
			fixture_compare(f);
		}
		fixture_settle(f);
		fixture_compare(f);
		CHECK(write(soak_answer[1], "!", 1) == 1);
	}
	fixture_join(f);
	fixture_compare(f);
	CHECK(f->failed == 0);
	close(soak_request[0]);
	close(soak_answer[1]);
}

static void test_soak(void **state)
{
	run_soak(*state);
}

static void test_soak_with_renames(void **state)
{
	struct fixture *f = *state;

	fixture_use_root(f, fixture_plain);
	run_soak(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nested_bursts), TEST(test_many_leave_nothing), TEST(test_overflow),
		TEST(test_soak),	  TEST(test_soak_with_renames),
	};

	if (!fixture_begin())
		return 77;
	/* A seed as the argument repeats a soak. */
	seed = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 0) : (unsigned int)time(NULL);
	fprintf(stderr, "seed %u\n", seed);
	return cmocka_run_group_tests_name("cgroup_storm", tests, NULL, NULL);
}
