/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The log, with a socket in the place of stderr that keeps every write(2) apart.
 * Reads from: that socket.
 * Writes to: nothing else.
 */
#include <bpf/libbpf.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "log.h"
#include "log_verifier.h"
#include "util/cleanup.h"

#define LINE_MAX_BYTES 4096

static int saved_stderr;
static int reader;

static int setup(void **state)
{
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	saved_stderr = dup(STDERR_FILENO);
	dup2(pair[1], STDERR_FILENO);
	close(pair[1]);
	reader = pair[0];
	unsetenv("JOURNAL_STREAM");
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	log_flush(true);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(reader);
	return 0;
}

/* The next write; "" if there was none. */
static const char *written(void)
{
	static char text[2 * LINE_MAX_BYTES];
	ssize_t n = recv(reader, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_line(void **state)
{
	(void)state;
	log_info("%d cgroups in %s", 3, "mesh");
	log_error("bad");
	assert_string_equal(written(), "shuntd: 3 cgroups in mesh\n");
	assert_string_equal(written(), "shuntd: bad\n");
	assert_string_equal(written(), "");
}

static void test_levels(void **state)
{
	(void)state;
	log_debug("hidden");
	log_info("shown");
	assert_string_equal(written(), "shuntd: shown\n");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("hidden");
	assert_string_equal(written(), "");
	log_error("shown");
	assert_string_equal(written(), "shuntd: shown\n");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("shown");
	assert_string_equal(written(), "shuntd: shown\n");
}

static void test_level_parse(void **state)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	enum log_level level;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(log_level_parse(names[i], &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("Debug", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static void test_clean(void **state)
{
	static const struct {
		const char *text;
		const char *line;
	} cases[] = {
		{"one\ntwo\n", "shuntd: one; two\n"},
		{"\n", "shuntd: \n"},
		{"a\r\033[2Jb\tc\177", "shuntd: a??[2Jb?c?\n"},
		{"größer …", "shuntd: größer …\n"},
		{"\xc2\x9b"
		 "2J \xe9t\xe9 \xc3",
		 "shuntd: ??2J ?t? ?\n"},
		{"\xe2\x80", "shuntd: ??\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		log_info("%s", cases[i].text);
		assert_string_equal(written(), cases[i].line);
	}
}

static void test_long(void **state)
{
	char text[3 * LINE_MAX_BYTES];
	const char *line;

	(void)state;
	/* Wherever the cut falls, it does not fall into a character. */
	for (size_t shift = 0; shift < 4; shift++) {
		size_t len = shift;

		memset(text, 'x', shift);
		while (len + 3 < sizeof(text))
			len = stpcpy(text + len, "é") - text;
		log_info("%s", text);
		line = written();
		len = strlen(line);
		assert_in_range(len, LINE_MAX_BYTES - 8, LINE_MAX_BYTES);
		assert_string_equal(line + len - 6, "é…\n");
		assert_string_equal(written(), "");
	}
	/* Up to there nothing is cut. */
	memset(text, 'x', sizeof(text));
	text[LINE_MAX_BYTES - 20] = '\0';
	log_info("%s", text);
	assert_int_equal(strlen(written()), strlen(text) + strlen("shuntd: \n"));
}

static void test_journal(void **state)
{
	struct stat st;
	char stream[64];

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("e");
	log_warning("w");
	log_info("i");
	log_debug("d\nd");
	assert_string_equal(written(), "<3>e\n");
	assert_string_equal(written(), "<4>w\n");
	assert_string_equal(written(), "<6>i\n");
	assert_string_equal(written(), "<7>d; d\n");

	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	log_info("i");
	assert_string_equal(written(), "shuntd: i\n");
	setenv("JOURNAL_STREAM", "journal", 1);
	log_info("i");
	assert_string_equal(written(), "shuntd: i\n");
}

static void test_repeated(void **state)
{
	(void)state;
	assert_int_equal(log_flush(false), -1);
	for (int i = 0; i < 10; i++)
		log_warning("cgroup %s cannot be watched", "/a");
	for (int i = 0; i < 3; i++)
		assert_string_equal(written(), "shuntd: cgroup /a cannot be watched\n");
	assert_string_equal(written(), "");
	/* Something is held back, and is told when its time has come. */
	assert_in_range(log_flush(false), 1, 30000);
	assert_string_equal(written(), "");
	assert_int_equal(log_flush(true), -1);
	assert_string_equal(written(), "shuntd: cgroup /a cannot be watched (repeated=7)\n");
	log_warning("cgroup %s cannot be watched", "/a");
	assert_string_equal(written(), "shuntd: cgroup /a cannot be watched\n");
}

static void test_repeated_between_others(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		log_errno(-ENOMEM, "cgroup %s", "/a");
		log_info("line %d", i);
	}
	for (int i = 0; i < 5; i++) {
		char line[32];

		if (i < 3)
			assert_string_equal(written(),
					    "shuntd: cgroup /a: Cannot allocate memory\n");
		snprintf(line, sizeof(line), "shuntd: line %d\n", i);
		assert_string_equal(written(), line);
	}
	log_flush(true);
	assert_string_equal(written(), "shuntd: cgroup /a: Cannot allocate memory (repeated=2)\n");
	assert_string_equal(written(), "");
}

static void test_alike(void **state)
{
	unsigned n = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		log_errno(-ENOMEM, "cgroup /%d", i);
	while (*written())
		n++;
	assert_int_equal(n, 50);
	log_flush(true);
	assert_string_equal(written(),
			    "shuntd: cgroup /999: Cannot allocate memory (lines like this=950)\n");
	/* What is no fault is a fact each. */
	for (int i = 0; i < 100; i++) {
		log_info("program /%d", i);
		assert_string_not_equal(written(), "");
	}
}

static void test_many_kinds(void **state)
{
	static char formats[200][8];

	(void)state;
	for (int i = 0; i < 200; i++) {
		snprintf(formats[i], sizeof(formats[i]), "%d", i);
		for (int j = 0; j < 5; j++)
			log_write(LOG_LEVEL_WARNING, (const char *)formats[i], 0);
		for (int j = 0; j < 3; j++) {
			const char *line = written();

			/* The count of one that had to make room may come first. */
			if (strchr(line, '='))
				line = written();
			assert_int_equal(atoi(line + strlen("shuntd: ")), i);
		}
		assert_string_equal(written(), "");
	}
}

static void test_errno(void **state)
{
	(void)state;
	errno = EPIPE;
	assert_int_equal(log_errno(-ENOENT, "open %s", "x.ini"), -ENOENT);
	assert_string_equal(written(), "shuntd: open x.ini: No such file or directory\n");
	log_info("%m");
	assert_string_equal(written(), "shuntd: Broken pipe\n");
	close(reader); /* nobody listens: a failed write is not the caller's business */
	reader = -1;
	signal(SIGPIPE, SIG_IGN);
	log_info("x");
	assert_int_equal(errno, EPIPE);
}

static void read_file(const char *path, char text[256])
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");

	assert_non_null(file);
	text[fread(text, 1, 255, file)] = '\0';
}

static void test_verifier(void **state)
{
	char dir[] = "/tmp/shunt-test-log-XXXXXX", socket[64], path[64], line[256], text[256];
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(socket, sizeof(socket), "%s/run/control.sock", dir);
	snprintf(path, sizeof(path), "%s/run/verifier.log", dir);
	assert_int_equal(log_verifier_keep_beside(socket), 0);
	log_verifier_hear("libbpf: map 'shunt_ends': created successfully, fd=4\n");
	assert_string_equal(written(), "");
	assert_int_equal(access(path, F_OK), -1);

	log_verifier_hear("libbpf: prog 'shunt_walk': -- BEGIN PROG LOAD LOG --\n"
			  "0: R1=ctx(off=0,imm=0)\n"
			  "R1 invalid mem access 'scalar'\n"
			  "processed 12 insns (limit 1000000)\n"
			  "max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1\n"
			  "-- END PROG LOAD LOG --\n");
	snprintf(line, sizeof(line),
		 "shuntd: the verifier refuses a program: program=shunt_walk "
		 "reason=\"R1 invalid mem access 'scalar'\" details=%s\n",
		 path);
	assert_string_equal(written(), line);
	assert_string_equal(written(), "");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	read_file(path, text);
	assert_non_null(strstr(text, "0: R1=ctx"));

	/* What an agent before left is not this one's. */
	assert_int_equal(log_verifier_keep_beside(socket), 0);
	assert_int_equal(access(path, F_OK), -1);
	log_verifier_hear("-- BEGIN PROG LOAD LOG --\n");
	assert_non_null(strstr(written(), "program=? reason=\"\""));
	log_verifier_forget();
	assert_int_equal(access(path, F_OK), -1);

	log_verifier_hear("prog 'x': -- BEGIN PROG LOAD LOG --\nbad\n-- END PROG LOAD LOG --\n");
	assert_non_null(strstr(written(), "reason=\"bad\" details=No such file or directory"));
	snprintf(path, sizeof(path), "%s/run", dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void say_as_libbpf(libbpf_print_fn_t print, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	print(LIBBPF_WARN, format, args);
	va_end(args);
}

static void test_libbpf(void **state)
{
	libbpf_print_fn_t print;

	(void)state;
	log_adopt_libbpf();
	assert_null(bpf_object__open("/nowhere/shunt.bpf.o"));
	assert_string_equal(written(), "");
	log_set_level(LOG_LEVEL_DEBUG);
	assert_null(bpf_object__open("/nowhere/shunt.bpf.o"));
	assert_non_null(strstr(written(), "/nowhere/shunt.bpf.o"));

	print = libbpf_set_print(NULL);
	while (*written())
		;
	say_as_libbpf(print, "libbpf: prog '%s':\n\n0: r0 = 0\n1: exit\n", "connect4");
	assert_string_equal(written(), "shuntd: libbpf: prog 'connect4':\n");
	assert_string_equal(written(), "shuntd: 0: r0 = 0\n");
	assert_string_equal(written(), "shuntd: 1: exit\n");
	assert_string_equal(written(), "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_line),	TEST(test_levels),
		TEST(test_level_parse), TEST(test_clean),
		TEST(test_long),	TEST(test_journal),
		TEST(test_errno),	TEST(test_libbpf),
		TEST(test_repeated),	TEST(test_repeated_between_others),
		TEST(test_alike),	TEST(test_many_kinds),
		TEST(test_verifier),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
