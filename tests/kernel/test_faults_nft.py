#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Faults on the rung nftables, on the way to it and from it: whatever happened, nft and bpftool show
what they show after a clean start, and nothing after a detach."""
import contextlib
import os
import signal

from case import FAR4, Refused, main
from sandbox import DEADLINE, check, libc, wait_until
from test_faults import MNT_DETACH, FaultCase, bpftool, ruleset

CONNECT4 = 10  # of enum bpf_attach_type
OTHER = {"exclude_cidrs": "10.99.0.0/16", "exclude_uids": "7"}
# More rules than the agent is allowed.
TOO_MUCH = {"exclude_cidrs": ", ".join(f"10.{n}.0.0/16" for n in range(100, 200))}


class NftCase(FaultCase):
    limits = {"rules": 20}

    @classmethod
    def setUpClass(cls):
        cls.withhold(f"attach_type={CONNECT4}")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        cls.agent.environment = {}
        cls.agent.settings = {}
        super().tearDownClass()

    @classmethod
    def withhold(cls, words):
        """From the next agent."""
        cls.agent.settings = {"fallback": "nftables"}
        cls.agent.environment = {"SHUNT_WITHHOLD": words,
                                 "LD_PRELOAD": f"{cls.world.build}/tests/libshunt-withhold.so"}

    @classmethod
    def restart(cls, mesh, limits):
        super().restart(mesh, limits)
        if cls.agent.environment:
            cls.wait_for_table()

    @classmethod
    def wait_for_table(cls):
        wait_until(lambda: ruleset(cls.world, cls.world.app.netns), "the table is there")

    @classmethod
    def attached(cls):
        """All that is attached to cgroups of this test, whoever did."""
        return {cgroup.path: bpftool("cgroup", "show", cgroup.directory) for cgroup in (
            cls.world.cgroup, cls.world.app.cgroup, cls.world.proxy.cgroup)}

    @classmethod
    def state(cls):
        return {"rules of nftables": cls.rulesets(), "attached": cls.attached(),
                "pins": os.path.exists(cls.agent.pins)}

    def assert_right(self):
        self.assertEqual(self.agent.ask("status")["rung"], "nftables")
        super().assert_right()

    def assert_nothing_is_left(self):
        self.assertEqual(self.state(), {"rules of nftables": [[], []], "pins": False,
                                        "attached": dict.fromkeys(self.attached(), [])})

    def tearDown(self):
        """There are no counters on this rung."""


class Nft(NftCase):
    def test_is_what_it_is_about(self):
        """In the namespace of programs there is a table, in the other none, and no program."""
        pod, far = self.clean["rules of nftables"]
        self.assertIn({"table": {"family": "inet", "name": "shunt"}}, pod)
        self.assertEqual(far, [])
        self.assertEqual(set(map(str, self.clean["attached"].values())), {"[]"})
        self.assertFalse(self.clean["pins"])
        self.assert_right()

    def test_reload_that_fails(self):
        """The rules before stay, whole, or those after come; and the next one is right."""
        for injection in ("sendmsg:error=ENOBUFS", "setns:error=ENOMEM",
                          "sendmsg:error=ENOMEM:when=2+", "setns:error=EPERM:when=2+"):
            with self.subTest(injection):
                with self.injected(injection):
                    self.agent.configure(**self.mesh | OTHER)
                    with contextlib.suppress(Refused):
                        self.agent.ask("reload")
                self.assert_redirects()
                self.agent.reload(**self.mesh)
                self.assert_right()

    def test_reload_that_is_refused(self):
        for keys in {"tcp_redirect": "nonsense"}, TOO_MUCH:
            self.agent.configure(**self.mesh | keys)
            with self.assertRaises(Refused):
                self.agent.ask("reload")
            self.assert_right()
        self.agent.configure(**self.mesh)

    def test_removed_by_others(self):
        for command in "flush ruleset", "delete table inet shunt":
            with self.subTest(command):
                self.world.app.netns.nft(command)
                wait_until(lambda: self.state() == self.clean, "it is there again")
        self.assert_said("removed by others")
        self.agent.reload(**self.mesh)  # which forgets what was told
        self.assert_right()

    def test_kernel_that_says_no(self):
        """It is removed, and cannot be put back for a while."""
        with self.injected("setns:error=EPERM"):
            self.world.app.netns.nft("flush ruleset")
            wait_until(lambda: self.agent.ask("status")["warnings"], "it is told")
        wait_until(lambda: self.state() == self.clean, "it is there again")
        self.agent.reload(**self.mesh)  # which forgets what was told
        self.assert_right()

    def wait_until_out(self):
        """nft names a cgroup from /sys/fs/cgroup on, wherever below that the tree is mounted."""
        out = f"{self.app.path}/out".lstrip("/")
        wait_until(lambda: out in str(self.rulesets()), "it is taken out")

    def test_more_cgroups_than_the_queue_holds(self):
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            queued = int(file.read())
        self.reload(cgroups=f"{self.app.path}, !{self.app.path}/out")
        with self.stopped():
            for _ in range(queued // 2 + 1):
                os.rmdir(self.app.child("brief").directory)
            out = self.child("out")
        self.assert_said("the tree is read again")
        self.wait_until_out()
        out.remove()
        wait_until(lambda: self.state() == self.clean, "it is gone")
        self.reload()
        self.assert_right()

    def test_killed(self):
        """Rules go on, and the next agent takes them over."""
        self.agent.stop(signal.SIGKILL)
        self.assert_redirects()
        self.assertEqual(self.state(), self.clean)
        self.agent.start()
        self.assert_right()

    def test_start_that_is_refused(self):
        """What the agent before has in force stays."""
        self.agent.stop(signal.SIGKILL)
        self.agent.configure(**self.mesh | TOO_MUCH)
        try:
            self.assertEqual(self.agent.spawn().wait(DEADLINE), 1)
            self.assertEqual(self.state(), self.clean)
            self.assert_redirects()
        finally:
            self.agent.configure(**self.mesh)
            self.agent.start()
        self.assert_right()

    def test_warning_that_still_holds(self):
        """After a reload that was refused, too."""
        self.reload(on_sidecar_down="bypass")
        warnings = self.agent.ask("status")["warnings"]
        self.assertIn("bypass cannot be had", str(warnings))
        with self.assertRaises(Refused):
            self.agent.reload(**self.mesh | TOO_MUCH)
        self.assertEqual(self.agent.ask("status")["warnings"], warnings)

    def test_stopped_for_long(self):
        self.reload(cgroups=f"{self.app.path}, !{self.app.path}/out")
        with self.stopped():
            out = self.child("out")
            self.assert_redirects()
        self.wait_until_out()
        with self.stopped():
            out.remove()
        wait_until(lambda: self.state() == self.clean, "it is gone")
        self.reload()
        self.assert_right()


class Detach(NftCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.come_back)

    def come_back(self):
        if self.agent.process.poll() is None:
            self.agent.detach()
        self.agent.configure(**self.mesh)
        self.agent.start()
        self.wait_for_table()

    def test_nothing_is_left(self):
        """But for what others have."""
        self.world.app.netns.nft("add table ip theirs")
        try:
            self.agent.detach()
            self.assertEqual(self.rulesets(), [[{"table": {"family": "ip", "name": "theirs"}}], []])
        finally:
            self.world.app.netns.nft("delete table ip theirs")
        self.assert_nothing_is_left()

    def test_by_one_that_was_killed(self):
        """A later agent takes out what it did not make."""
        self.agent.stop(signal.SIGKILL)
        self.agent.start()
        self.agent.detach()
        self.assert_nothing_is_left()

    def test_start_that_fails(self):
        """Neither by programs nor by rules."""
        self.agent.detach()
        self.withhold(f"attach_type={CONNECT4} netfilter")
        try:
            self.assertEqual(self.agent.spawn().wait(DEADLINE), 1)
            self.assert_nothing_is_left()
        finally:
            self.withhold(f"attach_type={CONNECT4}")


class UpAgain(FaultCase):
    def test_file_system_that_comes(self):
        """By rules while there is none for pins; by programs alone once there is."""
        bpffs = self.world.bpffs.encode()
        self.agent.detach()
        self.agent.settings = {"fallback": "nftables"}
        self.agent.configure(**self.mesh)
        check(libc.umount2(bpffs, MNT_DETACH))
        try:
            self.agent.start()
            self.addCleanup(self.agent.reload, **self.mesh)
            self.addCleanup(self.agent.settings.clear)
            self.assertEqual(self.agent.ask("status")["rung"], "nftables")
            wait_until(lambda: ruleset(self.world, self.world.app.netns), "the table is there")
            self.assert_redirects()
        finally:
            check(libc.mount(b"none", bpffs, b"bpf", 0, None))
        self.agent.ask("reload")
        self.assertEqual(self.agent.ask("status")["rung"], "redirect")
        self.assert_right()


if __name__ == "__main__":
    main()
