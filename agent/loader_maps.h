/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The pins of maps: which of those that are there are kept, and which are made anew. Private to
 * loader*.c.
 */
#pragma once

#include <stdbool.h>

#include "loader_pins.h"

struct bpf_object;

struct loader_kept {
	bool policy; /* else its new maps are in LOADER_PINS_NEXT until loader_maps_swap() */
	bool pairs_replaced; /* what was pinned as shunt_pairs was damaged, and is made anew */
};

/*
 * Gives each map of @object, which is not loaded yet, its pin: then libbpf adopts what is there, or
 * pins what it makes. May be called again with another object, and the same @kept, which begins
 * zeroed. 0 or negative errno.
 */
int loader_maps_pin(const struct loader_pins *pins, struct bpf_object *object,
		    struct loader_kept *kept);
/* The maps of the policy and those before change names, by which the next agent finds them: all at
 * one instant. A second call takes it back. Nothing where they are kept. 0 or negative errno. */
int loader_maps_swap(const struct loader_pins *pins, const struct loader_kept *kept);
/* Has nobody removed a pin of a map of @object? */
bool loader_maps_are_pinned(const struct loader_pins *pins, const struct bpf_object *object);
/* Pins those maps of @object that are not, in the directories of @pins. 0 or negative errno. */
int loader_maps_repin(const struct loader_pins *pins, const struct bpf_object *object);
