#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Options and flags of TCP sockets do what they do on TCP, whenever they are set."""
import contextlib
import ctypes
import errno
import select
import socket
import struct
import time

from case import SOON, attempt, main
from sandbox import check, libc, wait_until
from semantics import SETTLE, SOL_TCP, Semantics, await_event, await_events, elapsed_at_least, \
    fill, mapped, pattern, poll, queue, raw_recv, read, read_pattern, readable, recv, send, \
    set_option, state, write

TCP_REPAIR, TCP_REPAIR_OFF, TCP_REPAIR_OFF_NO_WP = 19, 0, -1
TCP_INQ = TCP_CM_INQ = 36
SO_TIMESTAMPNS = SCM_TIMESTAMPNS = 35
SO_PEEK_OFF, SO_ZEROCOPY = 42, 60
TCP_ZEROCOPY_RECEIVE = 35
MSG_ZEROCOPY = 0x4000000
ERROR_QUEUE = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
ORIGIN_ZEROCOPY = 5
SIOCATMARK = 0x8905
QUICKLY = struct.pack("=qq", 0, 150000)  # struct timeval
ELAPSED = 0.1  # seconds at least: where processors are emulated two clocks disagree
BLOCKING = {"client_blocks": True, "listener_blocks": True, "server_blocks": True}


def say(link):
    """That what is sent still arrives, both ways."""
    words = []
    for one, other in (link.client, link.server), (link.server, link.client):
        write(one, b"word")
        words.append(read(other, 4))
    return words


SAID = [b"word", b"word"]


class Marks(Semantics):
    """SO_RCVLOWAT and what else decides when there is enough."""

    def test_rcvlowat(self):
        def scenario(link):
            say(link)
            yield set_option(link.server, socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100)
            epoll = link.keep(select.epoll())
            epoll.register(link.server, select.EPOLLIN)
            write(link.client, pattern(10))
            yield readable(link.server, 10), poll(link.server), len(epoll.poll(SETTLE))
            write(link.client, pattern(89))
            yield readable(link.server, 99), poll(link.server), len(epoll.poll(SETTLE))
            write(link.client, pattern(1))
            yield await_events(link.server, "IN"), len(epoll.poll(SOON))
            yield len(recv(link.server, 50)), poll(link.server)
            yield len(recv(link.server)), recv(link.server)
            write(link.client, b"few")
            link.client.shutdown(socket.SHUT_WR)
            yield await_events(link.server, "IN|RDHUP"), recv(link.server), recv(link.server)
        self.compare(scenario, [
            None, (10, "OUT", 0), (99, "OUT", 0), ("IN|OUT", 1), (50, "OUT"), (50, "EAGAIN"),
            ("IN|OUT|RDHUP", b"few", b"")], spliced=None)

    def test_rcvlowat_set_under_data(self):
        """The documented difference: bytes that were spliced before can be read, few as they are."""
        def scenario(link):
            write(link.client, pattern(10))
            yield await_events(link.server, "IN")
            link.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100)
            yield poll(link.server)
            link.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            yield poll(link.server), recv(link.server) == pattern(10)
            yield say(link)
        self.compare(scenario, ["IN|OUT", "OUT", ("IN|OUT", True), SAID],
                     or_else=["IN|OUT", "IN|OUT", ("IN|OUT", True), SAID], spliced=None)

    def test_rcvbuf_changed_in_mid_stream(self):
        total, step = 4 << 20, 1 << 18

        def scenario(link):
            def writes():
                for offset in range(0, total, 1 << 15):
                    write(link.client, pattern(1 << 15, offset))
            with link.threads() as pool:
                writer = pool.submit(writes)
                for n, offset in enumerate(range(0, total, step)):
                    size = (65536, 1 << 20, 32768, 200000)[n % 4]
                    link.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
                    yield read_pattern(link.server, step, offset)
                writer.result()
        self.compare(scenario, ["right"] * 16)

    def test_notsent_lowat(self):
        """A writer that wants to hear of room only when nearly all was sent."""
        def scenario(link):
            link.client.setsockopt(SOL_TCP, socket.TCP_NOTSENT_LOWAT, 16384)
            sent = fill(link.client)
            yield read_pattern(link.server, sent), await_events(link.client, "OUT")
            yield say(link)
        self.compare(scenario, [("right", "OUT"), SAID])


