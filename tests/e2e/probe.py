# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Says what a program and its sidecar see of a connection, a fact a line, ports of clients masked.

probe.py client SERVER4 SERVER6 OWN4  tries ways to connect, and prints what each end sees
probe.py refused SERVER4 SERVER6      the same while no sidecar listens
probe.py server NAME ADDRESS…         accepts on address/port, tells the client what it sees
probe.py dns ADDRESS…                 the same for datagrams
"""
import ctypes
import errno
import select
import socket
import sys

ORIGINAL_DST = 80  # SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
LEVELS = ("SOL_IP", socket.IPPROTO_IP, 16), ("SOL_IPV6", socket.IPPROTO_IPV6, 28)
PROBE_PORT = 80
TIMEOUT = 2
SOURCE_PORT = 20001
ROOM_PORT = 20002  # of a client whose sidecar gives SO_ORIGINAL_DST more room than it needs
ROOM = 64


def name(address, client=None):
    """An address as text; the port is masked if it is the client's."""
    host, port = address[:2]
    port = "CLIENT" if port == client else port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def attempt(function, *arguments):
    """What a call returns, or the name of its error."""
    try:
        return function(*arguments)
    except socket.timeout:
        return "timeout"
    except OSError as error:
        return errno.errorcode[error.errno]


def original_dst(sock, level, size):
    """SO_ORIGINAL_DST: the bytes of the address."""
    value = attempt(sock.getsockopt, level, ORIGINAL_DST, size)
    return value if isinstance(value, str) else value.hex()


def facts(title, pairs):
    return "".join(f"{title} {key}: {value}\n" for key, value in pairs)


def accepted_facts(title, sock, peer):
    pairs = [
        ("accept", name(peer, peer[1])),
        ("getpeername", name(sock.getpeername(), peer[1])),
        ("getsockname", name(sock.getsockname())),
    ]
    for label, level, size in LEVELS:
        pairs.append((f"{label} original dst", original_dst(sock, level, size)))
        pairs.append((f"{label} original dst, less room", original_dst(sock, level, size - 1)))
    if peer[1] == ROOM_PORT:
        value = sock.getsockopt(socket.IPPROTO_IP, ORIGINAL_DST, ROOM)
        pairs.append((f"length of original dst in {ROOM} bytes", len(value)))
    return facts(title, pairs)


def listen(text, kind):
    host, port = text.rsplit("/", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, int(port)))
    if kind == socket.SOCK_STREAM:
        sock.listen(64)
    return sock


def serve(title, addresses):
    listeners = [listen(address, socket.SOCK_STREAM) for address in addresses]
    while True:
        for listener in select.select(listeners, [], [])[0]:
            sock, peer = listener.accept()
            with sock:
                sock.sendall(accepted_facts(title, sock, peer).encode())


def serve_dns(addresses):
    listeners = [listen(address, socket.SOCK_DGRAM) for address in addresses]
    while True:
        for listener in select.select(listeners, [], [])[0]:
            query, peer = listener.recvfrom(512)
            answer = facts("dns", [("from", peer[0]), ("query", query.decode())])
            listener.sendto(answer.encode(), peer)


