#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""explain against what really happens: configurations, callers and destinations at random.

Of each case three accounts are compared: what the agent says would happen; what did happen, by the
counter that moved, the error that connect() gave and where the connection arrived; and what the
manual says, put down here once more as a model. A failure tells the seed: SHUNT_SEED repeats it.
"""
import contextlib
import errno
import ipaddress
import json
import os
import random
import re
import socket
import struct

from case import FAR4, FAR6, POD4, POD6, Case, main, original_dst
from sandbox import DEADLINE, Place, libc, check, wait_until

CASES = int(os.environ.get("SHUNT_CASES", "10000"))
COMMON = 12 if CASES >= 10000 else 4  # outcomes that come up, whatever the seed
ROUND = 200  # cases between two reloads
FAILURES = 5  # are told
RESET = struct.pack("=ii", 1, 0)

LISTENING = [  # by the sidecar, on TCP and UDP
    ("127.0.0.1", 15001), ("::1", 15001), ("0.0.0.0", 15002), ("::", 15003), (POD4, 15004),
    (POD6, 15004),
]
OWNERS = [0, 1, 7, 1000, 65533]
PORTS = [1, 22, 53, 80, 443, 8080, 15001, 65535]
NETWORKS4 = ["0.0.0.0/0", "10.0.0.0/8", "10.83.0.0/24", "10.83.0.0/25", "10.83.0.1/32",
             "10.128.0.0/9", "172.16.0.0/12", "192.0.2.0/24", "192.0.2.7/32", "192.0.2.6/31"]
NETWORKS6 = ["::/0", "fd00::/8", "fd83::/64", "fd83::1/128", "2001:db8::/32", "2001:db8::/127",
             "2001:db8:8000::/33"]
LONE = ["127.0.0.1", "127.5.6.7", "0.0.0.0", "::1", "::", "fe80::5", "febf::1", "fec0::1", POD4,
        POD6, FAR4, FAR6]
# Keys that a line can have that decides; what is not here is decided by no line.
DECIDE = {
    "redirected": ("tcp_redirect", "dns_redirect"),
    "excluded_cidr": ("exclude_cidrs",),
    "excluded_port": ("exclude_ports",),
    "excluded_owner": ("exclude_uids", "exclude_gids"),
    "sidecar": ("sidecar_uids", "sidecar_gids"),
    "refused_sidecar_down": ("on_sidecar_down",),
    "bypassed_sidecar_down": ("on_sidecar_down",),
}


def is_v4(address):
    return ipaddress.ip_address(address).version == 4


def endpoint(address, port):
    return f"{address}:{port}" if is_v4(address) else f"[{address}]:{port}"


class Conversation:
    """Questions to the agent, on one connection."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(path)
        self.answers = self.socket.makefile()

    def ask(self, verb, **arguments):
        self.socket.sendall(json.dumps({"verb": verb} | arguments).encode() + b"\n")
        answer = json.loads(self.answers.readline())
        if not answer["ok"]:
            raise AssertionError(f"{verb} {arguments}: {answer['error']}")
        return answer["result"]

    def outcomes(self, hook):
        return {name.removeprefix(f"{hook}_"): value
                for name, value in self.ask("counters").items()
                if name.startswith(f"{hook}_") and not name.endswith("_seen")}

    def close(self):
        self.answers.close()
        self.socket.close()


