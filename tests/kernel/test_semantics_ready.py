#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who waits for data, for room or for the end is woken when there is some, and not otherwise."""
import contextlib
import fcntl
import os
import select
import signal
import socket
import termios

from case import SOON, main
from sandbox import DEADLINE, wait_until
from semantics import SETTLE, SIOCOUTQ, Semantics, ShortQueue, await_event, await_events, \
    events_of, fill, mask_of, pattern, poll, queue, read, read_pattern, readable, recv, write


EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


class Epoll:
    """One that watches one socket."""

    def __init__(self, link, sock, events):
        self.epoll = link.keep(select.epoll())
        self.sock = sock
        self.epoll.register(sock, events)

    def wait(self, seconds=DEADLINE):
        """The events that it gives, or None after so many seconds."""
        found = self.epoll.poll(seconds)
        return events_of(found[0][1]) if found else None

    def look(self):
        return self.wait(SETTLE)

    def arm(self, events):
        self.epoll.modify(self.sock, events)


class Waiting(Semantics):
    def test_poll(self):
        def scenario(link):
            yield poll(link.server), poll(link.client)
            write(link.client, b"hello")
            yield await_events(link.server, "IN"), poll(link.client)
            yield recv(link.server, 2), poll(link.server)
            yield recv(link.server), poll(link.server), recv(link.server)
            for text in b"one", b"two":
                with link.sleeping(poll, link.server, select.POLLIN, DEADLINE) as waiter:
                    write(link.client, text)
                    yield waiter.result(), read(link.server, 3)
            yield poll(link.server, select.POLLIN, SETTLE)
            with link.sleeping(poll, link.server, mask_of("IN|RDHUP"), DEADLINE) as waiter:
                link.client.close()
                yield "IN" in waiter.result(), await_events(link.server, "RDHUP")
        self.compare(scenario, [
            ("OUT", "OUT"), ("IN|OUT", "OUT"), (b"he", "IN|OUT"), (b"llo", "OUT", "EAGAIN"),
            ("IN", b"one"), ("IN", b"two"), "", (True, "IN|OUT|RDHUP")])

    def test_select(self):
        def scenario(link):
            def look(seconds=0.0):
                lists = select.select([link.server], [link.server], [link.server], seconds)
                return [bool(found) for found in lists]

            def wait():
                return bool(select.select([link.server], [], [], DEADLINE)[0])
            yield look()
            with link.sleeping(wait) as waiter:
                write(link.client, b"hello")
                yield waiter.result()
            yield look(), recv(link.server), look()
            link.client.close()
            yield wait(), look(), recv(link.server), look()
        self.compare(scenario, [
            [False, True, False], True,
            ([True, True, False], b"hello", [False, True, False]),
            (True, [True, True, False], b"", [True, True, False])])

    def test_epoll_level_triggered(self):
        def scenario(link):
            epoll = Epoll(link, link.server, select.EPOLLIN | select.EPOLLRDHUP)
            yield epoll.look()
            write(link.client, b"hello")
            yield epoll.wait(), epoll.wait(), recv(link.server, 4), epoll.wait()
            yield recv(link.server), epoll.look()
            with link.sleeping(epoll.wait) as waiter:
                write(link.client, b"again")
                yield waiter.result(), recv(link.server), epoll.look()
            link.client.shutdown(socket.SHUT_WR)
            await_events(link.server, "RDHUP")
            yield epoll.wait(), recv(link.server), epoll.wait()
        self.compare(scenario, [
            None, ("IN", "IN", b"hell", "IN"), (b"o", None), ("IN", b"again", None),
            ("IN|RDHUP", b"", "IN|RDHUP")])

    def test_epoll_edge_triggered(self):
        def scenario(link):
            epoll = Epoll(link, link.server, EDGES)
            yield epoll.look()
            for text in b"first", b"second":
                write(link.client, text)
                yield epoll.wait(), epoll.look(), recv(link.server, 3), epoll.look()
            yield readable(link.server, 5), recv(link.server), recv(link.server), epoll.look()
            with link.sleeping(epoll.wait) as waiter:
                write(link.client, b"third")
                yield waiter.result(), recv(link.server), epoll.look()
            write(link.client, b"last")
            readable(link.server, 4)
            link.client.shutdown(socket.SHUT_WR)
            await_events(link.server, "RDHUP")
            yield epoll.wait(), epoll.look(), recv(link.server), recv(link.server), epoll.look()
        self.compare(scenario, [
            None, ("IN", None, b"fir", None), ("IN", None, b"sts", None),
            (5, b"econd", "EAGAIN", None), ("IN", b"third", None),
            ("IN|RDHUP", None, b"last", b"", None)])

    def test_an_edge_for_each_of_a_thousand_messages(self):
        def scenario(link):
            epoll = Epoll(link, link.server, EDGES)
            edges = 0
            for n in range(1000):
                write(link.client, b"%04d" % n)
                edges += epoll.wait() == "IN"
                if recv(link.server) != b"%04d" % n:
                    yield n
            yield edges, epoll.look()
        self.compare(scenario, [(1000, None)])

    def test_data_in_the_queue_when_epoll_begins_to_watch(self):
        def scenario(link):
            write(link.client, b"early")
            readable(link.server, 5)
            epoll = Epoll(link, link.server, EDGES)
            yield epoll.wait(), epoll.look()
            epoll.arm(EDGES)
            yield epoll.wait(), epoll.look(), recv(link.server)
        self.compare(scenario, [("IN", None), ("IN", None, b"early")])

    def test_epolloneshot(self):
        once = select.EPOLLIN | select.EPOLLONESHOT

        def scenario(link):
            epoll = Epoll(link, link.server, once)
            write(link.client, b"one")
            yield epoll.wait(), epoll.look()
            write(link.client, b"two")
            yield readable(link.server, 6), epoll.look()
            epoll.arm(once)
            yield epoll.wait(), recv(link.server)
            epoll.arm(once)
            yield epoll.look()
            write(link.client, b"three")
            yield epoll.wait(), epoll.look(), recv(link.server)
        self.compare(scenario, [("IN", None), (6, None), ("IN", b"onetwo"), None,
                                ("IN", None, b"three")])

    def test_epollexclusive(self):
        """Each message wakes one of those who sleep."""
        def scenario(link):
            events = select.EPOLLIN | select.EPOLLET | select.EPOLLEXCLUSIVE
            epolls = [Epoll(link, link.server, events) for _ in range(3)]
            with contextlib.ExitStack() as stack:
                waiters = [stack.enter_context(link.sleeping(epoll.wait)) for epoll in epolls]
                for n in range(1, 4):
                    write(link.client, b"hello")
                    wait_until(lambda: sum(waiter.done() for waiter in waiters) >= n, "one wakes")
                    select.select([], [], [], SETTLE)
                    yield sum(waiter.done() for waiter in waiters)
                yield [waiter.result() for waiter in waiters]
            yield read(link.server, 15)
        self.compare(scenario, [1, 2, 3, ["IN"] * 3, b"hello" * 3])

    def test_epollrdhup(self):
        def scenario(link):
            levels = Epoll(link, link.server, select.EPOLLRDHUP)
            edges = Epoll(link, link.server, select.EPOLLRDHUP | select.EPOLLET)
            write(link.client, b"hello")
            yield readable(link.server, 5), levels.look(), edges.look()
            link.client.shutdown(socket.SHUT_WR)
            yield levels.wait(), levels.wait(), edges.wait(), edges.look()
            yield read(link.server, 9), levels.wait(), edges.look()
        self.compare(scenario, [(5, None, None), ("RDHUP", "RDHUP", "RDHUP", None),
                                (b"hello", "RDHUP", None)])

    def test_signal_when_data_comes(self):
        def scenario(link):
            came = []
            before = signal.signal(signal.SIGIO, lambda number, _: came.append(number))
            try:
                fcntl.fcntl(link.server, fcntl.F_SETOWN, os.getpid())
                flags = fcntl.fcntl(link.server, fcntl.F_GETFL)
                fcntl.fcntl(link.server, fcntl.F_SETFL, flags | os.O_ASYNC)
                write(link.client, b"hello")
                wait_until(lambda: came, "the signal comes")
                yield recv(link.server)
                link.server.close()
            finally:
                signal.signal(signal.SIGIO, before)
        self.compare(scenario, [b"hello"])


