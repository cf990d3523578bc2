/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The routes of a run, from the command line.
 * Reads from: text.
 * Writes to: stderr.
 */
#include "route.h"

#include <arpa/inet.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

struct site sites[PLACES_MAX];
struct route routes[ROUTES_MAX];
unsigned int sites_count, routes_count;

void site_parse(char *text)
{
	struct site *site = &sites[sites_count++];

	if (sites_count > PLACES_MAX)
		errx(2, "more than %d places", PLACES_MAX);
	site->name = strsep(&text, "=");
	site->cgroup = strsep(&text, ",");
	site->netns = text;
	if (site->cgroup && *site->cgroup == '\0')
		site->cgroup = NULL;
}

static unsigned int site_find(const char *name)
{
	for (unsigned int i = 0; i < sites_count; i++) {
		if (strcmp(sites[i].name, name) == 0)
			return i;
	}
	errx(2, "%s: no such place", name);
}

socklen_t address_size(const struct sockaddr_in6 *address)
{
	return address->sin6_family == AF_INET ? sizeof(struct sockaddr_in)
					       : sizeof(struct sockaddr_in6);
}

static void parse_address(const char *text, struct sockaddr_in6 *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	char *copy = strdup(text), *host = copy, *port = copy ? strrchr(copy, ':') : NULL;
	bool right;

	if (!port)
		errx(2, "%s: not ADDRESS:PORT", text);
	*port++ = '\0';
	if (*host == '[') {
		ret->sin6_family = AF_INET6;
		ret->sin6_port = htons(atoi(port));
		host[strcspn(host, "]")] = '\0';
		right = inet_pton(AF_INET6, host + 1, &ret->sin6_addr) == 1;
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(atoi(port));
		right = inet_pton(AF_INET, host, &v4->sin_addr) == 1;
	}
	if (!right)
		errx(2, "%s: not ADDRESS:PORT", text);
	free(copy);
}

void route_parse(char *text)
{
	struct route *route = &routes[routes_count++];
	const char *client, *server, *listen, *dial, *option;

	if (routes_count > ROUTES_MAX)
		errx(2, "more than %d routes", ROUTES_MAX);
	route->name = strsep(&text, "=");
	client = strsep(&text, ",");
	server = strsep(&text, ",");
	listen = strsep(&text, ",");
	dial = strsep(&text, ",");
	if (!dial)
		errx(2, "%s: not a route", route->name);
	route->client = site_find(client);
	route->server = site_find(server);
	parse_address(listen, &route->listen);
	parse_address(dial, &route->dial);
	while ((option = strsep(&text, ","))) {
		if (strcmp(option, "late") != 0)
			errx(2, "%s: unknown option '%s'", route->name, option);
		route->late = true;
	}
}
