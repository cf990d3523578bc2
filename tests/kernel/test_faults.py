#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Whatever fails, and for however long: the agent stays up, says what happened in a line, and is
right again afterwards. What is right is what an agent has in the kernel that starts afresh."""
import contextlib
import ctypes
import errno
import glob
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import termios
import time

from case import FAR4, PORT, TCP4, Case, Refused, attempt, injected, main, original_dst
from sandbox import DEADLINE, Cgroup, Place, check, libc, wait_until
from semantics import queue, read, read_pattern, state
from splice_case import SpliceCase

SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
BPF_OBJ_GET, BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH = 7, 26, 27
MNT_DETACH = 2
MS_RDONLY, MS_REMOUNT = 1, 32
SLOTS = 64  # SHUNT_MESHES_MAX: a configuration's meshes are in one of three sets of these
OTHER_ERRORS = "EPERM", "EINTR", "ENOSPC"


def bpftool(*arguments):
    return json.loads(subprocess.run(["bpftool", "-j", *arguments], stdout=subprocess.PIPE,
                                     check=True).stdout.strip() or "[]")


def all_links():
    """Of the whole host. One of others that ends at this moment fails the list."""
    def listed():
        with contextlib.suppress(subprocess.CalledProcessError):
            return [bpftool("link", "show")]
    return wait_until(listed, "links can be listed")[0]


def bpf(command, attributes):
    return check(libc.syscall(SYS_BPF, command, ctypes.c_char_p(attributes), len(attributes)))


def without_handles(found):
    """What nft(8) tells, but for what is another in each table that is alike."""
    if isinstance(found, dict):
        return {key: without_handles(value) for key, value in found.items() if key != "handle"}
    if isinstance(found, list):
        return sorted((without_handles(value) for value in found), key=json.dumps)
    return found


def list_ruleset():
    return subprocess.run(["nft", "-j", "--stateless", "list", "ruleset"], stdout=subprocess.PIPE,
                          check=True).stdout


def ruleset(world, netns):
    """All rules of nftables in a network namespace. Who asks is in no mesh: where programs of one
    are the agent has its table."""
    told = Place(world.outside.cgroup, netns).run(list_ruleset)
    return [item for item in without_handles(json.loads(told)["nftables"]) if "metainfo" not in item]


class FullMap:
    """A pinned hash map, filled up with entries that nothing else would make."""

    CHUNK = 4096

    def __init__(self, path):
        info = bpftool("map", "show", "pinned", path)
        self.key_size, self.value_size = info["bytes_key"], info["bytes_value"]
        pin = ctypes.create_string_buffer(path.encode())
        self.fd = bpf(BPF_OBJ_GET, struct.pack("=QIIII", ctypes.addressof(pin), 0, 0, 0, 0))
        self.n = 0
        with contextlib.suppress(OSError):
            while self.n < info["max_entries"]:
                self.n += self.batch(BPF_MAP_UPDATE_BATCH, self.n, self.CHUNK)

    def key(self, n):
        return struct.pack("=Q", (1 << 63) + n).ljust(self.key_size, b"\xff")

    def batch(self, command, first, n):
        """Returns how many it came to."""
        keys = ctypes.create_string_buffer(b"".join(self.key(first + i) for i in range(n)))
        values = ctypes.create_string_buffer(n * self.value_size)
        attributes = ctypes.create_string_buffer(struct.pack(
            "=QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), n, self.fd, 0, 0))
        result = libc.syscall(SYS_BPF, command, attributes, len(attributes) - 1)
        done = struct.unpack_from("=I", attributes, 32)[0]
        if result and ctypes.get_errno() not in (errno.E2BIG, errno.ENOENT):
            raise OSError(ctypes.get_errno(), "bpf")
        if result:
            self.n += done if command == BPF_MAP_UPDATE_BATCH else 0
            raise OSError(errno.E2BIG, "full")
        return done

    def close(self):
        for first in range(0, self.n, self.CHUNK):
            self.batch(BPF_MAP_DELETE_BATCH, first, min(self.CHUNK, self.n - first))
        os.close(self.fd)


class FaultCase(Case):
    mesh = {"splice": "off"}
    limits = {}

    @classmethod
    def setUpClass(cls):
        cls.restart(cls.mesh, cls.limits)
        cls.clean = cls.state()

    @classmethod
    def tearDownClass(cls):
        cls.restart({}, {})

    @classmethod
    def restart(cls, mesh, limits):
        """Takes out the one before, whatever it went through, and all that it has in the kernel."""
        if cls.agent.process.poll() is None:
            maps = cls.map_ids()
            cls.agent.detach()
            wait_until(lambda: not maps & {entry["id"] for entry in bpftool("map", "show")},
                       "the kernel has let go of its maps")
        if os.path.exists(cls.agent.pins):
            raise AssertionError("pins are left")
        cls.agent.limits = limits
        cls.agent.configure(**mesh)
        cls.agent.start()

    @classmethod
    def map_ids(cls):
        return {bpftool("map", "show", "pinned", path)["id"]
                for path in glob.glob(f"{cls.agent.pins}/v*/[mp]*/*")}

    def setUp(self):
        super().setUp()
        self.log_begin = len(self.agent.read_log())
        self.app = self.world.app.cgroup

    def log(self):
        """What the agent said since the test began."""
        return self.agent.read_log()[self.log_begin:]

    def assert_said(self, text, times=1):
        wait_until(lambda: text in self.log(), f"the log says {text!r}: {self.log()}")
        self.assertLessEqual(self.log().count(text), times, self.log())

    @classmethod
    def pinned(cls, name):
        return bpftool("map", "dump", "pinned", cls.agent.pin(name))

    @classmethod
    def entries(cls):
        """What each cgroup is in the kernel: role, and number of the mesh in the configuration."""
        found = {}
        for entry in cls.pinned("shunt_cgroups"):
            value = entry["formatted"]["value"]
            found[entry["formatted"]["key"]] = value["role"], value["mesh"] % SLOTS
        return found

    def slots(self):
        used = {entry["formatted"]["value"]["mesh"] // SLOTS
                for entry in self.pinned("shunt_cgroups") if entry["formatted"]["value"]["role"]}
        used |= {entry["formatted"]["key"]["mesh"] // SLOTS for entry in self.pinned("shunt_owners")}
        return used | {int.from_bytes(struct.pack("=I", entry["formatted"]["key"]["scope"]), "big")
                       // 2 // SLOTS for entry in self.pinned("shunt_cidrs")}

    @classmethod
    def state(cls):
        """All that is in the kernel, by what it does."""
        maps = {entry["id"]: entry["name"] for entry in (
            bpftool("map", "show", "pinned", path)
            for path in glob.glob(f"{cls.agent.pins}/v*/[mp]*/*"))}
        programs = {entry["id"]: entry.get("name") for entry in bpftool("prog", "show")
                    if set(entry.get("map_ids", [])) & set(maps)}
        links = sorted((entry.get("cgroup_id", 0), programs[entry["prog_id"]])
                       for entry in all_links() if entry.get("prog_id") in programs)
        return {
            "maps": sorted(maps.values()),
            "programs": sorted(programs.values()),
            "links": links,
            "link pins": sorted(os.path.basename(pin)
                                for pin in glob.glob(f"{cls.agent.pins}/v*/links/*")),
            "cgroups": cls.entries(),
            "cidrs": len(cls.pinned("shunt_cidrs")),
            "owners": len(cls.pinned("shunt_owners")),
            "rules of nftables": cls.rulesets(),
        }

    @classmethod
    def rulesets(cls):
        pod = cls.world.app.netns
        return [ruleset(cls.world, pod), ruleset(cls.world, pod.far)]

    def assert_redirects(self):
        with self.dial(FAR4) as sock:
            self.assert_redirected(sock, FAR4).close()

    def assert_right(self):
        """As an agent that has started afresh, once the test's own cgroups are gone."""
        for name in next(os.walk(self.app.directory))[1]:
            Cgroup(self.world.mount, f"{self.app.path}/{name}").remove()
        wait_until(lambda: not self.agent.ask("status")["warnings"],
                   f"nothing is wrong any more: {self.agent.ask('status')['warnings']}")
        self.assert_redirects()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.state() == self.clean, "it is as before")
        self.assertEqual(self.state(), self.clean)

    def visit(self, cgroup):
        """A program in there dials, and gets to the sidecar."""
        Place(cgroup, self.world.app.netns).run(
            lambda: socket.create_connection((FAR4, PORT)).close())
        self.accept(self.sidecar(FAR4)).close()

    def child(self, name):
        cgroup = self.app.child(name)
        self.addCleanup(lambda: os.path.exists(cgroup.directory) and cgroup.remove())
        return cgroup

    def reload(self, **keys):
        """Until the end of the test."""
        self.agent.reload(**self.mesh | keys)
        self.addCleanup(self.reload_as_before)

    def reload_as_before(self):
        self.agent.configure(**self.mesh)
        if self.agent.process.poll() is None:
            self.agent.ask("reload")
        else:
            self.agent.start()

    def injected(self, *injections):
        return injected(self.agent, *injections)

    @contextlib.contextmanager
    def stopped(self):
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.agent.process.send_signal(signal.SIGCONT)