class Case:
    """One socket of a program, and what it is told."""

    def __init__(self, title, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        self.title = title
        self.sock = socket.socket(family, kind)
        self.sock.settimeout(TIMEOUT)

    def say(self, key, value):
        print(f"{self.title}: {key}: {value}", flush=True)

    def names(self, client=None):
        """@client: the program's own port, if it cannot be asked for it."""
        own = attempt(self.sock.getsockname)
        port = client or own[1]
        peer = attempt(self.sock.getpeername)
        self.say("getsockname", name(own, port if port else None))
        self.say("getpeername", peer if isinstance(peer, str) else name(peer, None))

    def connect(self, host, port=PROBE_PORT):
        result = attempt(self.sock.connect, (host, port))
        self.say("connect", "ok" if result is None else result)
        return result is None

    def told(self):
        """What the other end sees, until it closes."""
        text = b""
        while chunk := self.sock.recv(65536):
            text += chunk
        for line in text.decode().splitlines():
            self.say("told", line)

    def run(self, host, port=PROBE_PORT):
        if self.connect(host, port):
            self.names()
            self.told()
        self.sock.close()


def nonblocking(title, family, host):
    case = Case(title, family)
    case.sock.setblocking(False)
    result = case.sock.connect_ex((host, PROBE_PORT))
    case.say("connect", errno.errorcode[result])
    if result == errno.EINPROGRESS:
        select.select([], [case.sock], [], TIMEOUT)
        result = case.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        case.say("SO_ERROR", errno.errorcode.get(result, "ok"))
    if result == 0:
        case.names()
        case.sock.settimeout(TIMEOUT)
        case.told()
    case.sock.close()


def bound(title, host, port, server):
    case = Case(title)
    case.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    case.sock.bind((host, port))
    case.run(server)


def bound_to_device(server):
    """With which error this fails is a matter of timing."""
    case = Case("bound to a device")
    case.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
    reached = attempt(case.sock.connect, (server, PROBE_PORT)) is None
    case.say("connect", "ok" if reached else "fails")
    if reached:
        case.told()
    case.sock.close()


def options(title, family, server):
    """What a program may ask its own socket for."""
    case = Case(title, family)
    case.connect(server)
    for label, level, size in LEVELS:
        case.say(f"{label} original dst", original_dst(case.sock, level, size))
    mss = case.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    case.say("TCP_MAXSEG", "of Ethernet" if mss <= 1460 else "of loopback")
    case.sock.close()


def dns_connected(title, family, server):
    case = Case(title, family, socket.SOCK_DGRAM)
    if case.connect(server, 53):
        case.names()
        case.say("send", attempt(case.sock.send, b"a"))
        answer = attempt(case.sock.recvfrom, 512)
        case.say("answer", answer if isinstance(answer, str) else name(answer[1]))
        case.say("told", answer if isinstance(answer, str) else answer[0].decode().splitlines())
    case.sock.close()


def dns_other_family(server6, mapped):
    """A resolver that asks one server after the other, all on one socket."""
    case = Case("IPv6, then v4-mapped", socket.AF_INET6, socket.SOCK_DGRAM)
    case.connect(server6, 53)
    case.say("IPV6_V6ONLY", case.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    unspecified = bytes(16)
    ctypes.CDLL(None).connect(case.sock.fileno(), unspecified, len(unspecified))
    case.connect(mapped, 53)
    case.sock.close()


def dns_two_resolvers(title, family, servers):
    case = Case(title, family, socket.SOCK_DGRAM)
    for server in servers:
        case.sock.sendto(server.encode(), (server, 53))
    answers = []
    for _ in servers:
        answer = attempt(case.sock.recvfrom, 512)
        if isinstance(answer, str):
            answers.append(answer)
        else:
            answers.append(f"{name(answer[1])} {answer[0].decode().splitlines()}")
    for answer in sorted(answers):
        case.say("answer", answer)
    case.names(case.sock.getsockname()[1])
    case.sock.close()


def client(server4, server6, own4):
    four, six = socket.AF_INET, socket.AF_INET6
    mapped = f"::ffff:{server4}"
    for title, family, host in ("IPv4", four, server4), ("IPv6", six, server6), \
            ("v4-mapped", six, mapped):
        Case(f"{title} blocking", family).run(host)
        nonblocking(f"{title} non-blocking", family, host)
        options(f"{title} options", family, host)
        dns_connected(f"{title} DNS connected", family, host)
        Case(f"{title} DNS over TCP", family).run(host, 53)
    dns_other_family(server6, mapped)
    dns_two_resolvers("IPv4 two resolvers", four, (server4, server4 + "53"))
    dns_two_resolvers("IPv6 two resolvers", six, (server6, server6 + "53"))
    dns_two_resolvers("v4-mapped two resolvers", six, (mapped, mapped + "53"))
    Case("nothing listens there").run(server4, 81)
    Case("no route").connect("203.0.113.1")
    Case("loopback, nothing listens").run("127.0.0.1", 81)
    Case("the sidecar's port").run("127.0.0.1", 15001)
    bound("bound to a port", "", SOURCE_PORT, server4)
    bound("bound to an address and a port", own4, ROOM_PORT, server4)
    bound("bound to 127.0.0.1", "127.0.0.1", 0, server4)
    bound_to_device(server4)


def dns_refused(title, family, host):
    """Each call that a resolver makes. An error that comes later is told by the next one."""
    case = Case(f"{title} DNS connected", family, socket.SOCK_DGRAM)
    if case.connect(host, 53):
        case.say("send", attempt(case.sock.send, b"a"))
        answer = attempt(case.sock.recv, 512)
        case.say("answer", answer)
    case.names()
    case.sock.close()
    case = Case(f"{title} DNS unconnected", family, socket.SOCK_DGRAM)
    case.say("sendto", attempt(case.sock.sendto, b"a", (host, 53)))
    case.sock.close()


def refused(server4, server6):
    for version, family, host in ("IPv4", socket.AF_INET, server4), \
            ("IPv6", socket.AF_INET6, server6), \
            ("v4-mapped", socket.AF_INET6, f"::ffff:{server4}"):
        title = f"no sidecar, {version}"
        dns_refused(title, family, host)
        case = Case(f"{title} blocking", family)
        case.connect(host)
        case.names()
        case.connect(host)
        case.sock.close()
        nonblocking(f"{title} non-blocking", family, host)


def main():
    role, *arguments = sys.argv[1:]
    if role == "client":
        client(*arguments)
    elif role == "refused":
        refused(*arguments)
    elif role == "server":
        serve(arguments[0], arguments[1:])
    elif role == "dns":
        serve_dns(arguments)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
