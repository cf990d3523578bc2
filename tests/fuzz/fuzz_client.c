/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What shuntctl makes of an answer: parses it, and prints it in columns or as JSON.
 * Reads from: an input: its first byte chooses the command, the rest is the answer.
 * Writes to: /dev/null.
 */
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/client.h"
#include "ctl/cmd.h"
#include "fuzz.h"

static const uint8_t *answer;
static size_t answer_size;

/* These as shuntctl calls them: an agent that has answered already, and has gone. */
int __wrap_socket(int family, int type, int protocol);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);

int __wrap_socket(int family, int type, int protocol)
{
	int fds[2];

	fuzz_check(!socketpair(family, type, protocol, fds));
	fuzz_check(write(fds[1], answer, answer_size) == (ssize_t)answer_size);
	close(fds[1]);
	/* Another page is not to be had. */
	answer_size = 0;
	return fds[0];
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	(void)fd, (void)address, (void)len;
	return 0;
}

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags)
{
	(void)fd, (void)flags;
	fuzz_check(memchr(data, '\n', size) == (const char *)data + size - 1);
	return size;
}

#define ARGUMENTS 4

static const struct {
	int (*run)(const struct ctl *ctl, int argc, char **argv);
	char *argv[ARGUMENTS];
} commands[] = {
	{cmd_status, {"status"}},
	{cmd_counters, {"counters"}},
	{cmd_meshes, {"meshes"}},
	{cmd_cgroups, {"cgroups"}},
	{cmd_explain, {"explain", "/a", "10.0.0.1:80"}},
	{cmd_flows, {"flows"}},
	{cmd_flows, {"flows", "--sort", "bytes"}},
	{cmd_reload, {"reload"}},
	{cmd_detach, {"detach"}},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ctl ctl = {.socket = "/control.sock"};
	char *argv[ARGUMENTS + 1] = {};
	int argc = 0;
	size_t i;

	if (!size || size > 65536)
		return 0;
	fuzz_check(freopen("/dev/null", "w", stdout));
	i = data[0] % ARRAY_SIZE(commands);
	ctl.json = data[0] & 0x80;
	answer = data + 1;
	answer_size = size - 1;
	while (argc < ARGUMENTS && commands[i].argv[argc]) {
		argv[argc] = commands[i].argv[argc];
		argc++;
	}
	commands[i].run(&ctl, argc, argv);
	return 0;
}
