/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a question comes to once it is known to be JSON: every verb whose answer has an end, with
 * anything for an argument.
 * Reads from: an input, as the question.
 * Writes to: nothing.
 */
#include <errno.h>

#include "fake_kernel.h"
#include "fuzz.h"
#include "util/cleanup.h"
#include "verbs.h"

static const struct control_verb *find_verb(const char *name)
{
	for (const struct control_verb *verb = verbs_table(); name && verb->name; verb++)
		if (!verb->stream && !strcmp(verb->name, name))
			return verb;
	return NULL;
}

/* The answer as JSON; NULL: a refusal, of which @error says the reason. */
static json_t *ask(const struct control_verb *verb, const json_t *request, char **error)
{
	struct writer writer = {};
	json_t *result = NULL;
	int r;

	if (verb->run) {
		r = verb->run(fake_agent(), request, &result, error);
		if (!r && !result)
			result = json_null();
	} else {
		r = verb->write(fake_agent(), request, &writer, error);
		if (!r)
			result = json_loads(writer_text(&writer), JSON_DECODE_ANY, NULL);
		writer_deinit(&writer);
	}
	fuzz_check(r <= 0 && r != -ENOMEM);
	fuzz_check(!r == !!result);
	return result;
}

/* Whatever it says, it can be sent. */
static void check_answer(const struct control_verb *verb, const json_t *request)
{
	_cleanup_free_ char *error = NULL, *text = NULL;
	json_t *result = ask(verb, request, &error);

	if (!result)
		result = json_string(error ?: "");
	text = json_dumps(result, JSON_ENCODE_ANY);
	fuzz_check(text);
	json_decref(result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *request = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	const struct control_verb *verb;

	fake_kernel.size = 0;
	verb = find_verb(json_string_value(json_object_get(request, "verb")));
	if (verb)
		check_answer(verb, request);
	json_decref(request);
	return 0;
}
