#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What it costs a spliced connection that somebody watches: streams all events, while other
connections come and go, and scrapes the metrics once in each round. Two rounds after each other on
the same connection, one of them watched, are compared; the agent is on the same CPU, so that
whatever it does is in the way. Prints the rounds as splice.sh keeps them, CPU time of the agent
included, and on stderr what a scrape and an event cost the agent."""
import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kernel"))
# pylint: disable=wrong-import-position
from case import FAR4, Agent, World  # noqa: E402
from sandbox import DEADLINE, die_with_parent, wait_until  # noqa: E402

SECONDS = 0.5  # of a round
METRICS = "127.0.0.1", 9464
SERVER, VISITED = ("127.0.0.1", 15001), ("127.0.0.1", 15003)
VISITS = 20  # connections of others, in a second
SCRAPES = 20  # to tell the cost of one
CPU = 0  # of all that is measured


def cpu_of(process):
    """Seconds that it was on a CPU so far: clock_getcpuclockid(3)."""
    return time.clock_gettime(~process.pid << 3 | 2)


def visit(listener):
    """Connections that make events; both their ends are here."""
    while True:
        with socket.create_connection(VISITED) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"here I am")
                server.recv(64)
        time.sleep(1 / VISITS)


class Exchanges:
    """A connection on which there are rounds of messages to and fro."""

    def __init__(self, world, size):
        def prepare():
            die_with_parent()
            world.app.netns.enter()
        self.process = subprocess.Popen(
            [f"{world.build}/tests/shunt-bench-splice", "-i", "-d", "-m", str(size), "-t",
             str(SECONDS), "-c", str(CPU), "-s", str(CPU), world.app.cgroup.directory,
             world.proxy.cgroup.directory, "%s:%d" % SERVER, f"{FAR4}:80"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=prepare)

    def begin(self):
        print(file=self.process.stdin, flush=True)

    def end(self):
        """Rate, median and 99th percentile, and CPU time of a byte, in ns."""
        return [float(figure) for figure in self.process.stdout.readline().split(",")]

    def close(self):
        self.process.communicate(timeout=DEADLINE)


class Watcher:
    """Listens to events while it lasts, and scrapes when it is asked to."""

    def __init__(self, agent, netns):
        self.told = 0
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(agent.socket)
        self.stream.sendall(b'{"verb": "events"}\n')
        self.lines = self.stream.makefile("rb")
        self.lines.readline()  # the answer
        self.thread = threading.Thread(target=self.read)
        self.thread.start()
        with netns.inside():
            self.http = http.client.HTTPConnection(*METRICS, timeout=DEADLINE)
            self.http.connect()

    def read(self):
        for _ in self.lines:
            self.told += 1

    def scrape(self):
        """As Prometheus does, on a connection that lasts; how long the answer is."""
        self.http.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
        return len(self.http.getresponse().read())

    def close(self):
        self.stream.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.lines.close()
        self.stream.close()
        self.http.close()


class Bench:
    def __init__(self, build):
        self.world = World("bench-watched", os.path.abspath(build))
        self.agent = Agent(self.world)
        self.agent.place = self.world.outside
        self.agent.settings = {"metrics_listen": "%s:%d" % METRICS}
        self.agent.configure(splice="node")
        self.agent.start()
        os.sched_setaffinity(self.agent.process.pid, {CPU})
        self.events, self.events_cpu = 0, 0

    def watcher(self):
        return contextlib.closing(Watcher(self.agent, self.world.outside.netns))

    def round(self, exchanges, watcher=None):
        """CSV but for what it was a round of; the agent's CPU time apart."""
        before = cpu_of(self.agent.process)
        exchanges.begin()
        time.sleep(SECONDS / 2)
        if watcher:
            watcher.scrape()
        figures = exchanges.end()
        return figures, cpu_of(self.agent.process) - before

    def introduce(self, exchanges):
        """Until the agent knows the program: not yet on the first connection."""
        before = self.agent.counters()["splice_messages"]
        self.round(exchanges)
        return self.agent.counters()["splice_messages"] - before > 100

    def connection(self, size):
        """One that is spliced."""
        found = []

        def is_spliced():
            exchanges = Exchanges(self.world, size)
            if self.introduce(exchanges):
                found.append(exchanges)
            else:
                exchanges.close()
            return found
        wait_until(is_spliced, "a connection is spliced")
        return contextlib.closing(found[0])

    def tell(self, size, number, way, figures, agent_cpu):
        rate, median, slow, cpu = figures
        cpu += agent_cpu * 1e9 / (2 * size * rate * SECONDS)
        print(f"watched exchange,1,{size},{number},{way},{rate},{median},{slow},{cpu:.4f}",
              flush=True)

    def pair(self, exchanges, size, number, scrape_cpu):
        ways = ["unwatched", "watched"]
        for way in ways if number % 2 else reversed(ways):
            if way == "unwatched":
                figures, cpu = self.round(exchanges)
                self.events_cpu -= cpu
            else:
                with self.watcher() as watcher:
                    figures, cpu = self.round(exchanges, watcher)
                self.events += watcher.told
                self.events_cpu += cpu - scrape_cpu
            self.tell(size, number, way, figures, cpu)

    def scrapes(self):
        """Seconds of CPU that one takes."""
        with self.watcher() as watcher:
            length = watcher.scrape()
            before = cpu_of(self.agent.process)
            for _ in range(SCRAPES):
                watcher.scrape()
            took = (cpu_of(self.agent.process) - before) / SCRAPES
        print(f"a scrape of {length / 1024:.0f} KiB takes the agent {took * 1000:.2f} ms on a CPU",
              file=sys.stderr)
        return took

    def run(self, pairs, sizes):
        listener = self.world.proxy.listen(*VISITED)
        visitor = self.world.app.start(visit, listener)
        scrape_cpu = self.scrapes()
        for size in sizes:
            with self.connection(size) as exchanges:
                for number in range(pairs):
                    self.pair(exchanges, size, number, scrape_cpu)
        if not self.events:
            raise AssertionError("no events were told")
        print(f"an event, of {self.events}, takes it {self.events_cpu * 1e6 / self.events:.0f} us",
              file=sys.stderr)
        visitor.close()
        listener.close()
        self.agent.stop()
        self.world.free()


def main():
    build, pairs, *sizes = sys.argv[1:]
    os.nice(-20)  # so that what else runs is in the way less
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    Bench(build).run(int(pairs), list(map(int, sizes)))


main()
