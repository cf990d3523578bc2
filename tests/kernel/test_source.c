/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bpf/source.bpf.h against the kernel: what it foretells must be what connect() then chooses.
 * Reads from: source_check.bpf.c, getsockname().
 * Writes to: network namespaces without a name and a cgroup of its own, all gone with the process.
 * Needs root; exits 77 where it cannot make a cgroup or load its programs. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "cgroup.h"
#include "source_check.skel.h"
#include "source_world.h"
#include "util/cleanup.h"

#define EXIT_SKIPPED 77
#ifndef ROUNDS
#define ROUNDS 12 /* random sets of tables, of each family … */
#endif
#define DIALS 150 /* … and destinations tried with each */

static struct source_check_bpf *skel;
static char cgroup_path[PATH_MAX];

/* What became of one connect(): what was foretold, and the truth. Empty: nothing. */
struct dialled {
	char said[INET6_ADDRSTRLEN];
	char truth[INET6_ADDRSTRLEN];
};

static int family_of(const char *text)
{
	return strchr(text, ':') ? AF_INET6 : AF_INET;
}

static struct dialled dial(int fd, const char *text)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9)};
	bool is_v4 = family_of(text) == AF_INET;
	struct sockaddr *addr = is_v4 ? (void *)&v4 : (void *)&v6;
	socklen_t size = is_v4 ? sizeof(v4) : sizeof(v6);
	void *bytes = is_v4 ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr;
	const __be32 *source = skel->bss->source;
	struct dialled dialled = {};
	int r;

	assert_int_equal(inet_pton(addr->sa_family, text, bytes), 1);
	skel->bss->verdict = 1;
	r = connect(fd, addr, size);
	assert_int_not_equal(skel->bss->verdict, 1);
	if (!skel->bss->verdict && is_v4)
		assert_true(!source[0] && !source[1] && source[2] == htonl(0xffff));
	if (!skel->bss->verdict)
		inet_ntop(addr->sa_family, is_v4 ? source + 3 : source, dialled.said,
			  sizeof(dialled.said));
	if (!r || errno == EINPROGRESS) {
		assert_int_equal(getsockname(fd, addr, &size), 0);
		inet_ntop(addr->sa_family, bytes, dialled.truth, sizeof(dialled.truth));
	}
	return dialled;
}

