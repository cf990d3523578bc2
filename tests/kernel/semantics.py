# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""That a program cannot tell a spliced connection from a plain one.

A test is a scenario: a generator that is given a connection, does something with it, and yields
whatever a program can observe. It runs in a cgroup that is in no mesh, and then in one of a mesh
that splices; what it yields is compared, item by item, and with what TCP is known to do.

With SHUNT_SPLICE=off the mesh does not splice, and nothing is said about how the bytes went: this
tries the scenarios themselves.
"""
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import select
import socket
import struct
import termios
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

from case import SOON, Case, attempt
from sandbox import DEADLINE, check, libc, wait_until

SPLICE = os.environ.get("SHUNT_SPLICE", "node")
SPLICED = SPLICE != "off"

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
SOL_TCP = socket.IPPROTO_TCP
RESET = struct.pack("=ii", 1, 0)  # SO_LINGER: close() does not wait, and resets
SIOCOUTQ = termios.TIOCOUTQ

SETTLE = 0.05  # seconds in which what must not happen would have happened
UNBOUNDED = 64 << 20  # bytes which no reader that does not read is sent

TCP_STATES = {1: "ESTABLISHED", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 7: "CLOSE", 8: "CLOSE_WAIT",
              9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING"}

EVENTS = {
    "IN": select.POLLIN, "PRI": select.POLLPRI, "OUT": select.POLLOUT, "ERR": select.POLLERR,
    "HUP": select.POLLHUP, "RDHUP": select.POLLRDHUP,
}
ASKED = select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP

# What streams are made of: no stretch of it is like another.
PATTERN = random.Random("Shunt").randbytes((1 << 20) + 13)
PATTERN_TWICE = PATTERN * 2


def pattern(size, offset=0):
    """What stands at this place of a stream."""
    offset %= len(PATTERN)
    if size <= len(PATTERN):
        return PATTERN_TWICE[offset:offset + size]
    return (PATTERN * (size // len(PATTERN) + 2))[offset:offset + size]


def events_of(mask):
    return "|".join(name for name, bit in EVENTS.items() if mask & bit)


def mask_of(names):
    return sum(EVENTS[name] for name in names.split("|"))


def poll(sock, asked=ASKED, seconds=0.0):
    """The events of a socket, by name."""
    poller = select.poll()
    poller.register(sock, asked)
    return events_of(sum(mask for _, mask in poller.poll(seconds * 1000)))


def await_events(sock, wanted, asked=ASKED):
    """All events of a socket, once those that are wanted are among them."""
    wanted = set(wanted.split("|"))

    def events():
        names = poll(sock, asked)
        return names if wanted <= set(names.split("|")) else None
    return wait_until(events, f"{wanted} is announced (there is {poll(sock, asked)!r})")


def await_event(sock, event):
    """Sleeps until it is announced; it, or that the connection is broken."""
    poller = select.poll()
    poller.register(sock, event)
    if not poller.poll(DEADLINE * 1000):
        raise AssertionError(f"waited in vain for {events_of(event)}")


def recv(sock, size=1 << 16, flags=0):
    return attempt(sock.recv, size, flags)


def send(sock, data, flags=0):
    return attempt(sock.send, data, flags)


def raw(function, *arguments):
    """A call of libc's, which unlike Python's is not repeated after a signal."""
    result = getattr(libc, function)(*arguments)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result


def raw_recv(sock, size=1 << 16, flags=0):
    buffer = ctypes.create_string_buffer(size)
    result = raw("recv", sock.fileno(), buffer, size, flags)
    return result if isinstance(result, str) else buffer.raw[:result]


def read(sock, size):
    """So many bytes, or fewer if the stream ends before."""
    parts = []
    while size:
        await_event(sock, select.POLLIN)
        with contextlib.suppress(BlockingIOError):
            part = sock.recv(min(size, 1 << 20))
            if not part:
                break
            parts.append(part)
            size -= len(part)
    return b"".join(parts)


def write(sock, data):
    """All of it."""
    data = memoryview(data)
    while data:
        try:
            data = data[sock.send(data):]
        except BlockingIOError:
            await_event(sock, select.POLLOUT)


def read_pattern(sock, size, offset=0, chunk=1 << 20):
    """Whether this is what the next so many bytes are, and where they are not if not."""
    end = offset + size
    while offset < end:
        part = read(sock, min(chunk, end - offset))
        if not part or part != pattern(len(part), offset):
            return f"wrong between {offset} and {offset + len(part)}"
        offset += len(part)
    return "right"


def fill(sock, offset=0, chunk=1 << 16):
    """Sends a stream on from this offset until nothing moves any more; returns how much went."""
    sent = 0
    while poll(sock, select.POLLOUT, SETTLE):
        while not isinstance(more := send(sock, pattern(chunk, offset + sent)), str):
            sent += more
            if sent > UNBOUNDED:
                raise AssertionError("there is no bound to what waits for who does not read")
        if more != "EAGAIN":
            raise AssertionError(more)
    return sent


def queue(sock, request):
    """What FIONREAD or SIOCOUTQ says."""
    return struct.unpack("=i", fcntl.ioctl(sock, request, struct.pack("=i", -1)))[0]


def readable(sock, expected):
    """What FIONREAD says, as soon as that is what is expected, or has had the time to be it."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: queue(sock, termios.FIONREAD) == expected, "all has arrived", SOON)
    return queue(sock, termios.FIONREAD)


libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]


@contextlib.contextmanager
def mapped(sock, size):
    """Where what it receives is to appear: for TCP_ZEROCOPY_RECEIVE."""
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, sock.fileno(), 0)
    check(-1 if address == ctypes.c_void_p(-1).value else 0)
    try:
        yield address
    finally:
        check(libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size)))


def is_asleep(task):
    """Whether this thread (of any process) waits for something that is not a lock."""
    with open(f"/proc/{task}/wchan", encoding="ascii") as wchan:
        where = wchan.read()
    return where != "0" and not where.startswith("futex")


def state(sock):
    return TCP_STATES[sock.getsockopt(SOL_TCP, socket.TCP_INFO, 8)[0]]


def set_option(sock, level, option, value):
    return attempt(sock.setsockopt, level, option, value)


def in_short(item):
    """The item, fit to be read in a report."""
    if isinstance(item, (list, tuple)):
        return type(item)(in_short(each) for each in item)
    if isinstance(item, bytes) and len(item) > 80:
        return f"{len(item)} bytes, CRC {zlib.crc32(item):08x}"
    return item


MODE_SHOWN = 0.5  # seconds; nothing tells when the agent has seen it


class Link:
    """A connection between two sockets of this process."""

    def __init__(self, place, family, *, client_blocks=False, listener_blocks=False,
                 server_blocks=False, warm=True, accept=True, predecessor=False):
        self.place = place
        self.family = family
        self.closing = contextlib.ExitStack()
        self.noted = {}  # what is compared in a way of its own
        self.listener = self.keep(socket.socket(family))
        self.listener.setblocking(listener_blocks)
        self.listener.bind((LOOPBACK[family], 0))
        self.listener.listen()
        if predecessor:
            self.show_mode(server_blocks)
        self.client = self.keep(socket.socket(family))
        self.client.setblocking(client_blocks)
        if attempt(self.client.connect, self.listener.getsockname()) not in (None, "EINPROGRESS"):
            raise AssertionError("cannot connect")
        await_events(self.client, "OUT")
        if client_blocks or server_blocks:
            self.watch()
        if accept:
            self.server = self.accept(server_blocks)
            if warm:
                self.warm_up()

    def show_mode(self, blocks):
        """A listener's first connection shows in which mode its program accepts."""
        client = self.keep(socket.socket(self.family))
        client.setblocking(False)
        client.connect_ex(self.listener.getsockname())
        self.accept(blocks)
        time.sleep(MODE_SHOWN)

    def keep(self, closable):
        return self.closing.enter_context(closable)

    def close(self):
        self.closing.close()

    def accept(self, blocks=False):
        await_event(self.listener, select.POLLIN)
        flags = socket.SOCK_CLOEXEC | (0 if blocks else socket.SOCK_NONBLOCK)
        sock = socket.socket(fileno=check(libc.accept4(self.listener.fileno(), None, None, flags)))
        if not blocks:
            sock.settimeout(0)
        return self.keep(sock)

    def watch(self):
        """Breaks off what blocks for too long. A timeout of the sockets' own would do so too, but
        changes what signals do to who waits."""
        def break_off():
            for sock in self.client, self.server:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        watch = threading.Timer(2 * DEADLINE, break_off)
        watch.start()
        self.closing.callback(watch.cancel)

    def warm_up(self):
        """Both ends have sent and received: what is to be spliced now is. It is the client's turn;
        who speaks out of turn is about to stream, perhaps, and that may be left to TCP."""
        for _ in range(8):
            for one, other in (self.client, self.server), (self.server, self.client):
                write(one, b".")
                read(other, 1)

    def start(self, function, *arguments):
        """In a process of its own, which has both sockets too."""
        return self.place.start(function, *arguments)

    @contextlib.contextmanager
    def threads(self):
        with ThreadPoolExecutor(16) as pool:
            yield pool

    @contextlib.contextmanager
    def sleeping(self, function, *arguments):
        """A thread in which this function has come to wait; gives its future."""
        def run():
            task.append(threading.get_native_id())
            return function(*arguments)
        task = []
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(run)
            wait_until(lambda: future.done() or (task and is_asleep(task[0])), "the thread waits")
            yield future


