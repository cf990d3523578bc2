#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every outcome that a connect() or a datagram can have: its counter, and what really happened."""
import collections
import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct

from case import (DNS4, DNS6, FAR4, FAR6, MAPPED, POD4, POD6, SOON, Case, attempt, family_of, main)
from sandbox import Place, wait_until

# Each of these is dialled by TCP, by connected UDP and by unconnected UDP.
ADDRESSES = FAR4, FAR6, MAPPED
TRIES = 3 * len(ADDRESSES)
PORT = 53
IPPROTO_UDPLITE = 136
IP_UNICAST_IF = 50
IPV6_UNICAST_IF = 76
SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27


def probe_one(make, address, port, kind, connected):
    name = socket.getaddrinfo(address, port)[0][4]
    with make(family_of(address), kind) as sock:
        if not connected:
            return attempt(sock.sendto, b"?", name)
        return attempt(sock.connect, name) or attempt(sock.send, b"?")


def probe(make=socket.socket, addresses=ADDRESSES, port=PORT):
    """Tries each address in each way; what came of it."""
    ways = (socket.SOCK_STREAM, True), (socket.SOCK_DGRAM, True), (socket.SOCK_DGRAM, False)
    return [probe_one(make, address, port, *way) for address in addresses for way in ways]


def probe_as(uid, gid):
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    return probe()


def attach_filter(sock, length):
    """A filter of so many instructions, which lets everything pass."""
    load_byte, accept = (0x30, 0, 0, 0), (0x06, 0, 0, 0xffffffff)
    code = b"".join(struct.pack("=HBBI", *i) for i in [load_byte] * (length - 1) + [accept])
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", length, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def full_socket(*kind):
    """One that has no memory left (of which it may have net.core.optmem_max) for any state: as
    much as there is goes to a filter, to within what one more of its instructions takes."""
    sock = socket.socket(*kind)
    length = 0
    for step in (1 << bit for bit in reversed(range(12))):
        if attempt(attach_filter, sock, length + step) is None:
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            length += step
    attach_filter(sock, length)
    return sock


class Servers:
    """Of TCP and UDP both, and what arrives at them."""

    def __init__(self, test, place, *names):
        self.tcp = [test.keep(place.listen(*name)) for name in names]
        self.udp = [test.keep(place.bind(*name, kind=socket.SOCK_DGRAM)) for name in names]

    def close(self):
        for sock in self.tcp + self.udp:
            sock.close()

    def count(self, expected):
        """How much has arrived, once as much as is expected has."""
        arrived = 0

        def look():
            nonlocal arrived
            for sock in self.tcp + self.udp:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        if sock in self.tcp:
                            sock.accept()[0].close()
                        else:
                            sock.recv(16, socket.MSG_DONTWAIT)
                        arrived += 1
            return arrived >= expected
        for sock in self.tcp:
            sock.setblocking(False)
        with contextlib.suppress(AssertionError):
            wait_until(look, "it has arrived", SOON)
        return arrived


