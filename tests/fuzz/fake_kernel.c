/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The agent's lower end for fuzz targets.
 * Reads from: an input.
 * Writes to: a temporary directory, in place of the cgroup tree.
 */
#include "fake_kernel.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bpf/libbpf.h>

#include "fuzz.h"
#include "log.h"
#include "netns.h"
#include "process.h"
#include "program.h"
#include "util/cleanup.h"

struct fake_kernel fake_kernel;

static struct maps maps = {.cgroups_max = 64, .control = -1};

/* clang-format off */
/* The maps take everything, and hold nothing. */
int __wrap_maps_put_cgroup(const struct maps *m, uint64_t id, const struct shunt_cgroup *entry);
int __wrap_maps_del_cgroup(const struct maps *m, uint64_t id);
int __wrap_maps_del_end(const struct maps *m, const struct shunt_end_key *end);
int __wrap_maps_put_end(const struct maps *m, const struct shunt_end_key *end, int fd);
int __wrap_maps_read(int map, struct table *table);
int __wrap_maps_write(int map, const struct table *table);
int __wrap_maps_remove(int map, const struct table *table);
int __wrap_maps_read_counters(const struct maps *m, uint64_t ret[SHUNT_COUNTER_MAX]);
bool __wrap_maps_has_program(const struct maps *m, uint64_t program);
int __wrap_maps_put_program(const struct maps *m, uint64_t program, enum shunt_program what);
int __wrap_maps_forget_programs(const struct maps *m);
/* The loader attaches nothing. */
const struct maps *__wrap_loader_maps(const struct loader *loader);
int __wrap_loader_attach(struct loader *loader, const char *path, uint64_t cgroup, unsigned int hooks);
int __wrap_loader_detach(struct loader *loader, uint64_t cgroup, unsigned int hooks);
int __wrap_loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup), void *user);
size_t __wrap_loader_drains(const struct loader *loader);
void __wrap_loader_each_link(struct loader *loader, void (*visit)(void *user, uint64_t cgroup, const char *program), void *user);
int __wrap_loader_open_flows(const struct loader *loader);
int __wrap_loader_open_users(const struct loader *loader);
const struct loader_visit *__wrap_loader_visits(const struct loader *loader);
int __wrap_loader_open_scan(const struct loader *loader, bool everything);
int __wrap_loader_visit_attach(const struct loader_visit *visit, int cgroup);
int __wrap_loader_visit_walk(const struct loader_visit *visit, uint32_t pid, bool everybody);
int __wrap_loader_watch_reads(struct loader *loader);
void __wrap_loader_unwatch_reads(struct loader *loader);
/* Other processes. */
int __wrap_process_borrow(pid_t pid, int fd);
int __wrap_program_classify(uint32_t pid, const struct config *config, enum shunt_program *ret, char **ret_path);
int __wrap_process_comm(pid_t pid, char *ret, size_t size);
int __wrap_process_read(pid_t pid, struct process *ret);
int __wrap_cgroup_find_below(const char *root, const char *path, char **ret);
/* What would end the agent, or read files. */
int __wrap_agent_reload(struct agent *agent, struct config_problems *problems);
void __wrap_agent_detach(struct agent *agent);
void __wrap_log_write(enum log_level level, const char *format, ...);
int __wrap_log_errno(int error, const char *format, ...);
/* clang-format on */

int __wrap_maps_put_cgroup(const struct maps *m, uint64_t id, const struct shunt_cgroup *entry)
{
	return 0;
}

int __wrap_maps_del_cgroup(const struct maps *m, uint64_t id)
{
	return 0;
}

int __wrap_maps_del_end(const struct maps *m, const struct shunt_end_key *end)
{
	return 0;
}

int __wrap_maps_put_end(const struct maps *m, const struct shunt_end_key *end, int fd)
{
	return 0;
}

int __wrap_maps_read(int map, struct table *table)
{
	return 0;
}

int __wrap_maps_write(int map, const struct table *table)
{
	return 0;
}

int __wrap_maps_remove(int map, const struct table *table)
{
	return 0;
}

int __wrap_maps_read_counters(const struct maps *m, uint64_t ret[SHUNT_COUNTER_MAX])
{
	for (int i = 0; i < SHUNT_COUNTER_MAX; i++)
		ret[i] = i;
	return 0;
}

bool __wrap_maps_has_program(const struct maps *m, uint64_t program)
{
	return program & 1;
}

int __wrap_maps_put_program(const struct maps *m, uint64_t program, enum shunt_program what)
{
	return 0;
}

int __wrap_maps_forget_programs(const struct maps *m)
{
	return 0;
}

const struct maps *__wrap_loader_maps(const struct loader *loader)
{
	return &maps;
}

int __wrap_loader_attach(struct loader *loader, const char *path, uint64_t cgroup,
			 unsigned int hooks)
{
	return 0;
}

int __wrap_loader_detach(struct loader *loader, uint64_t cgroup, unsigned int hooks)
{
	return 0;
}

int __wrap_loader_prune(struct loader *loader, bool (*keep)(void *user, uint64_t cgroup),
			void *user)
{
	return 0;
}