class Timeouts(Semantics):
    """Of sockets that block; these are left to TCP."""

    def test_receive_timeout(self):
        def scenario(link):
            for sock in link.client, link.server:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, QUICKLY)
                yield elapsed_at_least(ELAPSED, raw_recv, sock)
            write(link.client, b"in time")
            yield raw_recv(link.server), elapsed_at_least(ELAPSED, raw_recv, link.server)
        self.compare(scenario, [("EAGAIN", True), ("EAGAIN", True),
                                (b"in time", ("EAGAIN", True))], spliced=False, **BLOCKING)

    def test_send_timeout(self):
        def scenario(link):
            link.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, QUICKLY)
            sent = 0
            while not isinstance(step := send(link.client, pattern(1 << 20, sent)), str):
                sent += step
            yield step, elapsed_at_least(ELAPSED, send, link.client, pattern(1 << 20))[1]
            yield read_pattern(link.server, sent)
        self.compare(scenario, [("EAGAIN", True), "right"],
                     spliced=False, **BLOCKING)

    def test_timeout_set_on_a_socket_that_does_not_block(self):
        def scenario(link):
            for sock in link.client, link.server:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 5, 0))
            yield recv(link.server), say(link), recv(link.server)
        self.compare(scenario, [("EAGAIN", SAID, "EAGAIN")])

    def test_waitall_of_a_socket_that_blocks(self):
        def scenario(link):
            with link.sleeping(raw_recv, link.server, 30, socket.MSG_WAITALL) as reader:
                for _ in range(3):
                    yield reader.done()
                    write(link.client, b"0123456789")
                yield reader.result()
            with link.sleeping(raw_recv, link.server, 30, socket.MSG_WAITALL) as reader:
                write(link.client, b"short")
                link.client.close()
                yield reader.result()
        self.compare(scenario, [False, False, False, b"0123456789" * 3, b"short"],
                     spliced=False, **BLOCKING)


class Urgent(Semantics):
    def test_apart(self):
        def scenario(link):
            yield say(link)
            yield send(link.client, b"ab!", socket.MSG_OOB)
            write(link.client, b"cd")
            yield await_events(link.server, "IN|PRI"), queue(link.server, SIOCATMARK)
            yield recv(link.server, 100, socket.MSG_OOB), read(link.server, 2)
            yield queue(link.server, SIOCATMARK), read(link.server, 2)
            yield recv(link.server), poll(link.server)
            yield recv(link.server, 1, socket.MSG_OOB), say(link)
        self.compare(scenario, [SAID, 3, ("IN|PRI|OUT", 0), (b"!", b"ab"), (1, b"cd"),
                                ("EAGAIN", "OUT"), ("EINVAL", SAID)], spliced=None)

    def test_apart_from_unread_data(self):
        """The documented difference: who asks for urgent data is given what was spliced before."""
        def scenario(link):
            write(link.client, b"ab")
            yield readable(link.server, 2), send(link.client, b"!", socket.MSG_OOB)
            yield await_events(link.server, "IN|PRI")
            yield recv(link.server, 100, socket.MSG_OOB)
        self.compare(scenario, [(2, 1), "IN|PRI|OUT", b"!"],
                     or_else=[(2, 1), "IN|PRI|OUT", b"ab"])

    def test_inline(self):
        def scenario(link):
            link.server.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            yield say(link)
            write(link.client, b"ab")
            yield send(link.client, b"c!", socket.MSG_OOB)
            write(link.client, b"de")
            yield await_events(link.server, "PRI"), readable(link.server, 6)
            yield queue(link.server, SIOCATMARK), recv(link.server, 100, socket.MSG_OOB)
            yield recv(link.server), queue(link.server, SIOCATMARK)
            yield recv(link.server), recv(link.server), poll(link.server)
            yield recv(link.server, 1, socket.MSG_OOB), say(link)
        self.compare(scenario, [
            SAID, 2, ("IN|PRI|OUT", 6), (0, "EINVAL"), (b"abc", 1), (b"!de", "EAGAIN", "OUT"),
            ("EINVAL", SAID)], spliced=None)


