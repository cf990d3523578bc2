/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HTTP server: answers GET and HEAD on one address, from a table of pages. Everything happens
 * in the loop's thread, so a page has to be made in a few milliseconds; a client that is slow,
 * silent or talks nonsense keeps nobody but itself waiting.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "shunt/abi.h"

#define HTTP_CONNECTIONS_MAX 64	   /* one more waits until one ends */
#define HTTP_MEMORY_MAX	     16384 /* bytes for a connection: its request and our headers */
#define HTTP_IDLE_SECONDS    10	   /* a connection on which nothing moves is closed */

struct http;
struct http_request;

/* The value of a header of the request, or NULL; borrowed from the request. */
const char *http_header(const struct http_request *request, const char *name);

/* A header of an answer. */
struct http_field {
	const char *name;
	const char *value;
};

struct http_answer {
	const char *type;		 /* Content-Type, lives for ever; NULL: plain text */
	const struct http_field *fields; /* more headers, ends with a NULL name; NULL: none */
	char *body;			 /* the server frees it, unless … */
	bool borrowed;			 /* … it lives for ever */
	size_t len;			 /* bytes in the body, no NUL at its end is needed */
};

/*
 * Makes a page. @ret is zeroed; what it holds on failure is not freed. Returns 0, or negative
 * errno: -EINVAL becomes status 400, -ENOTCONN (nothing is redirected) 503, all else 500. It must
 * not close the server.
 */
typedef int (*http_page_fn)(void *user, const struct http_request *request,
			    struct http_answer *ret);

struct http_page {
	const char *path; /* the whole of it: "/metrics" */
	http_page_fn run;
};

/*
 * Listens on @address. @pages ends with a NULL path and outlives the server. Where @address is a
 * loopback address, a request that names another host than an IP address or localhost is refused:
 * a browser that was lured to a name that resolves to this host sends one. 0 or negative errno;
 * -EADDRINUSE, -EADDRNOTAVAIL, -EACCES are the operator's business.
 */
int http_new(uv_loop_t *loop, const struct shunt_endpoint *address, const struct http_page *pages,
	     void *user, struct http **ret);
/* NULL-safe. Connections end at once. Handles are closed in later turns of the loop. */
void http_close(struct http *http);

/* Is @host, of a Host header, an IP address or localhost, with or without a port? */
bool http_host_is_local(const char *host);
