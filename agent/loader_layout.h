/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Do two versions mean the same by the values of a map? By their BTF: names, types and places. */
#pragma once

#include <stdbool.h>

#include <bpf/libbpf.h>

/* @fd: a map that was made before; @map: the one of the same name in @object. False too if either
 * cannot be told. */
bool loader_layout_same(const struct bpf_object *object, const struct bpf_map *map, int fd);
