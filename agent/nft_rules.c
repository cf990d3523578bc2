/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A policy as rules of nftables.
 * Reads from: policy, and a list of cgroups.
 * Writes to: a text.
 */
#include "nft_rules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "util/addr.h"
#include "util/cleanup.h"

#define NFT_RULES_PRIORITY  (-101) /* before others' destination NAT, as connect() is */
#define NFT_RULES_LEVEL_MAX 255	   /* of nftables */
#define NFT_RULES_COMMENT   120	   /* bytes in a comment, of 128 */

/* libnftables looks for cgroups below /sys/fs/cgroup, wherever they are mounted. */
#define NFT_RULES_PATH_PREFIX "../../.."

static const char *const nft_rules_families[] = {[SHUNT_V4] = "ipv4", [SHUNT_V6] = "ipv6"};
static const char *const nft_rules_protocols[] = {[SHUNT_V4] = "ip", [SHUNT_V6] = "ip6"};

bool nft_rules_path_fits(const char *path)
{
	return !strpbrk(path, "\"\n");
}

char *nft_rules_owner(const char *owner)
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	char *name;

	for (const unsigned char *c = (const unsigned char *)owner; *c; c++)
		hash = (hash ^ *c) * 0x100000001b3;
	return asprintf(&name, "owner_%016" PRIx64, hash) < 0 ? NULL : name;
}

/* Rules that leave alone what has one of @ids as @key. */
static void nft_rules_owners(FILE *out, const char *key, const struct config_ids *ids)
{
	if (!ids->n)
		return;
	fprintf(out, "\t\tmeta %s { ", key);
	for (size_t i = 0; i < ids->n; i++)
		fprintf(out, "%s%" PRIu32, i ? ", " : "", ids->items[i].id);
	fputs(" } return\n", out);
}

static int nft_rules_compare_ports(const void *a, const void *b)
{
	return (int)((const struct config_ports *)a)->first -
	       ((const struct config_ports *)b)->first;
}

/* Sorted and without overlaps, which nftables would refuse. */
static size_t nft_rules_merge_ports(struct config_ports *ports, size_t n)
{
	size_t kept = 0;

	if (n)
		qsort(ports, n, sizeof(*ports), nft_rules_compare_ports);
	for (size_t i = 0; i < n; i++) {
		if (kept && ports[i].first <= ports[kept - 1].last + 1) {
			if (ports[i].last > ports[kept - 1].last)
				ports[kept - 1].last = ports[i].last;
		} else {
			ports[kept++] = ports[i];
		}
	}
	return kept;
}

/* @list is what a rule goes for, or, with @others, all but that. */
static int nft_rules_ports(FILE *out, const struct config_port_list *list, bool others)
{
	_cleanup_free_ struct config_ports *ports = calloc(list->n + 1, sizeof(*ports));
	size_t n;

	if (!ports)
		return -ENOMEM;
	if (list->n)
		memcpy(ports, list->items, list->n * sizeof(*ports));
	n = nft_rules_merge_ports(ports, list->n);
	if (n == 1 && ports[0].first <= 1 && ports[0].last == UINT16_MAX) {
		if (!others)
			fputs("\t\treturn\n", out);
		return 0;
	}
	if (!n) {
		if (others)
			fputs("\t\treturn\n", out);
		return 0;
	}
	fprintf(out, "\t\tth dport %s{ ", others ? "!= " : "");
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "%s%u", i ? ", " : "", ports[i].first);
		if (ports[i].last != ports[i].first)
			fprintf(out, "-%u", ports[i].last);
	}
	fputs(" } return\n", out);
	return 0;
}

static int nft_rules_family_of(const struct config_cidr *cidr)
{
	return cidr->prefix >= ADDR_V4_BITS && addr_is_v4(cidr->addr) ? SHUNT_V4 : SHUNT_V6;
}

