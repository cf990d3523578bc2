/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Does splicing work on the kernel that runs? It is tried, with connections of the agent's own, in
 * a network namespace and a cgroup of their own, by the very programs that splice for others.
 */
#pragma once

#include <stdbool.h>

/*
 * X(name, needed, text). Without what is needed nothing is spliced. What is not needed is only
 * told: TCP's bytes at a member are made to count by taking it out of the sockhash, and a
 * connection that is not let in goes by TCP.
 */
#define SELFTEST_CHECKS(X)                                                                       \
	X(borrow, true, "in the host's PID namespace, what others have open can be borrowed")    \
	X(pair, true, "the two ends of a connection find each other, and bytes go past TCP")     \
	X(charge, true, "spliced bytes are charged to the receive buffer of their reader")       \
	X(fionread, true, "FIONREAD counts spliced bytes")                                       \
	X(eof, true, "the end of a stream comes after all of its bytes")                         \
	X(shutdown, true, "nothing is sent any more after shutdown(SHUT_WR)")                    \
	X(bound, true, "a reader that does not read stops its writer")                           \
	X(order, true, "bytes that go partly past TCP and partly by it arrive in order")         \
	X(kick, true, "a reader is told of TCP's bytes behind those that were spliced")          \
	X(leave, true, "both ends can be taken out of the sockhash, and FIONREAD is right then") \
	X(fionread_tcp, false, "FIONREAD counts TCP's bytes while a socket is in the sockhash")  \
	X(adopt, false, "a connection that went by TCP is spliced in mid-stream, in order")

enum selftest_check {
#define X(name, needed, text) SELFTEST_##name,
	SELFTEST_CHECKS(X)
#undef X
		SELFTEST_MAX,
};

enum selftest_outcome {
	SELFTEST_UNTRIED,
	SELFTEST_PASSED,
	SELFTEST_FAILED,
	SELFTEST_OUTCOMES,
};

struct selftest {
	enum selftest_outcome outcome[SELFTEST_MAX];
	const char *obstacle; /* what could not be done, so that nothing more was tried; or NULL */
	int error;	      /* … and why: negative errno */
};

/* Takes well under a second beside the loading of the programs, and is broken off when there is
 * nothing new for five. @cgroup_root: where the cgroup is made, and removed again. */
void selftest_run(const char *cgroup_root, struct selftest *ret);

/* Is all there that splicing needs? Not before the first run. */
bool selftest_allows(const struct selftest *selftest);
/* What is not there, for the operator; the caller frees. NULL: all is, or no memory. */
char *selftest_lacks(const struct selftest *selftest);

const char *selftest_name(enum selftest_check check);
const char *selftest_text(enum selftest_check check);
bool selftest_needed(enum selftest_check check);
const char *selftest_outcome_name(enum selftest_outcome outcome);
