#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Rules are written into a set of mesh slots that nobody refers to and no hook looks at. Agents that
are killed while they switch cgroups from one set to the next leave both in use; with all in use a
reload is refused, and the next start makes the maps anew."""
import os
import re
import subprocess

from case import FAR4, PORT, Refused, main
from sandbox import DEADLINE, Place
from survive_case import bpftool
from test_idle import Trace
from test_kill import KillCase
from traffic import Load

CHILDREN = 12
STRIDE = CHILDREN // 3
SETS, SET = 3, 64  # slots of each
ROUNDS = 8
ONE, TWO = "10.83.1.1", "10.83.2.1"
# Each with its own sidecar, and an address that it leaves alone.
CONFIG_ONE = {"tcp_redirect": "127.0.0.1:15001", "exclude_cidrs": ONE}
CONFIG_TWO = {"tcp_redirect": "127.0.0.1:15002", "exclude_cidrs": TWO}
POLICY = "shunt_cgroups", "shunt_meshes", "shunt_cidrs", "shunt_owners"
RULES = 20  # limits.rules
WAIT = 3  # steps, the first of a reload: two maps are made, and one is put into the other
CHANGE = re.compile(r"bpf\(BPF_MAP_(?:UPDATE|DELETE)_ELEM, {map_fd=(\d+),")
OUTER = re.compile(r"bpf\(BPF_MAP_CREATE, {map_type=BPF_MAP_TYPE_ARRAY_OF_MAPS,.* = (\d+)$")


class SlotsCase(KillCase):
    def setUp(self):
        super().setUp()
        world, app = self.world, self.world.app.cgroup
        world.far.netns.ip(*(f"address replace {address}/32 dev lo" for address in (ONE, TWO)))
        self.serve_at(world.proxy, ("127.0.0.1", 15002), [], "two", True)
        self.children = [app.child(f"child{n}") for n in range(CHILDREN)]
        for child in self.children:
            self.addCleanup(child.remove)
        self.mesh = {"splice": "off", "cgroups": f"{app.path}, {app.path}/*"}
        self.agent.configure(**self.mesh | CONFIG_ONE)
        self.agent.start()
        self.wait_for_linger()

    def reload(self, config):
        self.agent.configure(**self.mesh | config)
        return self.ask_it_to("reload")

    def policy(self):
        return {name: self.dump(name) for name in POLICY}

    def map_ids(self):
        return {name: bpftool("map", "show", "pinned", self.agent.pin(name))["id"]
                for name in POLICY}

    def sets(self):
        """Which cgroups have which set."""
        found = {}
        for entry in self.dump("shunt_cgroups"):
            if entry["value"]["role"]:
                found.setdefault(entry["value"]["mesh"] // SET, set()).add(entry["key"])
        return found


class Hooks(SlotsCase):
    """They may look still at what is to be overwritten."""

    def descriptors(self):
        """Of the maps with the rules."""
        ids, found = set(self.map_ids().values()), set()
        directory = f"/proc/{self.agent.process.pid}/fdinfo"
        for fd in os.listdir(directory):
            with open(f"{directory}/{fd}", encoding="ascii") as info:
                number = re.search(r"^map_id:\t(\d+)$", info.read(), re.MULTILINE)
            if number and int(number[1]) in ids:
                found.add(fd)
        return found

    def test_are_waited_for(self):
        """The kernel waits for them when a map is put into another, which comes first."""
        maps = self.descriptors()
        self.assertEqual(len(maps), len(POLICY))
        trace = Trace(self.agent, f"{self.world.directory}/trace")
        try:
            self.assertTrue(self.reload(CONFIG_TWO))
        finally:
            trace.close()
        order, outer = [], None
        for line in trace.lines():
            if made := OUTER.search(line):
                outer = made[1]
            elif (change := CHANGE.search(line)) and change[1] in maps | {outer}:
                order.append("wait" if change[1] == outer else "write")
        self.assertEqual(order[:2], ["wait", "write"])
        self.assertNotIn("wait", order[1:])

    def test_cannot_be_waited_for(self):
        """Then nothing is written."""
        before = self.policy()
        for step in range(1, WAIT + 1):
            self.arm("fail", step)
            self.agent.configure(**self.mesh | CONFIG_TWO)
            with self.assertRaises(Refused):
                self.agent.ask("reload")
            self.assertFalse(self.disarm())
            self.assertEqual(self.policy(), before)
        self.assertTrue(self.reload(CONFIG_TWO))
        self.assertNotEqual(self.policy(), before)


class AllInUse(SlotsCase):
    def start_loads(self):
        self.loads = [self.keep(Load(Place(child, self.world.app.netns), FAR4, ONE, TWO))
                      for child in (self.children[0], self.children[-1])]

    def assert_not_mixed(self):
        """Each connect saw the rules of one configuration, whole."""
        for load in self.loads:
            n, heard = load.stop()
            self.assertGreater(n, 0)
            for address, answers in ((FAR4, ("one", "two")), (ONE, (None, "two")),
                                     (TWO, ("one", None))):
                self.assertLessEqual(heard[address], {
                    f"{name} {(address, PORT)}" if name else "far" for name in answers})

    def assert_made_anew(self, ids):
        now = self.map_ids()
        self.assertEqual([name for name in POLICY if now[name] == ids[name]], [])
        self.assertEqual(len(self.sets()), 1)

    def refer_to_all_sets(self):
        """As agents would that were killed: entries of cgroups that are not there."""
        pin = self.agent.pin("shunt_cgroups")
        entry = next(entry for entry in bpftool("map", "dump", "pinned", pin)
                     if entry["formatted"]["value"]["role"])
        for n in range(SETS):
            value = [int(byte, 0) for byte in entry["value"]]
            mesh = entry["formatted"]["value"]["mesh"] % SET + n * SET
            value[:4] = mesh.to_bytes(4, "little")
            key = ((1 << 62) + n).to_bytes(8, "little")
            subprocess.run(["bpftool", "map", "update", "pinned", pin, "key", *map(str, key),
                            "value", *map(str, value)], check=True)

    def test_reload(self):
        self.start_loads()
        self.refer_to_all_sets()
        before = self.policy()
        self.agent.configure(**self.mesh | CONFIG_TWO)
        with self.assertRaises(Refused):
            self.agent.ask("reload")
        self.assertIn("some cgroups have the rules of earlier configurations still",
                      self.agent.read_log())
        self.assertEqual(self.policy(), before)
        ids = self.map_ids()
        self.agent.stop()
        self.agent.start()
        self.assert_made_anew(ids)
        self.assertTrue(self.reload(CONFIG_ONE))
        self.assert_not_mixed()

    def leave_sets(self, n, least, action, before=lambda: None):
        """Has an action killed so that entries refer to so many sets, so many to each; returns
        whether they do."""
        step = 1 + self.dice.randrange(STRIDE)
        while len(self.sets()) < n or min(map(len, self.sets().values())) < least:
            before()
            self.arm("kill", step)
            if action():
                self.disarm()
                return False
            self.agent.process.wait(DEADLINE)
            self.disarm()
            self.kills += 1
            step += STRIDE
        return True

    def use_up_sets(self):
        """Two agents are killed in mid-switch, one in a reload and the next in its start."""
        for _ in range(ROUNDS):
            if self.leave_sets(2, STRIDE + 1, lambda: self.reload(CONFIG_TWO), self.ensure) and \
                    self.leave_sets(SETS, 1, self.begin):
                return
            self.ensure()
            self.reload(CONFIG_ONE)
        self.fail("three sets are not to be had")

    def test_as_many_rules_as_there_may_be(self):
        """There is room for those of all sets."""
        self.agent.stop()
        self.agent.limits = {"rules": RULES}
        self.addCleanup(self.agent.limits.clear)
        one, two = (config | {"exclude_cidrs": ", ".join(
            [config["exclude_cidrs"], *(f"10.{n}.0.{i}" for i in range(RULES - 3))])}
            for n, config in ((1, CONFIG_ONE), (2, CONFIG_TWO)))
        self.agent.configure(**self.mesh | one)
        self.agent.start()
        self.start_loads()
        self.assertTrue(any(self.leave_sets(2, 1, lambda: self.reload(two), self.ensure)
                            for _ in range(ROUNDS)))
        self.agent.start()
        self.assertEqual(len(self.sets()), 1)
        self.assert_not_mixed()

    def test_start(self):
        """Rules that are in force are not touched until others are."""
        self.start_loads()
        self.use_up_sets()
        ids = self.map_ids()
        self.agent.configure(**self.mesh | CONFIG_ONE)
        self.agent.start()
        self.assert_made_anew(ids)
        self.assert_not_mixed()
        print(f"killed {self.kills} times", flush=True)


if __name__ == "__main__":
    main()
