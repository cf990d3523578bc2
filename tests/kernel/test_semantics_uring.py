#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What goes by io_uring is the same stream."""
import contextlib
import ctypes
import errno
import mmap
import os
import select
import socket
import struct

from case import main
from sandbox import DEADLINE, check, libc
from semantics import PATTERN, Semantics, await_events, fill, in_short, pattern, read, \
    read_pattern, recv, write

SETUP, ENTER = 425, 426  # system calls, on every architecture
SQES = 0x10000000  # offset of the mapping
POLL_ADD, SEND, RECV, SEND_ZC = 6, 26, 27, 47
LINK = 1 << 2  # flag: the next begins when this one is done
ENTRIES = 8


def setup():
    params = ctypes.create_string_buffer(120)
    return check(libc.syscall(SETUP, ENTRIES, params)), params.raw


class Ring:
    """One that this thread alone uses, and whose requests are given to the kernel by a system call:
    so the kernel sees what was written before it."""

    def __init__(self):
        self.fd, params = setup()
        _, completions = struct.unpack_from("=2I", params)
        submission = struct.unpack_from("=7I", params, 40)
        completion = struct.unpack_from("=7I", params, 80)
        self.sq_tail, self.sq_mask, self.sq_array = (submission[n] for n in (1, 2, 6))
        self.cq_head, self.cq_tail, self.cq_mask, self.cqes = (completion[n] for n in (0, 1, 2, 5))
        size = max(self.sq_array + ENTRIES * 4, self.cqes + completions * 16)
        self.ring = mmap.mmap(self.fd, size)
        self.requests = mmap.mmap(self.fd, ENTRIES * 64, offset=SQES)
        self.queued = 0
        self.buffers = []  # which the kernel uses

    def close(self):
        self.ring.close()
        self.requests.close()
        os.close(self.fd)

    def word(self, offset):
        return struct.unpack_from("=I", self.ring, offset)[0]

    def add(self, code, sock, address=0, size=0, flags=0, link=0):
        """One more request; the flags are those of the operation."""
        tail = self.word(self.sq_tail)
        index = tail & self.word(self.sq_mask)
        request = struct.pack("=BBHiQQIIQ", code, link, 0, sock.fileno(), 0, address, size, flags,
                              tail)
        self.requests[index * 64:index * 64 + 64] = request.ljust(64, b"\0")
        struct.pack_into("=I", self.ring, self.sq_array + 4 * index, index)
        struct.pack_into("=I", self.ring, self.sq_tail, (tail + 1) & 0xffffffff)
        self.queued += 1

    def submit(self):
        check(libc.syscall(ENTER, self.fd, self.queued, 0, 0, None, 0))
        self.queued = 0

    def results(self, count):
        """Of so many requests that are under way, in the order in which they end."""
        found = []
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while len(found) < count:
            if not poller.poll(DEADLINE * 1000):
                raise AssertionError(f"waited in vain for {count - len(found)} requests")
            head = self.word(self.cq_head)
            while head != self.word(self.cq_tail):
                at = self.cqes + 16 * (head & self.word(self.cq_mask))
                result = struct.unpack_from("=i", self.ring, at + 8)[0]
                found.append(errno.errorcode[-result] if result < 0 else result)
                head += 1
            struct.pack_into("=I", self.ring, self.cq_head, head & 0xffffffff)
        return found

    def wait(self, count=1):
        self.submit()
        return self.results(count)

    def buffer(self, content):
        """Its address is that of memory which stays where it is."""
        buffer = ctypes.create_string_buffer(content, len(content))
        self.buffers.append(buffer)
        return buffer

    def send(self, sock, data, flags=0, code=SEND):
        self.add(code, sock, ctypes.addressof(self.buffer(data)), len(data), flags)

    def recv(self, sock, size, flags=0, link=0):
        buffer = self.buffer(bytes(size))
        self.add(RECV, sock, ctypes.addressof(buffer), size, flags, link)
        return buffer

    def poll(self, sock, events, link=0):
        self.add(POLL_ADD, sock, 0, 0, events, link)


