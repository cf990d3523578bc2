#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A restart of the agent opens no gap, not even when it is killed; a detach takes everything out.
# Neither costs a connection: programs connect and hold connections open all the while.
. "$(dirname "$0")/lib.sh"
. "$LIB/traffic.sh"
sandbox_new "$@"

logged_since() # LINES TEXT: does the agent's log have TEXT behind its first LINES?
{
	tail -n "+$(($1 + 1))" "$DIR/shuntd.log" | grep -q "$2"
}

server_start
relay_start
shuntd_start
program_start keeps_names

stop shuntd || fail "shuntd failed when it was asked to end"
[ ! -e "$DIR/control.sock" ] || fail "the control socket outlived its agent"
progress
shuntd_start
progress
stop shuntd KILL || true
progress
shuntd_start
progress
sed -i 's/^cgroups = .*/&, '"${CG//\//\\/}"'\/other/' "$DIR/shunt.ini"
ctl reload >/dev/null
progress
printf '[limits]\ncgroups = 2000\nrules = 2000\n' >>"$DIR/shunt.ini"
for limit in 3000 4000; do # maps of another size are made anew
	sed -i "s/^cgroups = [0-9].*/cgroups = $limit/" "$DIR/shunt.ini"
	stop shuntd || fail "shuntd failed when it was asked to end"
	shuntd_start
	grep -q "^map .*cgroups.*[^0-9]$limit\b" < <(ctl status) || fail "the limit is not in force"
	progress
done
program_stop
wait_for 5 "the relay has all $count connections" relayed "$count"
expect "end, start, kill, start, reload, other limits: each of $count connections redirected" "$count" \
	"$(grep -c connection "$DIR/server.log")"
expect "the counters went on" "$count" "$(counter connect_redirected)"

program_start
for round in 1 2 3; do
	bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
	[ "$(grep -c prog "$DIR/objects")" -gt 5 ] || fail "there is too little to take out"
	ctl detach >/dev/null
	wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
	expect "detach $round: no program, link or map is left" "" "$(bpf_left "$DIR/objects")"
	[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left: $(find "$DIR/bpf/shunt")"
	[ ! -e "$DIR/control.sock" ] || fail "the control socket is left"
	running program || fail "a connection broke when Shunt was detached"
	progress # what was under way at the sidecar is over
	before=$(grep -c ^accepted "$DIR/relay.log")
	progress
	relayed "$before" || fail "still redirected after detach"
	shuntd_start
	progress
	[ "$(grep -c ^accepted "$DIR/relay.log")" -gt "$before" ] || fail "not redirected again"
done
program_stop
echo "ok: detached and started again under traffic"

bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
logged=$(wc -l <"$DIR/shuntd.log")
ctl detach >/dev/null &
wait_for 5 "the detach has begun" logged_since "$logged" detaching
kill "${PIDS[shuntd]}"
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was ended in mid-detach"
expect "ended in mid-detach: nothing is left all the same" "" "$(bpf_left "$DIR/objects")"
[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left"
