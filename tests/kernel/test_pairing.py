#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The two ends of a connection find each other, whenever and wherever, and nothing is left over."""
import ctypes
import json
import os
import socket
import struct
import subprocess

from case import (FAR4, FAR6, MAPPED, POD4, POD6, PORT, SOON, TCP4, TCP6, Case, attempt, family_of,
                  main, original_dst, plain)
from sandbox import Place, check, libc, set_patience, wait_until

SOL_TCP = socket.IPPROTO_TCP
JOINED = 1 << 1  # SHUNT_PAIR_JOINED
RESET = struct.pack("=ii", 1, 0)  # SO_LINGER: close() does not wait, and resets


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


class PairingCase(Case):
    address = FAR4  # that is dialled

    def tearDown(self):
        super().tearDown()
        self.doCleanups()
        wait_until(lambda: self.pairs() == [], "no pair is left", SOON)
        self.assertEqual(self.agent.pairs(), 0)

    def pairs(self):
        """What is in the map; how much the agent says there is comes from counters."""
        dump = subprocess.run(
            ["bpftool", "-j", "map", "dump", "pinned", self.agent.pin("shunt_pairs")],
            stdout=subprocess.PIPE, check=True)
        return [entry["formatted"]["value"] for entry in json.loads(dump.stdout)]

    def waiting(self):
        """Destinations that no socket of the sidecar's has picked up yet."""
        return sum(not pair["flags"] & JOINED for pair in self.pairs())

    def original_dst(self, proxied):
        v4 = proxied.family == socket.AF_INET
        return original_dst(proxied, socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6)

    def listen_slowly(self):
        """The sidecar's end of a handshake is not done before the client has sent something."""
        listener = self.sidecar(self.address)
        listener.setsockopt(SOL_TCP, socket.TCP_DEFER_ACCEPT, 30)
        return listener


class Pairing(PairingCase):
    def test_syn_cookies(self):
        before = self.world.app.netns.sysctl("ipv4/tcp_syncookies", 2)
        self.addCleanup(self.world.app.netns.sysctl, "ipv4/tcp_syncookies", before)
        for address in FAR4, FAR6:
            for port in range(PORT, PORT + 20):
                self.assert_redirected(self.dial(address, port), address, port)

    def test_equal_addresses_in_two_namespaces(self):
        """Not even ports tell the connections apart; one of each pair is half closed."""
        twin = Place(self.world.proxy.cgroup, self.world.new_pod())
        ways = (FAR4, POD4, TCP4), (FAR6, POD6, TCP6), (MAPPED, f"::ffff:{POD4}", TCP4)
        for way, (address, own, name) in enumerate(ways):
            with self.subTest(address), self.keep(twin.listen(*name)) as listener:
                listeners = {self.world.app.netns: self.sidecar(address), twin.netns: listener}
                self.assert_kept_apart(address, (own, 20000 + 1000 * way), listeners)

    def assert_kept_apart(self, address, own, listeners):
        socks = []
        for n in range(100):
            for i, netns in enumerate(listeners):
                with netns.inside():
                    sock = self.new_socket(family_of(address))
                sock.bind((own[0], own[1] + n))
                sock.connect((address, 1000 * (i + 1) + n))
                socks.append(sock)
        for n in range(100):
            for i, listener in enumerate(listeners.values()):
                sock, proxied = socks[2 * n + i], self.accept(listener)
                self.assertEqual(self.original_dst(proxied), (plain(address), 1000 * (i + 1) + n))
                self.assert_connected(sock, proxied)
                sock.sendall(b"%d %d" % (i, n))
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(proxied.recv(16) + proxied.recv(16), b"%d %d" % (i, n))
                proxied.close()  # first, or it may stay in LAST_ACK: docs/DIFFERENCES.md
                sock.close()

    def test_many_programs_at_once(self):
        """Each says over the connection what it dialled; the sidecar compares."""
        programs, connections = 4, 250

        def dial(program):
            for n in range(connections):
                with socket.socket() as sock:
                    port = 1000 * (program + 1) + n
                    sock.connect((f"10.83.7.{program}", port))
                    sock.sendall(b"10.83.7.%d:%d" % (program, port))
                    assert sock.recv(1) == b"."

        def serve():
            wrong = []
            for _ in range(programs * connections):
                sock, _ = self.sidecar(FAR4).accept()
                with sock:
                    told, said = "%s:%d" % original_dst(sock), sock.recv(32).decode()
                    if told != said:
                        wrong.append((told, said))
                    sock.sendall(b".")
            return wrong
        sidecar = self.world.proxy.start(serve)
        tasks = [self.world.app.start(dial, program) for program in range(programs)]
        for task in tasks:
            task.result()
        self.assertEqual(sidecar.result(), [])

    def test_thirty_thousand_short_connections(self):
        """One third each: the sidecar closes first, the client resets, the client is gone before
        the sidecar looks. All on one processor: each has a queue of its own for what goes over
        loopback, so a client that changes to another between connect() and its reset may have the
        reset overtake the end of the handshake, and then there is no connection to accept."""
        cpus = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, cpus)
        os.sched_setaffinity(0, {min(cpus)})
        rounds = 10000
        listener = self.sidecar(FAR4)

        def dial():
            sock = socket.socket()
            sock.connect((FAR4, PORT))
            return sock
        before = self.agent.counters()["origdst_taken"]
        for _ in range(rounds):
            with dial():
                listener.accept()[0].close()
            sock = dial()
            listener.accept()[0].close()
            reset(sock)
            reset(dial())
            listener.accept()[0].close()
        self.assertEqual(self.agent.counters()["origdst_taken"], before + 3 * rounds)


