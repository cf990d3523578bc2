/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Answers as they go to a client. Each is a line that the caller frees, without a NUL at its end;
 * NULL: no memory. */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "util/writer.h"

/* @error: of any bytes. */
char *control_answer_error(const char *error, size_t *ret_len);
/* Takes @result; NULL is null. Here and below, what is too long to be sent becomes a refusal. */
char *control_answer_result(json_t *result, size_t *ret_len);
char *control_answer_text(struct writer *result, size_t *ret_len);
