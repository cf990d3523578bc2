#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""shuntctl top in a terminal, and shuntctl graph: of real connections."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import xml.etree.ElementTree

from case import FAR4, PORT, Case, main, set_patience
from sandbox import DEADLINE, wait_until
from screen import Terminal


class ViewsCase(Case):
    mesh = {"splice": "off"}

    def setUp(self):
        super().setUp()
        self.traffic = []

    def tearDown(self):
        super().tearDown()
        self.doCleanups()
        wait_until(lambda: self.agent.flows() == [], "no connection is left")

    def command(self, *arguments):
        return [f"{self.world.build}/agent/shuntctl", "-s", self.agent.socket, *arguments]

    def shuntctl(self, *arguments, status=0, env=None):
        done = subprocess.run(self.command(*arguments), text=True, timeout=DEADLINE, check=False,
                              capture_output=True, env=env)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stderr if status else done.stdout

    def open(self, port=PORT):
        """Both ends of a redirected connection."""
        sock = self.dial(FAR4, port)
        return sock, self.accept(self.sidecar(FAR4))

    def keep_busy(self, sock, proxied):
        """Bytes go back and forth on it until the end of the test."""
        stopped = threading.Event()

        def run():
            for end in sock, proxied:
                set_patience(end)
            while not stopped.wait(0.01):
                sock.sendall(bytes(1000))
                proxied.recv(65536)
                proxied.sendall(b"ok")
                sock.recv(65536)
        thread = threading.Thread(target=run)
        thread.start()

        def stop():
            stopped.set()
            thread.join()
        self.addCleanup(stop)


