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
 * and, from the time the handshake ends at the client until both ends are closed,
 *   shunt_pairs[{ISN + 1, ISN + 1}]      = { .dialled = { ::ffff:10.0.0.7, 80 }, … }
 * where the sidecar's accepted socket finds what SO_ORIGINAL_DST asks for, and where each end finds
 * the other when bytes are spliced.
 */
#pragma once

#include <linux/types.h>

/* Raised whenever the layout or the meaning of anything in this file changes. */
#define SHUNT_ABI_VERSION 7

/*
 * What no version changes, so that each can take over from each, later or earlier: what stands in
 * agent/loader_pins.h of names and places, and
 *   - hooks whose name begins with "connect" or "sendmsg" redirect; the others only answer;
 *   - shunt_control is an array that can be mapped, and begins with .splice; while that is 0 no
 *     connection becomes known that was not redirected, and none enters the sockhash;
 *   - since version 5 .succeeded follows; while that is not 0 no connection becomes known at all: a
 *     version that shares shunt_socks knows each;
 *   - shunt_pairs is a hash map, and empty when no connection needs the programs any more;
 *   - shunt_cgroups is a hash map, and a cgroup that is not in it is not redirected;
 *   - shunt_socks and shunt_resolvers are shared by versions whose values have the same layout: who
 *     gives one of their fields another meaning gives it another name.
 */

/* Limits. Each stands in the documents and tests under this name. */
#define SHUNT_MESHES_MAX    64 /* meshes in one configuration */
#define SHUNT_MESH_SETS	    3  /* a reload fills one that is not in use */
#define SHUNT_MESH_SLOTS    (SHUNT_MESH_SETS * SHUNT_MESHES_MAX)
#define SHUNT_STATS_ROWS    128 /* meshes counted by name, with those before */
#define SHUNT_CGROUP_DEPTH  32	/* ancestors looked at for a cgroup without an entry */
#define SHUNT_RESOLVERS_MAX 16	/* DNS servers told apart on one unconnected UDP socket */
#define SHUNT_PORT_WORDS    (65536 / 64)
#define SHUNT_PAIRS_SPARE   262144 /* pairs beside those in limits.flows: connections not spliced */
#define SHUNT_SYNS	    16384  /* SYNs remembered until the handshake is over */
#define SHUNT_LISTENERS	    16384  /* listeners whose program is known */
#define SHUNT_PROGRAMS_MAX  16384  /* executables classified */
#define SHUNT_EVENTS_SIZE   262144 /* bytes in the ring buffer for the agent's own work … */
#define SHUNT_WATCH_SIZE    1048576 /* … and in the one for who watches */
#define SHUNT_NOTICES_RATE  1000    /* events of one kind told on one CPU, in a second … */
#define SHUNT_NOTICES_BURST 1000    /* … and at once */

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

/* shunt_meshes: slot -> rules of a mesh. Written by the agent, before a cgroup names the slot. */
enum shunt_mesh_flags {
	SHUNT_MESH_DOWN_BYPASS = 1 << 0,    /* on_sidecar_down = bypass; else refuse */
	SHUNT_MESH_EXCLUDES_CIDRS = 1 << 1, /* there are entries of this mesh in shunt_cidrs … */
	SHUNT_MESH_INCLUDES_ALL = 1 << 2, /* … and none for inclusion: every address is included */
	SHUNT_MESH_OWNERS = 1 << 3,	  /* there are entries of this mesh in shunt_owners */
};

/* Which connections of the mesh are spliced; each holds the ones before it. */
enum shunt_scope {
	SHUNT_SCOPE_OFF,
	SHUNT_SCOPE_SIDECAR, /* one end is a sidecar */
	SHUNT_SCOPE_NETNS,   /* both ends are in one network namespace */
	SHUNT_SCOPE_NODE,    /* both ends are on this host */
};

