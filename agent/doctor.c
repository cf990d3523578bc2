/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What this host can do of what Shunt needs.
 * Reads from: /proc, and what the trials of other modules say.
 * Writes to: a list of checks; for the time of each, what it tries.
 */
#include "doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "cgroup.h"
#include "cgroup_trial.h"
#include "loader_probe.h"
#include "nft_try.h"
#include "probe.h"
#include "selftest.h"
#include "util/cleanup.h"

#define DOCTOR_CGROUP "shunt-trial-"
#define DOCTOR_BPFFS  "/sys/fs/bpf" /* where the agent mounts one if there is none */

#define SPLICE	 (1u << DOCTOR_SPLICE)
#define REDIRECT (SPLICE | 1u << DOCTOR_REDIRECT)
#define NFTABLES (1u << DOCTOR_NFTABLES)
#define ALL	 (REDIRECT | NFTABLES)

#define NO_REDIRECT "no redirection by programs: nftables, or nothing"
#define NO_SPLICE   "nothing is spliced: connections go by TCP"
#define NO_NFTABLES "no redirection by nftables where programs cannot redirect"
#define NO_RUNG	    "nothing can be redirected"

struct doctor_examination {
	struct doctor *doctor;
	char *cgroup_root;	   /* NULL: there is none */
	struct cgroup_trial trial; /* .fd -1: none could be made */
	bool failed;		   /* no memory */
};

static char *doctor_format(const char *format, va_list args)
{
	char *text;

	return vasprintf(&text, format, args) < 0 ? NULL : text;
}

/* Adds a check; who calls fills in @result and what was found. NULL without memory. */
__attribute__((format(printf, 5, 6))) static struct doctor_check *
doctor_add(struct doctor_examination *exam, const char *name, unsigned int rungs,
	   const char *consequence, const char *how, ...)
{
	struct doctor *doctor = exam->doctor;
	struct doctor_check *checks, *check;
	va_list args;

	checks = reallocarray(doctor->checks, doctor->n + 1, sizeof(*checks));
	if (!checks) {
		exam->failed = true;
		return NULL;
	}
	doctor->checks = checks;
	check = &checks[doctor->n++];
	*check = (struct doctor_check){
		.name = strdup(name),
		.rungs = rungs,
		.consequence = consequence,
		.result = DOCTOR_UNTRIED,
	};
	va_start(args, how);
	check->how = doctor_format(how, args);
	va_end(args);
	if (check->name && check->how)
		return check;
	exam->failed = true;
	return NULL;
}

__attribute__((format(printf, 4, 5))) static void doctor_found(struct doctor_examination *exam,
							       struct doctor_check *check,
							       enum doctor_result result,
							       const char *format, ...)
{
	va_list args;

	if (!check)
		return;
	check->result = result;
	va_start(args, format);
	check->found = doctor_format(format, args);
	va_end(args);
	exam->failed |= !check->found;
}

/* @error: 0 or negative errno. */
static void doctor_tell(struct doctor_examination *exam, struct doctor_check *check, int error)
{
	if (error)
		doctor_found(exam, check, DOCTOR_NO, "%s",
			     strerror(error == -PROBE_ENOTSUPP ? EOPNOTSUPP : -error));
	else if (check)
		check->result = DOCTOR_YES;
}

static void doctor_kernel(struct doctor_examination *exam)
{
	struct doctor_check *check = doctor_add(exam, "kernel", 0, "", "uname(2)");
	struct utsname name;

	if (!uname(&name))
		doctor_found(exam, check, DOCTOR_YES, "%s %s %s", name.sysname, name.release,
			     name.machine);
}

static int doctor_read_capabilities(uint64_t *ret)
{
	_cleanup_fclose_ FILE *status = fopen("/proc/self/status", "re");
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "CapEff: %" SCNx64, ret) == 1)
			return 0;
	return -ENODATA;
}

