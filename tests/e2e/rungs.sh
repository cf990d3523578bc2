#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Each rung of the ladder, by withholding what the one above needs, and a real connection on it; and
# up again by a reload when it is there.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
http_start
relay_start -v
SK_MSG=16 SOCKHASH=18 SOCK_ADDR=18 GETPEERNAME4=29 # numbers of linux/bpf.h

start() # COMMAND…: shuntd by way of it
{
	local end=$((SECONDS + 20 * PATIENCE))
	spawn shuntd host - "$@" "$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
	until ctl status >/dev/null 2>&1; do
		running shuntd || fail "shuntd ended: $(tail -n 3 "$DIR/shuntd.log")"
		[ "$SECONDS" -lt "$end" ] || fail "shuntd does not answer"
		sleep 0.05
	done
}

withhold() # WORDS
{
	start env SHUNT_WITHHOLD="$1" LD_PRELOAD="$BUILD/tests/libshunt-withhold.so"
}

# The rung, and whether it splices where that says anything; and what it redirects.
rung()
{
	ctl -j status | "$PYTHON" -c 'import json, sys
status = json.load(sys.stdin)
print(status["rung"], *["and splice"] * (status["splice"] == "on"))'
}

redirects() # COUNT of connections that the relay is to get of one that is made
{
	local before
	before=$(grep -c ^accepted "$DIR/relay.log" || true)
	app curl -sS -m $((5 * PATIENCE)) -o /dev/null "http://$SRV4/hello" || fail "no connection"
	expect "the relay is given" "$1" $(($(grep -c ^accepted "$DIR/relay.log") - before))
}

end()
{
	ctl detach >/dev/null
	wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
	expect "no table is left" "" "$(nsenter --net="/run/netns/$APP" nft list tables)"
	[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left"
}

tabled()
{
	nsenter --net="/run/netns/$APP" nft list table inet shunt
}

config_write </dev/null
sed -i 's/^log_level = .*/&\nfallback = nftables/' "$DIR/shunt.ini"

withhold ""
splices && best="redirect and splice" || best=redirect
expect "nothing is withheld" "$best" "$(rung)"
redirects 1
end

for word in map_type=$SOCKHASH prog_type=$SK_MSG; do
	withhold "$word"
	expect "without $word" "redirect" "$(rung)"
	redirects 1
	end
done

withhold "attach_type=$GETPEERNAME4"
expect "an attachment is refused" "nftables" "$(rung)"
wait_for 10 "the table is there" tabled
redirects 1
end

# Programs of an earlier agent stay in force, and nothing is put beside them, until all is taken out.
withhold ""
stop shuntd KILL || true
expect_failure 1 env SHUNT_WITHHOLD="prog_type=$SOCK_ADDR" \
	LD_PRELOAD="$BUILD/tests/libshunt-withhold.so" "$BUILD/agent/shuntd" -c "$DIR/shunt.ini" \
	>"$DIR/refused.log"
grep -q "the programs of an earlier agent stay in force" "$DIR/refused.log" ||
	fail "it does not say what stays: $(cat "$DIR/refused.log")"
expect "no table is beside them" "" "$(nsenter --net="/run/netns/$APP" nft list tables)"
redirects 1
sed -i "s/^fallback = .*/fallback = off/" "$DIR/shunt.ini"
withhold "prog_type=$SOCK_ADDR"
expect "an agent that stays for a reload" "off" "$(rung)"
expect_failure 1 ctl reload >/dev/null
expect "no table is beside them" "" "$(nsenter --net="/run/netns/$APP" nft list tables)"
redirects 1
end
redirects 0
sed -i "s/^fallback = .*/fallback = nftables/" "$DIR/shunt.ini"

start setpriv --bounding-set=-bpf,-sys_admin --inh-caps=-bpf,-sys_admin
expect "without CAP_BPF and CAP_SYS_ADMIN no namespace but the agent's can be entered" \
	"nftables 0" "$(rung) $(ctl -j status | grep -o '"network_namespaces": [0-9]*' | grep -o '[0-9]*$')"
grep -q "Operation not permitted" "$DIR/shuntd.log" || fail "it does not say why"
end

# No bpf file system, until one is there and a reload finds it.
mkdir "$DIR/hidden"
sed -i "s|^pin_dir = .*|pin_dir = $DIR/hidden/shunt|" "$DIR/shunt.ini"
withhold ""
expect "without a bpf file system" "nftables" "$(rung)"
wait_for 10 "the table is there" tabled
redirects 1
ctl reload >/dev/null
expect "a reload does not help" "nftables" "$(rung)"
redirects 1
sed -i "s|^pin_dir = .*|pin_dir = $DIR/bpf/shunt|" "$DIR/shunt.ini"
ctl reload >/dev/null
expect "until there is one" "$best" "$(rung)"
redirects 1
end

# How far it may go.
sed -i "s|^pin_dir = .*|pin_dir = $DIR/hidden/shunt|; s/^fallback = .*/fallback = fail/" "$DIR/shunt.ini"
expect_failure 1 "$BUILD/agent/shuntd" -c "$DIR/shunt.ini" >/dev/null
expect "no further than told" "" "$(nsenter --net="/run/netns/$APP" nft list tables)"
sed -i "s/^fallback = .*/fallback = off/" "$DIR/shunt.ini"
withhold ""
expect "off is below nftables" "nftables" "$(rung)"
end
start setpriv --bounding-set=-net_admin --inh-caps=-net_admin
expect "without CAP_NET_ADMIN" "off" "$(rung)"
redirects 0
end
