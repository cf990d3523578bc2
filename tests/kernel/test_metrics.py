#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What Prometheus is told: that it is well-formed, true, complete, and told in any weather."""
import collections
import contextlib
import http.client
import os
import re
import select
import socket
import subprocess
import tempfile
import unittest.mock

from case import FAR4, SOON, Case, Refused, family_of, main
from sandbox import DEADLINE, set_patience, wait_until
from semantics import await_event, pattern, read, write
from splice_case import DIRECT, SpliceCase
from test_events import Stream, name_of

LISTEN, OTHER = ("127.0.0.1", 9464), ("::1", 9465)
OPENMETRICS = "application/openmetrics-text"
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="([^"]*)",?')
HOOKS = {"connect": "shunt_connects_total", "sendmsg": "shunt_datagrams_total"}
LABELS = {"mesh", "outcome", "reason", "map", "role", "rung", "state", "le", "version", "abi",
          "kernel"}
SELFTEST_LABELS = {"check", "needed"}
CONNECTIONS_MAX = 64  # HTTP_CONNECTIONS_MAX


def endpoint(address):
    return "%s:%u" % address if "." in address[0] else "[%s]:%u" % address


class Metrics(dict):
    """(name, {label: value, …}) → value, of one scrape."""

    def __init__(self, text):
        super().__init__()
        for line in text.splitlines():
            if not line.startswith("#"):
                name, labels, value = SAMPLE.match(line).groups()
                key = name, frozenset(LABEL.findall(labels or ""))
                assert key not in self, key
                self[key] = float(value)

    def get(self, name, **labels):
        return self[name, frozenset(labels.items())]

    def total(self, name, **labels):
        """Of all that have these labels, whatever others they have."""
        found = [value for (other, has), value in self.items()
                 if other == name and labels.items() <= set(has)]
        assert found, (name, labels)
        return sum(found)

    def buckets(self, name, **labels):
        """Each bucket alone, by its bound."""
        bounds = {float(dict(has)["le"]): value for (other, has), value in self.items()
                  if other == f"{name}_bucket" and labels.items() <= set(has)}
        below, alone = 0, {}
        for bound, value in sorted(bounds.items()):
            alone[bound] = value - below
            below = value
        return alone


class MetricsCase(Case):
    @classmethod
    def setUpClass(cls):
        """The agent is where no other listens: with the other host."""
        cls.agent.settings = {"metrics_listen": endpoint(LISTEN)}
        cls.agent.configure(**cls.mesh)
        cls.restart()
        super().setUpClass()

    @classmethod
    def restart(cls):
        cls.agent.stop()
        with cls.world.far.netns.inside():
            cls.agent.start()

    def tearDown(self):
        self.doCleanups()
        super().tearDown()

    def connect_to(self, address=LISTEN):
        """In no mesh: nobody is to count who asks for counts."""
        sock = self.keep(self.world.far.new_socket(family_of(address[0])))
        sock.settimeout(DEADLINE)
        sock.connect(address)
        return sock

    def get(self, path="/metrics", address=LISTEN, **headers):
        connection = http.client.HTTPConnection(*address)
        connection.sock = self.connect_to(address)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read().decode()

    def selftest(self):
        """The checks that were tried: none where the kernel does not take the programs."""
        return [check for check in self.agent.ask("status")["selftest"]
                if check["outcome"] != "untried"]

    def scrape(self, address=LISTEN):
        return Metrics(self.get(address=address)[1])

    def is_refused(self, address):
        with contextlib.suppress(ConnectionRefusedError):
            self.connect_to(address)
            return False
        return True


class Format(MetricsCase):
    def test_promtool(self):
        response, text = self.get()
        self.assertEqual(response.getheader("Content-Type"),
                         "text/plain; version=0.0.4; charset=utf-8")
        subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True)

    def test_openmetrics(self):
        response, text = self.get(Accept=f"{OPENMETRICS};version=1.0.0,text/plain;q=0.5")
        self.assertTrue(response.getheader("Content-Type").startswith(OPENMETRICS))
        self.assertTrue(text.endswith("\n# EOF\n"))
        plain = self.get()[1]
        self.assertEqual(Metrics(text).keys(), Metrics(plain).keys())
        families = [re.sub("_total$", "", name) if kind == "counter" else name
                    for name, kind in re.findall("# TYPE (.*) (.*)", plain)]
        self.assertEqual(re.findall("# TYPE (.*) .*", text), families)

    def test_labels(self):
        """None has a value for each address, process or cgroup."""
        labels = {label for _, has in self.scrape() for label, _ in has}
        self.assertEqual(labels, LABELS | (SELFTEST_LABELS if self.selftest() else set()))


