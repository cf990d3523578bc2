/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers that are left with bytes in both queues.
 * Reads from: /proc/PID/fd, the sockets themselves.
 * Writes to: shunt_ends, the sockets' readiness.
 */
#include "strand.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "process.h"
#include "util/cleanup.h"

/* Nothing tells when the program has read: it is asked after so long, then half as often. */
#define STRAND_FIRST_MS 10
#define STRAND_LAST_MS	2000
#define STRAND_MAX	4096

CLEANUP_DEFINE(DIR *, closedir)

struct strand_reader {
	struct shunt_end_key end;
	uint64_t inode;
	uint64_t unread; /* bytes of TCP: as long as spliced ones wait none of them is read */
	int pid;	 /* who had it last */
};

struct strand {
	uv_timer_t timer;
	const struct maps *maps;
	unsigned wait_ms;
	bool counts_all;
	struct strand_reader *readers;
	size_t n;
};

static bool strand_is(int dir_fd, const char *name, uint64_t inode)
{
	struct stat st;

	return !fstatat(dir_fd, name, &st, 0) && S_ISSOCK(st.st_mode) && st.st_ino == inode;
}

/* A descriptor of our own for the socket, if the process has it; -ENOENT if not. */
static int strand_open_at(int pid, uint64_t inode)
{
	_cleanup_(cleanup_closedir) DIR *dir = NULL;
	struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ESRCH ? -ENOENT : -errno;
	while ((entry = readdir(dir))) {
		struct stat st;
		int fd;

		if (!isdigit(entry->d_name[0]) || !strand_is(dirfd(dir), entry->d_name, inode))
			continue;
		fd = process_borrow(pid, atoi(entry->d_name));
		if (fd < 0)
			return fd;
		/* The number may have been given to another file meanwhile. */
		if (!fstat(fd, &st) && st.st_ino == inode)
			return fd;
		close(fd);
	}
	return -ENOENT;
}

/* The readers that the process has open are its from now on. */
static void strand_search(struct strand *strand, int pid)
{
	_cleanup_(cleanup_closedir) DIR *dir = NULL;
	struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		struct stat st;

		if (!isdigit(entry->d_name[0]) || fstatat(dirfd(dir), entry->d_name, &st, 0) ||
		    !S_ISSOCK(st.st_mode))
			continue;
		for (size_t i = 0; i < strand->n; i++)
			if (strand->readers[i].inode == st.st_ino)
				strand->readers[i].pid = pid;
	}
}

/* They may have been passed on. This takes long where there are many processes, so it is done once
 * for all of them. False: not now. */
static bool strand_search_everywhere(struct strand *strand)
{
	_cleanup_(cleanup_closedir) DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (isdigit(entry->d_name[0]))
			strand_search(strand, atoi(entry->d_name));
	return dir;
}

/* Setting it to what it is ends in an edge: tcp_set_rcvlowat(). */
static int strand_kick(int fd)
{
	int lowat;
	socklen_t size = sizeof(lowat);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &size) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, size))
		return -errno;
	return 0;
}

enum strand_outcome {
	STRAND_WAITS,
	STRAND_DONE,
	STRAND_LOST, /* its process does not have it any more */
};

static enum strand_outcome strand_visit(struct strand *strand, const struct strand_reader *reader)
{
	_cleanup_close_ int fd = strand_open_at(reader->pid, reader->inode);
	int unread = 0, r = 0;

	if (fd == -ENOENT)
		return STRAND_LOST;
	if (fd < 0) {
		log_errno(fd, "a reader of process %d cannot be told of its last bytes",
			  reader->pid);
		return STRAND_DONE;
	}
	/* Nothing can arrive any more. */
	if (!ioctl(fd, FIONREAD, &unread) &&
	    (uint64_t)unread > (strand->counts_all ? reader->unread : 0))
		return STRAND_WAITS;
	r = maps_del_end(strand->maps, &reader->end);
	r = r ?: strand_kick(fd);
	if (r)
		log_errno(r, "a reader of process %d cannot be told of its last bytes",
			  reader->pid);
	return STRAND_DONE;
}

