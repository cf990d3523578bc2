/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps as the agent sees them; nobody else calls bpf_map_*_elem.
 * Reads from: sync plans, the maps.
 * Writes to: the maps.
 */
#include "maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "util/cleanup.h"

int maps_put_cgroup(const struct maps *maps, uint64_t id, const struct shunt_cgroup *entry)
{
	return bpf_map_update_elem(maps->cgroups, &id, entry, BPF_ANY);
}

int maps_del_cgroup(const struct maps *maps, uint64_t id)
{
	int r = bpf_map_delete_elem(maps->cgroups, &id);

	return r == -ENOENT ? 0 : r;
}

int maps_find_slots(int cgroups, unsigned int now, unsigned int *ret)
{
	struct table entries = TABLE_INIT(uint64_t, struct shunt_cgroup);
	bool used[SHUNT_MESH_SETS] = {};
	int r = maps_read(cgroups, &entries);

	for (size_t i = 0; !r && i < entries.n; i++) {
		const struct shunt_cgroup *entry = table_value(&entries, i);

		if (entry->role != SHUNT_ROLE_NONE && entry->mesh < SHUNT_MESH_SLOTS)
			used[entry->mesh / SHUNT_MESHES_MAX] = true;
	}
	table_deinit(&entries);
	if (r)
		return r;
	for (unsigned int i = 1; i <= SHUNT_MESH_SETS; i++) {
		unsigned int set = (now / SHUNT_MESHES_MAX + i) % SHUNT_MESH_SETS;

		if (used[set])
			continue;
		*ret = set * SHUNT_MESHES_MAX;
		return 0;
	}
	return -ENOSPC;
}

/* The kernel waits for all programs that run when a map within a map is replaced: a grace period of
 * RCU, which hooks are within. */
int maps_wait_for_hooks(void)
{
	_cleanup_close_ int inner =
		bpf_map_create(BPF_MAP_TYPE_ARRAY, "shunt_wait", sizeof(__u32), 1, 1, NULL);
	LIBBPF_OPTS(bpf_map_create_opts, options, .inner_map_fd = inner);
	_cleanup_close_ int outer = -1;
	__u32 key = 0;

	if (inner < 0)
		return inner;
	outer = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "shunt_waits", sizeof(__u32),
			       sizeof(__u32), 1, &options);
	return outer < 0 ? outer : bpf_map_update_elem(outer, &key, &inner, BPF_ANY);
}

int maps_del_end(const struct maps *maps, const struct shunt_end_key *end)
{
	int r = bpf_map_delete_elem(maps->ends, end);

	return r == -ENOENT ? 0 : r;
}

int maps_get_end(const struct maps *maps, const struct shunt_end_key *end, uint64_t *ret_cookie)
{
	return bpf_map_lookup_elem(maps->ends, end, ret_cookie);
}

int maps_count_ends(const struct maps *maps, unsigned *ret)
{
	const struct shunt_end_key *previous = NULL;
	struct shunt_end_key end;
	int r = 0;

	for (*ret = 0; *ret < maps->ends_max; ++*ret) {
		r = bpf_map_get_next_key(maps->ends, previous, &end);
		if (r)
			break;
		previous = &end;
	}
	return r == -ENOENT ? 0 : r;
}

int maps_put_end(const struct maps *maps, const struct shunt_end_key *end, int fd)
{
	__u64 value = fd;
	int r = bpf_map_update_elem(maps->ends, end, &value, BPF_NOEXIST);

	return r == -EEXIST ? 0 : r;
}

int maps_read(int map, struct table *table)
{
	_cleanup_free_ char *key = malloc(table->key_size);
	_cleanup_free_ char *value = malloc(table->value_size);
	const void *previous = NULL;
	int r;

	if (!key || !value)
		return -ENOMEM;
	while (!(r = bpf_map_get_next_key(map, previous, key))) {
		/* Only the agent removes rows, so what was listed is there. */
		r = bpf_map_lookup_elem(map, key, value);
		r = r ?: table_add(table, key, value);
		if (r)
			return r;
		previous = key;
	}
	table_sort(table);
	return r == -ENOENT ? 0 : r;
}

int maps_write(int map, const struct table *table)
{
	int r = 0;

	for (size_t i = 0; !r && i < table->n; i++)
		r = bpf_map_update_elem(map, table_key(table, i), table_value(table, i), BPF_ANY);
	return r;
}