class ShortReads(Semantics):
    """Readers that take a read which does not fill their buffer for all there was."""

    def converse(self, link, answerer, sizes, size):
        """One side writes a message of this size while the other sleeps; then that one reads it
        edge by edge, and answers."""
        epoll = Epoll(link, link.server, EDGES)
        buffer, message = 4096, pattern(size)

        def ask():
            at = 0
            while at < size:
                step = min(sizes[at % len(sizes)], size - at)
                write(link.client, message[at:at + step])
                at += step

        def take():
            got = b""
            while len(got) < size:
                if not epoll.wait():
                    raise AssertionError(f"no edge after {len(got)} of {size} bytes")
                while not isinstance(part := recv(link.server, buffer), str):
                    got += part
                    if len(part) < buffer and answerer == "short":
                        break
                    if answerer == "ioctl" and not queue(link.server, termios.FIONREAD):
                        break
            write(link.server, b"!")
            return got == message
        for _ in range(4):
            with link.threads() as pool:
                asker = pool.submit(ask)
                wait_until(lambda: asker.done() or is_stuck(link.client), "it has all, or no room")
                taker = pool.submit(take)
                yield taker.result(), read(link.client, 1)
                asker.result()

    def converse_over(self, kind):
        for size in 10000, 100000, 170000, 300000, 1000000:
            def scenario(link, size=size):
                yield from self.converse(link, kind, (3000, 30000, 7777, 12345, 511), size)
            self.compare(scenario, [(True, b"!")] * 4)

    def test_short_read_is_the_end(self):
        self.converse_over("short")

    def test_ioctl_says_the_end(self):
        self.converse_over("ioctl")

    def test_error_is_the_end(self):
        self.converse_over("error")