class FullCgroups(FaultCase):
    limits = {"cgroups": 6}

    def test_cgroups(self):
        self.reload(cgroups=f"{self.app.path}/*")
        children = [self.child(f"c{n}") for n in range(12)]
        self.assert_said("more cgroups than limits.cgroups = 6")
        wait_until(lambda: len(self.entries()) == 6, "the map is full")
        # Whoever has no entry is what the nearest above is, and that is in no mesh.
        with self.counted(connect_unclassified=1):
            missing = next(child for child in children
                           if os.stat(child.directory).st_ino not in self.entries())
            Place(missing, self.world.app.netns).run(
                lambda: attempt(socket.create_connection, (FAR4, PORT), 1) and None)
        for child in children:
            child.remove()
        wait_until(lambda: len(self.entries()) == 2, "those that are gone are out of the map")
        self.reload()
        self.assert_right()


class FullRules(FaultCase):
    limits = {"rules": 20}
    mesh = FaultCase.mesh | {"exclude_cidrs": "10.99.0.0/16", "exclude_uids": "7"}

    def test_rules(self):
        for key, values in (("exclude_cidrs", (f"10.{n}.0.0/16" for n in range(100, 200))),
                            ("exclude_uids", (str(n) for n in range(100, 200)))):
            with self.subTest(key):
                self.agent.configure(**self.mesh | {key: ", ".join(values)})
                with self.assertRaises(Refused):
                    self.agent.ask("reload")
                self.assertIn("limits.rules", self.log())
                self.assert_right()


    def test_limit_that_was_raised(self):
        """The maps are as large as they were made; the next agent makes them larger."""
        for key, values in (("exclude_cidrs", (f"10.{n}.0.0/16" for n in range(100, 200))),
                            ("exclude_uids", (str(n) for n in range(100, 200)))):
            with self.subTest(key):
                self.log_begin = len(self.agent.read_log())
                self.agent.limits = {"rules": 1000}
                self.agent.configure(**self.mesh | {key: ", ".join(values)})
                with self.assertRaises(Refused):
                    self.agent.ask("reload")
                self.assert_said("restart the agent to apply limits.rules")
                self.assert_redirects()
                self.agent.stop()
                self.agent.start()
                self.assert_redirects()
                self.agent.stop()
                self.agent.limits = self.limits
                self.agent.configure(**self.mesh)
                self.agent.start()
                self.assert_right()

    def test_as_many_as_there_may_be(self):
        """One reload after the other, faster than the rules of before go."""
        for n in range(8):
            self.reload(exclude_cidrs=", ".join(f"10.{n}.{i}.0/24" for i in range(19)))
        self.assert_redirects()
        self.reload_as_before()
        self.assert_right()


