#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the agent may do, who may touch what it makes, and what it tells the service manager."""
import os
import pathlib
import re
import select
import signal
import socket
import stat
import time

from case import FAR4, Agent, Case, main
from sandbox import DEADLINE, Place, wait_until
from splice_case import SpliceCase

CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_SYS_PTRACE": 19,
                "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
KEPT = sum(1 << number for number in CAPABILITIES.values())
UNIT = "conf/shuntd.service"


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


def only(*names):
    """A command that lets others have no more than these capabilities."""
    allowed = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in names)
    return ["setpriv", f"--bounding-set=-all,{allowed}"]


class Capabilities(Case):
    def test_what_is_kept(self):
        status = status_of(self.agent.process.pid)
        for name in "CapEff", "CapPrm":
            self.assertEqual(int(status[name], 16), KEPT, name)
        for name in "CapInh", "CapAmb":
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"], "1")

    def test_nothing_is_writable_by_others(self):
        paths = [pathlib.Path(self.agent.pins), *pathlib.Path(self.agent.pins).rglob("*")]
        self.assertGreater(len(paths), 12)
        for path in paths:
            mode = path.lstat().st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o700 if stat.S_ISDIR(mode) else 0o600, path)
        self.assertEqual(stat.S_IMODE(os.stat(self.agent.socket).st_mode), 0o660)

    def test_whatever_umask_it_is_started_with(self):
        agent = Agent(self.world)
        agent.pins += "-umask"
        agent.socket = f"{self.world.directory}/umask/control.sock"
        agent.configure(cgroups=f"{self.world.outside.cgroup.path}",
                        sidecar_cgroups=f"{self.world.far.cgroup.path}")
        before = os.umask(0)
        try:
            agent.start()
        finally:
            os.umask(before)
        directory = os.path.dirname(agent.socket)
        modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (directory, agent.socket)]
        agent.detach()
        os.rmdir(directory)
        self.agent.configure()
        self.assertEqual(modes, [0o755, 0o660])


class AsTheUnitSays(SpliceCase):
    """With the capabilities of the unit, and in network namespaces that are not the agent's."""

    @classmethod
    def setUpClass(cls):
        with open(f"{cls.world.build}/{UNIT}", encoding="utf-8") as unit:
            names = re.search("^CapabilityBoundingSet=(.*)$", unit.read(), re.MULTILINE)[1].split()
        cls.agent.detach()
        cls.agent.command = only(*names)
        cls.agent.place = cls.world.far
        cls.agent.start()
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        cls.agent.detach()
        cls.agent.command = []
        cls.agent.place = None
        cls.agent.configure()
        cls.agent.start()

    def test_walks(self):
        """To leave the sockhash takes a walk through the pod's network namespace."""
        client, server = self.pair()
        self.converse_until(client, server, lambda: self.members() == 2, "both ends are in")
        self.agent.reload(**self.mesh | {"splice": "off"})
        self.addCleanup(self.agent.reload, **self.mesh)
        self.converse_until(client, server, lambda: self.members() == 0, "both ends are out")
        self.assertNotIn("cannot be passed by", self.agent.read_log())

    def test_cgroups_and_reload(self):
        app = self.world.app.cgroup
        self.agent.reload(**self.mesh | {"cgroups": f"{app.path}/*"})
        self.addCleanup(self.agent.reload, **self.mesh)
        child = app.child("child")
        self.addCleanup(child.remove)
        self.assertEqual(self.agent.ask("classify", cgroup=child.path)["role"], "member")
        place = Place(child, self.world.app.netns)
        with self.counted(connect_excluded_cidr=1):
            place.run(self.knock)

    @staticmethod
    def knock():
        with socket.socket() as sock:
            sock.connect_ex((FAR4, 9))

    def test_questions(self):
        self.pair()
        answer = self.agent.ask("flows")
        found = answer["flows"]
        while answer["next"] is not None:
            answer = self.agent.ask("flows", next=answer["next"])
            found += answer["flows"]
        self.assertEqual(len(found), 1)
        self.agent.ask("explain", pid=os.getpid(), destination=f"{FAR4}:80")


