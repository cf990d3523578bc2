#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# What shuntd and shuntctl print and return, and whether `explain` tells what then happens.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
http_start
relay_start
SHUNTD=$BUILD/agent/shuntd
config_write <<-END
	dns_redirect = 127.0.0.1:15053
	include_ports = 53, 80-90, 500
	exclude_cidrs = 10.83.0.64/26,
	                fd83:0:0:9::/64
	exclude_ports = 85,
	                88-89
	exclude_uids = 4711
END

holds() # TEXT WORDS: one of its lines has them
{
	grep -qF -- "$2" <<<"$1" || fail "'$2' is not in: $1"
}

echo "--- without an agent"
holds "$(expect_failure 1 ctl status)" "is shuntd running?"
holds "$(expect_failure 1 ctl exec "$CG/app" -- touch "$DIR/ran")" "is shuntd running?"
[ ! -e "$DIR/ran" ] || fail "exec ran its command without an agent"
holds "$(expect_failure 2 ctl)" "which command?"
holds "$(expect_failure 2 ctl flow)" "there is no command 'flow'"
holds "$(expect_failure 2 ctl status more)" "usage: shuntctl"
holds "$(expect_failure 2 ctl explain 1)" "usage: shuntctl"
holds "$(expect_failure 2 ctl explain 1 10.0.0.1)" "'10.0.0.1' is no destination"
holds "$(expect_failure 2 ctl explain x 10.0.0.1:80)" "'x' is neither"
holds "$(expect_failure 2 ctl exec "$CG/app" true)" "usage: shuntctl"
holds "$(expect_failure 2 ctl -x status)" "shuntctl"
holds "$(ctl --help)" "explain PID|CGROUP DESTINATION"
holds "$(ctl --version)" "shuntctl "
for command in $(ctl --help | sed -n 's/^  \([a-z]\+\) .*/\1/p'); do
	holds "$(ctl "$command" --help)" "Usage: shuntctl [-s SOCKET] [-j] $command"
	expect "$command -h" "$(ctl "$command" --help)" "$(ctl "$command" -h)"
done
holds "$("$SHUNTD" --help)" "usage: shuntd"
holds "$("$SHUNTD" -h)" "usage: shuntd"
holds "$("$SHUNTD" --version)" "shuntd "
holds "$(expect_failure 2 "$SHUNTD" -c "$DIR/shunt.ini" more)" "unexpected 'more'"

echo "--- shuntd --check"
holds "$("$SHUNTD" -c "$DIR/shunt.ini" --check)" "no errors"
holds "$(expect_failure 1 "$SHUNTD" -c "$DIR/none.ini" --check)" "none.ini: cannot be opened"
cat >"$DIR/bad.ini" <<-'END'
	[agent]
	pin_dir = sub/dir
	colour = blue
	[mesh a]
	cgroups = /
	tcp_redirect = 127.0.0.1
	exclude_cidrs = 10.0.0.1/8
	[mash b]
END
bad=$(expect_failure 1 "$SHUNTD" -c "$DIR/bad.ini" --check)
expect "each mistake with its line" "2 3 4 5 6 7 8" \
	"$(sed -n 's/^.*bad\.ini:\([0-9]*\): .*/\1/p' <<<"$bad" | paste -sd ' ')"
holds "$bad" "unknown key 'colour'"
holds "$bad" "write 10.0.0.0/8"
{ printf '[limits]\nrules = 4\n' && cat "$DIR/shunt.ini"; } >"$DIR/many.ini"
holds "$("$SHUNTD" -c "$DIR/many.ini" --check)" "no errors"
sed -i 's/^rules = 4/rules = 2/' "$DIR/many.ini"
holds "$(expect_failure 1 "$SHUNTD" -c "$DIR/many.ini" --check)" "more rules than limits.rules = 2"
expect "a check leaves nothing" "" "$(ls "$DIR/bpf" | grep -v '\.debug$')"

echo "--- the agent"
spawn notified host - socat -u "UNIX-RECV:$DIR/notify" STDOUT
wait_for 5 "the notify socket is there" test -S "$DIR/notify"
export NOTIFY_SOCKET=$DIR/notify
shuntd_start
unset NOTIFY_SOCKET
wait_for 5 "shuntd says that it is ready" grep -q '^READY=1' "$DIR/notified.log"
holds "$(expect_failure 1 "$SHUNTD" -c "$DIR/shunt.ini")" "another agent is running"
holds "$(expect_failure 1 setpriv --reuid 65534 --regid 65534 --clear-groups \
	"$BUILD/agent/shuntctl" -s "$DIR/control.sock" status)" "root and group shunt may"

