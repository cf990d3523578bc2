/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HTTP server, of libmicrohttpd, without a thread of its own: the loop watches its epoll
 * descriptor, and a timer stands for the timeouts of its connections. Nobody connected: no timer.
 * Reads from: HTTP requests.
 * Writes to: HTTP answers; what is in them is the business of the pages.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "log.h"
#include "util/addr.h"
#include "util/cleanup.h"

#define HTTP_BACKLOG 128

struct http {
	uv_poll_t poll;
	uv_timer_t timer;
	struct MHD_Daemon *daemon;
	const struct http_page *pages;
	void *user;
	bool loopback; /* it listens there */
	int open;      /* handles */
};

const char *http_header(const struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value((struct MHD_Connection *)request, MHD_HEADER_KIND, name);
}

bool http_host_is_local(const char *host)
{
	char name[INET6_ADDRSTRLEN + 2], addr[sizeof(struct in6_addr)];
	size_t len;

	if (*host == '[') {
		len = strcspn(++host, "]");
		if (!host[len] || (host[len + 1] && host[len + 1] != ':'))
			return false;
	} else {
		len = strcspn(host, ":");
	}
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	if (host[len] == ']')
		return inet_pton(AF_INET6, name, addr) == 1;
	return inet_pton(AF_INET, name, addr) == 1 || !strcasecmp(name, "localhost");
}

/* Consumes the response. */
static enum MHD_Result http_send(struct MHD_Connection *connection, unsigned int status,
				 struct MHD_Response *response)
{
	enum MHD_Result r;

	if (!response)
		return MHD_NO; /* no memory: the connection ends */
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	r = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return r;
}

/* @text ends with a newline and lives for ever. */
static enum MHD_Result http_refuse(struct MHD_Connection *connection, unsigned int status,
				   const char *text)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(text), (char *)text, MHD_RESPMEM_PERSISTENT);

	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
	if (response && status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	return http_send(connection, status, response);
}

static enum MHD_Result http_answer_page(struct http *http, struct MHD_Connection *connection,
					const struct http_page *page)
{
	struct http_answer answer = {};
	struct MHD_Response *response;
	int r = page->run(http->user, (const struct http_request *)connection, &answer);

	if (r == -EINVAL)
		return http_refuse(connection, MHD_HTTP_BAD_REQUEST,
				   "the question is not understood\n");
	if (r == -ENOTCONN)
		return http_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
				   "nothing is redirected; the agent's log says why\n");
	if (r) {
		log_errno(r, "the page %s cannot be made", page->path);
		return http_refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR,
				   "the agent's log says what went wrong\n");
	}
	response = MHD_create_response_from_buffer(answer.len, answer.body,
						   answer.borrowed ? MHD_RESPMEM_PERSISTENT
								   : MHD_RESPMEM_MUST_FREE);
	if (!response && !answer.borrowed)
		free(answer.body);
	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
					answer.type ?: "text/plain; charset=utf-8");
	for (const struct http_field *field = answer.fields; response && field && field->name;
	     field++)
		MHD_add_response_header(response, field->name, field->value);
	return http_send(connection, MHD_HTTP_OK, response);
}

/* Called when the headers are there, and again when the whole request is. One that has a body is
 * refused before it is read. */
static enum MHD_Result http_on_request(void *user, struct MHD_Connection *connection,
				       const char *url, const char *method, const char *version,
				       const char *upload, size_t *upload_size, void **seen)
{
	const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
	const char *length =
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
	struct http *http = user;

	if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
		return http_refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
				   "there is nothing but GET and HEAD\n");
	if ((length && strcmp(length, "0")) ||
	    MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding"))
		return http_refuse(connection, MHD_HTTP_BAD_REQUEST,
				   "a request has no body here\n");
	if (!*seen) {
		*seen = http;
		return MHD_YES;
	}
	if (http->loopback && host && !http_host_is_local(host))
		return http_refuse(connection, MHD_HTTP_FORBIDDEN,
				   "ask by IP address or as localhost\n");
	for (const struct http_page *page = http->pages; page->path; page++)
		if (!strcmp(page->path, url))
			return http_answer_page(http, connection, page);
	return http_refuse(connection, MHD_HTTP_NOT_FOUND, "there is no such page\n");
}

