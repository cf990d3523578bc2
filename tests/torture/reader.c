/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The reading half of an end.
 * Reads from: the socket.
 * Writes to: the board.
 */
#include "reader.h"

#include <err.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "end.h"
#include "random.h"

#define STALL_NS_MIN 1000
#define STALL_NS_MAX 300000000
#define PEEK_ONE_IN  64
#define PIECES	     5

void reader_draw_stall(struct end *end, struct worker *worker)
{
	end->reader.stall_at =
		end->received + random_log(&worker->random, 1, end->reader.stall_span);
}

static void stall(struct end *end, struct worker *worker)
{
	struct reader *reader = &end->reader;

	reader->stall_until = now_ns() + random_log(&worker->random, STALL_NS_MIN, STALL_NS_MAX);
	reader->stalled = end->me->stalled = true;
	reader_draw_stall(end, worker);
	worker_timer(worker, reader->stall_until, &end->source);
	atomic_fetch_add(&board->stalls, 1);
}

/* Returns whether the reader has to wait on. */
static bool still_stalled(struct reader *reader, struct side *me)
{
	uint64_t now = now_ns();

	if (!reader->stalled)
		return false;
	if (now < reader->stall_until)
		return true;
	reader->last = now;
	reader->stalled = me->stalled = false;
	return false;
}

static ssize_t read_pieces(int fd, char *buffer, size_t size, bool by_message)
{
	struct iovec pieces[PIECES];
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = PIECES};
	size_t piece = size / PIECES;

	for (int i = 0; i < PIECES; i++)
		pieces[i] = (struct iovec){buffer + i * piece, piece};
	pieces[PIECES - 1].iov_len = size - (PIECES - 1) * piece;
	return by_message ? recvmsg(fd, &message, 0) : readv(fd, pieces, PIECES);
}

static ssize_t read_somehow(struct end *end, struct worker *worker)
{
	size_t size = end->reader.buffer;

	switch (random_below(&worker->random, 4)) {
	case 0:
		return read(end->fd, worker->in, size);
	case 1:
		return recv(end->fd, worker->in, size, 0);
	case 2:
		return read_pieces(end->fd, worker->in, size, true);
	default:
		return read_pieces(end->fd, worker->in, size, false);
	}
}

static void mismatch(struct end *end, const char *how, uint64_t position, const char *got,
		     size_t size)
{
	int64_t place = stream_locate(&end->reader.stream, position, got, size);

	end->reader.broken = true;
	if (place >= 0)
		end_fail(end, "%s the bytes of %jd at %ju (%+jd), %zu bytes long", how,
			 (intmax_t)place, (uintmax_t)position,
			 (intmax_t)(place - (int64_t)position), size);
	else
		end_fail(end, "%s bytes at %ju that belong nowhere, %zu of them", how,
			 (uintmax_t)position, size);
}

static void check(struct end *end, const char *how, const char *got, size_t size)
{
	size_t right = stream_check(&end->reader.stream, end->received, got, size);

	if (right < size)
		mismatch(end, how, end->received + right, got + right, size - right);
}

/* A server's first bytes. Returns how many of @size were of that. */
static size_t greet(struct end *end, const char *got, size_t size)
{
	struct reader *reader = &end->reader;
	size_t len = sizeof(reader->hello) - end->received;
	struct hello hello;

	if (len > size)
		len = size;
	memcpy(reader->hello + end->received, got, len);
	if (end->received + len < sizeof(hello)) {
		end->received += len;
		return len;
	}
	memcpy(&hello, reader->hello, sizeof(hello));
	if (hello.flow >= board->flows || board->flow[hello.flow].seed != hello.seed) {
		reader->broken = true;
		end_fail(end, "the first bytes are not a client's: %016jx %016jx",
			 (uintmax_t)hello.flow, (uintmax_t)hello.seed);
		return len;
	}
	end->received += len;
	end_attach(end, &board->flow[hello.flow]);
	return len;
}

static void take(struct end *end, const char *got, size_t size)
{
	size_t greeting = 0;

	end->reader.last = now_ns();
	if (!end->flow)
		greeting = greet(end, got, size);
	if (!end->flow || end->reader.broken)
		return;
	check(end, "read", got + greeting, size - greeting);
	end->received += size - greeting;
	end->me->received = end->received;
	end->me->touched = end->reader.last;
}

/* What nginx does with its event after a read of @got bytes. */
static void keep_available(struct end *end, size_t got)
{
	struct reader *reader = &end->reader;

	if (reader->available >= 0) {
		reader->available -= got;
		/* More came after the last edge than was there by it: that gave another edge. */
		if (reader->available < 0) {
			reader->available = 0;
			reader->ready = false;
		}
	} else if (got == reader->buffer && ioctl(end->fd, FIONREAD, &reader->available)) {
		err(1, "FIONREAD");
	}
	if (got < reader->buffer) {
		reader->available = 0;
		reader->ready = reader->rdhup;
	} else if (reader->available == 0 && !reader->rdhup) {
		reader->ready = false;
	}
}

static void keep_habit(struct end *end, size_t got)
{
	struct reader *reader = &end->reader;

	switch (reader->habit) {
	case READS_ON_LEVEL:
		reader->ready = false;
		break;
	case READS_TO_SHORT:
		if (got < reader->buffer && !reader->rdhup)
			reader->ready = false;
		break;
	case READS_TO_FIONREAD:
		keep_available(end, got);
		break;
	default:
		break;
	}
}

static void end_of_stream(struct end *end)
{
	struct reader *reader = &end->reader;
	uint64_t since = reader->last, now = now_ns();

	reader->ready = false;
	if (!end->flow) {
		reader->broken = true;
		end_fail(end, "EOF after %ju bytes", (uintmax_t)end->received);
		return;
	}
	if (end->peer->fin_at == 0 || end->received != end->peer->sent) {
		reader->broken = true;
		end_fail(end, "EOF after %ju bytes; the other end has sent %ju, and %s",
			 (uintmax_t)end->received, (uintmax_t)end->peer->sent,
			 end->peer->fin_at ? "its end" : "not its end");
		return;
	}
	if (since < end->peer->fin_at)
		since = end->peer->fin_at;
	atomic_raise(&board->eof_delay, now > since ? now - since : 0);
	end->me->touched = now;
	end->me->eof = true;
	reader->eof = true;
}

static void peek(struct end *end, struct worker *worker)
{
	ssize_t n = recv(end->fd, worker->in, end->reader.buffer, MSG_PEEK);

	if (n <= 0)
		return;
	atomic_fetch_add(&board->peeks, 1);
	check(end, "peeked at", worker->in, n);
}

void reader_run(struct end *end, struct worker *worker, uint32_t events)
{
	struct reader *reader = &end->reader;
	ssize_t n;

	if (reader->eof || reader->broken)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		reader->ready = true;
		reader->available = -1;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		reader->rdhup = true;
	if (still_stalled(reader, end->me))
		return;
	while (reader->ready && !reader->broken) {
		if (end->flow && random_one_in(&worker->random, PEEK_ONE_IN))
			peek(end, worker);
		n = read_somehow(end, worker);
		if (n > 0) {
			take(end, worker->in, n);
			keep_habit(end, n);
			if (end->flow && end->received >= reader->stall_at) {
				stall(end, worker);
				return;
			}
		} else if (n == 0) {
			end_of_stream(end);
		} else if (errno == EAGAIN) {
			reader->ready = false;
			if (end->flow)
				end->me->dry = now_ns();
		} else if (errno != EINTR) {
			reader->broken = true;
			end_fail(end, "read: %s", strerror(errno));
		}
	}
}