int maps_remove(int map, const struct table *table)
{
	int r = 0;

	for (size_t i = 0; !r && i < table->n; i++) {
		r = bpf_map_delete_elem(map, table_key(table, i));
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

int maps_apply(int map, const struct sync_plan *plan)
{
	return maps_write(map, &plan->put) ?: maps_remove(map, &plan->del);
}

int maps_read_stats(const struct maps *maps, uint32_t row, struct shunt_stats *ret)
{
	int cpus = libbpf_num_possible_cpus(), r;
	_cleanup_free_ struct shunt_stats *values = NULL;
	uint64_t *sum = (uint64_t *)ret;

	if (cpus < 0)
		return cpus;
	values = calloc(cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	r = bpf_map_lookup_elem(maps->stats, &row, values);
	if (r)
		return r;
	memset(ret, 0, sizeof(*ret));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (size_t i = 0; i < sizeof(*ret) / sizeof(*sum); i++)
			sum[i] += ((const uint64_t *)&values[cpu])[i];
	return 0;
}

int maps_read_row(const struct maps *maps, uint32_t row, struct shunt_row *ret)
{
	return bpf_map_lookup_elem(maps->rows, &row, ret);
}

int maps_put_row(const struct maps *maps, uint32_t row, const struct shunt_row *entry)
{
	return bpf_map_update_elem(maps->rows, &row, entry, BPF_ANY);
}

/* Rows are given names from 1 on, and none is taken away. */
static int maps_add_messages(const struct maps *maps, uint64_t counters[SHUNT_COUNTER_MAX])
{
	struct shunt_row name = {};
	struct shunt_stats stats;
	int r = 0;

	for (uint32_t row = 0; !r && row < SHUNT_STATS_ROWS; row++) {
		r = row ? maps_read_row(maps, row, &name) : 0;
		if (r || (row && !*name.mesh))
			break;
		r = maps_read_stats(maps, row, &stats);
		if (r)
			break;
		for (int i = 0; i < SHUNT_SIZE_BUCKETS; i++)
			counters[SHUNT_COUNTER_splice_messages] += stats.sizes[i];
		counters[SHUNT_COUNTER_splice_bytes] += stats.spliced_bytes;
		counters[SHUNT_COUNTER_splice_plain_messages] += stats.plain_messages;
		counters[SHUNT_COUNTER_splice_plain_bytes] += stats.plain_bytes;
	}
	return r;
}

static int maps_shape(int map, struct table *ret)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);
	int r = bpf_obj_get_info_by_fd(map, &info, &size);

	if (r)
		return r;
	*ret = (struct table){.key_size = info.key_size, .value_size = info.value_size};
	return 0;
}

int maps_clear(int map)
{
	struct table rows = {};
	int r = maps_shape(map, &rows);

	r = r ?: maps_read(map, &rows);
	r = r ?: maps_remove(map, &rows);
	table_deinit(&rows);
	return r;
}

bool maps_is_empty(int map)
{
	_cleanup_free_ char *key = NULL;
	struct table rows = {};

	if (maps_shape(map, &rows))
		return false;
	key = malloc(rows.key_size);
	return key && bpf_map_get_next_key(map, NULL, key) == -ENOENT;
}

static int maps_sum_counters(const struct maps *maps, uint32_t first, uint32_t n, uint64_t *ret)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *values = NULL;
	int r;

	if (cpus < 0)
		return cpus;
	values = calloc(cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t key = first + i;
		uint64_t sum = 0;

		r = bpf_map_lookup_elem(maps->counters, &key, values);
		if (r)
			return r;
		for (int cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu];
		ret[i] = sum;
	}
	return 0;
}

int maps_read_counters(const struct maps *maps, uint64_t ret[SHUNT_COUNTER_MAX])
{
	return maps_sum_counters(maps, 0, SHUNT_COUNTER_MAX, ret) ?: maps_add_messages(maps, ret);
}

int maps_read_counter(const struct maps *maps, enum shunt_counter counter, uint64_t *ret)
{
	return maps_sum_counters(maps, counter, 1, ret);
}

int maps_map_control(const struct maps *maps, volatile struct shunt_control **ret)
{
	void *control =
		mmap(NULL, sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, maps->control, 0);

	if (control == MAP_FAILED)
		return -errno;
	*ret = control;
	return 0;
}

void maps_unmap_control(volatile struct shunt_control *control)
{
	if (control)
		munmap((void *)control, sizeof(*control));
}

int maps_count(const struct maps *maps, enum shunt_counter counter)
{
	int cpus = libbpf_num_possible_cpus(), r;
	_cleanup_free_ uint64_t *values = cpus < 0 ? NULL : calloc(cpus, sizeof(*values));
	uint32_t key = counter;

	if (!values)
		return -ENOMEM;
	r = bpf_map_lookup_elem(maps->counters, &key, values);
	if (r)
		return r;
	values[0]++;
	return bpf_map_update_elem(maps->counters, &key, values, BPF_ANY);
}

int maps_reset_counter(const struct maps *maps, enum shunt_counter counter)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *zeros = cpus < 0 ? NULL : calloc(cpus, sizeof(*zeros));
	uint32_t key = counter;

	return zeros ? bpf_map_update_elem(maps->counters, &key, zeros, BPF_ANY) : -ENOMEM;
}

int maps_reset_paces(const struct maps *maps)
{
	int cpus = libbpf_num_possible_cpus(), r = 0;
	_cleanup_free_ struct shunt_pace *zeros = cpus < 0 ? NULL : calloc(cpus, sizeof(*zeros));

	if (!zeros)
		return -ENOMEM;
	for (uint32_t kind = 0; !r && kind < SHUNT_NOTICE_MAX; kind++)
		r = bpf_map_update_elem(maps->paces, &kind, zeros, BPF_ANY);
	return r;
}

bool maps_has_program(const struct maps *maps, uint64_t program)
{
	__u32 what;

	return !bpf_map_lookup_elem(maps->programs, &program, &what);
}

int maps_put_program(const struct maps *maps, uint64_t program, enum shunt_program what)
{
	__u32 value = what;

	return bpf_map_update_elem(maps->programs, &program, &value, BPF_ANY);
}

int maps_forget_programs(const struct maps *maps)
{
	return maps_clear(maps->programs);
}
