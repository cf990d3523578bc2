/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A network for test_source.c.
 * Reads from: a random number generator with a fixed seed.
 * Writes to: network namespaces without a name, by ip(8) and sysctls. */
#include "source_world.h"

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "util/cleanup.h"

void world_run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		fail_msg("failed: %s", command);
}

void world_set_sysctl(const char *name, const char *value)
{
	_cleanup_fclose_ FILE *file = NULL;
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/net/%s", name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(value, file);
}

int world_new(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNET))
		return -1;
	world_set_sysctl("ipv6/conf/default/accept_dad", "0");
	return system("ip link set lo up");
}

void world_add_device(const char *name)
{
	world_run("ip link add %s type veth peer name p%s", name, name);
	world_run("ip link set p%s addrgenmode none up && ip link set %s up", name, name);
}

uint32_t random_below(uint32_t limit)
{
	static uint64_t seed = 0x5368756e74;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 16) % limit;
}

#define PICK(array) ((array)[random_below(ARRAY_SIZE(array))])

/* A small world, so that prefixes overlap and destinations meet routes, gateways and hosts. */
static void random_v4(char *text, int prefix)
{
	uint32_t addr =
		10u << 24 | random_below(3) << 16 | random_below(3) << 8 | random_below(256);

	if (!random_below(8))
		addr = 1u << random_below(32) | random_below(256);
	addr = prefix ? htonl(addr & ~0u << (32 - prefix)) : 0;
	inet_ntop(AF_INET, &addr, text, INET6_ADDRSTRLEN);
}

static void random_v6(char *text, int prefix)
{
	static const uint16_t heads[] = {0xfd00, 0xfd00, 0xfd01, 0x2001, 0x2001, 0x2002};
	uint16_t addr[8] = {htons(PICK(heads)), htons(random_below(2) * 0xdb8)};
	unsigned char *bytes = (void *)addr;

	addr[2 + random_below(3)] = htons(random_below(3));
	addr[7] = htons(random_below(16));
	for (int bit = prefix; bit < 128; bit++)
		bytes[bit / 8] &= ~(0x80 >> bit % 8);
	inet_ntop(AF_INET6, addr, text, INET6_ADDRSTRLEN);
}

void random_address(int family, char text[INET6_ADDRSTRLEN])
{
	if (family == AF_INET)
		random_v4(text, 32);
	else
		random_v6(text, 128);
}

static int random_prefix(int family, char *text)
{
	static const int v4[] = {0, 8, 9, 14, 16, 17, 22, 24, 24, 25, 28, 30, 31, 32, 32};
	static const int v6[] = {0, 7, 16, 32, 48, 63, 64, 64, 65, 96, 112, 124, 127, 128, 128};
	int prefix = family == AF_INET ? PICK(v4) : PICK(v6);

	if (family == AF_INET)
		random_v4(text, prefix);
	else
		random_v6(text, prefix);
	return prefix;
}

static void random_add_address(FILE *ip, int family, uint32_t device)
{
	static const char *const v4[] = {"", "", "", "", "scope link", "scope host"};
	static const char *const v6[] = {"preferred_lft 0", "preferred_lft 8000 mngtmpaddr"};
	static const int lengths[] = {24, 24, 16, 28, 30, 32};
	char addr[INET6_ADDRSTRLEN], peer[INET6_ADDRSTRLEN];
	int length = PICK(lengths);

	random_address(family, addr);
	random_address(family, peer);
	if (family == AF_INET6)
		fprintf(ip, "addr add %s/%d dev e%u valid_lft 9000 nodad %s\n", addr,
			random_below(2) ? 64 : 4 * length, device,
			random_below(5) ? "preferred_lft 8000" : PICK(v6));
	else if (random_below(6))
		fprintf(ip, "addr add %s/%d dev e%u %s\n", addr, length, device, PICK(v4));
	else
		fprintf(ip, "addr add %s peer %s/%d dev e%u\n", addr, peer, length, device);
}