struct shunt_mesh {
	struct shunt_endpoint tcp[SHUNT_FAMILIES]; /* where TCP goes */
	struct shunt_endpoint dns[SHUNT_FAMILIES]; /* where port 53 goes */
	__u32 flags;				   /* enum shunt_mesh_flags */
	__u16 splice;				   /* enum shunt_scope */
	__u16 row;				   /* in shunt_stats */
	__u64 excluded_ports[SHUNT_PORT_WORDS]; /* port p, in host order: bit p % 64 of [p / 64] */
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
	X(already, "to the sidecar's own address, or to whom the socket is connected")     \
	X(loopback, "to a loopback or unspecified address")                                \
	X(link_local, "to an IPv6 link-local address, which only its interface makes one") \
	X(excluded_cidr, "exclude_cidrs names its address")                                \
	X(excluded_port, "exclude_ports names its port")                                   \
	X(excluded_owner, "exclude_uids or exclude_gids names its user")                   \
	X(not_included, "include_cidrs or include_ports does not name it")                 \
	X(bound_device, "its socket is bound to a device, or names one for datagrams")     \
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
#define SHUNT_COUNTERS(X)                                                                         \
	X(connect_seen, "connect() calls seen: the sum of all connect_ outcomes")                 \
	X(sendmsg_seen, "unconnected datagrams seen: the sum of all sendmsg_ outcomes")           \
	X(dns_redirected, "connects and datagrams to port 53 (of the redirected)")                \
	X(dns_answered, "answers of the sidecar addressed to a numbered DNS server")              \
	X(dns_restored, "datagrams received whose sender was put right")                          \
	X(dns_resolver_shared,                                                                    \
	  "queries to one more DNS server whose answers cannot be told apart")                    \
	X(dns_resolver_dropped, "DNS servers forgotten because one socket asked too many")        \
	X(source_kept, "source address set to what the kernel would have chosen")                 \
	X(source_unknown, "source address left to the kernel: it could not be foretold")          \
	X(getpeername_restored, "getpeername() calls answered with the dialled address")          \
	X(getsockname_restored, "getsockname() calls answered with the expected source")          \
	X(origdst_offered, "connections whose destination was left for the sidecar to pick up")   \
	X(origdst_taken, "connections whose destination the sidecar's socket picked up")          \
	X(origdst_withdrawn, "connections that ended before the sidecar's socket picked it up")   \
	X(origdst_full, "connections without original destination: shunt_pairs is full")          \
	X(origdst_answered, "SO_ORIGINAL_DST calls answered")                                     \
	X(origdst_unknown, "SO_ORIGINAL_DST calls about connections that Shunt did not redirect") \
	X(pairs_opened, "connections with both ends on this host that Shunt keeps in mind")       \
	X(pairs_closed, "connections kept in mind that are over: the sum of the closed_ reasons") \
	X(splice_paired, "connections whose two ends were brought together for splicing")         \
	X(splice_adopted, "connections taken in, or in again, in mid-stream (of the paired)")     \
	X(splice_bytes, "bytes spliced")                                                          \
	X(splice_messages, "messages spliced")                                                    \
	X(splice_plain_bytes, "bytes that went by TCP between paired ends")                       \
	X(splice_plain_messages, "messages that went by TCP between paired ends")                 \
	X(splice_cut_over, "directions that began to be spliced")                                 \
	X(splice_left, "directions that went back to TCP with nothing unread")                    \
	X(splice_spilled, "directions that went back to TCP because the reader was behind")       \
	X(splice_rejoined, "directions spliced again after they had spilled or left")             \
	X(splice_kicked, "readers told of bytes that nothing had announced")                      \
	X(splice_drained, "readers that came to the end of what was spliced before a spill")      \
	X(splice_taken_out, "sockets taken out of the sockhash before their end")                 \
	X(splice_events_lost, "events that found the ring buffer full")                           \
	X(events_told, "events told to who watches (shuntctl events)")                            \
	X(events_limited, "events not told: there were too many of their kind at a time")         \
	X(events_dropped, "events not told: the ring buffer of who watches was full")             \
	X(splice_no_peer, "messages that found their reader closed, and were left to TCP")        \
	X(cgroups_late, "cgroups where programs ran before any was attached, and dialled unseen")

/*
 * Why a connection is not spliced (any more). X(name, explanation). Each gives the counters
 * splice_plain_NAME, of connections that were never spliced or ceased to be, and closed_NAME, of
 * connections that are over and of which this was the last word: exactly one of these each.
 */
#define SHUNT_REASONS(X)                                                                    \
	X(none, "it is spliced, or will be from its next message on")                       \
	X(off, "splice = off")                                                              \
	X(scope, "outside the scope that splice = … gives its mesh")                        \
	X(remote, "no listener of this host saw its SYN: the other end is elsewhere")       \
	X(kernel, "this kernel cannot splice safely; the agent's log says what is missing") \
	X(no_agent, "no agent was alive when it began")                                     \
	X(full, "limits.flows is reached")                                                  \
	X(refused, "the kernel does not take such a socket (MPTCP, for one)")               \
	X(early, "bytes were on their way before its two ends had found each other")        \
	X(blocking, "one of its sockets is in blocking mode")                               \
	X(unknown_program, "nobody has looked yet at the program that listens")             \
	X(never, "splice_never names one of its programs")                                  \
	X(splices, "one of its programs reads by splice(2)")                                \
	X(zerocopy, "SO_ZEROCOPY is set, or it is mapped: TCP_ZEROCOPY_RECEIVE")            \
	X(lowat, "SO_RCVLOWAT is above 1: poll would not heed it")                          \
	X(ulp, "TCP_ULP is set (kTLS)")                                                     \
	X(urgent, "urgent data was sent, or SO_OOBINLINE is set")                           \
	X(stamps, "timestamps, TCP_INQ or SO_PEEK_OFF, which spliced bytes do not have")    \
	X(repair, "TCP_REPAIR is on")                                                       \
	X(closing, "it is being closed")                                                    \
	X(stream, "it streams: TCP coalesces, and is faster")                               \
	X(big, "its messages are larger than what its reader may have queued")              \
	X(behind, "a message came before the ones sent by TCP had been read")               \
	X(spilled, "its reader fell behind")                                                \
	X(disabled, "splicing was switched off while it ran")

enum shunt_reason {
#define X(name, text) SHUNT_REASON_##name,
	SHUNT_REASONS(X)
#undef X
		SHUNT_REASON_MAX,
};

enum shunt_counter {
#define X(name, text) SHUNT_COUNTER_connect_##name,
	SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) SHUNT_COUNTER_sendmsg_##name,
		SHUNT_OUTCOMES(X)
#undef X
#define X(name, text) SHUNT_COUNTER_splice_plain_##name,
			SHUNT_REASONS(X)
#undef X
#define X(name, text) SHUNT_COUNTER_closed_##name,
				SHUNT_REASONS(X)
#undef X
#define X(name, text) SHUNT_COUNTER_##name,
					SHUNT_COUNTERS(X)
#undef X
						SHUNT_COUNTER_MAX,
};

