#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All bytes arrive, in order, whatever calls they are written and read by."""
import ctypes
import os
import select
import socket
import tempfile

from case import SOON, attempt, main
from sandbox import wait_until
from semantics import PATTERN, SOL_TCP, Semantics, await_event, fill, pattern, poll, raw, read, \
    read_pattern, readable, recv, send, write

GIGABYTE = 1 << 30
MSG_WAITFORONE = 0x10000


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Msghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32),
                ("iov", ctypes.POINTER(Iovec)), ("iov_length", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("header", Msghdr), ("length", ctypes.c_uint)]


def messages(buffers):
    """An array for sendmmsg() and recvmmsg(), one buffer a message."""
    array = (Mmsghdr * len(buffers))()
    for message, buffer in zip(array, buffers):
        message.header.iov = ctypes.pointer(Iovec(ctypes.addressof(buffer), len(buffer)))
        message.header.iov_length = 1
    return array


def splice_soon(sock, pipe, size):
    """As splice(2), of a socket that says that it can be read; or EAGAIN, if that stays so."""
    def splice():
        moved = attempt(os.splice, sock.fileno(), pipe, size, None, None, os.SPLICE_F_NONBLOCK)
        return moved if moved != "EAGAIN" else None
    try:
        return wait_until(splice, "there is something to splice", SOON)
    except AssertionError:
        return "EAGAIN"


