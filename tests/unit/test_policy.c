/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a configuration means: rules, places to attach to, what a cgroup is enrolled as.
 * Reads from: agent/policy.c, through configuration texts.
 * Writes to: nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"
#include "util/addr.h"
#include "util/cleanup.h"

#define MESH_REST "tcp_redirect = 127.0.0.1:15001\n"

static struct config *parse(const char *text)
{
	struct config_problems problems = {};
	struct config *config = NULL;
	FILE *stream = fmemopen((void *)text, strlen(text), "r");
	int r;

	assert_non_null(stream);
	r = config_parse(stream, "t.ini", &problems, &config);
	for (size_t i = 0; r && i < problems.n; i++)
		print_error("%s\n", problems.items[i].text);
	assert_int_equal(r, 0);
	config_problems_deinit(&problems);
	fclose(stream);
	return config;
}

static struct policy *new_policy(const struct config *config)
{
	struct policy *policy;

	assert_int_equal(policy_new(config, 64, &policy), 0);
	return policy;
}

/* Classifies @path as the agent does: from the top of the watched subtree down. */
static struct policy_match classify(const struct policy *policy, const char *path)
{
	struct policy_match match = {}, parent;
	bool top = true;
	char part[256];

	for (const char *p = path + 1; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
		size_t len = strcspn(p, "/") + (p - path);

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		parent = match;
		policy_classify(policy, part, top ? NULL : &parent, &match);
		top = false;
	}
	return match;
}

static void test_cgroups_are_classified(void **state)
{
	static const struct {
		const char *path;
		enum shunt_role role;
		unsigned int slot;
		unsigned int line; /* of the rule; 0: none */
	} cases[] = {
		{"/k", SHUNT_ROLE_NONE, 0, 0},
		{"/k/pod", SHUNT_ROLE_NONE, 0, 0},
		{"/k/pod/app-1", SHUNT_ROLE_MEMBER, 64, 2},
		{"/k/pod/app-1/child/deep", SHUNT_ROLE_MEMBER, 64, 2},
		{"/k/pod/app-debug", SHUNT_ROLE_NONE, 0, 0},	   /* never was a member */
		{"/k/pod/app-1/app-debug", SHUNT_ROLE_NONE, 0, 3}, /* taken out of one */
		{"/k/pod/proxy", SHUNT_ROLE_SIDECAR, 64, 4},
		{"/k/pod/proxy/worker", SHUNT_ROLE_SIDECAR, 64, 4},
		{"/k/pod/app-1/proxy", SHUNT_ROLE_SIDECAR, 64, 4},
		{"/k/pod/b-app", SHUNT_ROLE_MEMBER, 65, 7},
		{"/k/pod/app-1/b-app", SHUNT_ROLE_MEMBER, 65, 7},
		{"/k/pod/b-app/app-2", SHUNT_ROLE_MEMBER, 64, 2},
	};
	struct config *config = parse("[mesh a]\n"
				      "cgroups = /k/**/app-*,\n"
				      "  !/k/**/app-debug\n"
				      "sidecar_cgroups = /k/**/proxy\n" MESH_REST "[mesh b]\n"
				      "cgroups = /k/**/b-app\n"
				      "sidecar_uids = 7\n" MESH_REST);
	struct policy *policy = new_policy(config);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy_match match = classify(policy, cases[i].path);

		if (match.entry.role != cases[i].role || match.entry.mesh != cases[i].slot ||
		    (match.rule ? match.rule->line : 0) != cases[i].line)
			fail_msg("%s: role %u, slot %u, line %u", cases[i].path, match.entry.role,
				 match.entry.mesh, match.rule ? match.rule->line : 0);
		assert_null(match.rival);
	}
	policy_free(policy);
	config_free(config);
}

static void test_the_first_of_two_claims_wins(void **state)
{
	struct config *config = parse("[mesh a]\ncgroups = /k/x*\nsidecar_uids = 7\n" MESH_REST
				      "[mesh b]\ncgroups = /k/xy\nsidecar_uids = 7\n" MESH_REST);
	struct policy *policy = new_policy(config);
	struct policy_match match = classify(policy, "/k/xy");

	assert_string_equal(match.mesh->name, "a");
	assert_string_equal(match.rival->name, "b");
	/* What inherits does not claim again. */
	assert_null(classify(policy, "/k/xy/child").rival);
	assert_null(classify(policy, "/k/xz").rival);
	policy_free(policy);
	config_free(config);
}

static unsigned int hooks_at(const struct policy *policy, const char *path)
{
	for (size_t i = 0; i < policy->attach.n; i++)
		if (!strcmp(policy->attach.items[i].path, path))
			return policy->attach.items[i].hooks;
	return 0;
}

static void test_programs_are_attached_as_deep_as_possible_and_once(void **state)
{
	const unsigned int member = POLICY_HOOKS_MEMBER | POLICY_HOOKS_BOTH;
	const unsigned int sidecar = POLICY_HOOKS_BOTH | POLICY_HOOKS_SIDECAR;
	struct config *config = parse("[mesh a]\n"
				      "cgroups = /k/apps/*, /k/apps/deep/x, /k/one, !/zz/*\n"
				      "sidecar_cgroups = /k/proxies/*, /k/apps/p*\n" MESH_REST
				      "[mesh b]\ncgroups = /own\nsidecar_gids = 7\n" MESH_REST);
	struct policy *policy = new_policy(config);

	assert_int_equal(hooks_at(policy, "/k/apps"), member | sidecar);
	assert_int_equal(hooks_at(policy, "/k/apps/deep/x"), 0);
	assert_int_equal(hooks_at(policy, "/k/one"), member);
	assert_int_equal(hooks_at(policy, "/k/proxies"), sidecar);
	/* Its sidecar is known by gid alone and may be in the same cgroup. */
	assert_int_equal(hooks_at(policy, "/own"), member | sidecar);
	assert_int_equal(policy->attach.n, 4);
	assert_int_equal(policy->n_watch, 4);
	policy_free(policy);
	config_free(config);
}

