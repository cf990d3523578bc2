/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel half and the agent share: keys and values of maps, enums, limits.
 *
 * Byte order: every address and port is in network byte order, as the kernel keeps it. IPv4 is
 * carried as an IPv4-mapped IPv6 address (::ffff:a.b.c.d), so there is one address format. All else
 * is in host byte order.
 *
 * Worked example. A program in a cgroup of mesh 3 dials 10.0.0.7:80 and the mesh redirects to
 * 127.0.0.1:15001. Then
 *   shunt_cgroups[id of the cgroup]      = { .mesh = 3, .role = SHUNT_ROLE_MEMBER }
 *   shunt_meshes[3].tcp[SHUNT_V4]        = { ::ffff:127.0.0.1, 15001 }
 *   shunt_socks[the program's socket]    = { .dialled = { ::ffff:10.0.0.7, 80 },
 *                                            .actual = { ::ffff:127.0.0.1, 15001 }, … }
 * and, from the time the handshake ends at the client until it ends at the sidecar,
 *   shunt_handover[{ISN, ISN}]           = { .dialled = { ::ffff:10.0.0.7, 80 } }
 * which the sidecar's accepted socket then keeps as its own shunt_socks[…].dialled.
 */
#pragma once

#include <linux/types.h>

/* Raised whenever the layout or the meaning of anything in this file changes. */
#define SHUNT_ABI_VERSION 1

/* Limits. Each stands in the documents and tests under this name. */
#define SHUNT_MESHES_MAX    64			   /* meshes in one configuration */
#define SHUNT_MESH_SLOTS    (3 * SHUNT_MESHES_MAX) /* a reload fills a third that is not in use */
#define SHUNT_CGROUP_DEPTH  32 /* ancestors looked at for a cgroup without an entry */
#define SHUNT_RESOLVERS_MAX 16 /* DNS servers told apart on one unconnected UDP socket */
#define SHUNT_PORT_WORDS    (65536 / 64)

enum shunt_family {
	SHUNT_V4,
	SHUNT_V6,
	SHUNT_FAMILIES,
};

struct shunt_endpoint {
	__be32 addr[4]; /* IPv6, or IPv4-mapped */
	__be16 port;	/* 0: there is none */
	__u16 pad;
};
_Static_assert(sizeof(struct shunt_endpoint) == 20, "ABI");

/* shunt_cgroups: cgroup id -> what it is enrolled as. Written by the agent. */
enum shunt_role {
	SHUNT_ROLE_NONE,    /* classified, and in no mesh */
	SHUNT_ROLE_MEMBER,  /* its programs are redirected */
	SHUNT_ROLE_SIDECAR, /* the proxy itself: never redirected, and told original destinations */
};

struct shunt_cgroup {
	__u32 mesh; /* slot in shunt_meshes; 0 if role is NONE */
	__u32 role; /* enum shunt_role */
};
_Static_assert(sizeof(struct shunt_cgroup) == 8, "ABI");

/* shunt_meshes: slot -> rules of one mesh. Written by the agent, before any cgroup names the slot.
 */
enum shunt_mesh_flags {
	SHUNT_MESH_DOWN_BYPASS = 1 << 0,    /* on_sidecar_down = bypass; else refuse */
	SHUNT_MESH_EXCLUDES_CIDRS = 1 << 1, /* there are entries of this mesh in shunt_cidrs … */
	SHUNT_MESH_INCLUDES_ALL = 1 << 2, /* … and none for inclusion: every address is included */
	SHUNT_MESH_OWNERS = 1 << 3,	  /* there are entries of this mesh in shunt_owners */
};

struct shunt_mesh {
	struct shunt_endpoint tcp[SHUNT_FAMILIES]; /* where TCP goes */
	struct shunt_endpoint dns[SHUNT_FAMILIES]; /* where port 53 goes */
	__u32 flags;				   /* enum shunt_mesh_flags */
	__u32 pad;
	__u64 excluded_ports[SHUNT_PORT_WORDS]; /* bit p % 64 of word p / 64, p in host byte order
						 */
	__u64 included_ports[SHUNT_PORT_WORDS];
};
_Static_assert(sizeof(struct shunt_mesh) == 4 * 20 + 8 + 2 * 8192, "ABI");

