#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Upgrade and rollback, under traffic, between builds that differ; and starts that fail."""
import glob
import os
import shutil
import signal

from case import FAR4, main
from sandbox import wait_until
from survive_case import REDIRECTED, SurviveCase, bpftool
from traffic import TALK_PORT, Overlap

ROUNDS = 3
STRIDE = 8


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

    def test_steady_traffic(self):
        """The version before goes although there always is a connection, for none of the later ones
        is its own: both know the sockets."""
        traffic = self.keep(Overlap(self.world.app, FAR4, TALK_PORT))
        for name in "pairs", None, "pairs", None:
            before, = self.versions()
            self.change_to(name)
            wait_until(lambda: before not in self.versions(), "the version before is gone")
        traffic.check()
        self.assertGreater(traffic.stop(), 10)
        self.assert_as_after_a_clean_start()

    def in_force(self):
        """Programs, pins and who is enrolled in what."""
        pins = glob.glob(f"{self.agent.pins}/v*/*/*")
        links = {pin: bpftool("link", "show", "pinned", pin) for pin in pins if "/links/" in pin}
        return {
            "versions": self.versions(),
            "pins": sorted(pins),
            "links": {pin: link["id"] for pin, link in links.items()},
            "programs": {pin: link["prog_id"] for pin, link in links.items()},
            "cgroups": [bpftool("map", "dump", "pinned", pin)
                        for pin in sorted(pins) if pin.endswith("/shunt_cgroups")],
        }

    def fail_at(self, step):
        """Starts, and has that step fail. Returns whether the agent came up, and whether it came
        to its end before that step."""
        before = self.in_force()
        self.arm("fail", step)
        up = self.begin()
        left = self.disarm()
        log = f"step {step}: {self.agent.read_log()[-400:]}"
        if up:
            self.agent.stop()
            links = self.in_force()["links"]
            for pin, link in before["links"].items():  # none was taken out and made anew
                self.assertEqual(links.get(pin, link), link, log)
        else:
            self.assertEqual(self.agent.process.returncode, 1)
            self.assertEqual(self.in_force(), before, log)
        return up, left

    def fail_steps(self):
        """Starts until no step is left to fail; returns how many of them failed the start. Most do
        not: of the steps that try what the kernel can, each may fail."""
        failed, step, left = 0, 0, False
        while not left:
            step += 1 + self.dice.randrange(STRIDE)
            up, left = self.fail_at(step)
            failed += not up
        return failed

    def test_failing_start(self):
        """What fails on the way leaves the version before in force, as it is."""
        self.start_traffic()
        self.wait_for_splicing()
        for name in "text", "layout":
            self.agent.stop()
            self.agent.program = self.build_of(name)
            self.assertGreater(self.fail_steps(), 0)
            self.agent.program = self.build_of(None)
            self.agent.start()
            self.wait_for_splicing()
        self.assert_nobody_noticed(REDIRECTED)
        wait_until(lambda: len(self.versions()) == 1, "the other version is gone")
        self.assert_as_after_a_clean_start()

    def test_failing_first_start(self):
        """Of a version that was never here: nothing of it is left beside that in force."""
        ours = self.versions()
        failed, step, left = 0, 0, False
        self.agent.stop()
        while not left:
            step += 1 + self.dice.randrange(STRIDE)
            self.agent.program = self.build_of("layout")
            up, left = self.fail_at(step)
            failed += not up
            if not up:
                continue
            self.change_to(None)
            self.agent.stop()
            for other in set(self.versions()) - set(ours):
                shutil.rmtree(f"{self.agent.pins}/{other}")
        self.assertGreater(failed, 0)
        self.agent.program = self.build_of(None)
        self.agent.start()
        self.assert_as_after_a_clean_start()


if __name__ == "__main__":
    main()
