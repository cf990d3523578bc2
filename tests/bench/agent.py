#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What many cgroups and connections cost the agent: to start, to reload, to take over from the one
before, to enrol one more cgroup, in memory; and how long it takes to tell of the connections, and
answers nobody else meanwhile. The connections are made up: entries of the map, as the kernel half
would write them."""
import ctypes
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

CGROUPS = 10_000
FLOWS = 50_000
ROUNDS = 5
NEWCOMERS = 500
PATIENCE = 120  # seconds


class Pinger:
    """Asks the agent again and again, and notes how long it had to wait."""

    def __init__(self, agent):
        self.agent, self.longest, self.over = agent, 0, False
        self.thread = threading.Thread(target=self.ping)
        self.thread.start()

    def ping(self):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.agent.socket)
            answers = sock.makefile()
            while not self.over:
                begun = time.monotonic()
                sock.sendall(b'{"verb": "classify", "cgroup": "/"}\n')
                answers.readline()
                self.longest = max(self.longest, time.monotonic() - begun)
                time.sleep(0.001)

    def stop(self):
        self.over = True
        self.thread.join()
        return self.longest


def cpu_of(pid):
    """Seconds on a CPU so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(agent, build, *arguments):
    """Seconds until it is done, and on a CPU: shuntctl's and the agent's."""
    begun, children, theirs = time.monotonic(), os.times(), cpu_of(agent.process.pid)
    with open(os.devnull, "wb") as null:
        subprocess.run([f"{build}/agent/shuntctl", "-s", agent.socket, *arguments], stdout=null,
                       check=True)
    took, after = time.monotonic() - begun, os.times()
    own = after.children_user + after.children_system
    own -= children.children_user + children.children_system
    return took, own, cpu_of(agent.process.pid) - theirs


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


def restart(agent, ready):
    agent.stop()
    agent.start()
    wait_until(ready, "all is in force", PATIENCE)


def measure_starts(agent, ready, what):
    """An agent that ends leaves everything in force, so each start is an adoption."""
    took = median([timed(restart, agent, ready) for _ in range(ROUNDS)])
    reload = median([timed(agent.ask, "reload") for _ in range(ROUNDS)])
    print(f"{what}: end and start again {took:.2f} s, reload {reload:.3f} s, "
          f"resident {memory_of(agent.process.pid):.1f} MiB")


def measure_enrolment(agent, world):
    """From mkdir() to the entry in the map."""
    entries, waits = Entries(agent), []
    for n in range(NEWCOMERS):
        directory = f"{world.app.cgroup.directory}/newcomer{n}"
        begun = time.monotonic()
        os.mkdir(directory)
        while not entries.has(directory):
            pass
        waits.append((time.monotonic() - begun) * 1000)
        os.rmdir(directory)
    entries.close()
    waits.sort()
    print(f"mkdir to entry, {NEWCOMERS} cgroups one by one: p50 {waits[NEWCOMERS // 2]:.2f} ms, "
          f"p99 {waits[NEWCOMERS * 99 // 100]:.2f} ms")


def measure_flows(agent, build):
    for arguments in ["-j", "flows"], ["flows"], ["-j", "flows", "--port", "1024"]:
        quiet = sorted(measure(agent, build, *arguments) for _ in range(ROUNDS))
        pinger = Pinger(agent)
        for _ in range(ROUNDS):
            measure(agent, build, *arguments)
        took, own, theirs = quiet[ROUNDS // 2]
        print(f"{FLOWS} flows, shuntctl {' '.join(arguments)}: {took:.2f} s (fastest "
              f"{quiet[0][0]:.2f}; on a CPU shuntctl {own:.2f}, agent {theirs:.2f}); "
              f"another question waits {pinger.stop() * 1000:.1f} ms at most")


def main():
    build = os.path.abspath(sys.argv[1])
    world = World("bench-agent", build)
    agent = Agent(world)
    agent.configure(cgroups=f"{world.app.cgroup.path}/**, {world.app.cgroup.path}", splice="off")
    print(f"first start: {timed(agent.start):.2f} s")
    measure_starts(agent, lambda: True, "1 cgroup, no connections")
    measure_enrolment(agent, world)

    def all_enrolled():
        return agent.ask("status")["cgroups"]["members"] > CGROUPS
    begun = time.monotonic()
    for n in range(CGROUPS):
        os.mkdir(f"{world.app.cgroup.directory}/{n}")
    made = time.monotonic() - begun
    wait_until(all_enrolled, "all cgroups are enrolled", PATIENCE)
    print(f"{CGROUPS} cgroups made in {made:.2f} s, enrolled {time.monotonic() - begun:.2f} s after "
          "the first")
    table = FlowTable(agent, [world.app.cgroup, world.proxy.cgroup])
    table.fill(FLOWS)
    measure_starts(agent, all_enrolled, f"{CGROUPS} cgroups, {FLOWS} connections")
    measure_enrolment(agent, world)
    measure_flows(agent, build)
    table.close()
    agent.stop()
    world.free()


main()
