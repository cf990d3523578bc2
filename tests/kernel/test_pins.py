#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Somebody changed pin_dir, or it was left half written: the next agent makes it right, or refuses,
says why and changes nothing. What others have pinned stays."""
import glob
import os
import shutil
import signal
import subprocess

from case import FAR4, main
from sandbox import DEADLINE, check, libc, wait_until
from test_faults import MNT_DETACH, FaultCase, bpftool
from test_neighbours import Other

MS_RDONLY, MS_REMOUNT = 1, 32


def pin(kind, number, path):
    subprocess.run(["bpftool", kind, "pin", "id", str(number), path], check=True)


def create(path, **description):
    words = [word for item in description.items() for word in item]
    subprocess.run(["bpftool", "map", "create", path, *map(str, words)], check=True)


def create_alike(path, info, name):
    """A map of that shape."""
    create(path, type=info["type"], key=info["bytes_key"], value=info["bytes_value"],
           entries=info["max_entries"], flags=info["flags"], name=name)


def listing(directory):
    """All that there is, with numbers that no two things share: those of programs, maps and links
    too."""
    return {os.path.relpath(f"{path}/{name}", directory): os.lstat(f"{path}/{name}").st_ino
            for path, directories, files in os.walk(directory) for name in directories + files}


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


class PinsCase(FaultCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = set(listing(cls.agent.pins))

    def setUp(self):
        super().setUp()
        self.version, = glob.glob(f"{self.agent.pins}/v*")
        other = self.keep(Other(self.world))
        self.theirs = other.pins
        self.their_map, self.their_program = (
            f"{self.theirs}/{name}" for name in ("other_seen", "other_connect4"))
        os.mkdir(f"{self.theirs}/maps")

    def link(self, hook):
        """The pin of the link of a hook; of several, any."""
        return sorted(glob.glob(f"{self.version}/links/*-{hook}"))[0]

    def assert_started_right(self):
        theirs = listing(self.theirs)
        self.agent.start()
        wait_until(lambda: set(listing(self.agent.pins)) == self.names,
                   f"its pins are as before: {set(listing(self.agent.pins)) ^ self.names}")
        self.assert_right()
        self.assertEqual(listing(self.theirs), theirs)


class Rebuilt(PinsCase):
    def wrong_things(self):
        """What is to be where a pin was, by what makes it. Links are others in each agent."""
        return {
            "a directory": os.mkdir,
            "a directory with something in it": lambda path: (
                os.makedirs(f"{path}/one/two"), create(
                    f"{path}/one/map", type="hash", key=4, value=4, entries=8, name="any")),
            "a symbolic link to nowhere": lambda path: os.symlink(f"{self.theirs}/not", path),
            "a symbolic link to a directory": lambda path: os.symlink(f"{self.theirs}/maps", path),
            "a symbolic link to a pin": lambda path: os.symlink(self.their_map, path),
            "a map of another kind": lambda path: create(
                path, type="array", key=4, value=4, entries=8, name="other"),
            "a program": lambda path: pin(
                "prog", bpftool("prog", "show", "pinned", self.their_program)["id"], path),
            "the link of another hook": lambda path: pin(
                "link", bpftool("link", "show", "pinned", self.link("sockops"))["id"], path),
        }

    def replace(self, what, things):
        for thing, make in things.items():
            with self.subTest(thing, at=os.path.relpath(what, self.agent.pins)):
                self.agent.stop(signal.SIGKILL)
                remove(what)
                make(what)
                self.assert_started_right()

    def test_map_of_the_kernel_half(self):
        path = self.agent.pin("shunt_pairs")
        info = bpftool("map", "show", "pinned", path)
        self.replace(path, self.wrong_things() | {
            "a map that looks the same": lambda path: create_alike(path, info, "theirs")})
        self.assertIn("is not what this version keeps there, and was made anew", self.log())

    def test_map_of_the_policy(self):
        path = self.agent.pin("shunt_cgroups")
        info = bpftool("map", "show", "pinned", path)
        self.replace(path, self.wrong_things() | {
            "a map that looks the same": lambda path: create_alike(path, info, "theirs"),
            "a map of another size": lambda path: create_alike(
                path, info | {"max_entries": 3}, "shunt_cgroups")})

    def test_link(self):
        self.replace(self.link("connect4"), self.wrong_things())

    def test_directories(self):
        things = self.wrong_things()
        for name in "links", "maps", "policy":
            self.replace(f"{self.version}/{name}", {thing: things[thing] for thing in (
                "a symbolic link to nowhere", "a symbolic link to a directory", "a program")})

    def test_half_written(self):
        """An agent came so far, or somebody removed the rest."""
        def left_of_a_start():
            os.mkdir(f"{self.version}/policy-next")
            create(f"{self.version}/policy-next/shunt_cgroups", type="hash", key=8, value=8,
                   entries=8, name="shunt_cgroups")
        for what, change in {
                "no maps": lambda: remove(f"{self.version}/maps"),
                "no links": lambda: remove(f"{self.version}/links"),
                "no policy": lambda: remove(f"{self.version}/policy"),
                "nothing": lambda: (remove(self.version), os.mkdir(self.version)),
                "no map of cgroups": lambda: remove(self.agent.pin("shunt_cgroups")),
                "no map of addresses": lambda: remove(self.agent.pin("shunt_socks")),
                "some links": lambda: [remove(path) for path in
                                       glob.glob(f"{self.version}/links/*")[::2]],
                "half a policy beside": left_of_a_start,
        }.items():
            with self.subTest(what):
                self.agent.stop(signal.SIGKILL)
                change()
                self.assert_started_right()

    def test_what_is_no_pin(self):
        """It is in nobody's way, and goes in the end."""
        self.agent.stop(signal.SIGKILL)
        for name in "links/5-connect4/6", "links/nobody-knows/what", "maps/it", "else/is":
            os.makedirs(f"{self.version}/{name}")
        self.agent.start()
        self.assert_redirects()
        self.agent.detach()
        self.assertFalse(os.path.exists(self.agent.pins))
        self.assert_started_right()

    def test_other_versions(self):
        """Whatever is left of them, it is taken out."""
        self.agent.stop(signal.SIGKILL)
        link = bpftool("link", "show", "pinned", self.link("sockops"))["id"]
        for n, changes in enumerate((
                {},
                {"links": os.mkdir},
                {"links": lambda path: pin("link", link, path)},
                {"links": lambda path: os.symlink(f"{self.theirs}/maps", path)},
                {"maps": lambda path: os.symlink(self.theirs, path)},
                {"maps/shunt_control": os.mkdir, "policy/shunt_cgroups": os.mkdir},
                {"maps/shunt_pairs": lambda path: pin("link", link, path)},
                {"links/1-connect4": lambda path: os.makedirs(f"{path}/below")},
                {"links/1-connect4": lambda path: os.symlink(self.their_map, path)})):
            version = f"{self.agent.pins}/v{90 + n}"
            os.mkdir(version)
            for name, change in changes.items():
                os.makedirs(os.path.dirname(f"{version}/{name}"), exist_ok=True)
                change(f"{version}/{name}")
        self.assert_started_right()