static bool nft_rules_holds(const struct config_cidr *outer, const struct config_cidr *inner)
{
	if (outer->prefix > inner->prefix)
		return false;
	for (uint32_t i = 0; i < outer->prefix; i++)
		if ((ntohl(outer->addr[i / 32]) ^ ntohl(inner->addr[i / 32])) >> (31 - i % 32) & 1)
			return false;
	return true;
}

/* A range comes before those that it holds. */
static int nft_rules_compare_cidrs(const void *a, const void *b)
{
	const struct config_cidr *x = a, *y = b;
	int r = memcmp(x->addr, y->addr, sizeof(x->addr));

	return r ?: (int)x->prefix - (int)y->prefix;
}

/* Those of one family, without what others hold. */
static size_t nft_rules_pick_cidrs(const struct config_cidrs *list, int family,
				   struct config_cidr *ret)
{
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < list->n; i++)
		if (nft_rules_family_of(&list->items[i]) == family)
			ret[n++] = list->items[i];
	if (n)
		qsort(ret, n, sizeof(*ret), nft_rules_compare_cidrs);
	for (size_t i = 0; i < n; i++)
		if (!kept || !nft_rules_holds(&ret[kept - 1], &ret[i]))
			ret[kept++] = ret[i];
	return kept;
}

static int nft_rules_cidrs(FILE *out, const struct config_cidrs *list, int family, bool others)
{
	_cleanup_free_ struct config_cidr *cidrs = calloc(list->n + 1, sizeof(*cidrs));
	uint32_t none = family == SHUNT_V4 ? ADDR_V4_BITS : 0;
	char text[ADDR_STRLEN];
	size_t n;

	if (!cidrs)
		return -ENOMEM;
	n = nft_rules_pick_cidrs(list, family, cidrs);
	/* All of the family, or nothing of it. */
	if (!n || cidrs[0].prefix == none) {
		if (!n == others)
			fprintf(out, "\t\tmeta nfproto %s return\n", nft_rules_families[family]);
		return 0;
	}
	fprintf(out, "\t\t%s daddr %s{ ", nft_rules_protocols[family], others ? "!= " : "");
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? ", " : "",
			addr_format_cidr(cidrs[i].addr, cidrs[i].prefix, text));
	fputs(" } return\n", out);
	return 0;
}

static void nft_rules_redirect(FILE *out, const char *match, int family,
			       const struct shunt_endpoint *to)
{
	static const char *const here[] = {[SHUNT_V4] = "127.0.0.1", [SHUNT_V6] = "::1"};
	char text[ADDR_STRLEN];

	if (!to->port)
		return;
	fprintf(out, "\t\tmeta nfproto %s %s ", nft_rules_families[family], match);
	if (!strcmp(addr_format(to->addr, text), here[family]))
		fprintf(out, "redirect to :%u\n", ntohs(to->port));
	else
		fprintf(out, "dnat %s to %s\n", nft_rules_protocols[family],
			addr_format_endpoint(to, text));
}

/* In the order of decide() in bpf/decide.bpf.h. */
static int nft_rules_mesh(FILE *out, size_t number, const struct config_mesh *mesh)
{
	int r = 0;

	fprintf(out, "\tchain mesh%zu {\n", number);
	nft_rules_owners(out, "skuid", &mesh->sidecar_uids);
	nft_rules_owners(out, "skgid", &mesh->sidecar_gids);
	for (int family = 0; !r && family < SHUNT_FAMILIES; family++)
		r = nft_rules_cidrs(out, &mesh->exclude_cidrs, family, false);
	r = r ?: nft_rules_ports(out, &mesh->exclude_ports, false);
	nft_rules_owners(out, "skuid", &mesh->exclude_uids);
	nft_rules_owners(out, "skgid", &mesh->exclude_gids);
	r = r ?: nft_rules_ports(out, &mesh->include_ports, true);
	for (int family = 0; !r && family < SHUNT_FAMILIES; family++)
		r = nft_rules_cidrs(out, &mesh->include_cidrs, family, true);
	for (int family = 0; family < SHUNT_FAMILIES; family++) {
		nft_rules_redirect(out, "meta l4proto { tcp, udp } th dport 53", family,
				   &mesh->dns_redirect[family]);
		nft_rules_redirect(out, "meta l4proto tcp", family, &mesh->tcp_redirect[family]);
	}
	fputs("\t}\n", out);
	return r;
}

