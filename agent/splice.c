/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent's part in splicing.
 * Reads from: the ring buffer, the scans of the kernel half.
 * Writes to: shunt_programs, shunt_control; through visits, sockets and the sockhash.
 */
#include "splice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "events.h"
#include "log.h"
#include "program.h"
#include "util/cleanup.h"
#include "visit.h"

#define SPLICE_SOON_MS	   10	/* until what could not be finished is tried again */
#define SPLICE_SOON_TRIES  20	/* … before it is left for later */
#define SPLICE_LATER_MS	   250	/* until pairs that left are looked at again … */
#define SPLICE_LATER_MAX   8000 /* … twice as long each time that nothing came of it */
#define SPLICE_OPENED_MS   1000 /* the most while connections begin that may be let in one day */
#define SPLICE_DRAIN_TRIES 3
#define SPLICE_SCAN_MS	   20 /* questions about listeners are gathered for so long */
#define SPLICE_REST	   8  /* after a walk over all, so many times as long as it took */

#define SPLICE_EVERYBODY 0 /* instead of a process */

/* A process with a socket that is not done with. */
struct splice_task {
	uint32_t pid;	/* or SPLICE_EVERYBODY */
	unsigned tries; /* to finish at once */
};

struct splice {
	uv_loop_t *loop;
	struct loader *loader;
	const struct maps *maps;
	const struct config *config;
	bool kernel_can;
	uint64_t lost; /* splice_events_lost, of which all that it brings was done */
	char *never;   /* splice_never as it was when programs were looked at */
	struct events *events;
	struct visit *visit;
	uv_timer_t soon;
	uv_timer_t later;
	uv_timer_t scan;
	unsigned later_ms;
	uint64_t looked; /* for who is to be let in again, the last time; of the loop's clock */
	int open;	 /* handles */
	struct splice_task *tasks; /* whose sockets are to be passed by soon */
	size_t n_tasks;
	unsigned tries;	  /* of the task that is being looked after */
	uint64_t rest_ns; /* until then nothing makes soon what is for everybody */
	bool wants_later; /* some may be let in one day */
	bool stranded;	  /* readers are, that are to be watched */

	volatile struct shunt_control *control; /* the entry of the map itself */
};

static void splice_add_task(struct splice *splice, uint32_t pid, unsigned tries)
{
	struct splice_task *list;

	for (size_t i = 0; i < splice->n_tasks; i++) {
		list = &splice->tasks[i];
		if (list->pid == pid) {
			list->tries = tries < list->tries ? tries : list->tries;
			return;
		}
	}
	list = reallocarray(splice->tasks, splice->n_tasks + 1, sizeof(*list));
	if (!list) {
		log_warning("no memory: the sockets of process %u are passed by later", pid);
		splice->wants_later = true;
		return;
	}
	splice->tasks = list;
	list[splice->n_tasks++] = (struct splice_task){pid, tries};
}

static void splice_on_again(void *user, uint32_t pid)
{
	struct splice *splice = user;

	if (splice->tries + 1 < SPLICE_SOON_TRIES)
		splice_add_task(splice, pid, splice->tries + 1);
	else
		splice->wants_later = true;
}

static void splice_watch_reads(struct splice *splice)
{
	int r = loader_watch_reads(splice->loader);

	if (r)
		log_errno(r, "readers cannot be watched: spilled ones resume late");
}

/* One walk, and what it leaves to do. Returns whether more can be done soon. */
static bool splice_walk(struct splice *splice, const struct splice_task *task, bool everybody)
{
	struct visit_result result = {.again = splice_on_again, .user = splice};
	uint64_t begin = uv_hrtime();
	int r;

	splice->tries = task->tries;
	r = visit_walk(splice->visit, task->pid, everybody, &result);
	if (task->pid == SPLICE_EVERYBODY)
		splice->rest_ns = uv_hrtime() + SPLICE_REST * (uv_hrtime() - begin);
	if (r)
		log_errno(r, "sockets cannot be passed by");
	splice->wants_later |= r || result.later || result.stranded;
	if (result.stranded && !splice->stranded) {
		splice_watch_reads(splice);
		/* Who has read meanwhile is found by passing by once more. */
		splice_add_task(splice, task->pid, 0);
	}
	/* One may be closed unread, which nothing tells. */
	splice->stranded = result.stranded || (splice->stranded && (r || !everybody));
	return result.soon;
}

static void splice_on_soon(uv_timer_t *timer);
static void splice_on_later(uv_timer_t *timer);