/*
 * shunt_stats: what is counted by mesh, a row each, per CPU. Row 0 is of what belongs to no mesh,
 * or to one for which there was no row left. A row belongs to one name for as long as the maps are
 * there, whichever slots its mesh has meanwhile, so that what it counts never goes back.
 *
 * Of a histogram a bucket has what is at most its bound, and more than the bound before; bounds
 * double from one to the next, and the last has none. See histogram.bpf.h.
 */
#define SHUNT_LATENCY_SHIFT   14 /* bound of the first: 2^14 ns */
#define SHUNT_LATENCY_BUCKETS 21 /* … of the last but one: 2^33 ns, 8.6 s */
#define SHUNT_SIZE_SHIFT      6	 /* 64 bytes … */
#define SHUNT_SIZE_BUCKETS    16 /* … to 1 MiB */

struct shunt_stats {
	__u64 sizes[SHUNT_SIZE_BUCKETS]; /* of messages that were spliced */
	__u64 spliced_bytes;
	__u64 plain_bytes; /* by TCP, between paired ends */
	__u64 plain_messages;
	__u64 connect[SHUNT_OUTCOME_MAX];
	__u64 sendmsg[SHUNT_OUTCOME_MAX];
	__u64 plain[SHUNT_REASON_MAX];	      /* connections, by why they are not spliced */
	__u64 latency[SHUNT_LATENCY_BUCKETS]; /* from a redirect to the end of its handshake */
	__u64 latency_ns;
};

