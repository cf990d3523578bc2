#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Where redirection cannot be had, not by nftables either, the agent ends, or with fallback = off
# goes on without it and says so; a reload tries again.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"

mkdir "$DIR/plain"
config_write </dev/null
sed -i "s|^pin_dir = .*|pin_dir = $DIR/plain/shunt|" "$DIR/shunt.ini"
sed -i 's/^log_level = .*/&\nfallback = fail/' "$DIR/shunt.ini"
expect_failure 1 "$BUILD/agent/shuntd" -c "$DIR/shunt.ini" >"$DIR/refusal"
grep -q 'is not on a bpf file system' "$DIR/refusal" || fail "no reason was given: $(cat "$DIR/refusal")"
[ ! -e "$DIR/plain/shunt" ] || fail "a failed start left something behind"
echo "ok: without a bpffs it refuses, and says why"

sed -i 's/^fallback = .*/fallback = off/' "$DIR/shunt.ini"
PORT=$("$PYTHON" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i "s/^metrics_listen =.*/metrics_listen = 127.0.0.1:$PORT/" "$DIR/shunt.ini"
export SHUNT_WITHHOLD=netfilter LD_PRELOAD=$BUILD/tests/libshunt-withhold.so
shuntd_start
unset SHUNT_WITHHOLD LD_PRELOAD
expect "rung" '"rung": "off",' "$(ctl -j status | grep -o '"rung".*')"
for command in counters meshes cgroups "explain $CG/app 10.0.0.1:80"; do
	# shellcheck disable=SC2086
	expect_failure 1 ctl $command >"$DIR/refusal"
	grep -q 'rung off' "$DIR/refusal" || fail "$command: $(cat "$DIR/refusal")"
done
expect_failure 1 ctl exec "/$ID/made" -- true >"$DIR/refusal"
! rmdir "/$ID/made" "/$ID" 2>/dev/null || fail "exec made a directory where no cgroups are"
grep -q 'rung off' "$DIR/refusal" || fail "exec: $(cat "$DIR/refusal")"
page() # PATH: the status of the answer
{
	curl -s -o "$DIR/got" -w '%{http_code}' "http://127.0.0.1:$PORT$1"
}
expect "the status page" 200 "$(page /)"
expect "its status" 200 "$(page /api/status)"
grep -q '"rung":"off"' "$DIR/got" || fail "the page is told: $(cat "$DIR/got")"
for path in flows graph counters meshes; do
	expect "its $path" 503 "$(page "/api/$path")"
done
expect_failure 1 ctl reload >/dev/null
running shuntd || fail "shuntd ended"
echo "ok: off, it says so and stays up"

sed -i "s|^pin_dir = .*|pin_dir = $DIR/bpf/shunt|" "$DIR/shunt.ini"
ctl reload >/dev/null
expect "rung after the reload" '"rung": "redirect",' "$(ctl -j status | grep -o '"rung".*')"
expect "what the page tells then" 200 "$(page /api/flows)"
ctl detach >/dev/null
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left"