static void splice_schedule(struct splice *splice)
{
	if (splice->n_tasks && !uv_is_active((uv_handle_t *)&splice->soon))
		uv_timer_start(&splice->soon, splice_on_soon, SPLICE_SOON_MS, 0);
	if (splice->wants_later && !uv_is_active((uv_handle_t *)&splice->later))
		uv_timer_start(&splice->later, splice_on_later, splice->later_ms, 0);
	if (!splice->n_tasks && !splice->wants_later)
		visit_rest(splice->visit, true);
}

static void splice_on_soon(uv_timer_t *timer)
{
	struct splice *splice = timer->data;
	_cleanup_free_ struct splice_task *tasks = TAKE_PTR(splice->tasks);
	const struct splice_task *everybody = NULL;
	size_t n = splice->n_tasks;

	splice->n_tasks = 0;
	for (size_t i = 0; i < n; i++)
		if (tasks[i].pid == SPLICE_EVERYBODY)
			everybody = &tasks[i];
	if (everybody && uv_hrtime() < splice->rest_ns) {
		splice_add_task(splice, SPLICE_EVERYBODY, everybody->tries);
		everybody = NULL;
	}
	if (everybody)
		splice_walk(splice, everybody, false);
	for (size_t i = 0; !everybody && i < n; i++)
		if (tasks[i].pid != SPLICE_EVERYBODY)
			splice_walk(splice, &tasks[i], false);
	splice_schedule(splice);
}

/* Pairs that left are let in again when they alternate, which only TCP's own figures tell. */
static void splice_on_later(uv_timer_t *timer)
{
	static const struct splice_task everybody = {.pid = SPLICE_EVERYBODY};
	struct splice *splice = timer->data;
	bool soon;

	splice->looked = uv_now(splice->loop);
	visit_rest(splice->visit, false);
	splice->wants_later = false;
	/* Of those that begin from here on the kernel half tells again; the others are seen now. */
	splice->control->opened = 0;
	/* Before this agent, it may be; or it failed. */
	if (splice->control->spilled || splice->stranded)
		splice_watch_reads(splice);
	/* Who has not been read, or not accepted, may not be for ever. */
	soon = splice_walk(splice, &everybody, true);
	splice->later_ms = soon ? SPLICE_LATER_MS : 2 * splice->later_ms;
	if (splice->later_ms > SPLICE_LATER_MAX)
		splice->later_ms = SPLICE_LATER_MAX;
	if (splice->later_ms > 2 * SPLICE_LATER_MS)
		splice->control->discover = 0;
	if (!splice->control->spilled && !splice->stranded)
		loader_unwatch_reads(splice->loader);
	else if (!splice->n_tasks && !splice->wants_later)
		uv_timer_start(&splice->later, splice_on_later, splice->later_ms, 0);
	splice_schedule(splice);
}

static void splice_later(struct splice *splice)
{
	splice->wants_later = true;
	if (splice->later_ms > SPLICE_LATER_MS) {
		splice->later_ms = SPLICE_LATER_MS;
		uv_timer_stop(&splice->later);
	}
	splice_schedule(splice);
}

/* Some end sends again. The interval is kept to, or with many that come and go there would be no
 * end to walks; but after a rest it is the shortest again. */
static void splice_awake(struct splice *splice)
{
	splice->wants_later = true;
	if (!uv_is_active((uv_handle_t *)&splice->later) &&
	    uv_now(splice->loop) - splice->looked >= SPLICE_LATER_MAX)
		splice->later_ms = SPLICE_LATER_MS;
	splice_schedule(splice);
}

/* Connections begin that may be let in one day. They may be many and short, so there is no walk for
 * each; and the first one after a rest does not wait long. */
static void splice_opened(struct splice *splice)
{
	splice->wants_later = true;
	if (splice->later_ms > SPLICE_OPENED_MS) {
		splice->later_ms = uv_now(splice->loop) - splice->looked < SPLICE_OPENED_MS
					   ? SPLICE_OPENED_MS
					   : SPLICE_LATER_MS;
		uv_timer_stop(&splice->later);
	}
	splice_schedule(splice);
}

/* The walk is not made at once: what else comes in this turn of the loop is done with it. */
static void splice_soon(struct splice *splice, uint32_t pid)
{
	splice_add_task(splice, pid, 0);
	uv_timer_start(&splice->soon, splice_on_soon, 0, 0);
}

/* Every pair is to be judged anew, at its next message or by the walk. */
static void splice_renew(struct splice *splice)
{
	splice->control->generation += splice->control->generation == UINT32_MAX ? 2 : 1;
}

/* Where there are too many they are all forgotten: the kernel half asks again for those in use. */
static int splice_put_program(struct splice *splice, uint64_t program, enum shunt_program class)
{
	int r = maps_put_program(splice->maps, program, class);

	if (r != -E2BIG)
		return r;
	log_info("more than %d programs are known: they are looked at again", SHUNT_PROGRAMS_MAX);
	return maps_forget_programs(splice->maps) ?: maps_put_program(splice->maps, program, class);
}

