/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A configuration as rules of nftables, as text.
 * Reads from: agent/nft_rules.c, through configuration texts.
 * Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nft_rules.h"
#include "util/cleanup.h"

#define OWNER "/sys/fs/bpf/shunt"

struct world {
	struct config *config;
	struct policy *policy;
};

static struct world world_new(const char *text)
{
	struct config_problems problems = {};
	FILE *stream = fmemopen((void *)text, strlen(text), "r");
	struct world world = {};
	int r;

	assert_non_null(stream);
	r = config_parse(stream, "t.ini", &problems, &world.config);
	for (size_t i = 0; r && i < problems.n; i++)
		print_error("%s\n", problems.items[i].text);
	assert_int_equal(r, 0);
	config_problems_deinit(&problems);
	fclose(stream);
	assert_int_equal(policy_new(world.config, 0, &world.policy), 0);
	return world;
}

static void world_free(struct world *world)
{
	policy_free(world->policy);
	config_free(world->config);
}

/* The lines of the block that begins with @head, without blanks before them. */
static char *block(const char *rules, const char *head)
{
	const char *begin = strstr(rules, head), *end;
	char *text = calloc(1, strlen(rules) + 1);

	assert_non_null(text);
	if (!begin)
		fail_msg("no '%s' in:\n%s", head, rules);
	begin += strlen(head);
	end = strstr(begin, "\n\t}\n");
	assert_non_null(end);
	for (const char *c = begin; c < end; c++)
		if (*c != '\t')
			text[strlen(text)] = *c;
	return text;
}

static void expect_mesh(const char *mesh, const char *wanted)
{
	_cleanup_free_ char *config = NULL, *rules = NULL, *found = NULL;
	struct world world;

	assert_true(asprintf(&config, "[mesh m]\ncgroups = /a\nsidecar_cgroups = /b\n%s", mesh) >
		    0);
	world = world_new(config);
	rules = nft_rules(world.policy, NULL, 0, OWNER);
	assert_non_null(rules);
	found = block(rules, "\tchain mesh0 {\n");
	assert_string_equal(found, wanted);
	world_free(&world);
}

static void test_redirects(void **state)
{
	(void)state;
	expect_mesh("tcp_redirect = 127.0.0.1:15001, [::1]:15001\n",
		    "meta nfproto ipv4 meta l4proto tcp redirect to :15001\n"
		    "meta nfproto ipv6 meta l4proto tcp redirect to :15001");
	expect_mesh("tcp_redirect = 127.0.0.1:15001\ndns_redirect = [::1]:15053\n",
		    "meta nfproto ipv4 meta l4proto tcp redirect to :15001\n"
		    "meta nfproto ipv6 meta l4proto { tcp, udp } th dport 53 redirect to :15053");
	/* DNS before TCP, which would take it. */
	expect_mesh("tcp_redirect = 127.0.0.1:15001\ndns_redirect = 127.0.0.1:15053\n",
		    "meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 redirect to :15053\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :15001");
}

static void test_other_addresses(void **state)
{
	(void)state;
	expect_mesh("tcp_redirect = 127.0.0.6:15001, [fd00::1]:15001\n",
		    "meta nfproto ipv4 meta l4proto tcp dnat ip to 127.0.0.6:15001\n"
		    "meta nfproto ipv6 meta l4proto tcp dnat ip6 to [fd00::1]:15001");
}

