# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compares the results of a suite inside a mesh with those outside, test by test.

usage: compare.py [--groups] INSIDE OUTSIDE…    --groups: prints only which groups of tests differ

A test has come to the same if one of the runs outside came to that. Tests that come to this and
that outside are named, and so are those that fail on both sides.
"""
import collections
import json
import sys

GOOD = {"passed", "skipped"}


def read(path):
    """(group, test) -> (its outcome, what was said). A name may occur more than once, and not always
    as often: then its outcome is what it came to at all."""
    found = collections.defaultdict(lambda: (set(), []))
    with open(path, encoding="utf-8") as file:
        for line in file:
            group, test, outcome, said = line.rstrip("\n").split("\t")
            outcomes, words = found[group, test]
            outcomes.add(outcome)
            words.append(json.loads(said))
    if not found:
        sys.exit(f"{path}: the suite gave no results")
    return {name: (" ".join(sorted(outcomes)), "\n".join(filter(None, words)))
            for name, (outcomes, words) in found.items()}


def list_names(title, names):
    print(f"{len(names)} {title}{':' if names else ''}")
    for name in names:
        print(f"  {name}")


def main():
    only_groups = sys.argv[1] == "--groups"
    inside, *outside = (read(path) for path in sys.argv[1 + only_groups:])
    missing = "missing", ""
    failed, unstable, different = [], [], []
    for test in sorted(set(inside) | set(outside[0])):
        got, said = inside.get(test, missing)
        runs = [run for run in outside if any(group == test[0] for group, _ in run)]
        wanted = {run.get(test, missing)[0] for run in runs}
        if got not in wanted:
            different.append((test, wanted, got, said))
        elif len(wanted) > 1:
            unstable.append(f"{' '.join(test)}: {', '.join(sorted(wanted))}; inside {got}")
        elif not set(got.split()) <= GOOD:
            failed.append(f"{' '.join(test)}: {got}")

    if only_groups:
        print("\n".join(sorted({test[0] for test, *_ in different})), end="\n" if different else "")
        return
    print(f"{len(inside)} tests inside, {len(outside[0])} outside")
    list_names("fail, inside as outside", failed)
    list_names("vary outside too", unstable)
    for (group, test), wanted, got, said in different:
        print(f"{group} {test}: outside {', '.join(sorted(wanted))}, inside {got}\n{said}",
              file=sys.stderr)
    sys.exit(bool(different))


main()
