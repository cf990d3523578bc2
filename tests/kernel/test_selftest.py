#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Before the agent splices it tries whether it can: nobody notices, and nothing is left."""
import os

from case import FAR4, TCP4, UNLOADABLE, Agent, OwnAgentCase, main
from sandbox import Cgroup

NOBODY = 999999999  # no process has such a number
NEEDED = {"borrow", "pair", "charge", "fionread", "eof", "shutdown", "bound", "order", "kick",
          "leave"}


class OwnAgent(Agent):
    """One to whom the test's own cgroup is the root of the tree."""

    def __init__(self, world):
        super().__init__(world)
        self.pins += "-selftest"

    def configure(self, **keys):
        super().configure(cgroups="/app", sidecar_cgroups="/proxy", **keys)
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text.replace(f"cgroup_root = {self.world.mount}\n",
                                    f"cgroup_root = {self.world.cgroup.directory}\n"))


class Selftest(OwnAgentCase):
    new_agent = OwnAgent

    def setUp(self):
        self.sidecars = {}
        self.addCleanup(self.limit_cgroups, "max")

    def tearDown(self):
        super().tearDown()
        self.agent.detach()

    def start(self, **keys):
        self.agent.configure(**keys)
        self.agent.start()
        self.leave_out_where_it_is_not_made()

    def leave_out_where_it_is_not_made(self):
        if self.agent.ask("status")["splice_lacks"] == UNLOADABLE and not self.can_splice():
            self.leave_out()

    def limit_cgroups(self, number):
        """How many there may be below the root of the tree."""
        path = f"{self.world.cgroup.directory}/cgroup.max.descendants"
        with open(path, "w", encoding="ascii") as file:
            file.write(str(number))

    def outcomes(self):
        return {check["name"]: check["outcome"] for check in self.agent.ask("status")["selftest"]}

    def assert_passed(self):
        status = self.agent.ask("status")
        self.assertEqual((status["splice"], status["splice_lacks"]), ("on", None))
        self.assertEqual({check["name"] for check in status["selftest"] if check["needed"]}, NEEDED)
        outcomes = self.outcomes()
        self.assertEqual({name for name, outcome in outcomes.items() if outcome == "passed"}
                         & NEEDED, NEEDED)
        self.assertNotIn("untried", outcomes.values())
        self.assert_nothing_left()

    def assert_nothing_left(self):
        left = [name for name in os.listdir(self.world.cgroup.directory) if "selftest" in name]
        self.assertEqual(left, [])

    def test_passes_at_start(self):
        self.start(splice="node")
        self.assert_passed()
        self.assertEqual([name for name, value in self.agent.counters().items() if value], [])
        self.assertEqual(self.agent.pairs(), 0)

    def test_not_made_before_some_mesh_splices(self):
        self.start(splice="off")
        status = self.agent.ask("status")
        self.assertEqual((status["splice"], status["splice_lacks"]), ("off", None))
        self.assertEqual(set(self.outcomes().values()), {"untried"})
        self.agent.reload(splice="node")
        self.leave_out_where_it_is_not_made()
        self.assert_passed()
        self.assertEqual([name for name, value in self.agent.counters().items() if value], [])
        self.agent.reload(splice="off")
        self.assertEqual(self.agent.ask("status")["splice"], "off")

    def test_made_again_by_the_next_agent(self):
        """… which takes over the pins and everything in force."""
        self.start(splice="node")
        self.agent.stop()
        self.agent.start()
        self.assert_passed()

    def test_cannot_be_made(self):
        """Nothing is spliced, for a reason that is told everywhere, until a reload finds it mended."""
        self.limit_cgroups(sum(len(found) for _, found, _ in os.walk(
            self.world.cgroup.directory)))
        self.start(splice="node")
        status = self.agent.ask("status")
        self.assertEqual(status["splice"], "kernel")
        self.assertIn("no cgroup can be made below cgroup_root", status["splice_lacks"])
        because = f"nothing is spliced: {status['splice_lacks']}"
        self.assertIn("nothing is spliced: the self-test could not be made",
                      self.agent.read_log())
        self.assertEqual(self.agent.ask("reload")["warnings"], [because])
        self.assertEqual(set(self.outcomes().values()), {"untried"})
        self.listen_at(*TCP4)
        with self.counted(connect_redirected=1, splice_plain_kernel=1, splice_paired=0):
            self.assert_redirected(self.dial(FAR4), FAR4)
        self.limit_cgroups("max")
        self.agent.reload(splice="node")
        self.assert_passed()

    def test_nothing_can_be_borrowed(self):
        """… as where a security module keeps processes from each other."""
        self.addCleanup(self.agent.environment.clear)
        self.agent.environment.update({
            "LD_PRELOAD": f"{self.world.build}/tests/libshunt-withhold.so",
            "SHUNT_WITHHOLD": "pidfd_getfd"})
        self.start(splice="node")
        self.leave_out_where_it_is_not_made()
        self.assertEqual(self.outcomes().pop("borrow"), "failed")
        status = self.agent.ask("status")
        self.assertEqual(status["splice"], "kernel")
        self.assertIn("failed in the self-test: borrow (", status["splice_lacks"])

    def test_what_a_killed_agent_left_goes(self):
        left = f"{self.world.cgroup.directory}/shunt-selftest-"
        others = f"{left}{os.getpid()}"  # somebody's who is alive
        os.mkdir(f"{left}{NOBODY}")
        os.mkdir(others)
        self.addCleanup(os.rmdir, others)
        self.start(splice="node")
        self.assertEqual([name for name in os.listdir(self.world.cgroup.directory)
                          if "selftest" in name], [os.path.basename(others)])


class AtTheRoot(OwnAgentCase):
    """An agent in the root of the tree, which was started by hand: no cgroup is its own to write to
    when it has given up what it does not need."""

    def setUp(self):
        self.sidecars = {}
        self.agent.place = Cgroup(self.world.mount, "")

    def tearDown(self):
        super().tearDown()
        self.agent.detach()

    def test_made_in_time(self):
        self.agent.configure(splice="off")
        self.agent.start()
        status = self.agent.ask("status")
        self.assertEqual((status["splice"], status["splice_lacks"]), ("off", None))
        self.agent.configure(splice="node")
        warnings = self.agent.ask("reload")["warnings"]
        if not self.can_splice():
            self.leave_out()
        self.assertEqual(warnings, [])
        self.assertEqual(self.agent.ask("status")["splice"], "on")


if __name__ == "__main__":
    main()