static void splice_look_at(struct splice *splice, uint64_t program, uint32_t pid)
{
	_cleanup_free_ char *path = NULL;
	enum shunt_program class;
	int r;

	if (maps_has_program(splice->maps, program))
		return;
	r = program_classify(pid, splice->config, &class, &path);
	if (r == -ESRCH)
		return; /* the next process of it will be asked about */
	r = r ?: splice_put_program(splice, program, class);
	if (r) {
		log_errno(r, "program %s cannot be noted: its connections are not spliced",
			  path ?: "?");
		return;
	}
	splice_renew(splice);
	if (class == SHUNT_PROGRAM_SPLICES)
		log_info("program %s reads by splice(2): its connections are not spliced", path);
	if (class == SHUNT_PROGRAM_NEVER)
		log_info("program %s is in splice_never", path);
}

static int splice_read_scan(struct splice *splice, bool everything)
{
	_cleanup_close_ int fd = loader_open_scan(splice->loader, everything);
	char nothing[64];
	ssize_t n;

	if (fd < 0)
		return log_errno(fd, "open files cannot be scanned for listeners");
	do /* EAGAIN: a million objects, and none of them told (bpf_seq_read()) */
		n = read(fd, nothing, sizeof(nothing));
	while (n > 0 || (n < 0 && errno == EAGAIN));
	return n < 0 ? log_errno(-errno, "open files cannot be scanned for listeners") : 0;
}

static void splice_on_scan(uv_timer_t *timer)
{
	splice_read_scan(timer->data, false);
}

static void splice_on_event(void *user, const void *record)
{
	const struct shunt_event *event = record;
	struct splice *splice = user;

	switch (event->kind) {
	case SHUNT_EVENT_PROGRAM:
		splice_look_at(splice, event->program, event->pid);
		break;
	case SHUNT_EVENT_LISTENER:
		if (!uv_is_active((uv_handle_t *)&splice->scan))
			uv_timer_start(&splice->scan, splice_on_scan, SPLICE_SCAN_MS, 0);
		break;
	case SHUNT_EVENT_STRANDED:
		splice->stranded = true;
		/* fall through */
	case SHUNT_EVENT_SPILLED:
		splice_watch_reads(splice);
		/* Whoever was through before that is found by passing by. */
		splice_soon(splice, event->pid);
		splice_later(splice);
		break;
	case SHUNT_EVENT_WALK:
		splice_soon(splice, event->pid);
		break;
	case SHUNT_EVENT_LEFT:
		splice_soon(splice, event->pid);
		splice_later(splice);
		break;
	case SHUNT_EVENT_AWAKE:
		splice_awake(splice);
		break;
	case SHUNT_EVENT_OPENED:
		splice_opened(splice);
		break;
	}
}

static void splice_look_everywhere(struct splice *splice);

/* What the ring buffer had no room for may have been anything. It has been full only if there was
 * something to drain, so this comes after. */
static void splice_on_drained(void *user)
{
	struct splice *splice = user;
	uint64_t lost;

	if (maps_read_counter(splice->maps, SHUNT_COUNTER_splice_events_lost, &lost) ||
	    lost == splice->lost)
		return;
	log_warning("the agent did not keep up: events_lost=%llu; it looks at everything again",
		    (unsigned long long)(lost - splice->lost));
	splice->lost = lost;
	splice_look_everywhere(splice);
}

static const struct events_listener splice_listener = {
	.size = sizeof(struct shunt_event),
	.receive = splice_on_event,
	.finish = splice_on_drained,
};

static void splice_free(struct splice *splice)
{
	maps_unmap_control(splice->control);
	visit_free(splice->visit);
	free(splice->tasks);
	free(splice->never);
	free(splice);
}

static void splice_on_closed(uv_handle_t *handle)
{
	struct splice *splice = handle->data;

	if (!--splice->open)
		splice_free(splice);
}

int splice_new(uv_loop_t *loop, struct loader *loader, struct splice **ret)
{
	struct splice *splice = calloc(1, sizeof(*splice));
	uv_handle_t *handles[3];
	int r;

	if (!splice)
		return -ENOMEM;
	splice->loop = loop;
	splice->loader = loader;
	splice->maps = loader_maps(loader);
	splice->later_ms = SPLICE_LATER_MS;
	/* Before this agent. If it cannot be read all is looked at once too often. */
	maps_read_counter(splice->maps, SHUNT_COUNTER_splice_events_lost, &splice->lost);
	r = maps_map_control(splice->maps, &splice->control);
	if (r) {
		free(splice);
		return r;
	}
	r = visit_new(loader_visits(loader), splice->maps, &splice->visit);
	r = r ?: events_new(loop, splice->maps->events, &splice_listener, splice, &splice->events);
	if (r) {
		splice_free(splice);
		return r;
	}
	uv_timer_init(loop, &splice->soon);
	uv_timer_init(loop, &splice->later);
	uv_timer_init(loop, &splice->scan);
	handles[0] = (uv_handle_t *)&splice->soon;
	handles[1] = (uv_handle_t *)&splice->later;
	handles[2] = (uv_handle_t *)&splice->scan;
	for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
		handles[i]->data = splice;
	splice->open = ARRAY_SIZE(handles);
	*ret = splice;
	return 0;
}