static void test_hooks_below_another_attachment_are_only_those_it_lacks(void **state)
{
	struct config *config = parse("[mesh a]\ncgroups = /k/*\n"
				      "sidecar_cgroups = /k/pods/proxy\n" MESH_REST);
	struct policy *policy = new_policy(config);

	assert_int_equal(hooks_at(policy, "/k"), POLICY_HOOKS_MEMBER | POLICY_HOOKS_BOTH);
	assert_int_equal(hooks_at(policy, "/k/pods/proxy"), POLICY_HOOKS_SIDECAR);
	assert_int_equal(policy->n_watch, 1);
	assert_string_equal(policy->watch[0], "/k");
	policy_free(policy);
	config_free(config);
}

/* What the kernel's LPM trie would answer. */
static bool trie_holds(const struct policy *policy, unsigned int slot, enum shunt_cidr_kind kind,
		       const __be32 addr[4])
{
	for (size_t i = 0; i < policy->cidrs.n; i++) {
		const struct shunt_cidr_key *key = table_key(&policy->cidrs, i);
		unsigned int bit = 0;

		if (key->scope != htonl(SHUNT_CIDR_SCOPE(slot, kind)))
			continue;
		while (bit < key->prefix_len - 32 &&
		       !((ntohl(key->addr[bit / 32]) ^ ntohl(addr[bit / 32])) >> (31 - bit % 32) &
			 1))
			bit++;
		if (bit == key->prefix_len - 32)
			return true;
	}
	return false;
}

static bool excluded(const struct policy *policy, const char *text)
{
	__be32 addr[4];

	assert_int_equal(addr_parse(text, addr), 0);
	return trie_holds(policy, 64, SHUNT_CIDR_EXCLUDE, addr);
}

static void test_an_ipv6_prefix_holds_no_ipv4_address(void **state)
{
	struct config *config = parse("[mesh a]\ncgroups = /k\nsidecar_uids = 7\n"
				      "exclude_cidrs = ::/0, 10.0.0.0/8\n" MESH_REST);
	struct policy *policy = new_policy(config);

	assert_true(excluded(policy, "10.1.2.3"));
	assert_false(excluded(policy, "11.1.2.3"));
	assert_true(excluded(policy, "fd00::1"));
	assert_true(excluded(policy, "::1"));
	assert_true(excluded(policy, "::fffe:b01:203"));
	assert_true(excluded(policy, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
	policy_free(policy);
	config_free(config);
}

static void test_a_mesh_says_which_questions_are_needed(void **state)
{
	struct config *config = parse(
		"[mesh plain]\ncgroups = /k\nsidecar_cgroups = /p\n" MESH_REST "splice = node\n"
		"[mesh rules]\ncgroups = /l\nsidecar_uids = 7\nexclude_cidrs = 10.0.0.0/8\n"
		"include_cidrs = 10.0.0.0/8\non_sidecar_down = bypass\n" MESH_REST);
	struct policy *policy = new_policy(config);
	__u32 slot = 64;
	const struct shunt_mesh *mesh = table_find(&policy->meshes, &slot);

	assert_int_equal(mesh->flags, SHUNT_MESH_INCLUDES_ALL);
	assert_int_equal(mesh->splice, SHUNT_SCOPE_NODE);
	slot = 65;
	mesh = table_find(&policy->meshes, &slot);
	assert_int_equal(mesh->flags,
			 SHUNT_MESH_DOWN_BYPASS | SHUNT_MESH_EXCLUDES_CIDRS | SHUNT_MESH_OWNERS);
	assert_int_equal(mesh->splice, SHUNT_SCOPE_SIDECAR);
	assert_int_equal(policy->cidrs.n, 2);
	assert_int_equal(policy->owners.n, 1);
	policy_free(policy);
	config_free(config);
}

static void test_too_many_rules_are_refused(void **state)
{
	struct config *config =
		parse("[limits]\nrules = 2\n[mesh a]\ncgroups = /k\n"
		      "sidecar_uids = 7\nexclude_cidrs = 10.0.0.0/8, 11.0.0.0/8\n" MESH_REST);
	struct policy *policy = NULL;

	assert_int_equal(policy_new(config, 0, &policy), -E2BIG);
	assert_null(policy);
	config_free(config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cgroups_are_classified),
		cmocka_unit_test(test_the_first_of_two_claims_wins),
		cmocka_unit_test(test_programs_are_attached_as_deep_as_possible_and_once),
		cmocka_unit_test(test_hooks_below_another_attachment_are_only_those_it_lacks),
		cmocka_unit_test(test_an_ipv6_prefix_holds_no_ipv4_address),
		cmocka_unit_test(test_a_mesh_says_which_questions_are_needed),
		cmocka_unit_test(test_too_many_rules_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
