/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all connections come to.
 * Reads from: records of the kernel half, and the sums before.
 * Writes to: a struct sums.
 */
#include "sums.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow.h"

#define EDGE_SLOTS (2 * SUMS_EDGES)
#define SEEN_SLOTS 1024 /* to begin with */

struct sums_seen {
	uint64_t key; /* 0: empty */
	uint64_t spliced;
	uint64_t tcp;
};

int sums_init(struct sums *sums, uint64_t now)
{
	*sums = (struct sums){
		.began = now,
		.flows = malloc(SUMS_FLOWS * sizeof(*sums->flows)),
		.edges = malloc(SUMS_EDGES * sizeof(*sums->edges)),
		.edge_slots = calloc(EDGE_SLOTS, sizeof(*sums->edge_slots)),
		.seen = calloc(SEEN_SLOTS, sizeof(*sums->seen)),
		.n_slots = SEEN_SLOTS,
	};
	if (sums->flows && sums->edges && sums->edge_slots && sums->seen)
		return 0;
	sums_deinit(sums);
	return -ENOMEM;
}

void sums_deinit(struct sums *sums)
{
	for (size_t i = 0; i < sums->n_meshes; i++)
		free(sums->meshes[i].name);
	free(sums->meshes);
	free(sums->flows);
	free(sums->edges);
	free(sums->edge_slots);
	free(sums->seen);
	*sums = (struct sums){};
}

/* Multiplied by 2^64 over the golden ratio; the upper bits are the good ones. */
static uint64_t sums_hash(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 32;
}

static uint64_t sums_key(const struct shunt_pair_key *key)
{
	uint64_t value = (uint64_t)key->client << 32 | key->server;

	return value ? value : 1; /* two of 2^64 share a key */
}

/* Where @key is, or has to be put. At least half of the slots are empty. */
static struct sums_seen *sums_slot(struct sums_seen *slots, size_t n_slots, uint64_t key)
{
	size_t i = sums_hash(0, key) & (n_slots - 1);

	while (slots[i].key && slots[i].key != key)
		i = (i + 1) & (n_slots - 1);
	return &slots[i];
}

static int sums_grow(struct sums *sums)
{
	size_t n_slots = 2 * sums->n_slots;
	struct sums_seen *slots = calloc(n_slots, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < sums->n_slots; i++)
		if (sums->seen[i].key)
			*sums_slot(slots, n_slots, sums->seen[i].key) = sums->seen[i];
	free(sums->seen);
	sums->seen = slots;
	sums->n_slots = n_slots;
	return 0;
}

/* *@ret_new: it was not there already. An iterator may tell of one connection twice. */
static int sums_see(struct sums *sums, const struct sums_seen *seen, bool *ret_new)
{
	struct sums_seen *slot;
	int r = 0;

	*ret_new = true;
	if (2 * (sums->n_seen + 1) > sums->n_slots && sums->n_seen < SUMS_SEEN)
		r = sums_grow(sums);
	if (r)
		return r;
	slot = sums_slot(sums->seen, sums->n_slots, seen->key);
	*ret_new = !slot->key;
	if (slot->key || sums->n_seen == SUMS_SEEN)
		return 0;
	*slot = *seen;
	sums->n_seen++;
	return 0;
}

/* What it has moved since; false: not known. What seems to go backwards stands still, since TCP's
 * own numbers are not known of an end that has just closed. */
static bool sums_compare(const struct sums *before, const struct shunt_pair *pair,
			 const struct sums_seen *now, struct sums_count *ret)
{
	uint64_t began = pair->opened_at ?: pair->established_at;
	const struct sums_seen *then;
	struct sums_seen none = {};

	if (!before)
		return false;
	then = sums_slot(before->seen, before->n_slots, now->key);
	if (!then->key && began < before->began)
		return false;
	if (!then->key)
		then = &none;
	ret->moved_spliced = now->spliced > then->spliced ? now->spliced - then->spliced : 0;
	ret->moved_tcp = now->tcp > then->tcp ? now->tcp - then->tcp : 0;
	return true;
}

static void sums_count_in(struct sums_count *sum, const struct sums_count *count)
{
	sum->flows += count->flows;
	sum->flows_spliced += count->flows_spliced;
	sum->moved_spliced += count->moved_spliced;
	sum->moved_tcp += count->moved_tcp;
	sum->bytes_spliced += count->bytes_spliced;
	sum->bytes_tcp += count->bytes_tcp;
	sum->spills += count->spills;
}

/* The busier first. */
static int sums_compare_counts(const struct sums_count *one, const struct sums_count *other)
{
	uint64_t moved = one->moved_spliced + one->moved_tcp;
	uint64_t other_moved = other->moved_spliced + other->moved_tcp;
	uint64_t bytes = one->bytes_spliced + one->bytes_tcp;
	uint64_t other_bytes = other->bytes_spliced + other->bytes_tcp;

	return (moved < other_moved) - (moved > other_moved) ?:
	       (bytes < other_bytes) - (bytes > other_bytes) ?:
	       (one->flows < other->flows) - (one->flows > other->flows);
}

