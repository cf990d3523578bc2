/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pins of maps.
 * Reads from: maps that are pinned, of this version and of others.
 * Writes to: the pins of this version.
 */
#include "loader_maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader_layout.h"
#include "log.h"
#include "maps.h"
#include "util/cleanup.h"

/* Cgroups name meshes and meshes name rules: maps that refer to each other. */
static bool loader_is_policy(const struct bpf_map *map)
{
	static const char *const names[] = {
		"shunt_cgroups",
		"shunt_meshes",
		"shunt_cidrs",
		"shunt_owners",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], bpf_map__name(map)))
			return true;
	return false;
}

static bool loader_info_fits(const struct bpf_map *map, const struct bpf_map_info *info)
{
	return !strcmp(info->name, bpf_map__name(map)) && info->type == bpf_map__type(map) &&
	       info->key_size == bpf_map__key_size(map) &&
	       info->value_size == bpf_map__value_size(map) &&
	       info->map_flags == bpf_map__map_flags(map);
}

enum loader_pin {
	LOADER_PIN_NONE,
	LOADER_PIN_FITS,
	LOADER_PIN_RESIZED, /* fits but for max_entries */
	LOADER_PIN_WRONG,
};

/* What is pinned at @path for @map: enum loader_pin, or negative errno. */
static int loader_look_at_pin(const struct bpf_map *map, const char *path, struct bpf_map_info *ret)
{
	_cleanup_close_ int fd = loader_pins_open_map(path);
	__u32 size = sizeof(*ret);

	*ret = (struct bpf_map_info){};
	if (fd == -EACCES)
		return LOADER_PIN_WRONG;
	if (fd < 0)
		return fd == -ENOENT ? LOADER_PIN_NONE : fd;
	if (bpf_obj_get_info_by_fd(fd, ret, &size))
		return -errno;
	if (!loader_info_fits(map, ret))
		return LOADER_PIN_WRONG;
	return ret->max_entries == bpf_map__max_entries(map) ? LOADER_PIN_FITS : LOADER_PIN_RESIZED;
}

/* Is there a set of mesh slots left to fill? Agents that were killed in mid-reload, one after the
 * other, may have left entries that refer to all of them. */
static bool loader_policy_has_room(const struct loader_pins *pins)
{
	_cleanup_close_ int cgroups =
		loader_pins_get(pins, SHUNT_ABI_VERSION, LOADER_PINS_POLICY "/shunt_cgroups");
	unsigned int slots;

	return cgroups >= 0 && !maps_find_slots(cgroups, 0, &slots);
}

/* Those with the policy are kept all together or not at all. */
static bool loader_policy_fits(const struct loader_pins *pins, const struct bpf_object *object)
{
	struct bpf_map_info info;
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		_cleanup_free_ char *path = NULL;

		if (!loader_is_policy(map))
			continue;
		path = loader_pins_map(pins, LOADER_PINS_POLICY, bpf_map__name(map));
		if (!path || loader_look_at_pin(map, path, &info) != LOADER_PIN_FITS)
			return false;
	}
	return loader_policy_has_room(pins);
}

/* What sockets carry with them is shared with other versions, if these mean the same by it. */
static void loader_share_map(const struct loader_pins *pins, const struct bpf_object *object,
			     const struct bpf_map *map, const char *path)
{
	char name[64];

	if (bpf_map__type(map) != BPF_MAP_TYPE_SK_STORAGE)
		return;
	snprintf(name, sizeof(name), LOADER_PINS_MAPS "/%s", bpf_map__name(map));
	for (size_t i = 0; i < pins->n_others; i++) {
		_cleanup_close_ int fd = loader_pins_get(pins, pins->others[i], name);

		if (fd >= 0 && loader_layout_same(object, map, fd) && !bpf_obj_pin(fd, path))
			return;
	}
}

/*
 * Connections that are open are in the maps whose size is limits.flows: their size stays as long as
 * they do. One that is no map of this ABI was damaged, and there is no more to save.
 */
static int loader_check_state_map(const struct loader_pins *pins, const struct bpf_object *object,
				  struct bpf_map *map, const char *path, struct loader_kept *kept)
{
	struct bpf_map_info info;
	int pin = loader_look_at_pin(map, path, &info);
	int r;