class Top(ViewsCase):
    def top(self, *arguments, **how):
        return self.keep(Terminal(self.command("top", *arguments), **how))

    def rows(self, lines):
        """The connections: the port that was dialled, of each."""
        return [int(m[1]) for m in (re.search(rf" {re.escape(FAR4)}:(\d+) ", line)
                                    for line in lines) if m]

    def test_rates_in_80_columns(self):
        self.open(81)
        self.keep_busy(*self.open(82))
        self.open(83)
        top = self.top("-d", "0.5")
        top.wait_for_text("Rates need a second look")

        def is_right(lines):
            busy = [line for line in lines if f" {FAR4}:82 " in line]
            return busy and re.search(r" plain +0 +(\d+|[\d.]+K) +0 ", busy[0]) and \
                self.rows(lines)[0] == 82
        top.wait_for(is_right, "the busiest comes first")
        lines = top.screen.lines()
        self.assertEqual(sorted(self.rows(lines)), [81, 82, 83])
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertTrue(lines[1].startswith("Flows:  3 open, 0 spliced"), lines[1])
        self.assertTrue(any(re.match(r"test +3 +0 +0 ", line) for line in lines), lines)
        self.assertTrue(top.screen.alternate)
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_keys(self):
        self.open(81)
        self.keep_busy(*self.open(82))
        top = self.top("-d", "1")
        top.wait_for_text("by bytes/s")
        top.type("R")
        top.wait_for_text("by bytes/s, least first")
        top.wait_for(lambda lines: self.rows(lines) == [81, 82], "the order is reversed")
        for key, name in ("s", "spliced/s"), ("t", "TCP/s"), ("l", "spills"), ("a", "age"), \
                ("b", "bytes/s"):
            top.type(key)
            top.wait_for_text(f"by {name}")
        top.type("i")
        top.wait_for(lambda lines: self.rows(lines) == [82], "the idle one is hidden")
        top.type("i")
        top.wait_for(lambda lines: self.rows(lines) == [82, 81], "it is back")
        top.type("m")
        top.wait_for_text("MESH ", gone=True)
        top.type("m")
        top.wait_for_text("MESH ")
        top.type("h")
        top.wait_for_text("hide the connections that moved nothing")
        top.type(" ")
        top.wait_for_text("DIALLED")
        top.type("d3x\x7f4.5\n")
        top.wait_for_text("every 4.5 s")
        top.type("+")
        top.wait_for_text("every 9 s")
        top.type("d\x1b")
        top.wait_for_text("Seconds between", gone=True)
        top.type("z")  # means nothing
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_new_delay_holds_at_once(self):
        top = self.top("-d", "3600")
        top.wait_for_text("by bytes/s")
        self.open(81)
        top.type(" ")
        top.wait_for(lambda lines: self.rows(lines) == [81], "it was looked at once more")
        self.open(82)
        top.type("d0.2\n")
        top.wait_for(lambda lines: sorted(self.rows(lines)) == [81, 82], "and once more")
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_scrolling(self):
        for port in range(100, 130):
            self.open(port)
        top = self.top("-d", "0.3", rows=20)
        top.wait_for_text("Flows:  30 open")
        top.wait_for_text("by bytes/s")
        top.type("aR")
        top.wait_for_text("by age, least first")
        begin = self.rows(top.screen.lines())
        top.type("\x1bOF")  # End
        top.wait_for(lambda lines: not set(self.rows(lines)) & set(begin), "it is scrolled")
        top.type("\x1bOH")  # Home
        top.wait_for(lambda lines: set(self.rows(lines)) & set(begin), "it is back")
        top.type("\x1b[6~" * 9)  # page down
        top.wait_for(lambda lines: not set(self.rows(lines)) & set(begin), "it is at the end")
        top.type("\x1bOA" * 40)
        top.wait_for(lambda lines: set(self.rows(lines)) & set(begin), "it is at the begin")
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_resizes(self):
        self.open(81)
        top = self.top("-d", "0.5")
        top.wait_for_text("by bytes/s")
        top.resize(40, 200)
        top.wait_for_text("CLIENT CGROUP")
        top.wait_for_text(self.world.app.cgroup.path)
        top.resize(10, 40)
        top.wait_for(lambda lines: any("DIALLED" in line for line in lines) and
                     not any("CGROUP" in line for line in lines), "it is small")
        for rows, columns in (1, 1), (2, 3), (300, 400), (3, 500), (24, 80):
            top.resize(rows, columns)
        top.wait_for(lambda lines: self.rows(lines) == [81], "all is well again")
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_signals(self):
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            top = self.top()
            top.wait_for_text("Flows:")
            top.process.send_signal(number)
            self.assertEqual(top.end(), 0)
        top = self.top()
        top.wait_for_text("Flows:")
        top.type("\x03")  # ^C
        self.assertEqual(top.end(), 0)

    def test_hangup(self):
        """Whoever closes the window leaves no process behind."""
        top = self.top()
        top.wait_for_text("Flows:")
        process = top.process
        self.assertIsNone(process.poll())
        os.close(top.terminal)
        os.close(top.fd)
        top.fd = os.open(os.devnull, os.O_RDWR)
        top.terminal = os.open(os.devnull, os.O_RDWR)
        process.wait(DEADLINE)

    def test_agent_dies_meanwhile(self):
        self.open(81)
        top = self.top("-d", "0.3")
        top.wait_for_text("by bytes/s")
        self.agent.process.kill()
        self.agent.process.wait()
        try:
            top.wait_for_text("is shuntd running?")
            self.assertEqual(self.rows(top.screen.lines()), [81])
        finally:
            self.agent.start()
        top.wait_for_text("is shuntd running?", gone=True)
        top.type("q")
        self.assertEqual(top.end(), 0)

    def test_agent_hangs(self):
        """Keys work though no answer comes."""
        top = self.top("-d", "0.3")
        top.wait_for_text("by bytes/s")
        self.agent.process.send_signal(signal.SIGSTOP)
        try:
            top.type("a")
            top.wait_for_text("by age")
            top.type("q")
            self.assertEqual(top.end(), 0)
        finally:
            self.agent.process.send_signal(signal.SIGCONT)

    def test_other_locale(self):
        with contextlib.ExitStack() as stack:
            comm = stack.enter_context(open("/proc/self/comm", "r+", encoding="utf-8"))
            name = comm.read()

            def rename_back():
                with open("/proc/self/comm", "w", encoding="utf-8") as file:
                    file.write(name.strip())
            stack.callback(rename_back)
            with open("/proc/self/comm", "w", encoding="utf-8") as file:
                file.write("größe\x1b[2J")
            self.assert_connected(*self.open(81))
            for locale, shown in ("C", "gr??e"), ("C.UTF-8", "größe"):
                top = self.top(locale=locale)
                top.wait_for_text(rf"{shown}\x1b[2J"[:13])
                top.type("q")
                self.assertEqual(top.end(), 0)

    def test_without_a_terminal(self):
        self.assertIn("not a terminal", self.shuntctl("top", status=1))
        self.open(81)
        self.keep_busy(*self.open(82))
        text = self.shuntctl("top", "-b", "-n", "2", "-d", "1")
        self.assertEqual(text.count("shuntctl top - "), 2)
        self.assertEqual(self.rows(text.splitlines()), [82, 81] * 2)
        self.assertIn(self.world.proxy.cgroup.path.rpartition("/")[0], text)
        told = json.loads(self.shuntctl("-j", "top", "-d", "1"))
        rates = {flow["dialled"]: flow["tcp_per_s"] for flow in told["flows"]}
        self.assertGreater(rates[f"{FAR4}:82"], 0)
        self.assertEqual(rates[f"{FAR4}:81"], 0)
        self.assertEqual(told["all"]["flows"], 2)
        self.assertEqual([mesh["mesh"] for mesh in told["meshes"]], ["test"])

    def test_usage(self):
        for wrong in ["-d", "0"], ["-d", "x"], ["-n", "0"], ["-x"], ["more"], ["-d"]:
            self.assertIn("shuntctl: top: ", self.shuntctl("top", *wrong, status=2))


