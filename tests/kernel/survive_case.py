# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What tests begin with in which the agent is ended, replaced or taken out under traffic."""
import contextlib
import glob
import json
import os
import random
import socket
import subprocess

from case import DNS4, FAR4, PORT, TCP4, Case
from sandbox import DEADLINE, wait_until
from traffic import DNS, RESOLVERS, TALK_PORT, Load, Queries, Talk, answer_queries, serve_all

SEED = int(os.environ.get("SHUNT_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
REDIRECTED, ALONE = f"one {(FAR4, PORT)}", "far"
TALKERS = 4


def bpftool(*arguments):
    return json.loads(subprocess.run(["bpftool", "-j", *arguments], stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, check=True).stdout)


class SurviveCase(Case):
    mesh = {"splice": "sidecar"}

    def setUp(self):
        world = self.world
        for address in RESOLVERS:
            world.far.netns.ip(f"address replace {address}/32 dev lo")
        self.serve_at(world.proxy, TCP4, [DNS4], "one", True)
        self.serve_at(world.far, ("", PORT), [(a, DNS) for a in RESOLVERS], ALONE, False)
        self.dice = random.Random(SEED)
        print(f"SHUNT_SEED={SEED}", flush=True)

    def serve_at(self, place, tcp, udp, name, is_sidecar):
        listeners = [self.keep(place.listen(*tcp))]
        if not is_sidecar:
            listeners.append(self.keep(place.listen("", TALK_PORT)))
        self.keep(place.start(serve_all, listeners, name, is_sidecar))
        for address in udp:
            sock = self.keep(place.bind(*address, socket.SOCK_DGRAM))
            self.keep(place.start(answer_queries, sock))

    def start_traffic(self):
        app = self.world.app
        self.load = self.keep(Load(app, FAR4))
        self.queries = self.keep(Queries(app, *RESOLVERS))
        self.talk = self.keep(Talk(app, TALKERS, self.dice.random()))

    def assert_nobody_noticed(self, *answers):
        """Stops the traffic. Every connect was answered in one of these ways, every datagram by
        whom it was sent to, and every byte came back."""
        dialled, heard = self.load.stop()
        asked, wrong = self.queries.stop()
        self.assertGreater(self.talk.stop(), 0)
        self.assertEqual(set(heard[FAR4]) - set(answers), set())
        self.assertEqual(wrong[:3], [])
        self.assertGreater(min(dialled, asked), 10)

    def wait_for_splicing(self):
        """By the programs of the agent that there is now."""
        before = self.agent.counters()["splice_bytes"]

        def splices():
            for traffic in self.load, self.queries, self.talk:
                traffic.check()
            self.try_splicing()
            return self.agent.counters()["splice_bytes"] > before
        try:
            wait_until(splices, "something is spliced", 2 * DEADLINE)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.agent.ask('status')}, "
                                 f"{ {k: v for k, v in self.agent.counters().items() if v} }") from None

    def try_splicing(self):
        """Again, if the self-test ran out of time, as it may on a busy host."""
        if self.agent.ask("status")["splice"] == "kernel":
            self.agent.ask("reload")
        return self.agent.ask("status")["splice"] != "kernel"

    def arm(self, how, step):
        """What preloaded fault.c does."""
        self.fault = f"{self.world.directory}/fault"
        self.agent.environment = {
            "LD_PRELOAD": f"{self.world.build}/tests/shunt-fault.so", "SHUNT_FAULT": self.fault}
        with open(self.fault + ".new", "w", encoding="ascii") as file:
            print(how, step, file=file)
        os.rename(self.fault + ".new", self.fault)

    def disarm(self):
        """Returns whether it was not done yet."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.fault)
            return True
        return False

    def build_of(self, name):
        """Another version of the agent, or this one."""
        return f"{self.world.build}/" + (f"tests/shuntd-{name}" if name else "agent/shuntd")

    def begin(self):
        """Starts the agent; returns whether it came up."""
        def is_up():
            with contextlib.suppress(OSError):
                return self.agent.ask("status")
        self.agent.process = self.agent.spawn()
        wait_until(lambda: self.agent.process.poll() is not None or is_up(), "it is up or dead")
        return self.agent.process.poll() is None

    def state(self):
        """All that there is in the kernel, under names that do not depend on what was before."""
        tables = {}
        for pin in glob.glob(f"{self.agent.pins}/v*/[mp]*/*"):
            name = os.path.relpath(pin, self.agent.pins)
            kind = bpftool("map", "show", "pinned", pin)
            tables[name] = {key: kind[key] for key in ("type", "bytes_key", "bytes_value",
                                                       "max_entries", "flags") if key in kind}
        return tables | {"links": self.links()} | self.contents()

    def links(self):
        """Which program is attached where, and by which pin."""
        programs = {p["id"]: (p["name"], p["tag"]) for p in bpftool("prog", "show")
                    if "name" in p}
        found = {}
        for pin in glob.glob(f"{self.agent.pins}/v*/links/*"):
            link = bpftool("link", "show", "pinned", pin)
            found[os.path.relpath(pin, self.agent.pins)] = (
                programs[link["prog_id"]], link["cgroup_id"], link["attach_type"])
        return found

    def dump(self, name):
        return [entry["formatted"] for entry in bpftool("map", "dump", "pinned",
                                                        self.agent.pin(name))]

    def contents(self):
        """Who is enrolled in what, without the number of its slot; and what no slot has."""
        meshes = {m["key"]: m["value"] for m in self.dump("shunt_meshes")}
        found = {"pairs": self.dump("shunt_pairs"), "ends": len(self.dump("shunt_ends")),
                 "cidrs": [], "owners": [], "cgroups": {}}
        slots = set()
        for entry in self.dump("shunt_cgroups"):
            value = entry["value"]
            slots |= {value["mesh"]} if value["role"] else set()
            found["cgroups"][entry["key"]] = (
                value["role"], meshes[value["mesh"]] if value["role"] else None)
        first = min(slots)
        for entry in self.dump("shunt_cidrs"):
            scope = socket.ntohl(entry["key"]["scope"])
            found["cidrs"].append((scope // 2 - first, scope % 2, entry["key"]["prefix_len"],
                                   entry["key"]["addr"], entry["value"]))
        for entry in self.dump("shunt_owners"):
            found["owners"].append((entry["key"]["mesh"] - first, entry["key"]["kind"],
                                    entry["key"]["id"], entry["value"]))
        found["cidrs"].sort()
        found["owners"].sort()
        control = self.dump("shunt_control")[0]["value"]
        found["control"] = {k: v for k, v in control.items()
                            if k not in ("agent", "agent_start", "generation", "discover")}
        return found

    def settled_state(self):
        """… once nothing of earlier connections and configurations is left."""
        def settled():
            state = self.state()
            return not state["pairs"] and not state["ends"] and state == self.state()
        wait_until(self.try_splicing, "this kernel turns out to splice")
        wait_until(settled, "what was before is gone")
        self.wait_for_linger()
        return self.state()

    def wait_for_linger(self):
        """Rules and attachments that are not in force are taken out after a while."""
        slots = lambda: {entry["value"]["mesh"] for entry in self.dump("shunt_cgroups")
                         if entry["value"]["role"]}
        wait_until(lambda: all(socket.ntohl(entry["key"]["scope"]) // 2 - min(slots()) < 64
                               and socket.ntohl(entry["key"]["scope"]) // 2 >= min(slots())
                               for entry in self.dump("shunt_cidrs")), "old rules are gone")

    def assert_as_after_a_clean_start(self):
        """Compares all that there is with what there is after a detach and a start."""
        found = self.settled_state()
        self.agent.detach()
        self.assertFalse(os.path.exists(self.agent.pins))
        self.agent.start()
        clean = self.settled_state()
        self.assertEqual(set(found), set(clean))
        for name, value in clean.items():
            self.assertEqual(found[name], value, name)