class Health(MetricsCase):
    def test_agent(self):
        metrics, status = self.scrape(), self.agent.ask("status")
        build = {"version": status["version"], "abi": str(status["abi"]),
                 "kernel": os.uname().release}
        self.assertEqual(metrics.get("shunt_build_info", **build), 1)
        self.assertEqual(metrics.get("shunt_rung", rung=status["rung"]), 1)
        self.assertEqual(metrics.total("shunt_rung"), 1)
        self.assertEqual(metrics.get("shunt_splicing", state=status["splice"]), 1)
        self.assertEqual(metrics.total("shunt_splicing"), 1)
        self.assertEqual(metrics.get("shunt_warnings"), len(status["warnings"]))
        for check in self.selftest():
            self.assertEqual(
                metrics.get("shunt_selftest_passed", check=check["name"],
                            needed="yes" if check["needed"] else "no"),
                check["outcome"] == "passed")
        for entry in status["maps"]:
            self.assertEqual(metrics.get("shunt_map_entries", map=entry["name"]), entry["used"])
            self.assertEqual(metrics.get("shunt_map_max_entries", map=entry["name"]), entry["max"])
        mesh, = self.agent.ask("meshes")
        for role in "member", "sidecar":
            self.assertEqual(metrics.get("shunt_cgroups", mesh="test", role=role),
                             mesh[f"{role}s"])

    def test_process(self):
        metrics = self.scrape()
        proc = f"/proc/{self.agent.process.pid}"
        self.assertAlmostEqual(metrics.get("process_open_fds"), len(os.listdir(f"{proc}/fd")),
                               delta=3)
        self.assertAlmostEqual(metrics.get("process_start_time_seconds"), os.stat(proc).st_ctime,
                               delta=DEADLINE)
        self.assertGreater(metrics.get("process_cpu_seconds_total"), 0)
        self.assertGreater(metrics.get("process_resident_memory_bytes"), 1 << 20)

    def test_failed_reload(self):
        before = self.scrape()
        self.assertEqual(before.get("shunt_config_last_reload_successful"), 1)
        with self.assertRaises(Refused):
            self.agent.reload(tcp_redirect="nowhere")
        after = self.scrape()
        stamp = "shunt_config_last_reload_success_timestamp_seconds"
        self.assertEqual(after.get("shunt_config_last_reload_successful"), 0)
        self.assertEqual(after.get(stamp), before.get(stamp))
        self.agent.reload()
        self.assertEqual(self.scrape().get("shunt_config_last_reload_successful"), 1)

    def scrape_without_bpffs(self, withheld):
        """What an agent says that cannot pin programs, and lacks @withheld too."""
        plain = tempfile.mkdtemp(dir=self.world.directory)
        poor = {"SHUNT_WITHHOLD": withheld,
                "LD_PRELOAD": f"{self.world.build}/tests/libshunt-withhold.so"}
        self.agent.detach()
        self.agent.settings |= {"fallback": "off", "pin_dir": f"{plain}/shunt"}
        self.agent.configure()
        with self.world.far.netns.inside(), unittest.mock.patch.dict(os.environ, poor):
            self.agent.start()
        try:
            return self.scrape()
        finally:
            self.agent.detach()
            del self.agent.settings["fallback"], self.agent.settings["pin_dir"]
            self.agent.configure()
            self.restart()

    def test_rung_nftables(self):
        """Redirected by rules there are cgroups, and no counters."""
        metrics = self.scrape_without_bpffs("")
        self.assertEqual(metrics.get("shunt_rung", rung="nftables"), 1)
        self.assertEqual(metrics.get("shunt_rung", rung="off"), 0)
        self.assertEqual(metrics.get("shunt_config_last_reload_successful"), 1)
        self.assertGreater(metrics.get("shunt_cgroups", mesh="test", role="member"), 0)
        self.assertEqual(metrics.get("shunt_nftables_namespaces"), 1)
        self.assertNotIn(("shunt_pairs", frozenset()), metrics)

    def test_rung_off(self):
        """An agent that can do nothing at all says so."""
        metrics = self.scrape_without_bpffs("netfilter")
        self.assertEqual(metrics.get("shunt_rung", rung="off"), 1)
        self.assertEqual(metrics.get("shunt_rung", rung="redirect"), 0)
        self.assertEqual(metrics.get("shunt_config_last_reload_successful"), 0)
        self.assertEqual(self.scrape().get("shunt_rung", rung="redirect"), 1)


