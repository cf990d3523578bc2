/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A small sidecar: carries each connection that was redirected to it to where the program dialled.
 * Reads from: its listeners, SO_ORIGINAL_DST of what they accept, both ends of each connection.
 * Writes to: the other end; stdout, a line for each connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6/ip6_tables.h>

#include "util/addr.h"
#include "util/cleanup.h"

#define RELAY_LISTENERS_MAX 8
#define RELAY_BUFFER	    65536

/* One end. What it reads stays in @buffer until the other end has taken it; only then it reads on,
 * so an end that does not read stops the end that writes. */
struct end {
	uv_tcp_t tcp;
	uv_write_t write;	/* of @buffer, to the other end */
	uv_shutdown_t shutdown; /* of the other end, after this one's EOF */
	struct conn *conn;
	struct end *other;
	unsigned long long bytes; /* read from this end */
	bool done;		  /* its EOF was passed on */
	char buffer[RELAY_BUFFER];
};

struct conn {
	struct end program;
	struct end server;
	uv_connect_t connect;
	int handles; /* not yet closed */
	char from[ADDR_STRLEN];
	char original[ADDR_STRLEN];
};

static bool verbose;

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static struct shunt_endpoint endpoint_of(const union address *address)
{
	struct shunt_endpoint endpoint = {.addr = {0, 0, htonl(0xffff)}};

	endpoint.port = address->v4.sin_port; /* at the same place in both */
	if (address->any.sa_family == AF_INET6)
		memcpy(endpoint.addr, &address->v6.sin6_addr, sizeof(endpoint.addr));
	else
		endpoint.addr[3] = address->v4.sin_addr.s_addr;
	return endpoint;
}

static union address endpoint_address(const struct shunt_endpoint *endpoint)
{
	union address address = {};

	address.v4.sin_port = endpoint->port;
	if (addr_is_v4(endpoint->addr)) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_addr.s_addr = endpoint->addr[3];
	} else {
		address.v6.sin6_family = AF_INET6;
		memcpy(&address.v6.sin6_addr, endpoint->addr, sizeof(endpoint->addr));
	}
	return address;
}

/* Where the program wanted to go. -ELOOP: here, so nobody redirected it. */
static int original_find(int fd, struct shunt_endpoint *ret)
{
	union address address = {};
	struct shunt_endpoint here, there;
	bool v4;
	int r;

	getsockname(fd, &address.any, &(socklen_t){sizeof(address)});
	here = endpoint_of(&address);
	v4 = addr_is_v4(here.addr);
	r = getsockopt(fd, v4 ? SOL_IP : SOL_IPV6, v4 ? SO_ORIGINAL_DST : IP6T_SO_ORIGINAL_DST,
		       &address, &(socklen_t){sizeof(address)});
	if (r < 0)
		return -errno;
	there = endpoint_of(&address);
	if (!memcmp(&here, &there, sizeof(here)))
		return -ELOOP;
	*ret = there;
	return 0;
}

static void conn_on_closed(uv_handle_t *handle)
{
	struct end *end = handle->data;

	if (--end->conn->handles == 0)
		free(end->conn);
}

static void conn_close(struct conn *conn)
{
	if (uv_is_closing((uv_handle_t *)&conn->program.tcp))
		return;
	if (verbose)
		printf("closed   %s original %s sent %llu received %llu\n", conn->from,
		       conn->original, conn->program.bytes, conn->server.bytes);
	uv_close((uv_handle_t *)&conn->program.tcp, conn_on_closed);
	uv_close((uv_handle_t *)&conn->server.tcp, conn_on_closed);
}

static void end_start_reading(struct end *end);

static void end_on_written(uv_write_t *write, int status)
{
	struct end *end = container_of(write, struct end, write);

	if (status < 0)
		conn_close(end->conn);
	else
		end_start_reading(end);
}

static void end_on_shutdown(uv_shutdown_t *shutdown, int status)
{
	struct end *end = container_of(shutdown, struct end, shutdown);

	end->done = true;
	if (status < 0 || end->other->done)
		conn_close(end->conn);
}

static void end_on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct end *end = handle->data;

	(void)suggested;
	*ret = uv_buf_init(end->buffer, sizeof(end->buffer));
}