class Outcomes(Case):
    def setUp(self):
        super().setUp()
        self.far = Servers(self, self.world.far, ("::", PORT))
        self.dns = Servers(self, self.world.proxy, DNS4, DNS6)

    def configure(self, **keys):
        self.agent.reload(**keys)
        self.addCleanup(self.agent.reload)

    def set_sysctl(self, name, value):
        before = self.world.app.netns.sysctl(name, value)
        self.addCleanup(self.world.app.netns.sysctl, name, before)

    def child(self, name):
        """A place below the program's own cgroup."""
        cgroup = self.world.app.cgroup.child(name)
        self.addCleanup(cgroup.remove)
        return Place(cgroup, self.world.app.netns)

    def assert_outcome(self, name, tries=probe, addresses=ADDRESSES, servers=None, connected=None):
        """That all have this outcome, and arrive at these servers. For what a connected socket
        sends the hook runs only if its peer is IPv4-mapped; where that comes to another outcome,
        connected is it."""
        n = len(addresses)
        expected = collections.Counter({f"connect_{name}": 2 * n, f"sendmsg_{name}": n})
        expected[f"sendmsg_{connected or name}"] += sum(a.startswith("::ffff:") for a in addresses)
        with self.counted(**expected):
            results = tries()
        self.assertEqual(results, [1] * 3 * n)
        self.assertEqual((servers or self.far).count(3 * n), 3 * n)

    def assert_refused(self, name, error, tries=probe):
        n = len(ADDRESSES)
        with self.counted(**{f"connect_{name}": 2 * n, f"sendmsg_{name}": n}):
            self.assertEqual(tries(), [error] * TRIES)

    def test_redirected(self):
        with self.counted(connect_redirected=6, sendmsg_redirected=3, sendmsg_not_dns=1,
                          dns_redirected=TRIES):
            self.assertEqual(probe(), [1] * TRIES)
        self.assertEqual(self.dns.count(TRIES), TRIES)

    def test_not_enrolled(self):
        app = self.world.app.cgroup.path
        self.configure(cgroups=f"{app}/**, !{app}/out")
        out = self.child("out")
        self.assert_outcome("not_enrolled", lambda: probe(out.new_socket))

    @contextlib.contextmanager
    def agent_asleep(self):
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.agent.process.send_signal(signal.SIGCONT)

    def test_unclassified(self):
        """A cgroup is new, and may be in the mesh or not; soon the agent finds out."""
        self.configure(cgroups=f"{self.world.app.cgroup.path}/*")
        new = None

        def tries():
            nonlocal new
            with self.agent_asleep():
                new = self.child("new")
                return probe(new.new_socket)
        self.assert_outcome("unclassified", tries)
        self.agent.ask("classify", cgroup=new.cgroup.path)
        self.assert_outcome("redirected", lambda: probe(new.new_socket), servers=self.dns,
                            connected="not_dns")

    def test_child_of_a_member_has_no_window(self):
        def tries():
            with self.agent_asleep():
                return probe(self.child("new").new_socket)
        self.assert_outcome("redirected", tries, servers=self.dns, connected="not_dns")

    def test_sidecar_by_cgroup(self):
        app = self.world.app.cgroup.path
        self.configure(cgroups=f"{app}/*", sidecar_cgroups=f"{app}/proxy")
        proxy = self.child("proxy")
        self.assert_outcome("sidecar", lambda: probe(proxy.new_socket))

    def test_sidecar_that_is_elsewhere(self):
        """Only its unconnected datagrams are looked at: answers to numbered DNS servers."""
        with self.counted(sendmsg_sidecar=4):
            self.assertEqual(probe(self.world.proxy.new_socket), [1] * TRIES)
        self.assertEqual(self.far.count(TRIES), TRIES)

    def test_sidecar_by_user(self):
        self.configure(sidecar_uids="1337, 7000")
        self.assert_outcome("sidecar", lambda: self.world.app.run(probe_as, 1337, 1))

    def test_sidecar_by_group(self):
        self.configure(sidecar_gids="1338")
        self.assert_outcome("sidecar", lambda: self.world.app.run(probe_as, 1, 1338))

    def test_other_user(self):
        self.configure(sidecar_uids="1337", sidecar_gids="1338", exclude_uids="7", exclude_gids="8")
        self.assert_outcome("redirected", lambda: self.world.app.run(probe_as, 1338, 1337),
                            servers=self.dns, connected="not_dns")

    def test_excluded_user(self):
        self.configure(exclude_uids="1001")
        self.assert_outcome("excluded_owner", lambda: self.world.app.run(probe_as, 1001, 1))

    def test_excluded_group(self):
        self.configure(exclude_gids="1002")
        self.assert_outcome("excluded_owner", lambda: self.world.app.run(probe_as, 1, 1002))

    def test_other_protocol(self):
        self.set_sysctl("ipv4/ping_group_range", "0 0")
        sock = self.new_socket(kind=socket.SOCK_DGRAM, protocol=socket.IPPROTO_ICMP)
        with self.counted(connect_other_protocol=1):
            sock.connect((FAR4, 0))

    def test_other_protocol_of_datagrams(self):
        try:
            sock = self.new_socket(kind=socket.SOCK_DGRAM, protocol=IPPROTO_UDPLITE)
        except OSError as error:
            self.kernel_lacks("UDP-Lite", error, errno.EPROTONOSUPPORT)
        with self.counted(sendmsg_other_protocol=1):
            sock.sendto(b"?", (FAR4, PORT))

    def test_not_dns(self):
        other = Servers(self, self.world.far, ("::", 5353))
        with self.counted(connect_redirected=3, connect_not_dns=3, sendmsg_not_dns=4):
            self.assertEqual(probe(port=5353), [1] * TRIES)
        self.assertEqual(other.count(6), 6)

    def test_already(self):
        self.configure(dns_redirect=f"{POD4}:{PORT}, [{POD6}]:{PORT}")
        own = Servers(self, self.world.proxy, ("::", PORT))
        addresses = POD4, POD6, f"::ffff:{POD4}"
        self.assert_outcome("already", lambda: probe(addresses=addresses), addresses, own)

    def test_loopback(self):
        addresses = "127.0.0.1", "127.255.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"
        own = Servers(self, self.world.outside, ("::", PORT))
        self.assert_outcome("loopback", lambda: probe(addresses=addresses), addresses, own)

    def test_link_local(self):
        """What is so near is not redirected: the sidecar would not know on which device."""
        self.world.app.netns.add_addresses("fe80::2/64")
        self.world.far.netns.add_addresses("fe80::1/64")
        addresses = ["fe80::1%eth0"]
        self.assert_outcome("link_local", lambda: probe(addresses=addresses), addresses)

    def test_excluded_cidr(self):
        self.configure(exclude_cidrs="10.83.0.1/32, fd83::/127")
        self.assert_outcome("excluded_cidr")

    def test_excluded_port(self):
        self.configure(exclude_ports="22, 50-60")
        self.assert_outcome("excluded_port")

    def test_not_included_address(self):
        self.configure(include_cidrs="10.83.1.0/24, fd83:1::/32")
        self.assert_outcome("not_included")

    def test_not_included_port(self):
        self.configure(include_ports="1-52, 54-65535")
        self.assert_outcome("not_included")

    def test_bound_device(self):
        def make(*kind):
            sock = socket.socket(*kind)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            return sock
        self.assert_outcome("bound_device", lambda: probe(make))

    def test_device_for_datagrams(self):
        """IP_UNICAST_IF and IPV6_UNICAST_IF, which TCP does not heed."""
        def make(*kind):
            sock = socket.socket(*kind)
            index = struct.pack("!I", socket.if_nametoindex("eth0"))
            sock.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, index)
            if kind[0] == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_IF, index)
            return sock
        with self.counted(connect_redirected=3, connect_bound_device=3, sendmsg_bound_device=4):
            self.assertEqual(probe(make), [1] * TRIES)
        self.assertEqual((self.dns.count(3), self.far.count(6)), (3, 6))

    def test_bound_loopback(self):
        def make(*kind):
            sock = socket.socket(*kind)
            sock.bind(("127.0.0.1", 0))
            return sock
        with self.counted(connect_bound_loopback=2, sendmsg_bound_loopback=1):
            self.assertEqual(probe(make, [FAR4]), ["EINVAL"] * 3)

    def test_no_address(self):
        self.configure(tcp_redirect="127.0.0.1:15001", dns_redirect=None)
        with self.counted(connect_redirected=2, connect_no_address=4, sendmsg_no_address=4):
            self.assertEqual(probe(), [1] * TRIES)
        self.assertEqual(self.far.count(TRIES - 2), TRIES - 2)

    def test_sidecar_down_refuse(self):
        self.dns.close()
        self.assert_refused("refused_sidecar_down", "ECONNREFUSED")
        self.dns = Servers(self, self.world.proxy, DNS4, DNS6)
        self.assert_outcome("redirected", servers=self.dns, connected="not_dns")
        self.dns.close()
        self.assert_refused("refused_sidecar_down", "ECONNREFUSED")

    def test_sidecar_down_bypass(self):
        self.configure(on_sidecar_down="bypass")
        self.dns.close()
        self.assert_outcome("bypassed_sidecar_down", connected="already")
        self.dns = Servers(self, self.world.proxy, DNS4, DNS6)
        self.assert_outcome("redirected", servers=self.dns, connected="not_dns")
        self.dns.close()
        self.assert_outcome("bypassed_sidecar_down", connected="already")

    def test_no_memory_refuse(self):
        self.assert_refused("refused_no_memory", "ENOMEM", lambda: probe(full_socket))

    def test_no_memory_bypass(self):
        self.configure(on_sidecar_down="bypass")
        self.assert_outcome("bypassed_no_memory", lambda: probe(full_socket), connected="already")


