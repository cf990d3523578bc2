#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which connections are spliced, and that they leave, spill and come back without a byte lost."""
import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

from case import FAR4, FAR6, POD4, SOON, attempt, disconnect, injected, main
from sandbox import DEADLINE, Place, check, libc, wait_until
from semantics import RESET, SIOCOUTQ, await_event, fill, mapped, pattern, poll, queue, read, \
    read_pattern, send, state, write
from splice_case import DIRECT, SpliceCase
from test_idle import Trace

SOL_TCP = socket.IPPROTO_TCP
SO_TIMESTAMP, SO_TIMESTAMPING, SO_PEEK_OFF, SO_ZEROCOPY = 29, 37, 42, 60
SO_COOKIE = 57
TCP_REPAIR, TCP_ULP, TCP_INQ = 19, 31, 36
IPPROTO_MPTCP = 262
IPV6_ADDRFORM = 1
EDGES = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
CLOSED_CLIENT = 1 << 2  # of a pair's flags
AGENTLESS = 15  # seconds: keep-alive's timer kicks after one; without it nothing would


class Families(SpliceCase):
    def test_ipv4(self):
        self.open()

    def test_ipv6(self):
        self.open("::1")

    def test_mapped_client(self):
        self.open("127.0.0.1", "::ffff:127.0.0.1")

    def test_ipv4_client_of_a_dual_stack_listener(self):
        self.open("::", "127.0.0.1")

    def test_mapped_client_of_a_dual_stack_listener(self):
        self.open("::", "::ffff:127.0.0.1")

    def test_mapped_client_that_would_be_ipv4(self):
        """The documented difference: the kernel does not take it for an IPv6 socket."""
        def ask(place):
            client, server = self.pair("127.0.0.1", "::ffff:127.0.0.1", at=place, by=place)
            self.converse(client, server)
            return attempt(client.setsockopt, socket.IPPROTO_IPV6, IPV6_ADDRFORM, socket.AF_INET)
        self.assertIsNone(ask(self.world.outside))
        with self.spliced():
            self.assertEqual(ask(self.world.app), "EBUSY")


class Namespaces(SpliceCase):
    def test_equal_addresses(self):
        """Not even the ports tell the two connections apart."""
        twin = Place(self.world.app.cgroup, self.world.new_pod())
        pairs = []
        for place in self.world.app, twin:
            listener = self.listen(POD4, 5000, place=place)
            client = self.dial((POD4, 5000), place=place, bind=(POD4, 20000))
            pairs.append((client, self.accept_from(listener)))
        (one, one_server), (two, two_server) = pairs
        with self.spliced():
            for n in range(20):
                write(one, b"one %4d" % n)
                write(two, b"two %4d" % n)
                self.assertEqual(read(one_server, 8), b"one %4d" % n)
                self.assertEqual(read(two_server, 8), b"two %4d" % n)
                write(one_server, b"1")
                write(two_server, b"2")
                self.assertEqual((read(one, 1), read(two, 1)), (b"1", b"2"))

    def test_across_a_link(self):
        for address in FAR4, FAR6:
            with self.subTest(address):
                self.open(address, at=self.in_far())

    def test_through_dnat(self):
        try:
            self.world.app.netns.nft("""
                table ip shunt_test {
                    chain output {
                        type nat hook output priority -100
                        ip daddr 10.99.0.1 dnat to %s
                    }
                }""" % FAR4)
        except FileNotFoundError as error:
            self.kernel_lacks("nftables", error, errno.ENOENT)
        self.addCleanup(self.world.app.netns.nft, "delete table ip shunt_test")
        client, _ = self.open(FAR4, "10.99.0.1", at=self.in_far())
        self.assertEqual(client.getpeername()[0], "10.99.0.1")

    def test_connection_to_who_is_not_enrolled(self):
        with self.moving(splice_plain_remote=1, pairs_opened=0, splice_paired=0):
            client, server = self.pair(FAR4, at=self.world.far)
            self.assert_plain(client, server)

    def test_connection_from_who_is_not_enrolled(self):
        with self.moving(pairs_opened=0, splice_paired=0):
            client, server = self.pair(by=self.world.outside)
            self.assert_plain(client, server)


class ScopeCase(SpliceCase):
    def assert_scope(self, *, own, sidecar, far, far_sidecar):
        """Which of these are spliced: connections within the application, to the sidecar, and the
        same across namespaces."""
        far_proxy = Place(self.world.proxy.cgroup, self.world.far.netns)
        for address, place, expected in (
                ("127.0.0.1", self.world.app, own), ("127.0.0.1", self.world.proxy, sidecar),
                (FAR4, self.in_far(), far), (FAR4, far_proxy, far_sidecar)):
            with self.subTest(address=address, cgroup=place.cgroup.path):
                with self.moving(splice_plain_scope=0 if expected else 1,
                                  splice_paired=1 if expected else 0):
                    client, server = self.pair(address, at=place)
                    (self.assert_splices if expected else self.assert_plain)(client, server)


class ScopeNode(ScopeCase):
    def test_scope(self):
        self.assert_scope(own=True, sidecar=True, far=True, far_sidecar=True)


class ScopeNetns(ScopeCase):
    mesh = {"splice": "netns"} | DIRECT

    def test_scope(self):
        self.assert_scope(own=True, sidecar=True, far=False, far_sidecar=False)


class ScopeSidecar(ScopeCase):
    mesh = {"splice": "sidecar"} | DIRECT

    def test_scope(self):
        self.assert_scope(own=False, sidecar=True, far=False, far_sidecar=True)


class ScopeOff(ScopeCase):
    mesh = {"splice": "off"} | DIRECT

    def test_scope(self):
        with self.moving(splice_paired=0, pairs_opened=0):
            client, server = self.pair()
            self.assert_plain(client, server)


class Full(SpliceCase):
    def test_more_connections_than_there_is_room_for(self):
        self.renew_agent(flows=2)
        self.addCleanup(self.renew_agent)
        self.introduce()
        wait_until(lambda: self.members() == 0, "those before are gone")
        with self.moving(splice_paired=2, splice_plain_full=3):
            pairs = [self.pair() for _ in range(5)]
        with self.spliced():
            for client, server in pairs[:2]:
                self.converse(client, server)
        with self.unspliced():
            for client, server in pairs[2:]:
                self.converse(client, server)
        for sock in pairs[0]:
            sock.close()
        wait_until(lambda: self.members() == 2, "there is room again")
        self.open()


