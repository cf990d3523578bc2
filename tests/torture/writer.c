/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The writing half of an end.
 * Reads from: the plan.
 * Writes to: the socket, the board.
 */
#include "writer.h"

#include <err.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "end.h"
#include "random.h"

#define PIECES_MAX	256
/* What was refused once is not made again and again as a whole. */
#define ATTEMPT_MIN	(64u << 10)
/* A file for each: its pages are on their way for some time after. */
#define SENDFILE_ONE_IN 16

static ssize_t write_pieces(int fd, char *buffer, size_t size, uint64_t *random, bool by_message)
{
	struct iovec pieces[PIECES_MAX];
	size_t count = random_log(random, 1, PIECES_MAX), done = 0, len;
	struct msghdr message = {.msg_iov = pieces};

	for (size_t i = 0; i < count; i++) {
		len = i + 1 < count ? random_below(random, 2 * size / count + 1) : size;
		if (len > size - done)
			len = size - done;
		pieces[i] = (struct iovec){buffer + done, len};
		done += len;
	}
	message.msg_iovlen = count;
	return by_message ? sendmsg(fd, &message, MSG_NOSIGNAL) : writev(fd, pieces, count);
}

static ssize_t write_file(int fd, const char *buffer, size_t size)
{
	int file = memfd_create("message", MFD_CLOEXEC), error;
	off_t offset = 0;
	ssize_t n;

	if (file < 0 || write(file, buffer, size) != (ssize_t)size)
		err(1, "memfd");
	n = sendfile(fd, file, &offset, size);
	error = errno;
	close(file);
	errno = error;
	return n;
}

/* Tries up to @size bytes. @ret_short: there was room for less than was tried. */
static ssize_t write_somehow(struct end *end, struct worker *worker, size_t size, bool *ret_short)
{
	uint64_t *random = &worker->random;
	char *buffer = worker->out;
	ssize_t n;
	size_t len;

	/* What sendfile() does not send may be the pipe's doing that is in it. */
	*ret_short = false;
	if (random_one_in(random, SENDFILE_ONE_IN))
		return write_file(end->fd, buffer, size);
	switch (random_below(random, 5)) {
	case 0:
		n = write(end->fd, buffer, size);
		break;
	case 1:
		n = send(end->fd, buffer, size, MSG_NOSIGNAL);
		break;
	case 2:
		n = write_pieces(end->fd, buffer, size, random, true);
		break;
	case 3:
		n = write_pieces(end->fd, buffer, size, random, false);
		break;
	default:
		len = random_log(random, 1, size);
		n = send(end->fd, buffer, len, MSG_NOSIGNAL | (len < size ? MSG_MORE : 0));
		size = len;
	}
	*ret_short = n >= 0 && (size_t)n < size;
	return n;
}

static void measure(const struct end *end)
{
	uint64_t sent = end->me->sent, received = end->peer->received;

	if (!end->peer->stalled || sent <= received || sent - received <= board->peak.bytes)
		return;
	atomic_raise(&board->peak.bytes, sent - received);
	board->peak.flow = flow_index(end->flow);
}

static void broke(struct end *end, const char *call)
{
	end->writer.broken = true;
	end_fail(end, "%s: %s", call, strerror(errno));
}

static void send_message(struct end *end, struct worker *worker)
{
	struct writer *writer = &end->writer;
	uint64_t left = writer->message.size - writer->done;
	size_t size = left < writer->attempt ? left : writer->attempt;
	bool is_short;
	ssize_t n;

	stream_fill(&writer->stream, end->me->sent, worker->out, size);
	n = write_somehow(end, worker, size, &is_short);
	if (n > 0) {
		writer->done += n;
		end->me->sent += n;
		end->me->touched = now_ns();
		measure(end);
	}
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		broke(end, "write");
	if (is_short || (n < 0 && errno == EAGAIN)) {
		n = n < 0 ? 0 : n;
		writer->attempt = 4 * n > ATTEMPT_MIN ? 4 * n : ATTEMPT_MIN;
		if (n == 0 || writer->habit == WRITES_TO_SHORT)
			writer->writable = false;
		atomic_fetch_add(&board->blocked, 1);
	}
}