class Told(Semantics):
    """What comes beside the data."""

    def test_inq(self):
        """How much is left, with each read; each number is exact."""
        def scenario(link):
            def take(size):
                data, control, _, _ = link.server.recvmsg(size, 64)
                return len(data), [(level, kind, struct.unpack("=i", value)[0])
                                   for level, kind, value in control]
            yield set_option(link.server, SOL_TCP, TCP_INQ, 1)
            yield say(link)
            for size in 10, 20, 30:
                write(link.client, pattern(size))
            yield readable(link.server, 60), take(5), take(25), take(100)
        self.compare(scenario, [
            None, SAID, (60, (5, [(SOL_TCP, TCP_CM_INQ, 55)]), (25, [(SOL_TCP, TCP_CM_INQ, 30)]),
                         (30, [(SOL_TCP, TCP_CM_INQ, 0)]))], spliced=None)

    def test_timestamps(self):
        """When it came, with each read; a time that is not before the send."""
        def scenario(link):
            def take():
                write(link.client, b"now")
                await_event(link.server, select.POLLIN)
                return link.server.recvmsg(100, 64)
            link.server.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            with contextlib.suppress(AssertionError):
                wait_until(lambda: take()[1], "the kernel has begun to take the time", SOON)
            for _ in range(3):
                begin = now()
                data, control, _, _ = take()
                yield data, [(level, kind) for level, kind, _ in control]
                times = [struct.unpack("=qq", value) for _, _, value in control]
                yield all(begin <= stamp <= now() for stamp in times)
        stamped = (b"now", [(socket.SOL_SOCKET, SCM_TIMESTAMPNS)])
        self.compare(scenario, [stamped, True] * 3, spliced=None)

    def test_zerocopy(self):
        """Each send that was asked not to copy is reported done, once."""
        def scenario(link):
            yield set_option(link.client, socket.SOL_SOCKET, SO_ZEROCOPY, 1)
            yield say(link)
            for number in range(3):
                yield send(link.client, pattern(20000), MSG_ZEROCOPY)
                yield read(link.server, 20000) == pattern(20000)
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: "ERR" in poll(link.client), "it is reported", SOON)
                report = attempt(link.client.recvmsg, 0, 128, socket.MSG_ERRQUEUE)
                if isinstance(report, str):
                    yield report
                    continue
                _, ((level, kind, value),), _, _ = report
                error, origin, _, _, _, low, high = struct.unpack("=IBBBBII", value[:16])
                yield (level, kind) == ERROR_QUEUE[link.family], error, origin
                yield low == number, high == number, poll(link.client)
            yield say(link)
        each = [20000, True, (True, 0, ORIGIN_ZEROCOPY), (True, True, "OUT")]
        self.compare(scenario, [None, SAID] + 3 * each + [SAID], spliced=None)

    def test_zerocopy_set_under_data(self):
        """The documented difference: until what was spliced before is read, sends are copied and
        none is reported; then each is."""
        def scenario(link):
            def is_reported():
                return "ERR" in poll(link.client)

            def report():
                send(link.client, b"again", MSG_ZEROCOPY)
                read(link.server, 5)
                return is_reported()
            write(link.client, b"queued")
            readable(link.server, 6)
            link.client.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
            yield send(link.client, b"more", MSG_ZEROCOPY), read(link.server, 10)
            try:
                yield wait_until(is_reported, "it is reported", SOON)
            except AssertionError:
                yield False
            yield wait_until(report, "another is reported", SOON)
        self.compare(scenario, [(4, b"queuedmore"), True, True],
                     or_else=[(4, b"queuedmore"), False, True])

    def test_zerocopy_of_a_reader(self):
        """Which maps what it can, and reads what it is told to; nothing is left where it cannot be
        had."""
        total = 1 << 16

        def scenario(link):
            with mapped(link.server, total) as address:
                yield say(link)
                for offset in range(0, total, 1 << 14):
                    write(link.client, pattern(1 << 14, offset))
                yield read_mapped(link.server, address, total)
        self.compare(scenario, [SAID, "right"], spliced=None)

    def test_peek_offset(self):
        """Each look goes on where the last one ended, and who reads is not looked past."""
        def scenario(link):
            yield say(link)
            for sock in link.client, link.server:
                yield set_option(sock, socket.SOL_SOCKET, SO_PEEK_OFF, 0)
            for one, other in (link.client, link.server), (link.server, link.client):
                write(one, b"0123456789")
                yield readable(other, 10)
                yield [recv(other, 4, socket.MSG_PEEK) for _ in range(4)]
                yield recv(other, 3), other.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
                yield recv(other)
        if (lacking := self.try_peek_offset()):
            self.kernel_lacks("SO_PEEK_OFF of TCP", lacking, errno.EOPNOTSUPP)
        looks = [b"0123", b"4567", b"89", "EAGAIN"]
        self.compare(scenario, [SAID, None, None] + 2 * [10, looks, (b"012", 7), b"3456789"],
                     spliced=None)

    def try_peek_offset(self):
        with socket.socket() as sock:
            try:
                sock.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
            except OSError as error:
                return error
        return None

    def test_states(self):
        def scenario(link):
            yield state(link.client), state(link.server), state(link.listener)
            write(link.client, b"data")
            yield readable(link.server, 4), state(link.client), state(link.server)
            link.client.shutdown(socket.SHUT_WR)
            await_events(link.server, "RDHUP")
            wait_until(lambda: state(link.client) == "FIN_WAIT2", "the end is acknowledged")
            yield state(link.client), state(link.server), read(link.server, 9)
            link.server.shutdown(socket.SHUT_WR)
            await_events(link.client, "HUP")
            wait_until(lambda: state(link.server) == "CLOSE", "all is acknowledged")
            yield state(link.client), state(link.server), recv(link.client)
        self.compare(scenario, [
            ("ESTABLISHED", "ESTABLISHED", "LISTEN"), (4, "ESTABLISHED", "ESTABLISHED"),
            ("FIN_WAIT2", "CLOSE_WAIT", b"data"), ("CLOSE", "CLOSE", b"")])