class Counters(MetricsCase):
    mesh = {"splice": "sidecar", "exclude_ports": "22"}

    def traffic(self):
        """Of several outcomes, in the mesh and outside."""
        for port in 80, 80, 22:
            sock = self.new_socket()
            sock.settimeout(DEADLINE)
            if port == 22:
                sock.setblocking(False)
                sock.connect_ex((FAR4, port))
            else:
                sock.connect((FAR4, port))
                self.assert_connected(sock, self.accept(self.sidecar(FAR4)))
        with self.new_socket(kind=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (FAR4, 9))

    def settled(self):
        """Nothing moves between the two that are asked."""
        def both():
            before = self.agent.counters()
            metrics = self.scrape()
            return before == self.agent.counters() and (before, metrics)
        return wait_until(both, "the counters are quiet")

    def test_sums(self):
        """What the counters say is told, by mesh or not, and adds up to the same."""
        self.traffic()
        counters, metrics = self.settled()
        for name, count in counters.items():
            hook, _, outcome = name.partition("_")
            reason = name.removeprefix("splice_plain_")
            told = f"shunt_{name}_total"
            if hook in HOOKS and outcome != "seen":
                value = metrics.total(HOOKS[hook], outcome=outcome)
            elif name == "splice_plain_none":
                value = 0
            elif hook == "closed":
                value = metrics.total("shunt_closed_connections_total", reason=outcome)
            elif reason != name and reason not in ("bytes", "messages"):
                value = metrics.total("shunt_plain_connections_total", reason=reason)
            else:
                value = metrics.total(told)
            self.assertEqual(value, count, name)
        for hook, name in HOOKS.items():
            self.assertEqual(metrics.total(name), counters[f"{hook}_seen"])

    def test_by_mesh(self):
        before = self.settled()[1]
        self.traffic()
        after = self.settled()[1]

        def moved(name, **labels):
            return after.get(name, **labels) - before.get(name, **labels)
        for outcome, n in ("redirected", 2), ("excluded_port", 1):
            self.assertEqual(moved("shunt_connects_total", mesh="test", outcome=outcome), n)
            self.assertEqual(moved("shunt_connects_total", mesh="", outcome=outcome), 0)
        self.assertEqual(moved("shunt_datagrams_total", mesh="", outcome="not_dns"), 1)

    def test_latency(self):
        """As many as handshakes of redirected connections; none outside of what it took."""
        before = self.settled()[1]
        for _ in range(5):
            self.assert_redirected(self.dial(FAR4), FAR4)
        after = self.settled()[1]
        name = "shunt_connect_latency_seconds"
        moved = {bound: after.buckets(name, mesh="test")[bound] - count
                 for bound, count in before.buckets(name, mesh="test").items()}
        self.assertEqual(sum(moved.values()), 5)
        self.assertEqual(len(moved), 21)
        self.assertEqual(list(moved)[:2], [2**14 / 1e9, 2**15 / 1e9])
        total = after.get(f"{name}_sum", mesh="test") - before.get(f"{name}_sum", mesh="test")
        bounds = sorted(moved)
        least = sum(bounds[i - 1] * moved[bounds[i]] for i in range(1, len(bounds)))
        self.assertGreaterEqual(total, least)
        self.assertLessEqual(total, sum(bound * n for bound, n in moved.items() if n))
        self.assertEqual(after.get(f"{name}_count", mesh="test"),
                         sum(after.buckets(name, mesh="test").values()))

    def test_a_slow_sidecar(self):
        """A handshake that has to be sent again is in another bucket."""
        name = "shunt_connect_latency_seconds"
        before = self.scrape().buckets(name, mesh="test")
        pod = self.world.app.netns
        pod.nft("table inet slow { chain c { type filter hook output priority 0; "
                "tcp dport 15001 tcp flags & (syn|ack) == syn counter drop; }; }\n")

        def has_lost():
            with pod.inside():
                rules = subprocess.check_output(["nft", "list", "table", "inet", "slow"])
            return b"packets 1 " in rules
        with self.new_socket() as sock:
            sock.setblocking(False)
            sock.connect_ex((FAR4, 80))
            wait_until(has_lost, "the first SYN is lost")
            pod.nft("delete table inet slow")
            await_event(sock, select.POLLOUT)
            set_patience(sock)
            sock.setblocking(True)
            self.assert_redirected(sock, FAR4)
        after = self.settled()[1].buckets(name, mesh="test")
        moved = {bound: after[bound] - n for bound, n in before.items()}
        self.assertEqual(sum(moved.values()), 1)
        self.assertEqual(sum(n for bound, n in moved.items() if bound > 0.9), 1)


