# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash disable=SC2034
#
# What the end-to-end tests are built of. `. lib.sh; sandbox_new BUILD_DIR` makes, named after the
# script and its pid,
#
#   cgroups             $CG/app, proxy (the sidecar), outside (in no mesh), host (all else)
#   network namespaces  $APP: a program and its sidecar, as in a pod; $SRV: the servers
#   a directory         $DIR with a bpffs in $DIR/bpf, the configuration, and a log per process
#
# and takes all of it away when the script ends, however it ends. Nothing outside is touched.
set -euo pipefail

LIB=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
PYTHON=/usr/bin/python3 # of Debian, whatever else PATH may lead to
PATIENCE=${SHUNT_TESTS_PATIENCE:-1} # how many times as long an emulated processor takes
PATH+=:/usr/sbin:/sbin
APP4=10.83.0.2 SRV4=10.83.0.1
APP6=fd83::2 SRV6=fd83::1
declare -A PIDS=()

fail()
{
	echo "FAIL $(basename "${BASH_SOURCE[-1]}"):${BASH_LINENO[-2]}: $*" >&2
	exit 1
}

skip()
{
	echo "SKIP: $*"
	exit 77
}

expect() # WHAT WANTED GOT
{
	[ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
	echo "ok: $1"
}

expect_failure() # STATUS COMMAND…: its stderr goes to stdout
{
	local status=0
	"${@:2}" 2>&1 || status=$?
	[ "$status" = "$1" ] || fail "${*:2}: expected exit status $1, got $status"
}

wait_for() # SECONDS WHAT COMMAND…
{
	local end=$((SECONDS + $1 * PATIENCE))
	until "${@:3}" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "waited in vain until $2"
		sleep 0.05
	done
}

sandbox_new() # BUILD_DIR
{
	[ $# -eq 1 ] || { echo "usage: $0 BUILD_DIR" >&2; exit 2; }
	BUILD=$(readlink -f "$1")
	[ "$(id -u)" = 0 ] || skip "needs root"
	CGROUP_ROOT=$(findmnt -nt cgroup2 -o TARGET | head -n 1)
	[ -n "$CGROUP_ROOT" ] || skip "no cgroup2 is mounted"

	ID=shunt-$(basename "$0" .sh)-$$
	CG=/$ID
	APP=$ID-app
	SRV=$ID-srv
	DIR=$(mktemp -d "${TMPDIR:-/tmp}/$ID-XXXXXX")
	trap 'sandbox_free $?' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM

	mkdir "$CGROUP_ROOT$CG" "$CGROUP_ROOT$CG"/{app,proxy,outside,host} "$DIR/bpf"
	mount -t bpf none "$DIR/bpf"
	ip netns add "$APP"
	ip netns add "$SRV"
	ip -n "$APP" link add eth0 type veth peer name eth0 netns "$SRV"
	netns_up "$APP" "$APP4/24" "$APP6/64"
	netns_up "$SRV" "$SRV4/24" "$SRV6/64"
}

netns_up() # NETNS ADDRESS…
{
	local netns=$1 address
	ip -n "$netns" link set lo up
	ip -n "$netns" link set eth0 up
	for address in "${@:2}"; do
		case $address in
		*:*) ip -n "$netns" address add "$address" dev eth0 nodad ;;
		*) ip -n "$netns" address add "$address" dev eth0 ;;
		esac
	done
}

