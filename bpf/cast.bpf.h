/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Loads from any address of the kernel: by a cast, where the kernel has it, for it costs no call as
 * bpf_probe_read_kernel() does. Neither faults; what is not there reads as 0.
 */
#pragma once

#include <stdbool.h>

#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Since Linux 6.2. It makes no code: the verifier takes the result for a pointer to that type. The
 * pointer may be stale: loads through it are checked. */
extern void *bpf_rdonly_cast(void *object, __u32 type) __ksym __weak;

/* The verifier's own list of the functions that it knows. */
enum special_kfunc_type___cast {
	KF_bpf_rdonly_cast___cast,
};

struct in6_addr___cast {
	__u32 words[4];
};

/*
 * A constant once the program is loaded. Not a look at the function's address, for kernels before
 * 6.4 do not take that in a program.
 */
static __always_inline bool cast_available(void)
{
	return bpf_core_enum_value_exists(enum special_kfunc_type___cast,
					  KF_bpf_rdonly_cast___cast);
}

/*
 * The number of at most 8 bytes at any address, 0 where nothing is; a pointer comes as a number
 * too. An address can be any number, so the type need only be one that has room for all loads and
 * is just numbers: such is struct in6_addr.
 */
#define CAST_LOAD(type, address)                                                                   \
	({                                                                                         \
		type loaded_;                                                                      \
                                                                                                   \
		if (cast_available())                                                              \
			loaded_ = *(__typeof__(loaded_) *)bpf_rdonly_cast(                         \
				(void *)(address),                                                 \
				bpf_core_type_id_kernel(struct in6_addr___cast));                  \
		else                                                                               \
			bpf_probe_read_kernel(&loaded_, sizeof(loaded_), (const void *)(address)); \
		loaded_;                                                                           \
	})
