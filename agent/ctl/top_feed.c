/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Samples, one after the other, from a thread of their own.
 * Reads from: the agent.
 * Writes to: a struct top_look, for whoever takes it.
 */
#include "top_feed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define SECOND_LOOK 1 /* seconds: rates need two */
/* Looking never takes more of the time than one part in so many, however many flows there are. */
#define SHARE	    5

struct top_feed {
	struct ctl ctl;
	int ready; /* to be taken */
	int wake;  /* hurry, or another delay */
	pthread_mutex_t lock;
	double delay;
	bool taken;
	struct top_look look;
};

void top_look_deinit(struct top_look *look)
{
	sample_deinit(&look->sample);
	free(look->trouble);
	*look = (struct top_look){};
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* The last line of what out_error() said, without the name of the program. */
static char *last_words(char *said)
{
	char *line, *colon;

	said[strcspn(said, "\n")] = '\0';
	line = said;
	colon = strstr(line, "shuntctl: ");
	return strdup(colon == line ? line + strlen("shuntctl: ") : line);
}

static struct top_look look_once(const struct ctl *ctl)
{
	_cleanup_free_ char *said = NULL;
	struct top_look look = {};
	size_t size;
	FILE *stream = open_memstream(&said, &size);
	int r;

	if (!stream)
		return look;
	out_errors_to(stream);
	r = sample_take(ctl, &look.sample);
	out_errors_to(NULL);
	fclose(stream);
	if (r < 0)
		look.trouble = last_words(said);
	return look;
}

static void tell(int fd)
{
	eventfd_write(fd, 1);
}

static void hand_over(struct top_feed *feed, struct top_look look)
{
	pthread_mutex_lock(&feed->lock);
	if (!feed->taken)
		top_look_deinit(&feed->look);
	feed->look = look;
	feed->taken = false;
	pthread_mutex_unlock(&feed->lock);
	tell(feed->ready);
}

static double delay_of(struct top_feed *feed)
{
	double delay;

	pthread_mutex_lock(&feed->lock);
	delay = feed->delay;
	pthread_mutex_unlock(&feed->lock);
	return delay;
}

static void *feed_run(void *arg)
{
	struct top_feed *feed = arg;
	bool first = true;

	for (;;) {
		struct pollfd wake = {.fd = feed->wake, .events = POLLIN};
		double began = now(), took, wait;
		struct top_look look = look_once(&feed->ctl);
		bool good = look.sample.flows;
		eventfd_t ignored;

		took = now() - began;
		hand_over(feed, look);
		wait = delay_of(feed);
		if (first && good && wait > SECOND_LOOK)
			wait = SECOND_LOOK;
		first = !good;
		wait = (wait > SHARE * took ? wait : SHARE * took) - took;
		if (poll(&wake, 1, wait * 1000) > 0)
			eventfd_read(feed->wake, &ignored);
	}
	return NULL;
}

int top_feed_start(const struct ctl *ctl, double seconds, struct top_feed **ret)
{
	struct top_feed *feed = calloc(1, sizeof(*feed));
	pthread_t thread;
	int r;

	if (!feed)
		return -ENOMEM;
	feed->ctl = *ctl;
	feed->delay = seconds;
	feed->taken = true;
	pthread_mutex_init(&feed->lock, NULL);
	feed->ready = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	feed->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = feed->ready < 0 || feed->wake < 0 ? errno : 0;
	r = r ?: pthread_create(&thread, NULL, feed_run, feed);
	if (r) {
		if (feed->ready >= 0)
			close(feed->ready);
		if (feed->wake >= 0)
			close(feed->wake);
		free(feed);
		return -r;
	}
	pthread_detach(thread);
	*ret = feed;
	return 0;
}

int top_feed_fd(const struct top_feed *feed)
{
	return feed->ready;
}

bool top_feed_take(struct top_feed *feed, struct top_look *ret)
{
	eventfd_t ignored;
	bool taken;

	eventfd_read(feed->ready, &ignored);
	pthread_mutex_lock(&feed->lock);
	taken = feed->taken;
	if (!taken)
		*ret = feed->look;
	feed->look = (struct top_look){};
	feed->taken = true;
	pthread_mutex_unlock(&feed->lock);
	return !taken;
}

void top_feed_set_delay(struct top_feed *feed, double seconds)
{
	pthread_mutex_lock(&feed->lock);
	feed->delay = seconds;
	pthread_mutex_unlock(&feed->lock);
	tell(feed->wake);
}

void top_feed_hurry(struct top_feed *feed)
{
	tell(feed->wake);
}
