#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is told of connections: who, dialled what, spliced or why not, how many bytes went how."""
import fcntl
import json
import os
import pty
import resource
import socket
import struct
import subprocess
import termios

from case import FAR4, FAR6, PORT, SOON, TCP4, Case, Refused, main
from flow_table import FIRST_PORT, FlowTable
from sandbox import DEADLINE, wait_until
from semantics import pattern, read_pattern, write
from splice_case import SpliceCase

PAGE = 1024  # flows in one answer at most
READERS = 8  # answers under way at a time
DIRECTIONS = "client_to_server", "server_to_client"
# Why nothing is spliced where splice = off.
WHY_PLAIN = {
    "off": "splice = off",
    "kernel": "this kernel cannot splice safely; the agent's log says what is missing",
}
# The columns that are always there.
LEAST = ["CLIENT", "DIALLED", "STATE", "WHY", "NOT"]


def name_of(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def process_name(pid="self"):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
        return comm.read().strip()


def shortened(value):
    """What a brief answer has of it."""
    if not isinstance(value, dict):
        return value
    return {key: shortened(item) for key, item in value.items()
            if key != "reason_text" and item is not None and (item != 0 or item is False)}


class FlowsCase(Case):
    def tearDown(self):
        super().tearDown()
        self.doCleanups()
        wait_until(lambda: self.flows() == [], "no connection is left", SOON)

    def flows(self, **filters):
        """All of them, page after page."""
        return self.rest(self.agent.ask("flows", **filters))

    def rest(self, answer):
        """Those of a page, and of all after it."""
        flows = answer["flows"]
        while answer["next"] is not None:
            answer = self.agent.ask("flows", next=answer["next"])
            self.assertLessEqual(len(answer["flows"]), PAGE)
            flows += answer["flows"]
        return flows

    def flow(self, **filters):
        """The only one."""
        flow, = self.flows(**filters)
        return flow

    def ports(self, **filters):
        """Of those that are told, the ports dialled."""
        return sorted(int(flow["dialled"].rpartition(":")[2]) for flow in self.flows(**filters))

    def open(self, address=FAR4, port=PORT):
        """Both ends of a redirected connection."""
        sock = self.dial(address, port)
        return sock, self.accept(self.sidecar(address))

    def bytes_tcp(self):
        directions = self.flow()["directions"]
        return tuple(directions[name]["bytes_tcp"] for name in DIRECTIONS)

    def expect_bytes_tcp(self, *expected):
        """Once what is under way has arrived."""
        wait_until(lambda: self.bytes_tcp() == expected, f"{expected} bytes are counted", SOON)

    def shuntctl(self, *arguments, **keywords):
        command = f"{self.world.build}/agent/shuntctl"
        return subprocess.run([command, "-s", self.agent.socket, *arguments], text=True,
                              timeout=DEADLINE, check=False, **keywords)

    def shuntctl_json(self, *arguments):
        done = self.shuntctl("-j", "flows", *arguments, stdout=subprocess.PIPE)
        self.assertEqual(done.returncode, 0)
        return json.loads(done.stdout)


class Plain(FlowsCase):
    mesh = {"splice": "off"}

    def expect_flow(self, address):
        sock, proxied = self.open(address)
        self.assert_connected(sock, proxied)
        self.expect_bytes_tcp(4, 4)
        flow = self.flow()
        me = {"pid": os.getpid(), "comm": process_name()}
        direction = {
            "state": "plain", "bytes_spliced": 0, "messages_spliced": 0, "bytes_tcp": 4,
            "messages_tcp": 0, "cut_overs": 0, "leaves": 0, "spills": 0, "rejoins": 0, "kicks": 0,
        }
        for name, least in ("age_s", 0), ("connect_us", 0), ("rtt_us", 1):
            self.assertGreaterEqual(flow.pop(name), least, name)
        self.assertRegex(flow.pop("id"), "^[0-9a-f]{16}$")
        reason = flow.pop("reason")
        self.assertEqual(flow.pop("reason_text"), WHY_PLAIN.get(reason), reason)
        self.assertEqual(flow, {
            "mesh": "test",
            "client": me | {"cgroup": self.world.app.cgroup.path,
                            "address": name_of(sock.getsockname())},
            "server": me | {"cgroup": self.world.proxy.cgroup.path},
            "dialled": name_of((address, PORT)),
            "redirected_to": name_of(proxied.getsockname()),
            "spliced": False,
            "directions": dict.fromkeys(DIRECTIONS, direction),
        })

    def test_redirected(self):
        self.expect_flow(FAR4)

    def test_redirected_ipv6(self):
        self.expect_flow(FAR6)

    def test_left_alone(self):
        """What Shunt has nothing to do with it does not tell either."""
        listener = self.keep(self.world.far.listen(FAR4, PORT))
        self.keep(self.world.outside.new_socket()).connect((FAR4, PORT))
        self.accept(listener)
        self.assertEqual(self.flows(), [])

    def test_end_that_waits(self):
        """The sidecar has not accepted it yet: nobody has that end."""
        self.dial(FAR4)
        server = self.flow()["server"]
        self.assertEqual((server["pid"], server["comm"]), (None, None))

    def test_other_processes(self):
        """The ends are with two others, each of which was forked with both sockets."""
        begun, end = os.pipe(), os.pipe()
        for fd in *begun, *end:
            self.addCleanup(os.close, fd)

        def hold(sock, name):
            with open("/proc/self/comm", "w", encoding="ascii") as comm:
                comm.write(name)
            os.write(begun[1], b"!")
            os.read(end[0], 1)
            sock.close()
        ends = self.open()
        names = "one \\ \"end", "the other"
        places = self.world.app, self.world.proxy
        tasks = [place.start(hold, *what) for place, *what in zip(places, ends, names)]
        for sock in ends:
            os.read(begun[0], 1)
            sock.close()
        flow = self.flow()
        os.write(end[1], b"!!")
        for task in tasks:
            task.result()
        holders = {(task.pid, name) for task, name in zip(tasks, names)}
        for side in "client", "server":
            self.assertIn((flow[side]["pid"], flow[side]["comm"]), holders)


class Bytes(FlowsCase):
    """What TCP counts holds SYNs and FINs; what is told does not."""
    mesh = {"splice": "off"}

    def setUp(self):
        super().setUp()
        self.sock, self.proxied = self.open()

    def send(self, sender, reader, size):
        sender.sendall(bytes(size))
        while size:
            size -= len(reader.recv(size))

    def test_none(self):
        self.assertEqual(self.bytes_tcp(), (0, 0))

    def test_many(self):
        self.send(self.sock, self.proxied, 100001)
        self.send(self.proxied, self.sock, 3)
        self.expect_bytes_tcp(100001, 3)

    def test_client_that_is_done(self):
        self.send(self.sock, self.proxied, 10)
        self.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(self.proxied.recv(1), b"")
        self.expect_bytes_tcp(10, 0)
        self.send(self.proxied, self.sock, 20)
        self.expect_bytes_tcp(10, 20)

    def test_server_that_is_done(self):
        self.send(self.proxied, self.sock, 10)
        self.proxied.shutdown(socket.SHUT_WR)
        self.assertEqual(self.sock.recv(1), b"")
        self.send(self.sock, self.proxied, 20)
        self.expect_bytes_tcp(20, 10)

    def test_client_that_is_gone(self):
        self.send(self.sock, self.proxied, 10)
        self.send(self.proxied, self.sock, 20)
        self.sock.close()
        self.assertEqual(self.proxied.recv(1), b"")
        self.expect_bytes_tcp(10, 20)


class Filters(FlowsCase):
    mesh = {"splice": "off"}

    def setUp(self):
        super().setUp()
        self.first = self.open(FAR4, 1001)
        self.second = self.open(FAR6, 1002)

    def test_port(self):
        self.assertEqual(self.ports(port=1002), [1002])
        self.assertEqual(self.ports(port=TCP4[1]), [1001, 1002])
        self.assertEqual(self.ports(port=self.first[0].getsockname()[1]), [1001])
        self.assertEqual(self.ports(port=1), [])

    def test_mesh(self):
        self.assertEqual(self.ports(mesh="test"), [1001, 1002])
        self.assertEqual(self.ports(mesh="tes"), [])

    def test_mesh_after_a_reload(self):
        """Which gives its rules another place."""
        self.agent.reload(**self.mesh)
        self.assertEqual(self.ports(mesh="test"), [1001, 1002])

    def test_cgroup(self):
        for cgroup in self.world.app.cgroup, self.world.proxy.cgroup, self.world.cgroup:
            for path in cgroup.path, f"{cgroup.path}/", cgroup.directory, "/":
                self.assertEqual(self.ports(cgroup=path), [1001, 1002], path)
        for path in self.world.outside.cgroup.path, self.world.app.cgroup.path[:-1]:
            self.assertEqual(self.ports(cgroup=path), [], path)

    def test_pid(self):
        self.assertEqual(self.ports(pid=os.getpid()), [1001, 1002])
        self.assertEqual(self.ports(pid=1), [])

    def test_state(self):
        self.assertEqual(self.ports(state="plain"), [1001, 1002])
        for state in "ready", "spliced", "spilled", "left":
            self.assertEqual(self.ports(state=state), [])

    def test_all_of_them_count(self):
        self.assertEqual(self.ports(state="plain", port=1001, mesh="test"), [1001])
        self.assertEqual(self.ports(state="spliced", port=1001), [])

    def test_what_is_wrong(self):
        for filters in ({"state": "odd"}, {"state": 1}, {"pid": 0}, {"pid": "1"}, {"port": 65536},
                        {"cgroup": "app"}, {"mesh": 1}):
            with self.assertRaisesRegex(Refused, f"^{next(iter(filters))}: ", msg=filters):
                self.flows(**filters)

    def test_shuntctl(self):
        for arguments, ports in (
                ([], ["1001", "1002"]),
                (["--port", "1002"], ["1002"]),
                (["--mesh=test", "--state=plain", f"--pid={os.getpid()}"], ["1001", "1002"]),
                (["--cgroup", self.world.outside.cgroup.path], [])):
            flows = self.shuntctl_json(*arguments)
            self.assertEqual(sorted(flow["dialled"][-4:] for flow in flows), ports, arguments)

    def test_shuntctl_that_is_asked_wrong(self):
        for arguments in (["--port", "0"], ["--pid", "1x"], ["--sort", "name"], ["--nothing"],
                          ["--mesh"], ["plain"]):
            done = self.shuntctl("flows", *arguments, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertRegex(done.stderr, r"\Ashuntctl: flows: .*\n\Z")
        done = self.shuntctl("flows", "--state", "odd", stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))


class Order(FlowsCase):
    mesh = {"splice": "off"}

    def dialled(self, *arguments):
        return [flow["dialled"][-4:] for flow in self.shuntctl_json(*arguments)]

    def test_order(self):
        self.open(port=1001)
        wait_until(lambda: self.flow()["age_s"] >= 1, "it is a second old")
        second = self.open(port=1002)
        self.assert_connected(*second)
        self.assertEqual(self.dialled(), ["1001", "1002"])
        self.assertEqual(self.dialled("--sort", "age"), ["1001", "1002"])
        self.assertEqual(self.dialled("--sort", "bytes"), ["1002", "1001"])


class Pages(FlowsCase):
    mesh = {"splice": "off"}

    def setUp(self):
        super().setUp()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))

    def test_pages(self):
        count = 2 * PAGE + 100
        dialled = {name_of((FAR4, 1000 + n)) for n in range(count)}
        for n in range(count):
            self.open(port=1000 + n)
        flows = self.flows()
        self.assertEqual(len(flows), count)
        self.assertEqual({flow["dialled"] for flow in flows}, dialled)
        self.assertEqual(len(self.shuntctl_json()), count)
        self.expect_answers_to_be_dropped(count)

    def expect_answers_to_be_dropped(self, count):
        """Who never comes back for the rest keeps nobody from asking."""
        begun = [self.agent.ask("flows") for _ in range(READERS + 1)]
        with self.assertRaisesRegex(Refused, "ask again"):
            self.agent.ask("flows", next=begun[0]["next"])
        for answer in begun[1:]:
            self.assertEqual(len(self.rest(answer)), count)


    def test_brief(self):
        """What the table is made of, on each page."""
        for n in range(PAGE + 2):
            self.open(port=1000 + n)
        told = {flow["id"]: flow for flow in self.flows(brief=True)}
        self.assertEqual(len(told), PAGE + 2)
        for flow in self.flows():
            flow = shortened(flow)
            for variable in "age_s", "rtt_us", "connect_us":
                for one in flow, told[flow["id"]]:
                    one.pop(variable, None)
            self.assertEqual(told[flow["id"]], flow)

    def test_table(self):
        """It has each of them once, the busiest first."""
        ports = range(1000, 1000 + PAGE + 2)
        for port in ports:
            sock, proxied = self.open(port=port)
            if port == ports[7]:
                self.assert_connected(sock, proxied)
        done = self.shuntctl("flows", "--sort", "bytes", stdout=subprocess.PIPE)
        titles, *rows = [line.split() for line in done.stdout.splitlines()]
        dialled = [row[titles.index("DIALLED")] for row in rows]
        self.assertEqual(sorted(dialled), sorted(name_of((FAR4, port)) for port in ports))
        self.assertEqual(dialled[0], name_of((FAR4, ports[7])))


