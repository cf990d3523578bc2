# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What every test of the hooks begins with: a pod, another host, a sidecar and an agent.

The test itself is the program: it runs in the cgroup `app`, which is enrolled, and in the pod's
network namespace. The sockets of others are made where these are, and then are the test's to use:
to the hooks it matters where a socket was made, not who calls.
"""
import contextlib
import ctypes
import errno
import glob
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import unittest

from sandbox import DEADLINE, PATIENCE, Netns, Place, Sandbox, cgroup_mount, check, die_with_parent, libc, \
    set_patience, wait_until

POD4, POD6 = "10.83.0.2", "fd83::2"
FAR4, FAR6 = "10.83.0.1", "fd83::1"
MAPPED = f"::ffff:{FAR4}"
PORT = 80
TCP4, TCP6 = ("127.0.0.1", 15001), ("::1", 15001)
DNS4, DNS6 = ("127.0.0.1", 15053), ("::1", 15053)

SOON = 3 * PATIENCE  # seconds after which a counter has moved
SPLICING_KERNEL = 6, 12  # from here on the programs that splice have to be taken
UNLOADABLE = "the programs that splice cannot be loaded"
SO_ORIGINAL_DST = 80  # IP6T_SO_ORIGINAL_DST is the same number


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def is_ipv4(address):
    """Also one that is mapped."""
    return "." in address


def plain(address):
    """As a socket of its own family has it."""
    return address.removeprefix("::ffff:")


def disconnect(sock):
    """connect() to AF_UNSPEC."""
    nowhere = struct.pack("=H", socket.AF_UNSPEC).ljust(28, b"\0")
    check(libc.connect(sock.fileno(), ctypes.c_char_p(nowhere), len(nowhere)))


def attempt(function, *arguments):
    """What it returns, or the name of its error."""
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def names(sock):
    """Both names of a socket; its own port, if it is one that the kernel chose, is masked."""
    own = list(sock.getsockname())
    if own[1] >= 32768:
        own[1] = "any"
    return {"own": own, "peer": attempt(sock.getpeername)}


class World(Sandbox):
    """A pod with a program and its sidecar, and another host at the end of its link."""

    def __init__(self, name, build):
        super().__init__(name)
        self.build = build
        self.app = Place(self.cgroup.child("app"), self.new_pod())
        self.proxy = Place(self.cgroup.child("proxy"), self.app.netns)
        self.outside = Place(self.cgroup.child("outside"), self.app.netns)
        self.far = Place(self.cgroup.child("far"), self.app.netns.far)

    @staticmethod
    def new_pod():
        pod = Netns()
        pod.far = Netns()
        pod.connect_to(pod.far)
        pod.add_addresses(f"{POD4}/24", f"{POD6}/64")
        pod.far.add_addresses(f"{FAR4}/24", f"{FAR6}/64")
        pod.ip(f"route add default via {FAR4}", f"route add default via {FAR6}")
        pod.sysctl("ipv4/tcp_syn_retries", 1)  # whoever fails is to fail soon
        return pod


def kernel_version():
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


def splices(status):
    """What the agent says of this kernel; that it cannot is an answer for some kernels only."""
    if status["splice"] != "kernel":
        return True
    if kernel_version() >= SPLICING_KERNEL or status["splice_lacks"] != UNLOADABLE:
        raise AssertionError(f"this kernel should splice: {status['splice_lacks']}")
    return False


class Refused(Exception):
    """The agent says no."""


class Agent:
    """shuntd, with one mesh."""

    def __init__(self, world):
        self.world = world
        self.config = f"{world.directory}/shunt.ini"
        self.socket = f"{world.directory}/control.sock"
        self.pins = f"{world.bpffs}/shunt"
        self.log = f"{world.directory}/shuntd.log"
        self.limits = {}
        self.settings = {}  # more keys of [agent]
        self.program = f"{world.build}/agent/shuntd"
        self.command = []  # what runs it, if not we ourselves
        self.environment = {}
        self.place = None  # where it runs, if not in this network namespace
        self.process = None

    def configure(self, **keys):
        """Writes the configuration: these keys of the mesh; one that is None is left out."""
        mesh = {
            "cgroups": self.world.app.cgroup.path,
            "sidecar_cgroups": self.world.proxy.cgroup.path,
            "tcp_redirect": "127.0.0.1:15001, [::1]:15001",
            "dns_redirect": "127.0.0.1:15053, [::1]:15053",
        } | keys
        agent = {
            "cgroup_root": self.world.mount,
            "pin_dir": self.pins,
            "control_socket": self.socket,
            "metrics_listen": "",
            "fallback": "fail",  # what cannot be had is to be seen
        } | self.settings
        with open(self.config, "w", encoding="utf-8") as file:
            for section, values in ("agent", agent), ("limits", self.limits), ("mesh test", mesh):
                print(f"[{section}]", file=file)
                for key, value in values.items():
                    if value is not None:
                        print(f"{key} = {value}", file=file)

    def spawn(self):
        def prepare():
            die_with_parent()
            (self.place or self.world.far.cgroup).enter()
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [*self.command, self.program, "-c", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare,
                env=os.environ | self.environment)

    def start(self):
        def is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"shuntd ended: {self.read_log()}")
            with contextlib.suppress(OSError):
                return self.ask("status")
        self.process = self.spawn()
        wait_until(is_ready, "shuntd is ready")

    def pin(self, name):
        """Where a map is pinned."""
        found, = glob.glob(f"{self.pins}/v*/*/{name}")
        return found

    def has_pin(self, name):
        return bool(glob.glob(f"{self.pins}/v*/*/{name}"))

    def read_log(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def stop(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE)

    def detach(self):
        self.ask("detach")
        self.process.wait(DEADLINE)

    def ask(self, verb, **arguments):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(self.socket)
            sock.sendall(json.dumps({"verb": verb} | arguments).encode() + b"\n")
            answer = json.loads(sock.makefile().readline())
        if not answer["ok"]:
            raise Refused(answer["error"])
        return answer.get("result")

    def flows(self):
        """All connections that are told, page after page."""
        answer = self.ask("flows")
        flows = answer["flows"]
        while answer["next"] is not None:
            answer = self.ask("flows", next=answer["next"])
            flows += answer["flows"]
        return flows

    def reload(self, **keys):
        self.configure(**keys)
        self.ask("reload")

    def counters(self):
        return self.ask("counters")

    def pairs(self):
        """How many connections the kernel half keeps in mind."""
        return {entry["name"]: entry["used"] for entry in self.ask("status")["maps"]}["pairs"]


def original_dst(sock, level=socket.IPPROTO_IP):
    """What a proxy asks of a socket that it accepted: host and port."""
    if level == socket.IPPROTO_IP:
        family, address, size = socket.AF_INET, slice(4, 8), 16
    else:
        family, address, size = socket.AF_INET6, slice(8, 24), 28
    name = sock.getsockopt(level, SO_ORIGINAL_DST, size)
    if len(name) != size or name[:2] != struct.pack("=H", family):
        raise AssertionError(f"no socket address: {name.hex()}")
    return socket.inet_ntop(family, name[address]), int.from_bytes(name[2:4], "big")


@contextlib.contextmanager
def injected(agent, *injections, log="/dev/null"):
    """System calls of the agent fail: strace(1) has the syntax, and writes them to the log."""
    pid = agent.process.pid
    calls = ",".join(injection.split(":")[0] for injection in injections)
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", log, "-e", f"trace={calls}", "-p", str(pid),
         *(word for injection in injections for word in ("-e", f"inject={injection}"))],
        stdin=subprocess.DEVNULL)

    def is_traced():
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return f"TracerPid:\t{tracer.pid}" in status.read()
    try:
        wait_until(is_traced, "strace has the agent")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(DEADLINE)
    if agent.process.poll() is not None:
        raise AssertionError(f"the agent ended: {agent.read_log()}")


class Case(unittest.TestCase):
    maxDiff = None
    world = None
    agent = None
    mesh = {}  # keys of the configuration
    lacking = {}  # what the kernel turned out to be without, and the tests left out for it

    @classmethod
    def setUpClass(cls):
        cls.agent.reload(**cls.mesh)

    def setUp(self):
        self.sidecars = {}
        for name in TCP4, TCP6:
            self.listen_at(*name)

    def listen_at(self, address, port=TCP4[1]):
        """The sidecar comes up."""
        self.sidecars[family_of(address)] = self.keep(self.world.proxy.listen(address, port))

    def tearDown(self):
        counters = self.agent.counters()
        for hook in "connect", "sendmsg":
            seen = counters.pop(f"{hook}_seen")
            outcomes = {k: v for k, v in counters.items() if k.startswith(f"{hook}_")}
            self.assertEqual(seen, sum(outcomes.values()), outcomes)

    def keep(self, closable):
        """Until the end of the test."""
        self.addCleanup(closable.close)
        return closable

    def kernel_lacks(self, what, error, *expected):
        """Leaves a test out, even where all must run, and says so: this kernel is without what it
        is about. An error that is not one of those expected does not prove that, and is raised."""
        if error.errno not in expected:
            raise error
        self.lacking.setdefault(what, []).append(self)
        self.skipTest(f"this kernel has no {what}")

    @classmethod
    def can_splice(cls):
        return splices(cls.agent.ask("status"))

    def leave_out(self):
        """A test of splicing, where the kernel does not take the programs."""
        self.lacking.setdefault("programs that splice", []).append(self)
        self.skipTest("this kernel does not take the programs that splice")

    def new_socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        sock = self.keep(socket.socket(family, kind, protocol))
        set_patience(sock)
        return sock

    def dial(self, address, port=PORT):
        """A new connection of the program's."""
        sock = self.new_socket(family_of(address))
        sock.connect((address, port))
        return sock

    def accept(self, listener):
        """The sidecar's (or server's) next connection."""
        sock, _ = listener.accept()
        set_patience(sock)
        return self.keep(sock)

    def sidecar(self, address):
        """Whoever listens for connections to this address."""
        return self.sidecars[socket.AF_INET if is_ipv4(address) else socket.AF_INET6]

    def assert_redirected(self, sock, address, port=PORT):
        """That the sidecar was told, and the program is told, what was dialled."""
        proxied = self.accept(self.sidecar(address))
        if is_ipv4(address):
            told = original_dst(proxied, socket.IPPROTO_IP)
        else:
            told = original_dst(proxied, socket.IPPROTO_IPV6)
        self.assertEqual(told, (plain(address), port))
        self.assertEqual(sock.getpeername()[:2], (address, port))
        self.assert_connected(sock, proxied)
        return proxied

    def assert_as_outside(self, function, *arguments):
        """That it comes to the same in the mesh as outside; gives what it comes to."""
        expected = self.world.outside.run(attempt, function, *arguments)
        self.assertEqual(attempt(function, *arguments), expected)
        return expected

    def assert_connected(self, one, other):
        """That these are the two ends of one connection."""
        one.sendall(b"ping")
        self.assertEqual(other.recv(16), b"ping")
        other.sendall(b"pong")
        self.assertEqual(one.recv(16), b"pong")

    @contextlib.contextmanager
    def counted(self, **expected):
        """These counters move by so much; and of those of outcomes no other."""
        before = self.agent.counters()
        yield
        moved = {}

        def have_moved():
            for name, value in self.agent.counters().items():
                delta = value - before[name]
                outcome = name.startswith(("connect_", "sendmsg_")) and not name.endswith("_seen")
                if name in expected or (outcome and delta):
                    moved[name] = delta
            return moved == expected
        with contextlib.suppress(AssertionError):
            wait_until(have_moved, "they have moved", SOON)
        self.assertEqual(moved, expected)