class Graph(ViewsCase):
    def edges(self, *arguments):
        return json.loads(self.shuntctl("-j", "graph", *arguments))["edges"]

    def test_rates(self):
        self.keep_busy(*self.open(82))
        self.open(82)
        self.open(81)
        busy, idle = self.edges("-i", "2")
        self.assertEqual((busy["destination"], busy["flows"], busy["flows_spliced"],
                          busy["cgroup"], busy["server_cgroup"], busy["redirected"],
                          busy["mesh"], busy["spliced_per_s"]),
                         (f"{FAR4}:82", 2, 0, self.world.app.cgroup.path,
                          self.world.proxy.cgroup.path, True, "test", 0))
        self.assertGreater(busy["tcp_per_s"], 0)
        self.assertEqual((idle["destination"], idle["tcp_per_s"]), (f"{FAR4}:81", 0))

    def test_bytes(self):
        """One look knows of no rates."""
        sock, proxied = self.open(82)
        self.assert_connected(sock, proxied)
        wait_until(lambda: self.edges("-i", "0")[0]["bytes_tcp"] == 8, "the bytes are counted")
        dot = self.shuntctl("graph", "-i", "0")
        self.assertIn("bytes since the connections began", dot)
        self.assertIn(r'label="8 by TCP\n0 of 1 spliced"', dot)

    def test_limit(self):
        for port in 81, 82, 83:
            self.open(port)
        self.assertEqual(len(self.edges("-i", "0", "-n", "2")), 2)
        self.assertIn("1 quieter edges are left out", self.shuntctl("graph", "-i", "0", "-n", "2"))

    def svg(self, *arguments):
        """What Graphviz makes of it: the texts of the drawing."""
        drawn = self.shuntctl("graph", "-T", "svg", *arguments)
        tree = xml.etree.ElementTree.fromstring(drawn)
        return [text.text for text in tree.iter("{http://www.w3.org/2000/svg}text")]

    def test_drawn(self):
        self.assertTrue(shutil.which("dot"), "graphviz is not installed")
        self.open(82)
        texts = self.svg("-i", "0")
        for text in f"{FAR4}:82", self.world.app.cgroup.path, "mesh test":
            self.assertIn(text, texts)

    def test_drawn_with_hostile_names(self):
        name = 'a"];<b>&amp;\\N\\"'
        hostile = self.world.app.cgroup.child(name)
        self.addCleanup(hostile.remove)
        wait_until(lambda: any(cgroup["path"] == hostile.path
                               for cgroup in self.agent.ask("cgroups")), "it is known")
        self.addCleanup(self.world.app.cgroup.enter)
        hostile.enter()
        sock = self.dial(FAR4, 82)
        self.world.app.cgroup.enter()
        self.accept(self.sidecar(FAR4))
        self.assertEqual(self.edges("-i", "0")[0]["cgroup"], hostile.path)
        self.assertIn(hostile.path, self.svg("-i", "0"))
        sock.close()

    def test_without_graphviz(self):
        env = {"PATH": "/nowhere"}
        self.assertIn("install graphviz", self.shuntctl("graph", "-i", "0", "-T", "svg", status=1,
                                                        env=env))

    def test_usage(self):
        for wrong in ["-i", "-1"], ["-i", "x"], ["-n", "0"], ["-T", "svg;ls"], ["-T", ""], ["-x"], \
                ["more"], ["-T"]:
            self.assertIn("shuntctl: graph: ", self.shuntctl("graph", *wrong, status=2))
        self.assertIn("Format", self.shuntctl("graph", "-i", "0", "-T", "nonsense", status=1))


