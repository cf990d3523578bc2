/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket file of the control, and who may talk through it.
 * Reads from: the control socket.
 * Writes to: the control socket, and the directory it is in.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "control_server.h"
#include "util/cleanup.h"

static void test_socket_file(void **state)
{
	struct server *server = *state;
	struct control *second;
	struct stat st;
	uv_loop_t loop;

	assert_int_equal(stat(server->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(st.st_gid, geteuid() == 0 ? TEST_GROUP : getegid());

	uv_loop_init(&loop);
	assert_int_equal(control_new(&loop, server->path, server_verbs, NULL, &second),
			 -EADDRINUSE);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Makes a control at @path and closes it. */
static int try_path(const char *path)
{
	struct control *control;
	uv_loop_t loop;
	int r;

	uv_loop_init(&loop);
	r = control_new(&loop, path, server_verbs, NULL, &control);
	if (r == 0) {
		assert_int_equal(access(path, F_OK), 0);
		control_close(control);
		assert_int_equal(access(path, F_OK), -1);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	return r;
}

static void test_paths(void **state)
{
	struct server *server = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[256];
	int len = snprintf(path, sizeof(path), "%s/run/", server->dir), fd;

	/* The longest that a client can dial, and one more. */
	memset(path + len, 'x', sizeof(path) - len);
	path[sizeof(address.sun_path)] = '\0';
	assert_int_equal(try_path(path), -ENAMETOOLONG);
	path[sizeof(address.sun_path) - 1] = '\0';
	assert_int_equal(try_path(path), 0);

	/* What an agent that was killed leaves behind. */
	strcpy(path + len, "stale");
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(try_path(path), 0);

	/* What is not ours. */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(try_path(path), -EEXIST);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink(server->path, path), 0);
	assert_int_equal(try_path(path), -EEXIST);
	assert_int_equal(unlink(path), 0);

	strcpy(path + len, "no/such/socket");
	assert_int_equal(try_path(path), -ENOENT);
}

/* The file cannot be given to the group: nothing of it stays. */
static void test_failure_leaves_nothing(void **state)
{
	struct server *server = *state;
	char path[256];
	int r;

	snprintf(path, sizeof(path), "%s/nobody", server->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	if (geteuid() == 0) {
		assert_int_equal(chmod(server->dir, 0755), 0);
		assert_int_equal(chown(path, NOBODY, NOBODY), 0);
		assert_int_equal(seteuid(NOBODY), 0);
	}
	strcat(path, "/control.sock");
	group_is_foreign = true;
	r = try_path(path);
	group_is_foreign = false;
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(r, -EPERM);
	*strrchr(path, '/') = '\0';
	assert_int_equal(rmdir(path), 0);
}

static void test_socket_of_a_successor(void **state)
{
	struct server *server = *state;
	struct control *successor;
	uv_loop_t loop;

	assert_int_equal(unlink(server->path), 0);
	uv_loop_init(&loop);
	assert_int_equal(control_new(&loop, server->path, server_verbs, NULL, &successor), 0);
	server_call(server, job_close);
	assert_int_equal(access(server->path, F_OK), 0);
	control_close(successor);
	assert_int_equal(access(server->path, F_OK), -1);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
}

/* Is a process of that user and those groups answered? */
static bool is_admitted(const struct server *server, uid_t uid, gid_t gid, size_t n, gid_t *groups)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		char answer[256] = "";
		int fd;

		if (setgroups(n, groups) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
			_exit(3);
		fd = dial_path(server->path);
		if (fd < 0)
			_exit(4);
		send(fd, "{\"verb\":\"echo\"}\n", 16, MSG_NOSIGNAL);
		if (recv(fd, answer, sizeof(answer) - 1, 0) <= 0)
			_exit(5);
		if (strcmp(answer, "{\"ok\":true,\"result\":null}\n") == 0)
			_exit(0);
		_exit(strstr(answer, "\"ok\":false") && strstr(answer, "permission denied") &&
				      strchr(answer, '\n') && recv(fd, answer, 1, 0) <= 0
			      ? 1
			      : 6);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_in_range(WEXITSTATUS(status), 0, 1);
	return WEXITSTATUS(status) == 0;
}

static void test_peers(void **state)
{
	struct server *server = *state;
	gid_t many[1000];

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = 100000 + i;
	/* The mode of the file keeps strangers out already: here it lets them in. */
	assert_int_equal(chmod(server->dir, 0755), 0);
	assert_int_equal(chmod(server->path, 0666), 0);
	assert_true(is_admitted(server, 0, 0, 0, NULL));
	assert_true(is_admitted(server, NOBODY, TEST_GROUP, 0, NULL));
	assert_false(is_admitted(server, NOBODY, NOBODY, 0, NULL));
	assert_false(is_admitted(server, NOBODY, 0, ARRAY_SIZE(many), many));
	many[777] = TEST_GROUP;
	assert_true(is_admitted(server, NOBODY, NOBODY, ARRAY_SIZE(many), many));
	/* And with the mode as it is. */
	assert_int_equal(chmod(server->path, 0660), 0);
	assert_true(is_admitted(server, NOBODY, TEST_GROUP, 0, NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_socket_file),
		TEST(test_paths),
		TEST(test_failure_leaves_nothing),
		TEST(test_socket_of_a_successor),
	};
	const struct CMUnitTest root_tests[] = {TEST(test_peers)};
	int failed = cmocka_run_group_tests_name("control_socket", tests, NULL, NULL);

	if (geteuid() == 0)
		failed += cmocka_run_group_tests_name("control_socket, as root", root_tests, NULL,
						      NULL);
	else
		print_message("not root: clients of other users are not tried\n");
	return failed;
}
