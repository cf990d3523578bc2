/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the host allows, against what the configuration may need; in a cgroup tree of plain files.
 * Reads from: /proc/self/cgroup.
 * Writes to: a directory below /tmp.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "host.h"
#include "log.h"
#include "nft.h"
#include "process.h"
#include "shunt/abi.h"
#include "util/cleanup.h"

struct fixture {
	char root[64];
	char *cgroup; /* of this process */
	int saved_stderr;
	int reader;
};

static void make_parents(const char *path)
{
	char part[512];

	for (const char *end = strchr(path + 1, '/'); end; end = strchr(end + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(end - path), path);
		mkdir(part, 0755);
	}
}

static void set_memory_max(const struct fixture *fixture, const char *cgroup, const char *max)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[512];

	snprintf(path, sizeof(path), "%s%s/memory.max", fixture->root, cgroup);
	make_parents(path);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(max, file);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct process own;
	int pair[2];

	strcpy(fixture->root, "/tmp/shunt-test-host-XXXXXX");
	assert_non_null(mkdtemp(fixture->root));
	assert_int_equal(process_read(getpid(), &own), 0);
	fixture->cgroup = own.cgroup;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	fixture->saved_stderr = dup(STDERR_FILENO);
	fixture->reader = pair[0];
	dup2(pair[1], STDERR_FILENO);
	close(pair[1]);
	unsetenv("JOURNAL_STREAM");
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	char command[128];

	log_flush(true);
	dup2(fixture->saved_stderr, STDERR_FILENO);
	close(fixture->saved_stderr);
	close(fixture->reader);
	snprintf(command, sizeof(command), "rm -r %s", fixture->root);
	assert_int_equal(system(command), 0);
	free(fixture->cgroup);
	free(fixture);
	return 0;
}

static const char *written(const struct fixture *fixture)
{
	static char text[4096];
	ssize_t n = recv(fixture->reader, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static const struct config small = {
	.limit_flows = 1,
	.limit_cgroups = 1,
	.limit_rules = 1,
};

static void test_memory(void **state)
{
	const struct fixture *fixture = *state;
	uint64_t needed = host_memory_needed(&small);
	char max[32], line[128];

	set_memory_max(fixture, fixture->cgroup, "max\n");
	host_check(&small, fixture->root);
	assert_string_equal(written(fixture), "");

	snprintf(max, sizeof(max), "%" PRIu64 "\n", needed);
	set_memory_max(fixture, fixture->cgroup, max);
	host_check(&small, fixture->root);
	assert_string_equal(written(fixture), "");

	snprintf(max, sizeof(max), "%" PRIu64 "\n", needed - 1);
	set_memory_max(fixture, fixture->cgroup, max);
	host_check(&small, fixture->root);
	snprintf(line, sizeof(line), "allowed=%" PRIu64 " needed=%" PRIu64, needed - 1, needed);
	assert_non_null(strstr(written(fixture), line));
	assert_string_equal(written(fixture), "");
}

static void test_memory_of_a_parent(void **state)
{
	const struct fixture *fixture = *state;

	set_memory_max(fixture, fixture->cgroup, "max\n");
	set_memory_max(fixture, "", "4096\n");
	host_check(&small, fixture->root);
	assert_non_null(strstr(written(fixture), "allowed=4096 "));
}

/* The maps do not take less than is reckoned with. */
static void test_memory_grows(void **state)
{
	struct config config = small;

	(void)state;
	config.limit_flows = 1001;
	assert_true(host_memory_needed(&config) >=
		    host_memory_needed(&small) + 1000 * sizeof(struct shunt_pair));
	config = small;
	config.limit_rules = 1001;
	assert_true(host_memory_needed(&config) >=
		    host_memory_needed(&small) +
			    SHUNT_MESH_SETS * 1000 * sizeof(struct shunt_cidr_key));
}

static void test_watches(void **state)
{
	const struct fixture *fixture = *state;
	struct config config = small;

	config.limit_cgroups = UINT32_MAX;
	set_memory_max(fixture, fixture->cgroup, "max\n");
	host_check(&config, fixture->root);
	assert_non_null(strstr(written(fixture), "limits.cgroups=4294967295"));
}

static void test_files(void **state)
{
	const struct fixture *fixture = *state;
	const rlim_t wanted = 512 + NFT_NAMESPACES_MAX;
	struct rlimit before, files;
	pid_t child;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	files = before;
	files.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	host_check(&small, fixture->root);
	assert_string_equal(written(fixture), "");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_int_equal(files.rlim_cur, wanted < before.rlim_max ? wanted : before.rlim_max);

	/* What is there already stays. */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	host_check(&small, fixture->root);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	assert_true(files.rlim_cur >= before.rlim_cur);

	/* For good, so in a process that ends with it. */
	child = fork();
	if (!child) {
		files.rlim_cur = files.rlim_max = 64;
		setrlimit(RLIMIT_NOFILE, &files);
		host_check(&small, fixture->root);
		_exit(0);
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_non_null(strstr(written(fixture), "nofile=64 needed=512"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory),	 TEST(test_memory_of_a_parent),
		TEST(test_memory_grows), TEST(test_watches),
		TEST(test_files),
	};

	return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