static struct dialled dial_new(int type, const char *text)
{
	_cleanup_close_ int fd = socket(family_of(text), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_not_equal(fd, -1);
	return dial(fd, text);
}

/* The source is foretold rightly. NULL: it is not foretold. */
static void expect(const char *destination, const char *source)
{
	struct dialled udp = dial_new(SOCK_DGRAM, destination);
	struct dialled tcp = dial_new(SOCK_STREAM, destination);

	assert_string_equal(udp.said, source ? source : "");
	assert_string_equal(tcp.said, source ? source : "");
	if (source)
		assert_string_equal(udp.truth, source);
	if (source && tcp.truth[0])
		assert_string_equal(tcp.truth, source);
}

static void test_pod(void **state)
{
	(void)state;
	world_add_device("e0");
	world_run("ip addr add 10.244.1.5/24 dev e0");
	world_run("ip addr add fd00:244:1::5/64 dev e0 nodad");
	world_run("ip route add default via 10.244.1.1");
	world_run("ip -6 route add default via fd00:244:1::1");
	expect("10.96.0.1", "10.244.1.5");
	expect("10.244.1.77", "10.244.1.5");
	expect("8.8.8.8", "10.244.1.5");
	expect("10.244.1.5", "10.244.1.5");
	expect("127.0.0.9", "127.0.0.1");
	expect("10.244.1.255", NULL);
	expect("fd00:96::1", "fd00:244:1::5");
	expect("fd00:244:1::77", "fd00:244:1::5");
	expect("2001:db8::1", "fd00:244:1::5");
	expect("64:ff9b::808:808", "fd00:244:1::5");
	expect("fd00:244:1::5", "fd00:244:1::5");
	expect("fe80::1", NULL);
	expect("ff02::1", NULL);
	expect("::ffff:10.96.0.1", "::ffff:10.244.1.5");
}

static void test_no_route(void **state)
{
	(void)state;
	world_add_device("e0");
	world_run("ip addr add 10.0.0.1/24 dev e0");
	world_run("ip addr add fd00::1/64 dev e0 nodad");
	world_run("ip route add blackhole 10.1.0.0/16");
	world_run("ip route add unreachable 10.2.0.0/16");
	world_run("ip -6 route add blackhole fd00:1::/64");
	world_run("ip -6 route add unreachable fd00:2::/64");
	expect("10.1.0.1", NULL);
	expect("10.2.0.1", NULL);
	expect("10.3.0.1", NULL);
	expect("fd00:1::1", NULL);
	expect("fd00:2::1", NULL);
	expect("fd00:3::1", NULL);
}

static void test_gateway_and_preferred(void **state)
{
	(void)state;
	world_add_device("e0");
	world_add_device("e1");
	world_run("ip addr add 10.0.0.1/24 dev e0 && ip addr add 10.0.1.1/24 dev e0");
	world_run("ip addr add 10.0.1.2/24 dev e0");
	world_run("ip addr add 10.9.0.1/32 dev e1");
	world_run("ip addr add fd00::1/64 dev e0 nodad && ip addr add fd00:9::1/64 dev e1 nodad");
	world_run("ip route add 172.16.0.0/16 via 10.0.1.254");
	world_run("ip route add 172.17.0.0/16 via 10.0.0.254");
	world_run("ip route add 172.18.0.0/16 via 10.0.0.254 src 10.9.0.1");
	world_run("ip route add 172.19.0.1/32 via 192.0.2.1 dev e1 onlink");
	world_run("ip -6 route add fd00:18::/64 dev e0 src fd00:9::1");
	/* The kernel has to choose anew after that, so the foretelling has to as well. */
	world_run("ip addr add 10.8.0.1/32 dev e1");
	expect("172.16.0.1", "10.0.1.1");
	expect("172.17.0.1", "10.0.0.1");
	expect("172.18.0.1", "10.9.0.1");
	expect("172.19.0.1", "10.9.0.1");
	expect("10.0.1.2", "10.0.1.1");
	expect("fd00:18::1", "fd00:9::1");
	expect("fd00:9::2", "fd00:9::1");
}

static void test_selection(void **state)
{
	(void)state;
	world_add_device("e0");
	world_run("ip addr add 2001:db8:1::1/64 dev e0 nodad");
	world_run("ip addr add 2001:db8:2::1/64 dev e0 nodad");
	world_run("ip addr add fd00:1::1/64 dev e0 nodad");
	world_run("ip addr add fd00:2::1/64 dev e0 nodad preferred_lft 0");
	world_run("ip -6 route add default dev e0");
	expect("2001:db8:1::9", "2001:db8:1::1");
	expect("2001:db8:2::9", "2001:db8:2::1");
	expect("fd00:2::9", "fd00:1::1");
	world_run("ip addrlabel add prefix 2001:db8:9::/48 label 77");
	world_run("ip addrlabel add prefix 2001:db8:1::/48 label 77");
	expect("2001:db8:9::9", "2001:db8:1::1");
	world_run("ip addr add fd00:3::1/64 dev e0 nodad home");
	expect("2001:db8:9::9", NULL);
}

static void test_temporary(void **state)
{
	struct dialled dialled;
	int tries = 0;

	(void)state;
	world_add_device("e0");
	world_set_sysctl("ipv6/conf/e0/use_tempaddr", "2");
	world_run("ip addr add 2001:db8:1::1/64 dev e0 nodad mngtmpaddr valid_lft 9000 "
		  "preferred_lft 8000");
	/* The kernel makes one at some time, and prefers it from then on. */
	do {
		poll(NULL, 0, 1);
		dialled = dial_new(SOCK_DGRAM, "2001:db8:1::9");
		assert_string_equal(dialled.said, dialled.truth);
	} while (!strcmp(dialled.truth, "2001:db8:1::1") && ++tries < 5000);
	assert_int_not_equal(tries, 5000);
	world_set_sysctl("ipv6/conf/e0/use_tempaddr", "1");
	expect("2001:db8:1::9", "2001:db8:1::1");
}

static void test_link_down(void **state)
{
	(void)state;
	world_add_device("e0");
	world_add_device("e1");
	world_run("ip addr add 10.0.0.1/24 dev e0 && ip addr add 10.0.1.1/24 dev e1");
	world_run("ip addr add fd00::1/64 dev e0 nodad && ip addr add fd00:1::1/64 dev e1 nodad");
	world_run("ip route add default via 10.0.0.2 metric 10");
	world_run("ip route add default via 10.0.1.2 metric 20");
	world_run("ip -6 route add fd00:2::/64 via fd00::2 metric 10");
	world_run("ip -6 route add fd00:2::/64 via fd00:1::2 metric 20");
	world_run("ip -6 route add fd00:3::/64 nexthop via fd00::2 nexthop via fd00:1::2");
	expect("8.8.8.8", "10.0.0.1");
	/* The kernel may take either: it depends on whether the gateways answer. */
	expect("fd00:2::1", NULL);
	expect("fd00:3::1", NULL);
	world_run("ip link set e0 down");
	expect("8.8.8.8", "10.0.1.1");
	expect("fd00:2::1", "fd00:1::1");
	expect("fd00:3::1", NULL);
}

/* What is not followed to its end is said to be unknown. */
static void test_beyond(void **state)
{
	(void)state;
	world_add_device("e0");
	world_add_device("e1");
	world_run("ip addr add 10.0.0.1/24 dev e0 && ip addr add 10.0.1.1/24 dev e1");
	world_run("ip addr add fd00::1/64 dev e0 nodad && ip addr add fd00:1::1/64 dev e1 nodad");
	world_run("ip route add 10.2.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.1.2");
	world_run("ip -6 route add fd00:2::/64 nexthop via fd00::2 nexthop via fd00:1::2");
	world_run("ip nexthop add id 7 via 10.0.0.2 dev e0 && ip route add 10.3.0.0/16 nhid 7");
	world_run("ip -6 nexthop add id 8 dev e0 && ip -6 route add fd00:3::/64 nhid 8");
	world_run("ip route append default via 10.0.0.2 && ip route append default via 10.0.1.2");
	expect("10.2.0.1", NULL);
	expect("fd00:2::1", NULL);
	expect("10.3.0.1", NULL);
	expect("fd00:3::1", NULL);
	expect("8.8.8.8", NULL);
	expect("10.0.0.9", "10.0.0.1");
	expect("fd00::9", "fd00::1");
	world_run("ip rule add from 10.0.0.1 lookup 7 && ip -6 rule add from fd00::1 lookup 7");
	expect("10.0.0.9", NULL);
	expect("fd00::9", NULL);
}

/* Sockets that are told where to go. */
static void test_options(void **state)
{
	static const struct {
		const char *destination;
		int level, option, value;
	} cases[] = {
		{"10.1.0.1", SOL_SOCKET, SO_DONTROUTE, 1},
		{"10.1.0.1", IPPROTO_IP, IP_UNICAST_IF, 0x01000000},
		{"fd00:1::1", IPPROTO_IPV6, IPV6_UNICAST_IF, 0x01000000},
		{"fd00:1::1", IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 2},
		{"10.1.0.1", SOL_SOCKET, SO_BINDTOIFINDEX, 1},
		{"fd00:1::1", SOL_SOCKET, SO_BINDTOIFINDEX, 1},
	};
	static const char route_header[] = {0x44, 4, 5, 0}; /* time stamp: any option will do */
	struct dialled dialled;
	int fd;

	(void)state;
	world_add_device("e0");
	world_run("ip addr add 10.0.0.1/24 dev e0 && ip addr add fd00::1/64 dev e0 nodad");
	world_run("ip route add default via 10.0.0.2 && ip -6 route add default via fd00::2");
	expect("10.1.0.1", "10.0.0.1");
	expect("fd00:1::1", "fd00::1");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		fd = socket(family_of(cases[i].destination), SOCK_DGRAM | SOCK_CLOEXEC, 0);
		assert_int_equal(setsockopt(fd, cases[i].level, cases[i].option, &cases[i].value,
					    sizeof(int)),
				 0);
		dialled = dial(fd, cases[i].destination);
		close(fd);
		assert_string_equal(dialled.said, "");
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route_header, 4), 0);
	dialled = dial(fd, "10.1.0.1");
	close(fd);
	assert_string_equal(dialled.said, "");
}