static void doctor_capabilities(struct doctor_examination *exam)
{
	static const struct {
		int number;
		int other; /* that does as well */
		const char *name;
		unsigned int rungs;
		const char *consequence;
	} wanted[] = {
		{CAP_BPF, CAP_SYS_ADMIN, "CAP_BPF", REDIRECT, NO_REDIRECT},
		{CAP_NET_ADMIN, CAP_NET_ADMIN, "CAP_NET_ADMIN", ALL, NO_RUNG},
		{CAP_PERFMON, CAP_SYS_ADMIN, "CAP_PERFMON", REDIRECT, NO_REDIRECT},
		{CAP_SYS_ADMIN, CAP_SYS_ADMIN, "CAP_SYS_ADMIN", SPLICE | NFTABLES,
		 "no namespace can be entered: nothing is spliced, no nftables in pods"},
		{CAP_SYS_PTRACE, CAP_SYS_PTRACE, "CAP_SYS_PTRACE", SPLICE | NFTABLES,
		 "no executables and namespaces of others: nothing is spliced, no nftables in pods"},
		{CAP_DAC_READ_SEARCH, CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", 0,
		 "what others keep to themselves cannot be looked into"},
	};
	uint64_t have = 0;
	int r = doctor_read_capabilities(&have);

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		struct doctor_check *check =
			doctor_add(exam, wanted[i].name, wanted[i].rungs, wanted[i].consequence,
				   "read /proc/self/status");

		if (!r && have & 1ull << wanted[i].number)
			doctor_tell(exam, check, 0);
		else if (!r && have & 1ull << wanted[i].other)
			doctor_found(exam, check, DOCTOR_YES, "CAP_SYS_ADMIN stands for it");
		else
			doctor_found(exam, check, r ? DOCTOR_UNTRIED : DOCTOR_NO, "%s",
				     r ? strerror(-r) : "this process does not have it");
	}
}

static void doctor_cgroups(struct doctor_examination *exam)
{
	struct doctor_check *check =
		doctor_add(exam, "cgroup2", ALL, NO_RUNG, "looked for the mount");
	int r = cgroup_find_mount(&exam->cgroup_root);

	if (r)
		doctor_found(exam, check, DOCTOR_NO, "%s",
			     r == -ENOENT ? "not mounted" : strerror(-r));
	else
		doctor_found(exam, check, DOCTOR_YES, "%s", exam->cgroup_root);

	check = doctor_add(exam, "trial cgroup", SPLICE,
			   "what takes a cgroup is not tried, here and by "
			   "the agent: nothing is spliced",
			   "made one below the mount");
	if (!exam->cgroup_root)
		return;
	doctor_tell(exam, check, cgroup_trial_init(&exam->trial, exam->cgroup_root, DOCTOR_CGROUP));
}

static void doctor_inotify(struct doctor_examination *exam)
{
	struct doctor_check *check =
		doctor_add(exam, "inotify", ALL, NO_RUNG, "watched the root of the cgroup tree");
	_cleanup_fclose_ FILE *limit = fopen("/proc/sys/fs/inotify/max_user_watches", "re");
	_cleanup_close_ int fd = inotify_init1(IN_CLOEXEC);
	unsigned long watches = 0;

	if (!exam->cgroup_root)
		return;
	if (fd < 0 || inotify_add_watch(fd, exam->cgroup_root, IN_CREATE) < 0)
		doctor_tell(exam, check, -errno);
	else if (limit && fscanf(limit, "%lu", &watches) == 1)
		doctor_found(exam, check, DOCTOR_YES, "at most %lu cgroups (max_user_watches)",
			     watches);
	else
		doctor_tell(exam, check, 0);
}

static char *doctor_above(const char *path)
{
	const char *last = strrchr(path, '/');

	return last && last > path ? strndup(path, last - path) : strdup("/");
}

static void doctor_bpffs(struct doctor_examination *exam, const char *pin_dir)
{
	_cleanup_free_ char *directory = doctor_above(pin_dir);
	struct doctor_check *check;
	struct statfs fs;

	if (!directory) {
		exam->failed = true;
		return;
	}
	check = doctor_add(exam, "bpf file system", REDIRECT, NO_REDIRECT, "pinned a map in %s",
			   directory);
	if (statfs(directory, &fs))
		doctor_tell(exam, check, -errno);
	else if (fs.f_type == BPF_FS_MAGIC)
		doctor_tell(exam, check, probe_pin(directory));
	else if (strcmp(directory, DOCTOR_BPFFS))
		doctor_found(exam, check, DOCTOR_NO, "it is no bpf file system");
	else if (probe_mount())
		doctor_found(exam, check, DOCTOR_NO, "none is mounted there, nor can be");
	else
		doctor_found(exam, check, DOCTOR_YES, "none is mounted there, but can be");
}

