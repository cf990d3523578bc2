/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent's part in splicing.
 * Reads from: the ring buffer, the walks and scans of the kernel half.
 * Writes to: shunt_programs, shunt_control; through the walks, the sockhash.
 */
#include "splice.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "events.h"
#include "log.h"
#include "netns.h"
#include "process.h"
#include "program.h"
#include "strand.h"
#include "util/cleanup.h"

#define SPLICE_SOON_MS	   10	/* until what could not be finished is tried again */
#define SPLICE_SOON_TRIES  20	/* … before it is left for later */
#define SPLICE_LATER_MS	   250	/* until pairs that left are looked at again … */
#define SPLICE_LATER_MAX   8000 /* … twice as long each time that nothing came of it */
#define SPLICE_OPENED_MS   1000 /* the most while connections begin that may be let in one day */
#define SPLICE_DRAIN_TRIES 3
#define SPLICE_SCAN_MS	   20 /* questions about listeners are gathered for so long */

/* A network namespace in which some socket is not done with. */
struct splice_netns {
	uint32_t inum;
	uint32_t pid;	/* of a process that was in it */
	unsigned tries; /* to finish at once */
	bool soon;
	bool later;
};

struct splice {
	uv_loop_t *loop;
	struct loader *loader;
	const struct maps *maps;
	const struct config *config;
	const char *cgroup_root; /* of the last splice_apply(), and … */
	struct enrol *enrol;
	bool kernel_can;
	uint64_t lost; /* splice_events_lost, of which all that it brings was done */
	char *never;   /* splice_never as it was when programs were looked at */
	struct events *events;
	struct strand *strand;
	uv_timer_t soon;
	uv_timer_t later;
	uv_timer_t scan;
	unsigned later_ms;
	uint64_t looked; /* for who is to be let in again, the last time; of the loop's clock */
	int open;	 /* handles */
	struct splice_netns *netns;
	size_t n_netns;
	volatile struct shunt_control *control; /* the entry of the map itself */
};

static struct splice_netns *splice_netns(struct splice *splice, uint32_t inum, uint32_t pid)
{
	struct splice_netns *list;

	for (size_t i = 0; i < splice->n_netns; i++)
		if (splice->netns[i].inum == inum)
			return &splice->netns[i];
	list = reallocarray(splice->netns, splice->n_netns + 1, sizeof(*list));
	if (!list) {
		log_warning("no memory: the sockets of network namespace %u are not passed by",
			    inum);
		return NULL;
	}
	splice->netns = list;
	list = &list[splice->n_netns++];
	*list = (struct splice_netns){.inum = inum, .pid = pid};
	return list;
}

static int splice_open_walk(void *loader)
{
	return loader_open_walk(loader);
}

struct splice_walk {
	unsigned again;
	unsigned later;
};

/* Passes by the sockets of a namespace. */
static int splice_read_walk(int fd, struct splice_walk *ret)
{
	char marks[4096];
	ssize_t n;

	*ret = (struct splice_walk){};
	while ((n = read(fd, marks, sizeof(marks))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			ret->again += marks[i] == SHUNT_WALK_AGAIN;
			ret->later += marks[i] == SHUNT_WALK_LATER;
		}
	}
	return n < 0 ? -errno : 0;
}

static int splice_walk(struct splice *splice, struct splice_netns *netns, struct splice_walk *ret)
{
	_cleanup_close_ int ns = netns_open(netns->inum, netns->pid), fd = -1;

	if (ns < 0)
		return ns;
	fd = netns_enter_and(ns, splice_open_walk, splice->loader);
	return fd < 0 ? fd : splice_read_walk(fd, ret);
}

static void splice_forget(struct splice *splice, struct splice_netns *netns)
{
	*netns = splice->netns[--splice->n_netns];
}

static void splice_on_soon(uv_timer_t *timer);
static void splice_on_later(uv_timer_t *timer);

static void splice_schedule(struct splice *splice)
{
	bool soon = false, later = false;

	for (size_t i = 0; i < splice->n_netns; i++) {
		soon |= splice->netns[i].soon;
		later |= splice->netns[i].later;
	}
	if (soon && !uv_is_active((uv_handle_t *)&splice->soon))
		uv_timer_start(&splice->soon, splice_on_soon, SPLICE_SOON_MS, 0);
	if (later && !uv_is_active((uv_handle_t *)&splice->later))
		uv_timer_start(&splice->later, splice_on_later, splice->later_ms, 0);
}

/*
 * From now on the kernel half tells again of connections that begin in the namespace. Those that it
 * has not told of are seen by the walk that follows: so this comes before each, for after it the
 * namespace may be forgotten.
 */
static void splice_hear_of_opened(struct splice *splice, const struct splice_netns *netns)
{
	volatile uint32_t *told = &splice->control->opened[netns->inum % SHUNT_OPENED];

	if (*told == netns->inum)
		*told = 0;
}