class Blocking(SpliceCase):
    def test_client(self):
        with self.moving(splice_plain_blocking=1, splice_paired=0):
            client, server = self.pair(blocks=True)
            self.assert_plain(client, server)

    def test_listener(self):
        with self.moving(splice_plain_blocking=1, splice_paired=0):
            client, server = self.pair(listener_blocks=True)
            self.assert_plain(client, server)

    def test_accepted_socket(self):
        with self.moving(splice_plain_blocking=1, splice_left=0):
            client, server = self.pair(server_blocks=True)
            self.assert_plain(client, server)
        wait_until(lambda: self.members() == 0, "both ends are out")

    def test_client_that_turns_non_blocking(self):
        client, server = self.pair(blocks=True)
        self.converse(client, server)
        client.setblocking(False)
        with self.moving(splice_adopted=1, splice_paired=1):
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in")
        self.assert_splices(client, server)

    def test_one_of_many_that_turns_non_blocking(self):
        """The agent is not told of each of them; but it finds it."""
        pairs = [self.pair(blocks=True) for _ in range(20)]
        client, server = pairs[-1]
        client.setblocking(False)
        with self.moving(splice_adopted=1, splice_paired=1):
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in")
        self.assert_splices(client, server)

    def test_ends_that_turn_blocking(self):
        for which in range(2):
            with self.subTest(which=which):
                ends = self.open()
                ends[which].setblocking(True)
                with self.moving(splice_plain_blocking=1, splice_taken_out=2):
                    self.converse(*ends)
                    wait_until(lambda: self.members() == 0, "both ends are out")
                self.assert_plain(*ends)