/* shunt_rows: row -> name of its mesh, "" if it has none yet. Written by the agent. */
struct shunt_row {
	char mesh[64];
};

/* shunt_socks: state that lives and dies with its socket. Written by the kernel half. */
enum shunt_sock_flags {
	SHUNT_SOCK_REDIRECTED = 1 << 0, /* dialled and actual differ; getpeername says dialled */
	SHUNT_SOCK_ACCEPTED = 1 << 1,	/* the sidecar's end of a connection that was reset */
	SHUNT_SOCK_SOURCE = 1 << 2,	/* source is known */
	SHUNT_SOCK_BOUND = 1 << 3,	/* Shunt bound the socket to source, not the program */
};

struct shunt_sock {
	struct shunt_endpoint dialled;
	struct shunt_endpoint actual;
	__be32 source[4]; /* what the kernel would have chosen without the redirect */
	__u16 mesh;	  /* slot in shunt_meshes */
	__u16 flags;	  /* enum shunt_sock_flags */
	__u16 row;	  /* in shunt_stats */
	__u16 pad;
	__u32 pid;	     /* of the process that dialled */
	__u32 attempt;	     /* which connect() of the socket it was: connect_attempt() */
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
	__u32 used; /* servers ever numbered; beyond the last those but the first are used again */
	struct shunt_endpoint actual;			   /* the sidecar's DNS address */
	struct shunt_endpoint server[SHUNT_RESOLVERS_MAX]; /* what the program asked */
};

struct shunt_resolvers {
	struct shunt_resolver_set set[SHUNT_FAMILIES];
};
_Static_assert(sizeof(struct shunt_resolvers) == 2 * (24 + SHUNT_RESOLVERS_MAX * 20), "ABI");

/*
 * shunt_pairs: one TCP connection with both ends on this host, by the handshake's own numbers: no
 * addresses, since every network namespace has 127.0.0.1 and NAT makes the ends disagree. Each end
 * can tell the numbers from its own socket at any time (tcp.bpf.h). The client puts the entry
 * there when its end of the handshake is done; it goes when both ends are closed, or the client
 * alone if the server never joined.
 */
struct shunt_pair_key {
	__u32 client; /* the client's initial sequence number + 1 */
	__u32 server;
};

enum shunt_end_index {
	SHUNT_CLIENT,
	SHUNT_SERVER,
	SHUNT_ENDS,
};

/* shunt_ends, the sockhash: {pair, enum shunt_end_index} -> socket. */
struct shunt_end_key {
	struct shunt_pair_key pair;
	__u32 end;
};

/* How the bytes that one end writes go. Only what docs/SPLICING.md lists leads from one to the
 * other. */
enum shunt_state {
	SHUNT_STATE_PLAIN,   /* by TCP; the sockets are not in the sockhash */
	SHUNT_STATE_READY,   /* by TCP until all of them are read, which may be at once */
	SHUNT_STATE_SPLICED, /* past TCP */
	SHUNT_STATE_SPILLED, /* by TCP, and the reader may have spliced bytes unread before them */
	SHUNT_STATE_LEFT,    /* by TCP; nothing spliced is unread or under way */
	SHUNT_STATE_MAX,
};

/* One end, and the direction in which it writes. Its own sends write here, under its socket's lock;
 * what others may change is changed atomically. */
