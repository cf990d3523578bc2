#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Where programs cannot be had nftables redirects, by the same configuration: in the namespaces of
# enrolled cgroups and nowhere else, through reloads, crashes and other people's rules, and nothing
# is left of it in the end.
. "$(dirname "$0")/lib.sh"
command -v nft >/dev/null || skip "nft is not installed"
sandbox_new "$@"
PROBE=("$PYTHON" "$LIB/probe.py")

# Attaching to connect4 is refused, which number 10 of linux/bpf.h stands for.
shuntd_start_poor() # [WORD…]: what is withheld beside it
{
	local end=$((SECONDS + 20 * PATIENCE))
	spawn shuntd host - env SHUNT_WITHHOLD="attach_type=10 $*" \
		LD_PRELOAD="$BUILD/tests/libshunt-withhold.so" \
		"$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
	until ctl status >/dev/null 2>&1; do
		running shuntd || fail "shuntd ended: $(tail -n 3 "$DIR/shuntd.log")"
		[ "$SECONDS" -lt "$end" ] || fail "shuntd does not answer"
		sleep 0.05
	done
}

ruleset() # NETNS, but for handles and counters
{
	nsenter --net="/run/netns/$1" nft --stateless list ruleset
}

tabled() # NETNS
{
	nsenter --net="/run/netns/$1" nft list chain inet shunt output >/dev/null 2>&1
}

status() # KEY
{
	ctl -j status | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

fetch() # HOST…, in the program's cgroup
{
	app curl -sS -m $((5 * PATIENCE)) -o /dev/null -w '%{http_code}\n' "http://$1${2-}/hello" 2>&1
}

accepted() # connections that the relay was given
{
	grep -c ^accepted "$DIR/relay.log" || true
}

relayed_by() # COMMAND…: how many connections of it does the relay get?
{
	local before
	before=$(accepted)
	"$@" >"$DIR/fetched" || true
	[ "$(tail -n 1 "$DIR/fetched")" = 200 ] || fail "$*: $(cat "$DIR/fetched")"
	echo $(($(accepted) - before))
}

http_start
# What others have stays as it is, tables of the same hook among them.
nsenter --net="/run/netns/$APP" nft -f - <<-END
	table ip theirs {
		chain output { type nat hook output priority -100; ip daddr 10.99.0.1 dnat to 10.99.0.2; }
	}
END
for netns in "$APP" "$SRV"; do ruleset "$netns" >"$DIR/before-$netns"; done

rules() # [LINE…]: the configuration
{
	printf '%s\n' "dns_redirect = 127.0.0.1:15053, [::1]:15053" "sidecar_uids = 4700" \
		"sidecar_gids = 4701" "exclude_uids = 4702" "exclude_gids = 4703" "$@" | config_write
	sed -i 's/^log_level = .*/&\nfallback = nftables/' "$DIR/shunt.ini"
}

LISTENERS=(-l "$APP4:15006" -l "[$APP6]:15006")
relay_start -v "${LISTENERS[@]}"
rules
shuntd_start_poor
expect "the rung" nftables "$(status rung)"
case $(status rung_why) in
*"programs could not be attached"* | *"could not be put in force"*) ;;
*) fail "no reason is given: $(status rung_why)" ;;
esac
ctl status | grep -q '^no higher rung ' || fail "status does not say why"
wait_for 10 "the program's namespace has the table" tabled "$APP"
tabled "$SRV" && fail "a namespace without enrolled programs has the table"
expect "one namespace" 1 "$(status network_namespaces)"
for command in counters flows; do
	expect_failure 1 ctl $command >"$DIR/refusal"
	grep -q 'rung nftables' "$DIR/refusal" || fail "$command: $(cat "$DIR/refusal")"
done
[ "$(ctl cgroups | grep -c "$CG/")" = 2 ] || fail "cgroups: $(ctl cgroups)"
echo "ok: it says so"

expect "IPv4 is redirected" 1 "$(relayed_by fetch "$SRV4")"
grep -q "^accepted .*$SRV4" "$DIR/relay.log" || fail "the sidecar was not told: $(cat "$DIR/relay.log")"
expect "IPv6 is redirected" 1 "$(relayed_by fetch "[$SRV6]")"
expect "IPv4-mapped too" 1 "$(relayed_by fetch "[::ffff:$SRV4]")"
expect "outside is not" 0 "$(relayed_by outside curl -sS -m $((5 * PATIENCE)) -o /dev/null -w '%{http_code}\n' "http://$SRV4/hello")"
as() # UID GID
{
	app setpriv --reuid "$1" --regid "$2" --clear-groups \
		curl -sS -m $((5 * PATIENCE)) -o /dev/null -w '%{http_code}\n' "http://$SRV4/hello"
}
expect "the sidecar's user is exempt" 0 "$(relayed_by as 4700 0)"
expect "the sidecar's group is exempt" 0 "$(relayed_by as 0 4701)"
expect "an excluded user" 0 "$(relayed_by as 4702 0)"
expect "an excluded group" 0 "$(relayed_by as 0 4703)"
expect "another user" 1 "$(relayed_by as 4710 4710)"

