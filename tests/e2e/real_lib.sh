# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash disable=SC2034
#
# What the tests with real programs add to lib.sh. Program, sidecar and server are all in cgroups of
# the mesh, and all on this host, so with `splice = node` every connection between them may be
# spliced. SHUNT_SPLICE=off runs the same without: then nothing is expected of the splice counters.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SPLICE=${SHUNT_SPLICE-node}
SERVED=$SRV4:80
DEADLINE=$((60 * PATIENCE)) # seconds: what takes longer hangs

need() # PROGRAM…
{
	local program
	for program; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

# What is on stdin is added to the mesh.
mesh_start()
{
	{ echo "splice = $SPLICE"; cat; } | config_write
	shuntd_start
}

# A server is in the cgroup `app` too, but on the other side of the link.
server_start() # NAME PORT COMMAND…
{
	spawn "$1" app "$SRV" "${@:3}"
	answered "$1" "$SRV" "$2"
}

# The sidecar, in the pod of the program.
sidecar_start() # NAME COMMAND…
{
	spawn "$1" proxy "$APP" "${@:2}"
	answered "$1" "$APP" 15001
}

# HAProxy as the sidecar of everything that goes over IPv4.
haproxy_start()
{
	cat >"$DIR/haproxy.cfg" <<-END
		global
			maxconn 500
		defaults
			mode tcp
			timeout connect 5s
			timeout client ${DEADLINE}s
			timeout server ${DEADLINE}s
		listen ipv4
			bind 127.0.0.1:15001
			server original 0.0.0.0:0
	END
	sidecar_start haproxy haproxy -db -f "$DIR/haproxy.cfg"
}

# nginx at $SERVED: it gives the files of $DIR/www, and keeps there what is PUT to /put/NAME. What
# is on stdin is added to its server.
files_start()
{
	mkdir -p "$DIR/www/put"
	nginx_write files "worker_processes 2;" "
		sendfile on;
		client_max_body_size 0;
		server {
			listen $SERVED;
			root $DIR/www;
			location /put/ { dav_methods PUT; }
			$(cat)
		}"
	server_start files 80 nginx -c "$DIR/files.conf" -p "$DIR" -e stderr
}

file_make() # NAME BYTES: in $DIR/www, nothing that repeats
{
	mkdir -p "$DIR/www"
	head -c "$2" /dev/urandom >"$DIR/www/$1"
}

# A file as curl gets it through the sidecar.
download() # NAME [CURL OPTION…]
{
	local got
	got=$(mktemp "$DIR/got-XXXXXX")
	app curl -sS --fail --max-time "$DEADLINE" -o "$got" "${@:2}" "http://$SERVED/$1" ||
		fail "$1 does not arrive: $(stat -c %s "$got") of $(stat -c %s "$DIR/www/$1") bytes"
	cmp "$got" "$DIR/www/$1" || fail "$1 is not what the server has"
	rm "$got"
}

upload() # NAME [CURL OPTION…]
{
	local put
	put=put/$1-$BASHPID
	app curl -sS --fail --max-time "$DEADLINE" -o /dev/null -T "$DIR/www/$1" "${@:2}" \
		"http://$SERVED/$put" || fail "$1 cannot be sent"
	cmp "$DIR/www/$put" "$DIR/www/$1" || fail "$1 is not what was sent"
	rm "$DIR/www/$put"
}

# Runs these at the same time; all of them have to succeed.
together() # COMMAND [: COMMAND]…
{
	local pids=() command=() word pid
	for word in "$@" :; do
		if [ "$word" != : ]; then
			command+=("$word")
			continue
		fi
		("${command[@]}") &
		pids+=($!)
		command=()
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "one of these at the same time: $*"
	done
}

# Prints the counters of splicing that have counted, and demands that these have; or, where the
# kernel cannot, that all connections were plain for that.
expect_counted() # COUNTER…
{
	local name
	ctl counters | awk '$1 ~ /^splice_/ && $2 > 0'
	[ "$SPLICE" != off ] || return 0
	splices || set -- splice_plain_kernel
	for name; do
		[ "$(counter "$name")" -gt 0 ] || fail "$name is 0"
	done
}