class Refused(PinsCase):
    """Who has pinned what is not Shunt's is not to lose it; and nothing is half done."""

    def setUp(self):
        super().setUp()
        self.own = self.agent.pins, dict(self.agent.settings)
        self.addCleanup(self.bring_back)
        self.agent.stop()

    def bring_back(self):
        self.agent.pins, self.agent.settings = self.own
        self.agent.configure(**self.mesh)
        if self.agent.process.poll() is None:
            self.agent.stop()
        self.assert_started_right()

    def assert_refused(self, *said):
        before = listing(self.world.bpffs)
        begin = len(self.agent.read_log())
        self.agent.configure(**self.mesh)
        self.assertEqual(self.agent.spawn().wait(DEADLINE), 1)
        log = self.agent.read_log()[begin:]
        for text in said:
            self.assertIn(text, log)
        self.assertEqual(listing(self.world.bpffs), before)

    def test_something_else_in_it(self):
        """What an earlier agent has there stays in force."""
        for what, make in {
                "theirs": os.mkdir, "v": os.mkdir, "v04": os.mkdir, "v7x": os.mkdir,
                "map": lambda path: create(path, type="hash", key=4, value=4, entries=8, name="a"),
                "v1007": lambda path: os.symlink(self.theirs, path),
                "v1008": lambda path: create(path, type="hash", key=4, value=4, entries=8, name="a"),
        }.items():
            with self.subTest(what):
                path = f"{self.agent.pins}/{what}"
                make(path)
                self.assert_refused(f"holds {what}, which is not Shunt's")
                self.assert_redirects()
                remove(path)

    def test_is_no_directory(self):
        os.symlink(self.theirs, f"{self.world.bpffs}/link")
        self.addCleanup(os.unlink, f"{self.world.bpffs}/link")
        os.symlink(f"{self.theirs}/not", f"{self.world.bpffs}/nowhere")
        self.addCleanup(os.unlink, f"{self.world.bpffs}/nowhere")
        for path in (self.their_map, f"{self.their_map}/below", self.agent.config,
                     f"{self.world.bpffs}/link", f"{self.world.bpffs}/nowhere"):
            with self.subTest(path):
                self.agent.pins = path
                self.assert_refused("is no directory, or a symbolic link", "is or holds what is not")

    def test_another_file_system(self):
        there = f"{self.world.directory}/there"
        os.mkdir(there)
        self.addCleanup(os.rmdir, there)
        for path in there, f"{there}/new":
            with self.subTest(path):
                self.agent.pins = path
                self.assert_refused("is not on a bpf file system")
                self.assertEqual(os.listdir(there), [])

    def mount(self, flags):
        check(libc.mount(b"none", self.world.bpffs.encode(), b"bpf", flags, None))

    def test_read_only(self):
        """What is there stays in force, and is taken over once it can be."""
        self.mount(MS_REMOUNT | MS_RDONLY)
        try:
            for path in self.agent.pins, f"{self.world.bpffs}/new":
                with self.subTest(path):
                    self.agent.pins = path
                    self.assert_refused("is mounted read-only")
                    self.assert_redirects()
        finally:
            self.mount(MS_REMOUNT)

    def test_read_only_and_empty(self):
        self.mount(MS_RDONLY)
        try:
            self.assert_refused("is mounted read-only")
        finally:
            check(libc.umount2(self.world.bpffs.encode(), MNT_DETACH))

    def test_detach_leaves_what_others_have(self):
        """An agent that goes on without programs has nothing there."""
        self.agent.settings = self.agent.settings | {"fallback": "nftables"}
        self.agent.pins = self.theirs
        self.agent.configure(**self.mesh)
        before = listing(self.world.bpffs)
        self.agent.start()
        self.agent.detach()
        self.assertEqual(listing(self.world.bpffs), before)

    def tearDown(self):
        """There may be no agent to ask for counters."""


if __name__ == "__main__":
    main()
