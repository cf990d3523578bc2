/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Draws conversations: mostly requests and responses, and streams, pauses and half-closes.
 * Reads from: the seed.
 * Writes to: nothing.
 */
#include "plan.h"

#include "board.h"
#include "random.h"
#include "stream.h"

#define PHASE_BYTES_MIN	    (1u << 10)
#define PHASE_BYTES_MAX	    (8u << 20)
/* A message beyond what may be queued for a reader sends its pair back to TCP at once. So many
 * connections have none: theirs are to be spliced for long, and to spill. */
#define MODEST_MIN	    (4u << 10)
#define MODEST_MAX	    (64u << 10)
/* TCP brings some 80 KiB/s into the smallest of the receive buffers. */
#define PHASE_BYTES_CRAMPED (96u << 10)
#define MESSAGES_MAX	    1000u
/* Requests that are written in pieces meet Nagle's algorithm and delayed acknowledgements. */
#define BATCHES_MAX	    50u
#define CRAMPED_BELOW	    (64 << 10)
#define PAUSE_US_MAX	    50000u
#define REST_US_MAX	    300000u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void plan_init(struct plan *plan, uint64_t seed, uint64_t max_message)
{
	*plan = (struct plan){
		.random = random_mix(seed ^ 0x70a5),
		.max_message = max_message,
		.wait = true,
	};
	if (!random_one_in(&plan->random, 4))
		plan->max_message =
			min_u64(max_message, random_log(&plan->random, MODEST_MIN, MODEST_MAX));
}

static void draw_sizes(struct plan *plan, uint64_t sizes[2])
{
	uint64_t max = plan->max_message;

	switch (random_below(&plan->random, 5)) {
	case 0:
		sizes[0] = 1;
		sizes[1] = min_u64(64, max);
		break;
	case 1:
		sizes[0] = sizes[1] = random_log(&plan->random, 1, max);
		break;
	case 2:
		sizes[0] = min_u64(32 << 10, max);
		sizes[1] = max;
		break;
	default:
		sizes[0] = 1;
		sizes[1] = max;
	}
}

static void draw_buffers(struct plan *plan)
{
	static const int sizes[] = {8 << 10,   16 << 10,  32 << 10, 64 << 10,
				    128 << 10, 256 << 10, 1 << 20,  4 << 20};
	uint64_t *random = &plan->random;

	plan->buffers = (struct buffers){};
	if (!random_one_in(random, plan->phase == 0 ? 2 : 6))
		return;
	plan->resizer = random_below(random, 2);
	if (random_one_in(random, 2))
		plan->buffers.send = sizes[random_below(random, sizeof(sizes) / sizeof(*sizes))];
	/* Not into a stream that is under way: it would take minutes. */
	if (plan->wait && random_one_in(random, 2)) {
		plan->buffers.receive = sizes[random_below(random, sizeof(sizes) / sizeof(*sizes))];
		plan->cramped |= plan->buffers.receive < CRAMPED_BELOW;
	}
}

static enum pace draw_pace(struct plan *plan)
{
	static const enum pace paces[] = {PACE_CLIENT_STREAMS, PACE_SERVER_STREAMS, PACE_DUPLEX};

	if (!plan->closing)
		return random_one_in(&plan->random, 3) ? paces[random_below(&plan->random, 3)]
						       : PACE_EXCHANGE;
	if (plan->farewell == FAREWELL_BOTH_HALF)
		return PACE_DUPLEX;
	if (plan->farewell == FAREWELL_CLIENT_CLOSES || plan->farewell == FAREWELL_CLIENT_HALF)
		return PACE_CLIENT_STREAMS;
	return random_one_in(&plan->random, 3) ? PACE_EXCHANGE : PACE_SERVER_STREAMS;
}

void plan_phase(struct plan *plan, bool closing)
{
	uint64_t *random = &plan->random;

	draw_buffers(plan);
	plan->closing = closing;
	plan->farewell = random_below(random, FAREWELLS);
	plan->farewell_said = plan->half_closed = false;
	plan->pace = draw_pace(plan);
	plan->hasty = random_one_in(random, 2);
	plan->wait = !random_one_in(random, 4);
	plan->budget = random_log(random, PHASE_BYTES_MIN,
				  plan->cramped ? PHASE_BYTES_CRAMPED : PHASE_BYTES_MAX);
	draw_sizes(plan, plan->sizes[CLIENT]);
	draw_sizes(plan, plan->sizes[SERVER]);
	plan->depth = random_one_in(random, 3) ? random_log(random, 1, DEPTH_MAX) : 1;
	plan->step = 0;
	plan->steps = random_log(random, 1, MESSAGES_MAX);
	if (plan->depth > 1)
		plan->steps = min_u64(plan->steps, 2 * plan->depth * BATCHES_MAX);
	plan->phase++;
}

