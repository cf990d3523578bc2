# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Traffic that notices each connection that is refused or breaks.

traffic.py server HOST                says "connection" of each, and echoes
traffic.py program HOST [keeps_names] threads connect without a pause, and each holds one
    connection all the while. Says now and then how many so far, and how many in all when it is
    terminated. keeps_names: the names of connections must be those that were dialled.
"""
import os
import signal
import socket
import socketserver
import sys
import threading
import traceback

stop = threading.Event()
counts = []


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        os.write(1, b"connection\n")
        while data := self.connection.recv(4096):
            self.connection.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 1024


def echo(sock):
    sock.sendall(b"are you there?")
    assert sock.recv(100) == b"are you there?"


def visit(host, keeps_names, report):
    old = socket.create_connection((host, 80))
    names = old.getsockname(), old.getpeername()
    count = 1
    while not stop.is_set():
        echo(old)
        with socket.create_connection((host, 80)) as new:
            echo(new)
            if keeps_names:
                assert (old.getsockname(), old.getpeername()) == names
                assert new.getpeername() == (host, 80), new.getpeername()
        count += 1
        if report and count % 10 == 0:
            print("so far", count, flush=True)
    counts.append(count)


def run(*arguments):
    try:
        visit(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def program(host, keeps_names):
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=run, args=(host, keeps_names, i == 0)) for i in range(6)]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join()
    print("connected", sum(counts), flush=True)


if sys.argv[1] == "server":
    Server((sys.argv[2], 80), Echo).serve_forever()
else:
    program(sys.argv[2], sys.argv[3:] == ["keeps_names"])
