/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Single features of the kernel's BPF, each tried with an object that is gone when it returns.
 * All return 0 or negative errno. */
#pragma once

#define PROBE_ENOTSUPP 524 /* the kernel's, which user space has no name for */

/* BTF of the kernel, without which no program of Shunt finds its way in the kernel's memory. */
int probe_btf(void);
/* Does a program call the kernel function @name, of the form (const void *, type id)? -ENOENT: the
 * kernel has none of that name. */
int probe_cast_function(const char *name);
/* May there be a call of a kernel function in a program? -ENOEXEC: not without the JIT, or not with
 * the one that there is. */
int probe_calls(void);
/* -ENOEXEC: programs are interpreted. */
int probe_jit(void);
/* Are maps charged to a cgroup, not to RLIMIT_MEMLOCK? -EPERM: to the limit. */
int probe_memlock(void);
/* Makes a map and pins it in @directory under a name of this process; removes it. */
int probe_pin(const char *directory);
/* The same in a bpf file system that it mounts nowhere. */
int probe_mount(void);
