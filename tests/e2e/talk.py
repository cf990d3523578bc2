#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A program that talks to Redis, a little at a time, until it is killed.

usage: talk.py events|blocking HOST PORT CONNECTIONS BYTES NAME

Its sockets do not block, or do. NAME is what the process calls itself.
"""
import asyncio
import socket
import sys
import threading
import time

PAUSE = 0.05  # seconds between an answer and the next question: this is no benchmark


def question(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


async def talk(host, port, key, size):
    reader, writer = await asyncio.open_connection(host, port)
    while True:
        writer.write(question(b"SET", key, b"x" * size))
        await reader.readline()
        writer.write(question(b"GET", key))
        await reader.readexactly(int((await reader.readline())[1:]) + 2)
        await asyncio.sleep(PAUSE)


def talk_blocking(host, port, key, size):
    with socket.create_connection((host, port)) as sock, sock.makefile("rb") as reader:
        while True:
            sock.sendall(question(b"SET", key, b"x" * size))
            reader.readline()
            sock.sendall(question(b"GET", key))
            reader.read(int(reader.readline()[1:]) + 2)
            time.sleep(PAUSE)


async def talk_all(conversations):
    await asyncio.gather(*(talk(*conversation) for conversation in conversations))


def main(mode, host, port, connections, size, name):
    with open("/proc/self/comm", "w", encoding="utf-8") as comm:
        comm.write(name)
    conversations = [(host, int(port), f"{name}{i}".encode(), int(size))
                     for i in range(int(connections))]
    if mode == "blocking":
        for conversation in conversations:
            threading.Thread(target=talk_blocking, args=conversation).start()
    else:
        asyncio.run(talk_all(conversations))


main(*sys.argv[1:])