spawn dnstcp proxy "$APP" "${PROBE[@]}" server "DNS sidecar" 127.0.0.1/15053 ::1/15053
spawn dnsudp proxy "$APP" "${PROBE[@]}" dns 127.0.0.1/15053 ::1/15053
answered dnstcp "$APP" 15053
udp_bound()
{
	[ "$(nsenter --net="/run/netns/$APP" ss -Hlun "sport = :15053" | wc -l)" = 2 ]
}
wait_for 5 "the DNS sidecar runs" udp_bound
ask() # FAMILY TYPE SERVER: what answers, by UDP or TCP on port 53
{
	app "$PYTHON" - "$@" <<-'END'
		import socket, sys

		family, kind, server = sys.argv[1:]
		sock = socket.socket(getattr(socket, family), getattr(socket, kind))
		sock.settimeout(5)
		if kind == "SOCK_DGRAM":
		    sock.sendto(b"question", (server, 53))
		    print("answered by", sock.recvfrom(512)[1][0])
		else:
		    sock.connect((server, 53))
		    print("connected to", sock.getpeername()[0])
	END
}
expect "DNS by UDP" "answered by $SRV4" "$(ask AF_INET SOCK_DGRAM "$SRV4")"
expect "DNS by UDP over IPv6" "answered by $SRV6" "$(ask AF_INET6 SOCK_DGRAM "$SRV6")"
expect "DNS by TCP" "connected to $SRV4" "$(ask AF_INET SOCK_STREAM "$SRV4")"

spawn local host "$APP" "${PROBE[@]}" server "on loopback" 127.0.0.1/8080
answered local "$APP" 8080
before=$(accepted)
app "$PYTHON" -c 'import socket; socket.create_connection(("127.0.0.1", 8080), 5)'
expect "loopback is left alone" "$before" "$(accepted)"

# A reload, and cgroups that come and go.
rules "exclude_cidrs = $SRV4, $SRV4/32, 192.168.0.0/16, fd00::/16" "exclude_ports = 443, 440-450"
sed -i "s|^cgroups = .*|&, !$CG/app/out|" "$DIR/shunt.ini"
ctl reload >/dev/null
expect "excluded by address since the reload" 0 "$(relayed_by fetch "$SRV4")"
expect "but not this family" 1 "$(relayed_by fetch "[$SRV6]")"
mkdir "$CGROUP_ROOT$CG/app/out" "$CGROUP_ROOT$CG/app/in"
let_go() # COUNT of cgroups that the table lets go: the sidecar's is one
{
	[ "$(nsenter --net="/run/netns/$APP" nft list table inet shunt | grep -o ' : return' | wc -l)" = "$1" ]
}
within() # CGROUP
{
	(enter "$1" "$APP" curl -sS -m $((5 * PATIENCE)) -o /dev/null -w '%{http_code}\n' "http://[$SRV6]/hello")
}
wait_for 20 "the rules know the cgroup that came" let_go 2
expect "taken out by '!'" 0 "$(relayed_by within app/out)"
expect "one below is what it is" 1 "$(relayed_by within app/in)"
rmdir "$CGROUP_ROOT$CG/app/out"
wait_for 20 "the rules forget the cgroup that went" let_go 1
before=$(ruleset "$APP")
echo "fallback = none" >>"$DIR/shunt.ini"
expect_failure 1 ctl reload >/dev/null
expect "a mistake changes nothing" "$before" "$(ruleset "$APP")"
rules "on_sidecar_down = bypass" "include_ports = 80"
ctl reload >/dev/null
ctl status | grep -q 'on_sidecar_down = bypass cannot be had' || fail "nothing is said of bypass"
expect "included by port" 1 "$(relayed_by fetch "$SRV4")"
refused() # HOST: is there nobody to connect to? curl says so by 7.
{
	local status=0
	app curl -s -m $((5 * PATIENCE)) "http://$1/" >/dev/null || status=$?
	[ "$status" = 7 ]
}
refused "$SRV4:81" || fail "a port that is not included does not go to the server itself"

