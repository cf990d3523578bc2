/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The commands of shuntctl: one file each, listed in the table in main.c. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>

#include "out.h"
#include "util/cleanup.h"

#define EXIT_USAGE 2

struct ctl {
	const char *socket;
	bool json; /* print what the agent answered as it is */
};

CLEANUP_DEFINE(json_t *, json_decref)
CLEANUP_DEFINE(struct out_table *, out_table_free)

#define _cleanup_json_	    _cleanup_(cleanup_json_decref)
#define _cleanup_out_table_ _cleanup_(cleanup_out_table_free)

/* Asks, and prints: as JSON, or by @print. Steals @request. Returns an exit status. */
int cmd_query(const struct ctl *ctl, json_t *request, void (*print)(const json_t *result));

/*
 * Appends all flows that @request, which is stolen, asks for to the array @flows, page after page.
 * Returns 0, or negative errno after it has said what is wrong.
 */
int cmd_fetch_flows(const struct ctl *ctl, json_t *request, json_t *flows);

/* The value of an option; @what: of which command and which option. 0, or -EINVAL after it has said
 * what is wrong. */
int cmd_take_number(const char *what, const char *text, double min, double max, double *ret);

/* Each returns an exit status; argv[0] is its name. */
int cmd_cgroups(const struct ctl *ctl, int argc, char **argv);
int cmd_counters(const struct ctl *ctl, int argc, char **argv);
int cmd_detach(const struct ctl *ctl, int argc, char **argv);
int cmd_doctor(const struct ctl *ctl, int argc, char **argv);
int cmd_events(const struct ctl *ctl, int argc, char **argv);
int cmd_exec(const struct ctl *ctl, int argc, char **argv);
int cmd_explain(const struct ctl *ctl, int argc, char **argv);
int cmd_flows(const struct ctl *ctl, int argc, char **argv);
int cmd_graph(const struct ctl *ctl, int argc, char **argv);
int cmd_meshes(const struct ctl *ctl, int argc, char **argv);
int cmd_reload(const struct ctl *ctl, int argc, char **argv);
int cmd_status(const struct ctl *ctl, int argc, char **argv);
int cmd_top(const struct ctl *ctl, int argc, char **argv);