class SlowSidecar(PairingCase):
    def setUp(self):
        super().setUp()
        self.listener = self.listen_slowly()

    def test_destination_waits(self):
        with self.counted(connect_redirected=10, origdst_offered=10, origdst_taken=0):
            socks = [self.dial(self.address, PORT + n) for n in range(10)]
        self.assertEqual((self.waiting(), self.agent.pairs()), (10, 10))
        self.assertEqual(self.agent.ask("status")["pairs"], 10)
        with self.counted(origdst_taken=10):
            for sock in reversed(socks):
                sock.sendall(b"!")
        for n in reversed(range(10)):
            self.assertEqual(self.original_dst(self.accept(self.listener)), (self.address, PORT + n))

    def test_client_that_has_closed(self):
        sock = self.dial(self.address)
        with self.counted(origdst_taken=1, origdst_withdrawn=0):
            sock.sendall(b"the end")
            sock.close()
            proxied = self.accept(self.listener)
        self.assertEqual(self.original_dst(proxied), (self.address, PORT))
        self.assertEqual(proxied.recv(16), b"the end")

    def test_client_that_has_closed_in_silence(self):
        sock = self.dial(self.address)
        with self.counted(origdst_taken=1, origdst_withdrawn=0):
            sock.close()
            proxied = self.accept(self.listener)
        self.assertEqual(self.original_dst(proxied), (self.address, PORT))

    def test_client_that_has_reset(self):
        sock = self.dial(self.address)
        with self.counted(origdst_taken=0, origdst_withdrawn=1):
            reset(sock)

    def test_sidecar_that_goes(self):
        socks = [self.dial(self.address, PORT + n) for n in range(4)]
        self.listener.close()
        with self.counted(origdst_taken=0, origdst_withdrawn=4):
            for sock in socks:
                attempt(sock.send, b"!")
                self.assertEqual(attempt(sock.recv, 1), "ECONNRESET")


class SlowSidecarIPv6(SlowSidecar):
    address = FAR6


