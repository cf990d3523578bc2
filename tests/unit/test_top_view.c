/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What `shuntctl top` shows: that it fits, the order, scrolling, and names that are hostile.
 * Reads from: nothing.
 * Writes to: memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/top_view.h"
#include "views.h"

struct fixture {
	struct sample before;
	struct sample now;
	struct rates rates;
	struct top_view view;
	struct top_screen screen;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->before = views_sample(100);
	f->now = views_sample(102);
	f->view = (struct top_view){.delay = 2, .clock = "12:34:56"};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	top_screen_deinit(&f->screen);
	rates_deinit(&f->rates);
	sample_deinit(&f->before);
	sample_deinit(&f->now);
	free(f);
	return 0;
}

static size_t width_of(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += (*text & 0xc0) != 0x80;
	return n;
}

static void draw(struct fixture *f, size_t rows, size_t columns)
{
	top_screen_deinit(&f->screen);
	rates_deinit(&f->rates);
	assert_int_equal(rates_init(&f->rates, &f->before, &f->now), 0);
	f->view.now = &f->now;
	f->view.rates = &f->rates;
	assert_int_equal(top_view_draw(&f->view, rows, columns, &f->screen), 0);
	if (rows)
		assert_in_range(f->screen.n_lines, 0, rows);
	for (size_t i = 0; i < f->screen.n_lines; i++) {
		const char *text = f->screen.lines[i].text;

		assert_in_range(width_of(text), 0, columns);
		for (const char *c = text; *c; c++)
			assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
	}
}

static const char *line_with(const struct fixture *f, const char *part)
{
	for (size_t i = 0; i < f->screen.n_lines; i++)
		if (strstr(f->screen.lines[i].text, part))
			return f->screen.lines[i].text;
	return "";
}

static void assert_line(const struct fixture *f, const char *part)
{
	if (*line_with(f, part))
		return;
	for (size_t i = 0; i < f->screen.n_lines; i++)
		print_message("|%s\n", f->screen.lines[i].text);
	fail_msg("no line has '%s'", part);
}

/* The numbers of the connections, "10.0.0.N:80", as they stand. */
static void assert_order(const struct fixture *f, const char *expected)
{
	char found[64] = "";
	size_t n = 0;

	for (size_t i = 0; i < f->screen.n_lines; i++) {
		const char *at = strstr(f->screen.lines[i].text, "10.0.0.");

		if (at && n < sizeof(found) - 1)
			found[n++] = at[strlen("10.0.0.")];
	}
	assert_string_equal(found, expected);
}

static json_t *add(struct fixture *f, int n, json_int_t age, json_int_t spliced, json_int_t tcp)
{
	char id[16], name[32];
	json_t *flow;

	snprintf(id, sizeof(id), "%d", n);
	snprintf(name, sizeof(name), "10.0.0.%d:80", n);
	flow = views_flow(&f->now, id, "bookinfo", age, spliced, tcp);
	json_object_set_new(flow, "dialled", json_string(name));
	return flow;
}

static void test_80_columns(void **state)
{
	struct fixture *f = *state;

	add(f, 1, 1, 4096, 100);
	views_counter(&f->before, "splice_bytes", 0);
	views_counter(&f->now, "splice_bytes", 6144);
	views_counter(&f->before, "splice_spilled", 1);
	views_counter(&f->now, "splice_spilled", 2);
	draw(f, 24, 80);
	assert_line(f, "shuntctl top - 12:34:56  agent 1.2.3, up 1m05s  splice on  every 2 s");
	assert_line(f, "Flows:  1 open, 1 spliced;");
	assert_line(f, "Bytes:  3.0K/s spliced");
	assert_line(f, "0.5 spilled");
	assert_line(f, "MESH");
	assert_line(f, "bookinfo");
	assert_string_equal(
		line_with(f, "CLIENT"),
		"CLIENT         DIALLED               STATE   SPLICED/s    TCP/s  SPILL WHY NOT");
	assert_string_equal(
		line_with(f, "10.0.0.1"),
		"curl/4711      10.0.0.1:80           spl/pln      2.0K       50      0 -");
}

static void test_wide(void **state)
{
	struct fixture *f = *state;

	add(f, 1, 1, 4096, 100);
	draw(f, 24, 250);
	assert_line(f, "CLIENT CGROUP");
	assert_line(f, "envoy/4712");
	assert_line(f, "/pods/app");
	assert_line(f, "AGE");
}

static void test_any_size(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 9; i++)
		add(f, i, i, 100 * i, 7);
	f->view.trouble = "the agent does not answer, and this is a rather long way to say so";
	for (size_t rows = 1; rows < 40; rows += 2)
		for (size_t columns = 1; columns < 220; columns += 7)
			draw(f, rows, columns);
}