class Names(MetricsCase):
    """A name keeps its figures, whatever becomes of its mesh and of the agent."""

    def redirected(self, mesh):
        metrics = self.scrape()
        key = "shunt_connects_total", frozenset({"mesh": mesh, "outcome": "redirected"}.items())
        return dict(metrics).get(key)

    def rename(self, mesh):
        self.agent.configure()
        with open(self.agent.config, encoding="utf-8") as file:
            text = file.read().replace("[mesh test]", f"[mesh {mesh}]")
        with open(self.agent.config, "w", encoding="utf-8") as file:
            file.write(text)

    def connect(self):
        self.assert_redirected(self.dial(FAR4), FAR4)

    def test_reloads(self):
        before = self.redirected("test")
        self.connect()
        for mesh in "other", "other-2.x_y":
            self.rename(mesh)
            self.agent.ask("reload")
            self.assertEqual(self.redirected(mesh), 0)
            self.assertEqual(self.redirected("test"), before + 1)
            self.connect()
            self.assertEqual(self.redirected(mesh), 1)
        self.agent.reload()
        self.connect()
        self.assertEqual([self.redirected(mesh) for mesh in ("test", "other", "other-2.x_y")],
                         [before + 2, 1, 1])

    def test_restart(self):
        self.connect()
        before = self.redirected("test")
        self.restart()
        self.connect()
        self.assertEqual(self.redirected("test"), before + 1)

    def test_no_row_left(self):
        """As many names as there are rows for; whose mesh has none counts for no mesh."""
        before = self.redirected("")
        for n in range(0, 192, 48):
            self.agent.configure()
            with open(self.agent.config, "a", encoding="utf-8") as file:
                for i in range(n, n + 48):
                    print(f"[mesh many{i}]\ncgroups = {self.world.cgroup.path}/none{i}\n"
                          "sidecar_uids = 99\ntcp_redirect = 127.0.0.1:1", file=file)
            self.agent.ask("reload")
        self.rename("late")
        self.agent.ask("reload")
        self.assertIn("counted without their names", self.agent.read_log())
        self.connect()
        self.assertIsNone(self.redirected("late"))
        self.assertEqual(self.redirected(""), before + 1)
        subprocess.run(["promtool", "check", "metrics"], input=self.get()[1], text=True, check=True)
        self.agent.detach()
        self.agent.configure()
        with self.world.far.netns.inside():
            self.agent.start()
        self.assertIsNone(self.redirected("many1"))


class Messages(MetricsCase, SpliceCase):
    mesh = {"splice": "node"} | DIRECT

    def test_sizes(self):
        """Each message is in the bucket of its size."""
        sizes = {1: 64, 63: 64, 64: 64, 65: 128, 128: 128, 4096: 4096, 4097: 8192}
        client, server = self.open()
        name = "shunt_splice_message_size_bytes"
        before = self.scrape()
        with self.spliced():
            for size in sizes:
                write(client, pattern(size))
                self.assertEqual(read(server, size), pattern(size))
                write(server, b"y")
                read(client, 1)
        after = self.scrape()
        moved = {bound: after.buckets(name, mesh="test")[bound] - n
                 for bound, n in before.buckets(name, mesh="test").items()}
        expected = dict.fromkeys(moved, 0)
        expected[64] = len(sizes)  # the answers
        for bound in sizes.values():
            expected[bound] += 1
        self.assertEqual(moved, expected)
        self.assertEqual(list(moved), [2.0**n for n in range(6, 21)] + [float("inf")])
        for metric, moves in (f"{name}_sum", sum(sizes) + len(sizes)), \
                (f"{name}_count", 2 * len(sizes)), \
                ("shunt_splice_messages_total", 2 * len(sizes)), \
                ("shunt_splice_bytes_total", sum(sizes) + len(sizes)):
            self.assertEqual(after.get(metric, mesh="test") - before.get(metric, mesh="test"),
                             moves, metric)

    def test_reasons(self):
        """A connection that is not spliced is counted for its mesh."""
        labels = {"mesh": "test", "reason": "blocking"}
        before = self.scrape().get("shunt_plain_connections_total", **labels)
        self.pair(listener_blocks=True)
        after = self.scrape().get("shunt_plain_connections_total", **labels)
        self.assertEqual(after - before, 1)


