#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reload, crash, restart and removal of the agent, while programs go on dialling."""
import glob
import os
import signal
import socket
import time

from case import FAR4, PORT, Case, Refused, main, original_dst
from sandbox import DEADLINE, Place, wait_until
from survive_case import bpftool
from traffic import Load, ask, serve

FLIPS = 50
OTHER_SIDECAR = "127.0.0.1", 15002
# Two configurations, each with its own sidecar, and an address that it leaves alone.
ONE, TWO = "10.83.1.1", "10.83.2.1"
# Beside that one there are so many others that it takes a while to write them.
OTHERS = "".join(f",\n\t1.2.{n // 256}.{n % 256}" for n in range(2000))
CONFIG_ONE = {"tcp_redirect": "127.0.0.1:15001", "exclude_cidrs": ONE + OTHERS}
CONFIG_TWO = {"tcp_redirect": "127.0.0.1:15002", "exclude_cidrs": TWO + OTHERS}


class AgentCase(Case):
    def setUp(self):
        super().setUp()
        self.world.app.netns.far.ip(*(
            f"address replace {address}/32 dev lo" for address in (ONE, TWO)))
        other = self.keep(self.world.proxy.listen(*OTHER_SIDECAR))
        far = self.keep(self.world.far.listen("", PORT))
        self.keep(self.world.proxy.start(serve, self.sidecar(FAR4), "one", True))
        self.keep(self.world.proxy.start(serve, other, "two", True))
        self.keep(self.world.far.start(serve, far, "far", False))

    def reload(self, **keys):
        self.agent.reload(**keys)
        self.addCleanup(self.agent.reload)

    def listen_slowly(self):
        """A sidecar whose end of a handshake is not done before the client has sent something."""
        listener = self.keep(self.world.proxy.listen("127.0.0.1", 15003))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEADLINE)
        self.reload(tcp_redirect="127.0.0.1:15003")
        return listener

    def assert_heard(self, load, expected):
        """That the program was never told anything else; and that it was busy."""
        n, heard = load.stop()
        self.assertGreater(n, FLIPS)
        self.assertEqual(heard, expected)


