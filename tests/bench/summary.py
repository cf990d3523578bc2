# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""
Summarises interleaved rounds of a benchmark: the figures of each way, and its ratio to the others.
Reads from: a CSV file with the columns round, way, and one for each figure, the main one first.
Writes to: stdout, two tables and a line about the last way.

A ratio is taken within a round, whose ways were measured one right after the other, so that what
slows the machine for a while counts for none of them. What is shown is the median of these.
"""

import csv
import statistics
import sys


def rounds_read(path):
    """{way: {figure: [its value in each round]}}"""
    ways = {}
    with open(path, encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row.pop("round")))
    for row in rows:
        figures = ways.setdefault(row.pop("way"), {})
        for name, value in row.items():
            figures.setdefault(name, []).append(float(value))
    return ways


def pairs_compare(ways):
    """{(way, base): {figure: [ratio in each round]}}, each way to those before it"""
    order = list(ways)
    return {
        (way, base): {
            name: [a / b for a, b in zip(values, ways[base][name])]
            for name, values in ways[way].items()
        }
        for i, way in enumerate(order)
        for base in order[:i]
    }


def spread(values):
    if len(values) == 1:
        return f"{values[0]:.2f}"
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def table(title, names, rows):
    print(f"{title:<20}" + "".join(f"{name:>20}" for name in names))
    for label, figures, show in rows:
        print(f"{label:<20}" + "".join(f"{show(figures[name]):>20}" for name in names))
    print()


def brief(way, base, figures):
    main, *others = (
        (name.split("_")[0], f"{statistics.median(values):.2f}") for name, values in figures.items()
    )
    return f"{way}/{base} {main[1]} ({', '.join(' '.join(other) for other in others)})"


def main():
    ways = rounds_read(sys.argv[1])
    pairs = pairs_compare(ways)
    names = list(next(iter(ways.values())))
    last = list(ways)[-1]
    table("median", names, [
        (way, figures, lambda values: f"{statistics.median(values):.1f}")
        for way, figures in ways.items()
    ])
    table("ratio (quartiles)", names, [
        (f"{way}/{base}", figures, spread) for (way, base), figures in pairs.items()
    ])
    print(", ".join(brief(*pair, figures) for pair, figures in pairs.items() if pair[0] == last))


main()
