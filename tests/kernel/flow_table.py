# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many connections without a socket: entries of the map, as the kernel half would write them."""
import ctypes
import os
import socket
import struct
import time

REDIRECTED = 1  # SHUNT_PAIR_REDIRECTED
PAIR_SIZE, END_SIZE = 112 + 2 * 136, 136  # of struct shunt_pair and struct shunt_end
PORTS = 60_000  # of one address
FIRST_PORT = 1024


def endpoint(address, port):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address) + struct.pack(">H2x", port)


class FlowTable:
    """Number n comes from port FIRST_PORT + n, has moved n KiB, and is the younger the higher."""

    def __init__(self, agent, cgroups):
        self.libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
        self.fd = self.check(self.libbpf.bpf_obj_get(agent.pin("shunt_pairs").encode()))
        self.cgroups = [os.stat(cgroup.directory).st_ino for cgroup in cgroups]
        self.begun = time.monotonic_ns()
        self.keys = []

    @staticmethod
    def check(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "shunt_pairs cannot be changed")
        return result

    def pair(self, n):
        opened = self.begun // 2 + n * 10**3  # a host may have been up for a minute only
        pair = endpoint("10.83.0.1", 80) + endpoint("127.0.0.1", 15001) + \
            endpoint(f"10.84.0.{n // PORTS}", FIRST_PORT + n % PORTS) + \
            struct.pack("=6I4x3Q", REDIRECTED, 0, 0, 0, 0, 0, opened, opened + 70_000, 0)
        for cgroup in self.cgroups:
            pair += struct.pack("=3Q4I4Q", 0, cgroup, 0, os.getpid(), 0, 2, 0, 512 * n, n, 0,
                                0).ljust(END_SIZE, b"\0")
        assert len(pair) == PAIR_SIZE
        return pair

    def fill(self, count):
        """Up to so many."""
        for n in range(len(self.keys), count):
            self.keys.append(struct.pack("=2I", n + 1, ~n & 0xffffffff))
            self.check(self.libbpf.bpf_map_update_elem(self.fd, self.keys[-1], self.pair(n), 0))

    def close(self):
        for key in self.keys:
            self.check(self.libbpf.bpf_map_delete_elem(self.fd, key))
        os.close(self.fd)
