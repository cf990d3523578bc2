/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Several clients of the control at once: events as they come, and flows in pages, to clients that
 * ask anew, read late or not at all, and go in the midst.
 * Reads from: an input, a step after the other (enum step); after that it is what the kernel gives.
 * Writes to: a control socket in a temporary directory.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_kernel.h"
#include "fake_ring.h"
#include "fuzz.h"
#include "shunt/flow.h"
#include "util/cleanup.h"
#include "verbs.h"
#include "watch.h"

#define CLIENTS	     4
#define NOTICES_MAX  512  /* of one input */
#define FLOWS	     1100 /* more than a page has */
#define STEPS_MAX    24
#define HEARD_MAX    (2 << 20) /* bytes; what is not heard is not answered for ever */
#define TURNS	     3
#define SOON_MS	     1000 /* what begins before is begun in the next turn */
#define MISSING_LAST 3	  /* turns until a connection that was closed is noticed, and its handles */

/* A step is a byte: what, and four times the number of a client. Its operand follows. */
enum step {
	STEP_SAY,    /* length, bytes */
	STEP_GO,     /* the client goes, and another one comes */
	STEP_HAPPEN, /* how often, place, length, bytes: put into a notice that is empty else */
	STEP_READ,
};

/* Before the first step: how many flows there are. */
#define FLOWS_FEW 7

struct input {
	const uint8_t *data;
	size_t size;
};

struct caller {
	int fd;
	size_t len; /* of a line that is not complete yet */
	char line[8 << 20];
};

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct caller callers[CLIENTS];
static struct control *control;

static struct shunt_notice notice;
static unsigned int waiting, notices; /* in the ring; of this input */
static size_t heard;		      /* of this input, in bytes */

int __wrap_maps_reset_paces(const struct maps *m);
int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after, uint64_t again);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after, uint64_t again);

/* What is not taken keeps the bell ringing. */
int __wrap_ring_buffer__consume(struct ring_buffer *ring)
{
	int r = 0;

	while (waiting && r == 0) {
		waiting--;
		r = fake_ring.receive(fake_ring.receiver, &notice, sizeof(notice));
		fuzz_check(r == 0 || r == -EAGAIN);
	}
	if (!waiting)
		fake_ring_silence();
	return 0;
}

int __wrap_maps_reset_paces(const struct maps *m)
{
	return 0;
}

int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb run, uint64_t after, uint64_t again)
{
	return __real_uv_timer_start(timer, run, after < SOON_MS ? 0 : after, again);
}

static void remove_socket(void)
{
	unlink(address.sun_path);
}

static void setup(void)
{
	struct agent *agent = fake_agent();
	const char *tmp = getenv("TMPDIR");

	fake_ring_init();
	snprintf(address.sun_path, sizeof(address.sun_path), "%.64s/shunt-fuzz-%d.sock",
		 tmp ?: "/tmp", getpid());
	fuzz_check(!watch_new(agent, &agent->watch));
	fuzz_check(!control_new(&agent->loop, address.sun_path, verbs_table(), agent, &control));
	atexit(remove_socket);
}

/* Either an answer, which says whether it went well, or an event. */
static void check_line(const char *line, size_t len)
{
	json_t *said = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *ok = json_object_get(said, "ok");

	fuzz_check(json_is_object(said));
	if (!ok)
		fuzz_check(json_is_string(json_object_get(said, "event")));
	else if (json_is_false(ok))
		fuzz_check(json_is_string(json_object_get(said, "error")));
	else
		fuzz_check(json_is_true(ok) && json_object_get(said, "result"));
	json_decref(said);
}

static void hear(struct caller *caller)
{
	char *newline, *line;
	ssize_t n;

	while (heard < HEARD_MAX &&
	       (n = recv(caller->fd, caller->line + caller->len, sizeof(caller->line) - caller->len,
			 MSG_DONTWAIT)) > 0) {
		caller->len += n;
		heard += n;
		line = caller->line;
		while ((newline = memchr(line, '\n', caller->line + caller->len - line))) {
			check_line(line, newline - line);
			line = newline + 1;
		}
		caller->len -= line - caller->line;
		memmove(caller->line, line, caller->len);
		fuzz_check(caller->len < sizeof(caller->line));
		fake_agent_turn();
	}
}

static void call(struct caller *caller)
{
	caller->len = 0;
	caller->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fuzz_check(caller->fd >= 0 &&
		   !connect(caller->fd, (struct sockaddr *)&address, sizeof(address)));
	fake_agent_turn();
}

static uint8_t take_byte(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

static const uint8_t *take_bytes(struct input *input, size_t *size)
{
	const uint8_t *bytes = input->data;

	if (*size > input->size)
		*size = input->size;
	input->data += *size;
	input->size -= *size;
	return bytes;
}

static void happen(struct input *input)
{
	unsigned int often = take_byte(input);
	size_t at = 4 * take_byte(input), size = take_byte(input);
	const uint8_t *bytes = take_bytes(input, &size);

	notices += often;
	if (!often || notices > NOTICES_MAX || at > sizeof(notice))
		return;
	if (size > sizeof(notice) - at)
		size = sizeof(notice) - at;
	notice = (struct shunt_notice){.at = uv_hrtime(), .outcome = SHUNT_OUTCOME_MAX};
	memcpy((char *)&notice + at, bytes, size);
	waiting = often;
	fake_ring_announce();
	while (waiting)
		fake_agent_turn();
}

static void take_step(struct input *input)
{
	uint8_t step = take_byte(input);
	struct caller *caller = &callers[step / 4 % CLIENTS];
	const uint8_t *bytes;
	size_t size;

	switch ((enum step)(step % 4)) {
	case STEP_SAY:
		size = take_byte(input);
		bytes = take_bytes(input, &size);
		/* It may have been closed for what came before. */
		send(caller->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case STEP_GO:
		close(caller->fd);
		call(caller);
		break;
	case STEP_HAPPEN:
		happen(input);
		break;
	case STEP_READ:
		hear(caller);
		break;
	}
	for (int i = 0; i < TURNS; i++)
		fake_agent_turn();
}

/* All alike: a few, or as many as it takes for several pages. */
static void make_flows(struct input *input)
{
	static struct shunt_flow flows[FLOWS];
	size_t size, n = take_byte(input) % (FLOWS_FEW + 1);

	if (n == FLOWS_FEW)
		n = FLOWS;
	size = input->size < sizeof(*flows) ? input->size : sizeof(*flows);
	flows[0] = (struct shunt_flow){};
	memcpy(flows, input->data, size);
	for (size_t i = 1; i < n; i++)
		flows[i] = flows[0];
	fake_kernel.data = (const uint8_t *)flows;
	fake_kernel.size = n * sizeof(*flows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, size};

	if (!control)
		setup();
	notices = 0;
	heard = 0;
	make_flows(&input);
	for (int i = 0; i < CLIENTS; i++)
		call(&callers[i]);
	for (int i = 0; i < STEPS_MAX && input.size; i++)
		take_step(&input);
	for (int i = 0; i < CLIENTS; i++) {
		hear(&callers[i]);
		close(callers[i].fd);
	}
	for (int i = 0; i < MISSING_LAST; i++)
		fake_agent_turn();
	/* The next input numbers its answers from one again. */
	flows_deinit(&fake_agent()->flows);
	fake_agent()->flows = (struct flows){};
	return 0;
}