static void end_on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct end *end = stream->data;
	uv_stream_t *other = (uv_stream_t *)&end->other->tcp;
	uv_buf_t data;
	int r;

	if (n == 0)
		return;
	uv_read_stop(stream);
	if (n == UV_EOF) {
		r = uv_shutdown(&end->shutdown, other, end_on_shutdown);
	} else if (n < 0) {
		r = n;
	} else {
		end->bytes += n;
		data = uv_buf_init(buffer->base, n);
		r = uv_write(&end->write, other, &data, 1, end_on_written);
	}
	if (r < 0)
		conn_close(end->conn);
}

static void end_start_reading(struct end *end)
{
	if (uv_read_start((uv_stream_t *)&end->tcp, end_on_buffer, end_on_read) < 0)
		conn_close(end->conn);
}

static void conn_fail(struct conn *conn, int error)
{
	printf("failed   %s original %s: %s\n", conn->from, conn->original, uv_strerror(error));
	conn_close(conn);
}

static void conn_on_connected(uv_connect_t *connect, int status)
{
	struct conn *conn = container_of(connect, struct conn, connect);

	if (status == UV_ECANCELED)
		return;
	if (status < 0) {
		conn_fail(conn, status);
		return;
	}
	end_start_reading(&conn->program);
	end_start_reading(&conn->server);
}

static void end_init(uv_loop_t *loop, struct end *end, struct conn *conn, struct end *other)
{
	uv_tcp_init(loop, &end->tcp);
	end->tcp.data = end;
	end->conn = conn;
	end->other = other;
	conn->handles++;
}

static int conn_start(struct conn *conn, uv_stream_t *listener)
{
	union address from = {}, to;
	struct shunt_endpoint endpoint;
	int fd, r;

	r = uv_accept(listener, (uv_stream_t *)&conn->program.tcp);
	if (r < 0)
		return r;
	uv_fileno((uv_handle_t *)&conn->program.tcp, &fd);
	if (!uv_tcp_getpeername(&conn->program.tcp, &from.any, &(int){sizeof(from)})) {
		endpoint = endpoint_of(&from);
		addr_format_endpoint(&endpoint, conn->from);
	}

	r = original_find(fd, &endpoint);
	if (r < 0)
		return r;
	addr_format_endpoint(&endpoint, conn->original);
	printf("accepted %s original %s\n", conn->from, conn->original);
	uv_tcp_nodelay(&conn->program.tcp, 1);
	uv_tcp_nodelay(&conn->server.tcp, 1);
	to = endpoint_address(&endpoint);
	return uv_tcp_connect(&conn->connect, &conn->server.tcp, &to.any, conn_on_connected);
}

static void listener_on_connection(uv_stream_t *listener, int status)
{
	struct conn *conn;
	int r;

	if (status < 0)
		return;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		abort(); /* a connection that is not accepted would be announced for ever */
	strcpy(conn->from, "unknown");
	strcpy(conn->original, "unknown");
	end_init(listener->loop, &conn->program, conn, &conn->server);
	end_init(listener->loop, &conn->server, conn, &conn->program);
	r = conn_start(conn, listener);
	if (r < 0)
		conn_fail(conn, r);
}

static int listener_init(uv_loop_t *loop, uv_tcp_t *listener, const char *text)
{
	struct shunt_endpoint endpoint;
	union address address;
	int r;

	r = addr_parse_endpoint(text, &endpoint);
	if (r < 0)
		return r;
	address = endpoint_address(&endpoint);
	uv_tcp_init(loop, listener);
	r = uv_tcp_bind(listener, &address.any, 0);
	if (r < 0)
		return r;
	return uv_listen((uv_stream_t *)listener, SOMAXCONN, listener_on_connection);
}

int main(int argc, char **argv)
{
	uv_tcp_t listeners[RELAY_LISTENERS_MAX] = {};
	uv_loop_t loop;
	int option, n = 0, r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&loop);
	while ((option = getopt(argc, argv, "l:v")) != -1) {
		verbose |= option == 'v';
		if (option == 'v')
			continue;
		if (option != 'l' || n == RELAY_LISTENERS_MAX)
			break;
		r = listener_init(&loop, &listeners[n++], optarg);
		if (r < 0) {
			fprintf(stderr, "shunt-relay: -l %s: %s\n", optarg, uv_strerror(r));
			return 1;
		}
	}
	if (option != -1 || n == 0 || optind < argc) {
		fprintf(stderr, "usage: shunt-relay -l ADDRESS:PORT [-l ADDRESS:PORT]… [-v]\n");
		return 2;
	}
	return uv_run(&loop, UV_RUN_DEFAULT); /* until a signal ends the process */
}
