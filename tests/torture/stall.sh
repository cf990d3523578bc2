#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A reader that stops reading stops its writer as soon when spliced as on plain TCP, and the writer
# goes on as soon when the reader does. Rounds of both are interleaved; what counts are the ratios of
# their medians.
set -euo pipefail

usage()
{
	cat <<-END
		usage: stall.sh BUILD_DIR [OPTION]...
		  -r, --rounds N   of each way (3)
		  -m, --mode MODE  the mesh's splice (node); "off" tells how far plain TCP is from itself
		  -a, --accepted N how far the bytes accepted may be from plain TCP's, in percent (10)
		  -u, --resumed N  how many times as long, in the median of all, a writer may wait (2;
		                   on an emulated processor 10)
		  -o, --output F   keep what each round gave, as CSV
	END
}

[ $# -gt 0 ] || { usage >&2; exit 2; }
build=$1
shift
rounds=3 mode=node accepted=10 resumed='' output=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit ;;
	esac
	[ $# -gt 1 ] || { usage >&2; exit 2; }
	case $1 in
	-r | --rounds) rounds=$2 ;;
	-m | --mode) mode=$2 ;;
	-a | --accepted) accepted=$2 ;;
	-u | --resumed) resumed=$2 ;;
	-o | --output) output=$2 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift 2
done

. "$(dirname "$(readlink -f "$0")")/../e2e/lib.sh"
# All that take part in a guest wait for their turns on one processor, the agent too.
[ -n "$resumed" ] || resumed=$([ "$PATIENCE" = 1 ] && echo 2 || echo 10)

stall_round() # WAY CGROUP
{
	(enter host "$APP" timeout "$((300 * PATIENCE))" "$BUILD/tests/shunt-stall" "$CGROUP_ROOT$CG/$2" \
		"$CGROUP_ROOT$CG/$2") | sed "s/^/$1,/" >>"$DIR/rounds.csv"
}

sandbox_new "$build"
config_write <<-END
	splice = $mode
END
shuntd_start
[ "$mode" = off ] || paired=$(counter splice_paired)
echo "way,buffer,write,accepted,resumed_us" >"$DIR/rounds.csv"
for ((round = 0; round < rounds; round++)); do
	stall_round plain outside
	stall_round shunt app
done
[ -z "$output" ] || cp "$DIR/rounds.csv" "$output"

status=0
"$PYTHON" - "$DIR/rounds.csv" "$accepted" "$resumed" <<-'END' || status=$?
	import collections, csv, statistics, sys

	path, accepted_limit, resumed_limit = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
	figures = collections.defaultdict(list)
	for row in csv.DictReader(open(path)):
	    for name in "accepted", "resumed_us":
	        if row[name]:
	            key = row["way"], int(row["buffer"]), int(row["write"]), name
	            figures[key].append(float(row[name]))
	medians = {key: statistics.median(values) for key, values in figures.items()}

	print("  buffer    write   accepted: plain, shunt, ratio   resumed us: plain, shunt, ratio")
	waits, wrong = [], []
	for _, buffer, write, _ in [k for k in medians if k[0] == "plain" and k[3] == "accepted"]:
	    plain, shunt, plain_us, shunt_us = (
	        medians[way, buffer, write, name]
	        for name in ("accepted", "resumed_us") for way in ("plain", "shunt"))
	    waits.append(shunt_us / plain_us)
	    # Plain TCP itself may accept now so much, now so much: neither is wrong. Twice as far off
	    # may be who accepts less: of a buffer that its program has fixed a part stays unused,
	    # because the next segment does not fit as a whole, and which one that is depends on what
	    # is there already.
	    of_plain = [value for (way, size, _, what), values in figures.items()
	                if (way, size, what) == ("plain", buffer, "accepted") for value in values]
	    off = not (min(of_plain) * (1 - 2 * accepted_limit / 100) <= shunt
	               <= max(of_plain) * (1 + accepted_limit / 100))
	    if off:
	        wrong.append(f"buffer {buffer or 'default'}, writes of {write}")
	    print(f"{buffer or 'default':>8} {write:8} {plain:16.0f} {shunt:9.0f} "
	          f"{shunt / plain:6.2f}{'*' if off else ' '} "
	          f"{plain_us:18.0f} {shunt_us:6.0f} {shunt_us / plain_us:6.2f}")
	low, wait, high = statistics.quantiles(waits, n=4)
	print(f"resumed: {wait:.2f} times as long as plain (quartiles {low:.2f} and {high:.2f})")
	if wrong:
	    print("accepted is off by more than", accepted_limit, "%:", "; ".join(wrong))
	if wait > resumed_limit:
	    print("writers wait more than", resumed_limit, "times as long")
	sys.exit(bool(wrong) or wait > resumed_limit)
END
if [ "$mode" != off ]; then
	ctl counters | grep '^splice_'
	if splices; then
		[ "$(counter splice_paired)" -gt "$paired" ] || fail "nothing was spliced"
	fi
fi
[ "$status" = 0 ] || fail "a stalled reader is not what it is on plain TCP"
