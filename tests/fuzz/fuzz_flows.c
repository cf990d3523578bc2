/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of connections as the kernel half writes them, read while others write: no field need
 * make sense.
 * Reads from: an input, as what the iterators give.
 * Writes to: nothing.
 */
#include "fake_kernel.h"
#include "flows.h"
#include "fuzz.h"
#include "shunt/flow.h"
#include "util/cleanup.h"

/* All pages of one answer. Returns how many flows there were. */
static size_t read_all(json_t *request)
{
	size_t flows = 0;

	while (request) {
		_cleanup_free_ char *error = NULL;
		struct writer writer = {};
		json_t *result, *next;

		fuzz_check(!flows_answer(fake_agent(), request, &writer, &error));
		json_decref(request);
		result = json_loads(writer_text(&writer), 0, NULL);
		fuzz_check(result);
		writer_deinit(&writer);
		flows += json_array_size(json_object_get(result, "flows"));
		next = json_object_get(result, "next");
		request = json_is_integer(next) ? json_pack("{s:O}", "next", next) : NULL;
		json_decref(result);
	}
	return flows;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t flows;

	fake_kernel.data = data;
	fake_kernel.size = size;
	flows = read_all(json_object());
	fuzz_check(flows == size / sizeof(struct shunt_flow));
	fuzz_check(read_all(json_pack("{s:s}", "state", "spliced")) <= flows);
	fuzz_check(read_all(json_pack("{s:s}", "cgroup", "/a")) <= flows);
	return 0;
}
