/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What this host can do of what Shunt needs, tried out in throw-away objects by the process that
 * asks, with the privileges that it has. No agent is needed, and one that runs is not touched.
 */
#pragma once

#include <stddef.h>

/* The rungs of the ladder; each check says which need it. */
enum doctor_rung {
	DOCTOR_SPLICE,	 /* redirect and splice */
	DOCTOR_REDIRECT, /* redirect by programs */
	DOCTOR_NFTABLES, /* redirect by rules of nftables */
	DOCTOR_OFF,
	DOCTOR_RUNGS = DOCTOR_OFF,
};

enum doctor_result {
	DOCTOR_YES,
	DOCTOR_NO,
	DOCTOR_UNTRIED, /* something that it takes is not there */
};

struct doctor_check {
	char *name;
	char *how;		 /* it was tried, … */
	char *found;		 /* … and what was found; or NULL */
	const char *consequence; /* of a no */
	enum doctor_result result;
	unsigned int rungs; /* 1 << enum doctor_rung, each that cannot be had without */
};

struct doctor {
	struct doctor_check *checks;
	size_t n;
};

/*
 * Tries everything, which takes some seconds. @pin_dir: where an agent would pin; the directory
 * above it is tried. 0 or -ENOMEM.
 */
int doctor_run(const char *pin_dir, struct doctor *ret);
void doctor_deinit(struct doctor *doctor);

/* The best rung that can be had. */
enum doctor_rung doctor_rung(const struct doctor *doctor);
const char *doctor_rung_name(enum doctor_rung rung);
const char *doctor_result_name(enum doctor_result result);
