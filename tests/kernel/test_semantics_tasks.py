#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Threads, signals, processes: whoever holds a socket, and whatever happens to him meanwhile."""
import contextlib
import fcntl
import os
import select
import signal
import socket
import threading

from case import SOON, main
from sandbox import wait_until
from semantics import Semantics, await_event, fill, is_asleep, pattern, poll, raw, \
    raw_recv, read, read_pattern, recv, write

BLOCKING = {"client_blocks": True, "listener_blocks": True, "server_blocks": True}
RECORD = 64


@contextlib.contextmanager
def handler(number, restart=False):
    """Of a signal; system calls are interrupted or begun again."""
    before = signal.signal(number, lambda *_: None)
    signal.siginterrupt(number, not restart)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextlib.contextmanager
def storm():
    """A thousand signals a second."""
    with handler(signal.SIGALRM):
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Threads(Semantics):
    def write_records(self, link, writer, count):
        for n in range(count):
            record = b"%02d %06d " % (writer, n)
            write(link.client, record.ljust(RECORD, b"%d" % writer))

    def test_many_writers(self):
        """What one call sends stays together, and what one thread sends in its order."""
        writers, count = 4, 500

        def scenario(link):
            with link.threads() as pool:
                tasks = [pool.submit(self.write_records, link, writer, count)
                         for writer in range(writers)]
                got = read(link.server, writers * count * RECORD)
                yield [task.result() for task in tasks]
            records = [got[at:at + RECORD] for at in range(0, len(got), RECORD)]
            for writer in range(writers):
                yield [int(record[3:9]) for record in records
                       if record == record[:10].ljust(RECORD, b"%d" % writer)
                       and int(record[:2]) == writer] == list(range(count))
        self.compare(scenario, [[None] * writers] + [True] * writers)

    def test_many_readers(self):
        """Each byte is given to one of them; who waits in vain learns that there is nothing."""
        total, values = 1 << 20, 16

        def scenario(link):
            def take():
                counts = [0] * values
                while True:
                    await_event(link.server, select.POLLIN)
                    with contextlib.suppress(BlockingIOError):
                        part = link.server.recv(3000)
                        if not part:
                            return counts
                        for value in range(values):
                            counts[value] += part.count(value)
            with link.threads() as pool:
                readers = [pool.submit(take) for _ in range(4)]
                for at in range(total // 4096):
                    write(link.client, bytes([at % values]) * 4096)
                link.client.shutdown(socket.SHUT_WR)
                counts = [reader.result() for reader in readers]
            yield [sum(count) for count in zip(*counts)]
        self.compare(scenario, [[total // values] * values])

    def test_readers_and_writers_on_both_ends(self):
        total = 4 << 20

        def scenario(link):
            def produce(sock):
                for at in range(0, total, 3333):
                    write(sock, bytes(min(3333, total - at)))

            def consume(sock, left, lock):
                while True:
                    with lock:
                        size = min(left[0], 5000)
                        left[0] -= size
                    if not size:
                        return True
                    if read(sock, size) != bytes(size):
                        return False
            with link.threads() as pool:
                tasks = []
                for sock in link.client, link.server:
                    left, lock = [3 * total], threading.Lock()
                    tasks += [pool.submit(produce, sock) for _ in range(3)]
                    tasks += [pool.submit(consume, sock, left, lock) for _ in range(3)]
                yield {str(task.result()) for task in tasks} == {"None", "True"}
            yield recv(link.client), recv(link.server)
        self.compare(scenario, [True, ("EAGAIN", "EAGAIN")])


class Signals(Semantics):
    def test_storm(self):
        """Only what may wait is interrupted, and no byte is lost."""
        total = 64 << 20

        def scenario(link):
            errors = set()

            def writes():
                for at in range(0, total, 30000):
                    write(link.client, pattern(min(30000, total - at), at))
            with storm(), link.threads() as pool:
                writer = pool.submit(writes)
                got = 0
                while got < total:
                    part = raw_recv(link.server, 50000)
                    if isinstance(part, str):
                        errors.add(part)
                        await_event(link.server, select.POLLIN)
                    elif part != pattern(len(part), got):
                        yield f"wrong at {got}"
                        break
                    else:
                        got += len(part)
                writer.result()
            yield got, errors <= {"EAGAIN"}
        self.compare(scenario, [(total, True)])

    def test_storm_over_a_writer(self):
        total = 64 << 20

        def scenario(link):
            errors = set()
            with storm(), link.threads() as pool:
                reader = pool.submit(read_pattern, link.server, total)
                sent = 0
                while sent < total:
                    part = pattern(min(70000, total - sent), sent)
                    step = raw("send", link.client.fileno(), part, len(part), 0)
                    if isinstance(step, str):
                        errors.add(step)
                        await_event(link.client, select.POLLOUT)
                    else:
                        sent += step
                yield reader.result()
            yield errors <= {"EAGAIN"}
        self.compare(scenario, ["right", True])

    def interrupt(self, sock, restart, data=None, peer=None):
        """What a blocked recv() returns that twenty signals come to, and then data."""
        me = threading.get_ident()
        task = threading.get_native_id()

        def disturb():
            for _ in range(20):
                if done.is_set():
                    return
                wait_until(lambda: done.is_set() or is_asleep(task), "it sleeps")
                signal.pthread_kill(me, signal.SIGUSR1)
            wait_until(lambda: done.is_set() or is_asleep(task), "it sleeps again")
            if data:
                write(peer, data)
        done = threading.Event()
        with handler(signal.SIGUSR1, restart):
            disturber = threading.Thread(target=disturb)
            disturber.start()
            try:
                return raw_recv(sock)
            finally:
                done.set()
                disturber.join()

    def check_interrupted(self):
        """Neither kind of handler makes a blocking call say that it would block."""
        def scenario(link):
            write(link.client, b"1")
            yield read(link.server, 1)
            for sock, peer in (link.server, link.client), (link.client, link.server):
                if not sock_blocks(sock):
                    continue
                yield self.interrupt(sock, False)
                yield self.interrupt(sock, True, b"data", peer)
        return scenario

    def test_blocked_reader(self):
        self.compare(self.check_interrupted(), [b"1"] + ["EINTR", b"data"] * 2, spliced=False,
                     **BLOCKING)

    def test_blocked_client_of_a_server_that_does_not_block(self):
        self.compare(self.check_interrupted(), [b"1", "EINTR", b"data"], spliced=False,
                     client_blocks=True)

    def test_blocked_server_of_a_client_that_does_not_block(self):
        self.compare(self.check_interrupted(), [b"1", "EINTR", b"data"], spliced=False,
                     listener_blocks=True, server_blocks=True)

    def test_socket_that_blocks_though_its_listener_does_not(self):
        """Its mode is not its listener's, and it may wait before it sends anything."""
        def scenario(link):
            yield self.interrupt(link.server, False)
            yield self.interrupt(link.server, True, b"data", link.client)
        self.compare(scenario, ["EINTR", b"data"], spliced=None, server_blocks=True, warm=False,
                     predecessor=True)

    def test_second_reader_that_is_blocked(self):
        """Two wait, data for one comes: the other goes on waiting."""
        def scenario(link):
            with link.sleeping(raw_recv, link.server, 1) as one:
                with link.sleeping(raw_recv, link.server, 1) as other:
                    write(link.client, b"a")
                    wait_until(lambda: one.done() or other.done(), "one has got it")
                    yield one.done() and other.done()
                    write(link.client, b"b")
                    yield sorted([one.result(), other.result()])
        self.compare(scenario, [False, [b"a", b"b"]], spliced=False, **BLOCKING)

    def test_reader_that_is_stopped(self):
        """Its process sleeps while the queue fills."""
        def scenario(link):
            def take():
                link.client.close()
                offset = 0
                while part := read(link.server, 1 << 20):
                    if part != pattern(len(part), offset):
                        return f"wrong between {offset} and {offset + len(part)}"
                    offset += len(part)
                return offset
            reader = link.start(take)
            sent = 0
            for _ in range(3):
                stop(reader.pid)
                sent += fill(link.client, sent)
                resume(reader.pid)
                await_event(link.client, select.POLLOUT)
            link.client.shutdown(socket.SHUT_WR)
            read_by_it = reader.result()
            yield "all" if read_by_it == sent else (read_by_it, sent)
        self.compare(scenario, ["all"])

    def test_blocked_reader_that_is_stopped(self):
        """When it goes on it waits on, as if nothing had been."""
        def scenario(link):
            reader = link.start(raw_recv, link.server)
            for _ in range(3):
                wait_until(lambda: is_asleep(reader.pid), "it waits")
                stop(reader.pid)
                resume(reader.pid)
            wait_until(lambda: is_asleep(reader.pid), "it waits again")
            write(link.client, b"at last")
            yield reader.result()
        self.compare(scenario, [b"at last"], spliced=False, **BLOCKING)


def sock_blocks(sock):
    return not fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK


def set_blocking(sock, blocks):
    flags = fcntl.fcntl(sock, fcntl.F_GETFL)
    flags = flags & ~os.O_NONBLOCK if blocks else flags | os.O_NONBLOCK
    fcntl.fcntl(sock, fcntl.F_SETFL, flags)


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)


def resume(pid):
    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, os.WCONTINUED)


class Processes(Semantics):
    def talk(self, link, rounds=20):
        """From the other process's side."""
        for n in range(rounds):
            if read(link.server, 8) != b"ask %04d" % n:
                return f"wrong question after {n}"
            write(link.server, b"say %04d" % n)
        return "talked"

    def ask(self, link, rounds=20):
        for n in range(rounds):
            write(link.client, b"ask %04d" % n)
            if read(link.client, 8) != b"say %04d" % n:
                return f"wrong answer after {n}"
        return "asked"

    def test_fork(self):
        """The child goes on with what its parent began, and the end comes when both have closed."""
        def scenario(link):
            def go_on():
                link.client.close()
                yielded = self.talk(link), read_pattern(link.server, 100000)
                write(link.server, b"bye")
                return yielded
            write(link.client, b"begun")
            yield read(link.server, 5)
            child = link.start(go_on)
            link.server.close()
            yield self.ask(link)
            write(link.client, pattern(100000))
            yield child.result(), read(link.client, 3), read(link.client, 1), recv(link.client)
        self.compare(scenario, [b"begun", "asked", (("talked", "right"), b"bye", b"", b"")])

    def test_fork_with_data_in_the_queue(self):
        def scenario(link):
            write(link.client, pattern(50000))
            yield read_pattern(link.server, 1000)
            child = link.start(read_pattern, link.server, 49000, 1000)
            yield child.result(), recv(link.server)
        self.compare(scenario, ["right", ("right", "EAGAIN")])

    def test_passed_to_another_process(self):
        def scenario(link):
            ours, theirs = socket.socketpair()

            def receive():
                link.client.close()
                link.server.close()
                ours.close()
                _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
                link.server = socket.socket(fileno=fd)
                return read_pattern(link.server, 5000), self.talk(link)
            with ours, theirs:
                other = link.start(receive)
                write(link.client, pattern(5000))
                socket.send_fds(ours, [b"."], [link.server.fileno()])
                link.server.close()
                yield self.ask(link), other.result()
            yield read(link.client, 1)
        self.compare(scenario, [("asked", ("right", "talked")), b""])

    def test_passed_to_a_process_of_another_cgroup(self):
        """The socket stays what it was."""
        def scenario(link):
            def go_on():
                link.client.close()
                return self.talk(link)
            child = self.world.far.start(go_on)
            yield self.ask(link), child.result()
        self.compare(scenario, [("asked", "talked")])

    def test_process_that_dies_with_data_in_the_queue(self):
        """What it had not read is gone with it; what it sent before is not."""
        def scenario(link):
            def die():
                link.client.close()
                write(link.server, pattern(30000))
                link.server.recv(1)
                signal.pause()
            write(link.client, b"x")
            child = link.start(die)
            link.server.close()
            yield read_pattern(link.client, 30000)
            wait_until(lambda: is_asleep(child.pid), "it waits")
            child.close()
            await_event(link.client, select.POLLRDHUP)
            yield read(link.client, 1), recv(link.client)
        self.compare(scenario, ["right", (b"", b"")])

    def test_dup(self):
        """Of two descriptors one is closed, and nobody notices."""
        def scenario(link):
            with link.server.dup() as copy:
                link.server.close()
                link.server = copy
                with link.threads() as pool:
                    other = pool.submit(self.talk, link)
                    yield self.ask(link), other.result()
                yield poll(link.client)
            yield read(link.client, 1)
        self.compare(scenario, [("asked", "talked"), "OUT", b""])


class TurnedBlocking(Semantics):
    """fcntl(F_SETFL) in mid-stream, on either end, and back again."""

    interrupt = Signals.interrupt

    def exchange(self, link, rounds=10):
        """Both wait for each other by recv(): with poll() before or without, as their mode is."""
        def take(sock):
            return raw_recv(sock, 100) if sock_blocks(sock) else read(sock, 100)
        for n in range(rounds):
            for one, other in (link.client, link.server), (link.server, link.client):
                text = b"%d" % n * 100
                with link.sleeping(take, other) as reader:
                    write(one, text)
                    if reader.result() != text:
                        return f"wrong: {reader.result()!r}"
        return "right"

    def test_there_and_back(self):
        def scenario(link):
            link.watch()
            for blocks in True, False, True, False:
                for sock in link.server, link.client:
                    set_blocking(sock, blocks)
                    yield self.exchange(link)
            yield recv(link.client), recv(link.server)
        self.compare(scenario, ["right"] * 8 + [("EAGAIN", "EAGAIN")], spliced=None)

    def test_with_data_in_the_queue(self):
        def scenario(link):
            link.watch()
            sent = fill(link.client)
            set_blocking(link.server, True)
            with link.threads() as pool:
                more = pool.submit(write, link.client, pattern(1 << 20, sent))
                got = 0
                while got < sent + (1 << 20):
                    part = raw_recv(link.server, 50000)
                    if part != pattern(len(part), got):
                        yield part
                        break
                    got += len(part)
                more.result()
            yield got == sent + (1 << 20), self.exchange(link)
        self.compare(scenario, [(True, "right")])

    def test_signals_after_it(self):
        """Once it has sent something in its new mode, a blocked call is one of TCP's again."""
        def scenario(link):
            link.watch()
            set_blocking(link.server, True)
            yield self.exchange(link)

            def is_interrupted():
                return self.interrupt(link.server, False) == "EINTR"
            if self.spliced:
                with contextlib.suppress(AssertionError):
                    wait_until(is_interrupted, "it has left", SOON)
            yield self.interrupt(link.server, False)
            yield self.interrupt(link.server, True, b"data", link.client)
            set_blocking(link.server, False)
            yield self.exchange(link)
        self.compare(scenario, ["right", "EINTR", b"data", "right"], spliced=None)


if __name__ == "__main__":
    main()