def is_stuck(sock):
    return not poll(sock, select.POLLOUT, SETTLE)


class Counting(Semantics):
    def test_fionread(self):
        def scenario(link):
            for one, other in (link.client, link.server), (link.server, link.client):
                yield readable(other, 0)
                for size in 1, 100, 5000:
                    write(one, pattern(size))
                yield readable(other, 5101)
                yield len(recv(other, 1)), readable(other, 5100)
                yield len(recv(other, 50)), readable(other, 5050)
                yield len(recv(other, 200, socket.MSG_PEEK)), readable(other, 5050)
                write(one, b"more")
                yield readable(other, 5054), len(read(other, 5054)), readable(other, 0)
            write(link.client, b"last")
            link.client.shutdown(socket.SHUT_WR)
            await_events(link.server, "RDHUP")
            yield readable(link.server, 4), recv(link.server), readable(link.server, 0)
        each = [0, 5101, (1, 5100), (50, 5050), (200, 5050), (5054, 5054, 0)]
        self.compare(scenario, each + each + [(4, b"last", 0)])

    def test_fionread_of_what_a_stalled_reader_has(self):
        """It never says more than can be read at once, be it by two reads, and not for long that
        there is nothing."""
        def scenario(link):
            sent = fill(link.client)
            got = 0
            while got < sent:
                await_event(link.server, select.POLLIN)
                promised = wait_until(lambda: queue(link.server, termios.FIONREAD),
                                      f"it says more than 0 after {got} of {sent}")
                end = got + min(promised, 50000)
                while got < end:
                    part = recv(link.server, end - got)
                    if part != pattern(len(part), got) or not part:
                        yield f"wrong after {got}"
                        return
                    got += len(part)
            yield got == sent, readable(link.server, 0)
        self.compare(scenario, [(True, 0)])

    def test_siocoutq(self):
        def is_empty(sock):
            with contextlib.suppress(AssertionError):
                return wait_until(lambda: queue(sock, SIOCOUTQ) == 0, "all is acknowledged", SOON)

        def scenario(link):
            yield is_empty(link.client)
            write(link.client, pattern(5000))
            yield is_empty(link.client), len(read(link.server, 5000)), is_empty(link.client)
            sent = fill(link.client)
            yield queue(link.client, SIOCOUTQ) > 0
            yield len(read(link.server, sent)) == sent, is_empty(link.client)
        self.compare(scenario, [True, (True, 5000, True), True, (True, True)])


