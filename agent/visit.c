/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Visits to the sockets of other processes.
 * Reads from: the walk, the answers of the kernel half.
 * Writes to: sockets of other processes, through the kernel half; shunt_ends; cgroups' programs.
 */
#include "visit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "process.h"
#include "records.h"
#include "strand.h"
#include "util/cleanup.h"

#ifndef FILEID_KERNFS
#define FILEID_KERNFS 0xfe /* <linux/exportfs.h>, which is not for programs: a cgroup's id */
#endif

/* If a program closes a socket that is borrowed, the agent's is the last close(): with SO_LINGER
 * the kernel waits there, until a signal comes. */
#define VISIT_LINGER_MS 20

/* Cgroups that are attached to at a time. Each takes a file descriptor. */
#define VISIT_LINKS_MAX 128

struct visit_link {
	uint64_t cgroup;
	int fd;
	bool used; /* since visit_rest() */
	bool stays;
};

struct visit {
	const struct loader_visit *kernel;
	const struct maps *maps;
	int root;
	int told; /* the last failure that was logged */
	struct visit_link *links;
	size_t n_links;
	uint64_t reached;	  /* the last cgroup: one end of a pair may be borrowed still */
	struct shunt_stop *stops; /* of one walk */
	size_t n_stops;
	size_t allocated;
	timer_t alarm; /* while sockets are visited */
};

/* One end of a pair. */
struct visit_end {
	const struct shunt_stop *stop;
	int fd;
};

static void visit_on_alarm(int signum)
{
}

static int visit_new_alarm(timer_t *ret)
{
	struct sigaction action = {.sa_handler = visit_on_alarm}; /* without SA_RESTART */
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};

	return sigaction(SIGRTMIN, &action, NULL) || timer_create(CLOCK_MONOTONIC, &event, ret)
		       ? -errno
		       : 0;
}

static void visit_set_alarm(const struct visit *visit, long ms)
{
	const struct itimerspec time = {{0, ms * 1000000}, {0, ms * 1000000}};

	timer_settime(visit->alarm, 0, &time, NULL);
}

int visit_new(const struct loader_visit *kernel, const struct maps *maps, struct visit **ret)
{
	struct visit *visit = calloc(1, sizeof(*visit));
	int r;

	if (!visit)
		return -ENOMEM;
	r = visit_new_alarm(&visit->alarm);
	if (r) {
		free(visit);
		return r;
	}
	visit->kernel = kernel;
	visit->maps = maps;
	visit->root = -1;
	*ret = visit;
	return 0;
}

struct visit *visit_free(struct visit *visit)
{
	if (!visit)
		return NULL;
	for (size_t i = 0; i < visit->n_links; i++)
		close(visit->links[i].fd);
	if (visit->root >= 0)
		close(visit->root);
	timer_delete(visit->alarm);
	free(visit->links);
	free(visit->stops);
	free(visit);
	return NULL;
}