/* One walk, and what it leaves to do. */
static void splice_visit(struct splice *splice, struct splice_netns *netns)
{
	struct splice_walk walk;
	int r;

	splice_hear_of_opened(splice, netns);
	r = splice_walk(splice, netns, &walk);
	if (r) {
		if (r == -ENOENT) {
			splice_forget(splice, netns);
			return;
		}
		log_errno(r, "the sockets of network namespace %u cannot be passed by",
			  netns->inum);
		netns->soon = false;
		netns->later = true;
		return;
	}
	netns->tries = walk.again ? netns->tries + 1 : 0;
	netns->soon = walk.again && netns->tries < SPLICE_SOON_TRIES;
	netns->later = walk.later || walk.again;
	if (!netns->soon && !netns->later)
		splice_forget(splice, netns);
}

static void splice_on_soon(uv_timer_t *timer)
{
	struct splice *splice = timer->data;

	for (size_t i = splice->n_netns; i-- > 0;)
		if (splice->netns[i].soon)
			splice_visit(splice, &splice->netns[i]);
	splice_schedule(splice);
}

/* Pairs that left are let in again when they alternate, which only TCP's own figures tell. */
static void splice_on_later(uv_timer_t *timer)
{
	struct splice *splice = timer->data;
	bool soon = false;

	splice->looked = uv_now(splice->loop);
	for (size_t i = splice->n_netns; i-- > 0;) {
		splice->netns[i].tries = 0;
		splice_visit(splice, &splice->netns[i]);
	}
	for (size_t i = 0; i < splice->n_netns; i++)
		soon |= splice->netns[i].soon;
	splice->later_ms = soon ? SPLICE_LATER_MS : 2 * splice->later_ms;
	if (splice->later_ms > SPLICE_LATER_MAX)
		splice->later_ms = SPLICE_LATER_MAX;
	if (splice->later_ms > 2 * SPLICE_LATER_MS)
		splice->control->discover = 0;
	if (!splice->control->spilled)
		loader_unwatch_reads(splice->loader);
	else if (splice->n_netns == 0)
		uv_timer_start(&splice->later, splice_on_later, splice->later_ms, 0);
	splice_schedule(splice);
}

static void splice_later(struct splice *splice, uint32_t inum)
{
	struct splice_netns *netns = splice_netns(splice, inum, 0);

	if (!netns)
		return;
	netns->later = true;
	if (splice->later_ms > SPLICE_LATER_MS) {
		splice->later_ms = SPLICE_LATER_MS;
		uv_timer_stop(&splice->later);
	}
	splice_schedule(splice);
}

/* Some end sends again. The interval is kept to, or with many that come and go there would be no
 * end to walks; but after a rest it is the shortest again. */
static void splice_awake(struct splice *splice, uint32_t inum)
{
	struct splice_netns *netns = splice_netns(splice, inum, 0);

	if (!netns)
		return;
	netns->later = true;
	if (!uv_is_active((uv_handle_t *)&splice->later) &&
	    uv_now(splice->loop) - splice->looked >= SPLICE_LATER_MAX)
		splice->later_ms = SPLICE_LATER_MS;
	splice_schedule(splice);
}

/* Connections begin that may be let in one day. They may be many and short, so there is no walk for
 * each; and the first one after a rest does not wait long. */
static void splice_opened(struct splice *splice, uint32_t inum)
{
	struct splice_netns *netns = splice_netns(splice, inum, 0);

	if (!netns)
		return;
	netns->later = true;
	if (splice->later_ms > SPLICE_OPENED_MS) {
		splice->later_ms = uv_now(splice->loop) - splice->looked < SPLICE_OPENED_MS
					   ? SPLICE_OPENED_MS
					   : SPLICE_LATER_MS;
		uv_timer_stop(&splice->later);
	}
	splice_schedule(splice);
}

