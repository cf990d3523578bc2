#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# `shuntctl doctor` finds what is there and what is withheld from it, with and without an agent, and
# leaves nothing behind.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
SOCKHASH=18 CONNECT4=10 # numbers of linux/bpf.h

withholding() # WORDS COMMAND…
{
	SHUNT_WITHHOLD=$1 LD_PRELOAD=$BUILD/tests/libshunt-withhold.so "${@:2}"
}

without() # CAPABILITY COMMAND…
{
	setpriv --bounding-set="-$1" --inh-caps="-$1" "${@:2}"
}

examine() # COMMAND…: runs it before shuntctl doctor, of which the report is kept
{
	"$@" "$BUILD/agent/shuntctl" -s "$DIR/control.sock" -j doctor >"$DIR/report" ||
		fail "doctor: exit status $?"
}

report() # rung | CHECK: its result
{
	"$PYTHON" - "$DIR/report" "$1" <<-'END'
		import json, sys

		report = json.load(open(sys.argv[1]))
		if sys.argv[2] == "rung":
		    print(report["rung"])
		elif sys.argv[2] == "agent":
		    print(report["agent"] and report["agent"]["rung"])
		else:
		    print(*[c["result"] for c in report["checks"] if c["name"] == sys.argv[2]])
	END
}

shuntd_start
splices=$(ctl -j status | grep -o '"splice": "[a-z]*"')
examine env
expect "the agent's rung stands beside" redirect "$(report agent)"
expect "programs are tried" "yes yes" "$(report "program shunt_connect4") $(report "map shunt_socks")"
expect "what can be had is what the agent has" "$splices" \
	"$([ "$(report rung)" = "redirect and splice" ] && echo '"splice": "on"' || echo '"splice": "kernel"')"
ctl detach >/dev/null
wait "${PIDS[shuntd]}"

examine env
expect "without an agent" None "$(report agent)"
full=$(report rung)
best="yes yes yes yes"
expect "nftables" "$best" \
	"$(for check in "network namespace" nftables "nftables redirect" conntrack; do report "$check"; done | paste -sd ' ')"
ctl doctor >"$DIR/text"
grep -q '^this host, asked with these privileges: '"$full"'$' "$DIR/text" || fail "no verdict: $(cat "$DIR/text")"
grep -q '^no agent answers$' "$DIR/text" || fail "it does not say that no agent runs"
echo "ok: for people"

examine withholding map_type=$SOCKHASH
expect "without sockhash" "redirect no yes yes" \
	"$(report rung) $(report "map shunt_ends") $(report "program shunt_connect4") $(report "attachment shunt_sockops")"
examine withholding attach_type=$CONNECT4
expect "connect4 cannot be attached" "nftables yes no yes" \
	"$(report rung) $(report "program shunt_connect4") $(report "attachment shunt_connect4") $(report "attachment shunt_connect6")"
examine withholding "attach_type=$CONNECT4 netfilter"
expect "nor nftables be had" "off no untried" \
	"$(report rung) $(report nftables) $(report "nftables redirect")"
examine withholding netfilter
expect "nftables is not missed" "$full no" "$(report rung) $(report nftables)"
examine without net_admin
expect "without CAP_NET_ADMIN" "off no" "$(report rung) $(report CAP_NET_ADMIN)"

# A host without a bpf file system, on which none can be mounted either.
# shellcheck disable=SC2016
examine unshare --mount bash -c 'mount -t tmpfs none /sys/fs/bpf &&
	exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$@"' -
expect "without a bpf file system" "no" "$(report "bpf file system")"
case $(report rung) in
redirect*) fail "where nothing can be pinned it promises $(report rung)" ;;
esac

[ -z "$(find "$CGROUP_ROOT" -maxdepth 1 -name "shunt-trial-*")" ] || fail "a cgroup is left"
echo "ok: nothing is left"