size_t __wrap_loader_drains(const struct loader *loader)
{
	return 0;
}

void __wrap_loader_each_link(struct loader *loader,
			     void (*visit)(void *user, uint64_t cgroup, const char *program),
			     void *user)
{
	visit(user, 0, "shunt_connect4");
}

int __wrap_loader_open_flows(const struct loader *loader)
{
	return fuzz_file(fake_kernel.data, fake_kernel.size);
}

int __wrap_loader_open_users(const struct loader *loader)
{
	return fuzz_file(fake_kernel.data, fake_kernel.size);
}

const struct loader_visit *__wrap_loader_visits(const struct loader *loader)
{
	static __u32 number, everybody, answer;
	static const struct loader_visit visit = {
		.number = &number,
		.everybody = &everybody,
		.answer = &answer,
	};

	return &visit;
}

int __wrap_loader_visit_attach(const struct loader_visit *visit, int cgroup)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int __wrap_loader_visit_walk(const struct loader_visit *visit, uint32_t pid, bool everybody)
{
	return fuzz_file(fake_kernel.data, fake_kernel.size);
}

int __wrap_loader_open_scan(const struct loader *loader, bool everything)
{
	return fuzz_file(fake_kernel.data, fake_kernel.size);
}

int __wrap_loader_watch_reads(struct loader *loader)
{
	return 0;
}

void __wrap_loader_unwatch_reads(struct loader *loader)
{
}

/* Some are gone. */
int __wrap_process_borrow(pid_t pid, int fd)
{
	return fd & 1 ? -ENOENT : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int __wrap_program_classify(uint32_t pid, const struct config *config, enum shunt_program *ret,
			    char **ret_path)
{
	if (pid % 8 == 0)
		return -ESRCH;
	if (pid % 8 == 1)
		return -EACCES;
	*ret = SHUNT_PROGRAM_FINE + pid % 4;
	*ret_path = strdup("/bin/program");
	return *ret_path ? 0 : -ENOMEM;
}

int __wrap_process_comm(pid_t pid, char *ret, size_t size)
{
	snprintf(ret, size, "\xff%d", (int)pid);
	return 0;
}

/* Names are bytes. */
int __wrap_process_read(pid_t pid, struct process *ret)
{
	if (pid % 4 == 0)
		return -ENOENT;
	*ret = (struct process){.cgroup = strdup(pid % 4 == 1 ? "/a/b" : "/a/\xff"), .uid = pid};
	return ret->cgroup ? 0 : -ENOMEM;
}

int __wrap_cgroup_find_below(const char *root, const char *path, char **ret)
{
	*ret = strdup(path);
	return *ret ? 0 : -ENOMEM;
}

int __wrap_agent_reload(struct agent *agent, struct config_problems *problems)
{
	return 0;
}

void __wrap_agent_detach(struct agent *agent)
{
}

void __wrap_log_write(enum log_level level, const char *format, ...)
{
}

int __wrap_log_errno(int error, const char *format, ...)
{
	return error;
}

static char root[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static void remove_root(void)
{
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_cgroups(void)
{
	static const char *const cgroups[] = {"a", "a/b", "proxy", "other"};
	const char *tmp = getenv("TMPDIR");
	char path[128];

	snprintf(root, sizeof(root), "%.40s/shunt-fuzz-XXXXXX", tmp ?: "/tmp");
	fuzz_check(mkdtemp(root));
	atexit(remove_root);
	for (size_t i = 0; i < ARRAY_SIZE(cgroups); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, cgroups[i]);
		fuzz_check(!mkdir(path, 0700));
	}
}

static struct config *make_config(void)
{
	static const char text[] =
		"[mesh test]\ncgroups = /a\nsidecar_cgroups = /proxy\nsidecar_uids = 7\n"
		"tcp_redirect = 127.0.0.1:15001, [::1]:15001\ndns_redirect = 127.0.0.1:15053\n"
		"exclude_cidrs = 10.0.0.0/8, fd00::/8\nexclude_ports = 22, 8000-8100\n";
	struct config_problems problems = {};
	_cleanup_fclose_ FILE *stream = fuzz_stream((const uint8_t *)text, strlen(text));
	struct config *config;

	fuzz_check(!config_parse(stream, "fuzz.ini", &problems, &config));
	config_problems_deinit(&problems);
	return config;
}

static struct agent agent;

struct agent *fake_agent(void)
{
	if (agent.config)
		return &agent;
	make_cgroups();
	maps.control = memfd_create("control", MFD_CLOEXEC);
	fuzz_check(maps.control >= 0 && !ftruncate(maps.control, sizeof(struct shunt_control)));
	fuzz_check(!uv_loop_init(&agent.loop));
	agent.cgroup_root = root;
	agent.config = make_config();
	fuzz_check(!policy_new(agent.config, 0, &agent.policy));
	fuzz_check(!enrol_new(&agent.loop, root, NULL, &agent.enrol));
	fuzz_check(!enrol_set_policy(agent.enrol, agent.policy));
	return &agent;
}

void fake_agent_turn(void)
{
	uv_run(&agent.loop, UV_RUN_NOWAIT);
}