static int sender_of(const struct plan *plan)
{
	if (plan->step == 0)
		return CLIENT;
	switch (plan->pace) {
	case PACE_EXCHANGE:
		return plan->step / plan->depth % 2 ? SERVER : CLIENT;
	case PACE_CLIENT_STREAMS:
		return CLIENT;
	case PACE_SERVER_STREAMS:
		return SERVER;
	default:
		return plan->step % 2 ? SERVER : CLIENT;
	}
}

static uint64_t draw_pause(struct plan *plan)
{
	if (plan->step == 0 && random_one_in(&plan->random, 8))
		return random_log(&plan->random, 1, REST_US_MAX);
	return random_one_in(&plan->random, 100) ? random_log(&plan->random, 1, PAUSE_US_MAX) : 0;
}

/* What the sender of an exchange waits for; in streams nobody waits but for the opening. */
static uint64_t need_of(struct plan *plan, int sender)
{
	if (plan->pace != PACE_EXCHANGE)
		return plan->step == 1 ? plan->planned[!sender] : 0;
	return sender == SERVER ? plan->requests[plan->step % plan->depth] : plan->planned[SERVER];
}

static void draw_message(struct plan *plan, int sender, uint64_t need, struct message *ret)
{
	uint64_t size = random_log(&plan->random, plan->sizes[sender][0], plan->sizes[sender][1]);

	if (size > plan->budget)
		size = plan->budget ? plan->budget : 1;
	/* The client's first message has to say who it is. */
	if (plan->planned[CLIENT] == 0 && size < sizeof(struct hello))
		size = sizeof(struct hello);
	plan->budget -= min_u64(size, plan->budget);
	*ret = (struct message){
		.sender = sender,
		.size = size,
		.need = need,
		.pause_us = draw_pause(plan),
	};
	plan->planned[sender] += size;
	if (sender == CLIENT)
		plan->requests[plan->step % plan->depth] = plan->planned[CLIENT];
	plan->step++;
}

/* An exchange ends with its last response: every request that was sent is answered. */
static bool body_over(const struct plan *plan)
{
	if (plan->step == 0)
		return false;
	if (plan->pace == PACE_EXCHANGE && plan->step % (2 * plan->depth) != 0)
		return false;
	return plan->step >= plan->steps || plan->budget == 0;
}

static bool say_farewell(struct plan *plan, struct message *ret)
{
	int first =
		plan->farewell == FAREWELL_SERVER_CLOSES || plan->farewell == FAREWELL_SERVER_HALF
			? SERVER
			: CLIENT;
	uint64_t *random = &plan->random;

	switch (plan->farewell) {
	case FAREWELL_CLIENT_CLOSES:
	case FAREWELL_SERVER_CLOSES:
		*ret = (struct message){
			.sender = first, .need = plan->planned[!first], .then = THEN_CLOSE};
		plan->farewell_said = true;
		return true;
	case FAREWELL_BOTH_HALF:
		*ret = (struct message){
			.sender = plan->half_closed ? SERVER : CLIENT,
			.then = THEN_SHUTDOWN,
		};
		plan->farewell_said = plan->half_closed;
		plan->half_closed = true;
		return true;
	default:
		if (!plan->half_closed) {
			*ret = (struct message){.sender = first, .then = THEN_SHUTDOWN};
			plan->half_closed = true;
			plan->step = 0;
			plan->pace = first == CLIENT ? PACE_SERVER_STREAMS : PACE_CLIENT_STREAMS;
			plan->budget = random_log(
				random, 1, plan->cramped ? PHASE_BYTES_CRAMPED : PHASE_BYTES_MAX);
			return true;
		}
		if (!body_over(plan)) {
			draw_message(plan, !first, plan->hasty ? 0 : plan->planned[first], ret);
			return true;
		}
		*ret = (struct message){
			.sender = !first, .need = plan->planned[first], .then = THEN_CLOSE};
		plan->farewell_said = true;
		return true;
	}
}

bool plan_next(struct plan *plan, struct message *ret)
{
	int sender;

	if (plan->phase == 0)
		return false;
	if (!plan->half_closed && !body_over(plan)) {
		sender = sender_of(plan);
		draw_message(plan, sender, need_of(plan, sender), ret);
		return true;
	}
	if (!plan->closing || plan->farewell_said)
		return false;
	return say_farewell(plan, ret);
}