/* shunt_cidrs: longest-prefix match of addresses. Written by the agent. */
enum shunt_cidr_kind {
	SHUNT_CIDR_EXCLUDE,
	SHUNT_CIDR_INCLUDE,
};

struct shunt_cidr_key {
	__u32 prefix_len; /* in bits, from .scope on: 32 + the prefix in the 128-bit address */
	__be32 scope;	  /* SHUNT_CIDR_SCOPE(): always matched whole */
	__be32 addr[4];
};
_Static_assert(sizeof(struct shunt_cidr_key) == 24, "ABI");
#define SHUNT_CIDR_SCOPE(mesh, kind) (((mesh) << 1) | (kind)) /* host order; store it swapped */

/* shunt_owners: users and groups with a rule of their own. Written by the agent. */
enum shunt_owner_kind {
	SHUNT_OWNER_SIDECAR_UID,
	SHUNT_OWNER_SIDECAR_GID,
	SHUNT_OWNER_EXCLUDED_UID,
	SHUNT_OWNER_EXCLUDED_GID,
};

struct shunt_owner_key {
	__u32 mesh;
	__u32 kind; /* enum shunt_owner_kind */
	__u32 id;   /* as in the initial user namespace */
};
_Static_assert(sizeof(struct shunt_owner_key) == 12, "ABI");

/*
 * What became of a connect() or of an unconnected datagram: exactly one of these each.
 * X(name, explanation). Each gives the counters connect_NAME and sendmsg_NAME.
 */
#define SHUNT_OUTCOMES(X)                                                                  \
	X(redirected, "sent to the sidecar")                                               \
	X(not_enrolled, "its cgroup is in no mesh")                                        \
	X(unclassified, "the agent has not seen its cgroup yet")                           \
	X(sidecar, "the sidecar's own")                                                    \
	X(other_protocol, "neither TCP nor UDP")                                           \
	X(not_dns, "UDP, and not to port 53")                                              \
	X(already, "to the sidecar's own address, where Shunt sent the socket already")    \
	X(loopback, "to a loopback or unspecified address")                                \
	X(link_local, "to an IPv6 link-local address, which only its interface makes one") \
	X(excluded_cidr, "exclude_cidrs names its address")                                \
	X(excluded_port, "exclude_ports names its port")                                   \
	X(excluded_owner, "exclude_uids or exclude_gids names its user")                   \
	X(not_included, "include_cidrs or include_ports does not name it")                 \
	X(bound_device, "its socket is bound to a device")                                 \
	X(bound_loopback, "its socket is bound to a loopback address")                     \
	X(no_address, "the mesh has no redirect address of this family")                   \
	X(refused_sidecar_down, "nothing listens there; on_sidecar_down = refuse")         \
	X(bypassed_sidecar_down, "nothing listens there; on_sidecar_down = bypass")        \
	X(refused_no_memory, "no memory for the socket's state; on_sidecar_down = refuse") \
	X(bypassed_no_memory, "no memory for the socket's state; on_sidecar_down = bypass")

enum shunt_outcome {
#define X(name, text) SHUNT_OUTCOME_##name,
	SHUNT_OUTCOMES(X)
#undef X
		SHUNT_OUTCOME_MAX,
};

/* Other counters. X(name, explanation). */
#define SHUNT_COUNTERS(X)                                                                       \
	X(connect_seen, "connect() calls seen: the sum of all connect_ outcomes")               \
	X(sendmsg_seen, "unconnected datagrams seen: the sum of all sendmsg_ outcomes")         \
	X(dns_redirected, "connects and datagrams to port 53 (of the redirected)")              \
	X(dns_answered, "answers of the sidecar addressed to a numbered DNS server")            \
	X(dns_restored, "datagrams received whose sender was put right")                        \
	X(dns_resolver_shared,                                                                  \
	  "queries to one more DNS server whose answers cannot be told apart")                  \
	X(dns_resolver_dropped, "DNS servers forgotten because one socket asked too many")      \
	X(source_kept, "source address set to what the kernel would have chosen")               \
	X(source_unknown, "source address left to the kernel: it could not be foretold")        \
	X(getpeername_restored, "getpeername() calls answered with the dialled address")        \
	X(getsockname_restored, "getsockname() calls answered with the expected source")        \
	X(origdst_offered, "connections whose destination was left for the sidecar to pick up") \
	X(origdst_taken, "connections whose destination the sidecar's socket picked up")        \
	X(origdst_withdrawn, "connections that ended before the sidecar's socket picked it up") \
	X(origdst_full, "connections without original destination: shunt_handover is full")     \
	X(origdst_no_memory, "connections without original destination: no memory")             \
	X(origdst_answered, "SO_ORIGINAL_DST calls answered")                                   \
	X(origdst_unknown, "SO_ORIGINAL_DST calls about connections that Shunt did not redirect")

