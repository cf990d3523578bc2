/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntctl top on a terminal.
 * Reads from: the terminal's keys; samples of the agent, by way of top_feed.
 * Writes to: the terminal, by way of ncurses.
 */
#include "top_terminal.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "top_feed.h"
#include "top_view.h"

#define KEY_ESCAPE   27
#define PAIR_SPLICED 1
#define PAIR_TROUBLE 2
#define TYPED_MAX    8

struct terminal {
	SCREEN *screen;
	struct top_feed *feed;
	struct top_look looks[2]; /* the last good one, and the one before; .flows NULL: none */
	struct rates rates;
	struct top_view view;
	size_t n_flows; /* as drawn last */
	size_t page;
	char *trouble;
	bool utf8;
	bool asking; /* for the delay */
	char typed[TYPED_MAX + 1];
};

static volatile sig_atomic_t ended;

static void on_end(int number)
{
	ended = number;
}

/* An incoming signal finds the loop in ppoll(), and nowhere else: none is missed. */
static void signals_begin(sigset_t *ret_waiting)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_end};
	sigset_t blocked;

	sigemptyset(&blocked);
	sigaddset(&blocked, SIGWINCH);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		sigaddset(&blocked, ends[i]);
		sigaction(ends[i], &action, NULL);
	}
	pthread_sigmask(SIG_BLOCK, &blocked, ret_waiting);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		sigdelset(ret_waiting, ends[i]);
	sigdelset(ret_waiting, SIGWINCH);
}

/* The screen. */

static int style_of(enum top_style style)
{
	switch (style) {
	case TOP_STYLE_HEAD:
		return A_REVERSE;
	case TOP_STYLE_SPLICED:
		return has_colors() ? COLOR_PAIR(PAIR_SPLICED) : A_BOLD;
	case TOP_STYLE_TROUBLE:
		return A_BOLD | (has_colors() ? COLOR_PAIR(PAIR_TROUBLE) : 0);
	default:
		return A_NORMAL;
	}
}

/* Elsewhere than in UTF-8 every character that is not ASCII is shown as one. */
static void to_ascii(char *text)
{
	char *end = text;

	for (const char *c = text; *c; c++) {
		if ((*c & 0xc0) != 0x80)
			*end++ = *c & 0x80 ? '?' : *c;
	}
	*end = '\0';
}

static void draw(struct terminal *terminal)
{
	char clock[16], prompt[96];
	struct top_screen screen;
	time_t now = time(NULL);
	int rows, columns;

	getmaxyx(stdscr, rows, columns);
	strftime(clock, sizeof(clock), "%H:%M:%S", localtime(&now));
	snprintf(prompt, sizeof(prompt), "Seconds between two looks (now %g): %s",
		 terminal->view.delay, terminal->typed);
	terminal->view.clock = clock;
	terminal->view.prompt = terminal->asking ? prompt : NULL;
	terminal->view.trouble = terminal->trouble;
	terminal->view.now = terminal->looks[0].sample.flows ? &terminal->looks[0].sample : NULL;
	terminal->view.rates = terminal->view.now ? &terminal->rates : NULL;
	erase();
	if (top_view_draw(&terminal->view, rows, columns, &screen) == 0) {
		for (size_t i = 0; i < screen.n_lines; i++) {
			struct top_line *line = &screen.lines[i];

			if (!terminal->utf8)
				to_ascii(line->text);
			attrset(style_of(line->style));
			if (line->style == TOP_STYLE_HEAD)
				mvhline(i, 0, ' ' | A_REVERSE, columns);
			mvaddstr(i, 0, line->text);
			attrset(A_NORMAL);
		}
		if (!terminal->view.help) {
			terminal->n_flows = screen.n_flows;
			terminal->page = screen.page;
		}
	}
	top_screen_deinit(&screen);
	terminal->view.clock = terminal->view.prompt = NULL;
	refresh();
}

/* Samples. */

static void take(struct terminal *terminal)
{
	struct top_look look;

	if (!top_feed_take(terminal->feed, &look))
		return;
	free(TAKE_PTR(terminal->trouble));
	if (!look.sample.flows) {
		terminal->trouble = TAKE_PTR(look.trouble);
		top_look_deinit(&look);
		return;
	}
	rates_deinit(&terminal->rates);
	top_look_deinit(&terminal->looks[1]);
	terminal->looks[1] = terminal->looks[0];
	terminal->looks[0] = look;
	if (rates_init(&terminal->rates,
		       terminal->looks[1].sample.flows ? &terminal->looks[1].sample : NULL,
		       &terminal->looks[0].sample) < 0)
		terminal->trouble = strdup("out of memory");
}

/* Keys. */

static void set_delay(struct terminal *terminal, double delay)
{
	if (delay < TOP_DELAY_MIN)
		delay = TOP_DELAY_MIN;
	if (delay > TOP_DELAY_MAX)
		delay = TOP_DELAY_MAX;
	terminal->view.delay = delay;
	top_feed_set_delay(terminal->feed, delay);
}

static void on_typed(struct terminal *terminal, int key)
{
	size_t len = strlen(terminal->typed);
	char *end;
	double delay;

	if (((key >= '0' && key <= '9') || key == '.') && len < TYPED_MAX) {
		terminal->typed[len] = key;
		terminal->typed[len + 1] = '\0';
	} else if ((key == KEY_BACKSPACE || key == 127 || key == '\b') && len) {
		terminal->typed[len - 1] = '\0';
	} else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		delay = strtod(terminal->typed, &end);
		if (len && !*end && delay > 0)
			set_delay(terminal, delay);
		terminal->asking = false;
	} else if (key == KEY_ESCAPE) {
		terminal->asking = false;
	}
}

