/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses, ports and CIDRs as text. One format inside: 16 bytes, IPv4 mapped into IPv6. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shunt/abi.h"

#define ADDR_STRLEN  64 /* enough for "[" IPv6 "]:65535" and for a CIDR */
#define ADDR_V4_BITS 96 /* in front of the IPv4 address in its mapped form: 80 of 0, 16 of 1 */

bool addr_is_v4(const __be32 addr[4]);		/* IPv4-mapped? */
bool addr_is_loopback(const __be32 addr[4]);	/* 127.0.0.0/8, ::1 */
bool addr_is_unspecified(const __be32 addr[4]); /* 0.0.0.0, :: */
bool addr_is_multicast(const __be32 addr[4]);	/* 224.0.0.0/4, ff00::/8, 255.255.255.255 */
bool addr_is_link_local(const __be32 addr[4]);	/* fe80::/10 */

/* "1.2.3.4" or "::1", without brackets. 0 or -EINVAL. An IPv4-mapped text is IPv4. */
int addr_parse(const char *text, __be32 ret[4]);
/* 1 to 65535. 0 or -EINVAL. */
int addr_parse_port(const char *text, uint16_t *ret);
/* "1.2.3.4:80" or "[::1]:80"; port 1 to 65535. 0 or -EINVAL. */
int addr_parse_endpoint(const char *text, struct shunt_endpoint *ret);
/* "10.0.0.0/8", "fd00::/8"; without "/n" a host. Host bits must be zero. @ret_prefix is of the
 * 128-bit address. 0, -EINVAL (not a CIDR) or -ERANGE (host bits set). */
int addr_parse_cidr(const char *text, __be32 ret_addr[4], uint32_t *ret_prefix);
/* The same, but clears host bits: the network that was probably meant. */
int addr_parse_network(const char *text, __be32 ret_addr[4], uint32_t *ret_prefix);

/* These write to @buf and return it. IPv4-mapped addresses print as IPv4. */
const char *addr_format(const __be32 addr[4], char buf[ADDR_STRLEN]);
const char *addr_format_endpoint(const struct shunt_endpoint *endpoint, char buf[ADDR_STRLEN]);
const char *addr_format_cidr(const __be32 addr[4], uint32_t prefix, char buf[ADDR_STRLEN]);