struct shunt_end {
	__u64 sock;	/* kernel address; 0: not joined. A number to compare with, and to read
			   through: the memory of TCP sockets is type-stable */
	__u64 cgroup;	/* id */
	__u64 program;	/* the executable, as a key of shunt_programs; 0: not known */
	__u32 pid;	/* of the process that wrote last; 0: none yet */
	__u32 netns;	/* inode number of its network namespace */
	__u32 state;	/* enum shunt_state */
	__u32 seen_out; /* segments with data that TCP had sent when the walk passed by */
	__u64 spliced_bytes;
	__u64 spliced_messages;
	__u64 plain_bytes; /* while in the sockhash; TCP knows the others */
	__u64 plain_messages;
	__u32 cut_overs;
	__u32 leaves;
	__u32 spills;
	__u32 rejoins;
	__u32 kicks;
	__u32 run_messages; /* since the other end wrote last */
	__u32 checked;	    /* generation of shunt_control for which it may be spliced */
	__u32 delta_out;    /* .seen_out less what it was when the walk passed by before */
	__u32 keep_idle;    /* what the program has set, while .flags says PROBED; in s */
	__u16 keep_interval;
	__u16 keep_count;
	__u32 backlog; /* messages spliced since its peer's queue was seen empty */
	__u32 walked;  /* by the walk with this number; and more, see walk.bpf.c */
	__u64 run_bytes;
	__u64 run_began; /* CLOCK_MONOTONIC, in ns */
};

enum shunt_pair_flags {
	SHUNT_PAIR_REDIRECTED = 1 << 0, /* dialled is what the program asked for */
	SHUNT_PAIR_JOINED = 1 << 1,	/* the server's end is known */
	SHUNT_PAIR_CLOSED = 1 << 2,	/* << end: that end is closed */
	SHUNT_PAIR_MEMBER = 1 << 4,	/* << end: that end is in the sockhash */
	SHUNT_PAIR_LEAVE = 1 << 6,	/* back to TCP at the next empty moment, for .reason */
	SHUNT_PAIR_ADOPT = 1 << 7,	/* both ends are to be let in (again) */
	SHUNT_PAIR_KICK = 1 << 8,	/* << end: that reader is owed an edge */
	SHUNT_PAIR_PROBED = 1 << 10,	/* << end: Shunt has switched keep-alive on for it */
	SHUNT_PAIR_SIDECAR = 1 << 12,	/* one end is a sidecar, whatever its cgroup says */
	SHUNT_PAIR_SETTLES = 1 << 13,	/* << end: its reader looks whether it can be LEFT */
	SHUNT_PAIR_ASLEEP = 1 << 15,	/* << end: tells the agent when it sends again */
	SHUNT_PAIR_LOOKS = 1 << 17,	/* << end: its send() looks at its reader's lock */
	SHUNT_PAIR_HEARS = 1 << 19,	/* << end: Shunt has had its socket tell what it sends */
};

struct shunt_pair {
	struct shunt_endpoint dialled;
	struct shunt_endpoint actual; /* where the client's end is connected to */
	struct shunt_endpoint source; /* the client's own address, as its socket has it */
	__u32 flags;		      /* enum shunt_pair_flags */
	__u32 reason;		      /* enum shunt_reason */
	__u16 mesh;		      /* slot in shunt_meshes */
	__u16 row;		      /* in shunt_stats */
	__u32 backoff;		      /* walks to pass before it may be adopted again */
	__u32 adoptions;
	__u32 dialler;	 /* the process that dialled; 0: not known */
	__u64 opened_at; /* connect(), CLOCK_MONOTONIC, in ns; 0: not known */
	__u64 established_at;
	__u64 listener; /* key of shunt_listeners, while it is not known how it accepts; else 0 */
	struct shunt_end end[SHUNT_ENDS];
};
_Static_assert(sizeof(struct shunt_end) == 136, "ABI");
_Static_assert(sizeof(struct shunt_pair) == 112 + 2 * 136, "ABI");

/* shunt_syns: numbers of a handshake -> the listener that answered it. An entry that is pushed out
 * costs its connection the splicing, nothing else. */
struct shunt_syn {
	__u64 cgroup;
	__u64 program;	/* key of shunt_programs; 0: not known */
	__u64 listener; /* key of shunt_listeners */
	__u32 netns;
	__u16 blocking; /* the listener is in blocking mode */
	__u16 accepts;	/* enum shunt_accepts */
};

/* The mode that a listener's sockets have once they are accepted: accept() does not hand its own
 * on. A listener's first connection shows it. */
