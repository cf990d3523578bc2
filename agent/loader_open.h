/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens the object so that this kernel takes what it can of it. One that interprets programs, or
 * whose JIT does not know how, refuses each in which a function of the kernel is called, also where
 * the call is never come to. There the calls are taken out: programs that redirect do without, at
 * the price of helpers, and those that splice are refused.
 */
#pragma once

#include <stdbool.h>

struct shunt_bpf;

/* Can programs call the kernel's functions? Tried once, before anything else of this file. */
bool loader_open_calls(void);
/* As shunt_bpf__open(): NULL and errno, or what is to be freed with shunt_bpf__destroy(). */
struct shunt_bpf *loader_open(void);