class Writing(Semantics):
    def stream(self, total, produce, sizes=(1 << 16,), **how):
        """produce writes the pattern while a thread reads it, in pieces of these sizes."""
        for size in sizes:
            def scenario(link, size=size):
                with link.threads() as pool:
                    reader = pool.submit(read_pattern, link.server, total, 0, size)
                    yield produce(link, link.client), reader.result()
                yield recv(link.server)
            self.compare(scenario, [(total, "right"), "EAGAIN"], **how)

    def test_a_gigabyte(self):
        """By calls as large as a program can make them: each offers all that is left."""
        def produce(_, sock):
            offer, offset = memoryview(pattern(1 << 26)), 0
            while offset < GIGABYTE:
                at = offset % len(PATTERN)
                try:
                    offset += os.write(sock.fileno(), offer[at:at + GIGABYTE - offset])
                except BlockingIOError:
                    await_event(sock, select.POLLOUT)
            return offset
        self.stream(GIGABYTE, produce, [1 << 20], spliced=None)

    def test_pieces_of_all_sizes(self):
        total = 8 << 20

        def produce(_, sock):
            offset, step = 0, 1
            while offset < total:
                write(sock, pattern(min(step, total - offset), offset))
                offset += min(step, total - offset)
                step = step * 5 % 99991
            return offset
        self.stream(total, produce, [1 << 10, 1 << 16, 1 << 20])

    def test_ten_thousand_single_bytes(self):
        for nodelay in 0, 1:
            def produce(_, sock, nodelay=nodelay):
                sock.setsockopt(SOL_TCP, socket.TCP_NODELAY, nodelay)
                for offset in range(10000):
                    write(sock, pattern(1, offset))
                return 10000
            self.stream(10000, produce, [1, 4096])

    def test_writev(self):
        def produce(_, sock):
            pieces, offset = [], 0
            for n in range(1024):
                pieces.append(pattern(n % 97, offset))
                offset += n % 97
            sent = os.writev(sock.fileno(), pieces)
            write(sock, pattern(offset - sent, sent))
            return offset
        self.stream(sum(n % 97 for n in range(1024)), produce)

    def test_sendfile(self):
        total = 4 << 20

        def produce(_, sock):
            with tempfile.TemporaryFile() as file:
                file.write(pattern(total))
                file.flush()
                offset = 0
                while offset < total:
                    sent = attempt(os.sendfile, sock.fileno(), file.fileno(), offset,
                                   total - offset)
                    if sent == "EAGAIN":
                        await_event(sock, select.POLLOUT)
                    else:
                        offset += sent
            return offset
        self.stream(total, produce)

    def test_splice_from_a_pipe(self):
        total = 4 << 20

        def produce(_, sock):
            source, sink = os.pipe()
            sent = 0
            with open(source, "rb", 0), open(sink, "wb", 0) as pipe:
                for offset in range(0, total, 40000):
                    part = pattern(min(40000, total - offset), offset)
                    pipe.write(part)
                    left = len(part)
                    while left:
                        moved = attempt(os.splice, source, sock.fileno(), left)
                        if moved == "EAGAIN":
                            await_event(sock, select.POLLOUT)
                        else:
                            left -= moved
                            sent += moved
            return sent
        self.stream(total, produce)

    def test_sendmmsg(self):
        def scenario(link):
            texts = [pattern(size) for size in (1, 1000, 20000, 7)]
            buffers = [ctypes.create_string_buffer(text, len(text)) for text in texts]
            array = messages(buffers)
            yield raw("sendmmsg", link.client.fileno(), array, len(array), 0)
            yield [message.length for message in array]
            yield read(link.server, 21008) == b"".join(texts)
        self.compare(scenario, [4, [1, 1000, 20000, 7], True])

    def test_ancillary_data(self):
        """The documented difference: nobody looks at what goes with bytes that are spliced."""
        def scenario(link):
            unknown = 999
            yield link.client.sendmsg([b"ab"], [(socket.SOL_TCP, unknown, b"data")])
            yield attempt(link.client.sendmsg, [b"cd"], [(socket.SOL_SOCKET, unknown, b"data")])
            write(link.client, b"ef")
            yield read(link.server, 4)
        self.compare(scenario, [2, "EINVAL", b"abef"], or_else=[2, 2, b"abcd"])

    def test_send_without_bytes(self):
        def scenario(link):
            yield send(link.client, b""), poll(link.server), recv(link.server)
            write(link.client, b"x")
            yield readable(link.server, 1), recv(link.server, 0), recv(link.server)
        self.compare(scenario, [(0, "OUT", "EAGAIN"), (1, b"", b"x")])

    def test_buffers_that_are_not_there(self):
        """The documented difference: a send from an address where nothing is fails for a spliced
        socket by sending nothing. No byte goes in either case."""
        def scenario(link):
            yield raw("send", link.client.fileno(), ctypes.c_void_p(1), 10, 0)
            write(link.client, b"x")
            yield read(link.server, 1), recv(link.server)
            yield raw("recv", link.server.fileno(), ctypes.c_void_p(1), 10, 0)
            write(link.client, b"y")
            readable(link.server, 1)
            yield raw("recv", link.server.fileno(), ctypes.c_void_p(1), 10, 0), recv(link.server)
        rest = [(b"x", "EAGAIN"), "EAGAIN", ("EFAULT", b"y")]
        self.compare(scenario, ["EFAULT", *rest], or_else=[0, *rest])

    def test_held_back(self):
        """MSG_MORE and TCP_CORK may hold back what is sent, and what follows lets go of it."""
        def scenario(link):
            for n in range(200):
                send(link.client, b"%03d" % n, socket.MSG_MORE)
            send(link.client, b"end")
            yield read(link.server, 603) == b"".join(b"%03d" % n for n in range(200)) + b"end"
            link.client.setsockopt(SOL_TCP, socket.TCP_CORK, 1)
            for n in range(200):
                send(link.client, b"%03d" % n)
            link.client.setsockopt(SOL_TCP, socket.TCP_CORK, 0)
            yield read(link.server, 600) == b"".join(b"%03d" % n for n in range(200))
            send(link.client, b"held", socket.MSG_MORE)
            link.client.shutdown(socket.SHUT_WR)
            yield read(link.server, 9), recv(link.server)
        self.compare(scenario, [True, True, (b"held", b"")])