class Uring(Semantics):
    def setUp(self):
        super().setUp()
        try:
            Ring().close()
        except OSError as error:
            self.kernel_lacks("io_uring", error, errno.ENOSYS, errno.EPERM)

    def ring(self, link):
        return link.keep(contextlib.closing(Ring()))

    def test_send_and_recv(self):
        """With both ends in non-blocking mode: data that is not there is not waited for."""
        def scenario(link):
            ring = self.ring(link)
            ring.recv(link.server, 100, socket.MSG_DONTWAIT)
            yield ring.wait()
            ring.send(link.client, b"hello")
            yield ring.wait()
            ring.poll(link.server, select.POLLIN, LINK)
            buffer = ring.recv(link.server, 100)
            yield sorted(ring.wait(2)), buffer.raw[:5], recv(link.server)
            link.client.shutdown(socket.SHUT_WR)
            await_events(link.server, "RDHUP")
            ring.recv(link.server, 100)
            yield ring.wait()
            ring.send(link.client, b"late", socket.MSG_NOSIGNAL)
            yield ring.wait()
        self.compare(scenario, [
            ["EAGAIN"], [5], ([select.POLLIN, 5], b"hello", "EAGAIN"),
            [0], ["EPIPE"]])

    def test_data_for_which_it_waits(self):
        """By a request to poll, and by a linked one to receive, that are under way before."""
        def scenario(link):
            ring = self.ring(link)
            for n in range(50):
                ring.poll(link.server, select.POLLIN, LINK)
                buffer = ring.recv(link.server, 100)
                ring.submit()
                write(link.client, b"%08d" % n)
                if sorted(ring.results(2)) != [1, 8] or buffer.raw[:8] != b"%08d" % n:
                    yield n, in_short(buffer.raw)
            yield recv(link.server)
        self.compare(scenario, ["EAGAIN"])

    def test_receive_that_begins_before_there_is_data(self):
        """Kernels differ in whether it waits; that is for all sockets in non-blocking mode."""
        def scenario(link):
            ring = self.ring(link)
            for n in range(50):
                buffer = ring.recv(link.server, 100)
                ring.submit()
                write(link.client, b"%08d" % n)
                result, = ring.results(1)
                yield result, buffer.raw[:8] if result == 8 else read(link.server, 8)
            yield recv(link.server)
        self.compare(scenario)

    def test_stream(self):
        """Written and read by requests; what a request leaves the next one takes."""
        total = 8 << 20

        def scenario(link):
            ring, sent, got = self.ring(link), 0, 0
            while got < total:
                if sent < total:
                    ring.send(link.client, pattern(min(100000, total - sent), sent),
                              socket.MSG_DONTWAIT)
                    result, = ring.wait()
                    sent += result if result != "EAGAIN" else 0
                buffer = ring.recv(link.server, 150000, socket.MSG_DONTWAIT)
                result, = ring.wait()
                if result == "EAGAIN":
                    ring.poll(link.server, select.POLLIN)
                    ring.wait()
                elif buffer.raw[:result] != pattern(result, got):
                    yield f"wrong at {got}"
                    break
                else:
                    got += result
                ring.buffers.clear()
            yield sent, got, recv(link.server)
        self.compare(scenario, [(total, total, "EAGAIN")])

    def test_writer_without_room(self):
        def scenario(link):
            ring, sent = self.ring(link), fill(link.client)
            ring.poll(link.client, select.POLLOUT)
            ring.submit()
            yield read_pattern(link.server, sent), ring.results(1)
            ring.send(link.client, b"on")
            yield ring.wait(), read(link.server, 2)
        self.compare(scenario, [("right", [select.POLLOUT]), ([2], b"on")])

    def test_zerocopy(self):
        """The documented difference: it is refused to a socket that dialled. The second result is
        that the buffer is given back."""
        def scenario(link):
            ring = self.ring(link)
            ring.send(link.client, b"hello", code=SEND_ZC)
            yield ring.wait(2)
            write(link.client, b" and on")
            yield read(link.server, 7)
        self.compare(scenario, [[5, 0], b"hello a"], or_else=[["ENOTSUP", 0], b" and on"])

    def test_sockets_that_block(self):
        """For these io_uring itself waits."""
        def scenario(link):
            ring = self.ring(link)
            for _ in range(20):
                buffer = ring.recv(link.server, 100)
                ring.submit()
                write(link.client, PATTERN[:100])
                yield ring.results(1), buffer.raw == PATTERN[:100]
            buffer = ring.recv(link.server, 300, socket.MSG_WAITALL)
            ring.submit()
            for at in 0, 100, 200:
                write(link.client, pattern(100, at))
            yield ring.results(1), buffer.raw == pattern(300)
        self.compare(scenario, [([100], True)] * 20 + [([300], True)], spliced=False,
                     client_blocks=True, listener_blocks=True, server_blocks=True)


if __name__ == "__main__":
    main()
