#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How long shuntctl flows takes with many connections, and how long the agent answers nobody else
meanwhile. The connections are made up: entries of the map, as the kernel half would write them."""
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

FLOWS = 50_000
ROUNDS = 5


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


def main():
    build = os.path.abspath(sys.argv[1])
    world = World("bench-flows", build)
    agent = Agent(world)
    agent.configure()
    agent.start()
    table = FlowTable(agent, [world.app.cgroup, world.proxy.cgroup])
    table.fill(FLOWS)
    for arguments in ["-j", "flows"], ["flows"], ["-j", "flows", "--port", "1024"]:
        quiet = sorted(measure(agent, build, *arguments) for _ in range(ROUNDS))
        pinger = Pinger(agent)
        for _ in range(ROUNDS):
            measure(agent, build, *arguments)
        took, own, theirs = quiet[ROUNDS // 2]
        print(f"{FLOWS} flows, shuntctl {' '.join(arguments)}: {took:.2f} s (fastest "
              f"{quiet[0][0]:.2f}; on a CPU shuntctl {own:.2f}, agent {theirs:.2f}); "
              f"another question waits {pinger.stop() * 1000:.1f} ms at most")
    table.close()
    agent.stop()
    world.free()


main()