	switch (pin) {
	case LOADER_PIN_RESIZED:
		return bpf_map__set_max_entries(map, info.max_entries);
	case LOADER_PIN_WRONG:
		r = loader_pins_unlink(AT_FDCWD, path);
		if (r)
			return r;
		log_warning("%s is not what this version keeps there, and was made anew", path);
		kept->pairs_replaced |= !strcmp(bpf_map__name(map), "shunt_pairs");
		return 0;
	case LOADER_PIN_NONE:
		loader_share_map(pins, object, map, path);
		return 0;
	default:
		return pin < 0 ? pin : 0;
	}
}

int loader_maps_pin(const struct loader_pins *pins, struct bpf_object *object,
		    struct loader_kept *kept)
{
	const char *policy;
	struct bpf_map *map;
	int r;

	kept->policy = loader_policy_fits(pins, object);
	policy = kept->policy ? LOADER_PINS_POLICY : LOADER_PINS_NEXT;
	/* What an agent left that was ended in between. */
	r = loader_pins_clear(pins, LOADER_PINS_NEXT);
	if (!r && !kept->policy)
		r = loader_pins_make(pins, policy);
	bpf_object__for_each_map(map, object)
	{
		_cleanup_free_ char *path = NULL;

		/* Constants of these very programs: those of others must not be taken for them. */
		if (r || bpf_map__is_internal(map))
			continue;
		path = loader_pins_map(pins, loader_is_policy(map) ? policy : LOADER_PINS_MAPS,
				       bpf_map__name(map));
		if (!path)
			return -ENOMEM;
		if (!loader_is_policy(map))
			r = loader_check_state_map(pins, object, map, path, kept);
		r = r ?: bpf_map__set_pin_path(map, path);
	}
	return r;
}

int loader_maps_swap(const struct loader_pins *pins, const struct loader_kept *kept)
{
	_cleanup_free_ char *policy = loader_pins_map(pins, LOADER_PINS_POLICY, "");
	_cleanup_free_ char *next = loader_pins_map(pins, LOADER_PINS_NEXT, "");

	if (kept->policy)
		return 0;
	if (!policy || !next)
		return -ENOMEM;
	policy[strlen(policy) - 1] = next[strlen(next) - 1] = '\0';
	return renameat2(AT_FDCWD, next, AT_FDCWD, policy, RENAME_EXCHANGE) ? -errno : 0;
}

/* Where no splicing can be loaded its map does not exist. */
static bool loader_is_pinned(const struct bpf_map *map)
{
	return !bpf_map__is_internal(map) && bpf_map__autocreate(map);
}

static char *loader_map_path(const struct loader_pins *pins, const struct bpf_map *map)
{
	return loader_pins_map(pins, loader_is_policy(map) ? LOADER_PINS_POLICY : LOADER_PINS_MAPS,
			       bpf_map__name(map));
}

bool loader_maps_are_pinned(const struct loader_pins *pins, const struct bpf_object *object)
{
	struct bpf_map *map;
	bool pinned = true;

	bpf_object__for_each_map(map, object)
	{
		_cleanup_free_ char *path = NULL;

		if (!pinned || !loader_is_pinned(map))
			continue;
		path = loader_map_path(pins, map);
		pinned = path && !access(path, F_OK);
	}
	return pinned;
}

static bool loader_map_has_pin(const struct bpf_map *map, const char *path)
{
	struct bpf_map_info ours = {}, there = {};
	_cleanup_close_ int fd = loader_pins_open_map(path);
	__u32 size = sizeof(ours);

	return fd >= 0 && !bpf_obj_get_info_by_fd(fd, &there, &size) &&
	       !bpf_obj_get_info_by_fd(bpf_map__fd(map), &ours, &size) && there.id == ours.id;
}

int loader_maps_repin(const struct loader_pins *pins, const struct bpf_object *object)
{
	struct bpf_map *map;
	int r = 0;

	bpf_object__for_each_map(map, object)
	{
		_cleanup_free_ char *path = NULL;

		if (!loader_is_pinned(map))
			continue;
		path = loader_map_path(pins, map);
		if (!path)
			return -ENOMEM;
		if (loader_map_has_pin(map, path))
			continue;
		r = loader_pins_unlink(AT_FDCWD, path);
		r = r ?: bpf_obj_pin(bpf_map__fd(map), path);
		if (r)
			break;
	}
	return r;
}
