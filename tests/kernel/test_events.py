#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What happens to connections is told to whoever listens, as it happens, and adds up."""
import contextlib
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

from case import FAR4, FAR6, PORT, TCP4, Case, Refused, attempt, main
from sandbox import DEADLINE, Place, wait_until
from semantics import pattern, read_pattern, write
from splice_case import SpliceCase

LISTENERS = 5
BATCH = 500  # events at a time that no limit is reached by
# Counters that move with an event each.
COUNTED = {
    "opened": ["pairs_opened"], "closed": ["pairs_closed"], "paired": ["splice_paired"],
    "spilled": ["splice_spilled"], "rejoined": ["splice_rejoined"],
    "refused": [f"{hook}_refused_{why}" for hook in ("connect", "sendmsg")
                for why in ("sidecar_down", "no_memory")],
}


def name_of(address):
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Stream:
    """Somebody who listens; a thread reads."""

    def __init__(self, agent, **filters):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(agent.socket)
        self.sock.sendall(json.dumps({"verb": "events"} | filters).encode() + b"\n")
        self.lines = self.sock.makefile("rb")
        answer = json.loads(self.lines.readline())
        if not answer["ok"]:
            self.sock.close()
            raise Refused(answer["error"])
        self.sock.settimeout(None)
        self.events = []
        self.thread = None

    def read(self):
        with contextlib.suppress(ConnectionResetError):
            for line in self.lines:
                self.events.append(json.loads(line))

    def start(self):
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        return self

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self.thread:
            self.thread.join(DEADLINE)
        self.lines.close()
        self.sock.close()

    def of(self, *kinds):
        return [event for event in list(self.events) if event["event"] in kinds]


class Listening:
    """What tests of events share, whether their connections are spliced or not."""

    def listen_to_events(self, **filters):
        return self.keep(Stream(self.agent, **filters).start())

    def expect(self, stream, kind, **members):
        """An event of this kind with these members, once it has come."""
        def find():
            for event in stream.of(kind):
                if all(event[name] == value for name, value in members.items()):
                    return event
            return None
        return wait_until(find, f"{kind} {members} is told; so far {stream.events}", DEADLINE)

    def moved(self, before):
        after = self.agent.counters()
        return {name: after[name] - before[name] for name in after}

    def hear_all(self, stream, before):
        """Waits until the stream has all that was told since then; how the counters have moved.
        Who tells much does this now and then: a machine may be too slow for a reader to keep up."""
        moved = self.moved(before)

        def has_all():
            if not stream.thread.is_alive():
                raise AssertionError(f"the stream ended: {self.agent.read_log()}")
            return len(stream.events) >= moved["events_told"]
        try:
            wait_until(has_all, "all is heard")
        except AssertionError as error:
            raise AssertionError(f"{error}: {len(stream.events)} of {moved}") from None
        return moved

    def assert_sums(self):
        counters = self.agent.counters()
        for hook in "connect", "sendmsg":
            outcomes = {name: n for name, n in counters.items()
                        if name.startswith(f"{hook}_") and name != f"{hook}_seen"}
            self.assertEqual(counters[f"{hook}_seen"], sum(outcomes.values()), outcomes)
        closed = {name: n for name, n in counters.items() if name.startswith("closed_")}
        self.assertEqual(counters["pairs_closed"], sum(closed.values()), closed)

    def expect_all(self, stream, before):
        """Each counter has moved by as many as there are events, and nothing is missing."""
        def differences():
            moved = self.moved(before)
            told = {kind: len(stream.of(kind)) for kind in COUNTED}
            counted = {kind: sum(moved[name] for name in names) for kind, names in COUNTED.items()}
            return {kind: (told[kind], counted[kind]) for kind in COUNTED
                    if told[kind] != counted[kind]}
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not differences(), "all is told", DEADLINE)
        self.assertEqual(differences(), {})
        self.assertEqual(sum(event["lost"] for event in stream.events), 0)