class Stalled(Semantics):
    """A reader that does not read stops its writer, and when it reads again it goes on."""

    def stall(self, link, writer, reader, chunk=1 << 16, rounds=3):
        edges = Epoll(link, writer, select.EPOLLOUT | select.EPOLLET)
        position, total = 0, 0
        for _ in range(rounds):
            write(reader, b"?")
            yield read(writer, 1)
            # Room that is announced while TCP still sorts out what it dropped is used too.
            while edges.wait(0) or poll(writer, select.POLLOUT):
                total += fill(writer, total, chunk)
            link.noted.setdefault("queued", total)
            with link.threads() as pool:
                reading = pool.submit(read_pattern, reader, total - position, position)
                yield edges.wait(), poll(writer, select.POLLOUT, DEADLINE)
                yield reading.result()
            position = total
        write(writer, b"end")
        yield read(reader, 3), recv(reader)

    def check_queued(self, pairs):
        """As much as is queued for plain TCP, give or take what the queues are rounded by."""
        for plain, link in pairs:
            self.assertLess(link.noted["queued"], 2 * plain.noted["queued"] + (1 << 20))

    expected = 3 * [b"?", ("OUT", "OUT"), "right"] + [(b"end", "EAGAIN")]

    def test_server_stalls(self):
        self.check_queued(self.compare(
            lambda link: self.stall(link, link.client, link.server), self.expected))

    def test_client_stalls(self):
        self.check_queued(self.compare(
            lambda link: self.stall(link, link.server, link.client), self.expected))

    def test_small_buffers(self):
        def scenario(link):
            link.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            link.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            yield from self.stall(link, link.client, link.server, 1000)
        self.check_queued(self.compare(scenario, self.expected))

    def test_both_stall(self):
        def scenario(link):
            there, back = fill(link.client), fill(link.server)
            yield poll(link.client), poll(link.server)
            yield read_pattern(link.server, there), read_pattern(link.client, back)
            yield await_events(link.client, "OUT"), await_events(link.server, "OUT")
            for one, other in (link.client, link.server), (link.server, link.client):
                write(one, b"on")
                yield read(other, 2)
        self.compare(scenario, [("IN", "IN"), ("right", "right"), ("OUT", "OUT"), b"on", b"on"])

    def test_reader_that_reads_little_by_little(self):
        """The stream is of one piece, whatever way the pieces went."""
        total = 16 << 20

        def scenario(link):
            def writes():
                at = 0
                while at < total:
                    step = 1 + (at * 7919) % 40000
                    write(link.client, pattern(min(step, total - at), at))
                    at += step
            with link.threads() as pool:
                writer = pool.submit(writes)
                at = 0
                while at < total:
                    if (at >> 16) % 16 == 0:
                        wait_until(lambda: writer.done() or is_stuck(link.client), "it is stuck")
                    part = read(link.server, min(1 << 16, total - at))
                    if part != pattern(len(part), at):
                        yield at
                        break
                    at += len(part)
                writer.result()
                yield at
        self.compare(scenario, [total])


class ShortReadsWithShortQueue(ShortQueue, ShortReads):
    pass


class CountingWithShortQueue(ShortQueue, Counting):
    pass


class StalledWithShortQueue(ShortQueue, Stalled):
    pass


if __name__ == "__main__":
    main()
