/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a direction is spliced: each answer of the decision, and a model in which every order of what
 * its writers, TCP, its reader and the agent do is tried; and that it fails for want of any guard.
 * Reads from: bpf/splice_decide.bpf.h.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../bpf/splice_decide.bpf.h"
#include "util/cleanup.h"

/* The decision */

static struct splice_view view;

static int setup(void **state)
{
	view = (struct splice_view){
		.read = true,
		.empty = true,
		.alone = true,
		.size = 100,
		.limit = 1000,
	};
	return 0;
}

static void assert_decides(uint32_t from, uint32_t to, uint32_t reason, bool redirect)
{
	struct splice_verdict verdict;

	view.state = from;
	splice_decide(&view, &verdict);
	assert_int_equal(verdict.state, to);
	assert_int_equal(verdict.redirect, redirect);
	if (to != from)
		assert_int_equal(verdict.reason, reason);
}

static void assert_splices(uint32_t from)
{
	assert_decides(from, SHUNT_STATE_SPLICED, SHUNT_REASON_none, true);
}

static void assert_stays(uint32_t state)
{
	assert_decides(state, state, SHUNT_REASON_none, false);
}

static void test_plain_and_left_never_splice(void **state)
{
	for (unsigned int bits = 0; bits < 1 << 4; bits++) {
		view.now = bits & 1 << 0;
		view.read = bits & 1 << 1;
		view.empty = bits & 1 << 2;
		view.alone = bits & 1 << 3;
		for (view.veto = 0; view.veto < 2; view.veto++) {
			assert_stays(SHUNT_STATE_PLAIN);
			assert_stays(SHUNT_STATE_LEFT);
		}
	}
}

static void test_ready_splices_once_all_was_read(void **state)
{
	assert_splices(SHUNT_STATE_READY);
	view.size = view.limit;
	assert_splices(SHUNT_STATE_READY);
	view.read = false;
	assert_decides(SHUNT_STATE_READY, SHUNT_STATE_LEFT, SHUNT_REASON_behind, false);
}

static void test_ready_leaves(void **state)
{
	view.size = view.limit + 1;
	assert_decides(SHUNT_STATE_READY, SHUNT_STATE_LEFT, SHUNT_REASON_big, false);
	view.veto = SHUNT_REASON_blocking;
	assert_decides(SHUNT_STATE_READY, SHUNT_STATE_LEFT, SHUNT_REASON_blocking, false);
	view.read = view.empty = view.alone = false;
	assert_decides(SHUNT_STATE_READY, SHUNT_STATE_LEFT, SHUNT_REASON_blocking, false);
}

static void test_spliced_goes_on(void **state)
{
	assert_splices(SHUNT_STATE_SPLICED);
	view.empty = view.alone = false;
	view.queued = view.limit - view.size;
	assert_splices(SHUNT_STATE_SPLICED);
}

static void test_spliced_leaves_at_a_quiet_moment_only(void **state)
{
	view.veto = SHUNT_REASON_stream;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_LEFT, SHUNT_REASON_stream, false);
	view.empty = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPLICED, 0, true);
	view.empty = true;
	view.alone = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPLICED, 0, true);
}

static void test_spliced_spills_at_the_bound(void **state)
{
	view.empty = false;
	view.queued = view.limit - view.size + 1;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_spilled, false);
	view.alone = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_spilled, false);
	view.veto = SHUNT_REASON_stream;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_stream, false);
}

static void test_spliced_and_a_message_that_is_too_big(void **state)
{
	view.size = view.limit + 1;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_LEFT, SHUNT_REASON_big, false);
	view.empty = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_big, false);
}

static void test_spliced_and_a_message_that_tcp_has_to_carry(void **state)
{
	view.now = true;
	view.veto = SHUNT_REASON_urgent;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_LEFT, SHUNT_REASON_urgent, false);
	view.empty = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_urgent, false);
	assert_decides(SHUNT_STATE_READY, SHUNT_STATE_LEFT, SHUNT_REASON_urgent, false);
}

/* A send() that began before the pair was let in is not seen by sk_msg, and goes by TCP. */
static void test_spliced_does_not_overtake_tcp(void **state)
{
	view.read = false;
	assert_decides(SHUNT_STATE_SPLICED, SHUNT_STATE_SPILLED, SHUNT_REASON_spilled, false);
}

static void test_spilled_splices_again_once_all_was_read(void **state)
{
	assert_splices(SHUNT_STATE_SPILLED);
	view.empty = view.alone = false;
	view.queued = view.limit - view.size;
	assert_splices(SHUNT_STATE_SPILLED);
	view.queued++;
	assert_stays(SHUNT_STATE_SPILLED);
	view.queued = 0;
	view.read = false;
	assert_stays(SHUNT_STATE_SPILLED);
}

static void test_spilled_leaves_at_a_quiet_moment_only(void **state)
{
	view.read = false;
	assert_decides(SHUNT_STATE_SPILLED, SHUNT_STATE_LEFT, SHUNT_REASON_spilled, false);
	view.read = true;
	view.veto = SHUNT_REASON_disabled;
	assert_decides(SHUNT_STATE_SPILLED, SHUNT_STATE_LEFT, SHUNT_REASON_disabled, false);
	view.alone = false;
	assert_stays(SHUNT_STATE_SPILLED);
	view.alone = true;
	view.empty = false;
	assert_stays(SHUNT_STATE_SPILLED);
}

static void test_limit(void **state)
{
	/* A tenth of what TCP takes; within the reader's buffer; within what the operator says. */
	assert_int_equal(splice_limit(1 << 20, false, 2626560, 1 << 20),
			 ((1 << 19) + 2626560) / 10);
	assert_int_equal(splice_limit(4608, false, 2626560, 1 << 20), 4608);
	assert_int_equal(splice_limit(6 << 20, false, 4 << 20, 65536), 65536);
	assert_int_equal(splice_limit(INT32_MAX, false, INT32_MAX, UINT32_MAX),
			 ((uint64_t)INT32_MAX / 2 + INT32_MAX) / 10);
}