class Mesh:
    """A mesh at random, as text and as a model."""

    def __init__(self, rng, name, cgroups, sidecars):
        self.rng = rng
        self.name = name
        self.cgroups = cgroups
        self.sidecars = sidecars
        targets = LISTENING + [("127.0.0.1", 15009), ("::1", 15009)]
        self.tcp = self.some_targets(targets)
        self.dns = self.some_targets(targets) if rng.random() < 0.6 else []
        self.bypass = rng.random() < 0.3
        self.include = self.some(NETWORKS4 + NETWORKS6, 0.4, 4)
        self.exclude = self.some(NETWORKS4[1:] + NETWORKS6[1:], 0.5, 4)
        self.include_ports = self.some_ports(0.3)
        self.exclude_ports = self.some_ports(0.4)
        self.owners = {key: self.some(OWNERS, 0.25, 2) for key in (
            "sidecar_uids", "sidecar_gids", "exclude_uids", "exclude_gids")}

    def some(self, choices, likely, most):
        """None: the key is left out."""
        if self.rng.random() > likely:
            return None
        return self.rng.sample(choices, self.rng.randint(1, most))

    def some_ports(self, likely):
        if self.rng.random() > likely:
            return None
        ranges = []
        for first in sorted(self.rng.sample(PORTS, self.rng.randint(1, 3))):
            last = first + self.rng.choice([0, 0, 1, 500])
            if not ranges or first > ranges[-1][1]:
                ranges.append((first, min(last, 65535)))
        return ranges

    def some_targets(self, targets):
        """One of a family, or both."""
        families = self.rng.choice([(True,), (False,), (True, False), (True, False)])
        return [self.rng.choice([t for t in targets if is_v4(t[0]) == v4 and t[0] != "::"
                                 and t[0] != "0.0.0.0"] +
                                [("127.0.0.1" if v4 else "::1", port) for port in (15002, 15003)])
                for v4 in families]

    def text(self):
        values = {
            "cgroups": self.cgroups,
            "sidecar_cgroups": self.sidecars,
            "tcp_redirect": [endpoint(*t) for t in self.tcp],
            "dns_redirect": [endpoint(*t) for t in self.dns] or None,
            "include_cidrs": self.include,
            "exclude_cidrs": self.exclude,
            "include_ports": self.ports_text(self.include_ports),
            "exclude_ports": self.ports_text(self.exclude_ports),
            "on_sidecar_down": ["bypass" if self.bypass else "refuse"],
        } | self.owners
        lines = [f"{key} = {', '.join(map(str, value))}"
                 for key, value in values.items() if value is not None]
        return "\n".join([f"[mesh {self.name}]"] + lines) + "\n"

    @staticmethod
    def ports_text(ranges):
        return ranges and [f"{a}-{b}" if a != b else a for a, b in ranges]

    @staticmethod
    def holds(networks, address):
        address = ipaddress.ip_address(address)
        return any(address in ipaddress.ip_network(n) for n in networks)

    def is_owner(self, kind, uid, gid):
        return uid in (self.owners[f"{kind}_uids"] or ()) or gid in (
            self.owners[f"{kind}_gids"] or ())

    def target(self, udp, address, port):
        for targets, applies in (self.dns, port == 53), (self.tcp, not udp):
            for target in targets if applies else ():
                if is_v4(target[0]) == is_v4(address):
                    return target
        return None

    def down(self):
        return "bypassed_sidecar_down" if self.bypass else "refused_sidecar_down"

    @staticmethod
    def listens(target):
        """On the address itself or on any; one on any of IPv6 takes IPv4 too."""
        for address, port in LISTENING:
            if port == target[1] and (address in (target[0], "::") or (
                    address == "0.0.0.0" and is_v4(target[0]))):
                return True
        return False

    def outcome(self, udp, address, port, uid, gid):
        """shunt.ini(5), for a program of this mesh; with where to."""
        parsed = ipaddress.ip_address(address)
        target = self.target(udp, address, port)
        if udp and port != 53:
            return "not_dns", None
        if self.is_owner("sidecar", uid, gid):
            return "sidecar", None
        if parsed.is_loopback or parsed.is_unspecified:
            return "loopback", None
        if parsed in ipaddress.ip_network("fe80::/10"):
            return "link_local", None
        if self.holds(self.exclude or [], address):
            return "excluded_cidr", None
        if any(a <= port <= b for a, b in self.exclude_ports or []):
            return "excluded_port", None
        if self.is_owner("exclude", uid, gid):
            return "excluded_owner", None
        if not any(a <= port <= b for a, b in self.include_ports or [(0, 65535)]):
            return "not_included", None
        if self.include and not self.holds(self.include, address):
            return "not_included", None
        if not target:
            return "no_address", None
        if target == (address, port):
            return "already", None
        if not self.listens(target):
            return self.down(), None
        return "redirected", target