enum shunt_counter {
#define X(name, text) SHUNT_COUNTER_connect_##name,
	SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) SHUNT_COUNTER_sendmsg_##name,
		SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) SHUNT_COUNTER_##name,
			SHUNT_COUNTERS(X)
#undef X
				SHUNT_COUNTER_MAX,
};

/* shunt_socks: state that lives and dies with its socket. Written by the kernel half. */
enum shunt_sock_flags {
	SHUNT_SOCK_REDIRECTED = 1 << 0, /* dialled and actual differ; getpeername says dialled */
	SHUNT_SOCK_ACCEPTED = 1 << 1,	/* the sidecar's end: dialled is the original destination */
	SHUNT_SOCK_SOURCE = 1 << 2,	/* source is known */
	SHUNT_SOCK_BOUND = 1 << 3,	/* Shunt bound the socket to source, not the program */
	SHUNT_SOCK_OFFERED = 1 << 4,	/* there may be an entry in shunt_handover, under offered */
};

struct shunt_sock {
	struct shunt_endpoint dialled;
	struct shunt_endpoint actual;
	__be32 source[4]; /* what the kernel would have chosen without the redirect */
	__u16 mesh;	  /* slot in shunt_meshes */
	__u16 flags;	  /* enum shunt_sock_flags */
	__u32 offered[2]; /* key of its entry in shunt_handover */
	__u32 pad;
	__u64 redirected_at; /* CLOCK_MONOTONIC, in ns */
};
_Static_assert(sizeof(struct shunt_sock) == 80, "ABI");

/*
 * shunt_resolvers: the DNS servers that an unconnected UDP socket asked. Server 0 is asked from the
 * socket's own address. Server n > 0 is asked from the address SHUNT_TOKEN_V4 + n or SHUNT_TOKEN_V6
 * … SHUNT_TOKEN_V6_TAIL + n; the sidecar's answer goes to that address and is made to come from it,
 * and so says which server it speaks for.
 */
#define SHUNT_TOKEN_V4	    0x7f536800u /* 127.83.104.0, host byte order */
#define SHUNT_TOKEN_V6	    0x01000000u /* first word of 100::5368:0 (RFC 6666, discard-only) … */
#define SHUNT_TOKEN_V6_TAIL 0x53680000u /* … and the last; host byte order */
#define SHUNT_TOKEN_MASK    0xffffff00u

struct shunt_resolver_set {
	__u32 used; /* servers ever numbered; when all are taken those but the first are used again
		     */
	struct shunt_endpoint actual;			   /* the sidecar's DNS address */
	struct shunt_endpoint server[SHUNT_RESOLVERS_MAX]; /* what the program asked */
};

struct shunt_resolvers {
	struct shunt_resolver_set set[SHUNT_FAMILIES];
};
_Static_assert(sizeof(struct shunt_resolvers) == 2 * (24 + SHUNT_RESOLVERS_MAX * 20), "ABI");

/*
 * shunt_handover: {ISN of the client, ISN of the server}, each + 1 -> destination that the client
 * dialled. Put there when the client's end of the handshake is done, taken by the server's.
 */
struct shunt_handover_key {
	__u32 client; /* client's snd_nxt = server's rcv_nxt */
	__u32 server; /* client's rcv_nxt = server's snd_nxt */
};

struct shunt_handover {
	struct shunt_endpoint dialled;
	__u32 mesh;
};
_Static_assert(sizeof(struct shunt_handover) == 24, "ABI");
