/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the tests of the cgroup tree stand on: directories of their own, a listener that keeps its
 * own books and objects to every report out of order, and a plain walk to compare with.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

#include "cgroup.h"

/* Ends the test; in a child process, the child. */
#define CHECK(condition) fixture_check(condition, #condition, __FILE__, __LINE__)

struct fixture {
	uv_loop_t loop;
	struct cgroup_tree *tree;
	const char *root;
	const char *const *watched;
	size_t n_watched;
	void *told; /* search tree of what was reported, by path */
	size_t n_told;
	size_t added, removed, failed; /* numbers of reports */
	int error;		       /* the latest that was reported */
	size_t visits, n_visited;      /* walks with cgroup_tree_each(), nodes in the latest */
	pid_t child;
	int child_fd;	/* ends when it does */
	bool replacing; /* the set of paths: a parent may go before its children */
};

extern char fixture_cgroups[]; /* a directory in the cgroup2 mount */
extern char fixture_plain[];   /* one in an ordinary file system, where renames work */

/* Makes both; they vanish with the process, however it ends. Otherwise prints why not. */
bool fixture_begin(void);

void fixture_check(bool ok, const char *text, const char *file, int line);
int fixture_setup(void **state); /* an empty tree on fixture_cgroups */
/* Closes the tree and the loop, and empties the directories. */
int fixture_teardown(void **state);

void fixture_use_root(struct fixture *f, const char *root); /* instead of fixture_cgroups */
void fixture_watch(struct fixture *f, const char *const *paths, size_t n);
#define WATCH(f, ...)                                        \
	fixture_watch(f, (const char *const[]){__VA_ARGS__}, \
		      sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* Below f->root. */
void fixture_make(struct fixture *f, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fixture_drop(struct fixture *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Runs @work in a process of its own, one at a time, which dies with this one. */
void fixture_spawn(struct fixture *f, void (*work)(struct fixture *f));
/* Runs the loop until that process ends, which must be with success, and settles. */
void fixture_join(struct fixture *f);
/* Runs the loop until @fd is readable. */
void fixture_run(struct fixture *f, int fd);
/* Runs the loop until nothing is left to do. */
void fixture_settle(struct fixture *f);
bool fixture_is_idle(struct fixture *f, int ms);

/* What was reported is what the tree says and what a walk finds. */
void fixture_compare(struct fixture *f);
