# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tests of splicing begin with: connections with both ends in this process."""
import contextlib
import json
import select
import socket
import subprocess

from case import FAR4, FAR6, POD4, SOON, Case, attempt, family_of
from sandbox import Place, check, libc, wait_until
from semantics import await_event, pattern, read, write

MEMBER = 1 << 4 | 1 << 5  # SHUNT_PAIR_MEMBER of either end
# What is not to be sent to the sidecar: the tests' connections go where they are dialled.
DIRECT = {"exclude_cidrs": "10.83.0.0/16, 10.99.0.0/16, fd83::/16"}


class SpliceCase(Case):
    mesh = {"splice": "node"} | DIRECT

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.splices = cls.can_splice()

    def setUp(self):
        """There is no sidecar: the connections are the programs' own."""
        if not self.splices:
            self.leave_out()
        if self.mesh["splice"] != "off":
            self.introduce()

    def tearDown(self):
        self.doCleanups()
        super().tearDown()
        wait_until(lambda: self.pairs() == [], "no pair is left", SOON)
        self.assertEqual(self.members(), 0)

    def dump(self, name):
        dump = subprocess.run(
            ["bpftool", "-j", "map", "dump", "pinned", self.agent.pin(name)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
        return json.loads(dump) if dump else []

    def pairs(self):
        """One that goes while they are read is told as an error."""
        return [entry["formatted"]["value"] for entry in self.dump("shunt_pairs")
                if "formatted" in entry]

    def members(self):
        """How many sockets the sockhash holds; without programs that splice there is none."""
        return len(self.dump("shunt_ends")) if self.agent.has_pin("shunt_ends") else 0

    def count(self, name):
        return self.agent.counters()[name]

    @contextlib.contextmanager
    def moving(self, **expected):
        """These counters move by so much; others may too."""
        before = self.agent.counters()
        yield

        def moved():
            after = self.agent.counters()
            return {name: after[name] - before[name] for name in expected}
        with contextlib.suppress(AssertionError):
            wait_until(lambda: moved() == expected, "they have moved", SOON)
        self.assertEqual(moved(), expected)

    def introduce(self):
        """Until the agent knows the program: this one, always the same."""
        def is_known():
            before = self.count("splice_paired")
            with self.connection():
                return self.count("splice_paired") > before
        place = self.world.proxy if self.mesh["splice"] == "sidecar" else self.world.app
        with self.temporary(place):
            wait_until(is_known, "a connection is spliced")

    @contextlib.contextmanager
    def temporary(self, place):
        """Listeners are of this place."""
        self.place, before = place, getattr(self, "place", None)
        yield
        self.place = before

    @contextlib.contextmanager
    def connection(self):
        """One that is over at the end."""
        listener = self.listen()
        client = self.dial(listener.getsockname())
        server = self.accept_from(listener)
        with listener, client, server:
            yield client, server

    def listen(self, address="127.0.0.1", port=0, *, place=None, blocks=False, options=()):
        place = place or getattr(self, "place", None) or self.world.app
        sock = self.keep(place.new_socket(family_of(address)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(blocks)
        sock.bind((address, port))
        sock.listen()
        return sock

    def dial(self, name, *, place=None, blocks=False, options=(), bind=None):
        sock = self.keep((place or self.world.app).new_socket(family_of(name[0])))
        for option in options:
            sock.setsockopt(*option)
        if bind:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(bind)
        sock.setblocking(blocks)
        if attempt(sock.connect, name[:2]) not in (None, "EINPROGRESS"):
            raise AssertionError("cannot connect")
        await_event(sock, select.POLLOUT)
        return sock

    def accept_from(self, listener, blocks=False):
        await_event(listener, select.POLLIN)
        flags = socket.SOCK_CLOEXEC | (0 if blocks else socket.SOCK_NONBLOCK)
        sock = socket.socket(fileno=check(libc.accept4(listener.fileno(), None, None, flags)))
        sock.setblocking(blocks)
        return self.keep(sock)

    def pair(self, address="127.0.0.1", dialled=None, *, at=None, by=None, server_blocks=False,
             **how):
        """A connection's client and server. at, by: the places of the listener and the client."""
        listening = {k[9:]: how.pop(k) for k in list(how) if k.startswith("listener_")}
        listener = self.listen(address, place=at, **listening)
        port = listener.getsockname()[1]
        client = self.dial((dialled or address, port), place=by, **how)
        return client, self.accept_from(listener, server_blocks)

    def converse(self, client, server, rounds=4, size=100):
        """Back and forth; every byte has to arrive in its place."""
        for n in range(rounds):
            for one, other in (client, server), (server, client):
                write(one, pattern(size, n))
                self.assertEqual(read(other, size), pattern(size, n))

    def converse_until(self, client, server, condition, what):
        def goes_on():
            self.converse(client, server)
            return condition()
        wait_until(goes_on, what)

    @contextlib.contextmanager
    def spliced(self):
        """Every byte of a conversation goes past TCP."""
        before = self.agent.counters()
        yield
        after = self.agent.counters()
        moved = {name: after[name] - before[name]
                 for name in ("splice_bytes", "splice_plain_bytes")}
        self.assertGreater(moved["splice_bytes"], 0, {
            name: after[name] - before[name] for name in after if after[name] != before[name]})
        self.assertEqual(moved["splice_plain_bytes"], 0)

    @contextlib.contextmanager
    def unspliced(self):
        before = self.count("splice_bytes")
        yield
        self.assertEqual(self.count("splice_bytes"), before)

    def assert_splices(self, client, server):
        with self.spliced():
            self.converse(client, server)

    def assert_plain(self, client, server):
        with self.unspliced():
            self.converse(client, server)

    def open(self, *arguments, **how):
        """A pair that is spliced both ways."""
        client, server = self.pair(*arguments, **how)
        self.assert_splices(client, server)
        return client, server

    def spill(self, client, chunk=3000):
        """Sends so much that the end of it is left to TCP, and TCP has taken it; how much."""
        spilled, sent = self.count("splice_spilled"), 0
        while self.count("splice_spilled") == spilled:
            for _ in range(8):
                write(client, pattern(chunk, sent))
                sent += chunk
        return sent

    def in_far(self):
        """The application's cgroup, in the network namespace at the other end of the link."""
        return Place(self.world.app.cgroup, self.world.far.netns)

    def renew_agent(self, **limits):
        """Nothing is kept: the maps get other sizes."""
        self.agent.limits = limits
        self.agent.configure(**self.mesh)
        self.agent.detach()
        self.agent.start()

    def kill_agent(self):
        """It comes back at the end of the test."""
        self.agent.process.kill()
        self.agent.process.wait()
        self.addCleanup(self.revive_agent)

    def revive_agent(self):
        if self.agent.process.poll() is not None:
            self.agent.start()


__all__ = ["DIRECT", "FAR4", "FAR6", "MEMBER", "POD4", "SpliceCase"]
