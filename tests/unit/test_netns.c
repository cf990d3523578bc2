/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Finding network namespaces, and doing something in one.
 * Reads from: /proc.
 * Writes to: namespaces of child processes. Needs root; exits 77 where it may not make one.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "capture.h"
#include "netns.h"
#include "util/cleanup.h"

#define NOBODY 65534

struct world {
	pid_t pid;	   /* lives in a namespace of its own */
	uint32_t own_inum; /* of the test */
	uint32_t inum;	   /* of the child */
};

static uint32_t inum_of_fd(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static uint32_t inum_of(pid_t pid)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* A process in a network namespace of its own; -1 if it may not make one. */
static pid_t start(void)
{
	int pipe_fds[2];
	pid_t pid;
	char c;

	if (pipe2(pipe_fds, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) || write(pipe_fds[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(pipe_fds[1]);
	if (pid > 0 && read(pipe_fds[0], &c, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(pipe_fds[0]);
	return pid;
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int set_up(void **state)
{
	static struct world world;

	world.pid = start();
	if (world.pid < 0)
		return -1;
	world.own_inum = inum_of(getpid());
	world.inum = inum_of(world.pid);
	*state = &world;
	return 0;
}

static int tear_down(void **state)
{
	const struct world *world = *state;

	stop(world->pid);
	return 0;
}

static void expect_found(uint32_t inum, uint32_t hint)
{
	_cleanup_close_ int fd = netns_open(inum, hint);

	assert_true(fd >= 0);
	assert_int_equal(inum_of_fd(fd), inum);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void test_a_namespace_is_found(void **state)
{
	const struct world *world = *state;

	assert_int_not_equal(world->inum, world->own_inum);
	expect_found(world->own_inum, 0);
	expect_found(world->own_inum, world->pid);
	expect_found(world->inum, world->pid);
	/* A hint is no more than that: none, one that misleads, one without a process. */
	expect_found(world->inum, 0);
	expect_found(world->inum, getpid());
	expect_found(world->inum, INT32_MAX);
}

static void test_a_namespace_without_processes_is_not_found(void **state)
{
	_cleanup_close_ int fd = -1; /* keeps its number from being given to another */
	pid_t pid = start();
	uint32_t inum;

	assert_true(pid > 0);
	inum = inum_of(pid);
	expect_found(inum, 0);
	fd = netns_open(inum, pid);
	stop(pid);
	assert_int_equal(netns_open(inum, pid), -ENOENT);
	assert_int_equal(netns_open(0, 0), -ENOENT);
}

static void test_those_of_others_take_a_capability(void **state)
{
	const struct world *world = *state;
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		if (setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		if (netns_open(world->own_inum, 0) < 0)
			_exit(2);
		_exit(netns_open(world->inum, world->pid) == -ENOENT ? 0 : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int note_inum(void *arg)
{
	*(uint32_t *)arg = inum_of(getpid());
	return -42;
}

static uint32_t enter(uint32_t inum)
{
	_cleanup_close_ int fd = netns_open(inum, 0);
	uint32_t seen = 0;

	assert_true(fd >= 0);
	assert_int_equal(netns_enter_and(fd, note_inum, &seen), -42);
	return seen;
}

static void test_a_call_is_made_inside_and_the_caller_stays_outside(void **state)
{
	const struct world *world = *state;

	assert_int_equal(enter(world->inum), world->inum);
	assert_int_equal(inum_of(getpid()), world->own_inum);
	assert_int_equal(enter(world->own_inum), world->own_inum);
	assert_int_equal(inum_of(getpid()), world->own_inum);
}

static int count_call(void *arg)
{
	++*(int *)arg;
	return 0;
}

static void test_what_is_no_network_namespace_is_not_entered(void **state)
{
	_cleanup_close_ int other = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	const struct world *world = *state;
	int calls = 0;

	assert_int_equal(netns_enter_and(other, count_call, &calls), -EINVAL);
	assert_int_equal(netns_enter_and(-1, count_call, &calls), -EBADF);
	assert_int_equal(calls, 0);
	assert_int_equal(inum_of(getpid()), world->own_inum);
}

static int give_up_root(void *arg)
{
	return setresuid(NOBODY, NOBODY, NOBODY);
}

/* A call that takes the way back away, in a child: it ends there, and says why. */
static void test_without_a_way_back_nothing_goes_on(void **state)
{
	const struct world *world = *state;
	_cleanup_close_ int fd = netns_open(world->inum, world->pid);
	struct capture capture;
	const char *text;
	int status;
	pid_t pid;

	assert_true(fd >= 0);
	capture_begin(&capture);
	pid = fork();
	if (!pid) {
		signal(SIGABRT, SIG_DFL); /* cmocka's would go on with the next test */
		netns_enter_and(fd, give_up_root, NULL);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	text = capture_end(&capture);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "no way back into the agent's own network namespace: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_namespace_is_found),
		cmocka_unit_test(test_a_namespace_without_processes_is_not_found),
		cmocka_unit_test(test_those_of_others_take_a_capability),
		cmocka_unit_test(test_a_call_is_made_inside_and_the_caller_stays_outside),
		cmocka_unit_test(test_what_is_no_network_namespace_is_not_entered),
		cmocka_unit_test(test_without_a_way_back_nothing_goes_on),
	};
	pid_t pid = start();

	if (pid < 0) {
		print_message("SKIP: network namespaces cannot be made here\n");
		return 77;
	}
	stop(pid);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
