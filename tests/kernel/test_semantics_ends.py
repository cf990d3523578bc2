#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How a connection ends: in order, half, by reset, and with data that nobody read."""
import select
import signal
import socket

from case import main
from sandbox import DEADLINE, wait_until
from semantics import RESET, Semantics, await_events, pattern, poll, raw_recv, \
    read, readable, recv, send, state, \
    write



WINDOW = 50000  # bytes that TCP delivers to a program that does not read, on every kernel
READING = select.POLLIN | select.POLLRDHUP


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class Orderly(Semantics):
    def test_close_after_data(self):
        for size in 1, 1000, WINDOW:
            def scenario(link, size=size):
                write(link.client, pattern(size))
                link.client.close()
                yield await_events(link.server, "RDHUP")
                yield read(link.server, size + 1) == pattern(size)
                yield [recv(link.server) for _ in range(3)]
                yield poll(link.server), state(link.server)
            self.compare(scenario, ["IN|OUT|RDHUP", True, [b"", b"", b""],
                                    ("IN|OUT|RDHUP", "CLOSE_WAIT")])

    def test_close_after_much_data(self):
        for size in 65536, 100000:
            def scenario(link, size=size):
                write(link.client, pattern(size))
                link.client.close()
                yield read(link.server, size + 1) == pattern(size)
                yield poll(link.server), state(link.server)
            self.compare(scenario, [True, ("IN|OUT|RDHUP", "CLOSE_WAIT")])

    def test_shutdown_after_data(self):
        def scenario(link):
            for one, other in (link.client, link.server), (link.server, link.client):
                write(one, b"the end")
                one.shutdown(socket.SHUT_WR)
                yield await_events(other, "RDHUP")
                yield read(other, 100), recv(other)
        both = (b"the end", b"")
        self.compare(scenario, ["IN|OUT|RDHUP", both, "IN|OUT|HUP|RDHUP", both])

    def test_end_without_data(self):
        def scenario(link):
            link.client.close()
            yield await_events(link.server, "RDHUP")
            yield recv(link.server), state(link.server)
        self.compare(scenario, ["IN|OUT|RDHUP", (b"", "CLOSE_WAIT")], spliced=None)

    def test_first_bytes_and_close_before_accept(self):
        def scenario(link):
            write(link.client, pattern(1000))
            link.client.close()
            server = link.accept()
            yield await_events(server, "RDHUP")
            yield read(server, 2000) == pattern(1000), recv(server)
        self.compare(scenario, ["IN|OUT|RDHUP", (True, b"")], spliced=None, accept=False)

    def test_first_bytes_and_close(self):
        """Whoever sends first."""
        def scenario(link):
            write(link.server, pattern(1000))
            write(link.client, pattern(2000))
            link.server.shutdown(socket.SHUT_WR)
            yield read(link.client, 9000) == pattern(1000), recv(link.client)
            link.client.close()
            yield read(link.server, 9000) == pattern(2000), recv(link.server)
        self.compare(scenario, [(True, b""), (True, b"")], spliced=None, warm=False)

    def test_half_closed(self):
        def scenario(link):
            for half, other in (link.client, link.server), (link.server, link.client):
                write(half, b"last words")
                half.shutdown(socket.SHUT_WR)
                yield read(other, 100), await_events(other, "RDHUP")
                if other is link.client:
                    break
                wait_until(lambda: state(link.client) == "FIN_WAIT2", "the FIN is acknowledged")
                yield state(link.client), state(link.server), poll(link.client)
                with link.threads() as pool:
                    reader = pool.submit(read, half, 1000000)
                    for at in range(0, 1000000, 5000):
                        write(other, pattern(5000, at))
                    yield reader.result() == pattern(1000000)
        self.compare(scenario, [(b"last words", "IN|OUT|RDHUP"),
                                ("FIN_WAIT2", "CLOSE_WAIT", "OUT"), True,
                                (b"last words", "IN|OUT|HUP|RDHUP")])

    def test_both_close_at_once(self):
        def scenario(link):
            write(link.client, b"one")
            write(link.server, b"two")
            link.client.shutdown(socket.SHUT_WR)
            link.server.shutdown(socket.SHUT_WR)
            for sock in link.client, link.server:
                yield await_events(sock, "HUP"), read(sock, 10), recv(sock), poll(sock)
        self.compare(scenario, [
            ("IN|OUT|HUP|RDHUP", b"two", b"", "IN|OUT|HUP|RDHUP"),
            ("IN|OUT|HUP|RDHUP", b"one", b"", "IN|OUT|HUP|RDHUP")])

    def test_send_after_own_shutdown(self):
        def scenario(link):
            for one, other in (link.client, link.server), (link.server, link.client):
                signals = []
                before = signal.signal(signal.SIGPIPE, lambda number, _: signals.append(number))
                try:
                    write(one, b"before")
                    one.shutdown(socket.SHUT_WR)
                    yield send(one, b"after", socket.MSG_NOSIGNAL)
                    yield len(signals)
                    yield send(one, b"after")
                    yield len(signals)
                    yield read(other, 100), recv(other), send(one, b"later"), recv(other)
                finally:
                    signal.signal(signal.SIGPIPE, before)
        end = ["EPIPE", 0, "EPIPE", 1, (b"before", b"", "EPIPE", b"")]
        self.compare(scenario, end + end)

    def test_send_after_the_own_end_was_read(self):
        """All that was sent has been read, the end too: nothing but the state speaks against it."""
        def scenario(link):
            for one, other in (link.client, link.server), (link.server, link.client):
                write(one, b"before")
                one.shutdown(socket.SHUT_WR)
                yield read(other, 100), recv(other)
                yield send(one, b"after", socket.MSG_NOSIGNAL), recv(other)
        self.compare(scenario, 2 * [(b"before", b""), ("EPIPE", b"")])

    def test_shutdown_of_reading(self):
        """What was sent before and after can be read, and then there is an end."""
        def scenario(link):
            write(link.client, b"before")
            yield readable(link.server, 6)
            link.server.shutdown(socket.SHUT_RD)
            yield poll(link.server), recv(link.server), recv(link.server)
            write(link.client, b"after")
            yield readable(link.server, 5)
            yield recv(link.server), recv(link.server)
            write(link.server, b"answer")
            yield read(link.client, 6), poll(link.client)
        self.compare(scenario, [6, ("IN|OUT|RDHUP", b"before", b""), 5, (b"after", b""),
                                (b"answer", "OUT")])

    def test_shutdown_by_another_thread(self):
        for how, events in (socket.SHUT_RD, "IN|RDHUP"), (socket.SHUT_RDWR, "IN|HUP|RDHUP"):
            def scenario(link, how=how):
                write(link.client, b"x")
                read(link.server, 1)
                with link.sleeping(poll, link.server, READING, DEADLINE) as waiter:
                    link.server.shutdown(how)
                    yield waiter.result()
                yield recv(link.server), recv(link.server)
            self.compare(scenario, [events, (b"", b"")])

    def test_shutdown_under_a_blocked_reader(self):
        for how in socket.SHUT_RD, socket.SHUT_RDWR:
            def scenario(link, how=how):
                write(link.client, b"x")
                read(link.server, 1)
                with link.sleeping(raw_recv, link.server) as reader:
                    link.server.shutdown(how)
                    yield reader.result()
            self.compare(scenario, [b""], spliced=False, client_blocks=True, listener_blocks=True,
                         server_blocks=True)