static void resize(struct end *end, const struct buffers *buffers)
{
	if (buffers->receive &&
	    setsockopt(end->fd, SOL_SOCKET, SO_RCVBUF, &buffers->receive, sizeof(int)))
		err(1, "SO_RCVBUF");
	if (buffers->send &&
	    setsockopt(end->fd, SOL_SOCKET, SO_SNDBUF, &buffers->send, sizeof(int)))
		err(1, "SO_SNDBUF");
	if (buffers->receive || buffers->send)
		atomic_fetch_add(&board->resizes, 1);
}

/* Returns whether @bytes were received; if not, whoever receives them lets the writer know. */
static bool has_received(struct end *end, uint64_t bytes)
{
	/* In this order: the reader looks at it after it has received something. */
	end->me->wanted = bytes;
	end->me->writer_state = WRITER_WANTS_BYTES;
	if (end->received < bytes) {
		if (end->reader.eof) {
			end->writer.broken = true;
			end_fail(end, "EOF, and bytes are missing");
		}
		return false;
	}
	end->me->writer_state = WRITER_IDLE;
	return true;
}

/* Returns whether the next phase has begun, which for the server means that it has seen some of it.
 */
static bool begin_phase(struct end *end)
{
	struct writer *writer = &end->writer;
	struct plan *plan = &writer->plan;
	struct flow *flow = end->flow;
	bool closing;

	if (end->role == CLIENT) {
		closing = board->stop || plan->phase + 1 >= writer->phases;
		if ((closing || plan->wait) && !has_received(end, plan->planned[SERVER]))
			return false;
		if (closing)
			flow->closing = plan->phase + 1;
	} else {
		if (!has_received(end, plan->planned[CLIENT] + 1))
			return false;
		closing = flow->closing == plan->phase + 1;
	}
	plan_phase(plan, closing);
	if (plan->resizer == end->role)
		resize(end, &plan->buffers);
	return true;
}

static void finish_message(struct end *end)
{
	struct writer *writer = &end->writer;

	writer->message_taken = false;
	if (writer->message.size)
		atomic_fetch_add(&board->messages, 1);
	if (writer->message.then == THEN_GO_ON)
		return;
	end->me->fin_at = now_ns();
	if (writer->message.then == THEN_CLOSE) {
		writer->close_due = true;
		return;
	}
	atomic_fetch_add(&board->half_closes, 1);
	if (shutdown(end->fd, SHUT_WR))
		broke(end, "shutdown");
}

/* Returns whether there is one to be sent. */
static bool take_message(struct end *end, struct worker *worker)
{
	struct writer *writer = &end->writer;

	while (!writer->message_taken) {
		if (!plan_next(&writer->plan, &writer->message)) {
			writer->over = writer->plan.closing;
			if (writer->over || !begin_phase(end))
				return false;
		} else if (writer->message.sender == end->role) {
			writer->message_taken = true;
			writer->done = 0;
			writer->attempt = worker->max_message;
			writer->pause_until = 0;
		}
	}
	if (writer->done > 0)
		return true;
	if (!has_received(end, writer->message.need))
		return false;
	if (writer->message.pause_us && writer->pause_until == 0) {
		writer->pause_until = now_ns() + writer->message.pause_us * 1000;
		worker_timer(worker, writer->pause_until, &end->source);
		atomic_fetch_add(&board->pauses, 1);
	}
	if (writer->pause_until > now_ns()) {
		end->me->writer_state = WRITER_PAUSES;
		return false;
	}
	return true;
}

bool writer_run(struct end *end, struct worker *worker, uint32_t events)
{
	struct writer *writer = &end->writer;

	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		writer->writable = true;
	while (!writer->over && !writer->broken && take_message(end, worker)) {
		if (writer->done < writer->message.size) {
			if (!writer->writable) {
				end->me->writer_state = WRITER_BLOCKED;
				return false;
			}
			send_message(end, worker);
		}
		if (writer->done == writer->message.size)
			finish_message(end);
	}
	if (writer->over)
		end->me->writer_state = WRITER_DONE;
	return writer->over && (writer->close_due || end->reader.eof);
}

bool writer_wakes(const struct end *end)
{
	return end->reader.eof ||
	       (end->me->writer_state == WRITER_WANTS_BYTES && end->received >= end->me->wanted);
}
