/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of connections that are over, with bytes of TCP unread.
 * Reads from: stops of the walk, shunt_ends.
 * Writes to: shunt_ends, the sockets' readiness.
 */
#include "strand.h"

#include <errno.h>
#include <sys/socket.h>

#include "process.h"
#include "util/cleanup.h"

/* Setting it to what it is ends in an edge: tcp_set_rcvlowat(). */
int strand_kick(int fd)
{
	int lowat;
	socklen_t size = sizeof(lowat);

	if (getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &size) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, size))
		return -errno;
	return 0;
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
static bool strand_is_member(const struct maps *maps, uint64_t cookie, struct shunt_end_key *end)
{
	uint64_t member;

	for (int i = 0; i < SHUNT_ENDS; i++) {
		if (!maps_get_end(maps, end, &member) && member == cookie)
			return true;
		*end = strand_turn(end);
	}
	return false;
}

int strand_visit(const struct maps *maps, const struct shunt_stop *stop, bool *ret_waits)
{
	_cleanup_close_ int fd = process_borrow(stop->thread, stop->fd);
	struct shunt_end_key end = stop->end;
	uint64_t cookie;
	socklen_t size = sizeof(cookie);
	bool member;
	int r = 0;

	*ret_waits = false;
	if (fd < 0)
		return fd;
	/* The number may have been given to what is no socket. */
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size))
		return -ENOENT;
	member = strand_is_member(maps, cookie, &end);
	if (stop->what == SHUNT_WALK_BEHIND) {
		*ret_waits = member;
		return 0;
	}
	if (member)
		r = maps_del_end(maps, &end);
	if (!r && (member || stop->what == SHUNT_WALK_KICK))
		r = strand_kick(fd);
	return r;
}