static void nft_rules_level(FILE *out, unsigned int level, const struct nft_rules_cgroup *cgroups,
			    size_t n)
{
	const char *before = "";

	fprintf(out, "\tmap level%u {\n\t\ttypeof socket cgroupv2 level %u : verdict\n", level,
		level);
	fputs("\t\telements = { ", out);
	for (size_t i = 0; i < n; i++) {
		if (cgroups[i].level != level)
			continue;
		fprintf(out, "%s\"" NFT_RULES_PATH_PREFIX "%s\" : ", before, cgroups[i].path);
		if (cgroups[i].mesh < 0)
			fputs("return", out);
		else
			fprintf(out, "goto mesh%d", cgroups[i].mesh);
		before = ",\n\t\t\t     ";
	}
	fputs(" }\n\t}\n", out);
}

/* Deepest first: what is nearest to the socket decides. */
static void nft_rules_output(FILE *out, const bool levels[NFT_RULES_LEVEL_MAX + 1])
{
	fprintf(out,
		"\tchain output {\n"
		"\t\ttype nat hook output priority %d; policy accept;\n"
		"\t\tmeta l4proto != { tcp, udp } return\n"
		"\t\tmeta l4proto udp th dport != 53 return\n"
		"\t\tip daddr { 0.0.0.0, 127.0.0.0/8 } return\n"
		"\t\tip6 daddr { ::/127, fe80::/10 } return\n"
		"\t\tip saddr 127.0.0.0/8 return\n"
		"\t\tip6 saddr ::1 return\n",
		NFT_RULES_PRIORITY);
	for (unsigned int level = NFT_RULES_LEVEL_MAX; level; level--)
		if (levels[level])
			fprintf(out, "\t\tsocket cgroupv2 level %u vmap @level%u\n", level, level);
	fputs("\t}\n", out);
}

static int nft_rules_write(FILE *out, const struct policy *policy,
			   const struct nft_rules_cgroup *cgroups, size_t n, const char *owner)
{
	_cleanup_free_ char *mark = nft_rules_owner(owner);
	bool levels[NFT_RULES_LEVEL_MAX + 1] = {};
	size_t len = strlen(owner);
	int r = mark ? 0 : -ENOMEM;

	if (r)
		return r;
	fputs("table " NFT_RULES_TABLE " {\n", out);
	if (nft_rules_path_fits(owner))
		fprintf(out, "\tcomment \"%s\"\n",
			owner + (len > NFT_RULES_COMMENT ? len - NFT_RULES_COMMENT : 0));
	fprintf(out, "\tchain %s {\n\t}\n", mark);
	for (size_t i = 0; !r && i < policy->config->n_meshes; i++)
		r = nft_rules_mesh(out, i, &policy->config->meshes[i]);
	for (size_t i = 0; i < n; i++)
		if (cgroups[i].level <= NFT_RULES_LEVEL_MAX)
			levels[cgroups[i].level] = true;
	for (unsigned int level = 1; level <= NFT_RULES_LEVEL_MAX; level++)
		if (levels[level])
			nft_rules_level(out, level, cgroups, n);
	nft_rules_output(out, levels);
	fputs("}\n", out);
	return r;
}

char *nft_rules(const struct policy *policy, const struct nft_rules_cgroup *cgroups, size_t n,
		const char *owner)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int r;

	if (!out)
		return NULL;
	r = nft_rules_write(out, policy, cgroups, n, owner);
	if (fclose(out) || r) {
		free(text);
		return NULL;
	}
	return text;
}