json() # EXPRESSION on the object o, which is on stdin
{
	"$PYTHON" -c 'import json, sys
o = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}

holds "$(ctl status)" "1 members, 1 sidecars"
expect "status -j" "{'known': 2, 'members': 1, 'sidecars': 1} 1 redirect ${PIDS[shuntd]} 0" \
	"$(ctl -j status | json 'f"""{o["cgroups"]} {o["meshes"]} {o["rung"]} {o["pid"]} {o["pairs"]}"""')"
expect "where it is attached" "$CG/app $CG/proxy" \
	"$(ctl -j status | json '" ".join(sorted(l["cgroup"] for l in o["links"]))')"
holds "$(ctl counters)" "connect_redirected"
expect "counters -j has names and integers" True \
	"$(ctl -j counters | json 'all(type(v) is int for v in o.values()) and len(o) > 40')"
for name in connect_seen connect_redirected connect_refused_sidecar_down \
	connect_bypassed_sidecar_down connect_unclassified; do
	expect "counter $name" 0 "$(counter "$name")"
done
holds "$(ctl meshes)" "127.0.0.1:15001, [::1]:15001"
expect "meshes -j" "[('test', 1, 1, 'refuse')]" "$(ctl -j meshes |
	json '[(m["name"], m["members"], m["sidecars"], m["on_sidecar_down"]) for m in o]')"
holds "$(ctl cgroups)" "shunt.ini:9: cgroups = $CG/app"
holds "$(ctl cgroups -a)" "shunt.ini:10: sidecar_cgroups = $CG/proxy"
expect "cgroups -j" "member sidecar" \
	"$(ctl -j cgroups | json '" ".join(sorted(c["role"] for c in o))')"
expect "cgroups -j has the id" "$(stat -c %i "$CGROUP_ROOT$CG/app")" \
	"$(ctl -j cgroups | json 'next(c["id"] for c in o if c["role"] == "member")')"

echo "--- explain, and what happens"
dial() # CGROUP PROTOCOL ADDRESS PORT
{
	(enter "$1" "$APP" bash -c 'exec 3<>"/dev/$1/$2/$3"' - "${@:2}") 2>/dev/null || true
}

explains() # OUTCOME RULE CGROUP PROTOCOL ADDRESS PORT; RULE is the end of the rule, "" for none
{
	local where=$5:$6 said
	[[ $5 = *:* ]] && where="[$5]:$6"
	said=$(ctl -j explain "$CG/$3" "$4:$where")
	expect "$3 to $4 $where" "$1" "$(json 'o["outcome"]' <<<"$said")"
	if [ -n "$2" ]; then
		holds "$said" "$2"
	else
		holds "$said" '"rule": null'
	fi
	ctl counters >"$DIR/before"
	dial "${@:3}"
	expect "and so it is" "connect_$1" \
		"$(counters_changed "$DIR/before" | grep -o '^connect_[^ ]*' | grep -v '^connect_seen$')"
}
spawn dns proxy "$APP" socat -u UDP4-RECV:15053,bind=127.0.0.1 STDOUT
explains redirected "shunt.ini:11: tcp_redirect = 127.0.0.1:15001" app tcp "$SRV4" 80
explains redirected "shunt.ini:11: tcp_redirect = [::1]:15001" app tcp "$SRV6" 80
explains redirected "dns_redirect = 127.0.0.1:15053" app udp "$SRV4" 53
explains no_address "" app udp "$SRV6" 53
explains not_dns "" app udp "$SRV4" 80
explains loopback "" app tcp 127.0.0.1 80
explains loopback "" app tcp ::1 80
explains excluded_cidr "shunt.ini:14: exclude_cidrs = 10.83.0.64/26" app tcp 10.83.0.70 80
explains excluded_cidr "shunt.ini:15: exclude_cidrs = fd83:0:0:9::/64" app tcp fd83:0:0:9::1 80
explains excluded_port "shunt.ini:16: exclude_ports = 85" app tcp "$SRV4" 85
explains excluded_port "shunt.ini:17: exclude_ports = 88-89" app tcp "$SRV4" 89
explains not_included "" app tcp "$SRV4" 91

spawn sleeper app "$APP" setpriv --reuid 4711 --clear-groups sleep 100
runs() # NAME COMMAND: has what spawn started become that command?
{
	grep -qx "$2" "/proc/${PIDS[$1]}/comm"
}
wait_for 5 "the sleeper sleeps" runs sleeper sleep
expect "a process of an excluded user" excluded_owner \
	"$(ctl -j explain "${PIDS[sleeper]}" "$SRV4:80" | json 'o["outcome"]')"
stop sleeper || true
expect "a cgroup in no mesh" not_enrolled \
	"$(ctl -j explain "$CG/outside" "$SRV4:80" | json 'o["outcome"]')"
expect "a cgroup by its directory" redirected \
	"$(ctl -j explain "$CGROUP_ROOT$CG/app" "$SRV4:80" | json 'o["outcome"]')"
expect "the sidecar itself" sidecar \
	"$(ctl -j explain "${PIDS[relay]}" "$SRV4:80" | json 'o["outcome"]')"
stop relay || true
spawn idle app "$APP" sleep 100
wait_for 5 "the idle program runs" runs idle sleep
expect "no sidecar" refused_sidecar_down \
	"$(ctl -j explain "${PIDS[idle]}" "$SRV4:80" | json 'o["outcome"]')"
relay_start
expect "a sidecar" redirected \
	"$(ctl -j explain "${PIDS[idle]}" "$SRV4:80" | json 'o["outcome"]')"
holds "$(ctl explain "$CG/app" "$SRV4:80")" "redirected to"
holds "$(expect_failure 1 ctl explain 4194305 "$SRV4:80")" "there is none"

echo "--- exec"
before=$(counter connect_redirected)
expect "exec in a cgroup that it makes" "hello from the server" \
	"$(ctl exec "$CG/app/made" -- nsenter --net="/run/netns/$APP" curl -sS "http://$SRV4/hello")"
expect "it is redirected" $((before + 1)) "$(counter connect_redirected)"
[ -d "$CGROUP_ROOT$CG/app/made" ] || fail "exec made no cgroup"
expect "exec in a cgroup by its directory" "0::$CG/app/made" \
	"$(ctl exec "$CGROUP_ROOT$CG/app/made/" -- cat /proc/self/cgroup | grep ^0::)"
expect_failure 7 ctl exec "$CG/app/made" -- sh -c 'exit 7'
holds "$(expect_failure 127 ctl exec "$CG/app/made" -- no-such-program)" no-such-program
holds "$(expect_failure 126 ctl exec "$CG/app/made" -- /etc/passwd)" /etc/passwd
holds "$(ctl exec "$CG/outside" -- true 2>&1)" "is in no mesh"
holds "$(expect_failure 2 ctl exec "$CG/../x" -- true)" "is not the path of a cgroup"

echo "--- reload"
cp "$DIR/shunt.ini" "$DIR/good.ini"
cp "$DIR/bad.ini" "$DIR/shunt.ini"
bad=$(expect_failure 1 ctl reload)
holds "$bad" "shunt.ini:3: unknown key 'colour'"
holds "$bad" "shunt.ini:8: unknown section"
explains redirected "tcp_redirect" app tcp "$SRV4" 80
sed 's/^exclude_ports = 85/exclude_ports = 80, 85/' "$DIR/good.ini" >"$DIR/shunt.ini"
expect "reload -j" 1 "$(ctl -j reload | json 'o["meshes"]')"
explains excluded_port "exclude_ports = 80" app tcp "$SRV4" 80
reloaded() # TIMES: so often the log says so
{
	[ "$(grep -c "reloaded $DIR/shunt.ini" "$DIR/shuntd.log")" = "$1" ]
}
reloaded 1 || fail "the log does not have the reload, and it alone"
cp "$DIR/good.ini" "$DIR/shunt.ini"
kill -HUP "${PIDS[shuntd]}"
wait_for 5 "SIGHUP reloads" reloaded 2
explains redirected "tcp_redirect" app tcp "$SRV4" 80

echo "--- detach"
expect "detach -j" None "$(ctl -j detach | json o)"
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
holds "$(expect_failure 1 ctl detach)" "is shuntd running?"

echo "--- what is not UTF-8"
latin=$DIR/$'caf\xe9.ini'
cp "$DIR/good.ini" "$latin"
spawn shuntd host - "$SHUNTD" -c "$latin"
wait_for 180 "shuntd answers" ctl counters
holds "$(ctl status)" 'caf\xe9.ini'
holds "$(ctl cgroups)" 'caf\xe9.ini:9: cgroups'
printf 'caf\xe9 = 1\n' >>"$latin"
holds "$(expect_failure 1 ctl reload)" "caf\\xe9.ini:19: unknown key 'caf\\xe9'"
ctl detach >/dev/null
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