static struct dialled dial_random(int family, const char *text)
{
	_cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int tos = random_below(8) ? 0 : 0x10;

	assert_int_not_equal(fd, -1);
	setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	return dial(fd, text);
}

static bool is_wrong(const struct dialled *dialled)
{
	return dialled->said[0] && strcmp(dialled->said, dialled->truth);
}

/* Tables and destinations at random. A wrong answer fails; too few answers fail too. */
static void compare_at_random(int family)
{
	unsigned int reachable = 0, foretold = 0;
	char text[INET6_ADDRSTRLEN];
	struct dialled dialled;

	for (int round = 0; round < ROUNDS; round++) {
		assert_int_equal(world_new(NULL), 0);
		random_tables(family);
		for (int i = 0; i < DIALS; i++) {
			random_address(family, text);
			dialled = dial_random(family, text);
			/* An address that was just added is routed to only a moment later. */
			for (int tries = 0; is_wrong(&dialled) && tries < 500; tries++) {
				if (strcmp(dialled.truth, text))
					break;
				poll(NULL, 0, 10);
				dialled = dial_random(family, text);
			}
			if (is_wrong(&dialled))
				fail_msg("round %d, to %s: foretold %s, is %s", round, text,
					 dialled.said, dialled.truth);
			reachable += dialled.truth[0] != 0;
			foretold += dialled.said[0] != 0;
		}
	}
	print_message("%d dialled, %u reachable, %u foretold\n", ROUNDS * DIALS, reachable,
		      foretold);
	assert_true(reachable > ROUNDS * DIALS / 4);
	assert_true(foretold > reachable / 4);
}