class Agreement(MetricsCase, SpliceCase):
    """Flows, events and metrics tell the same of the same connections."""
    mesh = {"splice": "node"} | DIRECT

    def by_client(self, told):
        """Of flows or events: what is known of each connection, by its client's address."""
        return {one["client"]["address"]: {
            "dialled": one["dialled"], "mesh": one["mesh"], "reason": one["reason"],
        } | {name: (direction["bytes_spliced"], direction["bytes_tcp"], direction["spills"])
             for name, direction in one["directions"].items()} for one in told}

    def sums(self, flows):
        """Spliced messages and bytes of all of them."""
        return {f"shunt_splice_{what}_total": sum(
            direction[f"{what}_spliced"] for flow in flows
            for direction in flow["directions"].values()) for what in ("messages", "bytes")}

    def assert_moved(self, before, name, label, expected):
        """This much for these, in the mesh; nothing for others, or in another."""
        after = self.scrape()
        moved = {dict(has)[label]: int(value - before[name, has])
                 for (other, has), value in after.items()
                 if other == name and value != before[name, has]}
        self.assertEqual(moved, expected, name)

    def test_agreement(self):
        stream = self.keep(Stream(self.agent).start())
        before = self.scrape()
        ends = [self.pair(blocks=n % 3 == 0) for n in range(9)]
        for n, (client, server) in enumerate(ends):
            self.converse(client, server, rounds=n + 1, size=100 * n + 1)
        flows = self.agent.flows()
        self.assertEqual({flow["client"]["address"] for flow in flows},
                         {name_of(client.getsockname()) for client, _ in ends})
        reasons = collections.Counter(flow["reason"] for flow in flows)
        self.assertEqual(reasons, {"none": 6, "blocking": 3})
        now = self.scrape()
        self.assertEqual(now.get("shunt_map_entries", map="pairs"), len(flows))
        for name, value in self.sums(flows).items():
            self.assertEqual(now.get(name, mesh="test") - before.get(name, mesh="test"), value)
            self.assertGreater(value, 0)
        self.assert_moved(before, "shunt_plain_connections_total", "reason", {"blocking": 3})

        def are_told(kind, count):
            wait_until(lambda: len(stream.of(kind)) >= count, f"{count} are {kind}")
            self.assertEqual(len(stream.of(kind)), count)
            return stream.of(kind)
        paired = are_told("paired", reasons["none"])
        self.assertEqual({event["client"]["address"] for event in paired},
                         {flow["client"]["address"] for flow in flows if flow["spliced"]})
        told = self.by_client(flows)
        opened = self.by_client(are_told("opened", len(flows)))
        for client, flow in told.items():
            for key in "dialled", "mesh", "reason":
                self.assertEqual(opened[client][key], flow[key])
        for sock in (sock for pair in ends for sock in pair):
            sock.close()
        closed = are_told("closed", len(flows))
        self.assertEqual(self.by_client(closed), told)
        self.assertEqual(self.sums(closed), self.sums(flows))
        wait_until(lambda: not self.agent.flows(), "all are over")
        self.assert_moved(before, "shunt_closed_connections_total", "reason", reasons)
        self.assertEqual(self.scrape().get("shunt_map_entries", map="pairs"), 0)
        self.assertEqual(sum(event["lost"] for event in stream.events), 0)


