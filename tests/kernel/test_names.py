#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""getsockname() and getpeername(): a program sees what it would see without a sidecar."""
import functools
import socket
import struct
import subprocess

from case import (FAR4, FAR6, POD4, POD6, PORT, TCP4, TCP6, Case, attempt, disconnect, family_of,
                  main, names)
from sandbox import Place, wait_until

SECOND4, SECOND6 = "10.83.0.9", "fd83::9"  # of the pod, on the same device
OTHER4, OTHER6 = "10.84.0.2", "fd84::2"  # of the pod, on its other device
BEYOND4, BEYOND6 = "203.0.113.7", "2001:db8:7::1"  # by the default route
PREFERRED4, PREFERRED6 = "198.51.100.7", "2001:db8:8::1"  # by a route that names its source
RESET = struct.pack("=ii", 1, 0)  # SO_LINGER: close() does not wait, and resets
DESTINATIONS = (FAR4, FAR6, "10.84.0.1", "fd84::1", BEYOND4, BEYOND6, PREFERRED4, PREFERRED6,
                POD4, POD6, SECOND4, SECOND6, OTHER4, OTHER6)


@functools.cache  # once for each pod
def build_routes(pod):
    pod.connect_to(pod.far, "eth1")
    pod.add_addresses(f"{OTHER4}/24", f"{OTHER6}/64", device="eth1")
    pod.far.add_addresses("10.84.0.1/24", "fd84::1/64", device="eth1")
    pod.far.add_addresses(f"{BEYOND4}/32", f"{BEYOND6}/128", device="lo")
    pod.far.add_addresses(f"{PREFERRED4}/32", f"{PREFERRED6}/128")
    pod.add_addresses(f"{SECOND4}/24", f"{SECOND6}/64")
    pod.ip(f"route add {PREFERRED4} dev eth0 src {SECOND4}",
           f"route add {PREFERRED6} dev eth0 src {SECOND6}")