/* Routes either name a source or make addresses local, or a source might not last. */
static void random_add_route(FILE *ip, int family, uint32_t devices, bool sources)
{
	static const char *const refused[] = {"blackhole", "unreachable", "prohibit", "throw"};
	static const char *const actions[] = {"add", "add", "append", "prepend", "del"};
	static const char *const v6[] = {"expires 60", "pref high", "pref low"};
	char dst[INET6_ADDRSTRLEN], other[INET6_ADDRSTRLEN];
	int length = random_prefix(family, dst);
	const char *action = PICK(actions);
	uint32_t device = random_below(devices);

	random_address(family, other);
	if (!random_below(10)) {
		fprintf(ip, "route %s %s %s/%d metric %u\n", action, PICK(refused), dst, length,
			random_below(3));
		return;
	}
	fprintf(ip, "route %s %s %s/%d dev e%u metric %u", action,
		sources || random_below(16) ? "unicast" : "local", dst, length, device,
		random_below(4) * 10);
	if (sources && !random_below(8))
		fprintf(ip, " src %s", other);
	if (!random_below(8))
		fprintf(ip, " %s", family == AF_INET ? "tos 0x10" : PICK(v6));
	if (!random_below(3)) {
		fprintf(ip, " via %s onlink\n", other);
		fprintf(ip, "neigh replace %s dev e%u nud %s", other, device,
			random_below(2) ? "failed" : "permanent lladdr 2:0:0:0:0:1");
	}
	fprintf(ip, "\n");
}

static void random_add_label(FILE *ip, uint32_t devices)
{
	char prefix[INET6_ADDRSTRLEN];
	int length = random_prefix(AF_INET6, prefix);

	fprintf(ip, "addrlabel add prefix %s/%d label %u", prefix, length, random_below(4));
	if (!random_below(3))
		fprintf(ip, " dev e%u", random_below(devices));
	fprintf(ip, "\n");
}

static void random_sysctls(void)
{
	static const char *const names[] = {
		"ipv4/conf/all/ignore_routes_with_linkdown",
		"ipv6/conf/e0/ignore_routes_with_linkdown",
		"ipv4/conf/all/route_localnet",
		"ipv6/conf/all/forwarding",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!random_below(4))
			world_set_sysctl(names[i], "1");
	if (!random_below(4))
		world_set_sysctl("ipv6/conf/e0/use_tempaddr", random_below(2) ? "1" : "2");
}

/* An IPv6 address is not routed to before its device is known to have a carrier. */
static void wait_for_carriers(uint32_t devices)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t running = 0;

	for (int tries = 0; running < devices && tries < 5000; tries++) {
		struct ifreq request = {};

		snprintf(request.ifr_name, sizeof(request.ifr_name), "e%u", running);
		assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
		if (request.ifr_flags & IFF_RUNNING)
			running++;
		else
			poll(NULL, 0, 1);
	}
	assert_int_equal(running, devices);
}

/* Many commands contradict each other and are refused; the tables are as random for it. */
void random_tables(int family)
{
	static const uint32_t sizes[] = {0, 3, 10, 40, 40, 400};
	uint32_t devices = 1 + random_below(4), routes = PICK(sizes);
	bool sources = random_below(2);
	char name[16];
	FILE *ip;

	for (uint32_t device = 0; device < devices; device++) {
		snprintf(name, sizeof(name), "e%u", device);
		world_add_device(name);
	}
	wait_for_carriers(devices);
	random_sysctls();
	ip = popen(family == AF_INET ? "ip -4 -force -batch - >/dev/null 2>&1"
				     : "ip -6 -force -batch - >/dev/null 2>&1",
		   "we");
	assert_non_null(ip);
	for (uint32_t i = family == AF_INET6 ? random_below(6) : 0; i > 0; i--)
		random_add_label(ip, devices);
	for (uint32_t i = random_below(6 * devices); i > 0; i--)
		random_add_address(ip, family, random_below(devices));
	for (uint32_t i = 0; i < routes; i++)
		random_add_route(ip, family, devices, sources);
	if (!random_below(4))
		fprintf(ip, "link set pe0 down\n");
	if (!random_below(6))
		fprintf(ip, "link set e1 down\n");
	for (uint32_t i = random_below(3); i > 0; i--)
		random_add_address(ip, family, random_below(devices));
	pclose(ip);
}
