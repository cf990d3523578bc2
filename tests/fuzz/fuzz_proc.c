/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is read of a process below /proc, and the tables of who listens.
 * Reads from: an input, as each of those files.
 * Writes to: nothing.
 */
#include <errno.h>
#include <netinet/in.h>

#include "explain.h"
#include "fuzz.h"
#include "process.h"
#include "util/addr.h"
#include "util/cleanup.h"

static const uint8_t *input;
static size_t input_size;

/* fopen() as the agent calls it, and replay.c. */
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__real_fopen64(const char *path, const char *mode);

FILE *__wrap_fopen64(const char *path, const char *mode)
{
	if (!strncmp(path, "/proc/1/", strlen("/proc/1/")) || !strcmp(path, "/root/a/cgroup.procs"))
		return fuzz_stream(input, input_size);
	return __real_fopen64(path, mode);
}

static void check_process(void)
{
	struct process process;
	char comm[16];
	int r = process_read(1, &process);

	fuzz_check(r == 0 || r == -ENODATA);
	if (!r) {
		fuzz_check(*process.cgroup == '/');
		free(process.cgroup);
	}
	if (!process_comm(1, comm, sizeof(comm)))
		fuzz_check(strlen(comm) < sizeof(comm));
	process_first_in_cgroup("/root", "/a");
}

static struct policy *policy_make(struct config **ret_config)
{
	static const char text[] = "[mesh m]\ncgroups = /a\nsidecar_uids = 7\n"
				   "tcp_redirect = 127.0.0.1:15001, [::1]:15001\n";
	struct config_problems problems = {};
	struct policy *policy;
	_cleanup_fclose_ FILE *stream = fuzz_stream((const uint8_t *)text, strlen(text));

	fuzz_check(!config_parse(stream, "fuzz.ini", &problems, ret_config));
	fuzz_check(!policy_new(*ret_config, 0, &policy));
	config_problems_deinit(&problems);
	return policy;
}

static void check_listeners(const struct policy *policy, const char *destination, uint32_t protocol)
{
	struct explain_query query = {.cgroup_root = "/root", .pid = 1, .protocol = protocol};
	struct explain_answer answer;
	struct policy_match match;

	fuzz_check(!addr_parse_endpoint(destination, &query.destination));
	policy_classify(policy, "/a", NULL, &match);
	fuzz_check(!explain_connect(policy, &match, &query, &answer));
	fuzz_check(answer.outcome == SHUNT_OUTCOME_redirected ||
		   answer.outcome == SHUNT_OUTCOME_refused_sidecar_down ||
		   (protocol == IPPROTO_UDP && answer.outcome == SHUNT_OUTCOME_no_address));
	explain_answer_deinit(&answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config *config;
	static struct policy *policy;

	if (!policy)
		policy = policy_make(&config);
	input = data;
	input_size = size;
	check_process();
	check_listeners(policy, "10.0.0.1:80", IPPROTO_TCP);
	check_listeners(policy, "[fd00::1]:80", IPPROTO_TCP);
	check_listeners(policy, "10.0.0.1:53", IPPROTO_UDP);
	return 0;
}