int visit_set_root(struct visit *visit, const char *cgroup_root)
{
	int fd = open(cgroup_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (visit->root >= 0)
		close(visit->root);
	visit->root = fd;
	return 0;
}

static struct visit_link *visit_link_find(struct visit *visit, uint64_t cgroup)
{
	for (size_t i = 0; i < visit->n_links; i++)
		if (visit->links[i].cgroup == cgroup)
			return &visit->links[i];
	return NULL;
}

static void visit_link_remove(struct visit *visit, struct visit_link *link)
{
	close(link->fd);
	*link = visit->links[--visit->n_links];
}

/* For one more. Whoever is to be visited in the one that goes is reached anew. */
static void visit_make_room(struct visit *visit)
{
	if (visit->n_links < VISIT_LINKS_MAX)
		return;
	for (size_t i = 0; i < visit->n_links; i++) {
		struct visit_link *link = &visit->links[i];

		if (link->stays || link->cgroup == visit->reached)
			continue;
		visit_link_remove(visit, link);
		return;
	}
}

static int visit_link_add(struct visit *visit, uint64_t cgroup, int fd, bool stays)
{
	_cleanup_close_ int link = loader_visit_attach(visit->kernel, fd);
	struct visit_link *links;

	if (link < 0)
		return link;
	links = reallocarray(visit->links, visit->n_links + 1, sizeof(*links));
	if (!links)
		return -ENOMEM;
	visit->links = links;
	links[visit->n_links++] = (struct visit_link){cgroup, TAKE_FD(link), true, stays};
	return 0;
}

int visit_attach(struct visit *visit, uint64_t cgroup, int fd)
{
	return visit_link_add(visit, cgroup, fd, true);
}

void visit_rest(struct visit *visit, bool all)
{
	for (size_t i = visit->n_links; i-- > 0;) {
		struct visit_link *link = &visit->links[i];

		if (link->stays || (link->used && !all)) {
			link->used = false;
			continue;
		}
		visit_link_remove(visit, link);
	}
}

/* -ESTALE: it is gone. */
static int visit_open_cgroup(const struct visit *visit, uint64_t cgroup)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + sizeof(cgroup)];
	} name = {.handle = {.handle_bytes = sizeof(cgroup), .handle_type = FILEID_KERNFS}};
	int fd;

	memcpy(name.handle.f_handle, &cgroup, sizeof(cgroup));
	fd = open_by_handle_at(visit->root, &name.handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The programs of a socket's own cgroup are run, whoever has it open. */
static int visit_reach(struct visit *visit, uint64_t cgroup)
{
	struct visit_link *link = visit_link_find(visit, cgroup);
	_cleanup_close_ int fd = -1;
	int r = 0;

	if (link) {
		link->used = true;
	} else {
		visit_make_room(visit);
		fd = visit_open_cgroup(visit, cgroup);
		r = fd < 0 ? fd : visit_link_add(visit, cgroup, fd, false);
	}
	visit->reached = cgroup;
	return r;
}

static void visit_tell(struct visit *visit, int error, const struct shunt_stop *stop)
{
	if (error == visit->told)
		return;
	visit->told = error;
	log_errno(error, "a socket of process %u cannot be visited", stop->pid);
}

/* An fd, or negative errno; -ENOENT: it is not there any more. */
static int visit_borrow(struct visit *visit, const struct shunt_stop *stop)
{
	int fd = visit_reach(visit, stop->cgroup);

	if (!fd)
		fd = process_borrow(stop->thread, stop->fd);
	if (fd < 0 && fd != -ENOENT)
		visit_tell(visit, fd, stop);
	return fd;
}

/* What is borrowed may be another file by now, even no socket: then there is no answer. */
static enum shunt_visit_answer visit_ask(const struct visit *visit, const struct visit_end *end,
					 enum shunt_visit what)
{
	*visit->kernel->answer = SHUNT_VISIT_NONE;
	setsockopt(end->fd, SHUNT_VISIT_LEVEL, what, &end->stop->end, sizeof(end->stop->end));
	return *visit->kernel->answer;
}

/* It was taken out, and the kernel half kicks it if it has to. If its connection is over by now
 * that knows nothing of it any more. */
static void visit_say_out(const struct visit *visit, const struct visit_end *end,
			  enum shunt_visit what)
{
	if (visit_ask(visit, end, what) != SHUNT_VISIT_DONE)
		strand_kick(end->fd);
}

static void visit_again(struct visit_result *result, const struct shunt_stop *stop)
{
	result->again(result->user, stop->pid);
}

static void visit_look(struct visit *visit, const struct shunt_stop *stop,
		       struct visit_result *result)
{
	_cleanup_close_ int fd = visit_borrow(visit, stop);
	struct visit_end end = {stop, fd};

	if (fd < 0)
		return;
	switch (visit_ask(visit, &end, SHUNT_VISIT_LOOK)) {
	case SHUNT_VISIT_TAKE_OUT:
		result->later = true;
		if (!maps_del_end(visit->maps, &stop->end))
			visit_say_out(visit, &end, SHUNT_VISIT_OUT);
		break;
	case SHUNT_VISIT_COME_BACK:
		result->soon = true;
		visit_again(result, stop);
		break;
	case SHUNT_VISIT_WAITS:
		result->later = true;
		break;
	default:
		break;
	}
}

/* A socket whose cgroup is gone can never be visited. */
static void visit_put_off(int error, struct visit_result *result)
{
	result->later |= error != -ESTALE;
}

static void visit_sleep(struct visit *visit, const struct shunt_stop *stop,
			struct visit_result *result)
{
	_cleanup_close_ int fd = visit_borrow(visit, stop);
	struct visit_end end = {stop, fd};

	if (fd < 0)
		visit_put_off(fd, result);
	else if (visit_ask(visit, &end, SHUNT_VISIT_SLEEP) != SHUNT_VISIT_DONE)
		result->later = true;
}

/* Lets both ends in, or neither. Until the last visit is done nothing is spliced, and whoever is in
 * can be taken out again. */
static void visit_adopt(struct visit *visit, const struct visit_end ends[SHUNT_ENDS],
			struct visit_result *result)
{
	const struct visit_end *client = &ends[SHUNT_CLIENT], *server = &ends[SHUNT_SERVER];
	enum shunt_visit_answer one = visit_ask(visit, client, SHUNT_VISIT_ASK);
	enum shunt_visit_answer other = visit_ask(visit, server, SHUNT_VISIT_ASK);

	if (one == SHUNT_VISIT_LET_IN && other == SHUNT_VISIT_LET_IN &&
	    !maps_put_end(visit->maps, &client->stop->end, client->fd) &&
	    !maps_put_end(visit->maps, &server->stop->end, server->fd) &&
	    visit_ask(visit, client, SHUNT_VISIT_IN) == SHUNT_VISIT_DONE &&
	    visit_ask(visit, server, SHUNT_VISIT_IN_BOTH) == SHUNT_VISIT_DONE) {
		/* What came by TCP at the last moment is to be found there. */
		result->soon = true;
		for (int i = 0; i < SHUNT_ENDS; i++)
			visit_again(result, ends[i].stop);
		return;
	}
	for (int i = 0; i < SHUNT_ENDS; i++)
		if (!maps_del_end(visit->maps, &ends[i].stop->end))
			visit_say_out(visit, &ends[i], SHUNT_VISIT_BACK);
	result->later = true;
	if (one != SHUNT_VISIT_COME_BACK && other != SHUNT_VISIT_COME_BACK)
		return;
	result->soon = true;
	for (int i = 0; i < SHUNT_ENDS; i++)
		visit_again(result, ends[i].stop);
}

static void visit_both(struct visit *visit, const struct shunt_stop *const stops[SHUNT_ENDS],
		       bool join, struct visit_result *result)
{
	_cleanup_close_ int client = visit_borrow(visit, stops[SHUNT_CLIENT]);
	_cleanup_close_ int server = client < 0 ? -1 : visit_borrow(visit, stops[SHUNT_SERVER]);
	struct visit_end ends[SHUNT_ENDS] = {
		[SHUNT_CLIENT] = {stops[SHUNT_CLIENT], client},
		[SHUNT_SERVER] = {stops[SHUNT_SERVER], server},
	};

	if (server < 0) {
		visit_put_off(client < 0 ? client : server, result);
		return;
	}
	if (!join) {
		visit_adopt(visit, ends, result);
		return;
	}
	result->later = true;
	/* The kernel half has a note of the end that was passed by first, and makes the pair at the
	 * other: it does nothing if that is not the second here. */
	for (int first = 0; first < SHUNT_ENDS; first++)
		if (visit_ask(visit, &ends[first], SHUNT_VISIT_JOIN) == SHUNT_VISIT_DONE &&
		    visit_ask(visit, &ends[!first], SHUNT_VISIT_JOIN_BOTH) == SHUNT_VISIT_DONE)
			return;
}

/* A reader whose connection is over. Returns whether it was there. Where it was not, since its
 * process has ended or the agent has no room for one more file, another walk tells what became of
 * it; but not where it may not be borrowed. */
static bool visit_strand(struct visit *visit, const struct shunt_stop *stop,
			 struct visit_result *result)
{
	bool waits;
	int r = strand_visit(visit->maps, stop, &waits);

	if (r && r != -ENOENT)
		visit_tell(visit, r, stop);
	result->stranded |= waits || (r && r != -EPERM && r != -EACCES);
	return !r;
}

/* The visit would wait for the lock of a socket that somebody else has, and the agent with it. */
static void visit_leave_be(const struct shunt_stop *stop, struct visit_result *result)
{
	if (stop->what == SHUNT_WALK_VISIT || stop->what == SHUNT_WALK_STRANDED)
		visit_again(result, stop);
	result->later = true;
	result->stranded |= stop->what >= SHUNT_WALK_BEHIND;
}

/* The stops of one pair, in the order of its ends. */
static void visit_pair(struct visit *visit, const struct shunt_stop *stops, size_t n,
		       struct visit_result *result)
{
	const struct shunt_stop *ends[SHUNT_ENDS] = {};
	bool told[SHUNT_ENDS][SHUNT_WALK_MAX] = {};

	for (size_t i = 0; i < n; i++) {
		const struct shunt_stop *stop = &stops[i];

		if (stop->end.end >= SHUNT_ENDS || stop->what >= SHUNT_WALK_MAX ||
		    told[stop->end.end][stop->what])
			continue; /* it is open more than once */
		told[stop->end.end][stop->what] = true;
		if (stop->held) {
			visit_leave_be(stop, result);
			continue;
		}
		if (stop->what == SHUNT_WALK_VISIT)
			visit_look(visit, stop, result);
		else if (stop->what == SHUNT_WALK_SLEEP)
			visit_sleep(visit, stop, result);
		else if (stop->what == SHUNT_WALK_AGAIN)
			visit_again(result, stop);
		else if (stop->what >= SHUNT_WALK_BEHIND)
			told[stop->end.end][stop->what] = visit_strand(visit, stop, result);
		else
			ends[stop->end.end] = stop;
	}
	if (!ends[SHUNT_CLIENT] && !ends[SHUNT_SERVER])
		return;
	if (ends[SHUNT_CLIENT] && ends[SHUNT_SERVER])
		for (int what = SHUNT_WALK_ADOPT; what <= SHUNT_WALK_JOIN; what++)
			if (told[SHUNT_CLIENT][what] || told[SHUNT_SERVER][what]) {
				visit_both(visit, ends, what == SHUNT_WALK_JOIN, result);
				return;
			}
	result->later = true;
}

static bool visit_same_pair(const struct shunt_stop *a, const struct shunt_stop *b)
{
	return a->end.pair.client == b->end.pair.client && a->end.pair.server == b->end.pair.server;
}

static int visit_compare(const void *a, const void *b)
{
	const struct shunt_stop *one = a, *other = b;

	return memcmp(&one->end, &other->end, sizeof(one->end));
}

static int visit_note(struct visit *visit, const struct shunt_stop *stop)
{
	struct shunt_stop *stops;
	size_t wanted;

	if (visit->n_stops == visit->allocated) {
		wanted = visit->allocated ? 2 * visit->allocated : 256;
		stops = reallocarray(visit->stops, wanted, sizeof(*stops));
		if (!stops)
			return -ENOMEM;
		visit->stops = stops;
		visit->allocated = wanted;
	}
	visit->stops[visit->n_stops++] = *stop;
	return 0;
}

static int visit_read(struct visit *visit, int fd)
{
	struct records *records = calloc(1, sizeof(*records));
	const void *stop;
	int r;

	if (!records) {
		close(fd);
		return -ENOMEM;
	}
	records->fd = fd;
	visit->n_stops = 0;
	do {
		stop = records_next(records, sizeof(struct shunt_stop), &r);
		if (stop)
			r = visit_note(visit, stop);
	} while (stop && !r);
	records_free(records);
	return r;
}

int visit_walk(struct visit *visit, uint32_t pid, bool everybody, struct visit_result *result)
{
	int r = loader_visit_walk(visit->kernel, pid, everybody);

	result->soon = false;
	result->later = false;
	result->stranded = false;
	r = r < 0 ? r : visit_read(visit, r);
	if (r)
		return r;
	if (visit->n_stops)
		qsort(visit->stops, visit->n_stops, sizeof(*visit->stops), visit_compare);
	visit_set_alarm(visit, VISIT_LINGER_MS);
	for (size_t i = 0, end; i < visit->n_stops; i = end) {
		for (end = i + 1; end < visit->n_stops; end++)
			if (!visit_same_pair(&visit->stops[i], &visit->stops[end]))
				break;
		visit_pair(visit, &visit->stops[i], end - i, result);
	}
	visit_set_alarm(visit, 0);
	return 0;
}
