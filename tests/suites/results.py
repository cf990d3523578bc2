# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Turns what the test runners of other projects write into one format: see lib.sh."""
import collections
import json
import re
import sys
import xml.etree.ElementTree


def cpython():
    """regrtest --junit-xml"""
    for case in xml.etree.ElementTree.parse(sys.stdin.buffer).iter("testcase"):
        name = case.get("name").removeprefix("test.")
        bad = [child for child in case if child.tag in ("failure", "error")]
        if bad:
            outcome = "failed"
        elif case.get("result") == "completed":
            outcome = "passed"
        else:
            outcome = case.get("result")
        yield name.split(".")[0], name, outcome, "\n".join(child.text or "" for child in bad)


def golang():
    """go tool test2json"""
    said = collections.defaultdict(str)
    for line in sys.stdin:
        event = json.loads(line)
        test = event["Package"], event.get("Test", "(all)")
        if event["Action"] == "output":
            said[test] += event["Output"]
        elif event["Action"] in ("pass", "fail", "skip"):
            outcome = {"pass": "passed", "fail": "failed", "skip": "skipped"}[event["Action"]]
            # A test that was under way when the program ended has no end of its own.
            yield *test, outcome, said[test] if outcome == "failed" else ""


def redis():
    """runtest, one unit at a time: GROUP: and the unit's name first"""
    group = None
    text = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdin.read())
    for line in text.splitlines():
        if line.startswith("GROUP: "):
            group = line[len("GROUP: "):]
        elif match := re.match(r"\[(ok|err|ignore|exception)\]:? (.*)", line):
            outcome = {"ok": "passed", "ignore": "skipped"}.get(match[1], "failed")
            # Both carry what varies: "(5 ms)" the one, what was found the other.
            name = re.sub(r" \(\d+ ms\)$| in tests/.*", "", match[2])
            yield group, name, outcome, match[2] if outcome == "failed" else ""


def libuv():
    """uv_run_tests, one test at a time: TAP, and what a failed test said after it"""
    for part in re.split(r"^(?=(?:not )?ok \d)", sys.stdin.read(), flags=re.MULTILINE):
        if match := re.match(r"(not ok|ok) \d+ - (\S+)(.*)", part, re.DOTALL):
            if match[3].startswith(" # SKIP"):
                outcome = "skipped"
            else:
                outcome = "passed" if match[1] == "ok" else "failed"
            yield match[2], match[2], outcome, match[3] if outcome == "failed" else ""


def tcl():
    """tcltest -verbose pse, one file at a time: GROUP: and the file's name first"""
    group, said = None, ""
    for line in sys.stdin:
        if line.startswith("GROUP: "):
            group = line[len("GROUP: "):].strip()
        elif match := re.match(r"\+\+\+\+ (\S+).* (PASSED|SKIPPED)", line):
            yield group, match[1], match[2].lower(), ""
            said = ""
        elif match := re.match(r"==== (\S+) FAILED$", line):
            yield group, match[1], "failed", said
            said = ""
        else:
            said += line


def main():
    formats = {function.__name__: function for function in (cpython, golang, redis, libuv, tcl)}
    for *words, said in formats[sys.argv[1]]():
        print(*(re.sub(r"\s+", " ", word) for word in words), json.dumps(said), sep="\t")


main()
