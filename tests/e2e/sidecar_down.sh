#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# While the sidecar does not listen, on_sidecar_down says what happens; from the moment that it
# does, it is used. Nothing is remembered of the time before.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
http_start
config_write <<-END
	on_sidecar_down = refuse
END
shuntd_start

# A program that is older than the sidecar: it connects once for each line that it is sent.
mkfifo "$DIR/orders"
exec 8<>"$DIR/orders"
spawn program app "$APP" bash -c 'while read -r host; do
	(exec 7<>/dev/tcp/$host/80) 2>&1 && echo connected
	echo tried
done <"$1"' - "$DIR/orders"

visit() # HOST: what the program says
{
	local before
	before=$(grep -c tried "$DIR/program.log" || true)
	echo "$1" >&8
	wait_for 5 "the program has tried" said $((before + 1))
	tail -n 2 "$DIR/program.log" | head -n 1 | grep -o 'connected\|Connection refused'
}

said() # COUNT
{
	[ "$(grep -c tried "$DIR/program.log")" = "$1" ]
}

expect "refused while the sidecar is down" "Connection refused" "$(visit "$SRV4")"
expect "refused over IPv6" "Connection refused" "$(visit "$SRV6")"
expect "it is counted" 2 "$(counter connect_refused_sidecar_down)"
relay_start -v
expect "used as soon as it listens" connected "$(visit "$SRV4")"
expect "over IPv6 too" connected "$(visit "$SRV6")"
wait_for 5 "the sidecar has both" relayed 2
expect "both are redirected" 2 "$(counter connect_redirected)"
stop relay || true
expect "refused when it is gone again" "Connection refused" "$(visit "$SRV4")"

echo "on_sidecar_down = bypass" >>"$DIR/shunt.ini"
sed -i '/= refuse$/d' "$DIR/shunt.ini"
ctl reload >/dev/null
expect "bypassed while the sidecar is down" connected "$(visit "$SRV4")"
expect "bypassed over IPv6" connected "$(visit "$SRV6")"
expect "it is counted" 2 "$(counter connect_bypassed_sidecar_down)"
relay_start -v
expect "used as soon as it listens" connected "$(visit "$SRV4")"
wait_for 5 "the sidecar has it" relayed 3
expect "nothing else was bypassed" 2 "$(counter connect_bypassed_sidecar_down)"

# The same socket may connect again after a refusal.
stop relay || true
sed -i '/= bypass$/d' "$DIR/shunt.ini"
ctl reload >/dev/null
mkfifo "$DIR/go"
cat >"$DIR/again.py" <<-'END'
	import errno, socket, sys

	host, go = sys.argv[1:]
	sock = socket.socket()
	print(errno.errorcode[sock.connect_ex((host, 80))])
	open(go).read()
	sock.connect((host, 80))
	print("then", sock.getpeername()[0])
END
spawn again app "$APP" "$PYTHON" -u "$DIR/again.py" "$SRV4" "$DIR/go"
wait_for 5 "the first connect() was refused" grep -q . "$DIR/again.log"
relay_start -v
: >"$DIR/go"
wait "${PIDS[again]}"
expect "a second connect() on one socket" "ECONNREFUSED then $SRV4" \
	"$(paste -sd ' ' "$DIR/again.log")"
