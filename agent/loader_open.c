/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The object, with or without calls of the kernel's functions.
 * Reads from: the skeleton.
 * Writes to: libbpf's list of what it does with sections.
 */
#include "loader_open.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "probe.h"
#include "shunt.skel.h"
#include "util/cleanup.h"

/* What cast_available() looks for in the kernel, and something that no kernel has. */
#define LOADER_CAST    "KF_bpf_rdonly_cast___cast"
#define LOADER_NO_CAST "KF_bpf_rdonly_none___cast"

/* Programs with calls that cast_available(), or sockops_splice, keeps from being come to. */
static const struct loader_caller {
	const char *section;
	enum bpf_prog_type type;
	enum bpf_attach_type attach;
} loader_callers[] = {
	{"sockops", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS},
	{"cgroup/connect4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT},
	{"cgroup/connect6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET6_CONNECT},
	{"cgroup/sendmsg4", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG},
	{"cgroup/sendmsg6", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG},
};

/* r0 = 0 in place of each call; where it is come to after all the verifier does not take that. */
static int loader_drop_calls(struct bpf_program *program, struct bpf_prog_load_opts *options,
			     long cookie)
{
	size_t n = bpf_program__insn_cnt(program);
	_cleanup_free_ struct bpf_insn *code = calloc(n, sizeof(*code));

	if (!code)
		return -ENOMEM;
	memcpy(code, bpf_program__insns(program), n * sizeof(*code));
	for (size_t i = 0; i < n; i++)
		if (code[i].code == (BPF_JMP | BPF_CALL) &&
		    code[i].src_reg == BPF_PSEUDO_KFUNC_CALL)
			code[i] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K};
	return bpf_program__set_insns(program, code, n);
}

bool loader_open_calls(void)
{
	static enum { UNTRIED, CALLS, CALLS_NOT } calls;
	LIBBPF_OPTS(libbpf_prog_handler_opts, options, .prog_prepare_load_fn = loader_drop_calls);

	if (calls == UNTRIED) {
		calls = probe_calls() == -ENOEXEC ? CALLS_NOT : CALLS;
		for (size_t i = 0; calls == CALLS_NOT && i < ARRAY_SIZE(loader_callers); i++)
			libbpf_register_prog_handler(loader_callers[i].section,
						     loader_callers[i].type,
						     loader_callers[i].attach, &options);
	}
	return calls == CALLS;
}

/* A copy of the object that finds no bpf_rdonly_cast() in the kernel. */
static void *loader_copy(const void *object, size_t size)
{
	char *copy = malloc(size), *name = copy;

	if (!copy)
		return NULL;
	memcpy(copy, object, size);
	while ((name = memmem(name, copy + size - name, LOADER_CAST, sizeof(LOADER_CAST))))
		memcpy(name, LOADER_NO_CAST, sizeof(LOADER_NO_CAST));
	return copy;
}

struct shunt_bpf *loader_open(void)
{
	_cleanup_free_ void *copy = NULL;
	struct shunt_bpf *skeleton;
	int r;

	if (loader_open_calls())
		return shunt_bpf__open();
	skeleton = calloc(1, sizeof(*skeleton));
	r = skeleton ? shunt_bpf__create_skeleton(skeleton) : -ENOMEM;
	if (!r) {
		copy = loader_copy(skeleton->skeleton->data, skeleton->skeleton->data_sz);
		skeleton->skeleton->data = copy;
		r = copy ? bpf_object__open_skeleton(skeleton->skeleton, NULL) : -ENOMEM;
	}
	if (r) {
		shunt_bpf__destroy(skeleton);
		errno = -r;
		return NULL;
	}
	return skeleton;
}