class OptOuts(SpliceCase):
    def assert_leaves(self, reason, *option):
        """Whichever end sets it, when something is unread and when nothing is."""
        for which in range(2):
            for unread in 0, 20_000:
                with self.subTest(which=which, unread=unread):
                    client, server = ends = self.open()
                    write(client, pattern(unread))
                    ends[which].setsockopt(*option)
                    with self.moving(**{f"splice_plain_{reason}": 1, "splice_taken_out": 2}):
                        write(client, pattern(1000, unread))
                        self.assertEqual(read_pattern(server, unread + 1000), "right")
                        self.converse(client, server)
                        wait_until(lambda: self.members() == 0, "both ends are out")
                    self.assert_plain(client, server)

    def assert_stays_out(self, reason, *option):
        with self.moving(**{f"splice_plain_{reason}": 1, "splice_paired": 0}):
            self.assert_plain(*self.pair(options=[option]))
        with self.moving(**{f"splice_plain_{reason}": 1}):
            client, server = self.pair(listener_options=[option])
            self.converse(client, server)
        wait_until(lambda: self.members() == 0, "both ends are out")

    def assert_opts_out(self, reason, *option):
        self.assert_leaves(reason, *option)
        self.assert_stays_out(reason, *option)

    def test_zerocopy(self):
        self.assert_opts_out("zerocopy", socket.SOL_SOCKET, SO_ZEROCOPY, 1)

    def test_low_water_mark(self):
        self.assert_opts_out("lowat", socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2)

    def test_urgent_data_inline(self):
        self.assert_opts_out("urgent", socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def test_timestamps(self):
        self.assert_opts_out("stamps", socket.SOL_SOCKET, SO_TIMESTAMPING, 1 << 3 | 1 << 4)

    def test_timestamps_of_the_old_kind(self):
        self.assert_opts_out("stamps", socket.SOL_SOCKET, SO_TIMESTAMP, 1)

    def test_inq(self):
        self.assert_leaves("stamps", SOL_TCP, TCP_INQ, 1)

    def test_peek_offset(self):
        with self.connection() as (client, _):
            try:
                client.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
            except OSError as error:
                self.kernel_lacks("SO_PEEK_OFF of TCP", error, errno.EOPNOTSUPP)
        self.assert_leaves("stamps", socket.SOL_SOCKET, SO_PEEK_OFF, 0)

    def test_zerocopy_of_a_reader(self):
        """It maps its socket first; and may be spliced again when it has done with that."""
        for which in range(2):
            with self.subTest(which=which):
                client, server = ends = self.open()
                with mapped(ends[which], mmap.PAGESIZE):
                    with self.moving(splice_plain_zerocopy=1, splice_taken_out=2):
                        self.converse(client, server)
                        wait_until(lambda: self.members() == 0, "both ends are out")
                    self.assert_plain(client, server)
                self.converse_until(client, server, lambda: self.members() == 2, "it is let in")
                client.close()
                server.close()

    def test_tls(self):
        with self.connection() as (client, _):
            try:
                client.setsockopt(SOL_TCP, TCP_ULP, b"tls")
            except OSError as error:
                self.kernel_lacks("kTLS", error, errno.ENOENT)
        self.assert_leaves("ulp", SOL_TCP, TCP_ULP, b"tls")

    def test_repair(self):
        """A socket in repair mode sends nothing; the other end sees it."""
        client, server = self.open()
        server.setsockopt(SOL_TCP, TCP_REPAIR, 1)
        with self.moving(splice_plain_repair=1):
            write(client, b"hello")
        server.setsockopt(SOL_TCP, TCP_REPAIR, 0)
        self.assertEqual(read(server, 5), b"hello")

    def test_reader_closed(self):
        """What it would have been sent goes by TCP, which says that nobody takes it."""
        client, server = self.open()
        before = self.count("splice_no_peer"), self.count("splice_plain_messages")
        server.close()
        await_event(client, select.POLLIN)
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(client.send(b"hello"), 5)
        self.assertEqual((self.count("splice_no_peer"), self.count("splice_plain_messages")),
                         (before[0] + 1, before[1] + 1))
        await_event(client, select.POLLHUP)

    def test_urgent_data(self):
        client, server = self.open()
        with self.moving(splice_plain_urgent=1, splice_taken_out=2):
            self.assertEqual(client.send(b"!", socket.MSG_OOB), 1)
            self.assertIn("PRI", poll(server, select.POLLPRI, DEADLINE))
            self.assertEqual(server.recv(1, socket.MSG_OOB), b"!")
            self.converse(client, server)
            wait_until(lambda: self.members() == 0, "both ends are out")
        self.assert_plain(client, server)

    def test_urgent_data_behind_unread_bytes(self):
        """They were spliced, and have to be read before the urgent byte can be."""
        client, server = self.open()
        write(client, pattern(10_000))
        with self.moving(splice_plain_urgent=1):
            self.assertEqual(client.send(b"!", socket.MSG_OOB), 1)
        write(client, pattern(10_000, 10_000))
        self.assertIn("PRI", poll(server, select.POLLPRI, DEADLINE))
        self.assertEqual(read_pattern(server, 10_000), "right")
        self.assertEqual(server.recv(1, socket.MSG_OOB), b"!")
        self.assertEqual(read_pattern(server, 10_000, 10_000), "right")

    def test_mptcp(self):
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        except OSError as error:
            self.kernel_lacks("MPTCP", error, errno.EPROTONOSUPPORT)
        listener = self.listen()
        with self.keep(sock), self.moving(splice_plain_ulp=1, splice_paired=0):
            sock.setblocking(False)
            attempt(sock.connect, listener.getsockname())
            await_event(sock, select.POLLOUT)
            server = self.accept_from(listener)
            self.assert_plain(sock, server)

    def test_fast_open(self):
        """Data comes before the two ends have met: what follows must not overtake it."""
        netns = self.world.app.netns
        before = netns.sysctl("ipv4/tcp_fastopen", 0x207)  # without a cookie, both ends
        self.addCleanup(netns.sysctl, "ipv4/tcp_fastopen", before)
        listener = self.listen(options=[(SOL_TCP, socket.TCP_FASTOPEN, 16)])
        client = self.keep(self.world.app.new_socket())
        client.setblocking(False)
        with self.moving(splice_plain_early=1, splice_paired=0):
            self.assertIn(attempt(client.sendto, pattern(100), socket.MSG_FASTOPEN,
                                  listener.getsockname()), (100, "EINPROGRESS"))
            server = self.accept_from(listener)
            self.assertEqual(read(server, 100), pattern(100))
            await_event(client, select.POLLOUT)
            self.assert_plain(client, server)
        self.assertEqual(self.members(), 0)


class Leaving(SpliceCase):
    def stream(self, client, server, until, what):
        """One way, small, and without a pause."""
        def goes_on():
            for n in range(64):
                write(client, pattern(4096, n))
                self.assertEqual(read(server, 4096), pattern(4096, n))
            return until()
        wait_until(goes_on, what)

    def test_stream(self):
        client, server = self.open()
        with self.moving(splice_plain_stream=1, splice_taken_out=2, splice_spilled=0):
            self.stream(client, server, lambda: self.members() == 0, "both ends are out")
        self.assert_plain(client, server)
        with self.moving(splice_adopted=1):
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in again")
        with self.moving(splice_plain_bytes=0):
            self.assert_splices(client, server)

    def test_stream_from_a_cgroup_to_one_below(self):
        """The agent's program at the one sees the sockets of both, and the other has its own."""
        app = self.world.app
        nested = app.cgroup.child("nested")
        self.addCleanup(nested.remove)
        self.agent.reload(**self.mesh | {"cgroups": f"{app.cgroup.path}, {nested.path}"})
        self.addCleanup(self.agent.reload, **self.mesh)
        client, server = self.open(at=Place(nested, app.netns))
        self.stream(client, server, lambda: self.members() == 0, "both ends are out")
        with self.moving(splice_adopted=1):
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in again")
        self.assert_splices(client, server)

    def test_stream_across_a_link(self):
        """Its ends are in two namespaces; the agent finds one by a process that is in it."""
        self.keep(self.in_far().start(signal.pause))
        client, server = self.open(FAR4, at=self.in_far())
        self.stream(client, server, lambda: self.members() == 0, "both ends are out")
        self.converse_until(client, server, lambda: self.members() == 2, "it is let in again")
        self.assert_splices(client, server)

    def test_idle_reader_of_bytes_that_came_meanwhile(self):
        """FIONREAD may have said that there is nothing: who was taken out is told again."""
        client, server = self.open()
        self.stream(client, server, lambda: self.count("splice_plain_stream"), "it is a stream")
        write(client, pattern(3000))
        wait_until(lambda: self.members() == 0, "both ends are out")
        self.assertEqual(queue(server, termios.FIONREAD), 3000)
        self.assertEqual(read_pattern(server, 3000), "right")

    def test_older_than_the_agent(self):
        self.agent.detach()
        client, server = self.pair()
        self.converse(client, server)
        write(server, b"unread")
        self.agent.start()
        with self.moving(splice_adopted=1):
            self.assertEqual(read(client, 6), b"unread")
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in")
        self.assert_splices(client, server)

    def test_reload(self):
        client, server = self.open()
        for scope, members in ("off", 0), ("node", 2), ("off", 0), ("node", 2):
            write(client, pattern(20_000))
            self.agent.reload(**self.mesh | {"splice": scope})
            write(client, pattern(20_000, 20_000))
            self.assertEqual(read_pattern(server, 40_000), "right")
            self.converse_until(client, server, lambda: self.members() == members,
                                f"{members} ends are in")
            (self.assert_splices if members else self.assert_plain)(client, server)

    def test_detach(self):
        client, server = self.open()
        write(client, pattern(20_000))
        self.addCleanup(self.agent.start)
        self.agent.detach()
        write(client, pattern(20_000, 20_000))
        write(server, pattern(10_000))
        self.assertEqual(read_pattern(server, 40_000), "right")
        self.assertEqual(read_pattern(client, 10_000), "right")
        self.converse(client, server)

    def test_agent_that_is_gone(self):
        """What is spliced goes on, and nothing new is."""
        client, server = self.open()
        waiting = self.listen()
        before = self.agent.counters()
        self.kill_agent()
        for n in range(200):
            self.converse(client, server, 1)
        other = self.dial(waiting.getsockname())
        self.converse(other, self.accept_from(waiting))
        self.doCleanups()
        after = self.agent.counters()
        moved = {name: after[name] - before[name] for name in after}
        self.assertEqual((moved["splice_bytes"], moved["splice_plain_no_agent"]), (40_000, 1))


def files_of(pid):
    """What it has open, as /proc names it."""
    names = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return names


def infos_of(pid):
    """What /proc says of each file that it has open."""
    directory = f"/proc/{pid}/fdinfo"
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError), \
                open(f"{directory}/{name}", encoding="ascii") as info:
            yield info.read()


PIDFD_GETFD = 438  # everywhere