class Reading(Semantics):
    def test_many_messages_in_one_read(self):
        def scenario(link):
            for n in range(100):
                write(link.client, pattern(n, n))
            whole = b"".join(pattern(n, n) for n in range(100))
            yield readable(link.server, len(whole)), recv(link.server) == whole, recv(link.server)
        self.compare(scenario, [(4950, True, "EAGAIN")])

    def test_peek(self):
        def scenario(link):
            peek = socket.MSG_PEEK
            yield recv(link.server, 10, peek)
            for text in b"one", b"two", b"three":
                write(link.client, text)
            yield readable(link.server, 11)
            yield [recv(link.server, size, peek) for size in (2, 3, 5, 11, 100)]
            yield recv(link.server, 4), recv(link.server, 100, peek), readable(link.server, 7)
            write(link.client, b"four")
            yield readable(link.server, 11), recv(link.server, 100, peek), recv(link.server)
            yield recv(link.server, 10, peek)
            write(link.client, b"last")
            link.client.shutdown(socket.SHUT_WR)
            yield read(link.server, 4), recv(link.server, 10, peek), recv(link.server)
        self.compare(scenario, [
            "EAGAIN", 11, [b"on", b"one", b"onetw", b"onetwothree", b"onetwothree"],
            (b"onet", b"wothree", 7), (11, b"wothreefour", b"wothreefour"), "EAGAIN",
            (b"last", b"", b"")])

    def test_peek_of_all_while_it_grows(self):
        """As who looks for the end of a header does."""
        def scenario(link):
            link.client.setsockopt(SOL_TCP, socket.TCP_NODELAY, 1)
            for n in range(1, 300):
                write(link.client, pattern(97, 97 * (n - 1)))
                readable(link.server, 97 * n)
                seen = recv(link.server, 1 << 16, socket.MSG_PEEK)
                if seen != pattern(97 * n):
                    yield n, len(seen)
            yield read(link.server, 97 * 299) == pattern(97 * 299)
        self.compare(scenario, [True])

    def test_trunc(self):
        """The documented difference: MSG_TRUNC drops what it counts, and spliced bytes it copies.
        What is left in the queue is the same."""
        def scenario(link):
            write(link.client, b"drop this, keep that")
            readable(link.server, 20)
            buffer = bytearray(b"-" * 11)
            yield attempt(link.server.recv_into, buffer, 11, socket.MSG_TRUNC)
            yield bytes(buffer)
            yield recv(link.server), recv(link.server)
        rest = (b"keep that", "EAGAIN")
        self.compare(scenario, [11, b"-" * 11, rest], or_else=[11, b"drop this, ", rest])

    def test_trunc_without_a_buffer(self):
        """The documented difference: what cannot be copied is not dropped."""
        def scenario(link):
            write(link.client, b"drop this, keep that")
            readable(link.server, 20)
            yield raw("recv", link.server.fileno(), None, 11, socket.MSG_TRUNC)
            yield recv(link.server)
        self.compare(scenario, [11, b"keep that"], or_else=["EFAULT", b"drop this, keep that"])

    def test_waitall(self):
        """Of a socket that does not block, it takes what there is."""
        def scenario(link):
            waitall = socket.MSG_WAITALL
            yield recv(link.server, 20, waitall)
            write(link.client, b"0123456789")
            yield readable(link.server, 10), recv(link.server, 20, waitall)
            for _ in range(3):
                write(link.client, b"0123456789")
            yield readable(link.server, 30), len(recv(link.server, 20, waitall))
            yield len(recv(link.server, 20, waitall)), recv(link.server, 20, waitall)
            link.client.close()
            yield read(link.server, 1), recv(link.server, 20, waitall)
        self.compare(scenario, ["EAGAIN", (10, b"0123456789"), (30, 20), (10, "EAGAIN"),
                                (b"", b"")])

    def test_recvmsg_of_many_pieces(self):
        def scenario(link):
            for n in range(50):
                write(link.client, pattern(37, 37 * n))
            yield readable(link.server, 1850)
            buffers = [bytearray(11) for _ in range(100)]
            got, control, flags, _ = link.server.recvmsg_into(buffers)
            yield got, control, flags, b"".join(buffers) == pattern(1100)
            yield link.server.recv(9999) == pattern(750, 1100)
        self.compare(scenario, [1850, (1100, [], 0, True), True])

    def test_recvmmsg(self):
        def scenario(link):
            for text in b"one", b"twotwo", b"threethreethree":
                write(link.client, text)
            yield readable(link.server, 24)
            buffers = [ctypes.create_string_buffer(7) for _ in range(6)]
            array = messages(buffers)
            yield raw("recvmmsg", link.server.fileno(), array, len(array), 0, None)
            yield [(message.length, buffer.raw[:message.length])
                   for message, buffer in zip(array, buffers)]
            yield raw("recvmmsg", link.server.fileno(), array, len(array), MSG_WAITFORONE, None)
        self.compare(scenario, [24, 4, [(7, b"onetwot"), (7, b"wothree"), (7, b"threeth"),
                                        (3, b"ree"), (0, b""), (0, b"")], "EAGAIN"])

    def name_this_program(self):
        """Who reads by splice(2), and does not look like it, has to be named."""
        self.agent.settings = {"splice_never": os.readlink("/proc/self/exe")}
        self.agent.reload(**self.mesh)
        if self.spliced:
            self.addCleanup(wait_until, self.is_spliced, "the agent splices again")
        self.addCleanup(self.agent.reload, **self.mesh)
        self.addCleanup(self.agent.settings.clear)

    def test_splice_to_a_pipe(self):
        """The reader never reads but by splice(2): it is told of all there is, and gets it."""
        self.name_this_program()
        for total in 5, 5000, 4 << 20:
            def scenario(link, total=total):
                source, sink = os.pipe()
                with open(source, "rb", 0) as pipe, open(sink, "wb", 0), link.threads() as pool:
                    writer = pool.submit(write, link.client, pattern(total))
                    offset = 0
                    while offset < total:
                        await_event(link.server, select.POLLIN)
                        moved = splice_soon(link.server, sink, total - offset)
                        if moved == "EAGAIN":
                            yield f"nothing to splice after {offset}"
                            break
                        if pipe.read(moved) != pattern(moved, offset):
                            yield f"wrong after {offset}"
                        offset += moved
                    if offset < total:
                        read(link.server, total - offset)
                    writer.result()
                yield offset == total, recv(link.server)
            self.compare(scenario, [(True, "EAGAIN")], spliced=None)

    def test_splice_after_recv(self):
        """The header is read, the body is moved: what proxies do."""
        self.name_this_program()
        def scenario(link):
            for n in range(20):
                write(link.client, b"header" + pattern(3000, n))
                yield read(link.server, 6)
                source, sink = os.pipe()
                with open(source, "rb", 0) as pipe, open(sink, "wb", 0):
                    moved = 0
                    while moved < 3000:
                        await_event(link.server, select.POLLIN)
                        step = splice_soon(link.server, sink, 3000 - moved)
                        if step == "EAGAIN":
                            yield f"nothing to splice after {n} times"
                            return
                        moved += step
                    yield pipe.read(moved) == pattern(3000, n) if moved else False
        self.compare(scenario, [b"header", True] * 20, spliced=None)


