/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Redirection by nftables, tried.
 * Reads from: a connection of its own.
 * Writes to: a network namespace of its own.
 */
#include "nft_try.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cgroup.h"
#include "nft_run.h"
#include "util/cleanup.h"

#ifndef SO_ORIGINAL_DST
#define SO_ORIGINAL_DST 80 /* linux/netfilter_ipv4.h, which does not go with netinet/in.h */
#endif

#define NFT_TRY_STACK	(512 << 10)
#define NFT_TRY_WAIT_MS 1000
#define NFT_TRY_END_MS	60000	   /* modules may have to be loaded */
#define NFT_TRY_PORT	80	   /* that nobody listens on in a namespace that was just made */
#define NFT_TRY_DIALLED 0x7f530001 /* 127.83.0.1 */

struct nft_try {
	int cgroup;
	enum nft_try_step step; /* the one that is under way */
	char error[256];
};

static void nft_try_note(struct nft_try *try, const char *error)
{
	snprintf(try->error, sizeof(try->error), "%s", error);
}

/* Remembers why, if it failed. */
static bool nft_try_did(struct nft_try *try, bool did)
{
	if (!did)
		nft_try_note(try, strerror(errno));
	return did;
}

static bool nft_try_enter_cgroup(const struct nft_try *try)
{
	_cleanup_close_ int fd = openat(try->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, "0", 1) == 1;
}

static bool nft_try_bring_up_loopback(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};

	return fd >= 0 && !ioctl(fd, SIOCSIFFLAGS, &request);
}

static int nft_try_listen(struct sockaddr_in *ret)
{
	struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(own);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&own, len) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)&own, &len)) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	*ret = own;
	return fd;
}

static bool nft_try_rules(struct nft_try *try, const struct sockaddr_in *listener)
{
	_cleanup_free_ char *commands = NULL, *error = NULL;
	int depth = cgroup_depth(try->cgroup), r;

	if (depth < 0) {
		nft_try_note(try, strerror(-depth));
		return false;
	}
	/* The path is looked up below /sys/fs/cgroup, wherever cgroup2 is mounted. */
	r = asprintf(&commands,
		     "table inet shunt {\n"
		     "chain output { type nat hook output priority -101;\n"
		     "socket cgroupv2 level %d \"../../../proc/self/fd/%d\""
		     " meta l4proto tcp redirect to :%u\n"
		     "}\n}\n",
		     depth, try->cgroup, ntohs(listener->sin_port));
	if (r < 0) {
		commands = NULL;
		nft_try_note(try, strerror(ENOMEM));
		return false;
	}
	if (!nft_run(commands, &error))
		return true;
	nft_try_note(try, error ?: strerror(ENOMEM));
	return false;
}

/* A connection that nobody could accept but for the rule. */
static int nft_try_connect(int listener)
{
	const struct sockaddr_in dialled = {
		.sin_family = AF_INET,
		.sin_port = htons(NFT_TRY_PORT),
		.sin_addr = {htonl(NFT_TRY_DIALLED)},
	};
	struct pollfd poll_fd = {.fd = listener, .events = POLLIN};
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* The client stays open: the process ends soon. */
	if (client < 0 || connect(client, (const struct sockaddr *)&dialled, sizeof(dialled)))
		return -1;
	if (poll(&poll_fd, 1, NFT_TRY_WAIT_MS) != 1) {
		errno = ETIMEDOUT;
		return -1;
	}
	return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static bool nft_try_original_destination(int server)
{
	struct sockaddr_in original;
	socklen_t len = sizeof(original);

	if (getsockopt(server, SOL_IP, SO_ORIGINAL_DST, &original, &len))
		return false;
	errno = EADDRNOTAVAIL;
	return original.sin_addr.s_addr == htonl(NFT_TRY_DIALLED) &&
	       original.sin_port == htons(NFT_TRY_PORT);
}

static int nft_try_main(void *arg)
{
	struct nft_try *try = arg;
	_cleanup_close_ int listener = -1, server = -1;
	struct sockaddr_in address;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!nft_try_did(try, nft_try_enter_cgroup(try) && nft_try_bring_up_loopback()))
		return 0;
	listener = nft_try_listen(&address);
	if (!nft_try_did(try, listener >= 0))
		return 0;
	try->step = NFT_TRY_RULES;
	if (!nft_try_rules(try, &address))
		return 0;
	try->step = NFT_TRY_REDIRECT;
	server = nft_try_connect(listener);
	if (!nft_try_did(try, server >= 0))
		return 0;
	try->step = NFT_TRY_CONNTRACK;
	if (!nft_try_did(try, nft_try_original_destination(server)))
		return 0;
	try->step = NFT_TRY_PASSED;
	return 0;
}

/* In a process of its own, that can enter a cgroup and leave its namespace behind. */
static void nft_try_spawn(struct nft_try *try, char *stack)
{
	_cleanup_close_ int process = -1;
	struct pollfd poll_fd;
	pid_t pid;

	nft_try_note(try, strerror(ETIMEDOUT)); /* if it comes no further */
	pid = clone(nft_try_main, stack + NFT_TRY_STACK, CLONE_NEWNET | CLONE_PIDFD | SIGCHLD, try,
		    &process);
	if (!nft_try_did(try, pid >= 0))
		return;
	poll_fd = (struct pollfd){.fd = process, .events = POLLIN};
	if (poll(&poll_fd, 1, NFT_TRY_END_MS) != 1)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

enum nft_try_step nft_try(int cgroup, char **ret_error)
{
	enum nft_try_step step = NFT_TRY_NETNS;
	struct nft_try *try =
		mmap(NULL, sizeof(*try), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *stack = mmap(NULL, NFT_TRY_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	*ret_error = NULL;
	if (try != MAP_FAILED && stack != MAP_FAILED) {
		try->cgroup = cgroup;
		nft_try_spawn(try, stack);
		step = try->step;
		if (step != NFT_TRY_PASSED)
			*ret_error = strdup(try->error);
	}
	if (stack != MAP_FAILED)
		munmap(stack, NFT_TRY_STACK);
	if (try != MAP_FAILED)
		munmap(try, sizeof(*try));
	return step;
}