static void sums_rank(struct sums *sums, const struct shunt_flow *record, bool known,
		      const struct sums_count *count)
{
	size_t i = sums->n_flows;

	if (i == SUMS_FLOWS && sums_compare_counts(count, &sums->flows[i - 1].count) >= 0)
		return;
	if (i < SUMS_FLOWS)
		sums->n_flows++;
	else
		i--;
	for (; i > 0 && sums_compare_counts(count, &sums->flows[i - 1].count) < 0; i--)
		sums->flows[i] = sums->flows[i - 1];
	sums->flows[i] = (struct sums_flow){*record, known, *count};
}

static int sums_find_mesh(struct sums *sums, const char *name, uint32_t *ret)
{
	struct sums_mesh *meshes;
	char *copy = NULL;
	uint32_t i;

	for (i = 0; i < sums->n_meshes; i++) {
		const char *other = sums->meshes[i].name;

		if (name && other ? !strcmp(name, other) : name == other)
			break;
	}
	*ret = i;
	if (i < sums->n_meshes)
		return 0;
	meshes = reallocarray(sums->meshes, i + 1, sizeof(*meshes));
	if (!meshes)
		return -ENOMEM;
	sums->meshes = meshes;
	if (name && !(copy = strdup(name)))
		return -ENOMEM;
	meshes[sums->n_meshes++] = (struct sums_mesh){.name = copy};
	return 0;
}

static bool sums_is_edge(const struct sums_edge *edge, const struct sums_edge *other)
{
	return edge->mesh == other->mesh && edge->redirected == other->redirected &&
	       edge->client == other->client && edge->server == other->server &&
	       !memcmp(edge->dialled.addr, other->dialled.addr, sizeof(edge->dialled.addr)) &&
	       edge->dialled.port == other->dialled.port;
}

static uint64_t sums_hash_edge(const struct sums_edge *edge)
{
	uint64_t hash = sums_hash(edge->mesh, edge->client);

	hash = sums_hash(hash, edge->server);
	for (int i = 0; i < 4; i++)
		hash = sums_hash(hash, edge->dialled.addr[i]);
	return sums_hash(hash, (uint32_t)edge->dialled.port << 1 | edge->redirected);
}

static void sums_add_edge(struct sums *sums, const struct sums_edge *edge)
{
	size_t slot = sums_hash_edge(edge) & (EDGE_SLOTS - 1);

	while (sums->edge_slots[slot]) {
		struct sums_edge *found = &sums->edges[sums->edge_slots[slot] - 1];

		if (sums_is_edge(found, edge)) {
			sums_count_in(&found->count, &edge->count);
			found->pid = found->pid ?: edge->pid;
			return;
		}
		slot = (slot + 1) & (EDGE_SLOTS - 1);
	}
	if (sums->n_edges == SUMS_EDGES) {
		sums->flows_without_edge++;
		return;
	}
	sums->edges[sums->n_edges++] = *edge;
	sums->edge_slots[slot] = sums->n_edges;
}

int sums_add(struct sums *sums, const struct sums *before, const struct shunt_flow *record,
	     const char *mesh)
{
	const struct shunt_pair *pair = &record->pair;
	const struct shunt_end *client = &pair->end[SHUNT_CLIENT];
	const struct shunt_end *server = &pair->end[SHUNT_SERVER];
	struct sums_edge edge = {
		.redirected = pair->flags & SHUNT_PAIR_REDIRECTED,
		.client = client->cgroup,
		.server = server->cgroup,
		.dialled = pair->dialled,
		.pid = client->pid,
	};
	struct sums_seen now = {
		.key = sums_key(&record->key),
		.spliced = client->spliced_bytes + server->spliced_bytes,
		.tcp = flow_tcp_bytes(record, SHUNT_CLIENT) + flow_tcp_bytes(record, SHUNT_SERVER),
	};
	struct sums_count count = {
		.flows = 1,
		.flows_spliced = client->state == SHUNT_STATE_SPLICED ||
				 server->state == SHUNT_STATE_SPLICED,
		.bytes_spliced = now.spliced,
		.bytes_tcp = now.tcp,
		.spills = client->spills + server->spills,
	};
	bool known, is_new;
	int r;

	r = sums_see(sums, &now, &is_new);
	if (r || !is_new)
		return r;
	r = sums_find_mesh(sums, mesh, &edge.mesh);
	if (r)
		return r;
	known = sums_compare(before, pair, &now, &count);
	edge.count = count;
	sums_count_in(&sums->all, &count);
	sums_count_in(&sums->meshes[edge.mesh].count, &count);
	sums_add_edge(sums, &edge);
	sums_rank(sums, record, known, &count);
	return 0;
}

static int sums_compare_edges(const void *a, const void *b)
{
	const struct sums_edge *one = a, *other = b;

	return sums_compare_counts(&one->count, &other->count)
		       ?: memcmp(&one->dialled, &other->dialled, sizeof(one->dialled));
}

void sums_finish(struct sums *sums)
{
	if (sums->n_edges)
		qsort(sums->edges, sums->n_edges, sizeof(*sums->edges), sums_compare_edges);
}
