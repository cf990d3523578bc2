/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration: what a file means, and what is said of a wrong one.
 * Reads from: agent/config.h, the tables below, conf/shunt.ini.
 * Writes to: a temporary file.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "shunt/proto.h"
#include "util/addr.h"
#include "util/cleanup.h"
#include "util/glob.h"

#define MESSAGES_MAX 16

/* The least that a mesh needs; what a case adds begins in line 5. */
#define MESH                    \
	"[mesh a]\n"            \
	"cgroups = /a/*\n"      \
	"sidecar_uids = 1337\n" \
	"tcp_redirect = 127.0.0.1:15001\n"

/* The same as a second mesh, with other cgroups, below a text of its own. */
#define MESH_B                  \
	"[mesh b]\n"            \
	"cgroups = /b/*\n"      \
	"sidecar_uids = 1337\n" \
	"tcp_redirect = 127.0.0.1:15001\n"

/* Overlaps of meshes: in that line, and with whom. */
#define MAY_CLAIM(line, mesh, glob, other, at)                                         \
	"x.ini:" line ": mesh " mesh ": '" glob "' may claim cgroups that mesh " other \
	" (line " at ") claims; the first in the file wins"

static int parse_bytes(const char *text, size_t n, struct config_problems *problems,
		       struct config **ret)
{
	_cleanup_fclose_ FILE *stream = NULL;

	stream = n ? fmemopen((void *)text, n, "r") : fopen("/dev/null", "r");
	assert_non_null(stream);
	return config_parse(stream, "x.ini", problems, ret);
}

static struct config *parse_good(const char *text)
{
	struct config_problems problems = {0};
	struct config *config = NULL;
	int r;

	r = parse_bytes(text, strlen(text), &problems, &config);
	if (problems.n)
		fail_msg("%s", problems.items[0].text);
	assert_int_equal(r, 0);
	assert_non_null(config);
	config_problems_deinit(&problems);
	return config;
}

static void check_messages(const char *text, size_t n, const char *const *messages)
{
	struct config *const untouched = (struct config *)1;
	struct config_problems problems = {0};
	struct config *config = untouched;
	size_t i, n_errors = 0;
	int r;

	r = parse_bytes(text, n, &problems, &config);
	for (i = 0; i < problems.n; i++) {
		n_errors += problems.items[i].severity == CONFIG_ERROR;
		if (!messages[i] || strcmp(problems.items[i].text, messages[i]))
			fail_msg("of:\n%s\nsaid:   %s\nwanted: %s", text, problems.items[i].text,
				 messages[i] ?: "(nothing more)");
	}
	if (messages[i])
		fail_msg("of:\n%s\nnot said: %s", text, messages[i]);
	assert_int_equal(problems.n_errors, n_errors);
	assert_int_equal(r, n_errors ? -EINVAL : 0);
	if (r < 0)
		assert_ptr_equal(config, untouched);
	else
		config_free(config);
	config_problems_deinit(&problems);
}