sandbox_free() # STATUS
{
	local status=$1 log left
	trap - EXIT INT TERM
	trap "" PIPE
	set +e
	if [[ ! $status =~ ^(0|77|130)$ ]]; then
		for log in "$DIR"/*.log; do
			[ -s "$log" ] && { echo "--- $(basename "$log")"; tail -n 20 "$log"; }
		done >&2
	fi
	bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
	exec 9>&2 2>/dev/null # bash would say of each process that it was killed
	jobs -p | xargs -r kill # what the script does beside itself is not in there
	echo 1 >"$CGROUP_ROOT$CG/cgroup.kill"
	wait
	cgroup_remove "$CG"
	rm -rf "$DIR/bpf/shunt" # a copy of the mount in another mount namespace would keep its pins
	umount "$DIR/bpf"
	ip netns del "$APP"
	ip netns del "$SRV"
	left=$(bpf_left "$DIR/objects")
	left+=$(ip netns list | grep -F "$ID"; grep -F "$DIR" /proc/self/mounts)
	[ -d "$CGROUP_ROOT$CG" ] && left+=" cgroup $CG"
	rm -rf --one-file-system "$DIR"
	[ -e "$DIR" ] && left+=" $DIR"
	if [ -n "$left" ]; then
		echo "FAIL: left behind: $left" >&9
		[ "$status" = 0 ] && status=1
	fi
	[ "$status" = 0 ] && [ -n "${FAREWELL-}" ] && echo "$FAREWELL"
	exit "$status"
}

cgroup_remove() # PATH: the cgroup and those in it, as soon as they are empty
{
	local end=$((SECONDS + 10 * PATIENCE))
	[ -d "$CGROUP_ROOT$1" ] || return 0
	while ! find "$CGROUP_ROOT$1" -depth -type d -exec rmdir {} + 2>/dev/null; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# Runs a command in place of the (sub)shell.
enter() # CGROUP NETNS|- COMMAND…
{
	echo "$BASHPID" >"$CGROUP_ROOT$CG/$1/cgroup.procs"
	[ "$2" = - ] && exec "${@:3}"
	exec nsenter --net="/run/netns/$2" -- "${@:3}"
}

app() # COMMAND…: an enrolled program
{
	(enter app "$APP" "$@")
}

outside() # COMMAND…: the same beside it, in no mesh
{
	(enter outside "$APP" "$@")
}

spawn() # NAME CGROUP NETNS|- COMMAND…: in the background, output to $DIR/NAME.log
{
	: >>"$DIR/$1.log"
	(enter "${@:2}") >>"$DIR/$1.log" 2>&1 </dev/null &
	PIDS[$1]=$!
}

running() # NAME
{
	kill -0 "${PIDS[$1]}" 2>/dev/null
}

stop() # NAME [SIGNAL]: ends a process of spawn's and returns its exit status
{
	local pid=${PIDS[$1]}
	unset "PIDS[$1]"
	kill "-${2:-TERM}" "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null
}

listening() # NETNS PORT
{
	[ -n "$(nsenter --net="/run/netns/$1" ss -Hltn "sport = :$2")" ]
}

answered() # NAME NETNS PORT: waits until what spawn started listens
{
	local end=$((SECONDS + 10 * PATIENCE))
	until listening "$2" "$3"; do
		running "$1" || fail "$1 ended: $(tail -n 3 "$DIR/$1.log")"
		[ "$SECONDS" -lt "$end" ] || fail "$1 does not listen on port $3"
		sleep 0.05
	done
}

relay_start() # [OPTION…]
{
	spawn relay proxy "$APP" "$BUILD/tests/shunt-relay" -l 127.0.0.1:15001 -l '[::1]:15001' "$@"
	answered relay "$APP" 15001
}

nginx_write() # NAME PROCESSES HTTP: writes $DIR/NAME.conf, with which nginx keeps to $DIR
{
	cat >"$DIR/$1.conf" <<-END
		daemon off;
		user root;
		pid $DIR/$1.pid;
		error_log stderr;
		$2
		events { }
		http {
			access_log off;
			client_body_temp_path $DIR/$1-body;
			proxy_temp_path $DIR/$1-proxy;
			fastcgi_temp_path $DIR/$1-proxy;
			uwsgi_temp_path $DIR/$1-proxy;
			scgi_temp_path $DIR/$1-proxy;
			$3
		}
	END
}

http_start() # the directory $DIR/www on port 80
{
	mkdir -p "$DIR/www"
	[ -e "$DIR/www/hello" ] || echo "hello from the server" >"$DIR/www/hello"
	nginx_write nginx "master_process off;" \
		"server { listen $SRV4:80; listen [$SRV6]:80; root $DIR/www; }"
	spawn nginx host "$SRV" nginx -c "$DIR/nginx.conf" -p "$DIR" -e stderr
	answered nginx "$SRV" 80
}

# Writes $DIR/shunt.ini: one mesh, and what is on stdin at its end.
config_write()
{
	cat >"$DIR/shunt.ini" <<-END
		[agent]
		cgroup_root = $CGROUP_ROOT
		pin_dir = $DIR/bpf/shunt
		control_socket = $DIR/control.sock
		metrics_listen =
		log_level = info

		[mesh test]
		cgroups = $CG/app
		sidecar_cgroups = $CG/proxy
		tcp_redirect = 127.0.0.1:15001, [::1]:15001
	END
	cat >>"$DIR/shunt.ini"
}

shuntd_start()
{
	local end=$((SECONDS + 180 * PATIENCE))
	[ -e "$DIR/shunt.ini" ] || config_write </dev/null
	spawn shuntd host "${SHUNTD_NETNS:--}" "$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
	until ctl status >/dev/null 2>&1; do
		running shuntd || fail "shuntd ended: $(tail -n 3 "$DIR/shuntd.log")"
		[ "$SECONDS" -lt "$end" ] || fail "shuntd does not answer; it is in:" \
			"$(cat "/proc/${PIDS[shuntd]}"/{wchan,stack} 2>&1)"
		sleep 0.05
	done
}

ctl() # COMMAND…
{
	"$BUILD/agent/shuntctl" -s "$DIR/control.sock" "$@"
}

# Does it splice what its mesh wants spliced? It may say no for a kernel that is known not to be
# able to, and for no other.
splices()
{
	local says
	says=$(ctl -j status | PYTHONPATH=$LIB/../kernel "$PYTHON" -c 'import case, json, sys
print(case.splices(json.load(sys.stdin)))') || fail "$(ctl status)"
	[ "$says" = True ]
}

counter() # NAME
{
	ctl -j counters | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

counters_changed() # FILE, an earlier output of `ctl counters`: the lines that are others now
{
	ctl counters | awk 'NR == FNR { before[$1] = $2; next } before[$1] != $2' "$1" -
}

relayed() # COUNT: has the relay been sent so many connections?
{
	[ "$(grep -c ^accepted "$DIR/relay.log")" = "$1" ]
}

# What an agent has in the kernel, found by way of the maps that it pinned: "prog 12", a line each.
bpf_objects() # PIN_DIR
{
	[ -d "$1" ] || return 0
	"$PYTHON" - "$1" <<-'END'
		import glob, json, os, subprocess, sys

		def bpftool(*arguments):
		    out = subprocess.check_output(["bpftool", "--json", *arguments])
		    return json.loads(out)

		pins = glob.glob(os.path.join(sys.argv[1], "v*", "[mp]*", "*"))
		maps = {bpftool("map", "show", "pinned", pin)["id"] for pin in pins}
		progs = [p for p in bpftool("prog", "show") if maps & set(p.get("map_ids", []))]
		ids = {p["id"] for p in progs}
		for number in maps.union(*(p["map_ids"] for p in progs)):
		    print("map", number)
		for number in ids:
		    print("prog", number)
		for link in bpftool("link", "show"):
		    if link["prog_id"] in ids:
		        print("link", link["id"])
	END
}

# Those of a list of bpf_objects's that are there still, some time after they were let go: the
# kernel frees them a moment after their last user is gone.
bpf_left() # FILE
{
	local kind number end=$((SECONDS + 5 * PATIENCE))
	while read -r kind number; do
		while bpftool "$kind" show id "$number" >/dev/null 2>&1; do
			[ "$SECONDS" -lt "$end" ] || { echo "$kind $number"; break; }
			sleep 0.05
		done
	done <"$1"
}
