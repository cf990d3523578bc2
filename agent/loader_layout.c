/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Do two versions mean the same by the values of a map?
 * Reads from: the BTF of a map, the skeleton's.
 * Writes to: nothing.
 */
#include "loader_layout.h"

#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include "util/cleanup.h"

#define LOADER_LAYOUT_DEPTH 16

struct loader_layout {
	const struct btf *btf;
	__u32 type;
};

CLEANUP_DEFINE(struct btf *, btf__free)

static bool loader_layout_equal(struct loader_layout a, struct loader_layout b, int depth);

static bool loader_layout_members_equal(struct loader_layout a, const struct btf_type *one,
					struct loader_layout b, const struct btf_type *two,
					int depth)
{
	const struct btf_member *left = btf_members(one), *right = btf_members(two);

	for (unsigned int i = 0; i < btf_vlen(one); i++) {
		struct loader_layout x = {a.btf, left[i].type}, y = {b.btf, right[i].type};

		if (left[i].offset != right[i].offset ||
		    strcmp(btf__name_by_offset(a.btf, left[i].name_off),
			   btf__name_by_offset(b.btf, right[i].name_off)) ||
		    !loader_layout_equal(x, y, depth))
			return false;
	}
	return true;
}

static bool loader_layout_equal(struct loader_layout a, struct loader_layout b, int depth)
{
	int one = btf__resolve_type(a.btf, a.type), two = btf__resolve_type(b.btf, b.type);
	const struct btf_type *left, *right;
	struct loader_layout x, y;

	if (one < 0 || two < 0 || !depth)
		return false;
	left = btf__type_by_id(a.btf, one);
	right = btf__type_by_id(b.btf, two);
	if (btf_kind(left) != btf_kind(right) || btf_vlen(left) != btf_vlen(right))
		return false;
	if (btf_is_array(left)) {
		x = (struct loader_layout){a.btf, btf_array(left)->type};
		y = (struct loader_layout){b.btf, btf_array(right)->type};
		return btf_array(left)->nelems == btf_array(right)->nelems &&
		       loader_layout_equal(x, y, depth - 1);
	}
	return left->size == right->size &&
	       (!btf_is_composite(left) ||
		loader_layout_members_equal(a, left, b, right, depth - 1));
}

bool loader_layout_same(const struct bpf_object *object, const struct bpf_map *map, int fd)
{
	_cleanup_(cleanup_btf__free) struct btf *btf = NULL;
	struct bpf_map_info info = {};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &size) || !info.btf_id)
		return false;
	btf = btf__load_from_kernel_by_id(info.btf_id);
	return btf && loader_layout_equal((struct loader_layout){btf, info.btf_value_type_id},
					  (struct loader_layout){bpf_object__btf(object),
								 bpf_map__btf_value_type_id(map)},
					  LOADER_LAYOUT_DEPTH);
}
