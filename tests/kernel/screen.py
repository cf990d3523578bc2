# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A terminal for a program under test: a pty, and what stands on its screen.

It understands what ncurses sends to an xterm, and fails on anything else.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from sandbox import DEADLINE

KIND = "xterm"
SEQUENCE = re.compile(rb"\x1b(?:\[([?>]?)([0-9;]*)([A-Za-z@`])|[()][A-Z0-9]|[=>78cM])")


class Screen:
    """What the bytes that were fed to it have made of it."""

    def __init__(self, rows, columns):
        self.rest = b""
        self.alternate = False  # ncurses is at work
        self.cursor_visible = True
        self.row = self.column = 0
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.row, self.column = min(self.row, rows - 1), min(self.column, columns - 1)
        self.cells = [[" "] * columns for _ in range(rows)]

    def lines(self):
        return ["".join(row).rstrip() for row in self.cells]

    def feed(self, data):
        data = self.rest + data
        at = 0
        while at < len(data):
            if data[at] == 0x1b:
                match = SEQUENCE.match(data, at)
                if not match:
                    if len(data) - at > 32:
                        raise AssertionError(f"not understood: {data[at:at + 32]}")
                    break
                self.obey(*match.groups())
                at = match.end()
            elif data[at] < 0x20:
                self.control(data[at])
                at += 1
            else:
                size = 1 if data[at] < 0x80 else 2 if data[at] < 0xe0 else 3
                size = 4 if data[at] >= 0xf0 else size
                if at + size > len(data):
                    break
                self.put(data[at:at + size].decode())
                at += size
        self.rest = data[at:]

    def control(self, byte):
        if byte == 0x0d:
            self.column = 0
        elif byte == 0x0a:
            self.line_feed()
        elif byte == 0x08:
            self.column = max(self.column - 1, 0)
        elif byte == 0x09:
            self.column = min(self.column // 8 * 8 + 8, self.columns - 1)
        elif byte not in (0x07, 0x0e, 0x0f):
            raise AssertionError(f"not understood: {byte}")

    def line_feed(self):
        self.row += 1
        if self.row == self.rows:
            self.row -= 1
            self.cells = self.cells[1:] + [[" "] * self.columns]

    def put(self, character):
        if self.column == self.columns:
            self.column = 0
            self.line_feed()
        self.cells[self.row][self.column] = character
        self.column += 1

    def obey(self, private, numbers, command):
        if command is None:
            return
        numbers = [int(n or 0) for n in numbers.split(b";")]
        n = numbers[0]
        row = self.cells[self.row]
        if private == b"?":
            if command in b"hl" and 1049 in numbers:
                self.alternate = command == b"h"
            if command in b"hl" and 25 in numbers:
                self.cursor_visible = command == b"h"
        elif command == b"H":
            self.row = min(max(n, 1), self.rows) - 1
            self.column = min(max((numbers + [1])[1], 1), self.columns) - 1
        elif command == b"d":
            self.row = min(max(n, 1), self.rows) - 1
        elif command in (b"G", b"`"):
            self.column = min(max(n, 1), self.columns) - 1
        elif command == b"A":
            self.row = max(self.row - max(n, 1), 0)
        elif command == b"B":
            self.row = min(self.row + max(n, 1), self.rows - 1)
        elif command == b"C":
            self.column = min(self.column + max(n, 1), self.columns - 1)
        elif command == b"D":
            self.column = max(self.column - max(n, 1), 0)
        elif command == b"K":
            begin, end = ((self.column, None), (0, self.column + 1), (0, None))[n]
            row[begin:end] = " " * len(row[begin:end])
        elif command == b"J":
            self.erase(n)
        elif command == b"X":
            end = min(self.column + max(n, 1), self.columns)
            row[self.column:end] = " " * (end - self.column)
        elif command == b"P":
            row[self.column:] = row[self.column + max(n, 1):] + [" "] * max(n, 1)
            del row[self.columns:]
        elif command == b"@":
            row[self.column:self.column] = [" "] * max(n, 1)
            del row[self.columns:]
        elif command in (b"L", b"M"):
            self.move_lines(max(n, 1), command == b"L")
        elif command == b"b":
            for _ in range(max(n, 1)):
                self.put(self.cells[self.row][self.column - 1])
        elif command == b"r":
            if numbers not in ([0], [1, self.rows]):
                raise AssertionError(f"a scrolling region: {numbers}")
            self.row = self.column = 0
        elif command not in (b"m", b"l", b"h", b"t"):
            raise AssertionError(f"not understood: {numbers} {command}")

    def erase(self, which):
        if which == 2:
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif which == 0:
            self.cells[self.row][self.column:] = " " * (self.columns - self.column)
            for row in range(self.row + 1, self.rows):
                self.cells[row] = [" "] * self.columns
        else:
            raise AssertionError(f"erase {which}")

    def move_lines(self, n, insert):
        blank = [[" "] * self.columns for _ in range(n)]
        if insert:
            self.cells[self.row:self.row] = blank
            del self.cells[self.rows:]
        else:
            del self.cells[self.row:self.row + n]
            self.cells += blank
        self.cells = self.cells[:self.rows]


class Terminal:
    """A program that has a screen to itself."""

    def __init__(self, command, rows=24, columns=80, locale="C.UTF-8"):
        self.screen = Screen(rows, columns)
        self.fd, terminal = pty.openpty()
        os.set_blocking(self.fd, False)
        self.terminal = terminal  # kept open: its settings are looked at after the end
        self.set_size(rows, columns)
        self.before = termios.tcgetattr(terminal)
        self.process = subprocess.Popen(
            command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={"PATH": os.environ["PATH"], "TERM": KIND, "LC_ALL": locale})

    def set_size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        """The kernel sends SIGWINCH."""
        self.read(0)
        self.screen.resize(rows, columns)
        self.set_size(rows, columns)

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def read(self, seconds):
        """What comes within that time, or at once."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            self.screen.feed(os.read(self.fd, 65536))
        except (BlockingIOError, OSError):
            return False
        return True

    def wait_for(self, condition, what, seconds=DEADLINE):
        """condition gets the lines of the screen; returns what it returned."""
        end = time.monotonic() + seconds
        while True:
            while self.read(0):
                pass
            value = condition(self.screen.lines())
            if value:
                return value
            if time.monotonic() > end:
                shown = "\n".join(self.screen.lines())
                raise AssertionError(f"waited in vain until {what}; the screen:\n{shown}")
            self.read(0.1)

    def wait_for_text(self, text, gone=False):
        def is_there(lines):
            return any(text in line for line in lines) != gone
        self.wait_for(is_there, f"'{text}' is {'gone' if gone else 'there'}")

    def end(self, seconds=DEADLINE):
        """Its exit status, once it has ended. The terminal has to be as it was."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            self.read(0.05)
            if time.monotonic() > end:
                raise AssertionError("it does not end")
        while self.read(0):
            pass
        if termios.tcgetattr(self.terminal) != self.before:
            raise AssertionError("the settings of the terminal are not what they were")
        if self.screen.alternate or not self.screen.cursor_visible:
            raise AssertionError("the terminal was left in the mode of full screens")
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self.fd)
        os.close(self.terminal)