def system_call(pid):
    """The number of the one that it is in; -1: none."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as call:
        word = call.read().split()[0]
    return -1 if word == "running" else int(word)


def waits_for_lock(pid):
    """Of a socket; not so if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        with open(f"/proc/{pid}/wchan", encoding="ascii") as wchan:
            return "lock_sock" in wchan.read()
    return False


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct mmsghdr"""
    _fields_ = [("name", ctypes.c_void_p), ("name_size", ctypes.c_uint),
                ("vectors", ctypes.POINTER(Vector)), ("n_vectors", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t),
                ("flags", ctypes.c_size_t), ("sent", ctypes.c_size_t)]  # with what is padded


def equal_messages(data, many):
    """For sendmmsg(), which sends them faster than a script could."""
    vector = Vector(data, len(data))
    return (Message * many)(*[Message(vectors=ctypes.pointer(vector), n_vectors=1)] * many)


SYS_EXIT = {"x86_64": 60, "aarch64": 93}[os.uname().machine]  # of this thread alone
SERVER_AT = 8  # in struct shunt_end_key: is it the server's end?


@contextlib.contextmanager
def open_often(sock):
    """Under as many numbers as there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    numbers = range(1000, min(hard, 20_000))  # select() knows those below
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in numbers:
        os.dup2(sock.fileno(), number, inheritable=False)
    yield
    os.closerange(numbers.start, numbers.stop)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def peak_memory(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


class MissingPage:
    """Memory that is not there until this is closed: whoever touches it waits."""
    SIZE = mmap.PAGESIZE
    USERFAULTFD = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
    API, REGISTER = 0xc018aa3f, 0xc020aa00
    VERSION, MISSING = 0xaa, 1

    def __init__(self, case):
        try:
            self.fd = check(libc.syscall(self.USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            case.kernel_lacks("userfaultfd", error, errno.ENOSYS)
        self.memory = mmap.mmap(-1, self.SIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.address = ctypes.c_void_p(start)
        fcntl.ioctl(self.fd, self.API, struct.pack("=QQQ", self.VERSION, 0, 0))
        fcntl.ioctl(self.fd, self.REGISTER, struct.pack("=QQQQ", start, self.SIZE, self.MISSING, 0))

    def is_wanted(self):
        return bool(select.select([self.fd], [], [], 0)[0])

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Visits(SpliceCase):
    """What the agent does to the sockets of others, and by which programs."""
    LEVEL = 0x53680000  # SHUNT_VISIT_LEVEL
    ENDS = 2

    def setUp(self):
        super().setUp()
        self.addCleanup(self.agent.reload, **self.mesh)

    def leave(self):
        self.agent.reload(**self.mesh | {"splice": "off"})

    def attached(self):
        """The programs at the sockets' cgroup that see each option."""
        cgroup = self.world.app.cgroup.directory
        shown = subprocess.run(["bpftool", "-j", "cgroup", "show", cgroup], check=False,
                               stdout=subprocess.PIPE).stdout
        return [program for program in json.loads(shown or "[]")
                if program["attach_type"] in ("cgroup_setsockopt", "setsockopt")]

    def test_idle_sockets_are_taken_out(self):
        self.open()
        self.assertEqual(self.members(), self.ENDS)
        with self.moving(splice_taken_out=self.ENDS):
            self.leave()

    def test_nothing_stays_attached(self):
        client, server = self.open()
        self.leave()
        wait_until(lambda: self.members() == 0, "both ends are out")
        client.close()
        server.close()
        wait_until(lambda: self.attached() == [], "nobody is visited any more")

    def test_sockets_of_very_many_cgroups(self):
        """The agent opens no more files for them than it may."""
        app, n = self.world.app, 200
        above = app.cgroup.child("many")
        self.addCleanup(above.remove)
        self.agent.reload(**self.mesh | {"cgroups": f"{app.cgroup.path}, {above.path}/*"})
        pid, known = self.agent.process.pid, len(self.agent.ask("cgroups"))
        places = [Place(above.child(f"c{i}"), app.netns) for i in range(n)]
        wait_until(lambda: len(self.agent.ask("cgroups")) == known + n, "the agent has seen them")
        pairs = [self.pair(at=place) for place in places]
        for client, server in pairs:
            self.converse(client, server, 1)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(files_of(pid)) + n, limits[1]))
        with self.moving(splice_taken_out=self.ENDS * n):
            self.leave()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

    def test_sockets_of_two_processes(self):
        client, server = self.open()
        other = subprocess.Popen(["sleep", "infinity"],
                                 pass_fds=[client.fileno(), server.fileno()])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        with self.moving(splice_taken_out=self.ENDS):
            self.leave()
        self.converse(client, server)

    def test_socket_that_is_open_very_often(self):
        """However often, and by however many processes: it is one socket."""
        client, server = self.open()
        with open_often(client):
            for _ in range(20):
                self.keep(self.world.app.start(signal.pause))
        before = peak_memory(self.agent.process.pid)
        with self.moving(splice_taken_out=self.ENDS):
            self.leave()
        self.assertLess(peak_memory(self.agent.process.pid) - before, 4 << 20)
        self.converse(client, server)

    def test_program_whose_first_thread_has_ended(self):
        """Others of its threads have the sockets, under its number still."""
        client, server = self.open()
        code = ("import ctypes, threading, time\n"
                "threading.Thread(target=time.sleep, args=(10_000,)).start()\n"
                f"ctypes.CDLL(None).syscall({SYS_EXIT}, 0)")
        program = subprocess.Popen([sys.executable, "-c", code],
                                   pass_fds=[client.fileno(), server.fileno()])
        self.addCleanup(program.wait)
        self.addCleanup(program.kill)

        def has_ended():
            with open(f"/proc/{program.pid}/task/{program.pid}/stat", encoding="utf-8") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        wait_until(has_ended, "the first thread has ended")
        client.close()
        server.close()
        with self.moving(splice_taken_out=self.ENDS):
            self.leave()

    def test_stray_member(self):
        """An agent was killed in the instant in which it let a socket in that called it off."""
        client, server = self.open()
        ends = [bytes(int(byte, 0) for byte in entry["key"]) for entry in self.dump("shunt_ends")]
        self.leave()
        wait_until(lambda: self.members() == 0, "both ends are out")
        self.agent.reload(**self.mesh)
        reader = self.keep(select.epoll())
        reader.register(server, select.EPOLLIN | select.EPOLLET)
        self.agent.process.kill()
        self.agent.process.wait()
        for sock in client, server:
            for end in ends:
                if end[SERVER_AT] == (sock is server):
                    self.insert(end, sock)
        self.assertEqual(self.members(), self.ENDS)
        write(client, pattern(3000))
        self.assertTrue(reader.poll(SOON))
        self.agent.start()
        wait_until(lambda: self.members() == 0, "both ends are out")
        self.assertTrue(reader.poll(SOON))
        self.assertEqual(queue(server, termios.FIONREAD), 3000)
        self.assertEqual(read_pattern(server, 3000), "right")

    def insert(self, end, sock):
        def words(value):
            return ["hex", *(f"{byte:02x}" for byte in value)]
        subprocess.run(
            ["bpftool", "map", "update", "pinned", self.agent.pin("shunt_ends"),
             "key", *words(end), "value", *words(struct.pack("<Q", sock.fileno()))],
            pass_fds=[sock.fileno()], check=True)

    def test_sockets_that_linger(self):
        client, server = self.open()
        for sock in client, server:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
        with self.moving(splice_taken_out=self.ENDS):
            self.leave()
        self.converse(client, server)

    def test_close_of_one_that_lingers_while_it_is_visited(self):
        """Then it is the agent that closes it last; it does not wait for the peer to read."""
        client, server = self.open()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10_000))
        written = fill(client)
        name = f"socket:[{os.fstat(client.fileno()).st_ino}]"
        agent = self.agent.process.pid

        def is_held():
            """Is it borrowed? The agent stands still then."""
            if name not in files_of(agent):
                return False
            os.kill(agent, signal.SIGSTOP)
            if name in files_of(agent):
                return True
            os.kill(agent, signal.SIGCONT)
            return False
        with injected(self.agent, "setsockopt:delay_exit=300000"):
            self.leave()
            wait_until(is_held, "it is being visited")
            client.close()
            os.kill(agent, signal.SIGCONT)
            self.agent.ask("status")
        self.assertEqual(read_pattern(server, written), "right")

    def test_program_that_sends_what_is_not_there_yet(self):
        """It waits for a page, and has its socket's lock; the agent does not wait with it."""
        client, server = self.open()
        self.open()
        page = MissingPage(self)
        with self.sending(client, page):
            wait_until(page.is_wanted, "the page is waited for")
            self.leave()
            wait_until(lambda: self.members() == self.ENDS, "all others are out")
            self.agent.ask("status")
        self.assertEqual(read(server, page.SIZE), bytes(page.SIZE))
        self.converse(client, server)
        wait_until(lambda: self.members() == 0, "both ends are out")

    @contextlib.contextmanager
    def sending(self, sock, page):
        sender = threading.Thread(
            target=lambda: libc.send(sock.fileno(), page.address, page.SIZE, 0))
        sender.start()
        try:
            yield
        finally:
            page.close()
            sender.join()

    def test_others_cannot_visit(self):
        client, _ = self.open()
        self.leave()
        wait_until(lambda: self.members() == 0, "both ends are out")
        for step in range(16):
            self.assertEqual(attempt(client.setsockopt, self.LEVEL, step, bytes(12)),
                             "ENOPROTOOPT")

    def test_no_program_iterates_over_tcp(self):
        """Kernels before the fix of CVE-2026-74714 are harmed by that."""
        self.open()
        self.leave()
        shown = subprocess.run(["bpftool", "-j", "link", "show"], check=True,
                               stdout=subprocess.PIPE).stdout
        own = {int(number) for path in infos_of(self.agent.process.pid) for number in
               re.findall(r"^link_id:\t(\d+)$", path, re.MULTILINE)}
        links = [link for link in json.loads(shown) if link["id"] in own]
        self.assertIn("task_file", [link.get("target_name") for link in links])
        self.assertNotIn("tcp", [link.get("target_name") for link in links])