class FullQueue(PairingCase):
    def setUp(self):
        super().setUp()
        self.listener = self.listen_slowly()

    def fill(self):
        """Connections that are made for the client, and for all but one the queue is full."""
        socks = [self.dial(self.address, PORT + n) for n in range(4)]
        self.listener.listen(0)
        with self.counted(origdst_taken=1):
            for sock in socks:
                sock.sendall(b"!")
        self.assertEqual(self.waiting(), 3)
        return socks

    def test_accepted_late(self):
        self.fill()
        ports = set()
        for _ in range(4):
            proxied = self.accept(self.listener)
            ports.add(self.original_dst(proxied)[1])
            self.assertEqual(proxied.recv(1), b"!")
        self.assertEqual(ports, {PORT, PORT + 1, PORT + 2, PORT + 3})

    def test_clients_that_have_closed(self):
        for sock in self.fill():
            sock.close()
        with self.counted(origdst_taken=3, origdst_withdrawn=0):
            ports = {self.original_dst(self.accept(self.listener))[1] for _ in range(4)}
        self.assertEqual(ports, {PORT, PORT + 1, PORT + 2, PORT + 3})

    def test_clients_that_have_reset(self):
        with self.counted(connect_redirected=4, origdst_taken=1, origdst_withdrawn=3):
            for sock in self.fill():
                reset(sock)

    def test_listener_that_closes(self):
        with self.counted(connect_redirected=4, origdst_taken=1, origdst_withdrawn=3):
            socks = self.fill()
            self.listener.close()
            for sock in socks:
                self.assertEqual(attempt(sock.recv, 1), "ECONNRESET")

    def test_connection_that_waited_for_the_queue(self):
        """Its first SYN was dropped for want of room."""
        self.listener.setsockopt(SOL_TCP, socket.TCP_DEFER_ACCEPT, 0)
        self.listener.listen(0)
        for n in range(2):
            sock = self.new_socket(family_of(self.address))
            sock.setblocking(False)
            attempt(sock.connect, (self.address, PORT + n))
        for n in range(2):
            self.assertEqual(self.original_dst(self.accept(self.listener)), (self.address, PORT + n))


class FullQueueIPv6(FullQueue):
    address = FAR6


class Migrated(PairingCase):
    """A sidecar with two listeners on one address, as one has that reloads: when the first closes,
    the kernel hands what came to it to the second (net.ipv4.tcp_migrate_req)."""

    def setUp(self):
        super().setUp()
        before = self.world.app.netns.sysctl("ipv4/tcp_migrate_req", 1)
        self.addCleanup(self.world.app.netns.sysctl, "ipv4/tcp_migrate_req", before)
        name = self.sidecar(self.address).getsockname()[:2]
        self.sidecar(self.address).close()
        self.first, self.second = self.listen_too(name), self.listen_too(name)

    def listen_too(self, name):
        sock = self.keep(self.world.proxy.new_socket(family_of(self.address)))
        set_patience(sock)
        for option in socket.SO_REUSEADDR, socket.SO_REUSEPORT:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(name)
        sock.listen()
        return sock

    def dial_all(self):
        """Enough that each listener has some, but for once in 2^31 runs."""
        return {PORT + n: self.dial(self.address, PORT + n) for n in range(32)}

    def assert_second_has(self, socks):
        for _ in range(len(socks)):
            proxied = self.accept(self.second)
            _, port = self.original_dst(proxied)
            self.assertEqual(proxied.recv(1), b"!")
            self.assert_connected(socks.pop(port), proxied)

    def test_connections_in_the_queue(self):
        with self.counted(connect_redirected=32, origdst_offered=32, origdst_taken=32):
            socks = self.dial_all()
            for sock in socks.values():
                sock.sendall(b"!")
            self.first.close()
            self.assert_second_has(socks)

    def test_handshakes(self):
        for listener in self.first, self.second:
            listener.setsockopt(SOL_TCP, socket.TCP_DEFER_ACCEPT, 30)
        with self.counted(connect_redirected=32, origdst_offered=32, origdst_taken=32):
            socks = self.dial_all()
            self.first.close()
            self.assertEqual(self.waiting(), 32)
            for sock in socks.values():
                sock.sendall(b"!")
            self.assert_second_has(socks)


