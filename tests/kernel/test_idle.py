#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An agent that nobody asks and around which nothing happens does nothing: no timer, no polling."""
import contextlib
import http.client
import os
import signal
import subprocess
import time

from case import main
from sandbox import DEADLINE, PATIENCE, Place, wait_until
from semantics import fill, pattern, read, write
from splice_case import SpliceCase

LISTEN = "127.0.0.1", 9470
QUIET = 10  # seconds; the slowest timer that the agent has is one of 8
WALK = 0.25  # seconds between two walks, at the least
MANY = 50  # connections
WINDOWS = 6 * PATIENCE  # … of that length: what began before may take a while to end


class Trace:
    """The agent's system calls, of all its threads."""

    def __init__(self, agent, path):
        self.path, self.pid = path, agent.process.pid
        self.tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", path, "-p", str(self.pid)],
                                       stdin=subprocess.DEVNULL)
        wait_until(self.has_all, "strace has the agent")

    def has_all(self):
        def tracer_of(task):
            with open(f"/proc/{self.pid}/task/{task}/status", encoding="ascii") as status:
                return f"TracerPid:\t{self.tracer.pid}\n" in status.read()
        return all(map(tracer_of, os.listdir(f"/proc/{self.pid}/task")))

    def lines(self):
        with open(self.path, encoding="utf-8", errors="replace") as trace:
            return trace.read().splitlines()

    def close(self):
        self.tracer.send_signal(signal.SIGINT)
        self.tracer.wait(DEADLINE)


class Idle(SpliceCase):
    mesh = SpliceCase.mesh | {"cgroups": "/app", "sidecar_cgroups": "/proxy"}

    @classmethod
    def setUpClass(cls):
        """It knows no cgroups but the test's: others come and go. And it answers HTTP with the other
        host, where no other agent listens."""
        cls.agent.settings = {"cgroup_root": cls.world.cgroup.directory,
                              "metrics_listen": "%s:%u" % LISTEN}
        cls.agent.configure(**cls.mesh)
        cls.agent.stop()
        with cls.world.far.netns.inside():
            cls.agent.start()
        super().setUpClass()

    def setUp(self):
        """The agent finds a network namespace by a process that is in it, and this one comes and
        goes."""
        self.keep(self.world.app.start(signal.pause))
        super().setUp()

    @contextlib.contextmanager
    def traced(self):
        trace = Trace(self.agent, f"{self.world.directory}/trace")
        try:
            yield trace
        finally:
            trace.close()

    def assert_comes_to_rest(self):
        """What was begun ends, and then there is not one system call for longer than any timer."""
        with self.traced() as trace:
            for _ in range(WINDOWS):
                before = trace.lines()
                time.sleep(QUIET)
                moved = trace.lines()[len(before):]
                if not moved:
                    break
            self.assertEqual(moved, [])
            # It would have been seen.
            self.agent.ask("status")
            wait_until(lambda: len(trace.lines()) > len(before), "a question is seen")

    @staticmethod
    def walks(trace):
        return sum("BPF_ITER_CREATE" in line for line in trace.lines())

    def scrape(self):
        with self.world.far.netns.inside():
            connection = http.client.HTTPConnection(*LISTEN)
            connection.connect()
        connection.request("GET", "/metrics")
        self.assertIn(b"shunt_rung", connection.getresponse().read())
        connection.close()

    def stream(self, client, server):
        """Until it has left."""
        def goes_on():
            for n in range(64):
                write(client, pattern(4096, n))
                self.assertEqual(read(server, 4096), pattern(4096, n))
            return self.members() < before
        before = self.members()
        wait_until(goes_on, "both ends are out")

    def test_open_connections(self):
        """Spliced ones, one that streamed and left, ones that were never spliced; metrics were
        asked for once."""
        for _ in range(3):
            self.open()
        self.stream(*self.open())
        plain = [self.pair(blocks=True), self.pair(server_blocks=True)]
        for pair in plain:
            self.converse(*pair)
        self.scrape()
        self.assert_comes_to_rest()
        # The agent is told when one of them is of interest again.
        client, server = plain[0]
        client.setblocking(False)
        adopted = self.count("splice_adopted")
        self.converse_until(client, server, lambda: self.count("splice_adopted") > adopted,
                            "it is let in")
        self.assert_splices(client, server)

    def test_connections_in_blocking_mode(self):
        """Each of them may be spliced one day, which is no reason to look for each at once."""
        listener = self.listen()
        clients = [self.keep(self.world.app.new_socket()) for _ in range(MANY)]
        with self.traced() as trace:
            began = time.monotonic()
            for client in clients:
                client.connect(listener.getsockname())
                self.accept_from(listener)
                self.agent.ask("status")  # it has been told of this one
            wait_until(lambda: self.walks(trace), "the agent looks for them")
            looked, took = self.walks(trace), time.monotonic() - began
        self.assertLessEqual(looked, 2 + took / WALK)

    def test_connection_whose_cgroup_is_gone(self):
        """Nobody can do anything for it any more, and to look for it again is of no use."""
        nested = self.world.app.cgroup.child("nested")
        self.agent.reload(**self.mesh | {"cgroups": "/app, /app/nested"})
        self.addCleanup(self.agent.reload, **self.mesh)
        client, server = self.pair(by=Place(nested, self.world.app.netns), blocks=True)
        self.converse(client, server)
        nested.remove()
        self.assert_comes_to_rest()

    def test_reader_that_does_not_read(self):
        """It tells when it does; until then there is nothing to look for again and again."""
        client, _ = self.open()
        with self.traced() as trace:
            fill(client)
            self.assertGreater(self.count("splice_spilled"), 0)
            began = time.monotonic()
            time.sleep(3)
            walks, took = self.walks(trace), time.monotonic() - began
        self.assertLessEqual(walks, 2 + took / WALK)

    def test_nothing_is_enrolled(self):
        self.agent.reload(cgroups="/nobody", sidecar_cgroups="/nothing")
        self.addCleanup(self.agent.reload, **self.mesh)
        self.assert_comes_to_rest()


if __name__ == "__main__":
    main()
