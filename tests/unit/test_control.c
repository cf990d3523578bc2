/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Conversations with the control: questions, answers, garbage, and clients that vanish.
 * Reads from: the control socket.
 * Writes to: the control socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "control_server.h"
#include "shunt/proto.h"
#include "util/cleanup.h"

static void test_answers(void **state)
{
	_cleanup_close_ int fd = dial(*state);

	assert_alive(fd);
	assert_answers(fd, "{\"verb\":\"echo\"}\n", "{\"ok\":true,\"result\":null}");
	assert_answers(fd, "{\"verb\":\"refuse\"}\r\n",
		       "{\"ok\":false,\"error\":\"line 1\\u000a\\\"line\\\" 2\"}");
	assert_answers(fd, "{\"verb\":\"fail\"}\n",
		       "{\"ok\":false,\"error\":\"No space left on device\"}");
	ask(fd, "{\"verb\":\"latin\"}\n");
	assert_refused(fd, "caf\\\\xe9");
	ask(fd, "{\"verb\":\"ech\"}\n");
	assert_refused(fd, "does not know that verb");
	ask(fd, "{\"verb\":7}\n");
	assert_refused(fd, "has a \\\"verb\\\"");
	ask(fd, "{}\n");
	assert_refused(fd, "has a \\\"verb\\\"");
	assert_alive(fd);
}

static void test_not_an_object(void **state)
{
	static const char *const questions[] = {"[]\n", "7\n", "\"verb\"\n", "null\n",
						"[{\"verb\":\"echo\"}]\n"};
	_cleanup_close_ int fd = dial(*state);

	for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
		ask(fd, questions[i]);
		assert_refused(fd, "is a JSON object");
	}
	assert_alive(fd);
}

static void test_garbage(void **state)
{
	static const struct {
		const char *data;
		size_t len;
	} garbage[] = {
#define G(text) {text, sizeof(text) - 1}
		G("\n"),
		G("\r\n"),
		G("{\n"),
		G("}{\n"),
		G("{\"verb\":\"echo\"} {\"verb\":\"echo\"}\n"),
		G("{\"verb\":\"echo\",\"verb\":\"fail\"}\n"),
		G("{\"verb\":\"ec\\u0000ho\"}\n"),
		G("{\"verb\":\0\"echo\"}\n"),
		G("{\"verb\":\"echo\"}\0\n"),
		G("\0\n"),
		G("\xff\xfe{\"verb\":\"\xe9\"}\n"),
		G("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		G("{\"verb\":\"echo\",\"say\":1e999}\n"),
#undef G
	};
	char deep[10000];

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		_cleanup_close_ int fd = dial(*state);

		say(fd, garbage[i].data, garbage[i].len);
		assert_refused(fd, "is not JSON");
		assert_null(hear(fd));
	}
	_cleanup_close_ int fd = dial(*state);

	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\n';
	say(fd, deep, sizeof(deep));
	assert_refused(fd, "is not JSON");
	assert_null(hear(fd));
}

static void test_pieces(void **state)
{
	static const char question[] = "{\"verb\":\"echo\",\"say\":\"piece by piece\"}\n";
	static const char answer[] = "{\"ok\":true,\"result\":\"piece by piece\"}";
	_cleanup_close_ int fd = dial(*state), other = dial(*state);

	for (size_t i = 0; i < sizeof(question) - 1; i++) {
		say(fd, question + i, 1);
		assert_alive(other); /* by then the piece has been read */
	}
	assert_string_equal(hear(fd), answer);
	/* Two and a half in one packet. */
	ask(fd, "{\"verb\":\"echo\",\"say\":1}\n{\"verb\":\"echo\",\"say\":2}\n{\"verb\":");
	assert_string_equal(hear(fd), "{\"ok\":true,\"result\":1}");
	assert_string_equal(hear(fd), "{\"ok\":true,\"result\":2}");
	assert_answers(fd, "\"echo\",\"say\":3}\n", "{\"ok\":true,\"result\":3}");
}