def names_after_connect(address, *bound):
    with socket.socket(family_of(address)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound:
            sock.bind(bound)
        sock.connect((address, PORT))
        return names(sock)


class RoutedCase(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        build_routes(cls.world.app.netns)

    def setUp(self):
        super().setUp()
        self.keep(self.world.far.listen("::", PORT))
        self.keep(self.world.outside.listen("::", PORT))

    def assert_own_when_it_is_over(self, address):
        """A socket whose connection was reset says what it said before."""
        sock = self.new_socket(family_of(address))
        sock.bind(("", 0))
        sock.connect((address, PORT))
        own = sock.getsockname()
        proxied = self.accept(self.sidecar(address))
        proxied.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        proxied.close()
        self.assertEqual(attempt(sock.recv, 1), "ECONNRESET")
        self.assertEqual(sock.getsockname(), own)


class Source(RoutedCase):
    def test_every_route(self):
        """On the way to ::1 the socket is not bound, and getsockname() says what is right."""
        for address in (*DESTINATIONS, *(f"::ffff:{a}" for a in DESTINATIONS if "." in a)):
            bound = "." in address
            with self.subTest(address), self.counted(
                    connect_redirected=1, source_kept=int(bound), source_unknown=0,
                    getsockname_restored=int(not bound)):
                self.assert_as_outside(names_after_connect, address)

    def test_what_the_sidecar_sees(self):
        for address in DESTINATIONS:
            with self.subTest(address):
                sock = self.dial(address)
                proxied = self.accept(self.sidecar(address))
                own = sock.getsockname()
                self.assertEqual(proxied.getpeername()[:2], own if "." in address else ("::1", own[1]))
                self.assertEqual(proxied.getsockname()[:2], TCP4 if "." in address else TCP6)

    def closing(self, port):
        """The sidecar's end, by the client's port, as long as its FIN is not answered."""
        with self.world.app.netns.inside():
            return subprocess.check_output(
                ("ss", "-Htn", "state", "last-ack", f"dport = :{port}"), text=True)

    def test_sidecar_that_closes_last(self):
        """Its FIN is answered by a client that is no socket any more."""
        for address in (FAR4, FAR6, f"::ffff:{FAR4}"):
            with self.subTest(address):
                sock = self.dial(address)
                proxied = self.accept(self.sidecar(address))
                port = sock.getsockname()[1]
                sock.close()
                self.assertEqual(proxied.recv(1), b"")
                proxied.close()
                wait_until(lambda: not self.closing(port), "the sidecar's end is over")

    def test_bound_to_a_port(self):
        """It cannot be bound to an address any more, but says the right one; the sidecar sees
        another."""
        for n, address in enumerate(DESTINATIONS):
            with self.subTest(address), self.counted(
                    connect_redirected=1, source_kept=0, getsockname_restored=1):
                self.assert_as_outside(names_after_connect, address, "", 7000 + n)
            proxied = self.accept(self.sidecar(address))
            self.assertEqual(proxied.getpeername()[0], "127.0.0.1" if "." in address else "::1")

    def test_when_it_is_over(self):
        for address in PREFERRED4, PREFERRED6, f"::ffff:{PREFERRED4}":
            with self.subTest(address):
                self.assert_own_when_it_is_over(address)

    def test_bound_after_it_was_disconnected(self):
        def bound_later(address, loopback):
            with socket.socket(family_of(address)) as sock:
                sock.bind(("", 0))
                sock.connect((address, PORT))
                disconnect(sock)
                seen = [names(sock)]
                sock.bind((loopback, 7100))
                return seen + [names(sock)]
        for way in (FAR4, "127.0.0.1"), (FAR6, "::1"), (f"::ffff:{FAR4}", "::ffff:127.0.0.1"):
            with self.subTest(way):
                self.assert_as_outside(bound_later, *way)

    def test_routes_that_change(self):
        """Sockets keep what they have, new ones get what is right now."""
        before = self.dial(BEYOND4)
        pod = self.world.app.netns
        pod.ip(f"route replace default via 10.84.0.1 src {OTHER4}")
        self.addCleanup(pod.ip, f"route replace default via {FAR4}")
        self.assertEqual(self.dial(BEYOND4).getsockname()[0], OTHER4)
        self.assertEqual(before.getsockname()[0], POD4)


class SidecarElsewhere(RoutedCase):
    """It listens on no loopback address, so for the way there the kernel chooses one of the pod's:
    which need not be the one for the way to the destination."""
    mesh = {"tcp_redirect": f"{POD4}:15001, [{POD6}]:15001"}

    def setUp(self):
        super().setUp()
        for address in POD4, POD6:
            self.listen_at(address)

    def test_every_route(self):
        for address in (*DESTINATIONS, *(f"::ffff:{a}" for a in DESTINATIONS if "." in a)):
            with self.subTest(address), self.counted(
                    connect_redirected=1, source_kept=1, getsockname_restored=0):
                self.assert_as_outside(names_after_connect, address)

    def test_bound_to_a_port(self):
        for n, address in enumerate(
                (*DESTINATIONS, *(f"::ffff:{a}" for a in DESTINATIONS if "." in a))):
            with self.subTest(address), self.counted(connect_redirected=1, source_kept=0):
                self.assert_as_outside(names_after_connect, address, "", 7200 + n)

    def test_when_it_is_over(self):
        for address in "10.84.0.1", "fd84::1", "::ffff:10.84.0.1":
            with self.subTest(address):
                self.assert_own_when_it_is_over(address)


class Unforeseeable(Case):
    def test_rules_of_the_operator(self):
        """Then the program sees the way to the sidecar, and it is counted."""
        pod = self.world.new_pod()
        pod.ip("rule add from 192.0.2.1 lookup 100")
        listener = self.keep(Place(self.world.proxy.cgroup, pod).listen(*TCP4))
        with pod.inside(), self.counted(connect_redirected=1, source_unknown=1, source_kept=0):
            sock = self.dial(FAR4)
        self.assertEqual(sock.getsockname()[0], "127.0.0.1")
        self.assertEqual(sock.getpeername(), (FAR4, PORT))
        self.assert_connected(sock, self.accept(listener))


class Untouched(Case):
    """What is not redirected is told plain names, and nothing is counted."""

    def assert_plain(self, function, *arguments, **outcomes):
        with self.counted(getpeername_restored=0, getsockname_restored=0, **outcomes):
            self.assert_as_outside(function, *arguments)

    def test_new_socket(self):
        def ask(family, kind):
            with socket.socket(family, kind) as sock:
                return names(sock)
        for family in socket.AF_INET, socket.AF_INET6:
            for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
                self.assert_plain(ask, family, kind)

    def test_server(self):
        """A program's own listener, and what it accepts."""
        def serve(family, address):
            with socket.socket(family) as listener, socket.socket(family) as client:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, 8080))
                listener.listen()
                client.connect((address, 8080))
                with listener.accept()[0] as accepted:
                    return names(listener), accepted.getsockname(), accepted.getpeername()[0]
        for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            self.assert_plain(serve, family, address, connect_loopback=1)

    def test_left_alone(self):
        def ask(address):
            with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
                sock.connect((address, 5353))
                return names(sock)
        for address in FAR4, FAR6:
            self.assert_plain(ask, address, connect_not_dns=1)


if __name__ == "__main__":
    main()
