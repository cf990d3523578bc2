/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The connections that the kernel half keeps in mind.
 * Reads from: the kernel half's iterators (bpf/flows.bpf.c).
 * Writes to: JSON results, by way of flow.
 */
#include "flows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "flow.h"
#include "flow_filter.h"
#include "records.h"
#include "util/cleanup.h"
#include "verbs.h"

/* One answer is as long as the loop may well wait: a few milliseconds. */
#define FLOWS_PAGE 1024 /* flows in it */
#define FLOWS_LOOK 4096 /* flows looked at, if few of them are asked for */

struct flows_reader {
	unsigned int id;
	bool brief;
	struct flow_filter filter;
	bool users_known;
	struct records *scan;	  /* for them, while it goes on */
	struct shunt_user *users; /* by socket, once known */
	size_t n_users;
	size_t allocated_users;
	struct records records;
};

static int flows_compare_users(const void *a, const void *b)
{
	const struct shunt_user *one = a, *other = b;

	return (one->sock > other->sock) - (one->sock < other->sock);
}

static int flows_add_user(struct flows_reader *reader, const struct shunt_user *user)
{
	size_t wanted = reader->allocated_users ? 2 * reader->allocated_users : 256;
	void *users;

	if (reader->n_users == reader->allocated_users) {
		users = reallocarray(reader->users, wanted, sizeof(*user));
		if (!users)
			return -ENOMEM;
		reader->users = users;
		reader->allocated_users = wanted;
	}
	reader->users[reader->n_users++] = *user;
	return 0;
}

/* Who has which socket open: a scan of all files of the host, only if somebody wants to know. */
static int flows_begin_users(struct flows_reader *reader, const struct loader *loader)
{
	reader->scan = malloc(sizeof(*reader->scan));
	if (!reader->scan)
		return -ENOMEM;
	reader->scan->begin = reader->scan->end = 0;
	reader->scan->fd = loader_open_users(loader);
	return reader->scan->fd < 0 ? reader->scan->fd : 0;
}

/* Goes on with the scan by as much as the kernel gives at a time. */
static int flows_go_on_with_users(struct flows_reader *reader)
{
	ssize_t n = records_read(reader->scan);
	const struct shunt_user *user;
	int r = 0;

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	while (n > 0 && !r && (user = records_take(reader->scan, sizeof(*user))))
		r = flows_add_user(reader, user);
	if (n > 0 || r)
		return r;
	reader->scan = records_free(reader->scan);
	reader->users_known = true;
	if (reader->n_users)
		qsort(reader->users, reader->n_users, sizeof(*reader->users), flows_compare_users);
	return n;
}

/* The process that wrote last. Of an end that did not write, or not since Shunt looks: one that has
 * the socket open. 0: nobody has. -EAGAIN: that has to be found out first. */
static int flows_find_pid(struct flows_reader *reader, const struct shunt_flow *flow,
			  enum shunt_end_index end, uint32_t *ret)
{
	const struct shunt_user key = {.sock = flow->pair.end[end].sock};
	const struct shunt_user *user;

	*ret = flow->pair.end[end].pid;
	/* Without its numbers the socket at that address may be another's. */
	if (*ret || !flow->tcp[end].state)
		return 0;
	if (!reader->users_known)
		return -EAGAIN;
	user = reader->n_users ? bsearch(&key, reader->users, reader->n_users, sizeof(key),
					 flows_compare_users)
			       : NULL;
	*ret = user ? user->pid : 0;
	return 0;
}

static struct flows_reader *flows_reader_free(struct flows_reader *reader)
{
	if (!reader)
		return NULL;
	if (reader->records.fd >= 0)
		close(reader->records.fd);
	flow_filter_deinit(&reader->filter);
	records_free(reader->scan);
	free(reader->users);
	free(reader);
	return NULL;
}

CLEANUP_DEFINE(struct flows_reader *, flows_reader_free)
#define _cleanup_reader_ _cleanup_(cleanup_flows_reader_free)

void flows_deinit(struct flows *flows)
{
	while (flows->n_readers)
		flows_reader_free(flows->readers[--flows->n_readers]);
}

static struct flows_reader *flows_take(struct flows *flows, size_t i)
{
	struct flows_reader *reader = flows->readers[i];

	memmove(&flows->readers[i], &flows->readers[i + 1],
		(--flows->n_readers - i) * sizeof(flows->readers[0]));
	return reader;
}

