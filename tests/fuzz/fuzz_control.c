/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control socket: bytes in pieces, from clients that come and go in the midst.
 * Reads from: an input: 0xff and a length begins a piece, 0xfe ends the connection.
 * Writes to: a control socket in a temporary directory.
 */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_kernel.h"
#include "fuzz.h"
#include "util/cleanup.h"
#include "verbs.h"

#define TURNS 3 /* of the loop after each piece */

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct control *control;

static void remove_socket(void)
{
	unlink(address.sun_path);
}

/* Those that need nothing beside a loop and a policy. */
static const struct control_verb *verbs_that_end(void)
{
	static struct control_verb verbs[32];
	size_t n = 0;

	for (const struct control_verb *verb = verbs_table(); verb->name; verb++)
		if (!verb->stream && n < ARRAY_SIZE(verbs) - 1)
			verbs[n++] = *verb;
	return verbs;
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(address.sun_path, sizeof(address.sun_path), "%.64s/shunt-fuzz-%d.sock",
		 tmp ?: "/tmp", getpid());
	fuzz_check(!control_new(&fake_agent()->loop, address.sun_path, verbs_that_end(),
				fake_agent(), &control));
	atexit(remove_socket);
}

/* Each answer is an object that says whether it went well, on a line. */
static void check_line(const char *line, size_t len)
{
	json_t *answer = json_loadb(line, len, 0, NULL);

	fuzz_check(json_is_object(answer));
	fuzz_check(json_is_boolean(json_object_get(answer, "ok")));
	if (json_is_false(json_object_get(answer, "ok")))
		fuzz_check(json_is_string(json_object_get(answer, "error")));
	json_decref(answer);
}

static void check_answers(int fd)
{
	static char buffer[1 << 20];
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	char *line = buffer, *newline;

	while (n > 0 && (newline = memchr(line, '\n', buffer + n - line))) {
		check_line(line, newline - line);
		line = newline + 1;
	}
	/* What one turn sends it sends whole. */
	fuzz_check(n <= 0 || line == buffer + n);
}

static void turn(int fd)
{
	for (int i = 0; i < TURNS; i++)
		fake_agent_turn();
	check_answers(fd);
}

static int dial(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fuzz_check(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)));
	fake_agent_turn();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size;
	int fd;

	if (!control)
		setup();
	fake_kernel.size = 0;
	fd = dial();
	while (size) {
		if (size >= 2 && data[0] == 0xff) {
			piece = data[1];
			data += 2;
			size -= 2;
		} else if (data[0] == 0xfe) {
			close(fd);
			fake_agent_turn();
			fd = dial();
			data++;
			size--;
		}
		if (piece > size)
			piece = size;
		/* It may have been closed for what came before. */
		send(fd, data, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
		turn(fd);
		data += piece;
		size -= piece;
		piece = size;
	}
	turn(fd);
	close(fd);
	turn(-1);
	return 0;
}
