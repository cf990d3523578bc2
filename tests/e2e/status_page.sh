#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The status page in a real browser: what it shows is what shuntctl tells, while programs talk
# through HAProxy to Redis and nginx. SHUNT_PAGE_SHOTS=DIRECTORY keeps pictures of it there.
. "$(dirname "$0")/real_lib.sh"
need haproxy redis-server chromium
sandbox_new "$@"
FILES=$(dirname "$(readlink -f "$0")")

server_start redis 6379 redis-server --bind "$SRV4" --port 6379 --save "" --dir "$DIR" \
	--protected-mode no
mkdir "$CGROUP_ROOT$CG"/app/{checkout,reports} "$CGROUP_ROOT$CG/app/<img src=x onerror=pwned=1>&lt;"
echo "splice = $SPLICE" | config_write
PORT=$("$PYTHON" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i "s/^metrics_listen =.*/metrics_listen = 127.0.0.1:$PORT/" "$DIR/shunt.ini"
shuntd_start
haproxy_start

talk() # NAME CGROUP MODE CONNECTIONS BYTES CALLED
{
	spawn "$1" "app/$2" "$APP" "$PYTHON" "$FILES/talk.py" "$3" "$SRV4" 6379 "${@:4}"
}

# Connections that ask and are answered; the last one's names are those of an attacker.
talk checkout checkout events 12 4096 checkout
talk reports reports events 3 200 reports
talk batch reports blocking 2 1000 batch
talk hostile '<img src=x onerror=pwned=1>&lt;' events 2 100 '<b>"&amp;'

many() # are all of them there?
{
	[ "$(ctl -j flows | grep -c '"id"')" -ge 19 ]
}
wait_for "$DEADLINE" "the connections are open" many

"$PYTHON" "$FILES/status_page.py" "http://127.0.0.1:$PORT/" "$BUILD/agent/shuntctl" \
	"$DIR/control.sock" "$CG" "$SPLICE" "${SHUNT_PAGE_SHOTS-}" "${PIDS[shuntd]}" ||
	fail "the status page"
FAREWELL="ok: the status page"
