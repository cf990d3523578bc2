/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What holds is told once, and no longer than it does.
 * Reads from: agent/warnings.h.
 * Writes to: stderr, which it reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "capture.h"
#include "log.h"
#include "warnings.h"

static int teardown(void **state)
{
	(void)state;
	log_flush(true);
	return 0;
}

/* Returns whether something was logged. */
__attribute__((format(printf, 3, 4))) static bool
add(struct warnings *warnings, enum warning_kind kind, const char *format, ...)
{
	struct capture capture;
	va_list args;

	capture_begin(&capture);
	va_start(args, format);
	warnings_add(warnings, kind, format, args);
	va_end(args);
	return *capture_end(&capture);
}

static void test_told_once(void **state)
{
	struct warnings warnings = {};

	(void)state;
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "b"));
	assert_false(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	assert_int_equal(warnings.n, 2);
	assert_string_equal(warnings.texts[0], "mesh a");
	assert_string_equal(warnings.texts[1], "mesh b");
	assert_null(warnings.texts[2]);
	warnings_clear(&warnings);
	assert_int_equal(warnings.n, 0);
	assert_null(warnings.texts[0]);
	assert_true(add(&warnings, WARNING_STANDING, "mesh %s", "a"));
	warnings_clear(&warnings);
}

/* What is said again while it is tried again stays, and is not logged again; the rest goes. */
static void test_mended(void **state)
{
	struct warnings warnings = {};

	(void)state;
	add(&warnings, WARNING_STANDING, "stands");
	add(&warnings, WARNING_FAULT, "is mended");
	add(&warnings, WARNING_UNWATCHED, "is not watched");
	add(&warnings, WARNING_FAULT, "fails again");
	warnings_review(&warnings, WARNING_FAULT);
	assert_false(add(&warnings, WARNING_FAULT, "fails again"));
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 3);
	assert_string_equal(warnings.texts[0], "stands");
	assert_string_equal(warnings.texts[1], "is not watched");
	assert_string_equal(warnings.texts[2], "fails again");
	assert_null(warnings.texts[3]);
	warnings_review(&warnings, WARNING_UNWATCHED);
	warnings_review(&warnings, WARNING_FAULT);
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 1);
	assert_string_equal(warnings.texts[0], "stands");
	assert_null(warnings.texts[1]);
	assert_true(add(&warnings, WARNING_FAULT, "is mended"));
	assert_string_equal(warnings.texts[1], "is mended");
	assert_null(warnings.texts[2]);
	warnings_clear(&warnings);
}

static void test_too_many(void **state)
{
	struct warnings warnings = {};
	char last[16];

	(void)state;
	for (int i = 0; i < WARNINGS_MAX + 8; i++)
		add(&warnings, WARNING_FAULT, "number %d", i);
	assert_int_equal(warnings.n, WARNINGS_MAX);
	snprintf(last, sizeof(last), "number %d", WARNINGS_MAX - 1);
	assert_string_equal(warnings.texts[WARNINGS_MAX - 1], last);
	assert_null(warnings.texts[WARNINGS_MAX]);
	warnings_review(&warnings, WARNING_FAULT);
	warnings_drop_mended(&warnings);
	assert_int_equal(warnings.n, 0);
	assert_null(warnings.texts[0]);
}

/* What a list should be, the slow way. */
struct model {
	char texts[WARNINGS_MAX][32];
	enum warning_kind kinds[WARNINGS_MAX];
	size_t n;
};

/* Forgets all of @kind. */
static void model_drop(struct model *model, enum warning_kind kind)
{
	struct model kept = {};

	for (size_t i = 0; i < model->n; i++) {
		if (model->kinds[i] == kind)
			continue;
		kept.kinds[kept.n] = model->kinds[i];
		strcpy(kept.texts[kept.n++], model->texts[i]);
	}
	*model = kept;
}

static void model_add(struct model *model, enum warning_kind kind, const char *text)
{
	size_t i = 0;

	while (i < model->n && strcmp(model->texts[i], text) != 0)
		i++;
	if (i == WARNINGS_MAX)
		return;
	strcpy(model->texts[i], text);
	model->kinds[i] = kind;
	if (i == model->n)
		model->n++;
}

static void model_review(struct model *model, enum warning_kind kind)
{
	for (size_t i = 0; i < model->n; i++)
		if (model->kinds[i] == kind)
			model->kinds[i] = WARNING_REVIEWED;
}

/* Whoever reads the list goes on to its first NULL: there is nothing behind the last. */
static void assert_as(const struct warnings *warnings, const struct model *model)
{
	assert_int_equal(warnings->n, model->n);
	for (size_t i = 0; i < model->n; i++) {
		assert_string_equal(warnings->texts[i], model->texts[i]);
		assert_int_equal(warnings->kinds[i], model->kinds[i]);
	}
	for (size_t i = model->n; i <= WARNINGS_MAX; i++)
		assert_null(warnings->texts[i]);
}

/* Whatever comes and goes, and in whatever order. */
static void test_any_order(void **state)
{
	struct warnings warnings = {};
	struct model model = {};
	unsigned int dice = 1;

	(void)state;
	for (int i = 0; i < 4000; i++) {
		enum warning_kind kind = rand_r(&dice) % WARNING_REVIEWED;
		int what = rand_r(&dice) % 200;
		char text[32];

		if (what < 160) {
			snprintf(text, sizeof(text), "number %d",
				 rand_r(&dice) % (WARNINGS_MAX + 8));
			add(&warnings, kind, "%s", text);
			model_add(&model, kind, text);
		} else if (what < 180) {
			warnings_review(&warnings, kind);
			model_review(&model, kind);
		} else if (what < 199) {
			warnings_drop_mended(&warnings);
			model_drop(&model, WARNING_REVIEWED);
		} else {
			warnings_clear(&warnings);
			model.n = 0;
		}
		assert_as(&warnings, &model);
	}
	warnings_clear(&warnings);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_told_once),
		TEST(test_mended),
		TEST(test_too_many),
		TEST(test_any_order),
	};

	return cmocka_run_group_tests_name("warnings", tests, NULL, NULL);
}