class Both(Semantics):
    def test_both_ways_at_once(self):
        total = 32 << 20

        def produce(sock):
            for offset in range(0, total, 50000):
                write(sock, pattern(min(50000, total - offset), offset))

        def scenario(link):
            with link.threads() as pool:
                writers = [pool.submit(produce, sock) for sock in (link.client, link.server)]
                readers = [pool.submit(read_pattern, sock, total)
                           for sock in (link.client, link.server)]
                yield [task.result() for task in writers + readers]
        self.compare(scenario, [[None, None, "right", "right"]])

    def test_conversations_of_all_sizes(self):
        def scenario(link):
            for size in (1, 100, 4096, 65536, 131072, 500000, 1, 3000000, 10):
                with link.threads() as pool:
                    for one, other in (link.client, link.server), (link.server, link.client):
                        writer = pool.submit(write, one, pattern(size))
                        yield read_pattern(other, size)
                        writer.result()
        self.compare(scenario, ["right"] * 18)

    def test_many_stalls_and_conversations_in_turn(self):
        """Into the full queue, out of it, and back to small talk."""
        def scenario(link):
            for _ in range(5):
                for one, other in (link.client, link.server), (link.server, link.client):
                    sent = fill(one)
                    yield read_pattern(other, sent)
                for _ in range(20):
                    for one, other in (link.client, link.server), (link.server, link.client):
                        write(one, b"small talk")
                        if read(other, 10) != b"small talk":
                            yield "not what was said"
        self.compare(scenario, ["right"] * 10)


if __name__ == "__main__":
    main()