/* The walk is not made at once: what else comes in this turn of the loop is done with it. */
static void splice_soon(struct splice *splice, uint32_t inum)
{
	struct splice_netns *netns = splice_netns(splice, inum, 0);

	if (!netns)
		return;
	netns->soon = true;
	netns->tries = 0;
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

static int splice_read_scan(struct splice *splice)
{
	_cleanup_close_ int fd = loader_open_scan(splice->loader);
	char nothing[64];
	ssize_t n;

	if (fd < 0)
		return log_errno(fd, "open files cannot be scanned for listeners");
	while ((n = read(fd, nothing, sizeof(nothing))) > 0)
		;
	return n < 0 ? log_errno(-errno, "open files cannot be scanned for listeners") : 0;
}

static void splice_on_scan(uv_timer_t *timer)
{
	splice_read_scan(timer->data);
}

static void splice_watch_reads(struct splice *splice)
{
	int r = loader_watch_reads(splice->loader);

	if (r)
		log_errno(r, "readers cannot be watched: spilled ones resume late");
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
	case SHUNT_EVENT_SPILLED:
		splice_watch_reads(splice);
		/* Whoever was through before that is found by passing by. */
		splice_soon(splice, event->netns);
		splice_later(splice, event->netns);
		break;
	case SHUNT_EVENT_WALK:
		splice_soon(splice, event->netns);
		break;
	case SHUNT_EVENT_LEFT:
		splice_soon(splice, event->netns);
		splice_later(splice, event->netns);
		break;
	case SHUNT_EVENT_AWAKE:
		splice_awake(splice, event->netns);
		break;
	case SHUNT_EVENT_OPENED:
		splice_opened(splice, event->netns);
		break;
	case SHUNT_EVENT_STRANDED:
		strand_add(splice->strand, event);
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
	free(splice->netns);
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
	r = strand_new(loop, splice->maps, &splice->strand);
	r = r ?: events_new(loop, splice->maps->events, &splice_listener, splice, &splice->events);
	if (r) {
		strand_close(splice->strand);
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
	strand_close(splice->strand);
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
	strand_set_counts_all(splice->strand,
			      selftest->outcome[SELFTEST_fionread_tcp] == SELFTEST_PASSED);
}

struct splice_namespaces {
	struct splice *splice;
	const char *cgroup_root;
};

/* The network namespace of a cgroup is that of any of its processes. */
static void splice_add_netns_of(void *user, struct cgroup_node *node)
{
	const struct enrol_member *member = enrol_member(node);
	struct splice_namespaces *all = user;
	struct splice_netns *netns;
	uint32_t inum;
	pid_t pid;

	if (!member || member->match.entry.role == SHUNT_ROLE_NONE)
		return;
	pid = process_first_in_cgroup(all->cgroup_root, node->path);
	if (!pid || process_netns(pid, &inum))
		return;
	netns = splice_netns(all->splice, inum, pid);
	if (netns)
		netns->later = true;
}

static void splice_look_everywhere(struct splice *splice)
{
	struct splice_namespaces all = {splice, splice->cgroup_root};

	if (!splice->enrol)
		return;
	if (splice->control->spilled)
		splice_watch_reads(splice);
	splice_read_scan(splice);
	enrol_each(splice->enrol, splice_add_netns_of, &all);
	for (size_t i = 0; i < splice->n_netns; i++) {
		splice->netns[i].soon = true;
		splice->netns[i].tries = 0;
	}
	splice->later_ms = SPLICE_LATER_MS;
	splice_schedule(splice);
}

/* What is known of programs depends on splice_never alone. */
static int splice_keep_programs(struct splice *splice, const struct config *config)
{
	_cleanup_free_ char *never = NULL;
	size_t size;
	FILE *stream = open_memstream(&never, &size);

	if (!stream)
		return -ENOMEM;
	for (size_t i = 0; i < config->splice_never.n; i++)
		fprintf(stream, "%s\n", config->splice_never.items[i].pattern);
	if (fclose(stream))
		return -ENOMEM;
	if (splice->never && !strcmp(splice->never, never))
		return 0;
	free(splice->never);
	splice->never = TAKE_PTR(never);
	return maps_forget_programs(splice->maps);
}

int splice_apply(struct splice *splice, const struct config *config, const char *cgroup_root,
		 struct enrol *enrol)
{
	struct splice_namespaces all = {splice, cgroup_root};
	bool spliced = splice->control->splice;
	int r;

	splice->config = config;
	splice->cgroup_root = cgroup_root;
	splice->enrol = enrol;
	splice->control->queue_max = config->limit_splice_queue;
	splice->control->splice = splice->kernel_can && splice_wanted(config);
	splice->control->reason = splice_reason(config);
	splice->control->announce = 1;
	for (size_t i = 0; i < SHUNT_OPENED; i++)
		splice->control->opened[i] = 0;
	r = splice_keep_programs(splice, config);
	splice_renew(splice);
	r = r ?: splice_read_scan(splice);
	if (r)
		return r;
	/* Not before the scan: it says whose the connections are that are found. And not while some
	 * may be another version's. */
	splice->control->discover = splice->control->splice && !loader_drains(splice->loader);
	if (spliced || splice->control->splice)
		enrol_each(enrol, splice_add_netns_of, &all);
	splice->later_ms = SPLICE_LATER_MS;
	splice_schedule(splice);
	return 0;
}

void splice_stop(struct splice *splice, const char *cgroup_root, struct enrol *enrol)
{
	struct splice_namespaces all = {splice, cgroup_root};

	enrol_each(enrol, splice_add_netns_of, &all);
	splice->control->splice = 0;
	splice->control->reason = SHUNT_REASON_disabled;
	splice_renew(splice);
}

unsigned splice_drain(struct splice *splice)
{
	unsigned left = 0;

	for (size_t i = splice->n_netns; i-- > 0;) {
		struct splice_walk walk = {};

		for (unsigned tries = 0; tries < SPLICE_DRAIN_TRIES; tries++)
			if (splice_walk(splice, &splice->netns[i], &walk) || !walk.again)
				break;
		left += walk.again;
	}
	return left;
}