static void scroll_by(struct terminal *terminal, long rows)
{
	long last = terminal->n_flows > terminal->page ? terminal->n_flows - terminal->page : 0;
	long first = terminal->view.first;

	first = (first < last ? first : last) + rows;
	first = first < last ? first : last;
	terminal->view.first = first > 0 ? first : 0;
}

static void sort_by(struct terminal *terminal, enum top_order order)
{
	terminal->view.order = order;
	terminal->view.reverse = false;
	terminal->view.first = 0;
}

static bool on_sort_key(struct terminal *terminal, int key)
{
	static const struct {
		int key;
		enum top_order order;
	} keys[] = {
		{'b', TOP_ORDER_BYTES},	 {'s', TOP_ORDER_SPLICED}, {'t', TOP_ORDER_TCP},
		{'l', TOP_ORDER_SPILLS}, {'a', TOP_ORDER_AGE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i].key != key)
			continue;
		sort_by(terminal, keys[i].order);
		return true;
	}
	return false;
}

static bool on_scroll_key(struct terminal *terminal, int key)
{
	switch (key) {
	case KEY_UP:
	case 'k':
		scroll_by(terminal, -1);
		return true;
	case KEY_DOWN:
	case 'j':
		scroll_by(terminal, 1);
		return true;
	case KEY_PPAGE:
		scroll_by(terminal, -(long)terminal->page);
		return true;
	case KEY_NPAGE:
		scroll_by(terminal, terminal->page);
		return true;
	case KEY_HOME:
	case 'g':
		terminal->view.first = 0;
		return true;
	case KEY_END:
	case 'G':
		scroll_by(terminal, terminal->n_flows);
		return true;
	default:
		return false;
	}
}

/* What else a key does. Returns false at the end. */
static bool on_command_key(struct terminal *terminal, int key)
{
	struct top_view *view = &terminal->view;

	switch (key) {
	case 'q':
	case 'Q':
		return false;
	case ' ':
	case '\n':
	case '\r':
		top_feed_hurry(terminal->feed);
		break;
	case 'd':
		terminal->asking = true;
		terminal->typed[0] = '\0';
		break;
	case '+':
		set_delay(terminal, view->delay * 2);
		break;
	case '-':
		set_delay(terminal, view->delay / 2);
		break;
	case 'R':
		view->reverse = !view->reverse;
		break;
	case 'i':
		view->hide_idle = !view->hide_idle;
		view->first = 0;
		break;
	case 'm':
		view->hide_meshes = !view->hide_meshes;
		break;
	case 'h':
	case '?':
		view->help = true;
		break;
	default:
		break;
	}
	return true;
}

/* Returns false at the end. */
static bool on_key(struct terminal *terminal, int key)
{
	if (key == KEY_RESIZE) {
		clearok(stdscr, TRUE); /* who knows what the terminal has made of it */
		return true;
	}
	if (terminal->view.help) {
		terminal->view.help = false;
		return key != 'q';
	}
	if (terminal->asking) {
		on_typed(terminal, key);
		return true;
	}
	return on_sort_key(terminal, key) || on_scroll_key(terminal, key) ||
	       on_command_key(terminal, key);
}

/* Returns false when the terminal is gone. */
static bool wait(struct terminal *terminal, const sigset_t *waiting)
{
	struct pollfd fds[] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = top_feed_fd(terminal->feed), .events = POLLIN},
	};

	if (ppoll(fds, ARRAY_SIZE(fds), NULL, waiting) < 0)
		return errno == EINTR;
	if (fds[1].revents)
		take(terminal);
	return !(fds[0].revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void loop(struct terminal *terminal, const sigset_t *waiting)
{
	bool go_on = true;

	while (go_on && !ended) {
		int key;

		draw(terminal);
		go_on = wait(terminal, waiting);
		while (go_on && !ended && (key = getch()) != ERR)
			go_on = on_key(terminal, key);
	}
}

static void screen_begin(void)
{
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25); /* ms: after ESC alone nothing follows */
	curs_set(0);
	if (has_colors()) {
		start_color();
		use_default_colors();
		init_pair(PAIR_SPLICED, COLOR_GREEN, -1);
		init_pair(PAIR_TROUBLE, COLOR_RED, -1);
	}
}

int top_terminal_run(const struct ctl *ctl, double delay)
{
	struct terminal terminal = {.view.delay = delay};
	const char *type = getenv("TERM");
	sigset_t waiting;
	int r;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		out_error("top: this is not a terminal; -b prints without one");
		return EXIT_FAILURE;
	}
	terminal.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	terminal.screen = newterm(NULL, stdout, stdin);
	if (!terminal.screen) {
		out_error("top: TERM=%s: such a terminal is not known; -b prints without one",
			  type ? type : "");
		return EXIT_FAILURE;
	}
	screen_begin();
	signals_begin(&waiting);
	r = top_feed_start(ctl, delay, &terminal.feed);
	if (r == 0)
		loop(&terminal, &waiting);
	endwin();
	delscreen(terminal.screen);
	rates_deinit(&terminal.rates);
	top_look_deinit(&terminal.looks[0]);
	top_look_deinit(&terminal.looks[1]);
	free(terminal.trouble);
	if (r < 0)
		out_error("top: %s", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
