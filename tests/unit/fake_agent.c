/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A socket on which a thread plays the agent.
 * Reads from: that socket.
 * Writes to: that socket, in a directory of its own below /tmp.
 */
#include "fake_agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"

int fake_agent_setup(void **state)
{
	struct fake_agent *agent = calloc(1, sizeof(*agent));
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	assert_non_null(agent);
	strcpy(agent->dir, "/tmp/shunt-test-agent-XXXXXX");
	assert_non_null(mkdtemp(agent->dir));
	snprintf(agent->path, sizeof(agent->path), "%s/control.sock", agent->dir);
	agent->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, agent->path);
	assert_int_equal(bind(agent->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(agent->fd, 1), 0);
	*state = agent;
	return 0;
}

int fake_agent_teardown(void **state)
{
	struct fake_agent *agent = *state;

	if (agent->fd >= 0)
		close(agent->fd);
	unlink(agent->path);
	rmdir(agent->dir);
	free(agent);
	return 0;
}

static void *fake_agent_main(void *arg)
{
	struct fake_agent *agent = arg;
	size_t asked = 0;

	if (!agent->answers)
		close(accept(agent->fd, NULL, NULL));
	for (const char *const *answer = agent->answers; answer && *answer; answer++) {
		_cleanup_close_ int fd = accept(agent->fd, NULL, NULL);
		ssize_t n =
			recv(fd, agent->questions + asked, sizeof(agent->questions) - asked - 1, 0);

		asked += n > 0 ? n : 0;
		agent->questions[asked] = '\0';
		send(fd, *answer, strlen(*answer), MSG_NOSIGNAL);
	}
	return NULL;
}

void fake_agent_play(struct fake_agent *agent, const char *const *answers)
{
	agent->answers = answers;
	assert_int_equal(pthread_create(&agent->thread, NULL, fake_agent_main, agent), 0);
}

void fake_agent_end(struct fake_agent *agent)
{
	pthread_join(agent->thread, NULL);
}