class OwnAgentCase(Case):
    """With an agent of another kind; the usual one is taken out meanwhile."""
    new_agent = Agent  # called with the world

    @classmethod
    def setUpClass(cls):
        cls.usual = cls.agent
        cls.usual.detach()
        Case.agent = cls.new_agent(cls.world)

    @classmethod
    def tearDownClass(cls):
        Case.agent = cls.usual
        cls.usual.start()


def must_run():
    return os.environ.get("SHUNT_TESTS_MUST_RUN") == "1"


def skip(reason):
    print(f"SKIP: {reason}")
    sys.exit(1 if must_run() else 77)


def conclude(result):
    """Says what was skipped; the exit status."""
    left_out = [test for tests in Case.lacking.values() for test in tests]
    failed = not result.wasSuccessful()
    for test, reason in result.skipped:
        print(f"SKIP: {test.id()}: {reason}")
        failed |= must_run() and test not in left_out
    return failed


def main():
    """What the tests in the file that was started are run by."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BUILD_DIR [TEST…]")
    if os.geteuid() != 0:
        skip("needs root")
    if not cgroup_mount():
        skip("no cgroup2 file system is mounted")
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    Case.world = World(name, os.path.abspath(sys.argv[1]))
    Case.agent = Agent(Case.world)
    Case.agent.configure()
    Case.agent.start()
    Case.world.app.enter()
    program = unittest.main(argv=sys.argv[:1] + sys.argv[2:], exit=False)
    Case.agent.stop()
    Case.world.free()
    sys.exit(conclude(program.result))
