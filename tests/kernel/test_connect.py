#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""connect() of TCP: whatever way it is made, it ends at the sidecar and looks as dialled."""
import errno
import select
import socket

from case import (DEADLINE, FAR4, FAR6, MAPPED, POD4, POD6, PORT, Case, attempt, disconnect,
                  family_of, main, names, original_dst, plain)

LOCAL_PORT = 8080
BOUND_PORT = 7777
IPPROTO_MPTCP = 262
NOBODY_LISTENS = 9


class Connect:
    """What is the same for every family of addresses."""

    address = None  # that is dialled
    own = None
    loopback = None
    level = socket.IPPROTO_IP

    def setUp(self):
        super().setUp()
        self.far = self.keep(self.world.far.listen(plain(self.address), PORT))
        self.sock = self.new_socket(family_of(self.address))

    def connect(self, port=PORT):
        self.sock.connect((self.address, port))

    def test_blocking(self):
        with self.counted(connect_redirected=1, origdst_offered=1, origdst_taken=1):
            self.connect()
        self.assert_redirected(self.sock, self.address)

    def test_nonblocking(self):
        self.sock.setblocking(False)
        self.assertEqual(self.sock.connect_ex((self.address, PORT)), errno.EINPROGRESS)
        self.assertTrue(select.select([], [self.sock], [], DEADLINE)[1])
        self.assertEqual(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
        self.assertEqual(self.sock.connect_ex((self.address, PORT)), 0)
        self.assertEqual(self.sock.connect_ex((self.address, PORT)), errno.EISCONN)
        self.sock.setblocking(True)
        self.assert_redirected(self.sock, self.address)

    def test_again_once_there_is_a_sidecar(self):
        self.sidecar(self.address).close()
        with self.counted(connect_refused_sidecar_down=2):
            for _ in range(2):
                with self.assertRaises(ConnectionRefusedError):
                    self.connect()
        self.listen_at(plain(self.loopback))
        self.connect()
        self.assert_redirected(self.sock, self.address)

    def test_again_after_it_was_refused_elsewhere(self):
        with self.assertRaises(ConnectionRefusedError):
            self.sock.connect((self.loopback, NOBODY_LISTENS))
        self.connect()
        self.assert_redirected(self.sock, self.address)

    def test_to_another_destination(self):
        for port in PORT, PORT + 1, PORT:
            self.connect(port)
            self.assert_redirected(self.sock, self.address, port)
            disconnect(self.sock)

    def test_changing_destinations(self):
        """To where it is redirected, to where it is not, and back: the names at each step."""
        self.keep(self.world.outside.listen(plain(self.loopback), LOCAL_PORT))
        far, near = (self.address, PORT), (self.loopback, LOCAL_PORT)

        def names_on_the_way():
            seen = []
            with socket.socket(family_of(self.address)) as sock:
                for name in far, near, near, far, far, near:
                    sock.connect(name)
                    seen.append(names(sock))
                    disconnect(sock)
                    seen.append(names(sock))
            return seen
        with self.counted(connect_redirected=3, connect_loopback=3):
            self.assert_as_outside(names_on_the_way)

    def test_to_the_sidecar_itself(self):
        """At once after it was sent there."""
        self.connect()
        self.assert_redirected(self.sock, self.address)
        disconnect(self.sock)
        listener = self.sidecar(self.address)
        itself = self.loopback, listener.getsockname()[1]
        with self.counted(connect_loopback=1, origdst_unknown=1):
            self.sock.connect(itself)
            with self.assertRaises(OSError):
                original_dst(self.accept(listener), self.level)
        self.assertEqual(self.sock.getpeername()[:2], itself)

    def test_reset_on_the_way(self):
        """The connection fails after the hook let it go: error and names, also of the next."""
        def connect_twice():
            seen = []
            with socket.socket(family_of(self.address)) as sock:
                for _ in range(2):
                    seen.append((attempt(sock.connect, (self.address, PORT)), names(sock)))
            return seen
        for netns in self.world.app.netns, self.world.far.netns:
            netns.nft("table inet refuse { chain input { type filter hook input priority 0;"
                      " tcp flags & (syn | ack) == syn reject with tcp reset; }; }")
            self.addCleanup(netns.nft, "flush ruleset")
        with self.counted(connect_redirected=2, origdst_offered=0):
            self.assert_as_outside(connect_twice)

    def assert_bound(self, *name):
        """That a socket that is bound looks as it does outside, and is redirected all the same."""
        def connect():
            with socket.socket(family_of(self.address)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(name)
                sock.connect((self.address, PORT))
                return names(sock)
        with self.counted(connect_redirected=1, origdst_taken=1):
            self.assert_as_outside(connect)

    def test_bound_to_an_address(self):
        self.assert_bound(self.own, 0)

    def test_bound_to_a_port(self):
        self.assert_bound("", BOUND_PORT)

    def test_bound_to_an_address_and_a_port(self):
        self.assert_bound(self.own, BOUND_PORT)

    def test_to_its_own_address(self):
        self.keep(self.world.outside.listen(plain(self.own), LOCAL_PORT))

        def connect():
            with socket.socket(family_of(self.own)) as sock:
                sock.connect((self.own, LOCAL_PORT))
                return names(sock)
        with self.counted(connect_redirected=1):
            self.assert_as_outside(connect)


class ConnectIPv4(Connect, Case):
    address, own, loopback = FAR4, POD4, "127.0.0.1"


class ConnectIPv6(Connect, Case):
    address, own, loopback = FAR6, POD6, "::1"
    level = socket.IPPROTO_IPV6


class ConnectMapped(Connect, Case):
    """An AF_INET6 socket that dials IPv4."""
    address, own, loopback = MAPPED, f"::ffff:{POD4}", "::ffff:127.0.0.1"

    def test_of_an_ipv6_only_socket(self):
        def connect():
            with socket.socket(socket.AF_INET6) as sock:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.connect((MAPPED, PORT))
        self.assertEqual(self.assert_as_outside(connect), "ENETUNREACH")


class Unusual(Case):
    def setUp(self):
        super().setUp()
        self.far = self.keep(self.world.far.listen(FAR4, PORT))

    def test_fast_open(self):
        sock = self.new_socket()
        with self.counted(connect_redirected=1, origdst_taken=1):
            self.assertEqual(sock.sendto(b"hello", socket.MSG_FASTOPEN, (FAR4, PORT)), 5)
            proxied = self.accept(self.sidecar(FAR4))
        self.assertEqual(proxied.recv(16), b"hello")
        self.assertEqual(sock.getpeername(), (FAR4, PORT))

    def test_fast_open_connect(self):
        TCP_FASTOPEN_CONNECT = 30
        sock = self.new_socket()
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        sock.connect((FAR4, PORT))
        self.assertEqual(sock.getpeername(), (FAR4, PORT))
        sock.sendall(b"hello")
        proxied = self.accept(self.sidecar(FAR4))
        self.assertEqual(proxied.recv(16), b"hello")

    def test_socket_that_was_passed_on(self):
        """Its cgroup counts, and not that of the process that connects it."""
        sock = self.new_socket()
        with self.counted(connect_redirected=1):
            self.world.outside.run(sock.connect, (FAR4, PORT))
        self.assert_redirected(sock, FAR4)

    def test_socket_that_came_from_outside(self):
        sock = self.keep(self.world.outside.new_socket())
        with self.counted():
            sock.connect((FAR4, PORT))
        self.assert_connected(sock, self.accept(self.far))

    def test_process_that_left(self):
        def leave_and_connect():
            with socket.socket() as sock:
                self.world.outside.cgroup.enter()
                sock.connect((FAR4, PORT))
                return sock.getpeername()
        with self.counted(connect_redirected=1):
            self.assertEqual(self.world.app.run(leave_and_connect), (FAR4, PORT))

    def test_process_that_joined(self):
        def join_and_connect():
            with socket.socket() as sock:
                self.world.app.cgroup.enter()
                sock.connect((FAR4, PORT))
        with self.counted():
            self.world.outside.run(join_and_connect)

    def test_bound_to_a_device(self):
        sock = self.new_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        with self.counted(connect_bound_device=1):
            sock.connect((FAR4, PORT))
        self.assert_connected(sock, self.accept(self.far))

    def test_bound_to_loopback(self):
        def connect():
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                sock.connect((FAR4, PORT))
        with self.counted(connect_bound_loopback=1):
            self.assertEqual(self.assert_as_outside(connect), "EINVAL")

    def test_mptcp(self):
        """It is redirected. But names are asked of another socket than that which was connected,
        so the program sees where the connection really goes."""
        try:
            sock = self.new_socket(protocol=IPPROTO_MPTCP)
        except OSError as error:
            self.kernel_lacks("MPTCP", error, errno.EPROTONOSUPPORT, errno.ENOPROTOOPT)
        with self.counted(connect_redirected=1, origdst_taken=1, getpeername_restored=0):
            sock.connect((FAR4, PORT))
            self.assertEqual(sock.getpeername(), ("127.0.0.1", 15001))
        proxied = self.accept(self.sidecar(FAR4))
        self.assertEqual(original_dst(proxied), (FAR4, PORT))
        self.assert_connected(sock, proxied)


if __name__ == "__main__":
    main()