class Repair(Semantics):
    """As a checkpoint does: in and out of repair mode, between and with data."""

    def test_in_and_out(self):
        def scenario(link):
            for off in TCP_REPAIR_OFF_NO_WP, TCP_REPAIR_OFF:
                for sock in link.client, link.server:
                    yield set_option(sock, SOL_TCP, TCP_REPAIR, 1)
                    yield set_option(sock, SOL_TCP, TCP_REPAIR, off)
                    yield say(link)
        self.compare(scenario, [None, None, SAID] * 4, spliced=None)

    def test_with_data_in_the_queue(self):
        def scenario(link):
            write(link.client, b"queued")
            yield readable(link.server, 6)
            yield set_option(link.server, SOL_TCP, TCP_REPAIR, 1)
            yield set_option(link.server, SOL_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
            yield recv(link.server), say(link)
        self.compare(scenario, [6, None, None, (b"queued", SAID)], spliced=None)


class Alive(Semantics):
    """Keep-alive and TCP_USER_TIMEOUT."""

    def set_keepalive(self, sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT:
            sock.setsockopt(SOL_TCP, option, 1)

    def test_peer_that_is_gone(self):
        """The network takes no packet of theirs any more, and nothing is sent."""
        def scenario(link):
            self.set_keepalive(link.client)
            yield say(link)
            port = link.listener.getsockname()[1]
            yield link.client.getsockopt(SOL_TCP, socket.TCP_KEEPIDLE)
            self.world.app.netns.nft(
                "table inet gone { chain gone { type filter hook input priority 0;"
                f"tcp dport {port} drop; tcp sport {port} drop; }}; }}")
            try:
                yield await_events(link.client, "ERR"), recv(link.client), recv(link.client)
            finally:
                self.world.app.netns.nft("delete table inet gone")
            yield send(link.client, b"x")
        self.compare(scenario, [SAID, 1, ("IN|OUT|ERR|HUP|RDHUP", "ETIMEDOUT", b""), "EPIPE"],
                     spliced=None)

    def test_link_that_is_down(self):
        """The documented difference: what is spliced comes all the same. What TCP has is not
        lost."""
        def scenario(link):
            self.world.app.netns.ip("link set lo down")
            try:
                write(link.client, b"word")
                yield readable(link.server, 4)
            finally:
                self.world.app.netns.ip("link set lo up")
            yield read(link.server, 4), say(link)
        self.compare(scenario, [0, (b"word", SAID)], or_else=[4, (b"word", SAID)])

    def test_user_timeout_of_a_peer_that_is_there(self):
        """Neither is a reader that does not read taken for one that is gone, nor silence."""
        def scenario(link):
            self.set_keepalive(link.client)
            yield set_option(link.client, SOL_TCP, socket.TCP_USER_TIMEOUT, 700)
            yield link.client.getsockopt(SOL_TCP, socket.TCP_USER_TIMEOUT)
            write(link.client, pattern(10000))
            readable(link.server, 10000)
            before = segments(link.server)
            wait_until(lambda: segments(link.server) >= before + 2, "two probes have come")
            yield poll(link.client), read(link.server, 10000) == pattern(10000), say(link)
        self.compare(scenario, [None, 700, ("OUT", True, SAID)])


def segments(sock):
    """How many have come in: tcpi_segs_in."""
    return struct.unpack_from("=I", sock.getsockopt(SOL_TCP, socket.TCP_INFO, 144), 140)[0]


def read_mapped(sock, address, size):
    """Whether this is what comes next, taken as TCP_ZEROCOPY_RECEIVE says."""
    offset = 0
    while offset < size:
        await_event(sock, select.POLLIN)
        answer = ctypes.create_string_buffer(struct.pack("=QII", address, size - offset, 0), 16)
        check(libc.getsockopt(sock.fileno(), SOL_TCP, TCP_ZEROCOPY_RECEIVE, answer,
                              ctypes.byref(ctypes.c_uint(16))))
        length, left = struct.unpack_from("=II", answer, 8)
        part = ctypes.string_at(address, length) + (sock.recv(left) if left else b"")
        if not part:
            return f"ready at {offset}, and there is nothing"
        if part != pattern(len(part), offset):
            return f"wrong at {offset}"
        offset += len(part)
    return "right"


def now():
    """As the kernel writes it: seconds, nanoseconds."""
    return divmod(time.clock_gettime_ns(time.CLOCK_REALTIME), 1000000000)


if __name__ == "__main__":
    main()