static void test_first_look(void **state)
{
	struct fixture *f = *state;

	add(f, 1, 100, 4096, 100);
	assert_int_equal(top_view_draw(&f->view, 24, 80, &f->screen), 0);
	assert_int_equal(f->screen.n_lines, 2);
	top_screen_deinit(&f->screen);
	assert_int_equal(rates_init(&f->rates, NULL, &f->now), 0);
	f->view.now = &f->now;
	f->view.rates = &f->rates;
	assert_int_equal(top_view_draw(&f->view, 24, 80, &f->screen), 0);
	assert_line(f, "Rates need a second look");
	assert_line(f, "10.0.0.1:80           spl/pln         -        -      0");
}

static void test_order(void **state)
{
	struct fixture *f = *state;
	json_t *spilling = add(f, 1, 3, 10, 10);

	add(f, 2, 2, 300, 0);
	add(f, 3, 1, 0, 200);
	json_object_set_new(
		json_object_get(json_object_get(spilling, "directions"), "server_to_client"),
		"spills", json_integer(3));
	draw(f, 24, 80);
	assert_order(f, "231");
	f->view.order = TOP_ORDER_TCP;
	draw(f, 24, 80);
	assert_order(f, "312");
	f->view.order = TOP_ORDER_SPLICED;
	draw(f, 24, 80);
	assert_order(f, "213");
	f->view.order = TOP_ORDER_SPILLS;
	draw(f, 24, 80);
	assert_order(f, "123");
	f->view.order = TOP_ORDER_AGE;
	draw(f, 24, 80);
	assert_order(f, "123");
	f->view.reverse = true;
	draw(f, 24, 80);
	assert_order(f, "321");
	assert_line(f, "by age, least first");
}

static void test_idle(void **state)
{
	struct fixture *f = *state;

	views_flow(&f->before, "1", "bookinfo", 50, 10, 10);
	add(f, 1, 52, 10, 10);
	add(f, 2, 1, 10, 10);
	draw(f, 24, 80);
	assert_order(f, "21");
	f->view.hide_idle = true;
	draw(f, 24, 80);
	assert_order(f, "2");
	assert_int_equal(f->screen.n_flows, 1);
}

static void test_scrolling(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 9; i++)
		add(f, i, 1, 1000 - i, 0);
	f->view.hide_meshes = true;
	draw(f, 10, 80); /* 4 lines of totals, a blank one, a head */
	assert_order(f, "0123");
	assert_int_equal(f->screen.page, 4);
	assert_int_equal(f->screen.n_flows, 9);
	f->view.first = 2;
	draw(f, 10, 80);
	assert_order(f, "2345");
	f->view.first = 100;
	draw(f, 10, 80);
	assert_order(f, "5678");
	f->view.first = 0;
	draw(f, 0, 80);
	assert_order(f, "012345678");
}

/* Where there is little room connections come first. */
static void test_low(void **state)
{
	struct fixture *f = *state;

	add(f, 1, 1, 1000, 0);
	draw(f, 8, 80);
	assert_string_equal(line_with(f, "MESH"), "");
	assert_order(f, "1");
}

static void test_trouble(void **state)
{
	struct fixture *f = *state;

	add(f, 1, 1, 1000, 0);
	f->view.trouble = "no\x1b[2Jagent";
	draw(f, 24, 80);
	assert_line(f, "no\\x1b[2Jagent");
	assert_order(f, "1");
	f->view.prompt = "Seconds?";
	draw(f, 24, 80);
	assert_line(f, "Seconds?");
	assert_string_equal(line_with(f, "agent\x1b"), "");
	f->view.help = true;
	draw(f, 24, 80);
	assert_line(f, "quit");
	assert_order(f, "");
}

static void test_hostile_names(void **state)
{
	struct fixture *f = *state;
	json_t *client = json_object_get(add(f, 1, 1, 1000, 0), "client");

	json_object_set_new(client, "comm", json_string("\x1b]0;\x07größe-und-mehr-davon"));
	json_object_set_new(client, "cgroup",
			    json_string("/a/\xc2\x9b/very/long/path/that/ends/in\x1b/app"));
	draw(f, 24, 80);
	assert_line(f, "\\x1b]0;\\x07gr+");
	draw(f, 24, 170);
	assert_line(f, "/app");
	for (size_t columns = 60; columns < 200; columns++)
		draw(f, 24, columns);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_80_columns),	  TEST(test_wide),  TEST(test_any_size),
		TEST(test_first_look),	  TEST(test_order), TEST(test_idle),
		TEST(test_scrolling),	  TEST(test_low),   TEST(test_trouble),
		TEST(test_hostile_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