class Late(Case):
    """A cgroup that the configuration names as it is has no program attached above it."""

    def new_cgroup(self, name):
        cgroup = self.world.cgroup.child(name)
        self.addCleanup(cgroup.remove)
        return Place(cgroup, self.world.app.netns)

    def is_enrolled(self, place):
        return any(cgroup["path"] == place.cgroup.path and cgroup["role"] == "member"
                   for cgroup in self.agent.ask("cgroups"))

    def populate(self, place):
        task = place.start(signal.pause)
        self.addCleanup(task.close)
        with open(f"{place.cgroup.directory}/cgroup.procs", encoding="ascii") as procs:
            wait_until(lambda: procs.seek(0) or procs.read(), "somebody is in it")

    def test_late(self):
        self.addCleanup(self.agent.reload)
        self.agent.configure(cgroups=f"{self.world.cgroup.path}/late, {self.world.cgroup.path}/early")
        self.agent.ask("reload")
        self.agent.configure()
        with self.counted(cgroups_late=0):
            early = self.new_cgroup("early")
            wait_until(lambda: self.is_enrolled(early), "it is enrolled")
            self.populate(early)
        with self.counted(cgroups_late=1):
            self.agent.process.send_signal(signal.SIGSTOP)
            self.addCleanup(self.agent.process.send_signal, signal.SIGCONT)
            late = self.new_cgroup("late")
            self.populate(late)
            self.agent.process.send_signal(signal.SIGCONT)
            wait_until(lambda: self.is_enrolled(late), "it is enrolled")
        self.assertIn(f"cgroup {late.cgroup.path}: programs ran in it", self.agent.read_log())


class WhenAllIsDone(Case):
    def test_every_outcome_was_seen(self):
        never = {name for name, count in self.agent.counters().items()
                 if name.startswith(("connect_", "sendmsg_")) and not count}
        if "UDP-Lite" in self.lacking:  # only its datagrams pass the hook, of other protocols'
            never.discard("sendmsg_other_protocol")
        self.assertEqual(never, set())


if __name__ == "__main__":
    main()
