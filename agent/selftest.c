/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Does splicing work on the kernel that runs?
 * Reads from: the result of a child process.
 * Writes to: the cgroup tree, for the time of the test.
 */
#include "selftest.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cgroup_trial.h"
#include "log.h"
#include "selftest_tries.h"
#include "util/cleanup.h"

#define SELFTEST_CGROUP "shunt-selftest-" /* and the agent's process number */
#define SELFTEST_MS	5000		  /* without anything new, until it is broken off */
#define SELFTEST_END_MS 500		  /* for who was killed to be gone */
#define SELFTEST_STACK	(256 << 10)

static const struct {
	const char *name;
	bool needed;
	const char *text;
} selftest_checks[] = {
#define X(name, needed, text) {#name, needed, text},
	SELFTEST_CHECKS(X)
#undef X
};

const char *selftest_name(enum selftest_check check)
{
	return selftest_checks[check].name;
}

const char *selftest_text(enum selftest_check check)
{
	return selftest_checks[check].text;
}

bool selftest_needed(enum selftest_check check)
{
	return selftest_checks[check].needed;
}

const char *selftest_outcome_name(enum selftest_outcome outcome)
{
	static const char *const names[SELFTEST_OUTCOMES] = {
		[SELFTEST_UNTRIED] = "untried",
		[SELFTEST_PASSED] = "passed",
		[SELFTEST_FAILED] = "failed",
	};

	return names[outcome];
}

bool selftest_allows(const struct selftest *selftest)
{
	if (selftest->obstacle)
		return false;
	for (int i = 0; i < SELFTEST_MAX; i++)
		if (selftest_needed(i) && selftest->outcome[i] != SELFTEST_PASSED)
			return false;
	return true;
}

static void selftest_list(FILE *stream, const struct selftest *selftest,
			  enum selftest_outcome outcome, const char *intro)
{
	const char *before = intro;

	for (int i = 0; i < SELFTEST_MAX; i++) {
		if (!selftest_needed(i) || selftest->outcome[i] != outcome)
			continue;
		fprintf(stream, "%s%s (%s)", before, selftest_name(i), selftest_text(i));
		before = ", ";
	}
}

char *selftest_lacks(const struct selftest *selftest)
{
	char *text = NULL;
	size_t size;
	FILE *stream;

	if (selftest_allows(selftest))
		return NULL;
	stream = open_memstream(&text, &size);
	if (!stream)
		return NULL;
	if (selftest->obstacle) {
		fprintf(stream, "the self-test could not be made: %s: %s", selftest->obstacle,
			strerror(-selftest->error));
	} else {
		selftest_list(stream, selftest, SELFTEST_FAILED, "failed in the self-test: ");
		if (ftell(stream))
			fputs("; ", stream);
		selftest_list(stream, selftest, SELFTEST_UNTRIED, "not come to: ");
	}
	return fclose(stream) ? NULL : text;
}

static bool selftest_await(int fd, short event, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = event};
	int r;

	do
		r = poll(&poll_fd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r == 1;
}

/* How many checks have been made: the process notes them one by one. */
static int selftest_noted(const volatile struct selftest *result)
{
	int n = 0;

	for (int i = 0; i < SELFTEST_MAX; i++)
		n += result->outcome[i] != SELFTEST_UNTRIED;
	return n;
}

/* For as long as it goes on: a processor may be slow, or have much else to do. */
static bool selftest_await_end(int process, const struct selftest *result)
{
	int noted;

	do {
		noted = selftest_noted(result);
		if (selftest_await(process, POLLIN, SELFTEST_MS))
			return true;
	} while (selftest_noted(result) > noted);
	return false;
}

static void selftest_give_up(struct selftest *selftest, const char *obstacle, int error)
{
	selftest->obstacle = obstacle;
	selftest->error = error;
}

/* Runs the tries in a process and a network namespace of their own, with all signals blocked: those
 * of the agent's are the agent's. */
static void selftest_spawn(struct selftest_tries *tries)
{
	void *stack = mmap(NULL, SELFTEST_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	_cleanup_close_ int process = -1;
	sigset_t all, before;
	pid_t pid;

	if (stack == MAP_FAILED) {
		selftest_give_up(tries->result, "no memory", -errno);
		return;
	}
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(selftest_tries_main, (char *)stack + SELFTEST_STACK,
		    CLONE_NEWNET | CLONE_PIDFD | SIGCHLD, tries, &process);
	if (pid < 0)
		selftest_give_up(tries->result, "no network namespace can be made", -errno);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid >= 0 && !selftest_await_end(process, tries->result)) {
		log_warning("a check of the self-test took %d ms, and it was broken off",
			    SELFTEST_MS);
		kill(pid, SIGKILL);
		selftest_await(process, POLLIN, SELFTEST_END_MS);
	}
	if (pid >= 0)
		waitpid(pid, NULL, WNOHANG); /* one that the kernel does not let go stays */
	munmap(stack, SELFTEST_STACK);
}

static void selftest_run_in(struct selftest_tries *tries)
{
	struct stat st;
	int r;

	if (fstat(tries->cgroup, &st)) {
		selftest_give_up(tries->result, "its cgroup cannot be opened", -errno);
		return;
	}
	tries->cgroup_id = st.st_ino;
	r = loader_trial_new(tries->cgroup, &tries->trial);
	if (r) {
		selftest_give_up(tries->result, "its programs cannot be loaded or attached", r);
		return;
	}
	selftest_spawn(tries);
	loader_trial_free(tries->trial);
}

static void selftest_run_below(const char *cgroup_root, struct selftest *result)
{
	struct selftest_tries tries = {.result = result};
	struct cgroup_trial trial = CGROUP_TRIAL_NULL;
	int r = cgroup_trial_init(&trial, cgroup_root, SELFTEST_CGROUP);

	if (r) {
		selftest_give_up(result, "no cgroup can be made below cgroup_root", r);
		return;
	}
	tries.cgroup = trial.fd;
	selftest_run_in(&tries);
	cgroup_trial_deinit(&trial);
}

void selftest_run(const char *cgroup_root, struct selftest *ret)
{
	struct selftest *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*ret = (struct selftest){};
	if (shared == MAP_FAILED) {
		selftest_give_up(ret, "no memory", -errno);
		return;
	}
	selftest_run_below(cgroup_root, shared);
	*ret = *shared;
	munmap(shared, sizeof(*shared));
}