class Semantics(Case):
    mesh = {"splice": "node"} if SPLICED else {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.spliced = SPLICED and cls.can_splice()
        if cls.spliced:
            wait_until(cls.is_spliced, "the agent splices")

    @classmethod
    def is_spliced(cls):
        """Whether what is connected from now on is spliced: it begins soon after a reload."""
        before = cls.agent.counters()["splice_bytes"]
        Link(cls.world.app, socket.AF_INET).close()
        return cls.agent.counters()["splice_bytes"] > before

    def setUp(self):
        """There is no sidecar: the connections are the programs' own."""

    def compare(self, scenario, expected=None, *, or_else=None, spliced=True, **how):
        """Runs the scenario here and there, over IPv4 and over IPv6.

        expected is what plain TCP is known to yield. or_else is what the spliced connection may
        yield instead: a difference that is documented. spliced says whether bytes have to go past
        TCP; None: that is left open. Returns the connections, in pairs.
        """
        pairs = []
        for family in LOOPBACK:
            with self.subTest(family=family.name):
                plain, records = self.observe(self.world.outside, scenario, family, how)
                if expected is not None:
                    self.assertEqual(records, expected)
                before = self.agent.counters()
                link, found = self.observe(self.world.app, scenario, family, how)
                if records != found and found != or_else:
                    self.assertEqual(found, records)
                if self.spliced and spliced is not None:
                    self.assert_spliced(before, link, spliced)
                pairs.append((plain, link))
        return pairs

    def observe(self, place, scenario, family, how):
        place.cgroup.enter()
        self.addCleanup(self.world.app.cgroup.enter)
        link = Link(place, family, **how)
        with contextlib.closing(link):
            link.warm_bytes = self.agent.counters().get("splice_bytes")
            return link, [in_short(item) for item in scenario(link)]

    def assert_spliced(self, before, link, spliced):
        def grew():
            counters = self.agent.counters()
            return (counters["splice_paired"] > before["splice_paired"]
                    and counters["splice_bytes"] > link.warm_bytes)
        if spliced:
            wait_until(grew, "bytes of the scenario are counted as spliced", SOON)
        else:
            after = self.agent.counters()
            self.assertEqual(after["splice_bytes"], before["splice_bytes"])


class ShortQueue:
    """Mixed in: little may wait for a reader past TCP, less than TCP would take. So the rest goes
    to TCP, whose queue then has some while the spliced bytes are still unread."""

    @classmethod
    def setUpClass(cls):
        if SPLICED:
            cls.addClassCleanup(cls.restart_agent)
            cls.restart_agent(splice_queue="64K")
        super().setUpClass()

    @classmethod
    def restart_agent(cls, **limits):
        cls.agent.limits = limits
        cls.agent.configure()
        cls.agent.stop()
        cls.agent.start()


def elapsed_at_least(seconds, function, *arguments):
    """What it returns, and whether it took its time."""
    begin = time.monotonic()
    result = attempt(function, *arguments)
    return result, time.monotonic() - begin >= seconds
