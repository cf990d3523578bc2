#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What many cgroups and connections cost the agent: to start, to reload, to take over from the one
before, to enrol one more cgroup, in memory; and how long it takes to tell of the connections, and
answers nobody else meanwhile. The connections are made up: entries of the map, as the kernel half
would write them. Besides the time by the clock, which others' load makes longer, stands that on a
CPU where it says more."""
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "kernel"))
# pylint: disable=wrong-import-position
from case import Agent, World  # noqa: E402
from flow_table import FlowTable  # noqa: E402
from sandbox import wait_until  # noqa: E402

NEWCOMERS = 500
PATIENCE = 120  # seconds


class Question:
    """One connection to the agent, for one question after the other."""

    def __init__(self, agent):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(agent.socket)
        self.answers = self.sock.makefile("rb")

    def ask(self, verb, **arguments):
        """The answer as it comes."""
        self.sock.sendall(json.dumps({"verb": verb} | arguments).encode() + b"\n")
        return self.answers.readline()

    def close(self):
        self.answers.close()
        self.sock.close()


def queued(task):
    """Milliseconds that it could have run so far, but was given no CPU."""
    with open(f"/proc/{task}/schedstat", encoding="ascii") as schedstat:
        return int(schedstat.read().split()[1]) / 1e6


class Pinger:
    """Asks the agent again and again, and notes how long it had to wait; and how long of that it was
    for the agent, not for a CPU that others had."""

    def __init__(self, agent):
        self.agent, self.question = agent, Question(agent)
        self.waits, self.own, self.over = [], [], False
        self.thread = threading.Thread(target=self.ping)
        self.thread.start()

    def ping(self):
        tasks = self.agent.process.pid, f"self/task/{threading.get_native_id()}"
        while not self.over:
            starved = sum(map(queued, tasks))
            begun = time.monotonic()
            self.question.ask("classify", cgroup="/")
            wait = (time.monotonic() - begun) * 1000
            self.waits.append(wait)
            self.own.append(max(0, wait - (sum(map(queued, tasks)) - starved)))
            time.sleep(0.001)

    def stop(self):
        """The longest wait and that of the slowest hundredth, in ms; the same of what was the agent's
        own part in it."""
        self.over = True
        self.thread.join()
        self.question.close()
        return [figure for waits in (sorted(self.waits), sorted(self.own))
                for figure in (waits[-1], percentile(waits, 99))]


def percentile(values, percent):
    """Of sorted ones."""
    return values[len(values) * percent // 100]


def cpu_of(agent):
    """Seconds that it was on a CPU so far: clock_getcpuclockid(3)."""
    return time.clock_gettime(~agent.process.pid << 3 | 2)


def measure(agent, build, *arguments):
    """Seconds until it is done, and on a CPU: shuntctl's and the agent's."""
    begun, children, theirs = time.monotonic(), os.times(), cpu_of(agent)
    with open(os.devnull, "wb") as null:
        subprocess.run([f"{build}/agent/shuntctl", "-s", agent.socket, *arguments], stdout=null,
                       check=True)
    took, after = time.monotonic() - begun, os.times()
    own = after.children_user + after.children_system
    own -= children.children_user + children.children_system
    return took, own, cpu_of(agent) - theirs


def timed(function, *arguments, **keys):
    begun = time.monotonic()
    function(*arguments, **keys)
    return time.monotonic() - begun


def median(values):
    return sorted(values)[len(values) // 2]


def memory_of(pid):
    """Resident, in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        kib, = (int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return kib / 1024


class Entries:
    """Looks into shunt_cgroups."""

    def __init__(self, agent):
        self.libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
        self.fd = self.libbpf.bpf_obj_get(agent.pin("shunt_cgroups").encode())
        self.value = ctypes.create_string_buffer(64)

    def has(self, directory):
        key = ctypes.c_uint64(os.stat(directory).st_ino)
        return not self.libbpf.bpf_map_lookup_elem(self.fd, ctypes.byref(key), self.value)

    def close(self):
        os.close(self.fd)


class Bench:
    """An agent that does nothing but what is measured."""

    def __init__(self, build, cgroups, flows, rounds):
        self.build, self.cgroups, self.flows, self.rounds = build, cgroups, flows, rounds
        self.world = World("bench-agent", build)
        self.agent = Agent(self.world)
        self.directory = self.world.app.cgroup.directory

    def restart(self, ready):
        self.agent.stop()
        self.agent.start()
        wait_until(ready, "all is in force", PATIENCE)

    def starts(self, ready, what):
        """An agent that ends leaves everything in force, so each start is an adoption."""
        adoptions = [timed(self.restart, ready) for _ in range(self.rounds)]
        reloads, on_cpu = [], []
        for _ in range(self.rounds):
            before = cpu_of(self.agent)
            reloads.append(timed(self.agent.ask, "reload"))
            on_cpu.append(cpu_of(self.agent) - before)
        print(f"{what}: end and start again (adoption) {median(adoptions):.2f} s, "
              f"reload {median(reloads):.3f} s ({median(on_cpu):.3f} on a CPU), "
              f"resident {memory_of(self.agent.process.pid):.1f} MiB", flush=True)

    def enrolment(self):
        """From mkdir() to the entry in the map."""
        entries, waits = Entries(self.agent), []
        for n in range(NEWCOMERS):
            directory = f"{self.directory}/newcomer{n}"
            begun = time.monotonic()
            os.mkdir(directory)
            while not entries.has(directory):
                pass
            waits.append((time.monotonic() - begun) * 1000)
            os.rmdir(directory)
        entries.close()
        waits.sort()
        print(f"mkdir to entry, {NEWCOMERS} cgroups one by one: p50 {percentile(waits, 50):.2f} ms, "
              f"p99 {percentile(waits, 99):.2f} ms", flush=True)

    def all_enrolled(self):
        return self.agent.ask("status")["cgroups"]["members"] > self.cgroups

    def make_cgroups(self):
        begun = time.monotonic()
        for n in range(self.cgroups):
            os.mkdir(f"{self.directory}/{n}")
        made = time.monotonic() - begun
        wait_until(self.all_enrolled, "all cgroups are enrolled", PATIENCE)
        print(f"{self.cgroups} cgroups made in {made:.2f} s, enrolled "
              f"{time.monotonic() - begun:.2f} s after the first", flush=True)

    def pages(self):
        """How long the loop is busy with one answer, on a CPU: for so long nobody else has a turn."""
        question, busy = Question(self.agent), []
        for _ in range(self.rounds):
            more = {}
            while more is not None:
                before = cpu_of(self.agent)
                answer = json.loads(question.ask("flows", **more))["result"]
                busy.append((cpu_of(self.agent) - before) * 1000)
                more = {"next": answer["next"]} if answer["next"] is not None else None
        question.close()
        busy.sort()
        print(f"{self.flows} flows, one answer of {len(busy) // self.rounds}: busy "
              f"{percentile(busy, 50):.1f} ms on a CPU, {busy[-1]:.1f} at most", flush=True)

    def tell(self, *arguments):
        """By shuntctl; how long others wait meanwhile is asked for in rounds of its own."""
        quiet = sorted(measure(self.agent, self.build, *arguments) for _ in range(self.rounds))
        pinger = Pinger(self.agent)
        for _ in range(self.rounds):
            measure(self.agent, self.build, *arguments)
        longest, slow, own_longest, own_slow = pinger.stop()
        took, own, theirs = quiet[self.rounds // 2]
        print(f"{self.flows} flows, shuntctl {' '.join(arguments)}: {took:.2f} s (fastest "
              f"{quiet[0][0]:.2f}; on a CPU shuntctl {own:.2f}, agent {theirs:.2f}); another "
              f"question waits {longest:.1f} ms at most, p99 {slow:.1f} ms; less what others had the "
              f"CPUs for, {own_longest:.1f} ms, p99 {own_slow:.1f} ms", flush=True)

    def run(self):
        app = self.world.app.cgroup.path
        self.agent.configure(cgroups=f"{app}/**, {app}", splice="off")
        print(f"first start: {timed(self.agent.start):.2f} s", flush=True)
        self.starts(lambda: True, "1 cgroup, no connections")
        self.enrolment()
        self.make_cgroups()
        table = FlowTable(self.agent, [self.world.app.cgroup, self.world.proxy.cgroup])
        table.fill(self.flows)
        self.starts(self.all_enrolled, f"{self.cgroups} cgroups, {self.flows} connections")
        self.enrolment()
        self.pages()
        self.tell("-j", "flows")
        self.tell("flows")
        self.tell("-j", "flows", "--port", "1024")
        table.close()
        self.agent.stop()
        self.world.free()


def main():
    os.nice(-20)  # so that what else runs is in the way less
    build, *numbers = sys.argv[1:]
    Bench(os.path.abspath(build), *map(int, numbers)).run()


main()