rules
sed -i "s/^tcp_redirect = .*/tcp_redirect = $APP4:15006, [$APP6]:15006/" "$DIR/shunt.ini"
ctl reload >/dev/null
expect "a sidecar that is not on loopback" 1 "$(relayed_by fetch "$SRV4")"
expect "nor over IPv6" 1 "$(relayed_by fetch "[$SRV6]")"
grep -c "original $SRV4" "$DIR/relay.log" >/dev/null || fail "the sidecar was not told: $(cat "$DIR/relay.log")"
rules "on_sidecar_down = bypass" "include_ports = 80"
ctl reload >/dev/null

# Who flushes all rules is made good.
nsenter --net="/run/netns/$APP" nft delete table inet shunt
wait_for 20 "a table that was removed is back" tabled "$APP"
expect "redirected again" 1 "$(relayed_by fetch "$SRV4")"

# Nobody is asked by rules whether the sidecar listens: TCP itself refuses.
stop relay || true
refused "$SRV4" || fail "without a sidecar: not refused"
echo "ok: without a sidecar connections are refused"
spawn keeper app "$APP" sleep infinity
outcome() # NAME of a process
{
	ctl -j explain "${PIDS[$1]}" "$SRV4:80" | sed -n 's/.*"outcome": "\(.*\)".*/\1/p'
}
wait_for 10 "explain says so" eval '[ "$(outcome keeper)" = refused_sidecar_down ]'
expect "explain, of the sidecar" sidecar "$(outcome dnstcp)"
relay_start -v
expect "used as soon as it listens" 1 "$(relayed_by fetch "$SRV4")"

# Killed, it leaves the table, and the next takes it over.
stop shuntd KILL || true
expect "in force without an agent" 1 "$(relayed_by fetch "$SRV4")"
shuntd_start_poor
expect "in force with the next" 1 "$(relayed_by fetch "$SRV4")"
stop shuntd || true
tabled "$APP" || fail "an agent that ends takes its table along"
# A second start cannot end well, and must not harm what is in force.
mkdir "$DIR/occupied.sock"
sed "s|^control_socket = .*|control_socket = $DIR/occupied.sock|" "$DIR/shunt.ini" >"$DIR/second.ini"
SHUNT_WITHHOLD="attach_type=10" LD_PRELOAD="$BUILD/tests/libshunt-withhold.so" \
	expect_failure 1 "$BUILD/agent/shuntd" -c "$DIR/second.ini" >/dev/null
tabled "$APP" || fail "a start that failed took the earlier agent's table along"
echo "ok: in force without an agent, and with one that fails"

# A table that is another agent's is not touched.
shuntd_start_poor
sed -e "s|^pin_dir = .*|pin_dir = $DIR/bpf/other|" -e "s|^control_socket = .*|control_socket = $DIR/other.sock|" \
	"$DIR/shunt.ini" >"$DIR/other.ini"
before=$(ruleset "$APP")
spawn other host - env SHUNT_WITHHOLD="attach_type=10" \
	LD_PRELOAD="$BUILD/tests/libshunt-withhold.so" "$BUILD/agent/shuntd" -c "$DIR/other.ini"
wait_for 10 "the other agent says that the table is not its own" grep -q 'File exists' "$DIR/other.log"
stop other || true
expect "another agent's table" "$before" "$(ruleset "$APP")"
rm -rf "$DIR/bpf/other"

ctl detach >/dev/null
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
for netns in "$APP" "$SRV"; do
	expect "detached, all is as before in $netns" "$(cat "$DIR/before-$netns")" "$(ruleset "$netns")"
done
expect "no redirection after it" 0 "$(relayed_by fetch "$SRV4")"

# Left in force by an agent that was poor, removed by one that is not.
shuntd_start_poor
wait_for 10 "the table is there" tabled "$APP"
stop shuntd KILL || true
shuntd_start
expect "a higher rung" redirect "$(status rung)"
expect "leaves no table" "$(cat "$DIR/before-$APP")" "$(ruleset "$APP")"
expect "and redirects" 1 "$(relayed_by fetch "$SRV4")"
ctl detach >/dev/null
wait "${PIDS[shuntd]}"

# No netlink, no rules: then it fails, or is off.
spawn shuntd host - env SHUNT_WITHHOLD="attach_type=10 netfilter" \
	LD_PRELOAD="$BUILD/tests/libshunt-withhold.so" "$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
wait "${PIDS[shuntd]}" && fail "it stays without anything that redirects"
grep -q 'not by nftables either' "$DIR/shuntd.log" || fail "it does not say that nftables failed"
sed -i 's/^fallback = .*/fallback = off/' "$DIR/shunt.ini"
shuntd_start_poor netfilter
expect "the lowest rung" off "$(status rung)"
ctl detach >/dev/null
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
expect "nothing is left" "$(cat "$DIR/before-$APP")" "$(ruleset "$APP")"
