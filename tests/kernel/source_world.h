/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A network for test_source.c: namespaces, devices, and tables and addresses at random. What goes
 * wrong ends the test.
 */
#pragma once

#include <netinet/in.h>

#include <stdint.h>

/* Leaves the network namespace for a new one, on which nobody else has a handle. 0, or -1. */
int world_new(void **state);
void world_run(const char *format, ...) __attribute__((format(printf, 1, 2))); /* a command */
void world_set_sysctl(const char *name, const char *value); /* net.NAME, with slashes for dots */
void world_add_device(const char *name); /* a veth; its peer, with a p before the name, is up too */

uint32_t random_below(uint32_t limit); /* the same series in each run */
void random_address(int family, char text[INET6_ADDRSTRLEN]);
void random_tables(int family); /* and devices, in a new namespace */