static void test_streams(void **state)
{
	uint64_t slow = (uint64_t)SPLICE_STREAM_MESSAGES * SPLICE_STREAM_NS;

	assert_false(splice_streams(SPLICE_STREAM_MESSAGES - 1, 0, 0, false));
	assert_true(splice_streams(SPLICE_STREAM_MESSAGES, 0, slow - 1, false));
	assert_false(splice_streams(SPLICE_STREAM_MESSAGES, 0, slow, false));
	assert_false(splice_streams(1, SPLICE_STREAM_BYTES, 0, false));
	assert_true(splice_streams(1, SPLICE_STREAM_BYTES + 1, slow, false));
	assert_false(splice_streams(1, SPLICE_SUSPECT_BYTES, 0, true));
	assert_true(splice_streams(1, SPLICE_SUSPECT_BYTES + 1, 0, true));
}

static void test_scope(void **state)
{
	static const struct {
		uint32_t scope;
		bool sidecar;
		bool same_netns;
		uint32_t veto;
	} cases[] = {
		{SHUNT_SCOPE_OFF, true, true, SHUNT_REASON_off},
		{SHUNT_SCOPE_SIDECAR, true, false, SHUNT_REASON_none},
		{SHUNT_SCOPE_SIDECAR, false, true, SHUNT_REASON_scope},
		{SHUNT_SCOPE_NETNS, false, true, SHUNT_REASON_none},
		{SHUNT_SCOPE_NETNS, true, false, SHUNT_REASON_scope},
		{SHUNT_SCOPE_NODE, false, false, SHUNT_REASON_none},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(
			splice_scope(cases[i].scope, cases[i].sidecar, cases[i].same_netns),
			cases[i].veto);
}

/* The model */

#define WRITERS	 2
#define MESSAGES 4 /* of one byte each; those of the first writer come first */

/* What can be taken away. */
enum guard {
	GUARD_READ = 1 << 0,	  /* splice_decide(): all of TCP's is read … */
	GUARD_OVERTAKE = 1 << 1,  /* … also when it is SPLICED already */
	GUARD_EMPTY = 1 << 2,	  /* … nothing spliced is unread */
	GUARD_ALONE = 1 << 3,	  /* … no other send() is under way */
	GUARD_BOUND = 1 << 4,	  /* … there is room */
	GUARD_SHUTDOWN = 1 << 5,  /* splice_send(): only in ESTABLISHED or CLOSE_WAIT */
	GUARD_EXCHANGE = 1 << 6,  /* pair_turn(): the state is what it was when it was looked at */
	GUARD_CLAIM = 1 << 7,	  /* splice_turn(): not while settle_peer() looks */
	GUARD_OWN_USERS = 1 << 8, /* settle_own(): no send() is under way … */
	GUARD_OWN_EMPTY = 1 << 9, /* … nothing spliced is unread */
	GUARD_PEER_USERS = 1 << 10, /* settle_peer(): the same … */
	GUARD_PEER_EMPTY = 1 << 11, /* … */
	GUARD_PEER_KICK = 1 << 12,  /* … and who comes to the boundary is kicked */
	GUARD_VISIT_KICK = 1 << 13, /* visit_look(): also while it is SPILLED */
	GUARD_IN_TURN = 1 << 14,    /* the agent lets nobody in whom it is taking out */
	GUARD_OUT_KICK = 1 << 15,   /* settle(): one that was taken out: FIONREAD may have lied */
	GUARD_STRAY = 1 << 16,	    /* settle(): a send() from before it was let in spills */
	GUARD_PROBE = 1 << 17, /* sockops_transmit(): without an agent, keep-alive's timer … */
	GUARD_STUCK_KICK = 1 << 18, /* … also while the socket cannot be taken out */
	GUARD_END_USERS = 1 << 19,  /* close_strand(): no send() is under way … */
	GUARD_END_EMPTY = 1 << 20,  /* … nothing spliced is unread */
	GUARD_STRAND = 1 << 21, /* walk_strand(): who reads a connection that is over is found … */
	GUARD_STRAND_EMPTY = 1 << 22, /* … and taken out once nothing spliced is unread */
	GUARD_OVER_KICK = 1 << 23,    /* visit_say_out(): one that is over by then */
	GUARD_CALL_OFF = 1 << 24, /* settle(): who is let in, and has bytes of TCP, calls it off */
	GUARD_ALL = (1 << 25) - 1,
};

enum reader_kind {
	READER_LEVEL,
	READER_EDGE,	 /* reads until there is nothing */
	READER_SHORT,	 /* takes a read that does not fill its buffer for the last one */
	READER_FIONREAD, /* … and asks FIONREAD after one that did */
};

enum violation {
	FINE,
	DISORDER,
	LOSS,
	UNBOUNDED,
	ASLEEP,
	AFTER_SHUTDOWN,
};

static const char *const violation_names[] = {
	[FINE] = "every property holds", [DISORDER] = "bytes out of order",
	[LOSS] = "bytes lost",		 [UNBOUNDED] = "queue over the bound",
	[ASLEEP] = "asleep for ever",	 [AFTER_SHUTDOWN] = "sent after shutdown()",
};

struct scenario {
	const char *name;
	enum reader_kind reader;
	uint8_t messages[WRITERS];
	uint8_t limit;	/* bytes that may be queued … */
	uint8_t buffer; /* … and that one recv() takes */
	bool veto;	/* the pair may have to leave, at any time */
	bool dies;	/* the agent may */
	bool adopts;	/* the agent lets the pair in again, once */
	bool shuts;	/* the writer calls shutdown() at any time */
	bool ends; /* … and R has ended its own direction before: then the connection is over */
	bool big;  /* the second writer's messages are larger than may be queued */
	bool back; /* the other direction's bytes stay unread */
	bool out;  /* it begins outside */
	bool spilled; /* … or where a reader has caught up */
	bool passes;  /* either socket sends by TCP for reasons of its own */
};

enum writer_step {
	WRITER_IDLE,
	WRITER_ENTERED, /* tcp_bpf_sendmsg(), and holds the psock */
	WRITER_PLAIN,	/* tcp_sendmsg() */
	WRITER_VIEWED,	/* shunt_splice() has looked, and holds the lock */
	WRITER_PENDING, /* bpf_tcp_ingress() is to come; the lock is free */
	WRITER_QUEUED,	/* has to have the lock again before it lets go of the psock */
};

enum reader_step {
	READER_ASLEEP,
	READER_AWAKE,
	READER_SEEN, /* recv() is over; its tracepoint comes */
	READER_BACK,
	READER_ASKING,
};

enum settle_step {
	SETTLE_NONE,
	SETTLE_TRANSMIT, /* in sockops, or … */
	SETTLE_VISIT,	 /* … in a visit: settle_peer() has looked, and R's lock is held */
};

enum flag {
	LEAVE = 1 << 0,
	KICK = 1 << 1,
	MEMBER_W = 1 << 2,
	MEMBER_R = 1 << 3,
	SHUT = 1 << 4,
	PROBED = 1 << 5,
	SPILLED_EVENT = 1 << 6, /* in the ring buffer */
	WATCHED = 1 << 7,	/* shunt_reads is attached */
	WALK = 1 << 8,		/* the agent is to pass by */
	TRANSMIT = 1 << 9,	/* R is to acknowledge data */
	EDGE = 1 << 10,
	DEAD = 1 << 11,
	ADOPTED = 1 << 12,
	ADOPTING = 1 << 13,
	VETOED = 1 << 14,
	OUT_DUE = 1 << 15,  /* a visit has found that R may be taken out … */
	OUT_DONE = 1 << 16, /* … and the agent has, and is to say so in another visit */
	OVER = 1 << 17,	    /* R's connection is: it sends nothing more */
	STRANDED = 1 << 18, /* … and is in the sockhash still, though no flag of the pair says so */
	STRANDED_EVENT = 1 << 19, /* in the ring buffer */
};

/* One moment. W is the writer's socket, R the reader's. Compared as memory: no padding. */
struct moment {
	uint32_t flags;
	uint8_t state;
	uint8_t queue[MESSAGES]; /* spliced to R, unread */
	uint8_t n_queue;
	uint8_t wire[MESSAGES]; /* what went by TCP, from the begin */
	uint8_t written;
	uint8_t delivered;
	uint8_t copied;
	uint8_t step[WRITERS];
	uint8_t next[WRITERS];	  /* messages begun */
	uint8_t before[MESSAGES]; /* the messages whose send() had returned when this one's began */
	uint8_t done;
	uint8_t read;
	uint8_t reader;
	uint8_t got; /* by the last recv() */
	uint8_t locked_w;
	uint8_t settling;
	uint8_t settle_go;
	uint8_t view_state; /* what a writer that is VIEWED saw */
	uint8_t view_bits;
	uint8_t view_queued;
};

enum view_bits {
	VIEW_READ = 1 << 0,
	VIEW_EMPTY = 1 << 2,
	VIEW_ALONE = 1 << 3,
	VIEW_VETO = 1 << 4,
	VIEW_SHUT = 1 << 5,
};

struct model {
	const struct scenario *scenario;
	unsigned int off;	/* enum guard */
	struct moment *moments; /* every one that can come about */
	size_t n_moments;
	size_t size;
	uint32_t *table; /* index of a moment + 1 */
	size_t table_size;
	size_t current;	 /* the moment that is looked at */
	uint32_t *edges; /* what is due leads from moment edges[2 * i] to edges[2 * i + 1] */
	size_t n_edges;
	size_t edges_size;
	enum violation found;
	size_t n_steps;
};

static bool has(const struct model *m, enum guard guard)
{
	return !(m->off & guard);
}

static uint64_t moment_hash(const struct moment *moment)
{
	const uint8_t *bytes = (const uint8_t *)moment;
	uint64_t hash = 14695981039346656037ull;

	for (size_t i = 0; i < sizeof(*moment); i++)
		hash = (hash ^ bytes[i]) * 1099511628211ull;
	return hash ^ hash >> 29;
}

static uint32_t *model_slot(const struct model *m, const struct moment *moment)
{
	size_t i = moment_hash(moment) & (m->table_size - 1);

	while (m->table[i] && memcmp(&m->moments[m->table[i] - 1], moment, sizeof(*moment)))
		i = (i + 1) & (m->table_size - 1);
	return &m->table[i];
}

static void model_grow(struct model *m)
{
	m->size = m->size ? 2 * m->size : 4096;
	m->moments = reallocarray(m->moments, m->size, sizeof(*m->moments));
	assert_non_null(m->moments);
	free(m->table);
	m->table_size = 2 * m->size;
	m->table = calloc(m->table_size, sizeof(*m->table));
	assert_non_null(m->table);
	for (size_t i = 0; i < m->n_moments; i++)
		*model_slot(m, &m->moments[i]) = i + 1;
}

static uint32_t model_add(struct model *m, const struct moment *moment)
{
	uint32_t *slot;

	m->n_steps++;
	if (m->n_moments == m->size)
		model_grow(m);
	slot = model_slot(m, moment);
	if (!*slot) {
		m->moments[m->n_moments++] = *moment;
		*slot = m->n_moments;
	}
	return *slot - 1;
}

/* Something may happen … */
static void may(struct model *m, const struct moment *to)
{
	model_add(m, to);
}

/* … or will, sooner or later. */
static void will(struct model *m, const struct moment *to)
{
	uint32_t next = model_add(m, to);

	if (next == m->current)
		return;
	if (m->n_edges == m->edges_size) {
		m->edges_size = m->edges_size ? 2 * m->edges_size : 4096;
		m->edges = reallocarray(m->edges, m->edges_size, 2 * sizeof(*m->edges));
		assert_non_null(m->edges);
	}
	m->edges[2 * m->n_edges] = m->current;
	m->edges[2 * m->n_edges++ + 1] = next;
}

static void violate(struct model *m, enum violation violation)
{
	if (!m->found)
		m->found = violation;
}

static bool unread(const struct moment *now)
{
	return now->delivered != now->copied;
}

/* How many use W's psock. */
static int users(const struct moment *now)
{
	int n = !!(now->flags & MEMBER_W);

	for (int i = 0; i < WRITERS; i++)
		n += now->step[i] != WRITER_IDLE && now->step[i] != WRITER_PLAIN;
	return n;
}

/* Is R in the sockhash? Its flag may outlast that, or not last as long. */
static bool is_in(const struct moment *now)
{
	return now->flags & STRANDED || (now->flags & MEMBER_R && !(now->flags & OUT_DONE));
}

/* R leaves the sockhash, with what is queued for it. */
static void drop_r(struct model *m, const struct moment *now)
{
	for (int i = 0; i < WRITERS; i++)
		if (now->step[i] == WRITER_PENDING)
			violate(m, LOSS);
	if (now->n_queue)
		violate(m, LOSS);
}

static bool turn(const struct model *m, struct moment *now, uint8_t from, uint8_t to)
{
	if (has(m, GUARD_EXCHANGE) && now->state != from)
		return false;
	now->state = to;
	return true;
}

static uint8_t message_of(const struct model *m, const struct moment *now, int writer)
{
	return (writer ? m->scenario->messages[0] : 0) + now->next[writer] - 1;
}

static void push(struct moment *now, uint8_t message)
{
	now->wire[now->written++] = message;
}

static void writer_done(const struct model *m, struct moment *now, int writer)
{
	now->done |= 1 << message_of(m, now, writer);
	now->step[writer] = WRITER_IDLE;
}

/* By TCP, which refuses after shutdown(). */
static void writer_push(const struct model *m, struct moment *now, int writer)
{
	uint8_t message = message_of(m, now, writer);

	if (!(now->flags & SHUT))
		push(now, message);
	else
		now->read |= 1 << message; /* EPIPE: nobody waits for it */
	writer_done(m, now, writer);
}

static void writer_begin(struct model *m, const struct moment *from, int writer)
{
	struct moment now = *from;

	if (now.next[writer] == m->scenario->messages[writer])
		return;
	now.next[writer]++;
	now.before[message_of(m, &now, writer)] = now.done;
	now.step[writer] = now.flags & MEMBER_W ? WRITER_ENTERED : WRITER_PLAIN;
	will(m, &now);
}

/* splice_send(), first half: under the writer's lock. */
static void writer_view(struct model *m, const struct moment *from, int writer)
{
	struct moment now = *from;
	bool read = now.copied == now.written || !has(m, GUARD_READ);

	if (now.locked_w)
		return;
	now.locked_w = 1;
	now.step[writer] = WRITER_VIEWED;
	now.view_state = now.state;
	now.view_queued = has(m, GUARD_BOUND) ? now.n_queue : 0;
	now.view_bits = (read ? VIEW_READ : 0) |
			(!now.n_queue || !has(m, GUARD_EMPTY) ? VIEW_EMPTY : 0) |
			(users(&now) == 2 || !has(m, GUARD_ALONE) ? VIEW_ALONE : 0) |
			(now.flags & LEAVE ? VIEW_VETO : 0) | (now.flags & SHUT ? VIEW_SHUT : 0);
	will(m, &now);
}

/* splice_send(), second half, and splice_turn(). */
static bool writer_redirects(const struct model *m, struct moment *now, int writer)
{
	struct splice_view seen = {
		.state = now->view_state,
		.veto = now->view_bits & VIEW_VETO ? SHUNT_REASON_disabled : 0,
		.read = now->view_bits & VIEW_READ,
		.empty = now->view_bits & VIEW_EMPTY,
		.alone = now->view_bits & VIEW_ALONE,
		.size = writer && m->scenario->big ? m->scenario->limit + 1 : 1,
		.queued = now->view_queued,
		.limit = m->scenario->limit,
	};
	struct splice_verdict verdict;

	if (now->view_bits & VIEW_SHUT && has(m, GUARD_SHUTDOWN))
		return false;
	if (!has(m, GUARD_OVERTAKE) && seen.state == SHUNT_STATE_SPLICED)
		seen.read = true;
	splice_decide(&seen, &verdict);
	if (verdict.state != seen.state) {
		if (seen.state == SHUNT_STATE_SPILLED && verdict.redirect && now->settling &&
		    has(m, GUARD_CLAIM))
			return false;
		if (!turn(m, now, seen.state, verdict.state))
			return false;
		if (verdict.state == SHUNT_STATE_SPILLED)
			now->flags |= SPILLED_EVENT;
		if (verdict.state == SHUNT_STATE_LEFT)
			now->flags |= LEAVE | SPILLED_EVENT; /* either has the agent pass by */
	}
	return verdict.redirect && now->flags & MEMBER_R;
}

static void writer_decide(struct model *m, const struct moment *from, int writer)
{
	struct moment now = *from;

	now.locked_w = 0;
	if (!writer_redirects(m, &now, writer)) {
		writer_push(m, &now, writer);
	} else {
		now.step[writer] = WRITER_PENDING;
		if (now.view_bits & VIEW_SHUT)
			violate(m, AFTER_SHUTDOWN);
	}
	now.view_state = now.view_bits = now.view_queued = 0;
	will(m, &now);
}

/* bpf_tcp_ingress(), under the reader's lock. */
static void writer_queue(struct model *m, const struct moment *from, int writer)
{
	struct moment now = *from;

	if (now.settling)
		return;
	now.queue[now.n_queue++] = message_of(m, &now, writer);
	now.flags |= EDGE;
	now.step[writer] = WRITER_QUEUED;
	/* Who is between the decision and the queue is not counted: one message of each other. */
	if (now.n_queue > m->scenario->limit + WRITERS - 1)
		violate(m, UNBOUNDED);
	will(m, &now);
}

static void writer_step(struct model *m, const struct moment *from, int writer)
{
	struct moment now = *from;

	switch (from->step[writer]) {
	case WRITER_IDLE:
		writer_begin(m, from, writer);
		return;
	case WRITER_ENTERED:
		writer_view(m, from, writer);
		return;
	case WRITER_VIEWED:
		writer_decide(m, from, writer);
		return;
	case WRITER_PENDING:
		writer_queue(m, from, writer);
		return;
	case WRITER_PLAIN:
		if (now.locked_w)
			return;
		writer_push(m, &now, writer);
		will(m, &now);
		return;
	default:
		if (now.locked_w)
			return;
		writer_done(m, &now, writer);
		will(m, &now);
	}
}

/* The FIN arrives, under R's lock: close_end() and close_strand(). The kernel wakes R then. */
static void tcp_end(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (!m->scenario->ends || !(now.flags & SHUT) || now.flags & OVER || now.settling ||
	    now.delivered < now.written)
		return;
	if (!is_in(&now))
		now.flags &= ~STRANDED;
	else if (!unread(&now))
		now.flags |= STRANDED; /* its program closes it */
	else if ((users(&now) > 1 && has(m, GUARD_END_USERS)) ||
		 (now.n_queue && has(m, GUARD_END_EMPTY)))
		now.flags |= STRANDED | STRANDED_EVENT;
	else
		drop_r(m, &now);
	now.flags &= ~(MEMBER_R | TRANSMIT | PROBED);
	now.flags |= OVER | EDGE;
	if (now.state == SHUNT_STATE_SPILLED)
		now.state = SHUNT_STATE_PLAIN;
	will(m, &now);
}

static void tcp_steps(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (now.delivered < now.written && !now.settling) {
		now.delivered++;
		now.flags |= EDGE | TRANSMIT;
		will(m, &now);
	}
	if (m->scenario->shuts && !(from->flags & SHUT) && !from->locked_w) {
		now = *from;
		now.flags |= SHUT;
		may(m, &now);
	}
	tcp_end(m, from);
}

static void reader_take(struct model *m, struct moment *now, uint8_t message)
{
	if (now->before[message] & ~now->read)
		violate(m, DISORDER);
	now->before[message] = 0; /* what does not matter any more would only tell moments apart */
	now->read |= 1 << message;
	now->got++;
}

/* tcp_bpf_recvmsg(): spliced bytes first, and no further. */
static void reader_recv(struct model *m, struct moment *now)
{
	uint8_t buffer = m->scenario->buffer;

	now->got = 0;
	while (now->n_queue && now->got < buffer) {
		reader_take(m, now, now->queue[0]);
		memmove(now->queue, now->queue + 1, --now->n_queue);
		now->queue[now->n_queue] = 0;
	}
	if (!now->got)
		while (unread(now) && now->got < buffer) {
			reader_take(m, now, now->wire[now->copied]);
			now->wire[now->copied++] = 0;
		}
	now->reader = READER_SEEN;
}

/* shunt_reads() */
static void reader_traced(const struct model *m, struct moment *now)
{
	now->reader = READER_BACK;
	if (now->flags & WATCHED && now->flags & STRANDED && !now->n_queue && unread(now))
		now->flags |= WALK;
	if (!(now->flags & WATCHED) || now->state != SHUNT_STATE_SPILLED || now->n_queue ||
	    !unread(now))
		return;
	if (!(now->flags & KICK))
		now->flags |= WALK;
	now->flags |= KICK;
}

/* What the program makes of it. */
static uint8_t reader_next(const struct model *m, const struct moment *now)
{
	switch (m->scenario->reader) {
	case READER_LEVEL:
		return READER_ASLEEP;
	case READER_EDGE:
		return now->got ? READER_AWAKE : READER_ASLEEP;
	case READER_SHORT:
		return now->got == m->scenario->buffer ? READER_AWAKE : READER_ASLEEP;
	default:
		return now->got == m->scenario->buffer ? READER_ASKING : READER_ASLEEP;
	}
}

static void reader_step(struct model *m, const struct moment *from)
{
	struct moment now = *from;
	bool readable = now.n_queue || unread(&now);

	switch (now.reader) {
	case READER_ASLEEP:
		if (m->scenario->reader != READER_LEVEL && !(now.flags & EDGE))
			return;
		now.flags &= ~EDGE;
		now.reader = readable ? READER_AWAKE : READER_ASLEEP;
		break;
	case READER_AWAKE:
		if (now.settling)
			return;
		reader_recv(m, &now);
		break;
	case READER_SEEN:
		reader_traced(m, &now);
		break;
	case READER_BACK:
		now.reader = reader_next(m, &now);
		now.got = 0;
		break;
	default:
		/* Some kernels do not count TCP's bytes of a member. */
		readable = now.n_queue || (unread(&now) && !is_in(&now));
		now.reader = readable ? READER_AWAKE : READER_ASLEEP;
	}
	will(m, &now);
}

/* settle_peer() in R, up to the exchange. */
static void settle_begin(struct model *m, const struct moment *from, uint8_t where, bool due)
{
	struct moment now = *from;

	if (now.settling)
		return;
	now.settling = where;
	if (where == SETTLE_VISIT) {
		now.flags &= ~WALK;
		if (now.flags & MEMBER_R && !(now.flags & ADOPTING)) {
			if (now.n_queue)
				now.flags &= ~KICK;
			else if (now.state == SHUNT_STATE_SPILLED && has(m, GUARD_VISIT_KICK))
				now.flags |= KICK;
		}
	} else {
		now.flags &= ~TRANSMIT;
	}
	if (now.flags & MEMBER_R) {
		if (unread(&now) && now.state == SHUNT_STATE_READY) {
			now.state = SHUNT_STATE_LEFT;
			now.flags |= LEAVE;
		}
		if (unread(&now) && now.state == SHUNT_STATE_SPLICED && has(m, GUARD_STRAY)) {
			now.state = SHUNT_STATE_SPILLED;
			now.flags |= SPILLED_EVENT;
		}
		now.settle_go = now.state == SHUNT_STATE_SPILLED && !(now.flags & ADOPTING) &&
				(users(&now) <= 1 || !has(m, GUARD_PEER_USERS)) &&
				(!now.n_queue || !has(m, GUARD_PEER_EMPTY));
	}
	if (due)
		will(m, &now);
	else
		may(m, &now);
}

/* settle(): @member goes, if it can. Returns whether it is out. */
static bool settle_out(struct model *m, struct moment *now, uint16_t member)
{
	if (!(now->flags & member))
		return true;
	if (now->flags & ADOPTING) { /* settle_call_off() */
		if (member == MEMBER_W || !unread(now) || !has(m, GUARD_CALL_OFF))
			return false;
		now->flags &= ~(ADOPTING | MEMBER_W | MEMBER_R);
		now->flags |= KICK;
		return true;
	}
	if (now->state != SHUNT_STATE_LEFT || m->scenario->back)
		return false;
	now->flags &= ~member;
	if (member == MEMBER_W)
		return true;
	if (!(now->flags & OUT_DONE))
		drop_r(m, now);
	if (unread(now) && has(m, GUARD_OUT_KICK))
		now->flags |= KICK;
	return true;
}

/* settle_owes_kick() */
static void settle_kick(struct moment *now)
{
	if (!(now->flags & KICK) || now->n_queue)
		return;
	now->flags &= ~KICK;
	if (unread(now))
		now->flags |= EDGE;
}

/* The rest of settle(), and of sockops_transmit() or visit_look(). */
static void settle_end(struct model *m, const struct moment *from)
{
	struct moment now = *from;
	bool visit = now.settling == SETTLE_VISIT, spilled = now.state == SHUNT_STATE_SPILLED, out;

	if (now.settle_go && turn(m, &now, SHUNT_STATE_SPILLED, SHUNT_STATE_LEFT))
		now.flags |= LEAVE | (has(m, GUARD_PEER_KICK) ? KICK : 0);
	now.settling = now.settle_go = 0;
	if (visit && now.flags & MEMBER_R && !(now.flags & ADOPTING) &&
	    now.state == SHUNT_STATE_LEFT && !m->scenario->back) {
		now.flags |= OUT_DUE;
		will(m, &now);
		return;
	}
	out = visit ? !(now.flags & MEMBER_R) : settle_out(m, &now, MEMBER_R);
	if (visit) {
		settle_kick(&now);
		if (!out && (spilled || now.flags & LEAVE))
			now.flags |= WALK;
	} else if (out) {
		now.flags &= ~PROBED;
		settle_kick(&now);
	} else {
		if (has(m, GUARD_STUCK_KICK))
			settle_kick(&now);
		if ((now.state == SHUNT_STATE_SPILLED || now.state == SHUNT_STATE_LEFT) &&
		    has(m, GUARD_PROBE))
			now.flags |= PROBED;
	}
	will(m, &now);
}

/* settle() in W. What of it holds R's lock is not needed: only settle_own() matters here. */
static void settle_w(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (now.locked_w || !(now.flags & LEAVE) || !(now.flags & MEMBER_W))
		return;
	if (now.state == SHUNT_STATE_READY ||
	    ((now.state == SHUNT_STATE_SPLICED || now.state == SHUNT_STATE_SPILLED) &&
	     (users(&now) <= 1 || !has(m, GUARD_OWN_USERS)) &&
	     (!now.n_queue || !has(m, GUARD_OWN_EMPTY))))
		now.state = SHUNT_STATE_LEFT;
	settle_out(m, &now, MEMBER_W);
	may(m, &now);
}

/*
 * walk_strand() and strand_visit(). That the walk looks before the agent deletes need not be told
 * apart: it has seen that a send() that was under way at the end is over (walk_is_alone()), and
 * nothing else adds to the queue.
 */
static void agent_walks_over(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	for (int i = 0; i < WRITERS; i++)
		if (now.step[i] == WRITER_PENDING)
			return;
	if (!(now.flags & WALK) || now.flags & DEAD || !has(m, GUARD_STRAND))
		return;
	if (now.flags & STRANDED && unread(&now)) {
		if (now.n_queue && has(m, GUARD_STRAND_EMPTY))
			return; /* it walks again */
		drop_r(m, &now);
		now.flags &= ~STRANDED;
		now.flags |= EDGE;
	}
	now.flags &= ~WALK;
	will(m, &now);
}

static void settle_steps(struct model *m, const struct moment *from)
{
	if (from->settling) {
		settle_end(m, from);
		return;
	}
	if (from->flags & OVER) {
		agent_walks_over(m, from);
		if (from->flags & LEAVE && !(from->flags & DEAD))
			settle_w(m, from);
		return;
	}
	if (from->flags & (TRANSMIT | PROBED))
		settle_begin(m, from, SETTLE_TRANSMIT, true);
	else if (m->scenario->passes && from->flags & MEMBER_R)
		settle_begin(m, from, SETTLE_TRANSMIT, false);
	if (from->flags & WALK && !(from->flags & (DEAD | OUT_DUE | OUT_DONE)))
		settle_begin(m, from, SETTLE_VISIT, true);
	if (m->scenario->passes || (from->flags & LEAVE && !(from->flags & DEAD)))
		settle_w(m, from);
}

/* The agent takes R out, which visit_look() found that it may, and holds no lock; then visit_out(),
 * under R's. Meanwhile R may have taken itself out. */
static void agent_takes_out(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (now.flags & OUT_DUE) {
		if (is_in(&now))
			drop_r(m, &now);
		now.flags &= ~(OUT_DUE | STRANDED);
		now.flags |= OUT_DONE;
	} else if (now.settling) {
		return;
	} else {
		if (now.flags & MEMBER_R && unread(&now) && has(m, GUARD_OUT_KICK))
			now.flags |= KICK;
		now.flags &= ~(OUT_DONE | MEMBER_R);
		/* Of one that is over there is no pair any more: visit_say_out(). */
		if (!(now.flags & OVER))
			settle_kick(&now);
		else if (unread(&now) && has(m, GUARD_OVER_KICK))
			now.flags |= EDGE;
	}
	will(m, &now);
}

/* visit_adopt(): something came meanwhile, and both are taken out again. */
static void agent_gives_up(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (now.settling || now.locked_w)
		return;
	if (now.flags & MEMBER_R) {
		drop_r(m, &now);
		now.flags |= KICK;
	}
	now.flags &= ~(MEMBER_W | MEMBER_R);
	settle_kick(&now);
	may(m, &now);
}

/* visit_adopt(): each end at a moment when nothing is unread, which visit_in() asks for again; then
 * visit_ready(). What is on its way is found by who was let in (GUARD_STRAY), or before. */
static void agent_adopts(struct model *m, const struct moment *from)
{
	uint16_t both = MEMBER_W | MEMBER_R;

	for (uint16_t end = MEMBER_W; end <= MEMBER_R; end <<= 1) {
		struct moment now = *from;

		if (now.flags & end || (end == MEMBER_R ? now.settling : now.locked_w) ||
		    unread(&now) || now.state != SHUNT_STATE_LEFT)
			continue;
		now.flags |= end | ADOPTING;
		may(m, &now);
	}
	if ((from->flags & both) == both && from->flags & ADOPTING && !unread(from)) {
		struct moment now = *from;

		now.flags &= ~(ADOPTING | LEAVE);
		now.flags |= ADOPTED | WALK;
		now.state = SHUNT_STATE_READY;
		may(m, &now);
	}
}

static void agent_steps(struct model *m, const struct moment *from)
{
	struct moment now = *from;

	if (m->scenario->veto && !(from->flags & VETOED)) {
		now.flags |= LEAVE | VETOED;
		may(m, &now);
	}
	if (from->flags & DEAD)
		return;
	now = *from;
	if (from->flags & (SPILLED_EVENT | STRANDED_EVENT)) {
		now.flags &= ~(SPILLED_EVENT | STRANDED_EVENT);
		now.flags |= WATCHED | WALK;
		will(m, &now);
	}
	if (m->scenario->dies) {
		now = *from;
		now.flags |= DEAD;
		now.flags &= ~(WATCHED | WALK | SPILLED_EVENT | STRANDED_EVENT | OUT_DUE);
		may(m, &now);
	}
	if (from->flags & (OUT_DUE | OUT_DONE))
		agent_takes_out(m, from);
	if (from->flags & (OUT_DUE | OUT_DONE) && has(m, GUARD_IN_TURN))
		return;
	if (from->flags & ADOPTING)
		agent_gives_up(m, from);
	if (m->scenario->adopts && !(from->flags & ADOPTED) &&
	    (from->flags & ADOPTING || !(from->flags & (MEMBER_W | MEMBER_R))))
		agent_adopts(m, from);
}

/* Does what is due lead from every moment to one at which everything is read? Goes back from these.
 */
static bool model_ends(const struct model *m, uint8_t all)
{
	_cleanup_free_ uint32_t *first = calloc(m->n_moments + 1, sizeof(*first));
	_cleanup_free_ uint32_t *before = calloc(m->n_edges + 1, sizeof(*before));
	_cleanup_free_ uint32_t *good = calloc(m->n_moments, sizeof(*good));
	_cleanup_free_ bool *seen = calloc(m->n_moments, sizeof(*seen));
	size_t n_good = 0;

	assert_true(first && before && good && seen);
	for (size_t i = 0; i < m->n_edges; i++)
		first[m->edges[2 * i + 1]]++;
	for (size_t i = 0, sum = 0; i <= m->n_moments; i++) {
		sum += first[i];
		first[i] = sum; /* one past the last, until they are filled in */
	}
	for (size_t i = 0; i < m->n_edges; i++)
		before[--first[m->edges[2 * i + 1]]] = m->edges[2 * i];
	for (size_t i = 0; i < m->n_moments; i++) {
		seen[i] = m->moments[i].read == all;
		if (seen[i])
			good[n_good++] = i;
	}
	for (size_t i = 0; i < n_good; i++) {
		for (size_t k = first[good[i]]; k < first[good[i] + 1]; k++) {
			if (!seen[before[k]])
				good[n_good++] = before[k];
			seen[before[k]] = true;
		}
	}
	return n_good == m->n_moments;
}

/* Looks at every moment that can come about, and at what can come next. @what: is tried. */
static enum violation model_run(const struct scenario *scenario, unsigned int off, const char *what)
{
	struct model m = {.scenario = scenario, .off = off};
	uint8_t all = (1 << (scenario->messages[0] + scenario->messages[1])) - 1;
	struct moment first = {
		.flags = scenario->out ? LEAVE : MEMBER_W | MEMBER_R,
		.state = scenario->out ? SHUNT_STATE_LEFT : SHUNT_STATE_READY,
	};

	if (scenario->spilled) {
		first.flags |= SPILLED_EVENT;
		first.state = SHUNT_STATE_SPILLED;
	}
	model_add(&m, &first);
	for (; m.current < m.n_moments && !m.found; m.current++) {
		struct moment now = m.moments[m.current];

		for (int writer = 0; writer < WRITERS; writer++)
			writer_step(&m, &now, writer);
		tcp_steps(&m, &now);
		reader_step(&m, &now);
		settle_steps(&m, &now);
		agent_steps(&m, &now);
	}
	if (!m.found && !model_ends(&m, all))
		m.found = ASLEEP;
	print_message("%s: %zu states, %zu transitions: %s\n", what, m.n_moments, m.n_steps,
		      violation_names[m.found]);
	free(m.edges);
	free(m.moments);
	free(m.table);
	return m.found;
}

enum scenario_index {
	LEVEL,
	EDGE_TRIGGERED,
	SHORT_READS,
	FIONREAD_HABIT,
	SHORT_READS_ALONE,
	FIONREAD_ALONE,
	STUCK,
	SHUTDOWN,
	LET_IN,
	OUT_AND_IN,
	OUT_ALONE,
	BOTH_FILL,
	LARGE,
	END_SHORT_READS,
	END_FIONREAD,
	IN_ALONE,
};

static const struct scenario scenarios[] = {
	[LEVEL] = {"level-triggered", .reader = READER_LEVEL, .messages = {2, 1}, .limit = 1,
		   .buffer = 2, .veto = true, .passes = true},
	[EDGE_TRIGGERED] = {"edge-triggered", .reader = READER_EDGE, .messages = {2, 1}, .limit = 1,
			    .buffer = 2, .veto = true, .passes = true},
	[SHORT_READS] = {"short reads", .reader = READER_SHORT, .messages = {3, 1}, .limit = 2,
			 .buffer = 3, .veto = true},
	[FIONREAD_HABIT] = {"FIONREAD", .reader = READER_FIONREAD, .messages = {4, 0}, .limit = 1,
			    .buffer = 2, .veto = true},
	[SHORT_READS_ALONE] = {"short reads, the agent dies", .reader = READER_SHORT,
			       .messages = {3, 1}, .limit = 2, .buffer = 3, .dies = true},
	[FIONREAD_ALONE] = {"FIONREAD, the agent dies", .reader = READER_FIONREAD,
			    .messages = {4, 0}, .limit = 1, .buffer = 2, .dies = true},
	[STUCK] = {"the other direction is stuck", .reader = READER_SHORT, .messages = {4, 0},
		   .limit = 2, .buffer = 3, .dies = true, .back = true},
	[SHUTDOWN] = {"shutdown", .reader = READER_EDGE, .messages = {3, 1}, .limit = 2,
		      .buffer = 2, .shuts = true},
	[LET_IN] = {"let in in mid-stream", .reader = READER_SHORT, .messages = {2, 1}, .limit = 2,
		    .buffer = 3, .adopts = true, .out = true},
	[OUT_AND_IN] = {"out, and in again", .reader = READER_FIONREAD, .messages = {2, 1},
			.limit = 2, .buffer = 2, .veto = true, .adopts = true},
	[OUT_ALONE] = {"out, and the agent dies", .reader = READER_FIONREAD, .messages = {2, 1},
		       .limit = 2, .buffer = 2, .veto = true, .dies = true},
	[BOTH_FILL] = {"two writers fill the queue", .reader = READER_LEVEL, .messages = {2, 2},
		       .limit = 1, .buffer = 1},
	[LARGE] = {"one of two writers has large messages", .reader = READER_LEVEL,
		   .messages = {2, 2}, .limit = 1, .buffer = 2, .big = true},
	[END_SHORT_READS] = {"short reads of a connection that is over", .reader = READER_SHORT,
			     .messages = {3, 1}, .limit = 2, .buffer = 3, .shuts = true,
			     .ends = true},
	[END_FIONREAD] = {"FIONREAD of a connection that is over", .reader = READER_FIONREAD,
			  .messages = {2, 1}, .limit = 1, .buffer = 1, .shuts = true, .ends = true,
			  .spilled = true},
	[IN_ALONE] = {"let in, and the agent dies", .reader = READER_FIONREAD, .messages = {2, 1},
		      .limit = 2, .buffer = 1, .adopts = true, .dies = true, .out = true},
};

static void test_no_order_of_events_breaks_it(void **state)
{
	print_message("Properties, which no state and no way on from it may violate:\n");
	for (int i = FINE + 1; i < (int)ARRAY_SIZE(violation_names); i++)
		print_message("  not: %s\n", violation_names[i]);
	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
		assert_int_equal(model_run(&scenarios[i], 0, scenarios[i].name), FINE);
}

/* Where two guards stand for each other both are taken away. */
static void test_every_guard_is_needed(void **state)
{
	static const struct {
		const char *name;
		unsigned int off;
		enum scenario_index scenario;
		enum violation violation;
	} cases[] = {
		{"read", GUARD_READ, LEVEL, DISORDER},
		{"overtake", GUARD_OVERTAKE, LET_IN, DISORDER},
		{"empty", GUARD_EMPTY, LEVEL, LOSS},
		{"alone", GUARD_ALONE, SHORT_READS, LOSS},
		{"bound", GUARD_BOUND, EDGE_TRIGGERED, UNBOUNDED},
		{"shutdown", GUARD_SHUTDOWN, SHUTDOWN, AFTER_SHUTDOWN},
		{"claim", GUARD_CLAIM, LARGE, LOSS},
		{"exchange and claim", GUARD_EXCHANGE | GUARD_CLAIM, FIONREAD_HABIT, LOSS},
		{"own users", GUARD_OWN_USERS, EDGE_TRIGGERED, LOSS},
		{"own empty", GUARD_OWN_EMPTY, EDGE_TRIGGERED, LOSS},
		{"peer users", GUARD_PEER_USERS, SHORT_READS_ALONE, LOSS},
		{"peer empty", GUARD_PEER_EMPTY, FIONREAD_ALONE, LOSS},
		{"peer kick", GUARD_PEER_KICK, STUCK, ASLEEP},
		{"visit kick and out kick", GUARD_VISIT_KICK | GUARD_OUT_KICK, SHORT_READS, ASLEEP},
		{"in turn", GUARD_IN_TURN, OUT_AND_IN, LOSS},
		{"out kick", GUARD_OUT_KICK, FIONREAD_HABIT, ASLEEP},
		{"stray", GUARD_STRAY, LET_IN, ASLEEP},
		{"probe", GUARD_PROBE, SHORT_READS_ALONE, ASLEEP},
		{"stuck kick", GUARD_STUCK_KICK, STUCK, ASLEEP},
		{"end users", GUARD_END_USERS, END_SHORT_READS, LOSS},
		{"end empty", GUARD_END_EMPTY, END_SHORT_READS, LOSS},
		{"strand", GUARD_STRAND, END_SHORT_READS, ASLEEP},
		{"strand empty", GUARD_STRAND_EMPTY, END_SHORT_READS, LOSS},
		{"over kick", GUARD_OVER_KICK, END_FIONREAD, ASLEEP},
		{"call off", GUARD_CALL_OFF, IN_ALONE, ASLEEP},
	};

	unsigned int tried = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct scenario *scenario = &scenarios[cases[i].scenario];
		char what[128];

		snprintf(what, sizeof(what), "without %s, %s", cases[i].name, scenario->name);
		assert_int_equal(model_run(scenario, cases[i].off, what), cases[i].violation);
		tried |= cases[i].off;
	}
	assert_int_equal(tried, GUARD_ALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_plain_and_left_never_splice, setup),
		cmocka_unit_test_setup(test_ready_splices_once_all_was_read, setup),
		cmocka_unit_test_setup(test_ready_leaves, setup),
		cmocka_unit_test_setup(test_spliced_goes_on, setup),
		cmocka_unit_test_setup(test_spliced_leaves_at_a_quiet_moment_only, setup),
		cmocka_unit_test_setup(test_spliced_spills_at_the_bound, setup),
		cmocka_unit_test_setup(test_spliced_and_a_message_that_is_too_big, setup),
		cmocka_unit_test_setup(test_spliced_and_a_message_that_tcp_has_to_carry, setup),
		cmocka_unit_test_setup(test_spliced_does_not_overtake_tcp, setup),
		cmocka_unit_test_setup(test_spilled_splices_again_once_all_was_read, setup),
		cmocka_unit_test_setup(test_spilled_leaves_at_a_quiet_moment_only, setup),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_scope),
		cmocka_unit_test(test_no_order_of_events_breaks_it),
		cmocka_unit_test(test_every_guard_is_needed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