class Listening(MetricsCase):
    def tearDown(self):
        self.listen(endpoint(LISTEN))
        super().tearDown()

    def listen(self, value):
        self.agent.settings["metrics_listen"] = value
        self.agent.reload()

    def test_reload_moves_it(self):
        self.listen(endpoint(OTHER))
        self.assertTrue(self.is_refused(LISTEN))
        self.assertEqual(self.scrape(OTHER).total("shunt_rung"), 1)
        self.listen("")
        self.assertTrue(self.is_refused(OTHER))
        self.listen(endpoint(LISTEN))
        self.assertEqual(self.scrape().total("shunt_rung"), 1)

    def assert_told(self, address, lacks, text):
        """By status, in JSON and as text."""
        status = self.agent.ask("status")
        self.assertEqual((status["http"], status["http_lacks"]), (address, lacks))
        told = subprocess.run(
            [f"{self.world.build}/agent/shuntctl", "-s", self.agent.socket, "status"],
            stdout=subprocess.PIPE, check=True, text=True).stdout
        self.assertRegex(told, rf"(?m)^HTTP +{re.escape(text)}$")

    def test_told_by_status(self):
        self.assert_told(endpoint(LISTEN), None,
                         f"http://{endpoint(LISTEN)}/, metrics at /metrics")
        self.listen(endpoint(OTHER))
        self.assert_told(endpoint(OTHER), None, "http://[::1]:9465/, metrics at /metrics")
        self.listen("")
        self.assert_told(None, None, "off")
        with self.world.far.netns.inside(), socket.create_server(("127.0.0.1", 9468)):
            self.listen("127.0.0.1:9468")
        self.assert_told("127.0.0.1:9468", "Address already in use",
                         "not at 127.0.0.1:9468: Address already in use")
        self.listen(endpoint(LISTEN))
        self.assert_told(endpoint(LISTEN), None,
                         f"http://{endpoint(LISTEN)}/, metrics at /metrics")

    def test_connections_survive_a_reload(self):
        """One that changes nothing of it."""
        connection = http.client.HTTPConnection(*LISTEN)
        connection.sock = self.connect_to()
        for _ in range(2):
            connection.request("GET", "/metrics")
            self.assertEqual(connection.getresponse().read()[:1], b"#")
            self.agent.reload()

    def test_taken(self):
        """A warning; all else goes on, and the next reload tries again."""
        with self.world.far.netns.inside(), socket.create_server(("127.0.0.1", 9466)) as taken:
            self.listen("127.0.0.1:9466")
            self.assertIn("metrics_listen: nobody can ask on 127.0.0.1:9466: "
                          "Address already in use", self.agent.read_log())
            self.assertEqual(self.agent.ask("status")["rung"], "redirect")
            taken.close()
        self.agent.ask("reload")
        self.assertEqual(self.scrape(("127.0.0.1", 9466)).total("shunt_rung"), 1)

    def test_taken_at_start(self):
        with self.world.far.netns.inside(), socket.create_server(("127.0.0.1", 9467)):
            self.agent.settings["metrics_listen"] = "127.0.0.1:9467"
            self.agent.configure()
            self.restart()
            self.assertEqual(self.agent.ask("status")["rung"], "redirect")


class Weather(MetricsCase):
    """Clients that are a nuisance."""

    def assert_at_ease(self):
        self.assertEqual(self.agent.ask("status")["rung"], "redirect")
        self.assertEqual(self.scrape().total("shunt_rung"), 1)

    def test_garbage(self):
        for garbage in b"\0" * 70000, b"\r\n" * 1000, b"GET\r\n\r\n", os.urandom(5000), \
                b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10000:
            sock = self.connect_to()
            with contextlib.suppress(ConnectionError):
                sock.sendall(garbage)
            self.assert_at_ease()

    def test_strangers(self):
        """A browser that was lured to a name that leads here."""
        response, text = self.get(Host="evil.example")
        self.assertEqual(response.status, 403)
        self.assertNotIn("shunt_", text)

    def test_silent_and_slow(self):
        """Silent ones, ones that ask by halves, and ones that do not read."""
        for n in range(CONNECTIONS_MAX - 4):
            sock = self.connect_to()
            if n % 3 == 1:
                sock.sendall(b"GET /metr")
            elif n % 3 == 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        self.assert_at_ease()

    def test_more_than_there_is_room_for(self):
        """They take all places, and lose them: nobody keeps one by saying nothing."""
        for _ in range(CONNECTIONS_MAX + 20):
            self.connect_to()
        self.assertEqual(self.agent.ask("status")["rung"], "redirect")
        self.assertEqual(self.scrape().total("shunt_rung"), 1)

    def test_leaves_nothing(self):
        def files():
            return len(os.listdir(f"/proc/{self.agent.process.pid}/fd"))
        before = files()
        for _ in range(100):
            self.scrape()
        self.doCleanups()
        wait_until(lambda: files() <= before, "no file is left open", SOON * 5)


if __name__ == "__main__":
    main()
