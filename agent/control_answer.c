/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers as they go to a client: a line of JSON.
 * Reads from: what a verb gave.
 * Writes to: texts.
 */
#include "control_answer.h"

#include <errno.h>
#include <string.h>

#include "shunt/proto.h"
#include "util/cleanup.h"

CLEANUP_DEFINE(json_t *, json_decref)

/* Steals @answer. The text has no NUL at its end but the newline that ends an answer. */
static char *answer_format(json_t *answer, size_t *ret_len)
{
	_cleanup_(cleanup_json_decref) json_t *owned = answer;
	char *text = owned ? json_dumps(owned, JSON_COMPACT) : NULL;

	if (!text) /* no memory, or bytes that are not UTF-8 */
		text = strdup("{\"ok\":false,\"error\":\"the answer cannot be put into JSON\"}");
	if (!text)
		return NULL;
	*ret_len = strlen(text);
	text[(*ret_len)++] = '\n';
	return text;
}

char *control_answer_error(const char *error, size_t *ret_len)
{
	struct writer answer = {};

	writer_object(&answer, NULL);
	writer_bool(&answer, "ok", false);
	writer_string(&answer, "error", error);
	writer_object_end(&answer);
	writer_raw(&answer, "\n", 1);
	*ret_len = answer.len;
	if (answer.failed)
		writer_deinit(&answer);
	return answer.text;
}

char *control_answer_result(json_t *result, size_t *ret_len)
{
	size_t len = 0;
	_cleanup_free_ char *text = answer_format(
		json_pack("{s:b, s:o}", "ok", 1, "result", result ? result : json_null()), &len);

	if (text && len > SHUNT_PROTO_PENDING_MAX)
		return control_answer_error("the answer is too long to be sent", ret_len);
	*ret_len = len;
	return TAKE_PTR(text);
}

char *control_answer_text(struct writer *result, size_t *ret_len)
{
	static const char before[] = "{\"ok\":true,\"result\":", after[] = {'}', '\n'};
	size_t len = sizeof(before) - 1 + result->len + sizeof(after);
	const char *written = writer_text(result);
	char *text;

	if (!written)
		return control_answer_error(strerror(ENOMEM), ret_len);
	if (len > SHUNT_PROTO_PENDING_MAX)
		return control_answer_error("the answer is too long to be sent", ret_len);
	text = malloc(len);
	if (!text)
		return NULL;
	*ret_len = len;
	memcpy(mempcpy(mempcpy(text, before, sizeof(before) - 1), written, result->len), after,
	       sizeof(after));
	return text;
}
