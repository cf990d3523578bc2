#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The manual, and bash's completion, against the code: keys and their defaults, commands, options,
outcomes, reasons and counters are the same, and neither mandoc nor man has a complaint."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
SKIP = 77
failures = []


def read(path):
    return (TOP / path).read_text(encoding="utf-8")


def expect(condition, complaint):
    if not condition:
        failures.append(complaint)


def expect_same(what, wanted, found):
    expect(wanted, f"{what}: the code has none, or is not understood any more")
    for name in sorted(wanted - found):
        failures.append(f"{what}: {name} is missing")
    for name in sorted(found - wanted):
        failures.append(f"{what}: {name} is not in the code")


# The code.

def code_keys(table):
    """{name: is it built?} of a section."""
    text = re.search(rf"{table}_keys\[.*?\] = \{{(.*?)^\}};", read("agent/config_keys.c"),
                     re.M | re.S)[1]
    keys = dict.fromkeys(re.findall(r"\b(?:AGENT|LIMIT|LIST|MESH)\((\w+), ", text), True)
    keys.update(dict.fromkeys(re.findall(r'\.name = "(\w+)"', text), True))
    keys.update(dict.fromkeys(re.findall(r"\bUNBUILT\((\w+)\)", text), False))
    return keys


def code_commands():
    return set(re.findall(r'^\t\{"(\w+)", "', read("agent/ctl/main.c"), re.M))


def code_counters(macro):
    """{name: explanation} of an X macro of the ABI."""
    body = re.search(rf"#define {macro}\(X\)((?:.*\\\n)*.*)", read("include/shunt/abi.h"))[1]
    return dict(re.findall(r'X\((\w+),\s*"([^"]*)"\)', body.replace("\\\n", "")))


# The manual.

def sections(page):
    parts = re.split(r"^\.Sh (.*)\n", read(page), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def plain(line):
    """A line of mdoc without its macros."""
    return " ".join(word for word in line.split() if not re.fullmatch(r"\.?[A-Z][a-z]", word))


def items(text, macro):
    """{name: (the rest of its tag, its text)} of the .It lines that begin with @macro."""
    found = re.findall(rf"^\.It {macro} (\w+)(.*)\n((?:(?!\.It|\.El).*\n)*)", text, re.M)
    return {name: (plain(tag), " ".join(body.split())) for name, tag, body in found}


def check_keys(page, table, heading, example):
    """@example: the section in conf/shunt.ini."""
    unbuilt = page["KEYS THAT ARE NOT BUILT YET"]
    keys, tags = code_keys(table), items(page[heading], "Va")

    expect_same(f"{heading} in shunt.ini.5", {key for key in keys if keys[key]}, set(tags))
    for key, built in keys.items():
        expect(built or re.search(rf"^\.Va {key}\b", unbuilt, re.M),
               f"shunt.ini.5: {key} is not among the keys that are not built yet")
        expect(re.search(rf"^;?{key} =" if built else rf"\b{key}\b", example, re.M),
               f"conf/shunt.ini: {key} is missing")
    for key, default in re.findall(r"^;(\w+) =(.*)", example, re.M):
        tag = tags[key][0] if key in tags else "nothing"
        expect(tag == f"={default}", f"shunt.ini.5: {key}: '{tag}', in conf/shunt.ini '={default}'")


def check_config():
    page, example = sections("docs/man/shunt.ini.5"), read("conf/shunt.ini")
    tables = re.split(r"^\[.*\]\n", example, flags=re.M)
    check_keys(page, "agent", "THE AGENT", tables[1])
    check_keys(page, "limit", "LIMITS", tables[2])
    check_keys(page, "mesh", "MESHES", tables[3])
    for choice in re.findall(r'\{\.name = "(\w+)"', read("agent/config_keys.c")):
        for where, text in ("shunt.ini.5", "".join(page.values())), ("conf/shunt.ini", example):
            expect(re.search(rf"\b{choice}\b", text), f"{where}: the choice {choice} is missing")


def check_commands():
    page = sections("docs/man/shuntctl.8")
    expect_same("commands in shuntctl.8", code_commands(), set(items(page["COMMANDS"], "Cm")))


def code_options():
    """{command: its own options}, in the order of the code."""
    shared = ["--" + name for name in re.findall(r'\{\s*\\?\s*"(\w+)", required_argument',
                                                 read("agent/ctl/filter.h"))]
    own = {}
    for command in code_commands():
        text = read(f"agent/ctl/cmd_{command}.c")
        short = re.search(r'getopt\(argc, argv, "[+:]*([\w:]*)"', text)
        own[command] = {"-" + letter for letter in (short[1] if short else "").replace(":", "")}
        own[command] |= {"--" + name for name in
                         re.findall(r'\{"(\w+)", required_argument', text)}
        own[command] |= set(re.findall(r'strcmp\(argv\[1\], "(-\w)"\)', text))
        if "FILTER_OPTIONS" in text:
            own[command] |= set(shared)
    expect(len(shared) >= 5, "agent/ctl/filter.h is not understood any more")
    return own


def check_completion():
    completion = read("conf/shuntctl.bash")
    commands = re.search(r"^_shuntctl_commands='(.*)'", completion, re.M)[1].split()
    expect_same("commands in shuntctl.bash", code_commands(), set(commands))
    synopsis = sections("docs/man/shuntctl.8")["COMMANDS"]
    for command, options in code_options().items():
        tag = re.search(rf"^\.It Cm {command}\b(.*)", synopsis, re.M)[1]
        for option in options:
            expect(re.search(rf"(^|[ '|]){option}\b", completion, re.M),
                   f"shuntctl.bash: {option} of {command} is missing")
            expect(re.search(rf"Fl {option[1:]}\b", tag),
                   f"shuntctl.8: {option} of {command} is missing")


def check_counters():
    page = sections("docs/man/shuntctl.8")
    for section, macro in (("OUTCOMES", "SHUNT_OUTCOMES"), ("REASONS", "SHUNT_REASONS"),
                           ("COUNTERS", "SHUNT_COUNTERS")):
        code, manual = code_counters(macro), items(page[section], "Va")
        expect_same(f"{section} in shuntctl.8", set(code), set(manual))
        for name in code.keys() & manual.keys():
            expect(manual[name][1] == code[name],
                   f"shuntctl.8: {name}: '{manual[name][1]}', but the code says '{code[name]}'")
    for name, text in code_counters("SHUNT_NOTICES").items():
        expect(f".It Li {name}\n{text}\n" in page["COMMANDS"],
               f"shuntctl.8: event {name}: '{text}' is missing")


def check_lint():
    """False if it could not be done."""
    if not shutil.which("mandoc") or not shutil.which("man"):
        return False
    pages = sorted((TOP / "docs/man").glob("*.[1-9]"))
    expect(pages, "docs/man: no pages")
    for page in pages:
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page.name], cwd=page.parent,
                              capture_output=True, text=True, check=False)
        expect(not done.stdout + done.stderr, (done.stdout + done.stderr).strip())
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page.name],
                              cwd=page.parent, capture_output=True, text=True, check=False,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
        expect(done.returncode == 0 and not done.stderr, f"{page.name}: {done.stderr}")
    return True


check_config()
check_commands()
check_completion()
check_counters()
linted = check_lint()
if failures:
    sys.exit("\n".join(failures))
if not linted:
    print("SKIP: mandoc or man is not installed")
    sys.exit(1 if os.environ.get("SHUNT_TESTS_MUST_RUN") == "1" else SKIP)