static void doctor_bpf(struct doctor_examination *exam)
{
	struct doctor_check *check;
	bool untried;
	int r;

	check = doctor_add(exam, "BTF", REDIRECT, NO_REDIRECT, "read that of the kernel");
	doctor_tell(exam, check, probe_btf());
	check = doctor_add(exam, "JIT", 0,
			   "programs are interpreted: nothing is spliced, and every "
			   "connection costs more (net.core.bpf_jit_enable = 1)",
			   "loaded a program and looked for its machine code");
	r = probe_jit();
	doctor_tell(exam, check, r);
	untried = r && r != -ENOEXEC;
	if (check && untried)
		check->result = DOCTOR_UNTRIED;
	check = doctor_add(exam, "map memory", 0, "raise RLIMIT_MEMLOCK for the agent",
			   "made a map with RLIMIT_MEMLOCK = 0");
	doctor_tell(exam, check, probe_memlock());
	if (check && check->result == DOCTOR_NO && untried) /* not for want of memory */
		check->result = DOCTOR_UNTRIED;
	check = doctor_add(exam, "bpf_rdonly_cast", SPLICE, NO_SPLICE,
			   "loaded a program that calls it");
	doctor_tell(exam, check, probe_cast_function("bpf_rdonly_cast"));
}

static void doctor_on_object(void *user, enum loader_probe_step step, enum loader_probe_part part,
			     const char *name, const char *type, int error)
{
	static const char *const words[] = {
		[LOADER_PROBE_MAP] = "map",
		[LOADER_PROBE_LOAD] = "program",
		[LOADER_PROBE_ATTACH] = "attachment",
	};
	static const char *const hows[] = {
		[LOADER_PROBE_MAP] = "made one",
		[LOADER_PROBE_LOAD] = "loaded it",
		[LOADER_PROBE_ATTACH] = "attached it",
	};
	static const struct {
		unsigned int rungs;
		const char *consequence;
	} parts[] = {
		[LOADER_PROBE_REDIRECT] = {REDIRECT, NO_REDIRECT},
		[LOADER_PROBE_SPLICE] = {SPLICE, NO_SPLICE},
		[LOADER_PROBE_FLOWS] = {REDIRECT, NO_REDIRECT},
	};
	struct doctor_examination *exam = user;
	_cleanup_free_ char *title = NULL;
	struct doctor_check *check;

	if (asprintf(&title, "%s %s", words[step], name) < 0) {
		title = NULL;
		exam->failed = true;
		return;
	}
	check = doctor_add(exam, title, parts[part].rungs, parts[part].consequence, "%s (%s)",
			   hows[step], type ?: "unknown");
	doctor_tell(exam, check, error);
}

static void doctor_objects(struct doctor_examination *exam)
{
	int r = loader_probe(exam->trial.fd, doctor_on_object, exam);

	if (r)
		doctor_tell(exam,
			    doctor_add(exam, "programs", REDIRECT, NO_REDIRECT, "opened them"), r);
}

static void doctor_splicing(struct doctor_examination *exam)
{
	struct selftest selftest = {.obstacle = "there is no cgroup2", .error = -ENOENT};

	if (exam->cgroup_root)
		selftest_run(exam->cgroup_root, &selftest);
	for (int i = 0; i < SELFTEST_MAX; i++) {
		_cleanup_free_ char *title = NULL;
		struct doctor_check *check;

		if (asprintf(&title, "splice %s", selftest_name(i)) < 0) {
			title = NULL;
			exam->failed = true;
			return;
		}
		check = doctor_add(exam, title, selftest_needed(i) ? SPLICE : 0,
				   selftest_needed(i) ? NO_SPLICE : "splicing does without",
				   "connections of its own: %s", selftest_text(i));
		if (selftest.outcome[i] == SELFTEST_PASSED)
			doctor_tell(exam, check, 0);
		else if (selftest.outcome[i] == SELFTEST_FAILED)
			doctor_found(exam, check, DOCTOR_NO, "it is not so");
		else if (selftest.obstacle)
			doctor_found(exam, check, DOCTOR_UNTRIED, "%s: %s", selftest.obstacle,
				     strerror(-selftest.error));
	}
}