/* Returns whether some are lost. @finally: these were closed by their programs. */
static bool strand_visit_all(struct strand *strand, bool finally)
{
	bool lost = false;

	for (size_t i = strand->n; i-- > 0;) {
		enum strand_outcome outcome = strand_visit(strand, &strand->readers[i]);

		lost |= outcome == STRAND_LOST;
		if (outcome == STRAND_DONE || (outcome == STRAND_LOST && finally))
			strand->readers[i] = strand->readers[--strand->n];
	}
	return lost;
}

static void strand_on_timer(uv_timer_t *timer)
{
	struct strand *strand = timer->data;

	if (strand_visit_all(strand, false) && strand_search_everywhere(strand))
		strand_visit_all(strand, true);
	strand->wait_ms *= 2;
	if (strand->wait_ms > STRAND_LAST_MS)
		strand->wait_ms = STRAND_LAST_MS;
	if (strand->n)
		uv_timer_start(timer, strand_on_timer, strand->wait_ms, 0);
}

static void strand_note(struct strand *strand, const struct strand_reader *reader)
{
	struct strand_reader *readers = NULL;

	for (size_t i = 0; i < strand->n; i++)
		if (strand->readers[i].inode == reader->inode)
			return;
	if (reader->inode && strand->n < STRAND_MAX)
		readers = reallocarray(strand->readers, strand->n + 1, sizeof(*readers));
	if (!readers) {
		log_warning("a reader with its last bytes unread cannot be watched");
		return;
	}
	strand->readers = readers;
	readers[strand->n++] = *reader;
	/* With many that come, one after the other, it would never be due. */
	if (strand->wait_ms == STRAND_FIRST_MS && uv_is_active((uv_handle_t *)&strand->timer))
		return;
	strand->wait_ms = STRAND_FIRST_MS;
	uv_timer_start(&strand->timer, strand_on_timer, strand->wait_ms, 0);
}

void strand_add(struct strand *strand, const struct shunt_event *event)
{
	const struct strand_reader reader = {event->end, event->inode, event->unread, event->pid};

	strand_note(strand, &reader);
}

/* The key of the same socket if it is the other end: tcp_pair_key(). */
static struct shunt_end_key strand_turn(const struct shunt_end_key *end)
{
	const struct shunt_pair_key *pair = &end->pair;

	return end->end == SHUNT_CLIENT
		       ? (struct shunt_end_key){{pair->server, pair->client - 1}, SHUNT_SERVER}
		       : (struct shunt_end_key){{pair->server + 1, pair->client}, SHUNT_CLIENT};
}

/* Is it in the sockhash? Which end it is was guessed. */
static bool strand_is_member(const struct strand *strand, int fd, struct shunt_end_key *end)
{
	uint64_t cookie, member;
	socklen_t size = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		return false;
	for (int i = 0; i < SHUNT_ENDS; i++) {
		if (!maps_get_end(strand->maps, end, &member) && member == cookie)
			return true;
		*end = strand_turn(end);
	}
	return false;
}

void strand_find(struct strand *strand, const struct shunt_stop *stop)
{
	_cleanup_close_ int fd = process_borrow(stop->thread, stop->fd);
	struct strand_reader reader = {stop->end, 0, stop->unread, stop->pid};
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return;
	reader.inode = st.st_ino;
	if (strand_is_member(strand, fd, &reader.end))
		strand_note(strand, &reader);
	else /* That agent may have been killed when it had just taken it out. */
		strand_kick(fd);
}

void strand_set_counts_all(struct strand *strand, bool counts_all)
{
	strand->counts_all = counts_all;
}

int strand_new(uv_loop_t *loop, const struct maps *maps, struct strand **ret)
{
	struct strand *strand = calloc(1, sizeof(*strand));

	if (!strand)
		return -ENOMEM;
	strand->maps = maps;
	strand->timer.data = strand;
	uv_timer_init(loop, &strand->timer);
	*ret = strand;
	return 0;
}

static void strand_on_closed(uv_handle_t *handle)
{
	struct strand *strand = handle->data;

	free(strand->readers);
	free(strand);
}

void strand_close(struct strand *strand)
{
	if (strand)
		uv_close((uv_handle_t *)&strand->timer, strand_on_closed);
}