class Memory(FaultCase):
    """The kernel says no to the agent, for whatever reason."""

    def fail_while(self, action, *injections):
        with self.injected(*injections):
            action()
            wait_until(lambda: self.agent.ask("status")["warnings"], "it is told")
        self.assert_right()

    def test_new_cgroup(self):
        self.reload(cgroups=f"{self.app.path}/*")
        for error in ("ENOMEM", *OTHER_ERRORS):
            with self.subTest(error):
                name = f"c{error}"
                with self.injected(f"bpf:error={error}"):
                    child = self.child(name)
                    self.assert_said(f"{name} could not be enrolled", 1)
                    wait_until(lambda: self.agent.ask("status")["warnings"], "status says so")
                wait_until(lambda: os.stat(child.directory).st_ino in self.entries(),
                           "it is enrolled")
                self.assert_said("is mended", 9)
        with self.injected("bpf:error=ENOMEM"):
            child.remove()
            self.assert_said("is gone and its entry could not be removed")
        wait_until(lambda: not self.agent.ask("status")["warnings"], "it is mended")
        self.reload()
        self.assert_right()

    def test_new_attachment(self):
        """Where programs are to be attached a cgroup comes."""
        late = f"{self.app.path}/late"
        self.reload(cgroups=f"{late}/*")
        for error, when in ("ENOMEM", "1"), ("ENOMEM", "7+"), ("EPERM", "1+"):
            with self.subTest(error, when=when):
                with self.injected(f"bpf:error={error}:when={when}"):
                    child = self.child("late")
                    wait_until(lambda: self.agent.ask("status")["warnings"], "status says so")
                self.assertIn("programs could not be attached", self.log())
                wait_until(lambda: len([link for link in self.agent.ask("status")["links"]
                                        if link["cgroup"] == late]) == 1, "it is attached")
                inner = child.child("inner")
                wait_until(lambda: os.stat(inner.directory).st_ino in self.entries(), "enrolled")
                with self.counted(connect_redirected=1):
                    self.visit(inner)
                child.remove()
                wait_until(lambda: not self.agent.ask("status")["warnings"], "it is mended")
        self.reload()
        self.assert_right()

    def test_watches(self):
        self.reload(cgroups=f"{self.app.path}/**")
        for injection, told in (("inotify_add_watch:error=ENOSPC", "max_user_watches"),
                                ("inotify_add_watch:error=ENOMEM", "cannot be watched"),
                                ("openat:error=EMFILE", "cannot be watched")):
            with self.subTest(injection):
                name = f"w{len(os.listdir(self.app.directory))}"
                with self.injected(injection):
                    outer = self.child(name)
                    wait_until(lambda: told in self.log(), f"{told} is said")
                    inner = outer.child("inner")  # which nobody can see come
                wait_until(lambda: os.stat(inner.directory).st_ino in self.entries(),
                           "the one inside is found")
                outer.remove()
        self.reload()
        self.assert_right()

    def test_reload(self):
        """It succeeds, or nothing changed; and the next one is right."""
        other = {"exclude_cidrs": "10.99.0.0/16", "exclude_uids": "7"}
        for when in "1", "2", "4", "8", "16", "3+", "12+":
            with self.subTest(when):
                before = self.entries()
                with self.injected(f"bpf:error=ENOMEM:when={when}"):
                    self.agent.configure(**self.mesh | other)
                    with contextlib.suppress(Refused):
                        self.agent.ask("reload")
                wait_until(lambda: self.entries() == before, "everybody is enrolled as before")
                self.assert_redirects()
                self.agent.reload(**self.mesh)
        self.assert_right()

    def test_start(self):
        """It starts, or it ends with a reason and leaves nothing. Some of the calls are libbpf's: it
        asks what the kernel can, and takes a failure for no; the verifier may refuse then."""
        self.agent.detach()
        try:
            for when in "1", "5", "34", "35", "60", "90", "120", "160", "250", "34+":
                with self.subTest(when):
                    self.agent.command = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=bpf",
                                          "-e", f"inject=bpf:error=ENOMEM:when={when}"]
                    self.try_start()
        finally:
            self.agent.command = []
        self.agent.start()
        self.assert_right()

    def try_start(self):
        begin = len(self.agent.read_log())
        self.agent.process = self.agent.spawn()

        def is_decided():
            with contextlib.suppress(OSError):
                self.agent.ask("status")
                return True
            return self.agent.process.poll() is not None
        # The verifier takes its time for a program that is too much for it.
        wait_until(is_decided, "it is ready, or has ended", 4 * DEADLINE)
        if self.agent.process.poll() is None:
            self.assert_redirects()
            self.agent.detach()
        else:
            self.assertRegex(self.agent.read_log()[begin:],
                             "Cannot allocate memory|programs could not be loaded")
        self.assertFalse(os.path.exists(self.agent.pins), self.agent.read_log()[begin:])


