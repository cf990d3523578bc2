/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A control that a thread of its own runs, and a client of few words. For the tests of the control:
 * whatever does not go well fails the test.
 *
 * Two functions of libc are replaced: getgrnam(), for the host need not have the group, and
 * accept4(), which can be made to fail.
 */
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#include "control.h"

#define TEST_GROUP 54321
#define NOBODY	   65534
#define MIB	   (1 << 20)

#define SERVER_STREAMS 4

struct server {
	uv_loop_t loop;
	uv_async_t call;
	pthread_t thread;
	sem_t called;
	void (*job)(struct server *server);
	long value; /* what the job found out */
	struct control *control;
	int loop_close; /* what uv_loop_close() returned in the end */
	struct control_stream *streams[SERVER_STREAMS]; /* open ones */
	int ended;					/* streams of which the end was told */
	char dir[64];
	char path[128];
};

/*
 * Verbs: "echo" returns what is in "say", "big" a string of "size" bytes; "refuse" fails with a
 * text, "fail" without one, "latin" with one that is not UTF-8; "close" closes the control; "write"
 * says "text" as text, "stream" begins one of server->streams.
 */
extern const struct control_verb server_verbs[];

extern bool group_is_foreign; /* not root, and SHUNT_GROUP exists, and we are not in it */
extern atomic_bool out_of_files;
extern atomic_int out_of_files_times; /* how often accept4() failed so */

/* Fixtures of cmocka: *state is a struct server. */
int server_setup(void **state);
int server_teardown(void **state);

/* Has @job run between two events of the loop, and returns server->value. */
long server_call(struct server *server, void (*job)(struct server *server));
void job_close(struct server *server);

int dial_path(const char *path); /* -1 if nobody answers */
int dial(const struct server *server);
void say(int fd, const void *data, size_t len);
void ask(int fd, const char *question);
/* The next answer, NULL at the end of the connection; the next call overwrites it. */
const char *hear(int fd);

void assert_answers(int fd, const char *question, const char *answer);
void assert_alive(int fd);
/* The next answer is a refusal, and its text has @error in it. */
void assert_refused(int fd, const char *error);