static void http_run(struct http *http);

static void http_on_timer(uv_timer_t *timer)
{
	http_run(container_of(timer, struct http, timer));
}

static void http_on_event(uv_poll_t *poll, int status, int events)
{
	http_run(container_of(poll, struct http, poll));
}

static unsigned int http_connections(struct http *http)
{
	return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
		->num_connections;
}

static void http_run(struct http *http)
{
	bool full = http_connections(http) >= HTTP_CONNECTIONS_MAX;
	unsigned long long ms;

	MHD_run(http->daemon);
	/* It looks whether there is room again before it closes who has been idle for too long. */
	if (full)
		MHD_run(http->daemon);
	if (MHD_get_timeout(http->daemon, &ms) == MHD_YES)
		uv_timer_start(&http->timer, http_on_timer, ms, 0);
	else
		uv_timer_stop(&http->timer);
}

__attribute__((format(printf, 2, 0))) static void http_on_log(void *user, const char *format,
							      va_list args)
{
	char text[256];

	vsnprintf(text, sizeof(text), format, args);
	text[strcspn(text, "\n")] = '\0';
	log_debug("http: %s", text);
}

static int http_bind(int fd, const struct shunt_endpoint *address)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = address->port};
	struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = address->port,
		.sin_addr.s_addr = address->addr[3],
	};

	memcpy(&v6.sin6_addr, address->addr, sizeof(v6.sin6_addr));
	if (addr_is_v4(address->addr) ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
				      : bind(fd, (struct sockaddr *)&v6, sizeof(v6)))
		return -errno;
	return 0;
}

static int http_listen(const struct shunt_endpoint *address)
{
	_cleanup_close_ int fd = -1;
	int on = 1, r;

	fd = socket(addr_is_v4(address->addr) ? AF_INET : AF_INET6,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Else connections of an agent before that are not over yet would keep the port. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (!addr_is_v4(address->addr))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	r = http_bind(fd, address);
	if (!r && listen(fd, HTTP_BACKLOG))
		r = -errno;
	return r ?: TAKE_FD(fd);
}

/* Takes @fd, which listens. */
static struct MHD_Daemon *http_start(struct http *http, int fd)
{
	struct MHD_Daemon *daemon;

	errno = 0;
	daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, http_on_request,
				  http, MHD_OPTION_EXTERNAL_LOGGER, http_on_log, NULL,
				  MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
				  HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				  (size_t)HTTP_MEMORY_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
				  HTTP_IDLE_SECONDS, MHD_OPTION_END);
	if (!daemon)
		close(fd);
	return daemon;
}

int http_new(uv_loop_t *loop, const struct shunt_endpoint *address, const struct http_page *pages,
	     void *user, struct http **ret)
{
	_cleanup_free_ struct http *http = calloc(1, sizeof(*http));
	int fd = http ? http_listen(address) : -ENOMEM, r;

	if (fd < 0)
		return fd;
	http->pages = pages;
	http->user = user;
	http->loopback = addr_is_loopback(address->addr);
	http->daemon = http_start(http, fd);
	if (!http->daemon)
		return errno ? -errno : -ENOMEM;
	r = uv_poll_init(loop, &http->poll,
			 MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
	if (r) {
		MHD_stop_daemon(http->daemon);
		return r;
	}
	uv_timer_init(loop, &http->timer);
	http->open = 2;
	r = uv_poll_start(&http->poll, UV_READABLE, http_on_event);
	if (r) {
		http_close(TAKE_PTR(http));
		return r;
	}
	*ret = TAKE_PTR(http);
	return 0;
}

static void http_unref(struct http *http)
{
	if (!--http->open)
		free(http);
}

static void http_on_poll_closed(uv_handle_t *handle)
{
	http_unref(container_of((uv_poll_t *)handle, struct http, poll));
}

static void http_on_timer_closed(uv_handle_t *handle)
{
	http_unref(container_of((uv_timer_t *)handle, struct http, timer));
}

void http_close(struct http *http)
{
	if (!http)
		return;
	uv_close((uv_handle_t *)&http->poll, http_on_poll_closed);
	uv_close((uv_handle_t *)&http->timer, http_on_timer_closed);
	MHD_stop_daemon(http->daemon);
}
