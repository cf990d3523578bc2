/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What happened between two samples.
 * Reads from: two struct sample.
 * Writes to: a struct rates.
 */
#include "rates.h"

#include <errno.h>
#include <string.h>

/* Ages are whole seconds, and the samples are not of one instant. */
#define AGE_SLACK 1

json_int_t rates_both(const json_t *flow, const char *key)
{
	const json_t *directions = json_object_get(flow, "directions");
	json_int_t sum = 0;

	sum += json_integer_value(
		json_object_get(json_object_get(directions, "client_to_server"), key));
	sum += json_integer_value(
		json_object_get(json_object_get(directions, "server_to_client"), key));
	return sum;
}

bool rates_is_spliced(const json_t *flow)
{
	return json_is_true(json_object_get(flow, "spliced"));
}

/* By id, so that the other sample's flows are found. NULL: no memory. */
static json_t *rates_index(const json_t *flows)
{
	json_t *index = json_object(), *flow;
	size_t i;

	json_array_foreach (flows, i, flow) {
		const char *id = json_string_value(json_object_get(flow, "id"));

		if (index && id && json_object_set(index, id, flow) != 0) {
			json_decref(index);
			return NULL;
		}
	}
	return index;
}

/* TCP's own numbers are read while they change, and are not known of an end that has just closed:
 * what seems to go backwards stands still. */
static double rates_of(json_int_t before, json_int_t now, double seconds)
{
	return now > before ? (now - before) / seconds : 0;
}

static void rates_compare(struct rates_flow *rate, const json_t *before, double seconds)
{
	json_int_t spliced = 0, tcp = 0;

	if (before) {
		spliced = rates_both(before, "bytes_spliced");
		tcp = rates_both(before, "bytes_tcp");
	} else if (json_integer_value(json_object_get(rate->flow, "age_s")) > seconds + AGE_SLACK) {
		return;
	}
	rate->known = true;
	rate->spliced = rates_of(spliced, rate->bytes_spliced, seconds);
	rate->tcp = rates_of(tcp, rate->bytes_tcp, seconds);
}

static void rates_sum(struct rates_mesh *sum, const struct rates_flow *rate)
{
	sum->flows++;
	sum->flows_spliced += rates_is_spliced(rate->flow);
	sum->spliced += rate->spliced;
	sum->tcp += rate->tcp;
	sum->spills += rate->spills;
}

static int rates_compare_names(const char *one, const char *other)
{
	return one && other ? strcmp(one, other) : !!one - !!other;
}

static int rates_compare_meshes(const void *a, const void *b)
{
	const struct rates_mesh *one = a, *other = b;

	return rates_compare_names(one->name, other->name);
}

static int rates_sum_meshes(struct rates *rates)
{
	for (size_t i = 0; i < rates->n_flows; i++) {
		const char *name = json_string_value(json_object_get(rates->flows[i].flow, "mesh"));
		size_t mesh = 0;

		while (mesh < rates->n_meshes &&
		       rates_compare_names(rates->meshes[mesh].name, name) != 0)
			mesh++;
		if (mesh == rates->n_meshes) {
			void *meshes =
				reallocarray(rates->meshes, mesh + 1, sizeof(*rates->meshes));

			if (!meshes)
				return -ENOMEM;
			rates->meshes = meshes;
			rates->meshes[mesh] = (struct rates_mesh){.name = name};
			rates->n_meshes++;
		}
		rates_sum(&rates->meshes[mesh], &rates->flows[i]);
		rates_sum(&rates->all, &rates->flows[i]);
	}
	if (rates->n_meshes)
		qsort(rates->meshes, rates->n_meshes, sizeof(*rates->meshes), rates_compare_meshes);
	return 0;
}

int rates_init(struct rates *ret, const struct sample *before, const struct sample *now)
{
	_cleanup_json_ json_t *index = rates_index(before ? before->flows : NULL);
	size_t n = json_array_size(now->flows);
	const json_t *flow;
	size_t i;

	*ret = (struct rates){
		.seconds = before && now->at > before->at ? now->at - before->at : 0,
		.flows = calloc(n + 1, sizeof(*ret->flows)),
		.n_flows = n,
		.counters_before = before ? before->counters : NULL,
		.counters = now->counters,
	};
	if (!index || !ret->flows) {
		rates_deinit(ret);
		return -ENOMEM;
	}
	json_array_foreach (now->flows, i, flow) {
		const char *id = json_string_value(json_object_get(flow, "id"));
		struct rates_flow *rate = &ret->flows[i];

		*rate = (struct rates_flow){
			.flow = flow,
			.bytes_spliced = rates_both(flow, "bytes_spliced"),
			.bytes_tcp = rates_both(flow, "bytes_tcp"),
			.spills = rates_both(flow, "spills"),
		};
		if (ret->seconds > 0)
			rates_compare(rate, id ? json_object_get(index, id) : NULL, ret->seconds);
	}
	if (rates_sum_meshes(ret)) {
		rates_deinit(ret);
		return -ENOMEM;
	}
	return 0;
}

void rates_deinit(struct rates *rates)
{
	free(rates->flows);
	free(rates->meshes);
	*rates = (struct rates){};
}

double rates_counter(const struct rates *rates, const char *name)
{
	const json_t *before = json_object_get(rates->counters_before, name);
	const json_t *now = json_object_get(rates->counters, name);

	if (rates->seconds <= 0 || !before || !now)
		return -1;
	return rates_of(json_integer_value(before), json_integer_value(now), rates->seconds);
}
