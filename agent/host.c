/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the host allows, against what the configuration may come to need.
 * Reads from: resource limits, /proc/sys/fs/inotify, memory.max of the agent's cgroups.
 * Writes to: its own limit of open files; the log.
 */
#include "host.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "log.h"
#include "nft.h"
#include "process.h"
#include "shunt/abi.h"
#include "util/cleanup.h"

/* Programs and maps twice, for the self-test, and clients of the control socket; and, to be had if
 * that is allowed, a namespace for each table of the rung `nftables`. */
#define HOST_FILES	512
#define HOST_FILES_MORE (HOST_FILES + NFT_NAMESPACES_MAX)

/* Bytes, as measured; OPERATIONS.md has them. */
#define HOST_FIXED  (8 << 20)
#define HOST_PAIR   (32 + 512)
#define HOST_FLOW   (64 + 2048)
#define HOST_CGROUP (16 + 72)
#define HOST_RULE   (96 + SHUNT_MESH_SETS * 128)

#define HOST_WATCHES "/proc/sys/fs/inotify/max_user_watches"

uint64_t host_memory_needed(const struct config *config)
{
	uint64_t flows = config->limit_flows;

	return HOST_FIXED + (flows + SHUNT_PAIRS_SPARE) * HOST_PAIR + flows * HOST_FLOW +
	       (uint64_t)config->limit_cgroups * HOST_CGROUP +
	       (uint64_t)config->limit_rules * HOST_RULE;
}

static void host_check_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur >= HOST_FILES_MORE)
		return;
	files.rlim_cur = files.rlim_max < HOST_FILES_MORE ? files.rlim_max : HOST_FILES_MORE;
	if (setrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur < HOST_FILES)
		log_warning("too few open files are allowed: nofile=%" PRIu64
			    " needed=%d; raise LimitNOFILE=",
			    (uint64_t)files.rlim_cur, HOST_FILES);
}

/* "max", or what is not there, is no limit. */
static uint64_t host_read(const char *path)
{
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	uint64_t value;

	return file && fscanf(file, "%" SCNu64, &value) == 1 ? value : UINT64_MAX;
}

static void host_check_watches(const struct config *config)
{
	uint64_t watches = host_read(HOST_WATCHES);

	if (watches < config->limit_cgroups)
		log_warning("fewer inotify watches than cgroups are allowed: "
			    "fs.inotify.max_user_watches=%" PRIu64
			    " limits.cgroups=%u; cgroups beyond would be found late",
			    watches, config->limit_cgroups);
}

/* The least memory.max of the cgroup at @path and those above it. */
static uint64_t host_cgroup_memory(const char *cgroup_root, char *path)
{
	uint64_t least = UINT64_MAX;

	for (char *end = path + strlen(path); end; end = strrchr(path, '/')) {
		_cleanup_free_ char *file = NULL;
		uint64_t value;

		*end = '\0';
		if (asprintf(&file, "%s%s/memory.max", cgroup_root, path) < 0) {
			file = NULL;
			break;
		}
		value = host_read(file);
		least = value < least ? value : least;
	}
	return least;
}

/* The kernel charges maps to the cgroup of the process that made them. */
static void host_check_memory(const struct config *config, const char *cgroup_root)
{
	uint64_t needed = host_memory_needed(config), allowed = UINT64_MAX;
	struct process own = {};
	struct sysinfo host;

	if (!process_read(getpid(), &own))
		allowed = host_cgroup_memory(cgroup_root, own.cgroup);
	free(own.cgroup);
	if (!sysinfo(&host) && (uint64_t)host.totalram * host.mem_unit < allowed)
		allowed = (uint64_t)host.totalram * host.mem_unit;
	if (allowed < needed)
		log_warning("full maps would not fit into memory: allowed=%" PRIu64
			    " needed=%" PRIu64 "; raise MemoryMax= or lower [limits]",
			    allowed, needed);
}

void host_check(const struct config *config, const char *cgroup_root)
{
	host_check_files();
	host_check_watches(config);
	host_check_memory(config, cgroup_root);
}
