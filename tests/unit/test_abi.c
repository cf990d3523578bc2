/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The compiled object against the ABI header: sizes, names, types. Opens the skeleton, loads
 * nothing. Reads from: shunt.skel.h. Writes to: nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <bpf/libbpf.h>

#include "shunt.skel.h"
#include "shunt/abi.h"

static const struct {
	const char *name;
	size_t key;
	size_t value;
	enum bpf_map_type type;
} maps[] = {
	{"shunt_cgroups", 8, sizeof(struct shunt_cgroup), BPF_MAP_TYPE_HASH},
	{"shunt_meshes", 4, sizeof(struct shunt_mesh), BPF_MAP_TYPE_ARRAY},
	{"shunt_cidrs", sizeof(struct shunt_cidr_key), 4, BPF_MAP_TYPE_LPM_TRIE},
	{"shunt_owners", sizeof(struct shunt_owner_key), 4, BPF_MAP_TYPE_HASH},
	{"shunt_counters", 4, 8, BPF_MAP_TYPE_PERCPU_ARRAY},
	{"shunt_stats", 4, sizeof(struct shunt_stats), BPF_MAP_TYPE_PERCPU_ARRAY},
	{"shunt_rows", 4, sizeof(struct shunt_row), BPF_MAP_TYPE_ARRAY},
	{"shunt_socks", 4, sizeof(struct shunt_sock), BPF_MAP_TYPE_SK_STORAGE},
	{"shunt_resolvers", 4, sizeof(struct shunt_resolvers), BPF_MAP_TYPE_SK_STORAGE},
	{"shunt_pairs", sizeof(struct shunt_pair_key), sizeof(struct shunt_pair),
	 BPF_MAP_TYPE_HASH},
	{"shunt_ends", sizeof(struct shunt_end_key), 8, BPF_MAP_TYPE_SOCKHASH},
	{"shunt_syns", sizeof(struct shunt_pair_key), sizeof(struct shunt_syn),
	 BPF_MAP_TYPE_LRU_HASH},
	{"shunt_halves", sizeof(struct shunt_pair_key), sizeof(struct shunt_half),
	 BPF_MAP_TYPE_LRU_HASH},
	{"shunt_listeners", 8, sizeof(struct shunt_listener), BPF_MAP_TYPE_LRU_HASH},
	{"shunt_programs", 8, 4, BPF_MAP_TYPE_HASH},
	{"shunt_control", 4, sizeof(struct shunt_control), BPF_MAP_TYPE_ARRAY},
	{"shunt_events", 0, 0, BPF_MAP_TYPE_RINGBUF},
	{"shunt_watch", 0, 0, BPF_MAP_TYPE_RINGBUF},
	{"shunt_paces", 4, sizeof(struct shunt_pace), BPF_MAP_TYPE_PERCPU_ARRAY},
};

static struct shunt_bpf *skeleton;

static int setup(void **state)
{
	skeleton = shunt_bpf__open();
	return skeleton ? 0 : -1;
}

static int teardown(void **state)
{
	shunt_bpf__destroy(skeleton);
	return 0;
}

static void test_maps_have_the_shape_of_the_abi(void **state)
{
	struct bpf_map *map;
	size_t n = 0;

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		map = bpf_object__find_map_by_name(skeleton->obj, maps[i].name);
		assert_non_null(map);
		assert_int_equal(bpf_map__key_size(map), maps[i].key);
		assert_int_equal(bpf_map__value_size(map), maps[i].value);
		assert_int_equal(bpf_map__type(map), maps[i].type);
	}
	bpf_object__for_each_map(map, skeleton->obj)
	{
		n += !bpf_map__is_internal(map);
	}
	assert_int_equal(n, sizeof(maps) / sizeof(maps[0]));
}

/* What is pushed out of these costs a connection its splicing for a while, and nothing else. */
static int is_hint(const struct bpf_map *map)
{
	static const char *const hints[] = {"shunt_syns", "shunt_halves", "shunt_listeners"};

	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
		if (!strcmp(bpf_map__name(map), hints[i]))
			return 1;
	return 0;
}

static void test_no_map_that_decides_is_an_lru(void **state)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, skeleton->obj)
	{
		if (is_hint(map))
			continue;
		assert_int_not_equal(bpf_map__type(map), BPF_MAP_TYPE_LRU_HASH);
		assert_int_not_equal(bpf_map__type(map), BPF_MAP_TYPE_LRU_PERCPU_HASH);
	}
}

/* The kernel cuts names at 15 characters (BPF_OBJ_NAME_LEN): tools could not tell them apart. */
static void test_names_fit_and_carry_the_project(void **state)
{
	struct bpf_program *program;
	struct bpf_map *map;

	bpf_object__for_each_map(map, skeleton->obj)
	{
		if (bpf_map__is_internal(map))
			continue;
		assert_in_range(strlen(bpf_map__name(map)), 7, 15);
		assert_int_equal(strncmp(bpf_map__name(map), "shunt_", 6), 0);
	}
	bpf_object__for_each_program(program, skeleton->obj)
	{
		assert_in_range(strlen(bpf_program__name(program)), 7, 15);
		assert_int_equal(strncmp(bpf_program__name(program), "shunt_", 6), 0);
	}
}

/* Every hook that the configuration may need is in the object: none is left out by the build. */
static void test_every_hook_is_there(void **state)
{
	static const char *const sections[] = {
		"cgroup/connect4",
		"cgroup/connect6",
		"cgroup/sendmsg4",
		"cgroup/sendmsg6",
		"cgroup/recvmsg4",
		"cgroup/recvmsg6",
		"cgroup/getpeername4",
		"cgroup/getpeername6",
		"cgroup/getsockname4",
		"cgroup/getsockname6",
		"cgroup/getsockopt",
		"sockops",
		"sk_msg",
		"cgroup/setsockopt",
		"iter/task_file",
		"tp_btf/sock_recv_length",
	};

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		struct bpf_program *program;
		int found = 0;

		bpf_object__for_each_program(program, skeleton->obj)
		{
			found += !strcmp(bpf_program__section_name(program), sections[i]);
		}
		assert_true(found);
	}
}

/* The kernel takes references in it that are not there to be taken: CVE-2026-74714. */
static void test_no_program_iterates_over_tcp(void **state)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, skeleton->obj)
	{
		assert_string_not_equal(bpf_program__section_name(program), "iter/tcp");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps_have_the_shape_of_the_abi),
		cmocka_unit_test(test_no_map_that_decides_is_an_lru),
		cmocka_unit_test(test_names_fit_and_carry_the_project),
		cmocka_unit_test(test_every_hook_is_there),
		cmocka_unit_test(test_no_program_iterates_over_tcp),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
