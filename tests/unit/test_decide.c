/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision of the kernel half, compiled natively: each outcome, and the order of the questions.
 * Reads from: bpf/decide.bpf.h.
 * Writes to: nothing.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../bpf/decide.bpf.h"

/* What the three questions are answered with. */
struct asker {
	bool excluded_cidr;
	bool included_cidr;
	bool owners[SHUNT_OWNER_EXCLUDED_GID + 1];
	bool listening;
	unsigned int asked; /* questions put */
};

static __always_inline bool decide_cidr(void *asker, __u32 mesh, enum shunt_cidr_kind kind,
					const __be32 addr[4])
{
	struct asker *a = asker;

	a->asked++;
	return kind == SHUNT_CIDR_EXCLUDE ? a->excluded_cidr : a->included_cidr;
}

static __always_inline bool decide_owner(void *asker, __u32 mesh, enum shunt_owner_kind kind,
					 __u32 id)
{
	struct asker *a = asker;

	a->asked++;
	return a->owners[kind];
}

static __always_inline bool decide_listening(void *asker, const struct shunt_endpoint *endpoint,
					     __u32 protocol)
{
	struct asker *a = asker;

	a->asked++;
	return a->listening;
}

static struct shunt_mesh mesh;
static struct decide_query query;
static struct asker asker;

static struct shunt_endpoint v4(const char *addr, uint16_t port)
{
	struct shunt_endpoint endpoint = {.port = htons(port)};

	addr_set_v4(endpoint.addr, inet_addr(addr));
	return endpoint;
}

static struct shunt_endpoint v6(const char *addr, uint16_t port)
{
	struct shunt_endpoint endpoint = {.port = htons(port)};

	assert_int_equal(inet_pton(AF_INET6, addr, endpoint.addr), 1);
	return endpoint;
}

/* A mesh that redirects everything, a sidecar that listens, a plain TCP connect. */
static int setup(void **state)
{
	memset(&mesh, 0, sizeof(mesh));
	mesh.tcp[SHUNT_V4] = v4("127.0.0.1", 15001);
	mesh.tcp[SHUNT_V6] = v6("::1", 15001);
	mesh.dns[SHUNT_V4] = v4("127.0.0.1", 15053);
	mesh.flags = SHUNT_MESH_INCLUDES_ALL | SHUNT_MESH_OWNERS | SHUNT_MESH_EXCLUDES_CIDRS;
	memset(mesh.included_ports, 0xff, sizeof(mesh.included_ports));
	memset(&query, 0, sizeof(query));
	query.destination = v4("10.0.0.1", 80);
	query.protocol = IPPROTO_TCP;
	memset(&asker, 0, sizeof(asker));
	asker.listening = true;
	return 0;
}

static enum shunt_outcome ask(struct shunt_endpoint *ret_target)
{
	struct shunt_endpoint target = {};
	enum shunt_outcome outcome = decide(&asker, 7, &mesh, &query, &target);

	if (ret_target)
		*ret_target = target;
	return outcome;
}

static void assert_target(struct shunt_endpoint wanted)
{
	struct shunt_endpoint target;

	assert_int_equal(ask(&target), SHUNT_OUTCOME_redirected);
	assert_true(endpoint_equal(&target, &wanted));
}

static void test_redirects_each_family_to_its_address(void **state)
{
	assert_target(v4("127.0.0.1", 15001));
	query.destination = v6("fd00::1", 80);
	assert_target(v6("::1", 15001));
	query.destination = v6("::ffff:10.0.0.1", 80);
	assert_target(v4("127.0.0.1", 15001));
}

static void test_dns_goes_to_the_dns_address(void **state)
{
	query.destination.port = htons(53);
	assert_target(v4("127.0.0.1", 15053));
	query.protocol = IPPROTO_UDP;
	assert_target(v4("127.0.0.1", 15053));
	/* No DNS address of the family: TCP goes where TCP goes, UDP nowhere. */
	query.destination = v6("fd00::1", 53);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_no_address);
	query.protocol = IPPROTO_TCP;
	assert_target(v6("::1", 15001));
}

/* All reasons at once: the first in order decides. Then they are taken away one by one. */
static void test_the_order_of_the_decision(void **state)
{
	mesh.flags &= ~SHUNT_MESH_INCLUDES_ALL;
	mesh.excluded_ports[80 / 64] |= 1ull << 80 % 64;
	asker.owners[SHUNT_OWNER_SIDECAR_GID] = true;
	asker.owners[SHUNT_OWNER_EXCLUDED_UID] = true;
	asker.excluded_cidr = true;
	asker.listening = false;
	query.destination = v4("127.0.0.5", 80);
	query.device = 3;
	query.source_loopback = true;

	assert_int_equal(ask(NULL), SHUNT_OUTCOME_sidecar);
	asker.owners[SHUNT_OWNER_SIDECAR_GID] = false;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_loopback);
	query.destination = v4("10.0.0.1", 80);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_excluded_cidr);
	asker.excluded_cidr = false;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_excluded_port);
	mesh.excluded_ports[80 / 64] = 0;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_excluded_owner);
	asker.owners[SHUNT_OWNER_EXCLUDED_UID] = false;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_not_included);
	asker.included_cidr = true;
	mesh.included_ports[80 / 64] &= ~(1ull << 80 % 64);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_not_included);
	mesh.included_ports[80 / 64] |= 1ull << 80 % 64;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_bound_device);
	query.device = 0;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_bound_loopback);
	query.source_loopback = false;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_refused_sidecar_down);
	mesh.flags |= SHUNT_MESH_DOWN_BYPASS;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_bypassed_sidecar_down);
	asker.listening = true;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
}

