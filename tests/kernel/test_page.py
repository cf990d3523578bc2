#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the status page is made of, as JSON: true, bounded, and not for long."""
import http.client
import json
import os
import resource
import socket
import time

from case import FAR4, PORT, Case, main
from sandbox import DEADLINE, Netns, wait_until

BUSIEST = 100  # SUMS_FLOWS
MANY = 3000


class Home(Netns):
    """The network namespace that the agent runs in."""

    def __init__(self, pid):
        self.fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)

    def free_port(self):
        with self.inside(), socket.create_server(("127.0.0.1", 0)) as sock:
            return sock.getsockname()[1]


class Page(Case):
    mesh = {"splice": "off"}

    @classmethod
    def setUpClass(cls):
        cls.home = Home(cls.agent.process.pid)
        cls.port = cls.home.free_port()
        cls.agent.settings = {"metrics_listen": f"127.0.0.1:{cls.port}"}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        cls.agent.settings = {}
        os.close(cls.home.fd)

    def tearDown(self):
        super().tearDown()
        self.doCleanups()
        wait_until(lambda: self.agent.flows() == [], "no connection is left")

    def fetch(self, path, method="GET"):
        """Status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with self.home.inside():
            connection.connect()
        connection.request(method, path)
        answer = connection.getresponse()
        result = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return result

    def api(self, name):
        status, headers, body = self.fetch(f"/api/{name}")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        return json.loads(body)

    def survey(self, name, after=0):
        """The next that is taken."""
        def fresh():
            answer = self.api(name)
            return answer["taken"] > after and answer
        return wait_until(fresh, "it is looked at")

    def open(self, port=PORT):
        sock = self.dial(FAR4, port)
        return sock, self.accept(self.sidecar(FAR4))

    def test_index(self):
        status, headers, body = self.fetch("/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertTrue(body.startswith(b"<!doctype html>"))
        self.assertTrue(body.rstrip().endswith(b"</html>"))
        self.assertNotIn("unsafe", headers["Content-Security-Policy"])
        self.assertEqual(self.fetch("/", "HEAD")[2], b"")
        for path in "/index.html", "/api", "/api/", "/api/reload", "/api/detach", "/api/cgroups":
            self.assertEqual(self.fetch(path)[0], 404)

    def test_verbs(self):
        status = self.api("status")
        self.assertEqual(status["pid"], self.agent.process.pid)
        self.assertEqual(set(status), set(self.agent.ask("status")))
        self.assertEqual(self.api("meshes"), self.agent.ask("meshes"))
        self.assertEqual(set(self.api("counters")), set(self.agent.counters()))

    def test_flows_and_graph(self):
        sock, proxied = self.open(81)
        self.open(82)
        taken = self.survey("flows")["taken"]
        self.assert_connected(sock, proxied)

        def both_moved():
            flows = self.survey("flows", taken)
            return flows["all"]["bytes_tcp"] == 8 and flows
        flows = wait_until(both_moved, "the bytes are counted")
        self.assertEqual([flow["dialled"] for flow in flows["flows"]],
                         [f"{FAR4}:81", f"{FAR4}:82"])
        told = {flow["id"]: flow for flow in self.agent.flows()}
        for flow in flows["flows"]:
            same = told[flow["id"]]
            for key in "mesh", "dialled", "redirected_to", "spliced", "reason", "directions":
                self.assertEqual(flow[key], same[key])
        self.assertEqual((flows["left_out"], flows["all"]["flows"], flows["all"]["flows_spliced"]),
                         (0, 2, 0))
        mesh, = flows["meshes"]
        self.assertEqual((mesh["mesh"], mesh["flows"], mesh["bytes_tcp"]), ("test", 2, 8))
        graph = self.survey("graph", taken)
        self.assertEqual({(edge["cgroup"], edge["destination"], edge["server_cgroup"],
                           edge["redirected"], edge["mesh"], edge["flows"], edge["bytes_tcp"])
                          for edge in graph["edges"]},
                         {(self.world.app.cgroup.path, f"{FAR4}:{port}",
                           self.world.proxy.cgroup.path, True, "test", 1, n)
                          for port, n in ((81, 8), (82, 0))})

    def test_rates(self):
        """A rate is what has moved since the look before: later it is nothing again."""
        sock, proxied = self.open(81)
        self.survey("flows")

        def moves():
            self.assert_connected(sock, proxied)
            all_ = self.api("flows")
            return all_["seconds"] > 0 and all_["all"]["tcp_per_s"] > 0 and \
                all_["flows"][0]["tcp_per_s"] > 0
        wait_until(moves, "it has a rate")
        wait_until(lambda: self.api("flows")["all"]["tcp_per_s"] == 0, "it has none any more")

    def test_thousands(self):
        """The busiest are told, the rest is counted; meanwhile others are answered."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = 2 * MANY + 500
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], files), max(before[1], files)))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        ends = [self.open(1000 + n % 1000) for n in range(MANY)]
        for sock, proxied in ends[:BUSIEST]:
            self.assert_connected(sock, proxied)

        def is_right():
            flows = self.api("flows")
            return flows["taken"] and flows["all"]["bytes_tcp"] == 8 * BUSIEST and flows
        flows = wait_until(is_right, "all of them are counted")
        self.assertEqual((flows["all"]["flows"], len(flows["flows"]), flows["left_out"]),
                         (MANY, BUSIEST, MANY - BUSIEST))
        self.assertEqual({flow["client"]["address"] for flow in flows["flows"]},
                         {"{}:{}".format(*sock.getsockname()) for sock, _ in ends[:BUSIEST]})
        graph = self.survey("graph", flows["taken"])
        self.assertEqual((len(graph["edges"]), graph["left_out"]), (200, 800))
        self.assertEqual(sum(edge["flows"] for edge in graph["edges"][:100]), 300)

    def test_nobody_asks(self):
        """Then nothing is kept, and the next who asks is the first."""
        self.open(81)
        self.assertGreater(self.survey("flows")["taken"], 0)

        def wakes():
            with open(f"/proc/{self.agent.process.pid}/status", encoding="ascii") as lines:
                return int(next(line.split()[1] for line in lines
                                if line.startswith("voluntary_ctxt_switches")))
        since = [0.0, -1]

        def is_quiet():
            """For twice as long as it takes from one look to the next."""
            if wakes() != since[1]:
                since[:] = time.monotonic(), wakes()
            return time.monotonic() - since[0] > 4
        wait_until(is_quiet, "the agent sleeps", 4 * DEADLINE)
        self.assertEqual(self.api("flows"), {"taken": 0})


if __name__ == "__main__":
    main()