class Spliced(ViewsCase):
    mesh = {"splice": "sidecar"}

    def test_spliced(self):
        if not self.can_splice():
            self.leave_out()
        self.sidecar(FAR4).setblocking(False)

        def is_spliced():
            sock = self.new_socket()
            sock.setblocking(False)
            sock.connect_ex((FAR4, 82))
            proxied = wait_until(self.try_accept, "it is accepted")
            sock.sendall(bytes(1000))
            wait_until(lambda: self.try_receive(proxied), "it arrives")
            proxied.sendall(b"ok")
            wait_until(lambda: self.try_receive(sock), "it arrives")
            if any(flow["spliced"] for flow in self.agent.flows()):
                return sock, proxied
            sock.close()
            proxied.close()
            return None
        sock, proxied = wait_until(is_spliced, "a connection is spliced")
        drawn = re.compile(r'style=solid.*label="1\.0K spliced\\n1 of 1 spliced"')
        wait_until(lambda: drawn.search(self.shuntctl("graph", "-i", "0")), "it is the only one")
        stopped = threading.Event()

        def run():
            while not stopped.wait(0.01):
                for one, other in (sock, proxied), (proxied, sock):
                    one.sendall(bytes(100))
                    wait_until(lambda end=other: self.try_receive(end), "it arrives")
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stopped.set)
        top = self.keep(Terminal(self.command("top", "-d", "0.5")))
        top.wait_for(lambda lines: any(re.search(r":82 +spliced +([1-9]\d*|[\d.]+K) +0 +0 -", line)
                                       for line in lines), "its rate is shown")
        top.wait_for(lambda lines: any(re.match(r"Bytes:  [1-9][\d.]*K?/s spliced", line)
                                       for line in lines), "the sum is shown")
        top.type("q")
        self.assertEqual(top.end(), 0)

    def try_accept(self):
        with contextlib.suppress(BlockingIOError):
            sock = self.sidecar(FAR4).accept()[0]
            sock.setblocking(False)
            return self.keep(sock)

    @staticmethod
    def try_receive(sock):
        with contextlib.suppress(BlockingIOError):
            return sock.recv(65536)


if __name__ == "__main__":
    main()
