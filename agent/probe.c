/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Single features of the kernel's BPF, tried.
 * Reads from: the kernel.
 * Writes to: the kernel: objects that are gone when a call returns; for its time, RLIMIT_MEMLOCK.
 */
#include "probe.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "util/cleanup.h"

#define PROBE_LICENSE "Dual BSD/GPL"

CLEANUP_DEFINE(struct btf *, btf__free)

#define MOVE_REGISTER(to, from)                                                         \
	{                                                                               \
		.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = (to), .src_reg = (from) \
	}
#define MOVE_NUMBER(to, number)                                                       \
	{                                                                             \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (to), .imm = (number) \
	}
#define CALL_KERNEL(id)                                                                   \
	{                                                                                 \
		.code = BPF_JMP | BPF_CALL, .src_reg = BPF_PSEUDO_KFUNC_CALL, .imm = (id) \
	}
/* Over the next one, unless the register is 0. */
#define SKIP_UNLESS_ZERO(register)                                                  \
	{                                                                           \
		.code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = (register), .off = 1, \
	}
#define EXIT                               \
	{                                  \
		.code = BPF_JMP | BPF_EXIT \
	}

int probe_btf(void)
{
	_cleanup_(cleanup_btf__free) struct btf *btf = btf__load_vmlinux_btf();

	return btf ? 0 : -errno;
}

int probe_cast_function(const char *name)
{
	_cleanup_(cleanup_btf__free) struct btf *btf = btf__load_vmlinux_btf();
	_cleanup_close_ int fd = -1;
	int function, type;

	if (!btf)
		return -errno;
	function = btf__find_by_name_kind(btf, name, BTF_KIND_FUNC);
	type = btf__find_by_name_kind(btf, "sock", BTF_KIND_STRUCT);
	if (function < 0 || type < 0)
		return -ENOENT;
	{
		const struct bpf_insn code[] = {
			MOVE_REGISTER(BPF_REG_1, BPF_REG_10),
			MOVE_NUMBER(BPF_REG_2, type),
			CALL_KERNEL(function),
			MOVE_NUMBER(BPF_REG_0, 1),
			EXIT,
		};

		fd = bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, NULL, PROBE_LICENSE, code,
				   ARRAY_SIZE(code), NULL);
	}
	return fd < 0 ? fd : 0;
}

int probe_calls(void)
{
	/* Of no function, which the verifier takes where it is not come to. */
	static const struct bpf_insn code[] = {
		MOVE_NUMBER(BPF_REG_0, 1),
		SKIP_UNLESS_ZERO(BPF_REG_0),
		CALL_KERNEL(0),
		EXIT,
	};
	_cleanup_close_ int fd = bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, NULL, PROBE_LICENSE, code,
					       ARRAY_SIZE(code), NULL);

	if (fd == -PROBE_ENOTSUPP)
		return -ENOEXEC;
	return fd < 0 ? fd : 0;
}

int probe_jit(void)
{
	static const struct bpf_insn code[] = {MOVE_NUMBER(BPF_REG_0, 0), EXIT};
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	_cleanup_close_ int fd = -1;

	fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, NULL, PROBE_LICENSE, code, ARRAY_SIZE(code),
			   NULL);
	if (fd < 0)
		return fd;
	if (bpf_obj_get_info_by_fd(fd, &info, &size))
		return -errno;
	return info.jited_prog_len ? 0 : -ENOEXEC;
}

static int probe_make_map(void)
{
	return bpf_map_create(BPF_MAP_TYPE_ARRAY, NULL, sizeof(__u32), sizeof(__u64), 1, NULL);
}

int probe_memlock(void)
{
	struct rlimit before, none;
	_cleanup_close_ int fd = -1;

	if (getrlimit(RLIMIT_MEMLOCK, &before))
		return -errno;
	none = before;
	none.rlim_cur = 0;
	if (setrlimit(RLIMIT_MEMLOCK, &none))
		return -errno;
	fd = probe_make_map();
	setrlimit(RLIMIT_MEMLOCK, &before);
	return fd < 0 ? fd : 0;
}

int probe_pin(const char *directory)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;

	if (asprintf(&path, "%s/shunt-doctor-%d", directory, (int)getpid()) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	fd = probe_make_map();
	if (fd < 0)
		return fd;
	if (bpf_obj_pin(fd, path))
		return -errno;
	return unlink(path) ? -errno : 0;
}

int probe_mount(void)
{
	_cleanup_close_ int config = fsopen("bpf", FSOPEN_CLOEXEC), mount = -1;
	char path[64];

	if (config < 0 || fsconfig(config, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	mount = fsmount(config, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", mount);
	return probe_pin(path);
}