class MigratedIPv6(Migrated):
    address = FAR6


class PinnedMap:
    """A map of the agent's, by bpf(2): to fill it faster than bpftool would."""
    SYSCALL = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    OBJ_GET, OBJ_GET_INFO, UPDATE_BATCH = 7, 15, 26
    CHUNK = 8192

    def __init__(self, path):
        name = ctypes.create_string_buffer(path.encode())
        self.fd = self.bpf(self.OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
        info = ctypes.create_string_buffer(80)
        self.bpf(self.OBJ_GET_INFO, struct.pack("=IIQ", self.fd, len(info), ctypes.addressof(info)))
        _, _, self.key, self.value, self.max_entries = struct.unpack_from("=5I", info)

    def bpf(self, command, attributes):
        return check(libc.syscall(self.SYSCALL, command, ctypes.c_char_p(attributes),
                                  len(attributes)))

    def fill(self, count):
        """With entries that belong to nobody."""
        values = ctypes.create_string_buffer(self.value * self.CHUNK)
        for first in range(0, count, self.CHUNK):
            n = min(self.CHUNK, count - first)
            keys = ctypes.create_string_buffer(
                b"".join(struct.pack("=II", 0, first + i) for i in range(n)))
            self.bpf(self.UPDATE_BATCH, struct.pack(
                "=QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), n, self.fd,
                0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)


class NoDestination(PairingCase):
    """Connections that the sidecar gets without a destination; each is counted."""

    def setUp(self):
        super().setUp()
        # What the kernel says depends on whether it tracks connections.
        self.nothing = attempt(original_dst, self.keep(self.world.outside.new_socket()))

    def restart_agent(self, **limits):
        """With maps of another size: those of an agent before would be kept."""
        self.agent.limits = limits
        self.agent.configure()
        self.agent.detach()
        self.agent.start()

    def fill_pairs(self, leave):
        """Takes all room but this in shunt_pairs."""
        with PinnedMap(self.agent.pin("shunt_pairs")) as pairs:
            pairs.fill(pairs.max_entries - leave)

    def test_more_at_once_than_there_is_room_for(self):
        self.restart_agent(flows=4)
        self.addCleanup(self.restart_agent)
        self.fill_pairs(leave=4)
        listener = self.listen_slowly()
        with self.counted(connect_redirected=6, origdst_offered=4, origdst_full=2,
                          splice_plain_full=2 if self.can_splice() else 0):
            socks = [self.dial(FAR4, PORT + n) for n in range(6)]
        for n, sock in enumerate(socks):
            sock.sendall(b"!")
            proxied = self.accept(listener)
            told = attempt(original_dst, proxied)
            self.assertEqual(told, (FAR4, PORT + n) if n < 4 else self.nothing)
            self.assertEqual(proxied.recv(1), b"!")

    def test_sidecar_that_takes_data_with_the_syn(self):
        """Its end is done before the client's, and finds what the client leaves afterwards."""
        always = 0x207  # without a cookie, both ends
        before = self.world.app.netns.sysctl("ipv4/tcp_fastopen", always)
        self.addCleanup(self.world.app.netns.sysctl, "ipv4/tcp_fastopen", before)
        self.sidecar(FAR4).setsockopt(SOL_TCP, socket.TCP_FASTOPEN, 16)
        with self.counted(connect_redirected=1, origdst_offered=1, origdst_taken=0):
            with socket.socket() as sock:
                sock.sendto(b"hello", socket.MSG_FASTOPEN, (FAR4, PORT))
                with self.accept(self.sidecar(FAR4)) as proxied:
                    self.assertEqual(original_dst(proxied), (FAR4, PORT))
                    self.assertEqual(proxied.recv(16), b"hello")


if __name__ == "__main__":
    main()
