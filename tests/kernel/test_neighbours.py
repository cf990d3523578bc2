#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs of others on the same cgroups, above and below: all keep working."""
import glob
import json
import os
import shutil
import subprocess

from case import FAR4, PORT, Case, Refused, main
from sandbox import Place

SEEN = "connect", "peername", "established", "called_back", "sends"  # as in other.bpf.c
ATTACHMENTS = {
    "connect4": "other_connect4",
    "getpeername4": "other_peername4",
    "sock_ops": "other_sockops",
}


def bpftool(*arguments):
    run = subprocess.run(["bpftool", "-j", *arguments], stdout=subprocess.PIPE, check=False)
    text = run.stdout.decode()
    if run.returncode:
        raise OSError(text)
    return json.loads(text) if text.strip() else None


class Other:
    """The programs of other.bpf.c."""

    def __init__(self, world):
        self.pins = f"{world.bpffs}/other"
        self.attached = []
        os.mkdir(self.pins)
        bpftool("prog", "loadall", f"{world.build}/tests/other.bpf.o", self.pins,
                "pinmaps", self.pins)

    def attach_one(self, cgroup, kind, program, *flags):
        """program: as bpftool-prog(8) calls it."""
        bpftool("cgroup", "attach", cgroup.directory, kind, *program, *flags)
        self.attached.append((cgroup, kind, program))

    def attach(self, cgroup, *flags):
        for kind, program in ATTACHMENTS.items():
            self.attach_one(cgroup, kind, ("pinned", f"{self.pins}/{program}"), *flags)

    def close(self):
        for cgroup, kind, program in self.attached:
            if os.path.exists(cgroup.directory):
                bpftool("cgroup", "detach", cgroup.directory, kind, *program)
        shutil.rmtree(self.pins)

    def seen(self):
        dump = bpftool("map", "dump", "pinned", f"{self.pins}/other_seen")
        return dict(zip(SEEN, (entry["formatted"]["value"] for entry in dump)))


class Neighbours(Case):
    def setUp(self):
        super().setUp()
        self.other = Other(self.world)
        self.addCleanup(self.other.close)

    def child(self, parent, name):
        cgroup = parent.child(name)
        self.addCleanup(cgroup.remove)
        return cgroup

    def enrol(self, cgroup):
        """The agent attaches now, where others may have."""
        self.agent.reload(cgroups=f"{self.world.app.cgroup.path}, {cgroup.path}")
        self.addCleanup(self.agent.reload)

    def assert_both_work(self, member):
        """For a program in this cgroup, to which all of the other's programs are attached."""
        sock = self.keep(Place(member, self.world.app.netns).new_socket())
        before = self.other.seen()
        with self.counted(connect_redirected=1, origdst_taken=1, getpeername_restored=1):
            sock.connect((FAR4, PORT))
            self.assert_redirected(sock, FAR4)
        moved = {name: count - before[name] for name, count in self.other.seen().items()}
        self.assertGreater(moved.pop("called_back"), 0)
        self.assertGreater(moved.pop("sends"), 0)
        self.assertEqual(moved, {"connect": 1, "peername": 1, "established": 1})

    def test_attached_after_shunt(self):
        self.other.attach(self.world.app.cgroup, "multi")
        self.assert_both_work(self.world.app.cgroup)

    def test_attached_before_shunt(self):
        member = self.child(self.world.cgroup, "member")
        self.other.attach(member, "multi")
        self.enrol(member)
        self.assert_both_work(member)

    def test_attached_below_shunt(self):
        below = self.child(self.world.app.cgroup, "below")
        self.other.attach(below, "multi")
        self.assert_both_work(below)

    def test_attached_above_shunt(self):
        above = self.child(self.world.cgroup, "above")
        member = self.child(above, "member")
        self.other.attach(above, "multi")
        self.enrol(member)
        self.assert_both_work(member)

    def test_attached_exclusively(self):
        """The kernel lets nobody in beside it, and Shunt says so; what was in force stays."""
        member = self.child(self.world.cgroup, "member")
        self.other.attach(member)
        with self.assertRaisesRegex(Refused, "Operation not permitted"):
            self.enrol(member)
        self.assert_redirected(self.dial(FAR4), FAR4)

    def test_slow_between_two_attachments_of_shunt(self):
        """As they are for an instant when the agent moves them."""
        link, = glob.glob(f"{self.agent.pins}/v*/links/"
                          f"{os.stat(self.world.app.cgroup.directory).st_ino}-connect4")
        shunt = "id", str(bpftool("link", "show", "pinned", link)["prog_id"])
        below = self.child(self.world.app.cgroup, "below")
        self.other.attach_one(below, "connect4", shunt, "multi")
        self.other.attach_one(below, "connect4", ("pinned", f"{self.other.pins}/other_slow4"),
                              "multi")
        sock = self.keep(Place(below, self.world.app.netns).new_socket())
        with self.counted(connect_redirected=1, connect_already=1):
            sock.connect((FAR4, PORT))
            self.assert_redirected(sock, FAR4)
        self.assertEqual(self.other.seen()["connect"], 1)

    def test_exclusive_attachment_to_the_cgroup_of_shunt(self):
        with self.assertRaises(OSError):
            self.other.attach(self.world.app.cgroup)
        self.assert_redirected(self.dial(FAR4), FAR4)


if __name__ == "__main__":
    main()
