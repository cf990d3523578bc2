/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The socket file that the control listens on, and who may talk through it. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct control_socket {
	int fd; /* listening, non-blocking */
	char *path;
	dev_t device; /* with the inode: whether the file at the path is still this socket */
	ino_t inode;
	gid_t group; /* whose members may talk; (gid_t)-1 if there is no such group */
};

/*
 * Listens on @path as control.h promises. -EADDRINUSE: an agent answers there; -EEXIST: something
 * that is not a socket is there; -ENAMETOOLONG.
 */
int control_socket_init(struct control_socket *ret, const char *path);
/* Removes the file, unless somebody else's is there by now. */
void control_socket_deinit(struct control_socket *socket);

/* Is the socket file there still? */
bool control_socket_is_there(const struct control_socket *socket);
/* May the peer of the accepted @fd ask? Root, the agent's own user and SHUNT_GROUP may. */
bool control_socket_admits(const struct control_socket *socket, int fd);
