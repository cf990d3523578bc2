/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connections that the kernel half keeps in mind, told one by one: who, dialled what, spliced
 * or why not. An answer comes in pages, so that the loop never waits long, however many there are.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "util/writer.h"

/* Answers that are under way at a time; one more and the oldest is dropped. */
#define FLOWS_READERS 8

struct flows_reader;

/* Zeroed, it is empty. */
struct flows {
	struct flows_reader *readers[FLOWS_READERS]; /* oldest first */
	size_t n_readers;
	unsigned int last_id;
};

void flows_deinit(struct flows *flows);

/*
 * A verb; @user is the struct agent. The question has "mesh", "cgroup", "pid", "port", "state",
 * "brief", all optional, or "next" alone, from the answer before. The answer is an object: "flows",
 * an array, and "next", null when that was all of them. "brief": true leaves out of a flow what is
 * null or 0, and what its reason means: a third of the text, for who is to read 50,000.
 */
int flows_answer(void *user, const json_t *request, struct writer *writer, char **ret_error);
