/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The HTTP server, and what its pages look at of a request.
 * Reads from: an input, as all that a client says.
 * Writes to: connections to 127.0.0.1.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "http.h"
#include "metrics_text.h"
#include "util/addr.h"
#include "util/cleanup.h"

#define TURNS	    4
#define REQUEST_MAX 65536

static uv_loop_t loop;
static struct shunt_endpoint address;

static int page(void *user, const struct http_request *request, struct http_answer *ret)
{
	const char *accept = http_header(request, "accept");

	(void)user;
	if (accept && !*accept)
		return -EINVAL;
	ret->type = metrics_content_type(metrics_wants_openmetrics(accept));
	ret->len = asprintf(&ret->body, "%s", accept ?: "");
	return ret->body ? 0 : -ENOMEM;
}

static void setup(void)
{
	static const struct http_page pages[] = {{"/metrics", page}, {}};
	uint16_t port = 20000 + (unsigned int)getpid() % 20000;
	struct http *http;
	int r;

	fuzz_check(!uv_loop_init(&loop));
	fuzz_check(!addr_parse("127.0.0.1", address.addr));
	do {
		address.port = htons(++port);
		r = http_new(&loop, &address, pages, NULL, &http);
	} while (r == -EADDRINUSE && port < 60000);
	fuzz_check(!r);
}

static int dial(void)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = address.port,
		.sin_addr.s_addr = address.addr[3],
	};
	/* A reset leaves no port behind that cannot be used for a while. */
	const struct linger none = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fuzz_check(fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)));
	fuzz_check(!connect(fd, (struct sockaddr *)&to, sizeof(to)));
	return fd;
}

static void turn(void)
{
	for (int i = 0; i < TURNS; i++)
		uv_run(&loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char begin[] = "HTTP/1.";
	_cleanup_free_ char *text = fuzz_text(data, size);
	char answer[sizeof(begin) - 1];
	ssize_t n;
	int fd;

	if (size > REQUEST_MAX)
		return 0;
	if (!address.port)
		setup();
	http_host_is_local(text);
	metrics_wants_openmetrics(text);
	fd = dial();
	turn();
	send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	turn();
	n = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
	if (n > 0)
		fuzz_check(!memcmp(answer, begin, n));
	close(fd);
	turn();
	return 0;
}