static void test_owners(void **state)
{
	(void)state;
	expect_mesh("tcp_redirect = 127.0.0.1:1\nsidecar_uids = 1337, 0\nsidecar_gids = 7\n"
		    "exclude_uids = 8\nexclude_gids = 9, 10\n",
		    "meta skuid { 1337, 0 } return\n"
		    "meta skgid { 7 } return\n"
		    "meta skuid { 8 } return\n"
		    "meta skgid { 9, 10 } return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
}

static void test_addresses(void **state)
{
	(void)state;
	/* Ranges inside others, and the same twice, are what nftables would refuse. */
	expect_mesh("tcp_redirect = 127.0.0.1:1\n"
		    "exclude_cidrs = 10.1.0.0/16, 10.0.0.0/8, 10.0.0.0/8, 9.9.9.9, fd00::/8, "
		    "fd01::/16\n",
		    "ip daddr { 9.9.9.9/32, 10.0.0.0/8 } return\n"
		    "ip6 daddr { fd00::/8 } return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	expect_mesh("tcp_redirect = 127.0.0.1:1\nexclude_cidrs = ::/0\n",
		    "meta nfproto ipv6 return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	/* What only one family includes leaves nothing of the other. */
	expect_mesh("tcp_redirect = 127.0.0.1:1\ninclude_cidrs = 10.0.0.0/8\n",
		    "ip daddr != { 10.0.0.0/8 } return\n"
		    "meta nfproto ipv6 return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	expect_mesh("tcp_redirect = 127.0.0.1:1\ninclude_cidrs = 0.0.0.0/0, fd00::/8\n",
		    "ip6 daddr != { fd00::/8 } return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
}

static void test_ports(void **state)
{
	(void)state;
	expect_mesh("tcp_redirect = 127.0.0.1:1\nexclude_ports = 9000-9100, 22, 9050-9200, 23\n",
		    "th dport { 22-23, 9000-9200 } return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	expect_mesh("tcp_redirect = 127.0.0.1:1\ninclude_ports = 80, 443\n",
		    "th dport != { 80, 443 } return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	expect_mesh("tcp_redirect = 127.0.0.1:1\nexclude_ports = *\n",
		    "return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
	expect_mesh("tcp_redirect = 127.0.0.1:1\ninclude_ports =\n",
		    "return\n"
		    "meta nfproto ipv4 meta l4proto tcp redirect to :1");
}

static void test_cgroups(void **state)
{
	static const struct nft_rules_cgroup cgroups[] = {
		{"/sys/fs/cgroup/a", 1, 0},
		{"/sys/fs/cgroup/a/out", 2, -1},
		{"/sys/fs/cgroup/b c", 1, 1},
	};
	_cleanup_free_ char *rules = NULL, *one = NULL, *two = NULL, *output = NULL;
	struct world world = world_new("[mesh m]\ncgroups = /a\nsidecar_uids = 1\n"
				       "tcp_redirect = 127.0.0.1:1\n"
				       "[mesh n]\ncgroups = /b\nsidecar_uids = 1\n"
				       "tcp_redirect = 127.0.0.1:2\n");

	(void)state;
	rules = nft_rules(world.policy, cgroups, 3, OWNER);
	assert_non_null(rules);
	one = block(rules, "\tmap level1 {\n");
	assert_string_equal(one, "typeof socket cgroupv2 level 1 : verdict\n"
				 "elements = { \"../../../sys/fs/cgroup/a\" : goto mesh0,\n"
				 "     \"../../../sys/fs/cgroup/b c\" : goto mesh1 }");
	two = block(rules, "\tmap level2 {\n");
	assert_string_equal(two, "typeof socket cgroupv2 level 2 : verdict\n"
				 "elements = { \"../../../sys/fs/cgroup/a/out\" : return }");
	/* The nearest decides. */
	output = block(rules, "\tchain output {\n");
	assert_non_null(strstr(output, "level 2 vmap @level2\nsocket cgroupv2 level 1 vmap"));
	world_free(&world);
}

static void test_owner(void **state)
{
	_cleanup_free_ char *a = nft_rules_owner("/a"), *same = nft_rules_owner("/a"),
			    *b = nft_rules_owner("/b");

	(void)state;
	assert_non_null(a);
	assert_string_equal(a, same);
	assert_string_not_equal(a, b);
}

static void test_names(void **state)
{
	(void)state;
	assert_true(nft_rules_path_fits("/a b/c$'*"));
	assert_false(nft_rules_path_fits("/a\"b"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirects), cmocka_unit_test(test_other_addresses),
		cmocka_unit_test(test_owners),	  cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_ports),	  cmocka_unit_test(test_cgroups),
		cmocka_unit_test(test_owner),	  cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
