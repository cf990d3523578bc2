# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""
Tables of the splice benchmark: each way's ratio to the first one, CPU time, and the targets.
Reads from: a CSV file of tests/bench/splice.sh.
Writes to: stdout.
"""

import sys

from splice_rounds import (
    case_label, figure_of, ratio, rounds_read, spread, targets_judge, ways_of,
)

TITLES = {
    "exchange": "request and response: time of an exchange",
    "stream": "one-way stream: bytes a second",
    "nodelay": "one-way stream with TCP_NODELAY: bytes a second",
    "program": "real programs through HAProxy: requests a second",
    "watched exchange": "spliced, with events streamed and metrics scraped: time of an exchange",
    "other exchange": "not to be spliced, request and response: time of an exchange",
    "other stream": "not to be spliced, one-way stream: bytes a second",
}
CPU_OF = {"program": ("all three", "ns"), "watched exchange": ("both ends and the agent", "ns/B")}
UNITS = {"program": "1/s", "stream": "MB/s", "nodelay": "MB/s", "other stream": "MB/s"}


def show(got):
    if got is None:
        return "–"
    if got.low == got.high:
        return f"{got.middle:.2f}"
    return f"{got.middle:.2f} ({got.low:.2f}–{got.high:.2f})"


def number(value):
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def table(title, head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    print(title)
    for row in [head, *rows]:
        line = "  " + row[0].ljust(widths[0])
        line += "".join("  " + text.rjust(width) for text, width in zip(row[1:], widths[1:]))
        print(line.rstrip())
    print()


def ratios_table(cells, part, cpus, figure, title, unit):
    """each way to the first one, and spliced to what else it is measured by"""
    base, *others = ways_of(cells, part)
    pairs = [(way, base) for way in others]
    if "spliced" in others:
        rival = "unix" if part == "exchange" else "redirect"
        pairs += [("spliced", rival)] if rival in others else []
    rows = []
    for key, cell in cells.items():
        if key[:2] == (part, cpus):
            middle = spread(cell[base][figure].values()).middle
            rows.append([case_label(key[2]), number(middle),
                         *(show(ratio(cell, *pair, figure)) for pair in pairs)])
    table(f"{title}; {cpus_label(cpus)}", ["", f"{base}, {unit}", *map("/".join, pairs)], rows)


def cpus_label(cpus):
    return {"1": "one CPU", "2": "two CPUs"}[cpus]


def targets_table(cells):
    judged = targets_judge(cells)
    if not judged:
        return
    rows = [
        [f"{target.part}, {case_label(case)}, {cpus_label(cpus)}", f"{target.way}/{target.base}",
         f"{'<=' if target.at_most else '>='} {target.bound:.2f}", show(got), show(cpu), verdict]
        for target, cpus, case, got, cpu, verdict in judged
    ]
    table("targets", ["", "ratio", "wanted", "got", "CPU time", ""], rows)
    verdicts = [row[-1] for row in rows]
    print(f"{len(rows)} targets: " +
          ", ".join(f"{verdicts.count(word)} {word}" for word in ("met", "close", "MISSED")))


def main():
    cells = rounds_read(sys.argv[1])
    print("Medians of the rounds; in brackets, quartiles. Ratios are taken within a round.\n")
    for part, cpus in dict.fromkeys(key[:2] for key in cells):
        ratios_table(cells, part, cpus, figure_of(part), TITLES[part], UNITS.get(part, "us"))
        who, unit = CPU_OF.get(part, ("both ends", "ns/B"))
        ratios_table(cells, part, cpus, "cpu_ns", f"… CPU time of {who}", unit)
    targets_table(cells)


main()
