#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Takes the guards of splicing out, one at a time, in copies of the source, and runs against each
# copy what is to find out: a test that passes without a guard does not test it.
set -euo pipefail

if [ $# -lt 1 ]; then
	echo "usage: guards.sh BUILD_DIR [GUARD]..." >&2
	exit 2
fi
source=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
shift
work=$(mktemp -d /tmp/shunt-guards-XXXXXX)
trap 'rm -rf "$work"' EXIT

torture() # BUILD_DIR
{
	"$tree/tests/torture/torture.sh" "$1" --kill --seconds 20
}

kernel() # NAME [CLASS.TEST] BUILD_DIR
{
	/usr/bin/python3 "$tree/tests/kernel/test_$1.py" "${@: -1}" "${@:2:$#-2}"
}

# What a failure for the right reason says: not that the agent did not start, for one.
declare -A reason=(
	[torture]='^FAIL: (connection|[a-z0-9-]+: a server)'
	[kernel]='^AssertionError'
)

# Name, files, what is put in place of what in each (a sed expression), and what must fail then.
guards=(
	"read: all that went by TCP has been read before more is spliced
	splice.bpf.c
	s/peer->copied_seq == me->write_seq/true/
	torture"
	"empty: a send leaves with nothing unread
	splice.bpf.c
	s/\.empty = tcp_queue_empty\(peer\)/.empty = true/
	torture"
	"settle: who is taken out has nothing unread
	settle.bpf.h
	s/ \&\& tcp_queue_empty\((peer|me)\)//
	torture"
	"bound: the buffer of the reader bounds what is spliced to it
	splice.bpf.c
	s/return limit;/return 1u << 30;/
	kernel splice Spill.test_stalled_reader"
	"out: who went back to TCP is taken out of the sockhash
	settle.bpf.h
	s/if \(pair_clear\(view->pair, member\) \& member\)/if (false)/
	torture"
	"kick: a reader at the boundary gets an edge
	settle.bpf.h
	s/\|\| !tcp_queue_empty\(me\)\)/|| true)/
	torture"
	"alone: the kernel half kicks without an agent
	sockops.bpf.c
	s/keepalive_start\(ctx, \&view, tp\);/;/
	kernel splice Spill.test_short_reads_without_an_agent"
	"stranded: the walk finds who reads a connection that is over
	walk.bpf.c
	s/walk_strand\(\&at, control\);/;/
	kernel splice Spill.test_reader_of_a_connection_that_is_over"
	"end: a send() may be under way when another thread ends the direction
	close.bpf.h splice.bpf.c
	s/tcp_users\(tcp_at\(view->peer->sock\)\) > SETTLE_IDLE/false/; s/ \&\& !splice_held\(view, peer\)//
	kernel splice Spill.test_end_while_another_thread_sends"
	"undone: a connection that is undone takes its bytes along
	close.bpf.h
	s/if \(close_is_undone\(tp, state\)\)/if (false)/
	kernel splice Undone"
	"held: nobody waits for a reader that keeps its socket's lock
	splice.bpf.c
	s/ \&\& !splice_held\(view, peer\)//
	kernel splice Spill.test_writer_does_not_wait_for_its_reader"
	"looks: two that send at once do not wait for each other
	splice.bpf.c
	s/ \& SHUNT_PAIR_LOOKS << !view->end/ \& 0/
	kernel splice Spill.test_both_ends_send_at_once"
	"gone: a reader that is closed is not looked at
	splice.bpf.c
	s/flags \& SHUNT_PAIR_CLOSED << !view->end/false/
	kernel splice Ends.test_closed_reader_whose_place_another_socket_takes"
	"established: nothing is sent after the own shutdown
	splice.bpf.c
	s/state != BPF_TCP_ESTABLISHED \&\& /false \&\& &/
	kernel semantics_ends Orderly.test_send_after_the_own_end_was_read"
	"blocking: who blocks is not spliced
	tcp.bpf.h
	s/if \(tcp_blocking\(tp\)\)/if (false)/
	kernel splice Blocking.test_client"
)

# The agent's self-test would find most of them, and splice nothing.
mutant() # FILES EXPRESSION
{
	local file
	rm -rf "$tree"
	mkdir "$tree"
	(cd "$source" && tar -c --exclude=./build* --exclude=./.git .) | tar -x -C "$tree"
	for file in $1; do
		sed -E -i "$2" "$tree/bpf/$file"
		if cmp -s "$source/bpf/$file" "$tree/bpf/$file"; then
			echo "guards.sh: nothing in bpf/$file matches $2" >&2
			return 1
		fi
	done
	sed -i '/^bool selftest_allows/,/^}/s/return false;/return true;/' "$tree/agent/selftest.c"
	meson setup "$tree/build" "$tree" >"$work/build.log" 2>&1 &&
		ninja -C "$tree/build" agent/shuntd agent/shuntctl tests/other.bpf.o \
			tests/shunt-torture >>"$work/build.log" 2>&1 ||
		{ tail -30 "$work/build.log"; return 1; }
}

tree=$work/tree
found=0 missed=()
for guard in "${guards[@]}"; do
	{
		IFS= read -r what
		read -r files
		read -r expression
		read -ra test
	} <<<"$guard"
	name=${what%%:*}
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	mutant "$files" "$expression"
	if "${test[@]}" "$tree/build" >"$work/log" 2>&1; then
		missed+=("$name")
		verdict="NOT FOUND by ${test[*]}"
	elif told=$(grep -m1 -E "${reason[${test[0]}]}" "$work/log"); then
		found=$((found + 1))
		verdict="found by ${test[*]}: ${told:0:90}"
	else
		missed+=("$name")
		verdict="${test[*]} FAILS FOR ANOTHER REASON: $(tail -n 3 "$work/log")"
	fi
	echo "without $what: $verdict"
done
echo "$found found, ${#missed[@]} not: ${missed[*]-}"
[ ${#missed[@]} = 0 ]