class Many(FlowsCase):
    mesh = {"splice": "off"}
    count = 50_000

    def sources(self, *arguments):
        return [int(flow["client"]["address"].rpartition(":")[2]) - FIRST_PORT
                for flow in self.shuntctl_json(*arguments)]

    def test_many(self):
        cgroups = self.world.app.cgroup, self.world.proxy.cgroup
        table = self.keep(FlowTable(self.agent, cgroups))
        table.fill(self.count)
        everything = list(range(self.count))
        self.assertEqual(sorted(self.sources()), everything)
        by_bytes = self.sources("--sort", "bytes")
        self.assertEqual(by_bytes, everything[::-1])
        self.assertEqual(self.sources("--port", str(FIRST_PORT + 7)), [7])
        self.assertEqual(self.sources("--state", "left"), [])
        done = self.shuntctl("flows", stdout=subprocess.PIPE)
        self.assertEqual(done.stdout.count("\n"), self.count + 1)


class Table(FlowsCase):
    mesh = {"splice": "off"}

    def on_terminal(self, width):
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", 0) as screen, os.fdopen(theirs, "wb", 0) as terminal:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("=HHHH", 24, width, 0, 0))
            self.assertEqual(self.shuntctl("flows", stdout=terminal).returncode, 0)
            return screen.read(65536).decode().splitlines()

    def test_all_of_it(self):
        self.assert_connected(*self.open())
        done = self.shuntctl("flows", stdout=subprocess.PIPE)
        header, flow = done.stdout.splitlines()
        me = f"{process_name()}/{os.getpid()}"
        for title in "AGE", "REDIRECTED TO", "HISTORY", "CLIENT CGROUP", "SERVER CGROUP":
            self.assertIn(title, header)
        for cell in (me, name_of((FAR4, PORT)), name_of(TCP4), "plain", self.flow()["reason"],
                     "0/0", "4/4", "test", self.world.app.cgroup.path,
                     self.world.proxy.cgroup.path):
            self.assertIn(cell, flow.split())

    def test_what_fits(self):
        self.open()
        widths = []
        for terminal in 1000, 120, 100, 80:
            lines = self.on_terminal(terminal)
            self.assertEqual(len(lines), 2)
            self.assertLessEqual(max(map(len, lines)), terminal)
            widths.append(len(lines[0].split()))
        self.assertEqual(widths, sorted(widths, reverse=True))
        self.assertGreater(widths[0], widths[-1])
        self.assertEqual(self.on_terminal(10)[0].split(), LEAST)

    def test_none(self):
        done = self.shuntctl("flows", stdout=subprocess.PIPE)
        self.assertEqual(done.stdout.count("\n"), 1)