static void doctor_nftables(struct doctor_examination *exam)
{
	static const struct {
		const char *name;
		const char *how;
	} steps[] = {
		[NFT_TRY_NETNS] = {"network namespace", "made one"},
		[NFT_TRY_RULES] = {"nftables", "added rules with socket cgroupv2 and redirect"},
		[NFT_TRY_REDIRECT] = {"nftables redirect",
				      "made a connection out of a matching cgroup"},
		[NFT_TRY_CONNTRACK] = {"conntrack", "asked for SO_ORIGINAL_DST of it"},
	};
	_cleanup_free_ char *error = NULL;
	enum nft_try_step reached = NFT_TRY_NETNS;

	if (exam->trial.fd >= 0)
		reached = nft_try(exam->trial.fd, &error);
	else
		error = strdup("no cgroup could be made");
	for (enum nft_try_step step = 0; step < NFT_TRY_PASSED; step++) {
		struct doctor_check *check = doctor_add(
			exam, steps[step].name,
			step == NFT_TRY_NETNS ? SPLICE | NFTABLES : NFTABLES,
			step == NFT_TRY_NETNS ? NO_SPLICE : NO_NFTABLES, "%s", steps[step].how);

		if (step < reached)
			doctor_tell(exam, check, 0);
		else if (step == reached)
			doctor_found(exam, check, exam->trial.fd < 0 ? DOCTOR_UNTRIED : DOCTOR_NO,
				     "%s", error ?: "no memory");
	}
}

static void doctor_service_manager(struct doctor_examination *exam)
{
	struct doctor_check *check = doctor_add(exam, "systemd", 0,
						"start the agent before what it is to redirect, by "
						"other means",
						"looked for /run/systemd/system");

	doctor_tell(exam, check, access("/run/systemd/system", F_OK) ? -errno : 0);
}

int doctor_run(const char *pin_dir, struct doctor *ret)
{
	struct doctor doctor = {};
	struct doctor_examination exam = {.doctor = &doctor, .trial = CGROUP_TRIAL_NULL};

	doctor_kernel(&exam);
	doctor_capabilities(&exam);
	doctor_cgroups(&exam);
	doctor_inotify(&exam);
	doctor_bpffs(&exam, pin_dir);
	doctor_bpf(&exam);
	doctor_objects(&exam);
	doctor_splicing(&exam);
	doctor_nftables(&exam);
	doctor_service_manager(&exam);
	cgroup_trial_deinit(&exam.trial);
	free(exam.cgroup_root);
	if (exam.failed) {
		doctor_deinit(&doctor);
		return -ENOMEM;
	}
	*ret = doctor;
	return 0;
}

void doctor_deinit(struct doctor *doctor)
{
	for (size_t i = 0; i < doctor->n; i++) {
		free(doctor->checks[i].name);
		free(doctor->checks[i].how);
		free(doctor->checks[i].found);
	}
	free(doctor->checks);
	*doctor = (struct doctor){};
}

enum doctor_rung doctor_rung(const struct doctor *doctor)
{
	unsigned int lost = 0;

	for (size_t i = 0; i < doctor->n; i++)
		if (doctor->checks[i].result != DOCTOR_YES)
			lost |= doctor->checks[i].rungs;
	for (int rung = 0; rung < DOCTOR_RUNGS; rung++)
		if (!(lost & 1u << rung))
			return rung;
	return DOCTOR_OFF;
}

const char *doctor_rung_name(enum doctor_rung rung)
{
	static const char *const names[] = {
		[DOCTOR_SPLICE] = "redirect and splice",
		[DOCTOR_REDIRECT] = "redirect",
		[DOCTOR_NFTABLES] = "nftables",
		[DOCTOR_OFF] = "off",
	};

	return names[rung];
}

const char *doctor_result_name(enum doctor_result result)
{
	static const char *const names[] = {
		[DOCTOR_YES] = "yes",
		[DOCTOR_NO] = "no",
		[DOCTOR_UNTRIED] = "untried",
	};

	return names[result];
}