enum shunt_accepts {
	SHUNT_ACCEPTS_UNKNOWN,
	SHUNT_ACCEPTS_NONBLOCKING,
	SHUNT_ACCEPTS_BLOCKING,
};

/* shunt_listeners: socket cookie of a listener -> who called listen(). An entry that is pushed out
 * is found again by the scan. Also, until its handshake is over, of a socket that dials; and
 * SHUNT_LISTENER_PROCESS() -> the program of a process whose connections are redirected. */
#define SHUNT_LISTENER_PROCESS(pid) (1ull << 63 | (pid)) /* no cookie is as large */
struct shunt_listener {
	__u64 program;
	__u32 pid;
	__u32 accepts; /* enum shunt_accepts */
};

/* shunt_halves: the end of an older connection that the walk passed by first. */
struct shunt_half {
	__u64 sock;
	__u64 cgroup;
	__u64 program;
	__u32 netns;
	__u32 pid;
	__u32 end;    /* enum shunt_end_index */
	__u32 walked; /* by the walk with this number; and more, see walk.bpf.c */
};

/* Numbers of walks are multiples of it. */
#define SHUNT_WALK_NUMBERS 4

/* What the walk says to who reads it, of a socket that is not done with: struct shunt_stop. */
enum shunt_walk {
	SHUNT_WALK_VISIT, /* now: SHUNT_VISIT_LOOK */
	SHUNT_WALK_ADOPT, /* now, with the other end of its pair: it may be let in */
	SHUNT_WALK_JOIN,  /* now, with the other end: they are no pair yet */
	SHUNT_WALK_AGAIN, /* soon: it is not accepted yet */
	SHUNT_WALK_SLEEP, /* now: SHUNT_VISIT_SLEEP */
	SHUNT_WALK_LATER, /* it may want to be let in one day, by what it has sent */
	/* Its connection is over, with bytes of TCP unread, and: */
	SHUNT_WALK_BEHIND,   /* later: it is in a sockhash, with spliced ones unread before them */
	SHUNT_WALK_STRANDED, /* now: it is in a sockhash, and has read those */
	SHUNT_WALK_KICK,     /* now: it is in none, but may have been */
	SHUNT_WALK_MAX,
};

struct shunt_stop {
	struct shunt_end_key end;
	__u32 what;   /* enum shunt_walk */
	__u32 pid;    /* of a process that has it open … */
	__u32 thread; /* … in this thread: the first of them may have ended … */
	__u32 fd;     /* … under this number */
	__u32 held;   /* a system call has its lock for longer than one that goes on */
	__u64 cgroup;
};
_Static_assert(sizeof(struct shunt_stop) == 40, "ABI");

/*
 * A visit: setsockopt(fd, SHUNT_VISIT_LEVEL, enum shunt_visit, struct shunt_end_key) by the agent,
 * while bpf/visit.bpf.c is attached to the socket's cgroup. No protocol has this level: without
 * the program it is refused. The answer is in visit_answer.
 */
#define SHUNT_VISIT_LEVEL 0x53680000
enum shunt_visit {
	SHUNT_VISIT_LOOK,      /* what is there to do? */
	SHUNT_VISIT_OUT,       /* it was taken out of the sockhash */
	SHUNT_VISIT_ASK,       /* may it be let in? */
	SHUNT_VISIT_IN,	       /* it was let in … */
	SHUNT_VISIT_IN_BOTH,   /* … and the other end, which has been told */
	SHUNT_VISIT_BACK,      /* it is out: one of them could not be let in */
	SHUNT_VISIT_JOIN,      /* tell when you are closed … */
	SHUNT_VISIT_JOIN_BOTH, /* … as the other end does: you are a pair */
	SHUNT_VISIT_SLEEP,     /* tell when you send again */
};

enum shunt_visit_answer {
	SHUNT_VISIT_NONE, /* it is not the socket, or not in a state for it */
	SHUNT_VISIT_DONE,
	SHUNT_VISIT_TAKE_OUT,
	SHUNT_VISIT_LET_IN,
	SHUNT_VISIT_COME_BACK, /* soon: it cannot be finished now */
	SHUNT_VISIT_WAITS,     /* for a program to read, which may be long */
};