class Spliced(FlowsCase):
    mesh = {"splice": "sidecar"}
    blocking = False

    def setUp(self):
        super().setUp()
        for listener in self.sidecars.values():
            listener.setblocking(False)
        ends = self.open()
        if not self.can_splice():
            self.assertEqual(self.flow()["reason"], "kernel")
            self.leave_out()
        for sock in ends:
            sock.close()

    def new_socket(self, *arguments, **keywords):
        sock = super().new_socket(*arguments, **keywords)
        sock.setblocking(self.blocking)
        return sock

    def open(self, address=FAR4, port=PORT):
        sock = self.new_socket()
        sock.connect_ex((address, port))
        accepted = wait_until(lambda: self.try_accept(self.sidecar(address)), "it is accepted")
        accepted.setblocking(self.blocking)
        return sock, self.keep(accepted)

    @staticmethod
    def try_accept(listener):
        try:
            return listener.accept()[0]
        except BlockingIOError:
            return None

    def open_spliced(self):
        """The agent has to have looked at the programs first."""
        def is_spliced():
            ends = self.open()
            ends[0].sendall(b"ping")
            wait_until(lambda: self.try_receive(ends[1]) == b"ping", "it arrives")
            source = ends[0].getsockname()[1]
            flow = self.flow(port=source)
            if flow["spliced"]:
                return ends
            for sock in ends:
                sock.close()
            return None
        return wait_until(is_spliced, "a connection is spliced")

    @staticmethod
    def try_receive(sock):
        try:
            return sock.recv(65536)
        except BlockingIOError:
            return None

    def test_spliced(self):
        sock, proxied = self.open_spliced()
        port = sock.getsockname()[1]
        flow = self.flow(port=port)
        self.assertEqual((flow["reason"], flow["redirected_to"]), ("none", name_of(TCP4)))
        there, back = (flow["directions"][name] for name in DIRECTIONS)
        self.assertEqual((there["state"], there["bytes_spliced"], there["messages_spliced"],
                          there["bytes_tcp"], there["cut_overs"]), ("spliced", 4, 1, 0, 1))
        self.assertEqual((back["state"], back["bytes_spliced"]), ("ready", 0))
        proxied.sendall(b"pong!")
        back = self.flow(port=port, state="spliced")["directions"]["server_to_client"]
        self.assertEqual((back["state"], back["bytes_spliced"], back["bytes_tcp"]),
                         ("spliced", 5, 0))
        self.assertEqual(self.flows(port=port, state="plain"), [])

    def test_blocking(self):
        self.blocking = True
        self.sidecar(FAR4).setblocking(True)
        sock, proxied = self.open()
        port = sock.getsockname()[1]
        self.assert_connected(sock, proxied)
        flow = self.flow(port=port)
        self.assertEqual((flow["spliced"], flow["reason"]), (False, "blocking"))
        self.assertEqual(flow["reason_text"], "one of its sockets is in blocking mode")