static void test_pipelined(void **state)
{
	_cleanup_close_ int fd = dial(*state);
	_cleanup_free_ char *questions = NULL;
	size_t len;
	FILE *stream = open_memstream(&questions, &len);

	for (int i = 0; i < 100; i++)
		fprintf(stream, "{\"verb\":\"echo\",\"say\":%d}\n", i);
	fclose(stream);
	say(fd, questions, len);
	shutdown(fd, SHUT_WR); /* which does not take back what was asked */
	for (int i = 0; i < 100; i++) {
		char answer[64];

		snprintf(answer, sizeof(answer), "{\"ok\":true,\"result\":%d}", i);
		assert_string_equal(hear(fd), answer);
	}
	assert_null(hear(fd));
}

static void test_question_too_long(void **state)
{
	_cleanup_free_ char *question = malloc(SHUNT_PROTO_REQUEST_MAX + 1);
	_cleanup_close_ int fd = dial(*state);

	memset(question, ' ', SHUNT_PROTO_REQUEST_MAX + 1);
	memcpy(question, "{\"verb\":\"echo\"}", 15);
	question[SHUNT_PROTO_REQUEST_MAX - 1] = '\n';
	say(fd, question, SHUNT_PROTO_REQUEST_MAX);
	assert_string_equal(hear(fd), "{\"ok\":true,\"result\":null}");
	assert_alive(fd);

	question[SHUNT_PROTO_REQUEST_MAX - 1] = ' ';
	question[SHUNT_PROTO_REQUEST_MAX] = '\n';
	say(fd, question, SHUNT_PROTO_REQUEST_MAX + 1);
	assert_refused(fd, "too long");
	assert_null(hear(fd));
}

static void test_client_vanishes(void **state)
{
	_cleanup_close_ int other = dial(*state);

	for (int i = 0; i < 50; i++) {
		int fd = dial(*state);

		switch (i % 4) {
		case 0: /* with half a question */
			ask(fd, "{\"verb\":\"ec");
			break;
		case 1: /* with an answer on its way */
			ask(fd, "{\"verb\":\"big\",\"size\":4000000}\n{\"verb\":\"echo\"}\n");
			assert_int_equal(recv(fd, (char[10]){}, 10, 0), 10);
			break;
		case 2: /* before the answer */
			ask(fd, "{\"verb\":\"echo\"}\n{\"verb\":\"echo\"}\n");
			break;
		}
		close(fd);
		assert_alive(other);
	}
}

/* Whatever comes in whatever pieces, the next client is served. */
static void test_noise(void **state)
{
	static const char *const pieces[] = {
		"{\"verb\":\"echo\"}",
		"\n",
		"{",
		"}",
		"[",
		"\"",
		"\\u0000",
		"\xff",
		":",
		"verb",
		" ",
	};
	_cleanup_close_ int other = dial(*state);

	srandom(1);
	for (int i = 0; i < 300; i++) {
		_cleanup_close_ int fd = dial(*state);

		for (long n = random() % 40; n > 0; n--) {
			const char *piece = pieces[random() % ARRAY_SIZE(pieces)];

			/* It may be closed by now. */
			send(fd, piece, strlen(piece) + random() % 8 / 7, MSG_NOSIGNAL);
		}
		assert_alive(other);
	}
}

static void test_close_in_verb(void **state)
{
	struct server *server = *state;
	_cleanup_close_ int fd = dial(server), other = dial(server);

	assert_alive(other);
	/* The second question comes too late. */
	ask(fd, "{\"verb\":\"close\"}\n{\"verb\":\"echo\"}\n");
	assert_string_equal(hear(fd), "{\"ok\":true,\"result\":\"bye\"}");
	assert_null(hear(fd));
	assert_null(hear(other));
	assert_int_equal(dial_path(server->path), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_answers),	    TEST(test_not_an_object), TEST(test_garbage),
		TEST(test_pieces),	    TEST(test_pipelined),     TEST(test_question_too_long),
		TEST(test_client_vanishes), TEST(test_noise),	      TEST(test_close_in_verb),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