static void test_the_redirect_address_itself_is_left_alone(void **state)
{
	mesh.tcp[SHUNT_V4] = v4("10.0.0.9", 15001);
	query.destination = v4("10.0.0.9", 15001);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_already);
}

/* It would not hear the sidecar, whether that listens or not. */
static void test_what_a_connected_socket_sends_is_left_alone(void **state)
{
	query.destination.port = htons(53);
	query.protocol = IPPROTO_UDP;
	query.connected = true;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_already);
	asker.listening = false;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_already);
}

static void test_loopback_and_unspecified(void **state)
{
	static const char *const left_alone[] = {"127.0.0.1", "127.255.255.255", "0.0.0.0"};
	static const char *const left_alone_v6[] = {"::1", "::", "::ffff:127.0.0.1",
						    "::ffff:0.0.0.0"};

	for (size_t i = 0; i < 3; i++) {
		query.destination = v4(left_alone[i], 80);
		assert_int_equal(ask(NULL), SHUNT_OUTCOME_loopback);
	}
	for (size_t i = 0; i < 4; i++) {
		query.destination = v6(left_alone_v6[i], 80);
		assert_int_equal(ask(NULL), SHUNT_OUTCOME_loopback);
	}
	query.destination = v6("fe80::1", 80);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_link_local);
	query.destination = v6("fec0::1", 80);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
	query.destination = v6("::2", 80);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
	query.destination = v4("128.0.0.1", 80);
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
}

static void test_rules_that_do_not_exist_are_not_asked_for(void **state)
{
	mesh.flags = SHUNT_MESH_INCLUDES_ALL;
	assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
	assert_int_equal(asker.asked, 1); /* does anybody listen */
}

static void test_ports_at_the_edges(void **state)
{
	static const uint16_t ports[] = {1, 63, 64, 65535};

	for (size_t i = 0; i < 4; i++) {
		query.destination.port = htons(ports[i]);
		mesh.excluded_ports[ports[i] / 64] = 1ull << ports[i] % 64;
		assert_int_equal(ask(NULL), SHUNT_OUTCOME_excluded_port);
		query.destination.port = htons(ports[i] ^ 2);
		assert_int_equal(ask(NULL), SHUNT_OUTCOME_redirected);
		mesh.excluded_ports[ports[i] / 64] = 0;
	}
}

static void test_what_the_cgroup_decides(void **state)
{
	struct shunt_cgroup cgroup = {.role = SHUNT_ROLE_NONE};

	assert_int_equal(decide_early(NULL), SHUNT_OUTCOME_unclassified);
	assert_int_equal(decide_early(&cgroup), SHUNT_OUTCOME_not_enrolled);
	cgroup.role = SHUNT_ROLE_SIDECAR;
	assert_int_equal(decide_early(&cgroup), SHUNT_OUTCOME_sidecar);
	cgroup.role = SHUNT_ROLE_MEMBER;
	assert_int_equal(decide_early(&cgroup), SHUNT_OUTCOME_MAX);
}

static void test_what_the_protocol_decides(void **state)
{
	assert_int_equal(decide_protocol(&query), SHUNT_OUTCOME_MAX);
	query.protocol = IPPROTO_UDP;
	assert_int_equal(decide_protocol(&query), SHUNT_OUTCOME_not_dns);
	query.destination.port = htons(53);
	assert_int_equal(decide_protocol(&query), SHUNT_OUTCOME_MAX);
	query.protocol = IPPROTO_SCTP;
	assert_int_equal(decide_protocol(&query), SHUNT_OUTCOME_other_protocol);
}

static void test_numbers_of_dns_servers_survive_the_address(void **state)
{
	__be32 addr[4];

	for (uint32_t n = 1; n < SHUNT_RESOLVERS_MAX; n++) {
		addr_set_token(addr, SHUNT_V4, n);
		assert_int_equal(addr_token(addr), n);
		assert_true(addr_loopback(addr));
		addr_set_token(addr, SHUNT_V6, n);
		assert_int_equal(addr_token(addr), n);
	}
	assert_int_equal(addr_token(v4("127.0.0.1", 1).addr), 0);
	assert_int_equal(addr_token(v4("127.83.105.1", 1).addr), 0);
	assert_int_equal(addr_token(v6("::1", 1).addr), 0);
	assert_int_equal(addr_token(v6("100::1:5368:1", 1).addr), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_redirects_each_family_to_its_address, setup),
		cmocka_unit_test_setup(test_dns_goes_to_the_dns_address, setup),
		cmocka_unit_test_setup(test_the_order_of_the_decision, setup),
		cmocka_unit_test_setup(test_the_redirect_address_itself_is_left_alone, setup),
		cmocka_unit_test_setup(test_what_a_connected_socket_sends_is_left_alone, setup),
		cmocka_unit_test_setup(test_loopback_and_unspecified, setup),
		cmocka_unit_test_setup(test_rules_that_do_not_exist_are_not_asked_for, setup),
		cmocka_unit_test_setup(test_ports_at_the_edges, setup),
		cmocka_unit_test_setup(test_what_the_cgroup_decides, setup),
		cmocka_unit_test_setup(test_what_the_protocol_decides, setup),
		cmocka_unit_test_setup(test_numbers_of_dns_servers_survive_the_address, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