class Undone(SpliceCase):
    """By connect() to AF_UNSPEC: what was not read is gone, and the socket dials again."""

    def dial_again(self, client):
        self.assertEqual(self.keys_of(client), [])
        listener = self.listen()
        attempt(client.connect, listener.getsockname())
        await_event(client, select.POLLOUT)
        return self.accept_from(listener)

    def keys_of(self, sock):
        """Under which the sockhash holds it."""
        cookie, = struct.unpack("Q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
        return [entry["key"] for entry in self.dump("shunt_ends")
                if struct.pack("Q", cookie) == bytes(int(byte, 0) for byte in entry["value"])]

    def undo(self, end):
        client, server = self.open()
        self.assertEqual(len(self.keys_of(client)), 1)
        write(server, b"of the first")
        end(client, server)
        disconnect(client)
        again = self.dial_again(client)
        write(again, b"of the second")
        self.assertEqual(read(client, 13), b"of the second")
        self.converse(client, again)

    def test_open(self):
        self.undo(lambda client, server: None)

    def test_that_its_peer_has_ended(self):
        self.undo(lambda client, server: server.close())

    def test_that_it_has_ended(self):
        self.undo(lambda client, server: client.shutdown(socket.SHUT_WR))


class EdgeReader:
    """A program that is told of bytes once; it stops reading as its habit is."""

    def __init__(self, case, sock, habit):
        self.sock = sock
        self.habit = habit
        self.epoll = case.keep(select.epoll())
        self.epoll.register(sock, EDGES)
        self.offset = 0

    def stops(self, part):
        if self.habit == "EAGAIN":
            return False
        if len(part) < 16384:
            return True
        return self.habit == "FIONREAD" and not queue(self.sock, termios.FIONREAD)

    def read_until(self, size, patience=DEADLINE):
        """Sleeps whenever it is through, and must be woken."""
        while self.offset < size:
            if not self.epoll.poll(patience):
                raise AssertionError(f"asleep at {self.offset} of {size}, with "
                                     f"{queue(self.sock, termios.FIONREAD)} bytes unread")
            with contextlib.suppress(BlockingIOError):
                while True:
                    part = self.sock.recv(16384)
                    if part != pattern(len(part), self.offset):
                        raise AssertionError(f"wrong at {self.offset}")
                    self.offset += len(part)
                    if not part or self.stops(part):
                        break


class Spill(SpliceCase):
    HABITS = "EAGAIN", "short read", "FIONREAD"

    def plain_capacity(self):
        """What TCP takes for a reader that does not read."""
        place = self.world.outside
        return fill(self.pair(at=place, by=place)[0], 0, 3000)

    def test_stalled_reader(self):
        client, server = self.open()
        with self.moving(splice_spilled=1, splice_rejoined=0):
            sent = fill(client, 0, 3000)
        self.assertEqual(poll(client, select.POLLOUT), "")
        self.assertLess(sent, 2 * self.plain_capacity())
        self.assertEqual(read_pattern(server, sent), "right")
        await_event(client, select.POLLOUT)
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced again")
        self.assert_splices(client, server)

    def test_both_ends_stall(self):
        client, server = self.open()
        spilled = self.count("splice_spilled")
        there, back = fill(client, 0, 3000), fill(server, 0, 3000)
        self.assertGreater(self.count("splice_spilled"), spilled)
        self.assertEqual(read_pattern(server, there), "right")
        self.assertEqual(read_pattern(client, back), "right")
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced again")

    def test_again_and_again(self):
        client, server = self.open()
        for _ in range(3):
            self.assertEqual(read_pattern(server, self.spill(client)), "right")
            self.converse_until(client, server, lambda: self.members() == 2, "it is let in again")
            with self.moving(splice_plain_bytes=0):
                self.assert_splices(client, server)

    def test_writer_that_closes_on_a_stalled_reader(self):
        client, server = self.open()
        sent = self.spill(client)
        client.close()
        self.assertEqual(read_pattern(server, sent), "right")
        self.assertEqual(read(server, 1), b"")

    def test_reader_that_closes(self):
        client, server = self.open()
        self.spill(client)
        server.close()

        def is_told():
            return send(client, b"!") in ("EPIPE", "ECONNRESET")
        wait_until(is_told, "the writer is told")

    def test_reader_that_sleeps_after_a_short_read(self):
        for habit in self.HABITS:
            for stall in range(4):
                with self.subTest(habit=habit, stall=stall):
                    client, server = self.open()
                    reader = EdgeReader(self, server, habit)
                    sent = self.spill(client, 3000 + 2000 * stall)
                    reader.read_until(sent)
                    write(server, b"answer")
                    self.assertEqual(read(client, 6), b"answer")

    def test_reader_that_the_agent_saw_before_it_read(self):
        """It is told at once all the same: by what it reads the agent knows when."""
        client, server = self.open()
        reader = EdgeReader(self, server, "short read")
        with self.moving(splice_drained=1, splice_kicked=1):
            sent = self.spill(client)
            self.agent.ask("status")
            reader.read_until(sent)

    def test_reader_that_a_new_agent_finds(self):
        client, server = self.open()
        reader = EdgeReader(self, server, "short read")
        sent = self.spill(client)
        self.agent.stop()
        self.agent.start()
        wait_until(self.readers_are_watched, "readers are watched")
        with self.moving(splice_drained=1, splice_kicked=1):
            reader.read_until(sent)

    def strand(self, before=lambda: None, chunk=4096):
        """A reader of a connection that is over, and how many bytes it has unread, the last of them
        by TCP. To be done before its end."""
        client, server = self.open()
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(read(client, 1), b"")
        sent = self.spill(client, chunk)
        before()
        client.close()
        wait_until(lambda: state(server) == "CLOSE", "both ends are over")
        return server, sent

    def read_stranded(self, habit, before=lambda: None, after=lambda: None):
        """To be done around the end of the connection."""
        server, sent = self.strand(before)
        reader = EdgeReader(self, server, habit)
        after()
        reader.read_until(sent)
        self.assertEqual(read(server, 1), b"")

    def test_reader_of_a_connection_that_is_over(self):
        for habit in self.HABITS:
            with self.subTest(habit=habit):
                self.read_stranded(habit)

    def test_reader_of_a_connection_that_is_over_elsewhere(self):
        """Who is known for the socket does not have it any more."""
        server, sent = self.strand()
        reader = EdgeReader(self, server, "FIONREAD")
        begin, begun = map(self.keep, socket.socketpair())

        def read_all():
            begin.recv(1)
            reader.read_until(sent)
        child = self.world.app.start(read_all)
        server.close()
        begun.send(b"!")
        child.result()

    def readers_are_watched(self):
        return any("sock_recv_length" in info for info in infos_of(self.agent.process.pid))

    def test_readers_that_close_with_bytes_unread(self):
        """None is waited for any more: what watches them costs every recv() of the host."""
        readers = [self.strand()[0] for _ in range(5)]
        self.agent.ask("status")
        self.assertTrue(self.readers_are_watched())
        for server in readers:
            server.close()
        wait_until(lambda: not self.readers_are_watched(), "nobody is watched")

    def test_reader_that_is_taken_out_by_an_agent_that_is_killed_then(self):
        """The next one tells it."""
        server, sent = self.strand(self.kill_agent, 3000)
        reader = EdgeReader(self, server, "short read")
        with self.assertRaisesRegex(AssertionError, "asleep"):
            reader.read_until(sent, 0.1)
        for entry in self.dump("shunt_ends"):
            subprocess.run(["bpftool", "map", "delete", "pinned", self.agent.pin("shunt_ends"),
                            "key", *entry["key"]], check=True)
        self.agent.start()
        reader.read_until(sent)

    def test_reader_that_a_new_agent_finds_that_does_not_splice(self):
        """Nor did the one before, at last."""
        def restart():
            self.agent.reload(**self.mesh | {"splice": "off"})
            self.agent.stop()
            self.agent.start()
        self.addCleanup(self.agent.reload, **self.mesh)
        self.read_stranded("FIONREAD", after=restart)

    def test_reader_of_a_connection_that_is_over_at_a_detach(self):
        """It keeps its bytes, and the operator is told that something stays."""
        server, sent = self.strand()
        self.addCleanup(self.agent.start)
        self.agent.detach()
        self.assertIn("1 sockets have spliced bytes", self.agent.read_log())
        self.assertEqual(read_pattern(server, sent), "right")
        self.assertEqual(read(server, 1), b"")

    def test_reader_that_cannot_be_visited_for_a_while(self):
        """The agent has as many files open as it may, or the number is another file's by now."""
        log = f"{self.world.directory}/calls"

        def tries():
            with open(log, encoding="utf-8") as calls:
                return sum("INJECTED" in line for line in calls)
        for error, habit in ("EMFILE", "short read"), ("EBADF", "FIONREAD"):
            with self.subTest(error=error), contextlib.ExitStack() as stack:
                def begin(stack=stack, error=error):
                    stack.enter_context(injected(self.agent, f"pidfd_getfd:error={error}", log=log))

                def end(stack=stack):
                    before = tries()
                    wait_until(lambda: tries() > before + 2, "it is tried again and again")
                    stack.close()
                self.read_stranded(habit, begin, end)

    @contextlib.contextmanager
    def reading(self, sock, page, size):
        """Into a page that is not there: it has the socket's lock."""
        def recv():
            got.append(libc.recv(sock.fileno(), page.address, size, socket.MSG_DONTWAIT))
        got = []
        thread = threading.Thread(target=recv)
        thread.start()
        try:
            wait_until(page.is_wanted, "the page is waited for")
            yield
        finally:
            page.close()
            thread.join()
        self.assertEqual(got, [size])

    def test_reader_that_has_its_lock(self):
        """The agent does not wait for it, and does not forget it."""
        server, sent = self.strand()
        page = MissingPage(self)
        with self.reading(server, page, page.SIZE):
            trace = Trace(self.agent, f"{self.world.directory}/trace")
            with contextlib.closing(trace):
                wait_until(lambda: sum("BPF_ITER_CREATE" in line for line in trace.lines()) > 2,
                           "it was passed by")
            self.assertTrue(self.readers_are_watched())
        self.assertEqual(page.memory[:], pattern(page.SIZE))
        self.assertEqual(read_pattern(server, sent - page.SIZE, page.SIZE), "right")

    def test_writer_does_not_wait_for_its_reader(self):
        """A page of memory is not there: that of one end alone, and only it waits."""
        client, server = self.open()
        size = 100

        def answer(sock):
            answered.append(send(sock, pattern(size)))
        for ahead in 0, 1:  # bytes unread, before those that are read to the page
            with self.subTest(ahead=ahead):
                answered = []
                page = MissingPage(self)
                write(client, pattern(page.SIZE + ahead))
                self.assertEqual(read(server, ahead), pattern(ahead))
                thread = threading.Thread(target=answer, args=[client])
                with self.reading(server, page, page.SIZE):
                    thread.start()
                    thread.join(DEADLINE)
                    self.assertEqual(answered, [size])
                thread.join()
                self.assertEqual(page.memory[:], pattern(page.SIZE, ahead))
                self.assertEqual(read(server, size), pattern(size))
                self.converse_until(client, server, lambda: self.members() == 2,
                                    "it is spliced again")

    def test_both_ends_send_at_once(self):
        """Each finds the other's lock held, by a send() that looks at its own."""
        size, many, rounds = 100, 48, 64
        barrier = threading.Barrier(2)

        def burst(sock):
            barrier.wait()
            sent.append(libc.sendmmsg(sock.fileno(), messages, many, 0))
        messages = equal_messages(pattern(size), many)
        spilled = []
        for _ in range(rounds):
            client, server = self.open()
            before, sent = self.count("splice_spilled"), []
            threads = [threading.Thread(target=burst, args=[sock]) for sock in (client, server)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(sent, [many, many])
            spilled.append(self.count("splice_spilled") - before)
            for sock in client, server:
                self.assertEqual(read(sock, many * size), many * pattern(size))
                sock.close()
        # One alone may have lost its processor; that both have at once is rare.
        self.assertLess(spilled.count(2), rounds / 16, spilled)

    def test_end_while_another_thread_sends(self):
        """What it has begun to send past TCP arrives, though bytes of TCP came before the end."""
        small, large = 100, 1000  # one fits, the other does not
        client, server = self.open(
            options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)],
            listener_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(read(client, 1), b"")
        write(client, pattern(small))
        page = MissingPage(self)
        with self.reading(server, page, small):
            sender = threading.Thread(target=client.send, args=(pattern(small, small),))
            with self.moving(splice_spilled=1):
                sender.start()
                # If nobody looked at the reader's lock the send() would wait for that, and be under
                # way below (tests/torture/guards.sh).
                wait_until(lambda: not sender.is_alive() or waits_for_lock(sender.native_id),
                           "it has sent, or waits for the reader")
                write(client, pattern(large, 2 * small))
            client.shutdown(socket.SHUT_WR)
        sender.join()
        wait_until(lambda: state(server) == "CLOSE", "both ends are over")
        self.assertEqual(page.memory[:small], pattern(small))
        self.assertEqual(read_pattern(server, small + large, small), "right")
        self.assertEqual(read(server, 1), b"")

    def test_reader_whose_connection_ends_before_it_is_visited(self):
        """By the pair's flags it is not in the sockhash, as one is that an agent left there. (The
        pair goes on, for the other end does not hear of its end.)"""
        client, server = self.open()
        netns, port = self.world.app.netns, server.getsockname()[1]
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(read(client, 1), b"")
        sent = self.spill(client, 4096)
        wait_until(lambda: queue(client, SIOCOUTQ) == 0, "all is acknowledged")
        try:
            netns.nft(f"""
                table ip shunt_test {{
                    chain output {{
                        type filter hook output priority 0
                        tcp sport {port} drop
                    }}
                }}""")
        except FileNotFoundError as error:
            self.kernel_lacks("nftables", error, errno.ENOENT)
        self.addCleanup(netns.nft, "delete table ip shunt_test")
        with injected(self.agent, "pidfd_getfd:delay_enter=3000000"):
            self.agent.reload(**self.mesh)  # it looks for strays after that
            wait_until(lambda: system_call(self.agent.process.pid) == PIDFD_GETFD,
                       "it is about to visit somebody")
            client.close()
            wait_until(lambda: state(server) == "CLOSE", "one end is over")
        self.agent.ask("status")
        self.assertEqual(read_pattern(server, sent), "right")
        self.assertEqual(read(server, 1), b"")

    def test_reader_of_a_connection_that_ends_without_an_agent(self):
        """The next one cares for it."""
        self.read_stranded("FIONREAD", self.kill_agent, self.agent.start)

    def replace_agent(self):
        """One that has heard of all so far, and is killed."""
        for _ in range(2):  # it hears what was before the first in the same turn of its loop
            self.agent.ask("status")
        self.kill_agent()
        self.agent.start()

    def test_reader_that_the_agent_is_told_of_and_killed(self):
        for habit in self.HABITS:
            with self.subTest(habit=habit):
                self.read_stranded(habit, after=self.replace_agent)

    def test_reader_that_is_through_when_its_connection_ends(self):
        """What waits at the end went by TCP alone: it is as if nothing had been spliced."""
        client, server = self.open()
        sent = self.spill(client, 4096)
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(read_pattern(server, sent - 4096), "right")
        client.close()
        wait_until(lambda: state(server) == "CLOSE", "both ends are over")
        self.assertEqual(queue(server, termios.FIONREAD), 4096)
        self.assertEqual(read_pattern(server, 4096, sent - 4096), "right")

    def spill_without_agent(self, habit, unread=b""):
        client, server = self.open()
        reader = EdgeReader(self, server, habit)
        write(server, unread)
        sent = self.spill(client)
        self.kill_agent()
        try:
            # No acknowledgement is left to be sent that would do.
            wait_until(lambda: queue(client, SIOCOUTQ) == 0, "all is acknowledged")
            reader.read_until(sent, AGENTLESS)
            self.assertEqual(read(client, len(unread)), unread)
            self.converse(client, server)
        finally:
            self.doCleanups()

    def test_short_reads_without_an_agent(self):
        for habit in self.HABITS:
            with self.subTest(habit=habit):
                self.spill_without_agent(habit)
            self.introduce()

    def test_writer_that_does_not_read_without_an_agent(self):
        """The sockets cannot be taken out as long as that is so."""
        self.spill_without_agent("short read", b"unread")

    def test_spills_without_an_agent(self):
        """Also one that comes after its end."""
        client, server = self.open()
        reader = EdgeReader(self, server, "short read")
        self.kill_agent()
        sent = fill(client, 0, 3000)
        reader.read_until(sent, AGENTLESS)
        self.converse(client, server)


class KeepAlive(SpliceCase):
    """The timer of a reader at the boundary is lent, and given back."""

    LENT = [1, 1, 1, 127]  # as settings_of() has them

    def settings_of(self, sock):
        options = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT
        return ([sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
                + [sock.getsockopt(SOL_TCP, option) for option in options])

    def borrow(self, meanwhile=lambda server: None):
        """What it is set to before, and after."""
        client, server = self.open()
        before = self.settings_of(server)
        sent = self.spill(client)
        wait_until(lambda: self.settings_of(server) == self.LENT, "it is lent")
        meanwhile(server)
        lent = self.settings_of(server)
        self.assertEqual(read_pattern(server, sent), "right")
        wait_until(lambda: self.settings_of(server) != lent, "it is given back")
        return before, self.settings_of(server)

    def test_untouched(self):
        before, after = self.borrow()
        self.assertEqual(before[0], 0)
        self.assertEqual(after, before)

    def test_set_meanwhile(self):
        def enable(server):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            server.setsockopt(SOL_TCP, socket.TCP_KEEPIDLE, 77)
        before, after = self.borrow(enable)
        self.assertEqual(after, [1, 77] + before[2:])


class Handshakes(SpliceCase):
    def test_syn_cookies(self):
        before = self.world.app.netns.sysctl("ipv4/tcp_syncookies", 2)
        self.addCleanup(self.world.app.netns.sysctl, "ipv4/tcp_syncookies", before)
        for address in "127.0.0.1", "::1":
            for _ in range(10):
                self.converse(*self.pair(address))

    def test_full_accept_queue(self):
        """The server's end is done after the client has sent: nothing may be overtaken."""
        listener = self.listen()
        listener.setsockopt(SOL_TCP, socket.TCP_DEFER_ACCEPT, 30)
        clients = [self.dial(listener.getsockname()) for _ in range(4)]
        listener.listen(0)
        for n, client in enumerate(clients):
            write(client, pattern(1000, n))
        for client in clients:
            write(client, pattern(1000))
        servers = {}
        for _ in clients:
            server = self.accept_from(listener)
            servers[server.getpeername()] = server
        for n, client in enumerate(clients):
            server = servers[client.getsockname()]
            self.assertEqual(read(server, 2000), pattern(1000, n) + pattern(1000))
            self.converse(client, server)

    def test_server_that_speaks_first(self):
        client, server = self.pair()
        write(server, b"220 hello")
        self.assertEqual(read(client, 9), b"220 hello")
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced")
        self.assert_splices(client, server)

    def test_data_before_accept(self):
        listener = self.listen()
        with self.spliced():
            client = self.dial(listener.getsockname())
            write(client, pattern(5000))
            server = self.accept_from(listener)
            self.assertEqual(read_pattern(server, 5000), "right")


class Ends(SpliceCase):
    def test_five_thousand_short_connections(self):
        """One third each: the server closes first, the client resets, the client is gone before the
        server looks. Nothing is left, of pairs or of sockets."""
        listener = self.listen()
        name = listener.getsockname()

        def dial():
            sock = socket.socket()
            sock.setblocking(False)
            attempt(sock.connect, name)
            await_event(sock, select.POLLOUT)
            return sock

        def accept():
            await_event(listener, select.POLLIN)
            flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            return socket.socket(fileno=check(libc.accept4(listener.fileno(), None, None, flags)))
        before = self.agent.counters()
        for n in range(1667):
            with dial() as client, accept() as server:
                write(client, b"%4d" % n)
                self.assertEqual(read(server, 4), b"%4d" % n)
                write(server, pattern(2000))
                server.close()
                self.assertEqual(read(client, 2001), pattern(2000))
            with dial() as client, accept() as server:
                write(client, b"!")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with dial() as client:
                write(client, b"%4d" % n)
            with accept() as server:
                self.assertEqual(read(server, 5), b"%4d" % n)
        after = self.agent.counters()
        self.assertEqual(after["splice_paired"] - before["splice_paired"], 3 * 1667)
        self.assertGreater(after["splice_bytes"] - before["splice_bytes"], 1667 * 2000)
        wait_until(lambda: self.pairs() == [], "no pair is left", SOON)
        self.assertEqual(self.members(), 0)

    def test_half_closed(self):
        client, server = self.open()
        write(client, pattern(5000))
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(send(client, b"!"), "EPIPE")
        self.assertEqual(read(server, 5001), pattern(5000))
        with self.spliced():
            write(server, pattern(5000))
            self.assertEqual(read(client, 5000), pattern(5000))

    def test_closed_reader_whose_place_another_socket_takes(self):
        """What it would have read is no spill: nobody would say that it was over."""
        for _ in range(8):
            client, server = self.open()
            client.close()
            await_event(server, select.POLLRDHUP)
            wait_until(lambda: any(pair["flags"] & CLOSED_CLIENT for pair in self.pairs()),
                       "the client's end is over")
            with contextlib.ExitStack() as others, self.moving(splice_spilled=0):
                for _ in range(4):
                    others.enter_context(self.connection())
                self.assertEqual(send(server, b"!"), 1)
                await_event(server, select.POLLHUP)
                server.close()
        self.assertEqual([entry["formatted"]["value"]["spilled"]
                          for entry in self.dump("shunt_control")], [0])

    def test_closing_counts_nothing(self):
        """The end of a connection is no spill, no leaving."""
        with self.moving(splice_spilled=0, splice_left=0, splice_taken_out=0, splice_kicked=0,
                          splice_plain_spilled=0, splice_plain_behind=0):
            for first in range(2):
                ends = self.open()
                for end in ends[first], ends[1 - first]:
                    end.shutdown(socket.SHUT_WR)
                self.assertEqual([read(end, 1) for end in ends], [b"", b""])
                for end in ends:
                    end.close()
            wait_until(lambda: self.pairs() == [], "no pair is left", SOON)


if __name__ == "__main__":
    main()
