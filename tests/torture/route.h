/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who connects to whom, and over which addresses. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

#define PLACES_MAX 16
#define ROUTES_MAX 32

/* A process: where its sockets are. */
struct site {
	const char *name;
	const char *cgroup, *netns; /* a directory, a file; NULL: where the run was started */
};

struct route {
	const char *name;
	unsigned int client, server;	  /* indices of sites */
	struct sockaddr_in6 listen, dial; /* or struct sockaddr_in, by family */
	/*
	 * The server accepts late and has room for one connection that waits, so handshakes are
	 * dropped, and may fail.
	 */
	bool late;
};

extern struct site sites[PLACES_MAX];
extern struct route routes[ROUTES_MAX];
extern unsigned int sites_count, routes_count;

/* NAME[=CGROUP_DIR[,NETNS_FILE]]; ends the program if that is not what @text is. */
void site_parse(char *text);

/* NAME=CLIENT,SERVER,LISTEN_ADDRESS:PORT,DIAL_ADDRESS:PORT[,late], of sites that are known. */
void route_parse(char *text);
socklen_t address_size(const struct sockaddr_in6 *address);