class History(SpliceCase, FlowsCase):
    """What becomes of a connection that was spliced."""

    def told(self, state):
        """The only connection, and its way to the server: found by this state, and by no other."""
        flow = self.flow(state=state)
        there = flow["directions"]["client_to_server"]
        self.assertEqual(there["state"], state)
        for other in {"plain", "spliced", "spilled", "left"} - \
                {direction["state"] for direction in flow["directions"].values()}:
            self.assertEqual(self.flows(state=other), [], other)
        row = self.shuntctl("flows", stdout=subprocess.PIPE).stdout.splitlines()[1]
        self.assertRegex(row, rf" {state}[ /]")
        return flow, there

    def test_spilled_and_rejoined(self):
        client, server = self.open()
        _, there = self.told("spliced")
        self.assertEqual((there["spills"], there["rejoins"], there["bytes_tcp"]), (0, 0, 0))
        before, sent = there, 0
        while not self.flow()["directions"]["client_to_server"]["spills"]:
            write(client, pattern(3000, sent))
            sent += 3000
        _, there = self.told("spilled")
        self.assertEqual((there["spills"], there["rejoins"]), (1, 0))
        self.assertGreater(there["bytes_spliced"], before["bytes_spliced"])
        self.assertEqual(read_pattern(server, sent), "right")

        def has_rejoined():
            return self.flow()["directions"]["client_to_server"]["rejoins"]
        self.converse_until(client, server, has_rejoined, "it is spliced again")
        _, there = self.told("spliced")
        self.assertEqual((there["spills"], there["rejoins"]), (1, 1))
        self.assertEqual(self.flow()["reason"], "none")

    def test_left(self):
        client, server = self.open()
        before = self.told("spliced")[1]
        client.setblocking(True)
        self.converse(client, server, rounds=5, size=100)
        flow, there = self.told("left")
        self.assertEqual((flow["spliced"], flow["reason"]), (False, "blocking"))
        self.assertEqual((before["leaves"], there["leaves"]), (0, 1))
        self.assertEqual(there["bytes_spliced"] + there["bytes_tcp"],
                         before["bytes_spliced"] + 500)
        self.assertGreaterEqual(there["bytes_tcp"], 400)


if __name__ == "__main__":
    main()