class Broken(Semantics):
    def test_reset_after_data(self):
        for size in 4, 5000, WINDOW:
            def scenario(link, size=size):
                write(link.client, pattern(size))
                readable(link.server, size)
                reset(link.client)
                yield await_events(link.server, "HUP")
                yield read(link.server, size) == pattern(size)
                yield recv(link.server), recv(link.server), send(link.server, b"x")
                yield poll(link.server), state(link.server)
            self.compare(scenario, ["IN|OUT|ERR|HUP|RDHUP", True, ("ECONNRESET", b"", "EPIPE"),
                                    ("IN|OUT|HUP|RDHUP", "CLOSE")])

    def test_reset_without_data(self):
        def scenario(link):
            reset(link.client)
            yield await_events(link.server, "HUP")
            error = link.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            yield error, recv(link.server), send(link.server, b"x")
        self.compare(scenario, ["IN|OUT|ERR|HUP|RDHUP", (104, b"", "EPIPE")], spliced=None)

    def test_close_with_unread_data(self):
        """The documented difference: to TCP there is nothing unread, so the writer is told by the
        answer to what it sends next."""
        def scenario(link):
            write(link.client, b"nobody reads this")
            readable(link.server, 17)
            link.server.close()
            yield await_events(link.client, "RDHUP")
            yield recv(link.client), send(link.client, b"next")
            yield await_events(link.client, "HUP") and send(link.client, b"x")
        self.compare(scenario, ["IN|OUT|ERR|HUP|RDHUP", ("ECONNRESET", "EPIPE"), "EPIPE"],
                     or_else=["IN|OUT|RDHUP", (b"", 4), "EPIPE"])

    def test_peer_that_does_not_read_closes_in_mid_stream(self):
        """The writer learns that it is over, and soon. The documented difference: that a member's
        send() tells the error does not take it off the socket."""
        def scenario(link):
            def writes():
                for at in range(0, 1 << 26, 1 << 16):
                    write(link.client, pattern(1 << 16, at))
            with link.threads() as pool:
                writer = pool.submit(writes)
                yield read(link.server, 300000) == pattern(300000)
                link.server.close()
                yield isinstance(writer.exception(), (ConnectionResetError, BrokenPipeError))
            yield "HUP" in poll(link.client), send(link.client, b"x")
        self.compare(scenario, [True, True, (True, "EPIPE")],
                     or_else=[True, True, (True, "ECONNRESET")])


if __name__ == "__main__":
    main()
