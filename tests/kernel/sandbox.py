# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A world of its own for a test: cgroups, network namespaces, a bpffs, and whoever runs there.

A test makes one Sandbox. Only its cgroups and its directory can outlive the test, and a guard
process takes these away when the test ends, however it ends; namespaces and mounts are held by
nothing but the processes of the test and go with them.
"""
import contextlib
import ctypes
import os
import pickle
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

# Seconds after which what has not happened will not, however slow the machine is; an emulated one
# says how much slower.
PATIENCE = int(os.environ.get("SHUNT_TESTS_PATIENCE", "1"))
DEADLINE = 30 * PATIENCE

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)
os.environ["PATH"] += ":/usr/sbin:/sbin"


def check(result):
    """The result of a call to libc, which must not be -1."""
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def die_with_parent():
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))


def wait_until(condition, what, seconds=DEADLINE):
    """Waits for an event that nothing announces; returns what the condition returned."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.005)
    return value


def set_patience(sock):
    """A deadline for a socket that is to stay blocking, which with settimeout() it would not."""
    deadline = struct.pack("=qq", DEADLINE, 0)
    for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
        sock.setsockopt(socket.SOL_SOCKET, option, deadline)


def cgroup_mount():
    """Where the cgroup2 hierarchy is mounted, or None."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mountinfo:
        for line in mountinfo:
            mount, filesystem = line.split(" - ")
            if filesystem.startswith("cgroup2 "):
                return mount.split()[4]
    return None


class Cgroup:
    def __init__(self, mount, path):
        self.path = path  # as the configuration has it
        self.directory = mount + path

    def make(self):
        os.mkdir(self.directory)
        return self

    def child(self, name):
        return Cgroup(self.directory[:-len(self.path)], f"{self.path}/{name}").make()

    def enter(self):
        with open(f"{self.directory}/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write("0")

    def remove(self):
        """With all below it, as soon as the kernel has forgotten who was in there."""
        def is_gone():
            for directory, _, _ in os.walk(self.directory, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            return not os.path.exists(self.directory)
        wait_until(is_gone, f"cgroup {self.path} can be removed")


class Netns:
    """A network namespace; it lives as long as the process that made it, and those inside."""

    def __init__(self):
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        check(libc.unshare(CLONE_NEWNET))
        self.fd = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        check(libc.setns(home, CLONE_NEWNET))
        os.close(home)
        self.ip("link set lo up")

    def enter(self):
        check(libc.setns(self.fd, CLONE_NEWNET))

    @contextlib.contextmanager
    def inside(self):
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.enter()
        try:
            yield
        finally:
            check(libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def ip(self, *commands):
        """Commands of ip(8)."""
        with self.inside():
            subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)

    def nft(self, ruleset):
        with self.inside():
            subprocess.run(["nft", "-f", "-"], input=ruleset, text=True, check=True)

    def sysctl(self, name, value):
        """Returns what it was before."""
        path = f"/proc/sys/net/{name}"
        with self.inside():
            with open(path, encoding="ascii") as file:
                before = file.read().strip()
            with open(path, "w", encoding="ascii") as file:
                file.write(str(value))
        return before

    def connect_to(self, other, device="eth0"):
        self.ip(f"link add {device} type veth peer name {device} netns {other.path}")

    def add_addresses(self, *addresses, device="eth0"):
        """Brings the device up with its addresses, which can be used at once."""
        self.ip(f"link set {device} up", *(
            f"address add {a} dev {device}" + (" nodad" if ":" in a else "") for a in addresses))


class Task:
    """A function that runs in a process of its own."""

    def __init__(self, place, function, *arguments):
        self.results, results = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(results)
            return
        try:
            die_with_parent()
            place.enter()
            result = function(*arguments), None
        except BaseException as error:  # whatever it is, the test is to see it
            result = None, error
        with os.fdopen(results, "wb") as stream:
            pickle.dump(result, stream)
        os._exit(0)

    def result(self):
        """What the function returned, or the exception that it raised, once it has."""
        if not self.has_ended(5 * DEADLINE):
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self.results, "rb") as stream:
            text = stream.read()
        os.waitpid(self.pid, 0)
        if not text:
            raise AssertionError("the process died, or took too long")
        value, error = pickle.loads(text)
        if error:
            raise error
        return value

    def has_ended(self, seconds=0):
        return bool(select.select([self.results], [], [], seconds)[0])

    def close(self):
        """Ends one that has no end."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.results)


class Place:
    """A cgroup and a network namespace: what a process runs in, and its sockets are born in."""

    def __init__(self, cgroup, netns):
        self.cgroup = cgroup
        self.netns = netns

    def enter(self):
        self.cgroup.enter()
        self.netns.enter()

    def start(self, function, *arguments):
        return Task(self, function, *arguments)

    def run(self, function, *arguments):
        return self.start(function, *arguments).result()

    def new_socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        """A socket that was made here, for whoever asks."""
        ours, theirs = socket.socketpair()

        def make():
            with socket.socket(family, kind, protocol) as made:
                socket.send_fds(theirs, [b"."], [made.fileno()])
        with ours, theirs:
            self.run(make)
            _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=fd)

    def bind(self, address, port, kind=socket.SOCK_STREAM):
        sock = self.new_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        set_patience(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def listen(self, address, port, backlog=128):
        sock = self.bind(address, port)
        sock.listen(backlog)
        return sock


class Sandbox:
    def __init__(self, name):
        self.name = f"shunt-{name}-{os.getpid()}"
        self.mount = cgroup_mount()
        self.cgroup = Cgroup(self.mount, f"/{self.name}")
        self.directory = tempfile.mkdtemp(prefix=f"{self.name}-")
        self.home = self._own_cgroup()
        self._start_guard()
        self.cgroup.make()
        check(libc.unshare(CLONE_NEWNS))
        check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
        self.bpffs = f"{self.directory}/bpf"
        os.mkdir(self.bpffs)
        check(libc.mount(b"none", self.bpffs.encode(), b"bpf", 0, None))

    def _own_cgroup(self):
        with open("/proc/self/cgroup", encoding="utf-8") as lines:
            return next(Cgroup(self.mount, line[3:].strip()) for line in lines
                        if line.startswith("0::"))

    def _start_guard(self):
        """The guard waits for the end of this process, which alone holds the pipe."""
        alive, self.alive = os.pipe()
        self.guard = os.fork()
        if self.guard:
            os.close(alive)
            return
        os.setsid()
        os.close(self.alive)
        with open(os.devnull, "r+b") as null:
            for fd in range(3):
                os.dup2(null.fileno(), fd)
        os.read(alive, 1)
        os._exit(self._clean_up())

    def _clean_up(self):
        with contextlib.suppress(OSError):
            with open(f"{self.cgroup.directory}/cgroup.kill", "w", encoding="ascii") as kill:
                kill.write("1")
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(AssertionError):
            self.cgroup.remove()
            return 0
        return 1

    def free(self):
        self.home.enter()
        os.close(self.alive)
        _, status = os.waitpid(self.guard, 0)
        if status:
            raise AssertionError(f"{self.cgroup.directory} is left behind")
