#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent under valgrind: started, reloaded a thousand times, asked all it can be asked, stopped;
and with system calls that fail.

Nothing may be lost, no file descriptor left open, and no memory read or written that is not its
own.
"""
import contextlib
import os
import socket
import struct
import subprocess
import threading

from case import FAR4, Agent, OwnAgentCase, injected, main
from sandbox import check, die_with_parent, libc, wait_until

RELOADS = 1000
SUPPRESSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "valgrind.suppressions")
# Which meshes there are, whether anything is spliced and what is attached where changes each time.
CHANGES = [
    {"splice": "off"},
    {"splice": "node", "exclude_cidrs": "10.0.0.0/8, fd00::/8", "exclude_ports": "22, 80-90"},
    {"splice": "sidecar", "exclude_uids": "7, 8", "include_ports": "1-1024"},
    {"splice": "netns", "sidecar_uids": "1337", "on_sidecar_down": "bypass"},
]
SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 434, 438
PIDFD_THREAD = os.O_EXCL


class Lender:
    """Does for the agent what its valgrind may not know: pidfd_open() and pidfd_getfd()."""

    def __init__(self, path):
        self.path = path
        self.lent = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                with self.listener.accept()[0] as client:
                    self.answer(client)

    def answer(self, client):
        thread, number = struct.unpack("ii", client.recv(8))
        files = []
        try:
            files.append(check(libc.syscall(SYS_PIDFD_OPEN, thread, PIDFD_THREAD)))
            files.append(check(libc.syscall(SYS_PIDFD_GETFD, files[0], number, 0)))
            self.lent += 1
            socket.send_fds(client, [struct.pack("i", 0)], files[1:])
        except OSError as e:
            client.send(struct.pack("i", e.errno))
        finally:
            for fd in files:
                os.close(fd)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


class Watched(Agent):
    """shuntd under valgrind."""

    def __init__(self, world):
        super().__init__(world)
        self.pins += "-watched"
        self.report = f"{world.directory}/valgrind"
        self.lender = Lender(f"{world.directory}/lender")

    def spawn(self):
        def prepare():
            die_with_parent()
            self.world.far.cgroup.enter()
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                # Not what is undefined: it does not know what of its argument bpf() looks at.
                ["valgrind", "--quiet", "--undef-value-errors=no", f"--suppressions={SUPPRESSIONS}",
                 "--leak-check=full", "--show-leak-kinds=definite,indirect",
                 "--errors-for-leak-kinds=definite,indirect", "--error-exitcode=99",
                 "--child-silent-after-fork=yes", f"--log-file={self.report}",
                 f"{self.world.build}/agent/shuntd", "-c", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare,
                env=os.environ | {"LD_PRELOAD": f"{self.world.build}/tests/shunt-lend.so",
                                  "SHUNT_LENDER": self.lender.path})

    def files(self):
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def read_report(self):
        """Without what valgrind says of itself: commands of bpf() that it does not know."""
        with open(self.report, encoding="utf-8") as report:
            return "".join(line for line in report if not line.startswith("--"))


class Leaks(OwnAgentCase):
    new_agent = Watched

    def tearDown(self):
        """There is no agent to ask."""

    @classmethod
    def tearDownClass(cls):
        cls.agent.lender.close()
        super().tearDownClass()

    def ask_everything(self):
        app = self.world.app.cgroup.path
        for verb in "status", "counters", "meshes", "cgroups":
            self.agent.ask(verb)
        self.agent.flows()
        self.agent.ask("classify", cgroup=f"{app}/x")
        self.agent.ask("explain", cgroup=app, destination=f"{FAR4}:80")
        self.agent.ask("explain", pid=os.getpid(), destination=f"{FAR4}:53", protocol="udp")

    def test_a_thousand_reloads(self):
        self.agent.configure()
        self.agent.start()
        for n in range(RELOADS):
            if n % 100 == 0:
                self.ask_everything()
                with self.world.proxy.listen("127.0.0.1", 0):
                    self.dial(FAR4)
            self.agent.reload(**CHANGES[n % len(CHANGES)])
            if n == len(CHANGES):
                files = self.agent.files()
        # The client that asked last may not have been let go yet.
        wait_until(lambda: self.agent.files() <= files, "no file is left open")
        self.assertGreater(self.agent.lender.lent, 0)  # it could splice
        self.assert_clean_end()

    def test_failures(self):
        """Some at once, which are mended at once; then fewer, and more, than there were before."""
        app = self.world.app.cgroup
        self.agent.configure(cgroups=f"{app.path}/*")
        self.agent.start()
        known = self.known()
        for n in 4, 1, 3, 2, 8:
            with injected(self.agent, "bpf:error=ENOMEM"):
                children = [app.child(f"c{i}") for i in range(n)]
                wait_until(lambda: self.warnings() == n, "each is told")
            wait_until(lambda: self.warnings() == 0, "all is mended")
            for child in children:
                child.remove()
            wait_until(lambda: self.known() == known, "the agent has seen them go")
        self.assert_clean_end()

    def known(self):
        return len(self.agent.ask("cgroups"))

    def warnings(self):
        return len(self.agent.ask("status")["warnings"])

    def assert_clean_end(self):
        status = self.agent.stop()
        self.assertEqual((status, self.agent.read_report()), (0, ""))
        # What it left in force goes.
        self.agent.start()
        self.agent.detach()


if __name__ == "__main__":
    main()
