#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""getsockopt() at the sidecar: original destinations are told, and nothing else is touched."""
import ctypes
import errno
import os
import socket

from case import (FAR4, FAR6, MAPPED, PORT, SO_ORIGINAL_DST, TCP4, TCP6, Case, family_of, is_ipv4,
                  libc, main, original_dst, plain)

SOL_IP, SOL_IPV6, SOL_TCP = socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.IPPROTO_TCP
SO_PEERGROUPS = 59
PAGE = 4096


def getsockopt(sock, level, option, size):
    """The raw call: its error and length, or its length and value."""
    value = ctypes.create_string_buffer(max(size, 1))
    length = ctypes.c_int(size)
    if libc.getsockopt(sock.fileno(), level, option, value, ctypes.byref(length)):
        return errno.errorcode[ctypes.get_errno()], length.value
    return length.value, value.raw


class OriginalDestination(Case):
    def redirected(self, address):
        """Both ends of a redirected connection."""
        sock = self.dial(address)
        return sock, self.accept(self.sidecar(address))

    def test_ipv4(self):
        for address in FAR4, MAPPED:
            _, proxied = self.redirected(address)
            with self.counted(origdst_answered=2, origdst_unknown=0):
                for _ in range(2):
                    self.assertEqual(original_dst(proxied, SOL_IP), (FAR4, PORT))

    def test_ipv6(self):
        _, proxied = self.redirected(FAR6)
        self.assertEqual(original_dst(proxied, SOL_IPV6), (FAR6, PORT))

    def test_every_destination_its_own(self):
        pairs = [(f"10.83.{n}.{n}", 1000 + n) for n in range(1, 50)]
        socks = [self.dial(*pair) for pair in pairs]
        for sock, pair in zip(socks, pairs):
            self.assert_redirected(sock, *pair)

    def test_dual_stack_listener(self):
        for sidecar in self.sidecars.values():
            sidecar.close()
        listener = self.keep(self.world.proxy.listen("::", TCP6[1]))
        self.sidecars = dict.fromkeys(self.sidecars, listener)
        for address in FAR4, MAPPED, FAR6:
            with self.subTest(address):
                sock, proxied = self.redirected(address)
                self.assertEqual(proxied.family, socket.AF_INET6)
                level, other = (SOL_IP, SOL_IPV6) if is_ipv4(address) else (SOL_IPV6, SOL_IP)
                self.assertEqual(original_dst(proxied, level), (plain(address), PORT))
                with self.counted(origdst_unknown=1):
                    with self.assertRaises(OSError):
                        original_dst(proxied, other)

    def test_buffer_that_is_too_small(self):
        for address, level, size in (FAR4, SOL_IP, 16), (FAR6, SOL_IPV6, 28):
            _, proxied = self.redirected(address)
            for too_small in 1, 8, size - 1:
                self.assertEqual(
                    getsockopt(proxied, level, SO_ORIGINAL_DST, too_small)[0], "EINVAL")

    def test_buffer_that_is_larger(self):
        for address, level, size in (FAR4, SOL_IP, 16), (FAR6, SOL_IPV6, 28):
            _, proxied = self.redirected(address)
            _, exact = getsockopt(proxied, level, SO_ORIGINAL_DST, size)
            for larger in size + 1, 128, PAGE, PAGE + 1, 3 * PAGE:
                length, value = getsockopt(proxied, level, SO_ORIGINAL_DST, larger)
                self.assertEqual((length, value[:size]), (size, exact))
                self.assertFalse(any(value[size:]))

    def test_when_the_client_is_gone(self):
        sock, proxied = self.redirected(FAR4)
        sock.close()
        self.assertEqual(proxied.recv(1), b"")
        proxied.shutdown(socket.SHUT_RDWR)
        self.assertEqual(original_dst(proxied), (FAR4, PORT))

    def test_asked_by_another_process(self):
        _, proxied = self.redirected(FAR4)
        self.assertEqual(self.world.outside.run(original_dst, proxied), (FAR4, PORT))


class SidecarAmongTheProgram(Case):
    """It is told apart by its user, and shares the cgroup."""
    mesh = {"sidecar_cgroups": None, "sidecar_uids": "1337"}

    def test_both_ends(self):
        for sidecar in self.sidecars.values():
            sidecar.close()
        far = self.keep(self.world.far.listen(FAR4, PORT))
        listener = self.keep(self.world.app.listen(*TCP4))

        def proxy():
            os.setuid(1337)
            with listener.accept()[0] as downstream, socket.socket() as upstream:
                upstream.connect(original_dst(downstream))
                upstream.sendall(downstream.recv(16))
        sidecar = self.world.app.start(proxy)
        with self.counted(connect_redirected=1, connect_sidecar=1):
            self.dial(FAR4).sendall(b"through both")
            sidecar.result()
        self.assertEqual(self.accept(far).recv(16), b"through both")