class Reload(AgentCase):
    def test_rules_are_old_or_new(self):
        """Never a mix: what one configuration leaves alone never gets to its sidecar."""
        self.reload(**CONFIG_ONE)
        load = Load(self.world.app, FAR4, ONE, TWO)
        for _ in range(FLIPS // 2):
            self.agent.reload(**CONFIG_TWO)
            self.agent.reload(**CONFIG_ONE)
        self.assert_heard(load, {
            FAR4: {f"one {(FAR4, PORT)}", f"two {(FAR4, PORT)}"},
            ONE: {"far", f"two {(ONE, PORT)}"},
            TWO: {"far", f"one {(TWO, PORT)}"},
        })

    def test_attachments_that_move(self):
        """Up to the parent and down again: there is no gap, and nothing is redirected twice."""
        app = self.world.app.cgroup
        inner = app.child("inner")
        self.addCleanup(inner.remove)
        member = inner.child("member")
        below, above = {"cgroups": f"{inner.path}/*"}, {"cgroups": f"{app.path}/*"}
        self.reload(**below)
        before = self.agent.counters()
        load = Load(Place(member, self.world.app.netns), FAR4)
        for _ in range(FLIPS // 2):
            self.agent.reload(**above)
            self.agent.reload(**below)
        self.assert_heard(load, {FAR4: {f"one {(FAR4, PORT)}"}})
        moved = {name: count - before[name] for name, count in self.agent.counters().items()
                 if name.startswith("connect_") and count != before[name]}
        self.assertLessEqual(set(moved), {"connect_seen", "connect_redirected", "connect_already"})

    def test_connections_keep_what_they_have(self):
        """One that no sidecar has accepted yet, too."""
        listener = self.listen_slowly()
        sock = self.dial(FAR4)
        self.agent.reload(tcp_redirect="127.0.0.1:15002", exclude_cidrs=FAR4)
        self.assertEqual(ask([FAR4]), {FAR4: "far"})
        sock.sendall(b"!")
        proxied = self.accept(listener)
        self.assertEqual(original_dst(proxied), (FAR4, PORT))
        self.assertEqual(sock.getpeername(), (FAR4, PORT))
        self.assertEqual(proxied.recv(1), b"!")
        self.assert_connected(sock, proxied)

    def test_refused_configuration(self):
        self.agent.configure(tcp_redirect="nonsense")
        with self.assertRaises(Refused):
            self.agent.ask("reload")
        self.assertEqual(ask([FAR4]), {FAR4: f"one {(FAR4, PORT)}"})

    def test_what_waits_for_a_start(self):
        """It stays, each reload says so as long as the file has another, and status is right."""
        before = self.agent.ask("status")
        self.addCleanup(self.agent.reload)
        self.addCleanup(setattr, self.agent, "settings", {})
        for key in "pin_dir", "control_socket", "cgroup_root":
            self.agent.settings = {key: f"{self.world.directory}/other"}
            self.agent.configure(splice="off")
            for _ in range(2):
                said = self.agent.ask("reload")["warnings"]
                self.assertEqual([key in warning for warning in said], [True], said)
        now = self.agent.ask("status")
        for place in "pin_dir", "cgroup_root":
            self.assertEqual(now[place], before[place])
        self.agent.settings = {}
        self.agent.configure(splice="off")
        self.assertEqual(self.agent.ask("reload")["warnings"], [])

    def test_cgroups_come_and_go(self):
        self.reload(cgroups=f"{self.world.app.cgroup.path}/*")
        for _ in range(3):
            child = self.world.app.cgroup.child("child")
            known = self.agent.ask("classify", cgroup=child.path)
            self.assertEqual(known["role"], "member")
            self.assertEqual(Place(child, self.world.app.netns).run(ask, [FAR4]),
                             {FAR4: f"one {(FAR4, PORT)}"})
            child.remove()
            wait_until(lambda: self.agent.ask("status")["cgroups"]["members"] == 0,
                       "the agent has seen the cgroup go")


    def test_cgroup_that_is_not_there(self):
        """… is told as what it then is."""
        cgroup = self.world.cgroup.path
        self.reload(cgroups=f"{self.world.app.cgroup.path}, {cgroup}/later, !{cgroup}/later/not")

        def explain(path):
            told = self.agent.ask("explain", cgroup=cgroup + path, destination=f"{FAR4}:{PORT}")
            return told["outcome"], "there is no such cgroup" in told["steps"][0]
        self.assertEqual(explain("/later"), ("redirected", True))
        self.assertEqual(explain("/later/below"), ("redirected", True))
        self.assertEqual(explain("/later/not"), ("not_enrolled", True))
        self.assertEqual(explain("/never"), ("not_enrolled", True))
        later = self.world.cgroup.child("later")
        self.addCleanup(later.remove)
        self.agent.ask("classify", cgroup=later.path)
        self.assertEqual(explain("/later"), ("redirected", False))
        place = Place(later, self.world.app.netns)
        self.assertEqual(place.run(ask, [FAR4]), {FAR4: f"one {(FAR4, PORT)}"})


class ReloadOnChange(AgentCase):
    def setUp(self):
        super().setUp()
        self.agent.settings["reload_on_change"] = "yes"
        self.addCleanup(self.agent.reload)
        self.addCleanup(self.agent.settings.clear)
        self.agent.reload()

    def write(self, name, **keys):
        """A configuration at another path than that of the agent."""
        path, self.agent.config = self.agent.config, f"{self.world.directory}/{name}"
        try:
            self.agent.configure(**keys)
            return self.agent.config
        finally:
            self.agent.config = path

    def wait_for(self, sidecar):
        wait_until(lambda: ask([FAR4]) == {FAR4: f"{sidecar} {(FAR4, PORT)}"}, "it is reloaded")

    def test_replaced(self):
        for sidecar, config in ("two", CONFIG_TWO), ("one", CONFIG_ONE):
            os.rename(self.write("next.ini", **config), self.agent.config)
            self.wait_for(sidecar)

    def test_written_in_place(self):
        for sidecar, config in ("two", CONFIG_TWO), ("one", CONFIG_ONE):
            self.agent.configure(**config)
            self.wait_for(sidecar)

    def test_link_that_leads_elsewhere(self):
        """As a ConfigMap is mounted: the file is a link into a directory that is one itself."""
        directory = self.world.directory
        for n, config in enumerate((CONFIG_ONE, CONFIG_TWO)):
            os.mkdir(f"{directory}/{n}")
            os.rename(self.write("next.ini", **config), f"{directory}/{n}/shunt.ini")
        os.symlink("0", f"{directory}/..data")
        os.symlink("..data/shunt.ini", f"{directory}/link")
        os.rename(f"{directory}/link", self.agent.config)
        self.addCleanup(os.unlink, self.agent.config)
        self.wait_for("one")
        os.symlink("1", f"{directory}/..next")
        os.rename(f"{directory}/..next", f"{directory}/..data")
        self.wait_for("two")

    def test_mistake(self):
        """Said once, and nothing changes; the next file is read again."""
        said = lambda: self.agent.read_log().count("not reloaded")
        before = said()
        self.agent.configure(tcp_redirect="nonsense")
        wait_until(lambda: said() > before, "the log says so")
        self.assertIn("'nonsense' is not an address", self.agent.read_log())
        self.assertEqual(ask([FAR4]), {FAR4: f"one {(FAR4, PORT)}"})
        self.agent.configure(**CONFIG_TWO)
        self.wait_for("two")
        self.assertEqual(said(), before + 1)

    def test_not_asked_for(self):
        self.agent.settings["reload_on_change"] = "no"
        self.agent.reload()
        self.agent.configure(**CONFIG_TWO)
        time.sleep(1)  # in which it would be
        self.assertEqual(ask([FAR4]), {FAR4: f"one {(FAR4, PORT)}"})


class Restart(AgentCase):
    def restart(self, signum):
        self.agent.stop(signum)
        self.agent.start()

    def test_redirection_outlives_the_agent(self):
        for signum in signal.SIGTERM, signal.SIGKILL:
            with self.subTest(signum):
                before = self.agent.counters()["connect_redirected"]
                self.agent.stop(signum)
                try:
                    heard = ask([FAR4])
                finally:
                    self.agent.start()
                self.assertEqual(heard, {FAR4: f"one {(FAR4, PORT)}"})
                self.assertEqual(self.agent.counters()["connect_redirected"], before + 1)

    def test_attachments_are_taken_over(self):
        """They and the maps are the same ones."""
        def links():
            return {link["cgroup"]: set(link["programs"])
                    for link in self.agent.ask("status")["links"]}

        def numbers():
            return {pin: bpftool("link" if "/links/" in pin else "map", "show", "pinned", pin)["id"]
                    for pin in glob.glob(f"{self.agent.pins}/v*/*/*")}
        before = links(), numbers()
        self.assertGreater(len(before[1]), 20)
        self.restart(signal.SIGKILL)
        self.assertEqual((links(), numbers()), before)
        with self.counted(connect_redirected=1):
            ask([FAR4])

    def test_under_load(self):
        load = Load(self.world.app, FAR4)
        for _ in range(4):
            self.restart(signal.SIGKILL)
        self.assert_heard(load, {FAR4: {f"one {(FAR4, PORT)}"}})

    def test_with_another_configuration(self):
        """It was changed while there was no agent."""
        self.reload(**CONFIG_ONE)
        load = Load(self.world.app, FAR4, ONE, TWO)
        for config in (CONFIG_TWO, CONFIG_ONE) * 2:
            self.agent.stop(signal.SIGKILL)
            self.agent.configure(**config)
            self.agent.start()
        self.assert_heard(load, {
            FAR4: {f"one {(FAR4, PORT)}", f"two {(FAR4, PORT)}"},
            ONE: {"far", f"two {(ONE, PORT)}"},
            TWO: {"far", f"one {(TWO, PORT)}"},
        })

    def test_cgroups_that_came_and_went_meanwhile(self):
        app = self.world.app.cgroup
        self.reload(cgroups=f"{app.path}/*")
        gone = app.child("gone")
        self.agent.ask("classify", cgroup=gone.path)
        self.agent.stop(signal.SIGKILL)
        gone.remove()
        new = app.child("new")
        self.addCleanup(new.remove)
        self.agent.start()
        heard = Place(new, self.world.app.netns).run(ask, [FAR4])
        self.assertEqual(heard, {FAR4: f"one {(FAR4, PORT)}"})
        self.assertEqual(self.agent.ask("status")["cgroups"]["members"], 1)

    def test_names_of_older_connections(self):
        sock = self.new_socket()
        sock.connect((FAR4, PORT))
        own = sock.getsockname()
        self.restart(signal.SIGKILL)
        self.assertEqual((sock.getsockname(), sock.getpeername()), (own, (FAR4, PORT)))

    def test_destination_that_waits(self):
        listener = self.listen_slowly()
        sock = self.dial(FAR4)
        self.restart(signal.SIGKILL)
        sock.sendall(b"!")
        self.assertEqual(original_dst(self.accept(listener)), (FAR4, PORT))


class Second(AgentCase):
    def test_second_agent_refuses(self):
        second = self.agent.spawn()
        self.assertEqual(second.wait(DEADLINE), 1)
        self.assertIn("another agent is running", self.agent.read_log())
        with self.counted(connect_redirected=1):
            ask([FAR4])

    def test_second_agent_with_other_pins_leaves_nothing(self):
        pins = self.agent.pins
        self.agent.pins = f"{pins}-second"
        self.agent.configure()
        status = self.agent.spawn().wait(DEADLINE)
        self.agent.pins = pins
        self.agent.configure()
        self.assertEqual(status, 1)
        self.assertFalse(os.path.exists(f"{pins}-second"))
        with self.counted(connect_redirected=1):
            self.assertEqual(ask([FAR4]), {FAR4: f"one {(FAR4, PORT)}"})


class CgroupRoot(AgentCase):
    """… is a directory inside of the mount."""

    def setUp(self):
        super().setUp()
        self.start(self.world.cgroup.directory, cgroups="/app", sidecar_cgroups="/proxy")
        self.addCleanup(self.start, self.world.mount)

    def start(self, cgroup_root, **keys):
        self.agent.stop()
        self.agent.settings = {"cgroup_root": cgroup_root}
        self.agent.configure(**keys)
        self.agent.start()

    def explain(self, pid):
        return self.agent.ask("explain", pid=pid, destination=f"{FAR4}:{PORT}")

    def test_paths_are_below_it(self):
        """Those of processes too."""
        with self.counted(connect_redirected=1):
            self.assertEqual(ask([FAR4]), {FAR4: f"one {(FAR4, PORT)}"})
        told = self.explain(os.getpid())
        self.assertEqual((told["cgroup"], told["outcome"]), ("/app", "redirected"))
        told = self.explain(self.world.guard)
        self.assertEqual((told["cgroup"], told["outcome"]),
                         (f"/..{self.world.home.path.rstrip('/')}", "not_enrolled"))


class Detach(AgentCase):
    def begin_to_detach(self):
        self.agent.ask("detach")
        self.addCleanup(self.agent.start)
        self.addCleanup(self.agent.configure)
        self.addCleanup(self.agent.process.wait, DEADLINE)

    def detach(self):
        self.begin_to_detach()
        self.agent.process.wait(DEADLINE)

    def test_nothing_is_left(self):
        self.detach()
        self.assertFalse(os.path.exists(self.agent.pins))
        self.assertEqual(ask([FAR4]), {FAR4: "far"})

    def test_connection_on_its_way(self):
        """It was redirected before, and is accepted after."""
        listener = self.listen_slowly()
        sock = self.dial(FAR4)
        self.begin_to_detach()
        self.assertEqual(ask([FAR4]), {FAR4: "far"})
        sock.sendall(b"!")
        self.assertEqual(original_dst(self.accept(listener)), (FAR4, PORT))

    def test_connections_go_on(self):
        listener = self.listen_slowly()
        sock = self.dial(FAR4)
        sock.sendall(b"!")
        proxied = self.accept(listener)
        self.assertEqual(proxied.recv(1), b"!")
        self.detach()
        self.assert_connected(sock, proxied)

    def tearDown(self):
        """There is no agent to ask for counters."""


if __name__ == "__main__":
    main()
