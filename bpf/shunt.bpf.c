/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel half: every hook, compiled as one. Objects of their own could not be linked, since
 * more than one of them calls bpf_rdonly_cast(), and the linker of Debian 12's bpftool refuses the
 * second declaration of a kernel function.
 * Reads from and writes to: what each of them says.
 */
#include "connect.bpf.c"
#include "flows.bpf.c"
#include "names.bpf.c"
#include "origdst.bpf.c"
#include "reads.bpf.c"
#include "recvmsg.bpf.c"
#include "scan.bpf.c"
#include "sendmsg.bpf.c"
#include "sockops.bpf.c"
#include "splice.bpf.c"
#include "visit.bpf.c"
#include "walk.bpf.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
