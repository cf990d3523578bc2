# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""
Draws the ratios of the splice benchmark, one chart for each part and number of CPUs.
Reads from: a CSV file of tests/bench/splice.sh.
Writes to: an SVG file, by way of gnuplot.
"""

import subprocess
import sys

from splice_rounds import case_label, figure_of, ratio, rounds_read, ways_of

TITLES = {
    "exchange": "Request/response: time (less is better)",
    "stream": "One-way stream: throughput (more is better)",
    "nodelay": "One-way stream, TCP\\_NODELAY: throughput (more is better)",
    "program": "Through HAProxy: requests a second (more is better)",
    "watched exchange": "Spliced, events streamed, metrics scraped: time (less is better)",
    "other exchange": "Not to be spliced, request/response: time (less is better)",
    "other stream": "Not to be spliced, stream: throughput (more is better)",
}
COLOURS = {
    "redirect": "#c44e52", "shunt": "#8c8c8c", "spliced": "#2a6fbb", "unix": "#dda63a",
    "with": "#2a6fbb", "watched": "#2a6fbb",
}
WIDTH, HEIGHT = 760, 360 # of one chart


def chart(cells, part, cpus):
    """the commands for one chart"""
    base, *ways = ways_of(cells, part)
    lines = ["$data << EOD"]
    for key, cell in cells.items():
        if key[:2] == (part, cpus):
            # NaN leaves a gap where a way was not measured.
            fields = (ratio(cell, way, base, figure_of(part)) or ("NaN",) * 3 for way in ways)
            values = " ".join(f"{middle} {low} {high}" for low, middle, high in fields)
            lines.append(f'"{case_label(key[2])}" {values}')
    bars = [
        f'$data using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) title "{way}" '
        f'linecolor rgb "{COLOURS[way]}"'
        for i, way in enumerate(ways)
    ]
    return lines + [
        "EOD",
        f'set title "{TITLES[part]}, {"one CPU" if cpus == "1" else "two CPUs"}"',
        f'set ylabel "ratio to {base}"',
        f'plot {", ".join(bars)}, 1 with lines dashtype 2 linecolor "black" notitle',
        "undefine $data",
    ]


def main():
    source, target = sys.argv[1:]
    cells = rounds_read(source)
    charts = [key for key in dict.fromkeys(key[:2] for key in cells)
              if len(ways_of(cells, key[0])) > 1]
    rows = (len(charts) + 1) // 2
    commands = [
        f"set terminal svg size {2 * WIDTH},{rows * HEIGHT} enhanced background '#ffffff'",
        f"set output '{target}'",
        f"set multiplot layout {rows},2",
        "set style data histograms",
        "set style histogram errorbars gap 1 linewidth 1",
        "set style fill solid 0.9 border -1",
        "set bars 0.3",
        "set yrange [0:*]",
        "set grid ytics",
        "set key outside below",
        "set xtics nomirror rotate by -20",
    ]
    for part, cpus in charts:
        commands += chart(cells, part, cpus)
    subprocess.run(["gnuplot"], input="\n".join(commands) + "\n", text=True, check=True)


main()