class Cgroups(FaultCase):
    def test_more_than_the_queue_holds(self):
        """Thousands come and go while the agent cannot look."""
        with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
            queued = int(file.read())
        self.reload(cgroups=f"{self.app.path}/*")
        with self.stopped():
            for _ in range(queued // 2 + 1):
                self.app.child("brief")
                os.rmdir(f"{self.app.directory}/brief")
            left = [self.child(f"c{n}") for n in range(1000)]
        self.assert_said("the tree is read again")
        wait_until(lambda: self.agent.ask("status")["cgroups"]["members"] == len(left),
                   "all of them are enrolled")
        self.assertEqual({os.stat(child.directory).st_ino for child in left} - set(self.entries()),
                         set())
        for child in left:
            child.remove()
        wait_until(lambda: self.agent.ask("status")["cgroups"]["members"] == 0, "all are gone")
        self.reload()
        self.assert_right()

    def test_vanish_while_they_are_enrolled(self):
        """Every call of the agent takes its time, and each cgroup is one to attach to."""
        self.reload(cgroups=f"{self.app.path}/brief/*")
        with self.injected("bpf:delay_enter=2000"):
            for n in range(100):
                self.app.child("brief")
                time.sleep(n / 5000)  # so that it goes at another moment each time
                os.rmdir(f"{self.app.directory}/brief")
            self.agent.ask("status")
        self.assertNotIn("could not be", self.log())
        self.reload()
        self.assert_right()

    def test_deeper_than_the_hooks_look(self):
        self.reload(cgroups=f"{self.app.path}/*")
        cgroup = self.child("deep")
        for n in range(60):
            cgroup = cgroup.child(f"d{n}")
        wait_until(lambda: os.stat(cgroup.directory).st_ino in self.entries(), "it is enrolled")
        with self.counted(connect_redirected=1):
            self.visit(cgroup)
        self.reload()
        self.assert_right()


class Pins(FaultCase):
    def mount(self, flags=0):
        check(libc.mount(b"none", self.world.bpffs.encode(), b"bpf", flags, None))

    def test_unmounted(self):
        check(libc.umount2(self.world.bpffs.encode(), MNT_DETACH))
        try:
            self.assert_said("has lost its pins")
            self.assert_redirects()
            # What comes meanwhile is enrolled, and what is reloaded is in force.
            self.agent.reload(**self.mesh | {"cgroups": f"{self.app.path}/late/*"})
            inner = self.child("late").child("inner")
            wait_until(lambda: self.agent.ask("status")["cgroups"]["members"] == 1, "enrolled")
            before = self.agent.counters()["connect_redirected"]
            self.visit(inner)
            self.assertEqual(self.agent.counters()["connect_redirected"], before + 1)
        finally:
            self.mount()
        self.assert_said("has its pins again")
        self.agent.reload(**self.mesh)
        # The pins are as good as those before: the next agent takes them over.
        self.agent.stop(signal.SIGKILL)
        self.assert_redirects()
        self.agent.start()
        self.assert_right()

    def test_removed(self):
        for pattern in "/v*/links", "":
            with self.subTest(pattern):
                directory, = glob.glob(self.agent.pins + pattern)
                for path, _, files in os.walk(directory, topdown=False):
                    for file in files:
                        os.unlink(f"{path}/{file}")
                    os.rmdir(path)
                self.agent.ask("reload")
                self.assert_redirects()
                self.assert_right()

    def test_removed_in_part(self):
        """Their directories stay; the next agent finds all that it needs, too."""
        for pattern in "links/*-connect4", "maps/*", "policy/*":
            with self.subTest(pattern):
                for path in glob.glob(f"{self.agent.pins}/v*/{pattern}"):
                    os.unlink(path)
                self.agent.ask("reload")
                self.assert_right()
                maps = self.map_ids()
                self.agent.stop(signal.SIGKILL)
                self.assert_redirects()
                self.agent.start()
                self.assertEqual(self.map_ids(), maps)
                self.assert_right()

    def test_many_attachments(self):
        """The next agent needs no open file for each."""
        services = [self.child(f"service{n}") for n in range(60)]
        self.reload(cgroups=", ".join(service.path for service in services))
        self.addCleanup(self.restart_freely)
        self.agent.stop(signal.SIGKILL)
        self.agent.command = ["prlimit", "--nofile=512:512"]
        self.agent.start()
        self.visit(services[-1])

    def restart_freely(self):
        self.agent.command = []
        self.agent.stop(signal.SIGKILL)
        self.agent.start()

    def test_read_only(self):
        """What is in force stays. What would have to be pinned is told, and comes once it can be."""
        path = f"{self.world.cgroup.path}/late"
        keys = self.mesh | {"cgroups": f"{self.app.path}, {path}/*"}
        before = self.agent.ask("status")["links"]
        self.mount(MS_REMOUNT | MS_RDONLY)
        try:
            with self.late() as late, self.assertRaisesRegex(Refused, "Read-only file system"):
                self.agent.reload(**keys)
            self.assert_redirects()
            self.assertEqual(self.agent.ask("status")["links"], before)
            self.agent.reload(**keys)  # there is nothing to attach to
            late = self.enterContext(self.late())
            inner = late.child("inner")
            wait_until(lambda: self.agent.ask("status")["warnings"] == [
                f"cgroup {path}: programs could not be attached: Read-only file system"],
                       "status says so")
            self.assert_redirects()
        finally:
            self.mount(MS_REMOUNT)
        wait_until(lambda: not self.agent.ask("status")["warnings"], "it is mended")
        self.visit(inner)
        # It is pinned like the rest: the next agent takes it over.
        self.agent.stop(signal.SIGKILL)
        self.visit(inner)
        self.agent.configure(**self.mesh)
        self.agent.start()
        self.assert_right()

    @contextlib.contextmanager
    def late(self):
        cgroup = self.world.cgroup.child("late")
        yield cgroup
        cgroup.remove()

    def test_cannot_be_removed(self):
        """A cgroup is gone, and its pins stay for a while."""
        self.reload(cgroups=f"{self.app.path}/late/*")
        self.child("late")
        wait_until(lambda: any(link["cgroup"].endswith("/late")
                               for link in self.agent.ask("status")["links"]), "it is attached")
        with self.injected("unlinkat:error=EROFS"):
            os.rmdir(f"{self.app.directory}/late")
            self.assert_said("could not be removed: Read-only file system")
        wait_until(lambda: not self.agent.ask("status")["warnings"], "it is mended")
        self.reload()
        self.assert_right()


class Socket(FaultCase):
    def test_no_room_for_it(self):
        directory = f"{self.world.directory}/full"
        os.mkdir(directory)
        self.addCleanup(os.rmdir, directory)
        check(libc.mount(b"none", directory.encode(), b"tmpfs", 0, b"nr_inodes=1"))
        self.addCleanup(lambda: check(libc.umount2(directory.encode(), MNT_DETACH)))
        self.agent.detach()
        before, self.agent.socket = self.agent.socket, f"{directory}/control.sock"
        self.agent.configure(**self.mesh)
        try:
            self.assertEqual(self.agent.spawn().wait(DEADLINE), 1)
            self.assert_said("control.sock: No space left on device")
            self.assertFalse(os.path.exists(self.agent.pins))
            check(libc.mount(b"none", directory.encode(), b"tmpfs", 32, b"nr_inodes=9"))
            self.agent.start()
            self.assert_right()
            self.agent.detach()
        finally:
            self.agent.socket = before
            self.agent.configure(**self.mesh)
            if self.agent.process.poll() is not None:
                self.agent.start()

    def test_clients_that_do_not_read(self):
        self.reload(cgroups=f"{self.app.path}/*")
        clients = []
        for _ in range(32):
            client = self.keep(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect(self.agent.socket)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b'{"verb": "counters"}\n' * 100)
            clients.append(client)
        child = self.child("new")
        wait_until(lambda: os.stat(child.directory).st_ino in self.entries(), "it is enrolled")
        with self.assertRaisesRegex(Refused, "too many connections"):
            self.agent.ask("status")
        for client in clients:
            client.close()

        def is_served():
            with contextlib.suppress(Refused, OSError):
                return self.agent.ask("status")
        wait_until(is_served, "others are served")
        child.remove()
        self.reload()
        self.assert_right()


class Time(FaultCase):
    def set_clock(self, date):
        with open(self.clock, "w", encoding="ascii") as file:
            file.write(f"@{date}\n")

    def test_clock_jumps(self):
        """To and fro by years; what has to be waited for comes all the same."""
        library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.clock = f"{self.world.directory}/clock"
        self.set_clock("2026-01-01 00:00:00")
        environment = {"LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": self.clock,
                       "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        year = subprocess.check_output(["date", "+%Y"], env=os.environ | environment)
        self.assertEqual(year, b"2026\n")
        self.agent.stop()
        self.agent.environment = environment
        try:
            self.agent.start()
            for date in "2036-01-01 00:00:00", "1999-01-01 00:00:00":
                self.set_clock(date)
                self.assertLess(self.agent.ask("status")["uptime_seconds"], 10000)
                self.assertGreaterEqual(self.agent.ask("status")["uptime_seconds"], 0)
                self.agent.ask("reload")
                wait_until(lambda: len(self.slots()) <= 1, "rules of before are gone")
                self.assert_right()
        finally:
            self.agent.environment = {}
        self.agent.stop()
        self.agent.start()

    def test_stopped(self):
        """Redirection goes on; what came and went meanwhile is made good."""
        self.reload(cgroups=f"{self.app.path}/*")
        gone = self.child("gone")
        wait_until(lambda: os.stat(gone.directory).st_ino in self.entries(), "it is enrolled")
        with self.stopped():
            inner = gone.child("inner")
            with self.counted_while_stopped():
                self.visit(inner)
            gone.remove()
            new = self.child("new")
            waiting = self.keep(socket.socket(socket.AF_UNIX))
            waiting.settimeout(DEADLINE)
            waiting.connect(self.agent.socket)
            waiting.sendall(b'{"verb": "status"}\n')
        self.assertTrue(json.loads(waiting.makefile().readline())["ok"])
        wait_until(lambda: os.stat(new.directory).st_ino in self.entries(), "it is enrolled")
        wait_until(lambda: self.agent.ask("status")["cgroups"]["members"] == 1, "one is gone")
        self.reload()
        self.assert_right()

    @contextlib.contextmanager
    def counted_while_stopped(self):
        before = self.redirected()
        yield
        self.assertEqual(self.redirected(), before + 1)

    def redirected(self):
        """The first of the counters, of which outcomes are the first, and this the first of them."""
        return sum(cpu["value"] for cpu in self.pinned("shunt_counters")[0]["formatted"]["values"])


class Splicing(SpliceCase):
    """The kernel half asks, and nobody listens; the agent is in another network namespace."""

    @classmethod
    def tearDownClass(cls):
        cls.agent.place = None

    def restart(self):
        self.agent.detach()
        self.agent.place = self.world.far
        self.agent.start()
        self.agent.reload(**self.mesh)

    def setUp(self):
        """The agent does not know this program yet."""
        if not self.splices:
            self.leave_out()
        self.restart()
        self.log_begin = len(self.agent.read_log())

    def log(self):
        return self.agent.read_log()[self.log_begin:]

    def lost(self):
        names = list(self.names)
        values = self.dump("shunt_counters")[names.index("splice_events_lost")]
        return sum(cpu["value"] for cpu in values["formatted"]["values"])

    def forget_programs(self):
        """Each connection asks what its program is, as long as nobody answers."""
        pin = self.agent.pin("shunt_programs")
        for entry in bpftool("map", "dump", "pinned", pin):
            bpftool("map", "delete", "pinned", pin, "key", *entry["key"])

    @contextlib.contextmanager
    def full_ring_buffer(self):
        """What happens then the agent is not told, but that it has missed something."""
        self.names = self.agent.counters()
        listener = self.listen()
        name = listener.getsockname()
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            self.forget_programs()

            def is_full():
                for _ in range(100):
                    with socket.socket() as client:
                        client.connect(name)
                        client.setblocking(False)
                        listener.accept()[0].close()
                return self.lost() > 0
            wait_until(is_full, "the ring buffer is full")
            yield
        finally:
            self.agent.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "the agent did not keep up" in self.log(), "it is told")
        listener.close()

    def test_ring_buffer_full(self):
        with self.full_ring_buffer():
            pass
        client, server = self.pair()
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced")

    def test_ring_buffer_full_when_a_connection_ends(self):
        """With bytes of both kinds unread: its reader is found by passing by."""
        client, server = self.pair()
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced")
        server.shutdown(socket.SHUT_WR)
        self.assertEqual(read(client, 1), b"")
        sent = self.spill(client, 4096)
        with self.full_ring_buffer():
            lost = self.lost()
            client.close()
            wait_until(lambda: state(server) == "CLOSE", "both ends are over")
            self.assertGreater(self.lost(), lost)
        self.assertEqual(self.members(), 1)
        self.assertEqual(read_pattern(server, sent - 4096), "right")
        wait_until(lambda: self.members() == 0, "it is taken out, and told of the rest")
        self.assertEqual(queue(server, termios.FIONREAD), 4096)
        self.assertEqual(read_pattern(server, 4096, sent - 4096), "right")

    def test_programs_full(self):
        full = FullMap(self.agent.pin("shunt_programs"))
        self.assertGreater(full.n, 10000)
        client, server = self.pair()
        self.converse_until(client, server, lambda: "programs are known" in self.log(),
                            "the agent forgets them")
        client.close()
        server.close()
        client, server = self.pair()
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced")
        os.close(full.fd)

    def test_sockets_cannot_be_visited(self):
        """They come out by what they send."""
        client, server = self.pair()
        self.converse_until(client, server, lambda: self.members() == 2, "it is spliced")
        with injected(self.agent, "pidfd_getfd:error=EPERM"):
            self.agent.reload(**self.mesh | {"splice": "off"})
            wait_until(lambda: "cannot be visited: Operation not permitted" in self.log(),
                       "it is told")
            self.converse_until(client, server, lambda: self.members() == 0, "both ends are out")
        self.agent.reload(**self.mesh)


if __name__ == "__main__":
    main()