class Refusal(Case):
    def test_verifier(self):
        """Without CAP_PERFMON no program may look at the kernel's own structures."""
        agent = Agent(self.world)
        agent.pins += "-refused"
        os.mkdir(f"{self.world.directory}/refused")
        agent.socket = f"{self.world.directory}/refused/control.sock"
        agent.log = f"{self.world.directory}/refused/log"
        agent.command = only("CAP_BPF", "CAP_NET_ADMIN")
        agent.configure()
        self.addCleanup(self.agent.configure)
        process = agent.spawn()
        self.assertEqual(process.wait(DEADLINE), 1)
        lines = agent.read_log().splitlines()
        self.assertRegex(lines[-1], "could not be loaded: .*; `shuntctl doctor` tells what")
        told = [line for line in lines if "the verifier refuses a program" in line]
        if not told:
            # Without bpf_rdonly_cast() libbpf looks for it in modules, which takes more still.
            self.assertFalse(self.can_splice())
            self.assertFalse(os.path.exists(agent.pins))
            return
        details = f"{self.world.directory}/refused/verifier.log"
        for line in told:
            self.assertRegex(line, rf'program=shunt_\w+ reason="[^"]+" details={details}$')
        self.assertLess(len(lines), 8)
        self.assertEqual(stat.S_IMODE(os.stat(details).st_mode), 0o600)
        with open(details, encoding="utf-8") as file:
            self.assertIn("BEGIN PROG LOAD LOG", file.read())
        self.assertFalse(os.path.exists(agent.pins))


class Watchdog(Case):
    def setUp(self):
        super().setUp()
        self.manager = self.keep(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        path = f"{self.world.directory}/notify"
        self.manager.bind(path)
        self.addCleanup(os.unlink, path)
        self.manager.settimeout(DEADLINE)
        self.restart(NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
        self.addCleanup(self.restart)
        self.await_message("READY=1")

    def tearDown(self):
        """There may be no way to ask the agent."""

    def restart(self, **environment):
        self.agent.stop(signal.SIGKILL)
        self.agent.environment = environment
        self.agent.start()

    def await_message(self, wanted):
        while self.manager.recv(4096).decode() != wanted:
            pass

    def silence(self, seconds):
        """Has it said nothing for so long?"""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self.manager], [], [], left)[0]:
                return False
        return True

    def drain(self):
        while select.select([self.manager], [], [], 0)[0]:
            self.manager.recv(4096)

    def test_says_that_it_is_well(self):
        for _ in range(5):
            self.await_message("WATCHDOG=1")

    def test_stopped(self):
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: status_of(self.agent.process.pid)["State"].startswith("T"),
                       "it is stopped")
            self.drain()
            self.assertTrue(self.silence(1))
        finally:
            self.agent.process.send_signal(signal.SIGCONT)
        self.await_message("WATCHDOG=1")

    def test_control_socket_is_gone(self):
        """Nobody can ask it any more; a restart mends that."""
        os.unlink(self.agent.socket)
        wait_until(lambda: "left to restart the agent" in self.agent.read_log(), "it is told")
        self.drain()
        self.assertTrue(self.silence(1))
        self.restart()
        self.agent.ask("status")

    def test_nobody_asked(self):
        self.restart(NOTIFY_SOCKET=f"{self.world.directory}/notify")
        self.await_message("READY=1")
        self.assertTrue(self.silence(1))

    def test_asked_of_another(self):
        self.restart(NOTIFY_SOCKET=f"{self.world.directory}/notify", WATCHDOG_USEC="200000",
                     WATCHDOG_PID="1")
        self.await_message("READY=1")
        self.assertTrue(self.silence(1))


if __name__ == "__main__":
    main()