static void test_messages(void **state)
{
	static const struct {
		const char *text;
		const char *messages[MESSAGES_MAX];
	} cases[] = {
		/* lines */
		{"", {"x.ini:1: the file ends without a [mesh NAME]: nothing would be redirected"}},
		{"; one\n\n[agent]\n[limits]\n",
		 {"x.ini:4: the file ends without a [mesh NAME]: nothing would be redirected"}},
		{MESH "stray\n" MESH_B "= 7\n  \n\t # comment\nx ; = y",
		 {"x.ini:5: neither a [section] nor KEY = VALUE nor a comment",
		  "x.ini:10: no key in front of the '='",
		  "x.ini:13: neither a [section] nor KEY = VALUE nor a comment"}},
		{"\n  stray\n" MESH,
		 {"x.ini:2: neither a [section] nor KEY = VALUE nor a comment"}},
		{"  [agent]\n" MESH,
		 {"x.ini:1: neither a [section] nor KEY = VALUE nor a comment"}},
		{"flows = 1\n" MESH, {"x.ini:1: 'flows' stands before the first [section]"}},
		{MESH "exclude_cidrs = 10.0.0.0/8 # why\nexclude_ports = #\n",
		 {"x.ini:5: exclude_cidrs: '10.0.0.0/8 # why': a comment after a value begins with ';'",
		  "x.ini:6: exclude_ports: '#': a comment after a value begins with ';'"}},
		{MESH "exclude_uids = \x1b[1m\n",
		 {"x.ini:5: exclude_uids: '?[1m' is neither a number nor a user of this host"}},

		/* sections */
		/* A first key may be indented: there is nothing that it could continue. */
		{"[agent]\nlog_level = info\n[limits]\n  flows = 0\n" MESH,
		 {"x.ini:4: flows: 0 is out of range; write 1 to 16777216"}},
		{"[agents]\nx = 1\n y\n[agent x]\n[]\n[limits]\n" MESH,
		 {"x.ini:1: unknown section [agents]; there are [agent], [limits] and [mesh NAME]",
		  "x.ini:4: unknown section [agent x]; there are [agent], [limits] and [mesh NAME]",
		  "x.ini:5: unknown section []; there are [agent], [limits] and [mesh NAME]"}},
		{"[limits\nflows = 0\n[agent] junk\n[ agent ] ; fine\n" MESH,
		 {"x.ini:1: the section's name has no ']' after it",
		  "x.ini:2: flows: 0 is out of range; write 1 to 16777216",
		  "x.ini:3: 'junk' stands after the section's ']'",
		  "x.ini:4: section [agent] is there twice; the first is in line 3"}},
		{"[limits]\n[limits]\n" MESH,
		 {"x.ini:2: section [limits] is there twice; the first is in line 1"}},
		{MESH MESH_B MESH,
		 {"x.ini:9: mesh a is there twice; the first is in line 1",
		  MAY_CLAIM("10", "a", "/a/*", "a", "2")}},
		{"[mesh]\n[mesh  ]\n" MESH_B,
		 {"x.ini:1: the mesh has no name; write [mesh NAME]",
		  "x.ini:1: mesh ?: no cgroups: nothing is enrolled in it",
		  "x.ini:1: mesh ?: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar",
		  "x.ini:1: mesh ?: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids",
		  "x.ini:2: the mesh has no name; write [mesh NAME]",
		  "x.ini:2: mesh ?: no cgroups: nothing is enrolled in it",
		  "x.ini:2: mesh ?: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar",
		  "x.ini:2: mesh ?: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids"}},
		{"[mesh a/b]\ncgroups = /x/*\nsidecar_gids = 1\ndns_redirect = 127.0.0.1:53\n"
		 "[mesh a b]\ncgroups = /y/*\nsidecar_gids = 1\ndns_redirect = 127.0.0.1:53\n",
		 {"x.ini:1: bad mesh name 'a/b': a name has letters, digits, '_', '.' and '-'",
		  "x.ini:5: bad mesh name 'a b': a name has letters, digits, '_', '.' and '-'"}},
		{"[mesh 0123456789012345678901234567890123456789012345678901234567890123]\n"
		 "cgroups = /x/*\nsidecar_gids = 1\ndns_redirect = 127.0.0.1:53\n",
		 {"x.ini:1: the mesh name has 64 characters; there is room for 63"}},

		/* keys */
		{"[agent]\nflows = 1\nx = 1\n[limits]\ncgroups = 1\ncgroups = x\ncgroup = 1\n" MESH
		 "log_level = info\nTcp_redirect = x\n",
		 {"x.ini:2: unknown key 'flows': it belongs in [limits]",
		  "x.ini:3: unknown key 'x'; [agent] has cgroup_root, pin_dir, control_socket, metrics_listen, log_level, fallback, splice_never"
		  ", reload_on_change",
		  "x.ini:6: cgroups: is there twice; the first is in line 5",
		  "x.ini:7: unknown key 'cgroup'; [limits] has flows, cgroups, rules, splice_queue",
		  "x.ini:12: unknown key 'log_level': it belongs in [agent]",
		  "x.ini:13: unknown key 'Tcp_redirect'; [mesh] has cgroups, sidecar_cgroups, sidecar_uids, sidecar_gids, tcp_redirect, dns_redirect, include_cidrs, exclude_cidrs, include_ports, exclude_ports, exclude_uids, exclude_gids, splice, on_sidecar_down"}},
		{MESH
		 "exclude_ports = 22\nexclude_ports = 23,\n  x\nexclude_uids =\nexclude_uids =\n",
		 {"x.ini:6: exclude_ports: is there twice; the first is in line 5",
		  "x.ini:9: exclude_uids: is there twice; the first is in line 8"}},
		{"[agent]\nlog_level = info\n\n" MESH
		 "inbound_redirect = 127.0.0.1:1\ninbound_include_ports = *\ninbound_exclude_ports = 1\n",
		 {"x.ini:8: inbound_redirect: not built yet; leave it out",
		  "x.ini:9: inbound_include_ports: not built yet; leave it out",
		  "x.ini:10: inbound_exclude_ports: not built yet; leave it out"}},
		{"[agent]\nlog_level = info\n" MESH "inbound_redirect =\n   127.0.0.1:1\n",
		 {"x.ini:8: inbound_redirect: not built yet; leave it out"}},

		/* one value */
		{"[agent]\npin_dir =\nlog_level = ; \nfallback = off\n  fail\n" MESH,
		 {"x.ini:2: pin_dir: no value; leave it out for the default",
		  "x.ini:3: log_level: no value; leave it out for the default",
		  "x.ini:5: fallback: has one value only, and a line that begins with a blank goes on with it"}},
		{"[agent]\ncgroup_root = cg\npin_dir = ./x\ncontrol_socket = s\n" MESH,
		 {"x.ini:2: cgroup_root: 'cg' is not an absolute path",
		  "x.ini:3: pin_dir: './x' is not an absolute path",
		  "x.ini:4: control_socket: 's' is not an absolute path"}},
		{"[agent]\ncontrol_socket = "
		 "/12345678901234567890123456789012345678901234567890"
		 "123456789012345678901234567890123456789012345678901234567\n" MESH,
		 {"x.ini:2: control_socket: the path has 108 bytes; there is room for 107"}},
		{"[agent]\nlog_level = loud\nfallback = none\n" MESH
		 "splice = on\non_sidecar_down = Refuse\n",
		 {"x.ini:2: log_level: 'loud' is not known; write error, warning, info or debug",
		  "x.ini:3: fallback: 'none' is not known; write nftables, off or fail",
		  "x.ini:8: splice: 'on' is not known; write off, sidecar, netns or node",
		  "x.ini:9: on_sidecar_down: 'Refuse' is not known; write refuse or bypass"}},
		{"[limits]\nflows = 16777217\ncgroups = 1048577\nrules = 99999999999999999999\n" MESH,
		 {"x.ini:2: flows: 16777217 is out of range; write 1 to 16777216",
		  "x.ini:3: cgroups: 1048577 is out of range; write 1 to 1048576",
		  "x.ini:4: rules: 99999999999999999999 is out of range; write 1 to 16777216"}},
		{"[limits]\nflows = 1M\ncgroups = -1\nrules = 0x10\n" MESH,
		 {"x.ini:2: flows: '1M' is not a number; write 1 to 16777216",
		  "x.ini:3: cgroups: '-1' is not a number; write 1 to 1048576",
		  "x.ini:4: rules: '0x10' is not a number; write 1 to 16777216"}},

		{"[limits]\nsplice_queue = 1m\n[limits]\nsplice_queue = M\n" MESH,
		 {"x.ini:2: splice_queue: '1m' is not a size, such as 65536, 64K or 1M; write 4K to 1G",
		  "x.ini:3: section [limits] is there twice; the first is in line 1",
		  "x.ini:4: splice_queue: 'M' is not a size, such as 65536, 64K or 1M; write 4K to 1G"}},
		{"[limits]\nsplice_queue = 1MB\n" MESH,
		 {"x.ini:2: splice_queue: '1MB' is not a size, such as 65536, 64K or 1M; write 4K to 1G"}},
		{"[limits]\nsplice_queue = -1K\n" MESH,
		 {"x.ini:2: splice_queue: '-1K' is not a size, such as 65536, 64K or 1M; write 4K to 1G"}},
		{"[limits]\nsplice_queue = 1 M\n" MESH,
		 {"x.ini:2: splice_queue: '1 M' is not a size, such as 65536, 64K or 1M; write 4K to 1G"}},
		{"[limits]\nsplice_queue = 4095\n" MESH,
		 {"x.ini:2: splice_queue: 4095 is out of range; write 4K to 1G"}},
		{"[limits]\nsplice_queue = 1073741825\n" MESH,
		 {"x.ini:2: splice_queue: 1073741825 is out of range; write 4K to 1G"}},
		/* 2^32 + 4096, with a unit and without */
		{"[limits]\nsplice_queue = 4194308K\n" MESH,
		 {"x.ini:2: splice_queue: 4194308K is out of range; write 4K to 1G"}},
		{"[limits]\nsplice_queue = 4294971392\n" MESH,
		 {"x.ini:2: splice_queue: 4294971392 is out of range; write 4K to 1G"}},

		/* lists */
		{MESH "exclude_ports = 22,,x,\n  , 23,\n  9-8,\n  y\nexclude_uids = 0\n",
		 {"x.ini:5: exclude_ports: nothing in front of a comma",
		  "x.ini:5: exclude_ports: 'x' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:6: exclude_ports: nothing in front of a comma",
		  "x.ini:7: exclude_ports: '9-8' is backwards; write 8-9",
		  "x.ini:8: exclude_ports: 'y' is not a port from 1 to 65535, a range like 9000-9100, or *"}},
		{MESH "include_ports = 0, 1-65536, 1-, -1, 1 - 2, 1-2-3, 123456789-9\n",
		 {"x.ini:5: include_ports: '0' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '1-65536' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '1-' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '-1' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '1 - 2' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '1-2-3' is not a port from 1 to 65535, a range like 9000-9100, or *",
		  "x.ini:5: include_ports: '123456789-9' is not a port from 1 to 65535, a range like 9000-9100, or *"}},
		{MESH "exclude_cidrs = 10.0.0.1/8, fd00::1/64,\n  10.0.0.0/33\n",
		 {"x.ini:5: exclude_cidrs: '10.0.0.1/8' has host bits set; write 10.0.0.0/8 for the network or 10.0.0.1 for the host",
		  "x.ini:5: exclude_cidrs: 'fd00::1/64' has host bits set; write fd00::/64 for the network or fd00::1 for the host",
		  "x.ini:6: exclude_cidrs: '10.0.0.0/33' is not a CIDR; write one like 10.0.0.0/8 or fd00::/8"}},
		{MESH "exclude_uids = nobody, no-such-user, 4294967294, 4294967295\n"
		      "exclude_gids = nogroup, no-such-group, 99999999999\n",
		 {"x.ini:5: exclude_uids: 'no-such-user' is neither a number nor a user of this host",
		  "x.ini:5: exclude_uids: 4294967295 is out of range; write 0 to 4294967294",
		  "x.ini:6: exclude_gids: 'no-such-group' is neither a number nor a group of this host",
		  "x.ini:6: exclude_gids: 99999999999 is out of range; write 0 to 4294967294"}},

		/* addresses */
		{MESH "dns_redirect = 127.0.0.1, ::1, [::1]\n",
		 {"x.ini:5: dns_redirect: '127.0.0.1' has no port; write 127.0.0.1:15053",
		  "x.ini:5: dns_redirect: '::1' has no port; write [::1]:15053",
		  "x.ini:5: dns_redirect: '[::1]' has no port; write [::1]:15053"}},
		{"[mesh a]\ncgroups = /a/*\nsidecar_uids = 1337\ntcp_redirect = 127.0.0.1\n",
		 {"x.ini:4: tcp_redirect: '127.0.0.1' has no port; write 127.0.0.1:15001"}},
		{MESH
		 "dns_redirect = 127.0.0.1:0, [::1]:65536,\n  localhost:53, 1.2.3.4.5:53, [::1:53\n",
		 {"x.ini:5: dns_redirect: '127.0.0.1:0' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053",
		  "x.ini:5: dns_redirect: '[::1]:65536' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053",
		  "x.ini:6: dns_redirect: 'localhost:53' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053",
		  "x.ini:6: dns_redirect: '1.2.3.4.5:53' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053",
		  "x.ini:6: dns_redirect: '[::1:53' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053"}},
		{MESH "dns_redirect = 127.0.0.1:53, [::1]:53,\n  127.0.0.2:53, [::2]:53\n",
		 {"x.ini:6: dns_redirect: '127.0.0.2:53' is a second IPv4 address; the first is 127.0.0.1:53",
		  "x.ini:6: dns_redirect: '[::2]:53' is a second IPv6 address; the first is [::1]:53"}},
		{MESH "dns_redirect = 0.0.0.0:53, [::]:53\n",
		 {"x.ini:5: dns_redirect: nothing can connect to '0.0.0.0:53'; write 127.0.0.1:53",
		  "x.ini:5: dns_redirect: nothing can connect to '[::]:53'; write [::1]:53"}},
		/* … no address of one host, or none without an interface */
		{MESH
		 "dns_redirect = 224.0.0.251:53, 255.255.255.255:53, [ff02::fb]:53, [fe80::1]:53\n",
		 {"x.ini:5: dns_redirect: nothing can connect to '224.0.0.251:53'; write 127.0.0.1:53",
		  "x.ini:5: dns_redirect: nothing can connect to '255.255.255.255:53'; write 127.0.0.1:53",
		  "x.ini:5: dns_redirect: nothing can connect to '[ff02::fb]:53'; write [::1]:53",
		  "x.ini:5: dns_redirect: nothing can connect to '[fe80::1]:53'; write [::1]:53"}},
		{MESH "dns_redirect = 239.255.255.255:53, [febf::1]:53\n",
		 {"x.ini:5: dns_redirect: nothing can connect to '239.255.255.255:53'; write 127.0.0.1:53",
		  "x.ini:5: dns_redirect: nothing can connect to '[febf::1]:53'; write [::1]:53"}},
		{MESH "dns_redirect = 240.0.0.1:53, [fec0::1]:53\n", {NULL}},

		/* patterns */
		{MESH "sidecar_cgroups = a/b, /a/../b, /a//b, /a**, /a/,\n  /a b, !, !a, ! /fine\n",
		 {"x.ini:5: sidecar_cgroups: 'a/b' does not begin with '/'",
		  "x.ini:5: sidecar_cgroups: '/a/../b' has a part '.' or '..'",
		  "x.ini:5: sidecar_cgroups: '/a//b' has an empty part ('//')",
		  "x.ini:5: sidecar_cgroups: '/a**' has '**' that is not a whole part",
		  "x.ini:5: sidecar_cgroups: '/a/' ends with '/'",
		  "x.ini:6: sidecar_cgroups: '/a b' has a blank in it; put a comma between patterns",
		  "x.ini:6: sidecar_cgroups: '' does not begin with '/'",
		  "x.ini:6: sidecar_cgroups: 'a' does not begin with '/'"}},
		{MESH "sidecar_cgroups = /, /*, /**/x, /a*/b, !/*, /a\n",
		 {"x.ini:5: sidecar_cgroups: '/' would attach to the root of the cgroup tree; begin it with a literal path",
		  "x.ini:5: sidecar_cgroups: '/*' would attach to the root of the cgroup tree; begin it with a literal path",
		  "x.ini:5: sidecar_cgroups: '/**/x' would attach to the root of the cgroup tree; begin it with a literal path",
		  "x.ini:5: sidecar_cgroups: '/a*/b' would attach to the root of the cgroup tree; begin it with a literal path"}},
		{MESH
		 "sidecar_cgroups = !/a,\n  !/b\n[mesh b]\nsidecar_uids = 1\ncgroups = !/x\ndns_redirect = 127.0.0.1:53\n",
		 {"x.ini:5: sidecar_cgroups: only patterns with '!', and nothing that they could take out of",
		  "x.ini:9: cgroups: only patterns with '!', and nothing that they could take out of"}},

		/* … of programs, which nothing is attached to */
		{"[agent]\nsplice_never = bin, /**, /a b, /a//b,\n  !/x\n" MESH,
		 {"x.ini:2: splice_never: 'bin' does not begin with '/'",
		  "x.ini:2: splice_never: '/a b' has a blank in it; put a comma between patterns",
		  "x.ini:2: splice_never: '/a//b' has an empty part ('//')",
		  "x.ini:3: splice_never: '!/x' does not begin with '/'"}},

		/* a whole mesh */
		{"[mesh a]\n" MESH_B,
		 {"x.ini:1: mesh a: no cgroups: nothing is enrolled in it",
		  "x.ini:1: mesh a: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar",
		  "x.ini:1: mesh a: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids"}},
		{"[mesh a]\ncgroups =\ntcp_redirect =\ndns_redirect =\nsidecar_cgroups =\nsidecar_uids =\nsidecar_gids =\n",
		 {"x.ini:1: mesh a: no cgroups: nothing is enrolled in it",
		  "x.ini:1: mesh a: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar",
		  "x.ini:1: mesh a: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids"}},
		/* … that redirects */
		{"[mesh a]\ncgroups = /a\ntcp_redirect = 127.0.0.1:1\nsplice = node\n"
		 "[mesh b]\ncgroups = /b\ndns_redirect = 127.0.0.1:1\nsplice = off\n",
		 {"x.ini:1: mesh a: nothing says who the sidecar is: its own connections would be redirected to itself; give sidecar_cgroups, sidecar_uids or sidecar_gids",
		  "x.ini:5: mesh b: nothing says who the sidecar is: its own connections would be redirected to itself; give sidecar_cgroups, sidecar_uids or sidecar_gids"}},
		/* … that splices alone */
		{"[mesh a]\ncgroups = /a\nsplice = node\n[mesh b]\ncgroups = /b\nsplice = netns\n"
		 "[mesh c]\ncgroups = /c\nsidecar_uids = 1\nsplice = sidecar\n",
		 {NULL}},
		{"[mesh a]\ncgroups = /a\nsplice = sidecar\n[mesh b]\ncgroups = /b\nsidecar_uids = 1\n",
		 {"x.ini:1: mesh a: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids",
		  "x.ini:4: mesh b: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar"}},
		/* … that does neither */
		{"[mesh a]\ncgroups = /a\nsplice = off\n",
		 {"x.ini:1: mesh a: neither tcp_redirect nor dns_redirect, and splice = off: nothing would be done"}},
		/* … is judged after its lines, and told before them */
		{
			"[mesh a]\ncgroups = x\n\n" MESH_B "x = 1\n", {"x.ini:1: mesh a: neither tcp_redirect nor dns_redirect: nothing is redirected; if splicing alone is meant, write splice = sidecar", "x.ini:1: mesh a: nothing says who the sidecar is: nothing would be spliced; give sidecar_cgroups, sidecar_uids or sidecar_gids", "x.ini:2: cgroups: 'x' does not begin with '/'", "x.ini:8: unknown key 'x'; [mesh] has cgroups, sidecar_cgroups, sidecar_uids, sidecar_gids, tcp_redirect, dns_redirect, include_cidrs, exclude_cidrs, include_ports, exclude_ports, exclude_uids, exclude_gids, splice, on_sidecar_down"}},
		/* … whose values are wrong lacks nothing else */
		{"[mesh a]\ncgroups = a #\nsidecar_gids = -\ndns_redirect = x\n",
		 {"x.ini:2: cgroups: 'a #': a comment after a value begins with ';'",
		  "x.ini:3: sidecar_gids: '-' is neither a number nor a group of this host",
		  "x.ini:4: dns_redirect: 'x' is not an address and a port; write 127.0.0.1:15053 or [::1]:15053"}},

		/* meshes that overlap */
		{"[mesh a]\ncgroups = /a/*,\n  /x/**/app-*\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:1\n"
		 "[mesh b]\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\ncgroups =\n  /b/*,\n  /x/*\n",
		 {MAY_CLAIM("11", "b", "/x/*", "a", "3")}},
		{MESH
		 "[mesh b]\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\ncgroups = /a/**, !/a/b\n",
		 {MAY_CLAIM("8", "b", "/a/**", "a", "2")}},
		{MESH
		 "[mesh b]\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\ncgroups = /a/**, !/a/*\n",
		 {NULL}},
		{"[mesh a]\ncgroups = /a/*, !/a/b\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\n"
		 "[mesh b]\ncgroups = /a/b\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\n",
		 {NULL}},
		{MESH MESH_B
		 "[mesh c]\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\ncgroups = /b/c, /a/c\n",
		 {MAY_CLAIM("12", "c", "/a/c", "a", "2"), MAY_CLAIM("12", "c", "/b/c", "b", "6")}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_messages(cases[i].text, strlen(cases[i].text), cases[i].messages);
}

static void test_overlaps(void **state)
{
#define REST "\nsidecar_uids = 1\ntcp_redirect = 127.0.0.1:2\n"
	static const struct {
		const char *text;
		const char *messages[MESSAGES_MAX];
	} cases[] = {
		{MESH "[mesh b]\ncgroups = /a/b" REST, {MAY_CLAIM("6", "b", "/a/b", "a", "2")}},
		/* one below the other */
		{MESH "[mesh b]\ncgroups = /a/b/c" REST, {NULL}},
		/* lists */
		{"[mesh a]\ncgroups = /a/*,\n  /x/**/app-*" REST
		 "[mesh b]\ncgroups =\n  /b/*,\n  /x/*" REST,
		 {MAY_CLAIM("9", "b", "/x/*", "a", "3")}},
		{MESH MESH_B "[mesh c]\ncgroups = /b/c, /a/c" REST,
		 {MAY_CLAIM("10", "c", "/a/c", "a", "2"), MAY_CLAIM("10", "c", "/b/c", "b", "6")}},
		/* all that they share is taken out of one */
		{MESH "[mesh b]\ncgroups = /a/**, !/a/*" REST, {NULL}},
		{"[mesh a]\ncgroups = /a/*, !/a/b" REST "[mesh b]\ncgroups = /a/b" REST, {NULL}},
		{"[mesh a]\ncgroups = /a/*, !/a/b*" REST "[mesh b]\ncgroups = /a/b1" REST, {NULL}},
		{"[mesh a]\ncgroups = /a/*, !/a/b*" REST "[mesh b]\ncgroups = /a/b?" REST, {NULL}},
		{"[mesh a]\ncgroups = /a/**/b-*" REST "[mesh b]\ncgroups = /a/**, !/a/**/b*" REST,
		 {NULL}},
		/* a part of it is, or all */
		{MESH "[mesh b]\ncgroups = /a/**, !/a/b" REST,
		 {MAY_CLAIM("6", "b", "/a/**", "a", "2")}},
		{MESH "[mesh b]\ncgroups = /a/*, !/a/?x" REST,
		 {MAY_CLAIM("6", "b", "/a/*", "a", "2")}},
		/* what is taken out is nothing that they share */
		{"[mesh a]\ncgroups = /a/*, !/a/c" REST "[mesh b]\ncgroups = /a/b" REST,
		 {MAY_CLAIM("6", "b", "/a/b", "a", "2")}},
	};
#undef REST

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		check_messages(cases[i].text, strlen(cases[i].text), cases[i].messages);
}

/* What is refused, and what is only warned of. */
static void test_severity(void **state)
{
#define SIDECAR "sidecar_uids = 1\n"
	static const struct {
		const char *text;
		enum config_severity severity;
	} cases[] = {
		{"[mesh a]\ncgroups = /a\n" SIDECAR, CONFIG_ERROR},
		{"[mesh a]\ncgroups = /a\nsplice = off\n" SIDECAR, CONFIG_ERROR},
		{"[mesh a]\ndns_redirect = [::1]:53\n" SIDECAR, CONFIG_ERROR},
		{"[mesh a]\ncgroups = /a\ndns_redirect = [::1]:53\n", CONFIG_ERROR},
		{MESH "inbound_redirect = [::1]:15006\n", CONFIG_ERROR},
		{MESH "[mesh b]\ncgroups = /a/b\ndns_redirect = [::1]:53\n" SIDECAR,
		 CONFIG_WARNING},
	};
#undef SIDECAR

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config_problems problems = {0};
		struct config *config = NULL;
		int r;

		r = parse_bytes(cases[i].text, strlen(cases[i].text), &problems, &config);
		assert_int_equal(problems.n, 1);
		assert_int_equal(problems.items[0].severity, cases[i].severity);
		assert_int_equal(r, cases[i].severity == CONFIG_ERROR ? -EINVAL : 0);
		config_free(config);
		config_problems_deinit(&problems);
	}
}

static void test_nul(void **state)
{
	static const char text[] = MESH "exclude_ports = 1\0, 2\n\0\nexclude_uids = x\0";
	static const char *const messages[] = {
		"x.ini:5: the line has a NUL byte in it",
		"x.ini:6: the line has a NUL byte in it",
		"x.ini:7: the line has a NUL byte in it",
		NULL,
	};

	check_messages(text, sizeof(text) - 1, messages);
}

/* A line of just the limit is whole, one more is none; and the lines after it are in their place.
 */
static void test_long_lines(void **state)
{
	static const char *const messages[] = {
		"x.ini:2: the line is longer than 4096 characters; a list may go on in lines that begin with a blank",
		"x.ini:3: the line is longer than 4096 characters; a list may go on in lines that begin with a blank",
		"x.ini:4: unknown key 'x'; [limits] has flows, cgroups, rules, splice_queue",
		NULL,
	};
	char text[8 * CONFIG_LINE_MAX] = "[limits]\n";
	size_t n = strlen(text);

	n += sprintf(text + n, "flows = %*s\n", CONFIG_LINE_MAX + 1 - 8, "1");
	n += sprintf(text + n, ";%*s\n", 2 * CONFIG_LINE_MAX, "");
	n += sprintf(text + n, "x%*s\n", CONFIG_LINE_MAX - 1, "= 1");
	n += sprintf(text + n, "rules = %0*u\n" MESH, CONFIG_LINE_MAX - 8, 7);
	check_messages(text, n, messages);
}

static void test_long_file(void **state)
{
	static const char *const messages[] = {
		"x.ini:4097: the file is longer than 16777216 bytes",
		NULL,
	};
	static const char *const just_fits[] = {
		"x.ini:4096: the file ends without a [mesh NAME]: nothing would be redirected",
		NULL,
	};
	_cleanup_free_ char *text = NULL;

	text = malloc(CONFIG_FILE_MAX + 1);
	assert_non_null(text);
	memset(text, ';', CONFIG_FILE_MAX + 1);
	for (size_t i = CONFIG_LINE_MAX - 1; i < CONFIG_FILE_MAX; i += CONFIG_LINE_MAX)
		text[i] = '\n';
	check_messages(text, CONFIG_FILE_MAX, just_fits);
	check_messages(text, CONFIG_FILE_MAX + 1, messages);
}

static void test_too_many_meshes(void **state)
{
	static const char *const messages[] = {
		"x.ini:257: too many meshes: there is room for 64",
		NULL,
	};
	char text[16384];
	size_t n = 0;

	for (int i = 0; i < SHUNT_MESHES_MAX + 2; i++) {
		n += sprintf(
			text + n,
			"[mesh m%d]\ncgroups = /m%d\nsidecar_uids = 1\ndns_redirect = 127.0.0.1:53\n",
			i, i);
		if (i == SHUNT_MESHES_MAX - 1)
			config_free(parse_good(text));
	}
	check_messages(text, n, messages);
}

static bool never(const struct config *config, const char *path)
{
	for (size_t i = 0; i < config->splice_never.n; i++)
		if (glob_match(config->splice_never.items[i].pattern, path))
			return true;
	return false;
}

static void test_defaults(void **state)
{
	struct config *config = parse_good(MESH);
	const struct config_mesh *mesh = &config->meshes[0];

	assert_string_equal(config->path, "x.ini");
	assert_null(config->cgroup_root);
	assert_string_equal(config->pin_dir, "/sys/fs/bpf/shunt");
	assert_string_equal(config->control_socket, SHUNT_DEFAULT_SOCKET);
	assert_string_equal(config->log_level, "info");
	assert_int_equal(config->fallback, CONFIG_FALLBACK_NFTABLES);
	assert_int_equal(config->limit_flows, 65536);
	assert_int_equal(config->limit_cgroups, 16384);
	assert_int_equal(config->limit_rules, 65536);
	assert_int_equal(config->limit_splice_queue, 1 << 20);
	assert_true(never(config, "/usr/lib/systemd/systemd-socket-proxyd"));
	assert_true(never(config, "/usr/bin/passt.avx2"));
	assert_true(never(config, "/bin/passt"));
	assert_true(never(config, "/usr/sbin/lighttpd"));
	assert_false(never(config, "/usr/sbin/haproxy"));
	for (size_t i = 0; i < config->splice_never.n; i++)
		assert_int_equal(config->splice_never.items[i].line, 0);
	assert_int_equal(config->n_meshes, 1);
	assert_string_equal(mesh->name, "a");
	assert_int_equal(mesh->line, 1);
	assert_int_equal(mesh->include_cidrs.n, 2);
	assert_int_equal(mesh->include_cidrs.items[0].prefix, 96);
	assert_true(addr_is_v4(mesh->include_cidrs.items[0].addr));
	assert_int_equal(mesh->include_cidrs.items[0].line, 0);
	assert_int_equal(mesh->include_cidrs.items[1].prefix, 0);
	assert_true(addr_is_unspecified(mesh->include_cidrs.items[1].addr));
	assert_int_equal(mesh->include_ports.n, 1);
	assert_int_equal(mesh->include_ports.items[0].first, 0);
	assert_int_equal(mesh->include_ports.items[0].last, 65535);
	assert_int_equal(mesh->include_ports.items[0].line, 0);
	assert_int_equal(mesh->exclude_cidrs.n, 0);
	assert_int_equal(mesh->exclude_ports.n, 0);
	assert_int_equal(mesh->exclude_uids.n, 0);
	assert_int_equal(mesh->exclude_gids.n, 0);
	assert_int_equal(mesh->sidecar_cgroups.n, 0);
	assert_int_equal(mesh->sidecar_gids.n, 0);
	assert_int_equal(mesh->tcp_redirect_line, 4);
	assert_int_equal(mesh->tcp_redirect[SHUNT_V6].port, 0);
	assert_int_equal(mesh->dns_redirect_line, 0);
	assert_int_equal(mesh->dns_redirect[SHUNT_V4].port, 0);
	assert_int_equal(mesh->splice, SHUNT_SCOPE_SIDECAR);
	assert_int_equal(mesh->on_sidecar_down, CONFIG_SIDECAR_DOWN_REFUSE);
	assert_int_equal(mesh->on_sidecar_down_line, 0);
	config_free(config);
}

static void test_splice(void **state)
{
	static const struct {
		const char *text;
		enum shunt_scope scope;
	} cases[] = {
		{MESH "splice = off\n", SHUNT_SCOPE_OFF},
		{MESH "splice = sidecar\n", SHUNT_SCOPE_SIDECAR},
		{MESH "splice = netns\n", SHUNT_SCOPE_NETNS},
		{MESH "splice = node\n", SHUNT_SCOPE_NODE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config *config = parse_good(cases[i].text);

		assert_int_equal(config->meshes[0].splice, cases[i].scope);
		config_free(config);
	}
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint32_t size;
	} cases[] = {
		{"4096", 4096},	 {"4K", 4096},	     {"0004097", 4097},	    {"1000K", 1024000},
		{"3M", 3 << 20}, {"1024M", 1 << 30}, {"1048576K", 1 << 30}, {"1G", 1 << 30},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config *config;
		char text[256];

		sprintf(text, "[limits]\nsplice_queue = %s\n" MESH, cases[i].text);
		config = parse_good(text);
		assert_int_equal(config->limit_splice_queue, cases[i].size);
		config_free(config);
	}
}

/* What is given takes the place of the default, even if it is nothing. */
static void test_splice_never(void **state)
{
	struct config *config = parse_good("[agent]\nsplice_never = /opt/*/proxy,\n  /**/x\n" MESH);

	assert_int_equal(config->splice_never.n, 2);
	assert_string_equal(config->splice_never.items[0].pattern, "/opt/*/proxy");
	assert_false(config->splice_never.items[0].negated);
	assert_int_equal(config->splice_never.items[0].line, 2);
	assert_string_equal(config->splice_never.items[1].pattern, "/**/x");
	assert_int_equal(config->splice_never.items[1].line, 3);
	config_free(config);

	config = parse_good("[agent]\nsplice_never =\n" MESH);
	assert_int_equal(config->splice_never.n, 0);
	config_free(config);

	/* Whether the section is there makes no difference. */
	config = parse_good("[agent]\n" MESH);
	assert_true(never(config, "/usr/lib/systemd/systemd-socket-proxyd"));
	config_free(config);
}

static void assert_metrics_listen(const char *text, const char *expected)
{
	struct config *config = parse_good(text);
	char buf[ADDR_STRLEN];

	assert_string_equal(addr_format_endpoint(&config->metrics_listen, buf), expected);
	config_free(config);
}

static void test_metrics_listen(void **state)
{
	static const char text[] = "[agent]\nmetrics_listen = :9464,\n  ::1\n" MESH;
	static const char *const messages[] = {
		"x.ini:2: metrics_listen: ':9464' is not an address and a port; write 127.0.0.1:9464 or [::1]:9464",
		"x.ini:3: metrics_listen: '::1' is a second address; there is room for one",
		NULL,
	};
	struct config *config;

	assert_metrics_listen(MESH, "127.0.0.1:9464");
	assert_metrics_listen("[agent]\npin_dir = /x\n" MESH, "127.0.0.1:9464");
	assert_metrics_listen("[agent]\nmetrics_listen = [::]:1\n" MESH, "[::]:1");
	config = parse_good("[agent]\nmetrics_listen =\n" MESH);
	assert_int_equal(config->metrics_listen.port, 0);
	config_free(config);
	check_messages(text, sizeof(text) - 1, messages);
}

static void test_values(void **state)
{
	/* With the mark and the line ends of other systems' editors. */
	struct config *config = parse_good("\xef\xbb\xbf[agent]\r\n" /* 1 */
					   "cgroup_root = /cg/\r\n"
					   "pin_dir: /pin// ; comment\n"
					   "control_socket = /s;ocket#1\n"
					   "log_level = debug\n"
					   "fallback = off\n"
					   "[limits]\n"
					   "flows = 1\n"
					   "cgroups = 1048576\n"
					   "rules = 16777216\n" /* 10 */
					   "[mesh Book_info-1.2]\n"
					   "cgroups = /a/*, ! /a/b,\n"
					   "    /c/**/d ; comment\n"
					   "\n"
					   "# comment\n"
					   "    !/c/d\n"
					   "sidecar_cgroups = /a/b\n"
					   "sidecar_uids = 1337, root\n"
					   "sidecar_gids =\n"
					   "    0,\n" /* 20 */
					   "tcp_redirect = 10.0.0.1:1,\n"
					   "    [::1]:2\n"
					   "dns_redirect = [fd00::1]:53\n"
					   "include_cidrs = 10.0.0.0/8\n"
					   "exclude_cidrs = fd00::/8, 169.254.169.254\n"
					   "include_ports =\n"
					   "exclude_ports = 22, 9000-9100,\n"
					   "    *\n"
					   "exclude_uids = 1\n"
					   "exclude_gids = 2, root\n" /* 30 */
					   "splice = off\n"
					   "on_sidecar_down = bypass\n" MESH_B);
	const struct config_mesh *mesh = &config->meshes[0];
	char buf[ADDR_STRLEN];

	assert_string_equal(config->cgroup_root, "/cg");
	assert_string_equal(config->pin_dir, "/pin");
	assert_string_equal(config->control_socket, "/s;ocket#1");
	assert_string_equal(config->log_level, "debug");
	assert_int_equal(config->fallback, CONFIG_FALLBACK_OFF);
	assert_int_equal(config->limit_flows, 1);
	assert_int_equal(config->limit_cgroups, 1048576);
	assert_int_equal(config->limit_rules, 16777216);

	assert_int_equal(config->n_meshes, 2);
	assert_string_equal(mesh->name, "Book_info-1.2");
	assert_int_equal(mesh->line, 11);

	assert_int_equal(mesh->cgroups.n, 4);
	assert_string_equal(mesh->cgroups.items[0].pattern, "/a/*");
	assert_false(mesh->cgroups.items[0].negated);
	assert_string_equal(mesh->cgroups.items[1].pattern, "/a/b");
	assert_true(mesh->cgroups.items[1].negated);
	assert_int_equal(mesh->cgroups.items[1].line, 12);
	assert_string_equal(mesh->cgroups.items[2].pattern, "/c/**/d");
	assert_int_equal(mesh->cgroups.items[2].line, 13);
	assert_string_equal(mesh->cgroups.items[3].pattern, "/c/d");
	assert_int_equal(mesh->cgroups.items[3].line, 16);
	assert_int_equal(mesh->sidecar_cgroups.n, 1);

	assert_int_equal(mesh->sidecar_uids.n, 2);
	assert_int_equal(mesh->sidecar_uids.items[0].id, 1337);
	assert_int_equal(mesh->sidecar_uids.items[1].id, 0);
	assert_int_equal(mesh->sidecar_gids.n, 1);
	assert_int_equal(mesh->sidecar_gids.items[0].line, 20);

	assert_string_equal(addr_format_endpoint(&mesh->tcp_redirect[SHUNT_V4], buf), "10.0.0.1:1");
	assert_string_equal(addr_format_endpoint(&mesh->tcp_redirect[SHUNT_V6], buf), "[::1]:2");
	assert_int_equal(mesh->tcp_redirect_line, 21);
	assert_int_equal(mesh->dns_redirect[SHUNT_V4].port, 0);
	assert_int_equal(mesh->dns_redirect[SHUNT_V6].port, htons(53));
	assert_int_equal(mesh->dns_redirect_line, 23);

	assert_int_equal(mesh->include_cidrs.n, 1);
	assert_int_equal(mesh->include_cidrs.items[0].prefix, 104);
	assert_int_equal(mesh->include_cidrs.items[0].line, 24);
	assert_int_equal(mesh->exclude_cidrs.n, 2);
	assert_int_equal(mesh->exclude_cidrs.items[0].prefix, 8);
	assert_string_equal(addr_format(mesh->exclude_cidrs.items[1].addr, buf), "169.254.169.254");
	assert_int_equal(mesh->include_ports.n, 0);
	assert_int_equal(mesh->exclude_ports.n, 3);
	assert_int_equal(mesh->exclude_ports.items[0].first, 22);
	assert_int_equal(mesh->exclude_ports.items[0].last, 22);
	assert_int_equal(mesh->exclude_ports.items[1].first, 9000);
	assert_int_equal(mesh->exclude_ports.items[1].last, 9100);
	assert_int_equal(mesh->exclude_ports.items[2].last, 65535);
	assert_int_equal(mesh->exclude_ports.items[2].line, 28);
	assert_int_equal(mesh->exclude_uids.items[0].id, 1);
	assert_int_equal(mesh->exclude_gids.n, 2);
	assert_int_equal(mesh->splice, SHUNT_SCOPE_OFF);
	assert_int_equal(mesh->on_sidecar_down, CONFIG_SIDECAR_DOWN_BYPASS);
	assert_int_equal(mesh->on_sidecar_down_line, 32);

	assert_string_equal(config->meshes[1].name, "b");
	assert_int_equal(config->meshes[1].line, 33);
	assert_int_equal(config->meshes[1].splice, SHUNT_SCOPE_SIDECAR);
	assert_int_equal(config->meshes[1].on_sidecar_down, CONFIG_SIDECAR_DOWN_REFUSE);
	config_free(config);
}

/* inih knows names of 49 characters; ours may have 63. */
static void test_long_mesh_name(void **state)
{
	static const char name[] =
		"012345678901234567890123456789012345678901234567890123456789abc";
	struct config *config;
	char text[256];

	sprintf(text, "[mesh %s]\ncgroups = /a\nsidecar_uids = 1\ndns_redirect = [::1]:53\n", name);
	config = parse_good(text);
	assert_string_equal(config->meshes[0].name, name);
	config_free(config);
}

/* Problems of an earlier file stay in front, and do not fail a later one. */
static void test_problems_add_up(void **state)
{
	struct config_problems problems = {0};
	struct config *config = NULL;

	assert_int_equal(parse_bytes("\n\nx", 3, &problems, &config), -EINVAL);
	assert_int_equal(problems.n, 2);
	assert_int_equal(parse_bytes(MESH, strlen(MESH), &problems, &config), 0);
	assert_int_equal(parse_bytes("y", 1, &problems, NULL), -EINVAL);
	assert_int_equal(problems.n, 4);
	assert_int_equal(problems.n_errors, 4);
	assert_int_equal(problems.items[1].line, 3);
	assert_int_equal(problems.items[2].line, 1);
	config_free(config);
	config_problems_deinit(&problems);
	assert_int_equal(problems.n, 0);
	config_problems_deinit(&problems);
	assert_null(config_free(NULL));
}

static void test_load(void **state)
{
	struct config_problems problems = {0};
	struct config *config = NULL;

	assert_int_equal(config_load("/nonexistent/shunt.ini", &problems, &config), -ENOENT);
	assert_int_equal(config_load("/", &problems, &config), -EISDIR);
	assert_null(config);
	assert_int_equal(problems.n, 2);
	assert_int_equal(problems.n_errors, 2);
	assert_string_equal(problems.items[0].text,
			    "/nonexistent/shunt.ini: cannot be opened: No such file or directory");
	assert_string_equal(problems.items[1].text, "/: cannot be read: Is a directory");
	config_problems_deinit(&problems);

	/* Without an end to its only line. */
	assert_int_equal(config_load("/dev/zero", &problems, &config), -EINVAL);
	assert_string_equal(problems.items[0].text,
			    "/dev/zero:1: the file is longer than 16777216 bytes");
	config_problems_deinit(&problems);
}

static void test_shipped(void **state)
{
	struct config_problems problems = {0};
	struct config *config = NULL;

	assert_int_equal(config_load(TEST_SHUNT_INI, &problems, &config), 0);
	assert_int_equal(problems.n, 0);
	assert_int_equal(config->n_meshes, 1);
	assert_string_equal(config->meshes[0].name, "example");
	config_free(config);
}

/*
 * Each line ";key = value" of the shipped file holds a default: with all of them in force nothing
 * changes. And each key is there, the ones that are not built yet in a comment.
 */
static void test_shipped_defaults(void **state)
{
	static const char *const keys[] = {
		"cgroup_root",
		"pin_dir",
		"control_socket",
		"metrics_listen",
		"log_level",
		"fallback",
		"splice_never",
		"flows",
		"cgroups",
		"rules",
		"splice_queue",
		"sidecar_cgroups",
		"sidecar_uids",
		"sidecar_gids",
		"tcp_redirect",
		"dns_redirect",
		"inbound_redirect",
		"include_cidrs",
		"exclude_cidrs",
		"include_ports",
		"exclude_ports",
		"exclude_uids",
		"exclude_gids",
		"inbound_include_ports",
		"inbound_exclude_ports",
		"splice",
		"on_sidecar_down",
		"reload_on_change",
	};
	_cleanup_fclose_ FILE *stream = NULL;
	char text[16384];
	struct config *config, *bare;
	size_t n, uncommented = 0;

	stream = fopen(TEST_SHUNT_INI, "re");
	assert_non_null(stream);
	n = fread(text, 1, sizeof(text) - 1, stream);
	text[n] = '\0';
	assert_true(feof(stream));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_non_null(strstr(text, keys[i]));

	bare = parse_good(text);
	for (char *p = text; (p = strstr(p, "\n;")); p++) {
		if (p[2] < 'a' || p[2] > 'z')
			continue;
		memmove(p + 1, p + 2, strlen(p + 2) + 1);
		uncommented++;
	}
	assert_int_equal(uncommented, 23);
	config = parse_good(text);

	assert_string_equal(config->cgroup_root, "/sys/fs/cgroup");
	assert_string_equal(config->pin_dir, bare->pin_dir);
	assert_string_equal(config->control_socket, bare->control_socket);
	assert_memory_equal(&config->metrics_listen, &bare->metrics_listen,
			    sizeof(bare->metrics_listen));
	assert_string_equal(config->log_level, bare->log_level);
	assert_int_equal(config->fallback, bare->fallback);
	assert_int_equal(config->reload_on_change, bare->reload_on_change);
	assert_int_equal(config->limit_flows, bare->limit_flows);
	assert_int_equal(config->limit_cgroups, bare->limit_cgroups);
	assert_int_equal(config->splice_never.n, bare->splice_never.n);
	for (size_t i = 0; i < config->splice_never.n; i++)
		assert_string_equal(config->splice_never.items[i].pattern,
				    bare->splice_never.items[i].pattern);
	assert_int_equal(config->limit_rules, bare->limit_rules);
	assert_int_equal(config->limit_splice_queue, bare->limit_splice_queue);
	assert_int_equal(config->n_meshes, bare->n_meshes);
	for (size_t i = 0; i < config->n_meshes; i++) {
		const struct config_mesh *a = &config->meshes[i], *b = &bare->meshes[i];

		assert_int_equal(a->sidecar_uids.n, b->sidecar_uids.n);
		assert_int_equal(a->sidecar_gids.n, b->sidecar_gids.n);
		assert_memory_equal(a->dns_redirect, b->dns_redirect, sizeof(a->dns_redirect));
		assert_int_equal(a->include_cidrs.n, b->include_cidrs.n);
		for (size_t k = 0; k < a->include_cidrs.n; k++)
			assert_memory_equal(&a->include_cidrs.items[k], &b->include_cidrs.items[k],
					    offsetof(struct config_cidr, line));
		assert_int_equal(a->exclude_cidrs.n, b->exclude_cidrs.n);
		assert_int_equal(a->include_ports.n, b->include_ports.n);
		assert_memory_equal(a->include_ports.items, b->include_ports.items,
				    offsetof(struct config_ports, line));
		assert_int_equal(a->exclude_ports.n, b->exclude_ports.n);
		assert_int_equal(a->exclude_uids.n, b->exclude_uids.n);
		assert_int_equal(a->exclude_gids.n, b->exclude_gids.n);
		assert_int_equal(a->splice, b->splice);
		assert_int_equal(a->on_sidecar_down, b->on_sidecar_down);
	}
	config_free(config);
	config_free(bare);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),	cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_severity),	cmocka_unit_test(test_nul),
		cmocka_unit_test(test_long_lines),	cmocka_unit_test(test_long_file),
		cmocka_unit_test(test_too_many_meshes), cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_splice),		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_splice_never),	cmocka_unit_test(test_metrics_listen),
		cmocka_unit_test(test_values),		cmocka_unit_test(test_long_mesh_name),
		cmocka_unit_test(test_problems_add_up), cmocka_unit_test(test_load),
		cmocka_unit_test(test_shipped),		cmocka_unit_test(test_shipped_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
