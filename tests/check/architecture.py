#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/ARCHITECTURE.md against the tree: its tables have every hook, every file of the agent and
every map, and nothing else."""
import fnmatch
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
failures = []


def read(path):
    return (TOP / path).read_text(encoding="utf-8")


def names(folder, pattern):
    return {path.name for path in (TOP / folder).glob(pattern)}


def table(header):
    """What stands in backquotes in the first column of the table with this header."""
    text = re.search(rf"^{re.escape(header)}\n\|[-|]+\|\n((?:\|.*\n)+)",
                     read("docs/ARCHITECTURE.md"), re.M)
    cells = [row.split("|")[1] for row in text[1].splitlines()] if text else []
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def expect_same(what, there, told):
    """@told may be patterns."""
    if not there or not told:
        failures.append(f"{what}: none are found")
    for name in sorted(there):
        if not any(fnmatch.fnmatch(name, pattern) for pattern in told):
            failures.append(f"{what}: {name} is not told of")
    for pattern in sorted(told):
        if not fnmatch.filter(there, pattern):
            failures.append(f"{what}: there is no {pattern}")


def main():
    hooks = names("bpf", "*.bpf.c") - {"shunt.bpf.c"}
    # The text before the table has these two.
    agent = names("agent", "*.c") - {"main.c", "agent.c"}
    agent |= {f"page/{name}" for name in names("agent/page", "*")}
    maps = set(re.findall(r'^\} (\w+) SEC\("\.maps"\);', read("bpf/maps.bpf.h"), re.M))
    expect_same("hooks", hooks, table("| file | hook | does |"))
    expect_same("agent", agent, table("| file | does |"))
    expect_same("maps", maps, table("| map | key → value | written by | lives |"))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
