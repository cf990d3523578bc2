# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Traffic that goes on while something is done to the agent, and that notices what it must not."""
import asyncio
import contextlib
import hashlib
import os
import random
import select
import socket

from case import FAR4, PORT, attempt, family_of, original_dst
from sandbox import DEADLINE

PAUSE = 0.001  # seconds
DNS = 53
RESOLVERS = FAR4, "10.83.3.1"
TALK_PORT = 81  # dialled by those who talk


def dialled(sock):
    """Whom the client dialled, as a sidecar asks."""
    level = socket.IPPROTO_IPV6 if sock.family == socket.AF_INET6 else socket.IPPROTO_IP
    return attempt(original_dst, sock, level)


def serve(listener, name, is_sidecar):
    """Tells every client who serves it, and a sidecar whom the client dialled."""
    while True:
        sock, _ = listener.accept()
        with sock:
            told = f" {dialled(sock)}" if is_sidecar else ""
            sock.sendall(f"{name}{told}".encode())


def ask(addresses):
    heard = {}
    for address in addresses:
        with socket.socket(family_of(address)) as sock:
            heard[address] = attempt(sock.connect, (address, PORT)) or sock.recv(64).decode()
    return heard


class Traffic:
    """A program that goes on until it is told to stop."""

    def __init__(self, place, *arguments):
        self.stopper, self.stop_signal = os.pipe()
        self.task = place.start(self.run, *arguments)
        self.ended = False

    def stopped(self):
        """It goes on a moment later: there are others on this host."""
        return select.select([self.stopper], [], [], PAUSE)[0]

    def stop(self):
        """What its run() returned."""
        self.ended = True
        os.write(self.stop_signal, b".")
        os.close(self.stopper)
        os.close(self.stop_signal)
        return self.task.result()

    def check(self):
        """It goes on still; else raises what ended it."""
        if self.task.has_ended():
            raise AssertionError(f"{type(self).__name__} ended by itself: {self.stop()}")

    def close(self):
        if not self.ended:
            self.task.close()


class Load(Traffic):
    """Dials: returns how often it dialled each address, and all that it heard there."""

    def run(self, *addresses):
        heard, n = {address: set() for address in addresses}, 0
        while not self.stopped():
            for address, answer in ask(addresses).items():
                heard[address].add(answer)
            n += 1
        return n, heard


class Overlap(Traffic):
    """Closes each connection when the next one is there, so that there always is one: returns how
    many there were."""

    def run(self, address, port):
        n, before = 0, socket.create_connection((address, port))
        while not self.stopped():
            sock = socket.create_connection((address, port))
            sock.sendall(b"!")
            if sock.recv(1) != b"!":
                raise AssertionError("a connection ended")
            before.close()
            n, before = n + 1, sock
        before.close()
        return n


class Queries(Traffic):
    """Asks DNS servers, all from one socket: returns how often, and all the wrong answers."""

    def run(self, *servers):
        wrong, n = [], 0
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(DEADLINE)
            while not self.stopped():
                for server in servers:
                    query = f"query {n} of {server}".encode()
                    sock.sendto(query, (server, DNS))
                    answer = sock.recvfrom(64)
                    if answer != (query, (server, DNS)):
                        wrong.append(answer)
                n += 1
        return n, wrong


def answer_queries(sock):
    while True:
        with contextlib.suppress(BlockingIOError):  # nobody has asked for as long as it waits
            query, asker = sock.recvfrom(64)
            sock.sendto(query, asker)


def message(seed, size):
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


class Talk(Traffic):
    """Talks with an echo over connections that last, by an event loop: returns how many bytes came
    back, each as it was sent."""

    def run(self, connections, seed):
        return asyncio.run(self.talk_all(connections, random.Random(seed)))

    async def talk_all(self, connections, dice):
        return sum(await asyncio.gather(*(
            self.talk(random.Random(dice.random()), lasts=n < 2) for n in range(connections))))

    async def talk(self, dice, lasts):
        """lasts: over one connection; else over one after the other."""
        total = 0
        while not self.stopped():  # which holds up the others for a moment, too
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(FAR4, TALK_PORT), DEADLINE)
            rounds = 0
            while not self.stopped() and (lasts or rounds < 20):
                data = message(dice.getrandbits(60), dice.choice((1, 100, 5000, 70000)))
                writer.write(data)
                echo = await asyncio.wait_for(reader.readexactly(len(data)), DEADLINE)
                if echo != data:
                    raise AssertionError(f"{len(data)} bytes came back as others")
                total += len(data)
                rounds += 1
            writer.write_eof()
            rest = await asyncio.wait_for(reader.read(), DEADLINE)
            if rest:
                raise AssertionError(f"{len(rest)} bytes too many")
            writer.close()
        return total


def serve_all(listeners, name, is_sidecar):
    """By an event loop: echoes to those who talk, and tells the others what serve() tells."""
    async def talk(reader, writer):
        while data := await reader.read(100000):
            writer.write(data)
            await writer.drain()

    async def answer(reader, writer):
        sock = writer.get_extra_info("socket")
        told = dialled(sock) if is_sidecar else sock.getsockname()
        with contextlib.suppress(ConnectionError):  # who asked has ended
            if told[1] == TALK_PORT:
                await talk(reader, writer)
            else:
                writer.write((f"{name} {told}" if is_sidecar else name).encode())
        writer.close()

    async def run():
        for listener in listeners:
            listener.setblocking(False)
            await asyncio.start_server(answer, sock=listener)
        await asyncio.Event().wait()
    asyncio.run(run())