class Explained(Case):
    def setUp(self):
        seed = int(os.environ.get("SHUNT_SEED") or random.randrange(1 << 32))
        self.seed = f"SHUNT_SEED={seed}"
        self.rng = random.Random(seed)
        self.sidecars = {}
        for address, port in LISTENING:
            self.sidecars[address, port] = self.keep(self.world.proxy.listen(address, port))
            self.sidecars[address, port].setblocking(False)
            self.keep(self.world.proxy.bind(address, port, socket.SOCK_DGRAM))
        app = self.world.app.cgroup
        self.children = [app.child("a"), app.child("b")]
        self.children.append(self.children[1].child("c"))
        self.places = [app, *self.children, self.world.proxy.cgroup, self.world.outside.cgroup]
        self.addCleanup(self.leave)
        self.talk = self.keep(Conversation(self.agent.socket))
        self.failures = []

    def leave(self):
        self.become(0, 0)
        self.world.app.cgroup.enter()
        for child in reversed(self.children):
            child.remove()

    @staticmethod
    def become(uid, gid):
        """As the kernel half sees it; what one may is a matter of the effective ones."""
        check(libc.setresgid(gid, 0, 0))
        check(libc.setresuid(uid, 0, 0))

    def reload(self):
        """Two meshes, of whose cgroups some are below others. All patterns have the same literal
        beginning, so that programs are not moved, which would have them run twice for a while."""
        app = self.world.app.cgroup.path
        a, b, _ = (child.path for child in self.children)
        cgroups, more = self.rng.choice([
            ([app], None), ([f"{app}/**"], None), ([app, f"!{b}*"], [f"{app}/*/c"]),
            ([f"{a}*", f"{app}/?/*"], [f"{app}/b*"]), ([app, f"!{a}"], None),
            ([f"{app}/a*"], [f"{app}/*/c"]), ([f"{app}/*", f"!{app}/*x"], [f"{app}/b*"]),
            ([f"{app}/*"], None)])
        sidecars = [self.world.proxy.cgroup.path] + self.rng.choice([[], [f"{a}*"]])
        first = Mesh(self.rng, "first", cgroups, sidecars)
        meshes = [first]
        if more:
            meshes.append(Mesh(self.rng, "second", more, [self.world.far.cgroup.path]))
        self.agent.configure()
        with open(self.agent.config, encoding="utf-8") as file:
            head = file.read().split("[mesh ")[0]
        text = head + "".join(mesh.text() for mesh in meshes)
        with open(self.agent.config, "w", encoding="utf-8") as file:
            file.write(text)
        self.lines = text.splitlines()
        self.talk.ask("reload")
        self.meshes = {mesh.name: mesh for mesh in meshes}

    def random_address(self):
        networks = NETWORKS4 + NETWORKS6
        if self.rng.random() < 0.15:
            return self.rng.choice(LONE)
        network = ipaddress.ip_network(self.rng.choice(networks))
        edge = self.rng.random()
        if edge < 0.2:
            address = network[0]
        elif edge < 0.4:
            address = network[-1]
        else:
            address = network[self.rng.randrange(network.num_addresses)]
        if address.version == 6 and address.ipv4_mapped:
            address = address.ipv4_mapped
        return str(address)

    def random_destination(self):
        if self.rng.random() < 0.05:
            return self.rng.choice([t for m in self.meshes.values() for t in m.tcp + m.dns])
        port = self.rng.choice(PORTS) if self.rng.random() < 0.8 else self.rng.randint(1, 65535)
        return self.random_address(), port

    def dial(self, udp, address, port):
        """What connect() gives, and the socket."""
        mapped = is_v4(address) and self.rng.random() < 0.3
        family = socket.AF_INET if is_v4(address) and not mapped else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        sock.setblocking(False)
        # A reset leaves nothing in the tables that explain reads.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        dialled = f"::ffff:{address}" if mapped else address
        return sock, sock.connect_ex((dialled, port))

    def accept(self, target, port):
        """What arrives at the sidecar from this port; its original destination. What was dialled
        directly may have arrived before."""
        def take():
            for address in target[0], "0.0.0.0", "::":
                listener = self.sidecars.get((address, target[1]))
                with contextlib.suppress(BlockingIOError):
                    while listener:
                        sock, name = listener.accept()
                        if name[1] == port:
                            return sock
                        sock.close()
            return None
        with wait_until(take, "it has arrived") as sock:
            mapped = sock.family == socket.AF_INET6 and sock.getsockname()[0].startswith("::ffff:")
            v4 = sock.family == socket.AF_INET or mapped
            return original_dst(sock, socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6)

    def drain(self):
        """What was dialled directly has arrived by now, if it has."""
        for listener in self.sidecars.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()

    def moved(self, before):
        after = self.talk.outcomes("connect")
        return after, [name for name in after for _ in range(after[name] - before[name])]

    def applies(self, said, key, value, address, port, uid, gid):
        """Is this what decides, if it stands there?"""
        if key.endswith("_cidrs"):
            return Mesh.holds([value], address)
        if key == "exclude_ports":
            first, _, last = value.partition("-")
            return int(first) <= port <= int(last or first)
        if key.endswith("_redirect"):
            return value == said["redirected_to"]
        if key == "on_sidecar_down":
            return said["outcome"].startswith(value)
        return int(value) == (uid if key.endswith("_uids") else gid)

    def has_right_rule(self, said, *case):
        """Does the line that is said to decide stand in the mesh, and apply?"""
        keys = DECIDE.get(said["outcome"])
        if said["role"] != "member" or not keys:
            return said["role"] != "member" or said["rule"] is None
        path, number, key, value = re.fullmatch(r"(.*):(\d+): (\w+) = (.*)", said["rule"]).groups()
        above, line = self.lines[:int(number)], self.lines[int(number) - 1]
        section = next(text for text in reversed(above) if text.startswith("["))
        name, _, values = line.partition(" = ")
        return path == self.agent.config and section == f"[mesh {said['mesh']}]" and \
            name == key and key in keys and value in values.split(", ") and \
            self.applies(said, key, value, *case)

    def try_one(self, before, uid, gid):
        udp, (address, port) = self.rng.random() < 0.25, self.random_destination()
        said = self.talk.ask("explain", pid=os.getpid(), destination=endpoint(address, port),
                             protocol="udp" if udp else "tcp")
        sock, result = self.dial(udp, address, port)
        with sock:
            after, moved = self.moved(before)
            arrived = None
            if moved == ["redirected"] and not udp:
                host, target_port = said["redirected_to"].rsplit(":", 1)
                arrived = self.accept((host.strip("[]"), int(target_port)), sock.getsockname()[1])
        wrong = []
        if moved != [said["outcome"]] and (moved or said["outcome"] not in (
                "sidecar", "not_enrolled", "not_dns")):
            wrong.append(f"happened: {moved}")
        if moved and (result == errno.ECONNREFUSED) != (moved == ["refused_sidecar_down"]):
            wrong.append(f"connect() gave {errno.errorcode.get(result, result)}")
        if arrived not in (None, (address, port)):
            wrong.append(f"the sidecar was told {arrived}")
        if said["role"] == "member":
            outcome, target = self.meshes[said["mesh"]].outcome(udp, address, port, uid, gid)
            if (outcome, target and endpoint(*target)) != (said["outcome"], said["redirected_to"]):
                wrong.append(f"the manual says: {outcome} {target}")
            if not moved:
                wrong.append("no program ran for a member")
        if not self.has_right_rule(said, address, port, uid, gid):
            wrong.append("that line does not decide")
        if wrong:
            self.failures.append("\n".join([
                f"{said}", f"uid {uid}, gid {gid}", *wrong, self.meshes_text()]))
        self.tried[said["outcome"]] = self.tried.get(said["outcome"], 0) + 1
        return after

    def meshes_text(self):
        return "".join(mesh.text() for mesh in self.meshes.values())

    def test_random_cases(self):
        self.tried = {}
        while sum(self.tried.values()) < CASES and len(self.failures) < FAILURES:
            self.reload()
            for _ in range(4):
                self.rng.choice(self.places[:4] * 2 + self.places[4:]).enter()
                uid, gid = self.rng.choice(OWNERS), self.rng.choice(OWNERS)
                self.become(uid, gid)
                before = self.talk.outcomes("connect")
                for _ in range(ROUND // 4):
                    before = self.try_one(before, uid, gid)
                self.become(0, 0)
                self.drain()
        self.assertFalse(self.failures, f"\n{self.seed}\n" + "\n\n".join(self.failures))
        common = [name for name, times in self.tried.items() if times >= 20]
        self.assertGreaterEqual(len(common), COMMON, f"{self.seed}: {self.tried}")


if __name__ == "__main__":
    main()
