#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Upgrade and rollback, under traffic, between builds that differ; and starts that fail."""
import glob
import os
import signal

from case import main
from sandbox import wait_until
from survive_case import REDIRECTED, SurviveCase, bpftool

ROUNDS = 3
STRIDE = 4


class Upgrade(SurviveCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.change_to, None)

    def change_to(self, name, signum=signal.SIGTERM):
        """Ends the agent that is there, and starts that of another build."""
        if self.agent.process.poll() is None:
            self.agent.stop(signum)
        self.agent.program = self.build_of(name)
        self.agent.start()

    def versions(self):
        return sorted(os.listdir(self.agent.pins))

    def tags(self):
        return {name: tag for (name, tag), *_ in self.links().values()}

    def maps(self):
        return {name: bpftool("map", "show", "pinned", self.agent.pin(name))["id"]
                for name in ("shunt_socks", "shunt_pairs", "shunt_ends", "shunt_counters")}

    def test_other_programs(self):
        """They take over the maps with all that is in them."""
        tags, maps = self.tags(), self.maps()
        self.start_traffic()
        for _ in range(ROUNDS):
            for name, signum in ("text", signal.SIGTERM), (None, signal.SIGKILL):
                self.wait_for_splicing()
                self.change_to(name, signum)
                self.assertEqual(self.maps(), maps)
                self.assertEqual(self.tags() == tags, name is None)
        self.wait_for_splicing()
        self.assert_nobody_noticed(REDIRECTED)
        self.assert_as_after_a_clean_start()

    def test_another_abi(self):
        """The programs before tell of the connections that they have until these are closed."""
        before = self.versions()
        self.start_traffic()
        for _ in range(ROUNDS):
            for name in "layout", None:
                self.wait_for_splicing()
                self.change_to(name)
                if name: # some of the conversations began before
                    self.assertEqual(len(self.versions()), 2)
        self.assert_nobody_noticed(REDIRECTED)
        wait_until(lambda: self.versions() == before, "the other version is gone")
        self.assert_as_after_a_clean_start()

    def in_force(self):
        """Programs, pins and who is enrolled in what."""
        pins = glob.glob(f"{self.agent.pins}/v*/*/*")
        return {
            "pins": sorted(pins),
            "programs": {pin: bpftool("link", "show", "pinned", pin)["prog_id"]
                         for pin in pins if "/links/" in pin},
            "cgroups": [bpftool("map", "dump", "pinned", pin)
                        for pin in sorted(pins) if pin.endswith("/shunt_cgroups")],
        }

    def fail_steps(self):
        """Starts until no step is left to fail; returns how many of them failed the start."""
        failed, step, left = 0, 0, False
        while not left:
            step += 1 + self.dice.randrange(STRIDE)
            before = self.in_force()
            self.arm("fail", step)
            up = self.begin()
            left = self.disarm()
            if up:
                self.agent.stop()
                continue
            self.assertEqual(self.agent.process.returncode, 1)
            self.assertEqual(self.in_force(), before,
                             f"step {step}: {self.agent.read_log()[-400:]}")
            failed += 1
        return failed

    def test_failing_start(self):
        """What fails on the way leaves the version before in force, as it is."""
        self.agent.settings = {"fallback": "fail"}
        self.addCleanup(self.agent.settings.clear)
        self.agent.configure(**self.mesh)
        self.start_traffic()
        self.wait_for_splicing()
        for name in "text", "layout":
            self.agent.stop()
            self.agent.program = self.build_of(name)
            self.assertGreater(self.fail_steps(), 3)
            self.agent.program = self.build_of(None)
            self.agent.start()
            self.wait_for_splicing()
        self.assert_nobody_noticed(REDIRECTED)
        wait_until(lambda: len(self.versions()) == 1, "the other version is gone")
        self.assert_as_after_a_clean_start()


if __name__ == "__main__":
    main()
