# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""
What the rounds of the splice benchmark say: ratios between ways, and what Shunt promises of them.
Reads from: a CSV file with the columns part, cpus, case, round, way, and one for each figure.
Writes to: nothing.

A ratio is taken within a round, whose ways were measured one right after the other, so that what
slows the machine for a while counts for none of them.
"""

import collections
import csv
import statistics

WAYS = ["plain", "redirect", "shunt", "spliced", "unix", "without", "with", "unwatched", "watched"]

Spread = collections.namedtuple("Spread", "low middle high")
Target = collections.namedtuple("Target", "part way base bound at_most cases cpus")

# A time has to be at most the bound, a rate at least.
TARGETS = [
    Target("exchange", "spliced", "plain", 0.65, True, "to 65536", "1"),
    Target("exchange", "spliced", "unix", 0.95, True, "to 65536", "1"),
    Target("stream", "spliced", "plain", 1, False, "", None),
    Target("nodelay", "spliced", "plain", 1, False, "", None),
    Target("program", "spliced", "redirect", 1.5, False, "redis -P1", None),
    Target("program", "spliced", "redirect", 1.5, False, "wrk mode tcp", None),
    Target("program", "spliced", "redirect", 1.3, False, "wrk mode http", None),
    Target("watched exchange", "watched", "unwatched", 1.03, True, "", None),
    Target("other exchange", "with", "without", 1.02, True, "", None),
    Target("other stream", "with", "without", 0.98, False, "", None),
]


def rounds_read(path):
    """{(part, cpus, case): {way: {figure: {round: value}}}}, in the order of the file"""
    cells = {}
    with open(path, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = tuple(row.pop(name) for name in ("part", "cpus", "case"))
            number, way = row.pop("round"), row.pop("way")
            figures = cells.setdefault(key, {}).setdefault(way, {})
            for name, value in row.items():
                if value:
                    figures.setdefault(name, {})[number] = float(value)
    return cells


def figure_of(part):
    """the figure that counts"""
    return "p50_us" if part.endswith("exchange") else "rate"


def ways_of(cells, part):
    """the ways that were measured, in the order in which they are shown"""
    measured = {way for key, cell in cells.items() if key[0] == part for way in cell}
    return [way for way in WAYS if way in measured]


def spread(values):
    values = list(values)
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*statistics.quantiles(values, n=4, method="inclusive"))


def ratio(cell, way, base, figure):
    """the spread of the ratios, or None if one of the two was not measured"""
    above, below = (cell.get(name, {}).get(figure) for name in (way, base))
    if not above or not below:
        return None
    return spread(above[number] / below[number] for number in above if number in below)


def target_covers(target, case, cpus):
    if target.cpus not in (None, cpus):
        return False
    if target.cases.startswith("to "):
        return int(case) <= int(target.cases[3:])
    return target.cases in ("", case)


def targets_judge(cells):
    """(target, cpus, case, spread, that of CPU time, verdict) of each cell that a target covers"""
    found = []
    for target in TARGETS:
        for (part, cpus, case), cell in cells.items():
            if part != target.part or not target_covers(target, case, cpus):
                continue
            got = ratio(cell, target.way, target.base, figure_of(part))
            if got:
                cpu = ratio(cell, target.way, target.base, "cpu_ns")
                found.append((target, cpus, case, got, cpu, verdict(target, got)))
    return found


def verdict(target, got):
    """by the median; where only the better quartile reaches the bound it is too close to tell"""
    if target.at_most:
        middle, better = got.middle <= target.bound, got.low <= target.bound
    else:
        middle, better = got.middle >= target.bound, got.high >= target.bound
    return "met" if middle else "close" if better else "MISSED"


def case_label(case):
    """sizes as people write them"""
    place, blank, size = case.rpartition(" ")
    if not size.isdigit():
        return case
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)):
        if int(size) >= factor:
            return f"{place}{blank}{int(size) // factor} {unit}"