static void test_random_v4(void **state)
{
	(void)state;
	compare_at_random(AF_INET);
}

static void test_random_v6(void **state)
{
	(void)state;
	compare_at_random(AF_INET6);
}

/* Waits for the end of every process that has the pipe, so it cleans up even after SIGKILL. */
static bool start_guard(void)
{
	int ends[2];
	pid_t pid;
	char c;

	if (pipe2(ends, O_CLOEXEC))
		return false;
	pid = fork();
	if (pid == 0) {
		setsid();
		close(ends[1]);
		while (read(ends[0], &c, 1) < 0)
			;
		while (rmdir(cgroup_path) && errno == EBUSY)
			poll(NULL, 0, 10);
		_exit(0);
	}
	close(ends[0]);
	return pid > 0;
}

/* Makes a cgroup, enters it and attaches the programs. */
static bool enter_cgroup(void)
{
	_cleanup_close_ int cgroup = -1, procs = -1;
	_cleanup_free_ char *mount = NULL;

	if (cgroup_find_mount(&mount))
		return false;
	snprintf(cgroup_path, sizeof(cgroup_path), "%s/shunt-test-source-%d", mount, getpid());
	if (mkdir(cgroup_path, 0755) || !start_guard())
		return false;
	cgroup = open(cgroup_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	procs = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (procs < 0 || write(procs, "0", 1) != 1)
		return false;
	skel = source_check_bpf__open_and_load();
	if (!skel)
		return false;
	skel->links.source_check4 = bpf_program__attach_cgroup(skel->progs.source_check4, cgroup);
	skel->links.source_check6 = bpf_program__attach_cgroup(skel->progs.source_check6, cgroup);
	return skel->links.source_check4 && skel->links.source_check6;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_pod, world_new),
		cmocka_unit_test_setup(test_no_route, world_new),
		cmocka_unit_test_setup(test_gateway_and_preferred, world_new),
		cmocka_unit_test_setup(test_selection, world_new),
		cmocka_unit_test_setup(test_temporary, world_new),
		cmocka_unit_test_setup(test_link_down, world_new),
		cmocka_unit_test_setup(test_beyond, world_new),
		cmocka_unit_test_setup(test_options, world_new),
		cmocka_unit_test(test_random_v4),
		cmocka_unit_test(test_random_v6),
	};
	int r;

	if (!enter_cgroup()) {
		fprintf(stderr, "cannot make a cgroup, or load the programs: %s\n",
			strerror(errno));
		return EXIT_SKIPPED;
	}
	r = cmocka_run_group_tests_name("source", tests, NULL, NULL);
	source_check_bpf__destroy(skel);
	return r;
}