class Untouched(Case):
    """Whatever else is asked, the answer is that which a listener outside the mesh gets."""

    # What is the socket's own, as the kernel has it: names, ports, processors, statistics.
    own_answer = {
        (socket.SOL_SOCKET, 28),  # SO_PEERNAME
        (socket.SOL_SOCKET, 49),  # SO_INCOMING_CPU
        (socket.SOL_SOCKET, 55),  # SO_MEMINFO
        (socket.SOL_SOCKET, 57),  # SO_COOKIE
        (SOL_IP, 52),  # IP_PROTOCOL: of TCP it is the port
        (SOL_TCP, socket.TCP_INFO),
        (SOL_TCP, 24),  # TCP_TIMESTAMP
        (SOL_TCP, 26),  # TCP_CC_INFO
    }

    def setUp(self):
        super().setUp()
        self.plain_listeners = {
            socket.AF_INET: self.keep(self.world.outside.listen("127.0.0.1", 15002)),
            socket.AF_INET6: self.keep(self.world.outside.listen("::1", 15002)),
        }

    def accept_from_outside(self, listener):
        """A connection that is not redirected."""
        sock = self.keep(self.world.outside.new_socket(listener.family))
        sock.connect(listener.getsockname()[:2])
        return self.accept(listener)

    def assert_same_answers(self, ours, others, levels, options, sizes):
        for level in levels:
            for option in options:
                for size in sizes:
                    mine = getsockopt(ours, level, option, size)
                    expected = getsockopt(others, level, option, size)
                    if (level, option) in self.own_answer:
                        mine, expected = mine[0], expected[0]
                    self.assertEqual(mine, expected, (level, option, size))

    def test_original_destination_of_others(self):
        """Connections that were not redirected, listeners, sockets that are not connected."""
        for family, listener in self.plain_listeners.items():
            pairs = [
                (self.accept_from_outside(self.sidecars[family]),
                 self.accept_from_outside(listener)),
                (self.sidecars[family], listener),
                (self.keep(self.world.proxy.new_socket(family)),
                 self.keep(self.world.outside.new_socket(family))),
            ]
            for ours, others in pairs:
                self.assert_same_answers(ours, others, (SOL_IP, SOL_IPV6), [SO_ORIGINAL_DST],
                                         (0, 4, 15, 16, 28, 128, PAGE, PAGE + 1))

    def test_original_destination_at_the_program(self):
        """Only the sidecar is told; the program's own end is no accepted socket."""
        others = self.keep(self.world.outside.new_socket())
        others.connect(self.plain_listeners[socket.AF_INET].getsockname())
        self.assert_same_answers(self.dial(FAR4), others, (SOL_IP, SOL_IPV6), [SO_ORIGINAL_DST],
                                 (4, 16, 28))

    def test_other_options(self):
        levels = socket.SOL_SOCKET, SOL_IP, SOL_IPV6, SOL_TCP, socket.IPPROTO_UDP, 255, 300
        for address in FAR4, FAR6:
            self.dial(address)
            ours = self.accept(self.sidecar(address))
            others = self.accept_from_outside(self.plain_listeners[family_of(address)])
            options = set(range(130)) - {SO_ORIGINAL_DST}
            self.assert_same_answers(ours, others, levels, options, (4, 16, 128))
            others_too = {socket.SOL_SOCKET, SOL_TCP, 255, 300}
            with self.counted(origdst_answered=0, origdst_unknown=0):
                self.assert_same_answers(ours, others, others_too, [SO_ORIGINAL_DST], (4, 16, 28))
            self.assert_same_answers(ours, others, levels, options, (PAGE, PAGE + 1, 4 * PAGE))

    def test_answer_of_more_than_a_page(self):
        def peer_groups():
            os.setgroups(range(1, 2001))
            left, right = socket.socketpair()
            with left, right:
                return [getsockopt(left, socket.SOL_SOCKET, SO_PEERGROUPS, size)
                        for size in (8000, 16000, PAGE, 100)]
        answers = self.world.proxy.run(peer_groups)
        self.assertEqual(answers, self.world.outside.run(peer_groups))
        length, groups = answers[0]
        self.assertEqual(length, 8000)
        self.assertEqual(groups, b"".join(n.to_bytes(4, "little") for n in range(1, 2001)))


if __name__ == "__main__":
    main()