void splice_close(struct splice *splice)
{
	if (!splice)
		return;
	events_close(splice->events);
	uv_close((uv_handle_t *)&splice->soon, splice_on_closed);
	uv_close((uv_handle_t *)&splice->later, splice_on_closed);
	uv_close((uv_handle_t *)&splice->scan, splice_on_closed);
}

bool splice_wanted(const struct config *config)
{
	for (size_t i = 0; i < config->n_meshes; i++)
		if (config->meshes[i].splice != SHUNT_SCOPE_OFF)
			return true;
	return false;
}

static enum shunt_reason splice_reason(const struct config *config)
{
	return splice_wanted(config) ? SHUNT_REASON_kernel : SHUNT_REASON_off;
}

int splice_refuse(const struct maps *maps, const struct config *config)
{
	volatile struct shunt_control *control;
	int r = maps_map_control(maps, &control);

	if (r)
		return r;
	control->splice = 0;
	control->reason = splice_reason(config);
	maps_unmap_control(control);
	return 0;
}

void splice_allow(struct splice *splice, const struct selftest *selftest)
{
	splice->kernel_can = selftest_allows(selftest);
}

/* Of programs that only connect nothing but a scan of everything tells again. */
static void splice_look_everywhere(struct splice *splice)
{
	if (splice->control->spilled)
		splice_watch_reads(splice);
	splice_read_scan(splice, true);
	splice_soon(splice, SPLICE_EVERYBODY);
	splice_later(splice);
}

/* What is known of programs depends on splice_never alone. */
static int splice_keep_programs(struct splice *splice, const struct config *config)
{
	_cleanup_free_ char *never = NULL;
	size_t size;
	FILE *stream = open_memstream(&never, &size);
	int r;

	if (!stream)
		return -ENOMEM;
	for (size_t i = 0; i < config->splice_never.n; i++)
		fprintf(stream, "%s\n", config->splice_never.items[i].pattern);
	if (fclose(stream))
		return -ENOMEM;
	if (splice->never && !strcmp(splice->never, never))
		return 0;
	r = maps_forget_programs(splice->maps);
	if (r)
		return r;
	free(splice->never);
	splice->never = TAKE_PTR(never);
	return 0;
}

int splice_apply(struct splice *splice, const struct config *config, const char *cgroup_root)
{
	/* Some may have to be taken out. An agent before this one may have left readers, whether it
	 * still spliced or not. */
	bool leftovers = splice->control->splice || !splice->config;
	int r;

	splice->config = config;
	splice->control->queue_max = config->limit_splice_queue;
	splice->control->splice = splice->kernel_can && splice_wanted(config);
	splice->control->reason = splice_reason(config);
	splice->control->announce = 1;
	splice->control->opened = 0;
	r = visit_set_root(splice->visit, cgroup_root);
	r = r ?: splice_keep_programs(splice, config);
	splice_renew(splice);
	r = r ?: splice_read_scan(splice, true);
	if (r) {
		splice->control->splice = 0;
		splice_renew(splice);
	}
	/* Not before the scan: it says whose the connections are that are found. And not while some
	 * may be another version's. */
	splice->control->discover = !loader_drains(splice->loader);
	splice->later_ms = SPLICE_LATER_MS;
	splice->wants_later |= leftovers || splice->control->splice;
	splice_schedule(splice);
	return r;
}

bool splice_is_on(const struct splice *splice)
{
	return splice->control->splice;
}

void splice_stop(struct splice *splice)
{
	splice->control->splice = 0;
	splice->control->reason = SHUNT_REASON_disabled;
	splice_renew(splice);
}

unsigned splice_drain(struct splice *splice)
{
	static const struct splice_task everybody = {.pid = SPLICE_EVERYBODY};
	unsigned left = 0;
	int r = 0;

	for (unsigned tries = 0; !r && (left || !tries) && tries < SPLICE_DRAIN_TRIES; tries++) {
		splice_walk(splice, &everybody, false);
		r = maps_count_ends(splice->maps, &left);
	}
	if (r)
		log_errno(r, "it is not known whether sockets are spliced still");
	return left;
}