/* shunt_programs: executable -> what is known of it. Written by the agent. */
#define SHUNT_PROGRAM_KEY(device, inode) ((__u64)(device) << 40 ^ (inode))
enum shunt_program {
	SHUNT_PROGRAM_FINE = 1,
	SHUNT_PROGRAM_SUSPECT, /* it might read by splice(2) once it streams */
	SHUNT_PROGRAM_SPLICES, /* it reads by splice(2) */
	SHUNT_PROGRAM_NEVER,   /* splice_never names it */
};

/* shunt_control: one entry. Written by the agent, but for what is said here. */
struct shunt_control {
	__u32 splice;	   /* some mesh splices, and the kernel can; first in every version … */
	__u32 succeeded;   /* … and this second: another version looks after what is new */
	__u32 queue_max;   /* limits.splice_queue, in bytes */
	__u32 reason;	   /* enum shunt_reason, if .splice is not set */
	__u64 agent;	   /* kernel address of its task_struct, which the scan notes, … */
	__u64 agent_start; /* … and start_boottime, by which the address is known to be still its */
	__u32 spilled;	   /* directions spilled now; the kernel half counts them */
	__u32 generation; /* of meshes, cgroups and programs; never 0 */
	__u32 discover;	  /* the walk looks for what only an agent before may have known of */
	__u32 announce;	  /* the scan is to note who reads it as the agent */
	__u32 watch;	  /* somebody listens to shunt_watch */
	__u32 opened;	  /* sockops has told OPENED; the agent clears it when it looks */
};

/* shunt_events: what the agent is asked to do, through a ring buffer. */
enum shunt_event_kind {
	SHUNT_EVENT_PROGRAM,  /* look at this executable: .program, .pid */
	SHUNT_EVENT_LISTENER, /* nobody knows whose a listener is: scan */
	SHUNT_EVENT_WALK,     /* pass by the sockets of .pid: one is to be taken out or kicked */
	SHUNT_EVENT_SPILLED,  /* watch readers until .spilled of shunt_control is 0 again: .pid */
	SHUNT_EVENT_LEFT,     /* a pair left, and may alternate again one day: .pid */
	SHUNT_EVENT_STRANDED, /* over, with spliced bytes before TCP's, or yet to come: .pid */
	SHUNT_EVENT_AWAKE,    /* an end that was ASLEEP sends */
	SHUNT_EVENT_OPENED,   /* pairs begin that may be let in one day */
};

struct shunt_event {
	__u32 kind; /* enum shunt_event_kind */
	__u32 pid;  /* of a process that has used the socket, or 0 */
	__u64 program;
};

/*
 * shunt_watch: what happens to connections, told through a ring buffer while somebody listens; the
 * records are struct shunt_notice (flow.h). X(name, explanation).
 */
#define SHUNT_NOTICES(X)                                                                  \
	X(opened, "a connection that Shunt has redirected or looks after is established") \
	X(paired, "its two ends were brought together: it is spliced from now on")        \
	X(left, "it goes back to TCP")                                                    \
	X(spilled, "one direction goes back to TCP because its reader is behind")         \
	X(rejoined, "a direction that had spilled or left is spliced again")              \
	X(closed, "both its ends are closed")                                             \
	X(refused, "a connect() or datagram was refused: see its outcome")                \
	X(error, "one was not treated as the configuration asks: see its outcome or reason")

enum shunt_notice_kind {
#define X(name, text) SHUNT_NOTICE_##name,
	SHUNT_NOTICES(X)
#undef X
		SHUNT_NOTICE_MAX,
};

/* shunt_paces: kind -> how many of it may be told, per CPU. Written by the kernel half. */
struct shunt_pace {
	__u64 due;  /* CLOCK_MONOTONIC, in ns: when those told so far would be told at the rate */
	__u32 lost; /* not told since the last one that was */
	__u32 pad;
};
_Static_assert(sizeof(struct shunt_pace) == 16, "ABI");