static void flows_put(struct flows *flows, struct flows_reader *reader)
{
	if (flows->n_readers == FLOWS_READERS)
		flows_reader_free(flows_take(flows, 0));
	flows->readers[flows->n_readers++] = reader;
}

/* Writes the flow if it is asked for; *@n counts those. */
static int flows_add(struct flows_reader *reader, struct flow_names *names,
		     const struct shunt_flow *record, struct writer *writer, size_t *n)
{
	struct flow flow = {};
	int r = 0;

	flow_resolve(names, record, &flow);
	for (int end = 0; !r && end < SHUNT_ENDS; end++)
		r = flows_find_pid(reader, record, end, &flow.pids[end]);
	if (r || !flow_filter_wants(&reader->filter, &flow))
		return r;
	writer_object(writer, NULL);
	flow_write(names, &flow, writer);
	writer_object_end(writer);
	++*n;
	return 0;
}

/* *@ret_more: there may be more. */
static int flows_write_page(struct flows_reader *reader, struct agent *agent, struct writer *writer,
			    bool *ret_more)
{
	const struct shunt_flow *flow = NULL;
	struct flow_names names;
	size_t n = 0;
	int r;

	r = flow_names_init(&names, agent);
	for (size_t i = 0; !r && i < FLOWS_LOOK && n < FLOWS_PAGE; i++) {
		flow = records_next(&reader->records, sizeof(*flow), &r);
		if (!flow)
			break;
		r = flows_add(reader, &names, flow, writer, &n);
	}
	flow_names_deinit(&names);
	if (r == -EAGAIN) { /* it is the first one of the next page, or the one after */
		reader->records.begin -= sizeof(*flow);
		r = flows_begin_users(reader, agent->loader);
	}
	*ret_more = flow;
	return r;
}

/* A page may be empty, and not the last: while it is found out who has which socket open. */
static int flows_read_page(struct flows_reader *reader, struct agent *agent, struct writer *writer,
			   bool *ret_more)
{
	int r = 0;

	*ret_more = true;
	if (reader->scan)
		r = flows_go_on_with_users(reader);
	if (r || reader->scan)
		return r;
	return flows_write_page(reader, agent, writer, ret_more);
}

static int flows_begin(struct agent *agent, const json_t *request, struct flows_reader **ret,
		       char **ret_error)
{
	_cleanup_reader_ struct flows_reader *reader = malloc(sizeof(*reader));
	int r;

	if (!reader)
		return -ENOMEM;
	memset(reader, 0, offsetof(struct flows_reader, records.buffer));
	reader->records.fd = -1;
	r = flow_filter_parse(agent, request, &reader->filter, ret_error);
	if (r)
		return r;
	reader->records.fd = loader_open_flows(agent->loader);
	if (reader->records.fd < 0)
		return reader->records.fd;
	reader->id = ++agent->flows.last_id;
	reader->brief = json_is_true(json_object_get(request, "brief"));
	*ret = TAKE_PTR(reader);
	return 0;
}

static int flows_resume(struct flows *flows, const json_t *next, struct flows_reader **ret,
			char **ret_error)
{
	for (size_t i = 0; i < flows->n_readers; i++) {
		if (flows->readers[i]->id == json_integer_value(next)) {
			*ret = flows_take(flows, i);
			return 0;
		}
	}
	*ret_error = strdup("the rest of this answer is gone: too many asked meanwhile; ask again");
	return -ESTALE;
}

int flows_answer(void *user, const json_t *request, struct writer *writer, char **ret_error)
{
	const json_t *next = json_object_get(request, "next");
	_cleanup_reader_ struct flows_reader *reader = NULL;
	struct agent *agent = user;
	bool more;
	int r;

	if (verbs_need_redirect(agent, ret_error))
		return -ENOTCONN;
	r = next ? flows_resume(&agent->flows, next, &reader, ret_error)
		 : flows_begin(agent, request, &reader, ret_error);
	if (r)
		return r;
	writer_object(writer, NULL);
	writer_array(writer, "flows");
	writer->brief = reader->brief;
	r = flows_read_page(reader, agent, writer, &more);
	writer->brief = false;
	writer_array_end(writer);
	if (more)
		writer_number(writer, "next", reader->id);
	else
		writer_null(writer, "next");
	writer_object_end(writer);
	if (!r && more)
		flows_put(&agent->flows, TAKE_PTR(reader));
	return r;
}