class EventsCase(Listening, Case):
    mesh = {"splice": "off"}

    def tearDown(self):
        super().tearDown()
        self.doCleanups()
        wait_until(lambda: self.agent.pairs() == 0, "no connection is left", DEADLINE)
        self.assert_sums()

    def open(self, address=FAR4, port=PORT):
        sock = self.dial(address, port)
        return sock, self.accept(self.sidecar(address))

    def configure(self, **keys):
        self.agent.reload(**self.mesh | keys)
        self.addCleanup(self.agent.reload, **self.mesh)

    def close_sidecars(self):
        for listener in self.sidecars.values():
            listener.close()

    def refuse(self, times=1):
        for _ in range(times):
            with socket.socket() as sock:
                self.assertEqual(attempt(sock.connect, (FAR4, PORT)), "ECONNREFUSED")


class Kinds(EventsCase):
    def expect_life(self, address):
        stream = self.listen_to_events()
        sock, proxied = self.open(address)
        opened = self.expect(stream, "opened")
        self.assertRegex(opened["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
        expected = {
            "mesh": "test", "dialled": name_of((address, PORT)), "protocol": "tcp",
            "redirected_to": name_of(proxied.getsockname()), "outcome": "redirected",
            "outcome_text": "sent to the sidecar", "direction": None, "lost": 0,
        }
        self.assertEqual({name: opened[name] for name in expected}, expected)
        self.assertEqual(opened["client"] | {"comm": None}, {
            "pid": os.getpid(), "comm": None, "cgroup": self.world.app.cgroup.path,
            "address": name_of(sock.getsockname())})
        self.assertIn(opened["reason"], ("off", "kernel"))
        self.assertGreaterEqual(opened["connect_us"], 0)
        sock.sendall(bytes(1000))
        self.assertEqual(len(proxied.recv(1000, socket.MSG_WAITALL)), 1000)
        proxied.sendall(b"answer")
        self.assertEqual(sock.recv(16), b"answer")
        self.assertEqual(stream.of("closed"), [])
        return stream, opened, sock, proxied

    def expect_closed(self, stream, opened):
        closed = self.expect(stream, "closed")
        for name in "client", "dialled", "redirected_to", "mesh", "outcome", "reason":
            self.assertEqual(closed[name], opened[name], name)
        self.assertEqual(closed["server"]["cgroup"], self.world.proxy.cgroup.path)
        there, back = (closed["directions"][name]["bytes_tcp"]
                       for name in ("client_to_server", "server_to_client"))
        self.assertEqual((there, back), (1000, 6))

    def test_client_that_closes_first(self):
        for address in FAR4, FAR6:
            stream, opened, sock, proxied = self.expect_life(address)
            sock.close()
            self.assertEqual(proxied.recv(1), b"")
            proxied.close()
            self.expect_closed(stream, opened)

    def test_server_that_closes_first(self):
        for address in FAR4, FAR6:
            stream, opened, sock, proxied = self.expect_life(address)
            proxied.close()
            self.assertEqual(sock.recv(1), b"")
            sock.close()
            self.expect_closed(stream, opened)

    def test_refused(self):
        stream = self.listen_to_events()
        self.close_sidecars()
        self.refuse()
        event = self.expect(stream, "refused", protocol="tcp")
        expected = {
            "outcome": "refused_sidecar_down", "reason": None, "reason_text": None, "mesh": "test",
            "outcome_text": "nothing listens there; on_sidecar_down = refuse",
            "dialled": name_of((FAR4, PORT)), "redirected_to": None,
        }
        self.assertEqual({name: event[name] for name in expected}, expected)
        self.assertEqual((event["client"]["pid"], event["client"]["cgroup"]),
                         (os.getpid(), self.world.app.cgroup.path))

    def test_refused_datagram(self):
        stream = self.listen_to_events()
        sock = self.new_socket(kind=socket.SOCK_DGRAM)
        self.assertEqual(attempt(sock.sendto, b"?", (FAR4, 53)),
                         "ECONNREFUSED")
        self.expect(stream, "refused", protocol="udp", dialled=name_of((FAR4, 53)),
                    outcome="refused_sidecar_down")

    def test_error_bypass(self):
        self.configure(on_sidecar_down="bypass")
        self.close_sidecars()
        stream = self.listen_to_events()
        self.keep(self.world.far.listen(FAR4, PORT))
        self.dial(FAR4)
        self.expect(stream, "error", outcome="bypassed_sidecar_down", mesh="test",
                    dialled=name_of((FAR4, PORT)))

    def test_error_unclassified(self):
        self.configure(cgroups=f"{self.world.app.cgroup.path}/*")
        stream = self.listen_to_events()
        self.keep(self.world.far.listen(FAR4, PORT))
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            new = self.world.app.cgroup.child("new")
            self.addCleanup(new.remove)
            with Place(new, self.world.app.netns).new_socket() as sock:
                sock.connect((FAR4, PORT))
        finally:
            self.agent.process.send_signal(signal.SIGCONT)
        self.expect(stream, "error", outcome="unclassified")


class Filters(EventsCase):
    def test_filters(self):
        streams = {key: self.listen_to_events(**{key: value}) for key, value in {
            "mesh": "test", "pid": os.getpid(), "port": 1001, "state": "plain",
            "cgroup": self.world.cgroup.path}.items()}
        others = {key: self.listen_to_events(**{key: value}) for key, value in {
            "mesh": "tes", "pid": 1, "port": 1002, "state": "spliced",
            "cgroup": self.world.outside.cgroup.path}.items()}
        everything = self.listen_to_events()
        self.open(FAR4, 1001)
        for stream in *streams.values(), everything:
            self.expect(stream, "opened", dialled=name_of((FAR4, 1001)))
        self.open(FAR4, 1002)
        self.expect(others.pop("port"), "opened", dialled=name_of((FAR4, 1002)))
        self.expect(everything, "opened", dialled=name_of((FAR4, 1002)))
        for key, stream in others.items():
            self.assertEqual(stream.events, [], key)

    def test_what_is_wrong(self):
        for filters in {"state": "odd"}, {"pid": 0}, {"port": 65536}, {"cgroup": "app"}:
            with self.assertRaisesRegex(Refused, f"^{next(iter(filters))}: ", msg=filters):
                Stream(self.agent, **filters)


class Clients(EventsCase):
    def told(self):
        return self.agent.counters()["events_told"]

    def test_several(self):
        streams = [self.listen_to_events() for _ in range(LISTENERS)]
        before = self.agent.counters()
        for n in range(20):
            for sock in self.open(port=1000 + n):
                sock.close()
        for stream in streams:
            self.expect_all(stream, before)
        for stream in streams[1:]:
            self.assertEqual(stream.events, streams[0].events)

    def test_none(self):
        """Nothing is told when nobody listens, and not when nobody listens any more either."""
        def is_quiet():
            before = self.told()
            for sock in self.open():
                sock.close()
            wait_until(lambda: self.agent.pairs() == 0, "it is over", DEADLINE)
            return self.told() == before
        self.assertTrue(is_quiet())
        stream = self.listen_to_events()
        ends = self.open()
        self.expect(stream, "opened")
        for sock in ends:
            sock.close()
        stream.close()
        wait_until(is_quiet, "nothing is told any more", DEADLINE)

    def test_client_that_says_something(self):
        stream = self.listen_to_events()
        stream.sock.sendall(b"{\"verb\": \"status\"}\n")
        stream.thread.join(DEADLINE)
        self.assertFalse(stream.thread.is_alive())
        self.assertEqual(stream.events, [])

    def test_slow_clients(self):
        """Each is cut off, and nobody else misses anything."""
        slow = [self.keep(Stream(self.agent)) for _ in range(2)]
        fast = [self.listen_to_events() for _ in range(2)]
        self.close_sidecars()
        before = self.agent.counters()
        complaint = "reads its events too slowly"
        complaints = self.agent.read_log().count(complaint)

        def hear_all():
            return [self.hear_all(stream, before) for stream in fast][-1]

        def are_cut_off():
            self.refuse(BATCH)
            hear_all()
            return self.agent.read_log().count(complaint) == complaints + len(slow)
        wait_until(are_cut_off, "the slow ones are cut off")
        self.refuse()
        moved = hear_all()
        for stream in fast:
            self.assertEqual(len(stream.events), moved["events_told"])
        for stream in slow:
            stream.sock.settimeout(DEADLINE)
            lines = [json.loads(line) for line in stream.lines]
            self.assertEqual(lines[-1], {
                "ok": False, "error": "cut off: the stream was not read as fast as it came"})
            self.assertEqual(lines[:-1], fast[0].events[:len(lines) - 1])
        self.assertEqual(self.agent.read_log().count(complaint), complaints + len(slow))

    def test_agent_that_ends(self):
        stream = self.listen_to_events()
        self.agent.stop()
        self.agent.start()
        stream.thread.join(DEADLINE)
        self.assertFalse(stream.thread.is_alive())

    def test_agent_that_was_killed(self):
        """The next one does not have the kernel tell what nobody listens to."""
        stream = self.listen_to_events()
        self.agent.stop(signal.SIGKILL)
        self.agent.start()
        stream.thread.join(DEADLINE)
        before = self.told()
        self.open()
        self.assertEqual(self.told(), before)
        stream = self.listen_to_events()
        self.open(port=1001)
        self.expect(stream, "opened", dialled=name_of((FAR4, 1001)))


class Limits(EventsCase):
    def setUp(self):
        super().setUp()
        self.close_sidecars()

    def expect_balance(self, before):
        """Each was told, or counted as not told."""
        moved = self.moved(before)
        self.assertEqual(
            moved["connect_refused_sidecar_down"],
            moved["events_told"] + moved["events_limited"] + moved["events_dropped"], moved)
        return moved

    def test_rate(self):
        if "SHUNT_GUEST" in os.environ:
            self.lacking.setdefault("speed", []).append(self)
            self.skipTest("an emulated processor has less to tell than the limit allows")
        stream = self.listen_to_events()
        before = self.agent.counters()

        def is_limited():
            self.refuse(BATCH)
            return self.hear_all(stream, before)["events_limited"]
        wait_until(is_limited, "not all are told")

        def is_confessed():
            self.refuse()
            self.hear_all(stream, before)
            return any(event["lost"] for event in stream.events)
        wait_until(is_confessed, "an event says how many were not told before it")
        moved = self.expect_balance(before)
        self.assertEqual(len(stream.events), moved["events_told"])
        lost = sum(event["lost"] for event in stream.events)
        self.assertLessEqual(lost, moved["events_limited"] + moved["events_dropped"])
        # Those of other kinds are not held up.
        self.listen_at(*TCP4)
        self.open()
        self.expect(stream, "opened")

    def test_full(self):
        """The agent does not come to read them."""
        stream = self.listen_to_events()
        before = self.agent.counters()
        times = BATCH

        def is_full():
            nonlocal times
            times *= 2
            self.agent.process.send_signal(signal.SIGSTOP)
            try:
                self.refuse(times)
            finally:
                self.agent.process.send_signal(signal.SIGCONT)
            return self.hear_all(stream, before)["events_dropped"]
        wait_until(is_full, "the ring buffer is full", 2 * DEADLINE)
        moved = self.expect_balance(before)
        self.assertEqual(len(stream.events), moved["events_told"])


class Sums(EventsCase):
    def load(self, n):
        """Connections of every kind that there is without another host."""
        def one(i):
            with socket.socket() as sock:
                sock.settimeout(DEADLINE)
                address = ("127.0.0.1", FAR4)[i % 2]
                attempt(sock.connect, (address, TCP4[1] if address == "127.0.0.1" else PORT))
                attempt(sock.sendall, b"?")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(n)))

    def serve(self):
        listener = self.sidecar(FAR4)
        listener.settimeout(DEADLINE)

        def accept():
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                sock.close()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()

        def stop():
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)
        self.addCleanup(stop)

    def test_under_load(self):
        self.serve()
        stream = self.listen_to_events()
        before = self.agent.counters()
        self.load(BATCH)
        wait_until(lambda: self.agent.pairs() == 0, "all are over", DEADLINE)
        self.expect_all(stream, before)
        self.assertEqual(self.moved(before)["connect_seen"], BATCH)
        self.assert_sums()

    def test_over_the_death_of_the_agent(self):
        before = self.agent.counters()
        kept = self.open()
        self.serve()
        self.load(BATCH)
        self.agent.process.kill()
        self.agent.process.wait()
        self.load(BATCH)
        self.agent.start()
        self.load(BATCH)
        moved = self.moved(before)
        self.assertEqual((moved["connect_seen"], moved["connect_loopback"]),
                         (3 * BATCH + 1, 3 * BATCH // 2))
        self.assert_connected(*kept)
        for sock in kept:
            sock.close()
        wait_until(lambda: self.agent.pairs() == 0, "all are over", DEADLINE)
        moved = self.moved(before)
        self.assertEqual(moved["pairs_opened"], 3 * BATCH // 2 + 1)
        self.assertEqual(moved["pairs_closed"], moved["pairs_opened"])
        self.assert_sums()


class Spliced(Listening, SpliceCase):
    def tearDown(self):
        super().tearDown()
        self.assert_sums()

    def test_paired(self):
        stream = self.listen_to_events()
        before = self.agent.counters()
        client, server = self.open()
        address = name_of(client.getsockname())
        self.assertEqual(self.expect(stream, "opened")["reason"], "none")
        paired = self.expect(stream, "paired")
        self.assertEqual((paired["client"]["address"], paired["outcome"], paired["redirected_to"]),
                         (address, None, None))
        client.close()
        server.close()
        closed = self.expect(stream, "closed")
        self.assertTrue(all(d["bytes_spliced"] for d in closed["directions"].values()))
        self.assertEqual((closed["reason"], self.moved(before)["closed_none"]), ("none", 1))
        self.expect_all(stream, before)

    def test_not_paired(self):
        stream = self.listen_to_events()
        before = self.agent.counters()
        for sock in self.pair(blocks=True):
            sock.close()
        self.assertEqual(self.expect(stream, "opened")["reason"], "blocking")
        self.assertEqual(self.expect(stream, "closed")["reason"], "blocking")
        self.assertEqual(self.moved(before)["closed_blocking"], 1)
        self.expect_all(stream, before)

    def test_left(self):
        stream = self.listen_to_events()
        client, server = self.open()
        client.setblocking(True)
        self.converse(client, server)
        left = self.expect(stream, "left")
        self.assertEqual((left["reason"], left["reason_text"]),
                         ("blocking", "one of its sockets is in blocking mode"))

    def test_spilled_and_rejoined(self):
        stream = self.listen_to_events()
        before = self.agent.counters()
        client, server = self.open()
        sent = 0
        while not self.moved(before)["splice_spilled"]:
            write(client, pattern(3000, sent))
            sent += 3000
        spilled = self.expect(stream, "spilled")
        self.assertEqual((spilled["direction"],
                          spilled["directions"]["client_to_server"]["spills"]),
                         ("client_to_server", 1))
        self.assertEqual(read_pattern(server, sent), "right")
        self.converse_until(client, server, lambda: stream.of("rejoined"), "it is spliced again")
        self.assertEqual(self.expect(stream, "rejoined")["direction"], "client_to_server")
        client.close()
        server.close()
        self.expect_all(stream, before)


class Here:
    """Where the caller is."""
    new_socket = socket.socket


class Restarts(Listening, SpliceCase):
    """Agents come and go while connections begin, talk and end."""

    def come_and_go(self, listener, board, mine):
        while not board[0]:
            client = self.dial(listener.getsockname(), place=Here)
            server = self.accept_from(listener)
            with client, server:
                self.converse(client, server, rounds=2)
            board[mine] += 1

    @contextlib.contextmanager
    def load(self):
        """By other processes. Gives a function that waits until some more have come and gone, and
        says how many by now."""
        board = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        tasks = [self.world.app.start(self.come_and_go, self.listen(), board, mine)
                 for mine in (1, 2)]

        def go_on():
            begin = sum(board)
            wait_until(lambda: sum(board) >= begin + 30, "connections come and go")
            return sum(board)
        try:
            yield go_on
        finally:
            board[0] = 1
            for task in tasks:
                task.result()

    def test_sums(self):
        before = self.agent.counters()
        with self.load() as go_on:
            for end in signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL:
                go_on()
                self.agent.ask("reload")
                go_on()
                self.agent.stop(end)
                go_on()
                self.agent.start()
            self.introduce()
            count = go_on()
        wait_until(lambda: self.agent.pairs() == 0, "all are over")
        moved = self.moved(before)
        self.assertGreater(moved["closed_none"], 0)
        self.assertGreater(moved["closed_no_agent"], 0)
        self.assertGreaterEqual(moved["connect_seen"], count)
        # Each was dialled on loopback, and made one pair, which is over, for one reason.
        for name in "connect_loopback", "pairs_opened", "pairs_closed":
            self.assertEqual(moved[name], moved["connect_seen"], name)
        self.assert_sums()


class Shuntctl(EventsCase):
    def shuntctl(self, *arguments):
        return subprocess.Popen(
            [f"{self.world.build}/agent/shuntctl", "-s", self.agent.socket, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def listen_with(self, *arguments):
        before = self.agent.counters()["events_told"]
        process = self.shuntctl(*arguments)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)

        def is_listening():
            for sock in self.open(port=999):
                sock.close()
            return self.agent.counters()["events_told"] > before
        wait_until(is_listening, "shuntctl listens")
        return process

    def test_lines(self):
        process = self.listen_with("events", "--port", "1001")
        sock, proxied = self.open(port=1001)
        self.assert_connected(sock, proxied)
        sock.close()
        self.assertEqual(proxied.recv(1), b"")
        proxied.close()
        own = rf"[^ ]+/{os.getpid()} -> {re.escape(name_of((FAR4, 1001)))} " \
              rf"by {re.escape(name_of(TCP4))}, mesh test"
        time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
        why = r"(off|kernel) \(.*\)"
        self.assertRegex(process.stdout.readline(), rf"\A{time} opened   {own}: {why}\n\Z")
        self.assertRegex(process.stdout.readline(),
                         rf"\A{time} closed   {own}, spliced 0/0, tcp 4/4: {why}\n\Z")

    def test_json(self):
        process = self.listen_with("-j", "events", "--port=1001", "--mesh=test")
        self.open(port=1001)
        event = json.loads(process.stdout.readline())
        self.assertEqual((event["event"], event["dialled"]), ("opened", name_of((FAR4, 1001))))

    def test_end(self):
        process = self.listen_with("events")
        self.agent.stop()
        self.agent.start()
        _, complaint = process.communicate(timeout=DEADLINE)
        self.assertEqual((process.returncode, complaint),
                         (1, "shuntctl: the agent has ended the stream\n"))

    def test_wrong_usage(self):
        for arguments in ["--port", "0"], ["--nothing"], ["--mesh"], ["opened"]:
            process = self.shuntctl("events", *arguments)
            _, complaint = process.communicate(timeout=DEADLINE)
            self.assertEqual(process.returncode, 2, arguments)
            self.assertRegex(complaint, r"\Ashuntctl: events: .*\n\Z")


if __name__ == "__main__":
    main()
