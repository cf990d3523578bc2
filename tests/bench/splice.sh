#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# messages, streams and real programs: plain, REDIRECT, Shunt, Shunt spliced, Unix sockets
#
# All ways end at one address, 127.0.0.1:15001, or at a Unix socket. Each has a network namespace of
# its own, alike but for the rules in that of REDIRECT. Real programs go through HAProxy there, to a
# server on the same loopback; with Shunt all three are enrolled, so both hops can be spliced.
# Connections that Shunt has to leave alone are measured with it and after a detach. What watchers
# cost spliced ones is measured apart, by watched.py, with an agent of its own.
set -euo pipefail

usage()
{
	cat <<-END
		usage: scripts/bench splice [-q] [-p PARTS] [-w WAYS] [-c CPUS] [-r ROUNDS] [-l SECONDS]
		                            [-n CLIENTS] [-o FILE] [-s FILE]
		  -q  quick, within a minute: two rounds, a few sizes, one CPU (options after it win)
		  -p  parts, of "exchange stream nodelay program watched other" (all)
		  -w  ways, of "plain redirect shunt spliced unix" (all)
		  -c  all on one CPU (1), client and server on one each (2), or both in turn ("1 2")
		  -r  rounds (7, which take half an hour)
		  -l  how long a stream is (1.2)
		  -n  connections of the real programs' clients (16)
		  -o  keep what each round gave, as CSV
		  -s  draw the ratios, as SVG
	END
}

build=$1
shift
ways="plain redirect shunt spliced unix"
parts="exchange stream nodelay program watched other"
cpus="1 2" rounds=7 clients=16 output='' plot=''
exchange_sizes="64 256 1024 4096 16384 65536 262144 1048576"
stream_sizes=$exchange_sizes
nodelay_sizes="64 256 1024 4096"
other_sizes="64 4096 65536"
watched_sizes=$other_sizes
exchange_s=0.3 stream_s=1.2 other_s=0.2 program_s=2
redis_requests=(40000 400000) # without pipelining, and with
while getopts qp:w:c:r:l:n:o:s:h option; do
	case $option in
	q)
		cpus=1 rounds=2 exchange_s=0.15 other_s=0.1 program_s=1
		exchange_sizes="64 4096 65536" stream_sizes=1024 nodelay_sizes=""
		stream_s=1.05 redis_requests=(8000 80000) other_sizes=4096 watched_sizes=4096
		;;
	p) parts=$OPTARG ;;
	w) ways=$OPTARG ;;
	c) cpus=$OPTARG ;;
	r) rounds=$OPTARG ;;
	l) stream_s=$OPTARG ;;
	n) clients=$OPTARG ;;
	o) output=$OPTARG ;;
	s) plot=$OPTARG ;;
	h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
done
[ $# -lt "$OPTIND" ] || { usage >&2; exit 2; }

. "$(dirname "$(readlink -f "$0")")/../e2e/lib.sh"

SIDECAR=127.0.0.1:15001
ELSEWHERE=10.83.0.9 # where nobody is: what is not redirected does not connect
EXCLUDED=15002      # a port that Shunt leaves alone
NICED=(nice -n -20) # so that what else runs is in the way less
PINNED=("${NICED[@]}" taskset -c 0)

wanted() # WORD LIST
{
	[[ " $2 " == *" $1 "* ]]
}

# Of a list, those that are wanted too.
both() # LIST LIST
{
	for word in $1; do
		! wanted "$word" "$2" || printf '%s ' "$word"
	done
}

tcp_ways=$(both "plain redirect shunt spliced" "$ways")
shunt_ways=$(both "shunt spliced" "$ways")
for word in $ways; do
	wanted "$word" "plain redirect shunt spliced unix" || { usage >&2; exit 2; }
done
for word in $parts; do
	wanted "$word" "exchange stream nodelay program watched other" || { usage >&2; exit 2; }
done
if wanted 2 "$cpus" && [ "$(nproc)" = 1 ]; then
	echo "there is but one CPU: -c 1" >&2
	exit 2
fi

bench_free() # STATUS
{
	trap - EXIT INT TERM
	for way in $tcp_ways; do
		ip netns del "$ID-$way" 2>/dev/null || true
	done
	sandbox_free "$1"
}

# With the MTU that pods have, 1500: what REDIRECT turns to lo keeps to segments of that size.
netns_new() # NETNS
{
	ip netns add "$1"
	ip -n "$1" link add eth0 type veth peer name eth1
	netns_up "$1" "$APP4/24"
}

# Two meshes in one agent: that of "spliced" differs in nothing else.
meshes_write()
{
	config_write <<-END
		exclude_ports = $EXCLUDED
		splice = off
	END
	wanted spliced "$ways" || return 0
	mkdir "$CGROUP_ROOT$CG"/spliced-{app,proxy}
	cat >>"$DIR/shunt.ini" <<-END

		[mesh spliced]
		cgroups = $CG/spliced-app
		sidecar_cgroups = $CG/spliced-proxy
		tcp_redirect = 127.0.0.1:15001, [::1]:15001
		exclude_ports = $EXCLUDED
		splice = node
	END
}

# The cgroups of a way, one for programs and one for what stands for the sidecar.
place() # WAY: sets app_cgroup, proxy_cgroup
{
	case $1 in
	shunt) app_cgroup=app proxy_cgroup=proxy ;;
	spliced) app_cgroup=spliced-app proxy_cgroup=spliced-proxy ;;
	*) app_cgroup=outside proxy_cgroup=outside ;;
	esac
}

# Adds to the CSV file what a command gives for each way. A way's place changes with the round.
interleave() # PART CPUS CASE WAYS COMMAND…: the command is called with WAY CPUS at its end
{
	local list figures way i
	read -ra list <<<"$4"
	for ((i = 0; i < ${#list[@]}; i++)); do
		way=${list[(round + i) % ${#list[@]}]}
		figures=$("${@:5}" "$way" "$2")
		echo "$1,$2,$3,$round,$way,$figures" >>"$DIR/rounds.csv"
	done
}

pair_run() # NETNS CLIENT_CGROUP SERVER_CGROUP LISTEN DIAL CPUS OPTION…
{
	(enter host "$1" "${NICED[@]}" "$BUILD/tests/shunt-bench-splice" -c 0 -s $(($6 - 1)) \
		"${@:7}" "$CGROUP_ROOT$CG/$2" "$CGROUP_ROOT$CG/$3" "$4" "$5")
}

pair_measure() # KIND SIZE WAY CPUS
{
	local netns=$ID-$3 listen=$SIDECAR dial=$ELSEWHERE:80 options
	place "$3"
	case $3 in
	plain) dial=$SIDECAR ;;
	unix) netns=$APP listen=$DIR/socket dial=$DIR/socket ;;
	esac
	case $1 in
	exchange) options=(-d -t "$exchange_s") ;;
	stream) options=(-w -t "$stream_s") ;;
	nodelay) options=(-w -d -t "$stream_s") ;;
	esac
	pair_run "$netns" "$app_cgroup" "$proxy_cgroup" "$listen" "$dial" "$4" -m "$2" "${options[@]}"
}

pairs_measure()
{
	local count
	for count in $cpus; do
		! wanted exchange "$parts" || for size in $exchange_sizes; do
			interleave exchange "$count" "$size" "$ways" pair_measure exchange "$size"
		done
		! wanted stream "$parts" || for size in $stream_sizes; do
			interleave stream "$count" "$size" "$ways" pair_measure stream "$size"
		done
		! wanted nodelay "$parts" || for size in $nodelay_sizes; do
			interleave nodelay "$count" "$size" "$tcp_ways" pair_measure nodelay "$size"
		done
	done
}

servers_start()
{
	nginx_write nginx "master_process off;" "
		keepalive_requests 1000000000;
		server {
			listen 127.0.0.1:8080;
			location / { return 200 $(printf '%0500d' 0); }
		}"
	for way in $tcp_ways; do
		place "$way"
		spawn "nginx-$way" "$app_cgroup" "$ID-$way" "${PINNED[@]}" \
			nginx -c "$DIR/nginx.conf" -p "$DIR" -e stderr
		spawn "redis-$way" "$app_cgroup" "$ID-$way" "${PINNED[@]}" \
			redis-server --bind 127.0.0.1 --port 6379 --save "" --dir "$DIR"
		answered "nginx-$way" "$ID-$way" 8080
		answered "redis-$way" "$ID-$way" 6379
		# The very name of the key that redis-benchmark asks for.
		(enter outside "$ID-$way" redis-cli set key:__rand_int__ "$(printf '%064d' 0)") >/dev/null
	done
}

sidecars_start() # tcp|http PORT_BEHIND
{
	cat >"$DIR/haproxy.cfg" <<-END
		global
			nbthread 1
			maxconn 2000
		defaults
			mode $1
			timeout connect 10s
			timeout client 60s
			timeout server 60s
			$([ "$1" = tcp ] || echo http-reuse always)
		listen sidecar
			bind $SIDECAR
			server local 127.0.0.1:$2
	END
	for way in $tcp_ways; do
		place "$way"
		spawn "haproxy-$way" "$proxy_cgroup" "$ID-$way" "${PINNED[@]}" \
			haproxy -db -f "$DIR/haproxy.cfg"
		answered "haproxy-$way" "$ID-$way" 15001
	done
}

sidecars_stop()
{
	for way in $tcp_ways; do
		stop "haproxy-$way" KILL || true
	done
}

# What the cgroups of a way have used, in us.
cpu_used()
{
	local files=("$CGROUP_ROOT$CG/$app_cgroup/cpu.stat")
	[ "$app_cgroup" = "$proxy_cgroup" ] || files+=("$CGROUP_ROOT$CG/$proxy_cgroup/cpu.stat")
	awk '$1 == "usage_usec" { sum += $2 } END { print sum }' "${files[@]}"
}

redis_figures() # FILE CPU_US REQUESTS
{
	awk -F '","' -v cpu="$2" -v count="$3" '$1 == "\"GET" { rate = $2 }
		END { if (!rate) exit 1; print rate ",,," cpu * 1000 / count }' "$1"
}

wrk_figures() # FILE CPU_US
{
	awk -v cpu="$2" '/ requests in / { count = $1 } /^Requests.sec:/ { rate = $2 }
		/Non-2xx|Socket errors/ { wrong = 1 }
		END { if (!rate || wrong) exit 1; print rate ",,," cpu * 1000 / count }' "$1"
}

# With two CPUs, the second one is the sidecar's alone.
program_measure() # redis-PIPELINED|http WAY CPUS
{
	local host=$ELSEWHERE port=80 requests=${redis_requests[1]} command cpu
	[ "$2" != plain ] || host=${SIDECAR%:*} port=${SIDECAR#*:}
	[ "$1" != redis-1 ] || requests=${redis_requests[0]}
	case $1 in
	redis-*)
		command=(redis-benchmark --csv -t get -P "${1#redis-}" -n "$requests" -c "$clients"
			-h "$host" -p "$port")
		;;
	http) command=(wrk -t 1 -c "$clients" -d "${program_s}s" "http://$host:$port/") ;;
	esac
	place "$2"
	taskset -acp $(($3 - 1)) "${PIDS[haproxy-$2]}" >/dev/null
	cpu=$(cpu_used)
	(enter "$app_cgroup" "$ID-$2" "${PINNED[@]}" timeout 60 "${command[@]}") \
		>"$DIR/client.log" 2>&1 || return
	"${command[0]%-benchmark}_figures" "$DIR/client.log" $(($(cpu_used) - cpu)) "$requests"
}

programs_measure() # CASE CLIENT: all rounds of it
{
	local count
	for ((round = 0; round < rounds; round++)); do
		for count in $cpus; do
			interleave program "$count" "$1" "$tcp_ways" program_measure "$2"
		done
	done
}

other_measure() # PLACE exchange|stream SIZE WAY CPUS
{
	local client=outside listen=127.0.0.1:$EXCLUDED options=(-d)
	place "${shunt_ways##* }"
	case $1 in
	enrolled) client=$app_cgroup listen=$APP4:$EXCLUDED ;;
	enrolled-veth) client=$app_cgroup listen=$SRV4:$EXCLUDED ;;
	sidecar-veth) client=$proxy_cgroup listen=$SRV4:$EXCLUDED ;;
	esac
	[ "$2" = exchange ] || options=(-w)
	[[ $1 != *-veth ]] || options+=(-n "/run/netns/$SRV")
	pair_run "$APP" "$client" outside "$listen" "$listen" "$5" -m "$3" -t "$other_s" \
		"${options[@]}"
}

# On one CPU, where whatever is done more than before takes its time from both ends.
others_measure() # with|without
{
	local where kind size
	for kind in exchange stream; do
		for where in outside enrolled enrolled-veth sidecar-veth; do
			for size in $other_sizes; do
				interleave "other $kind" 1 "$where $size" "$1" \
					other_measure "$where" "$kind" "$size"
			done
		done
	done
}

# The agent is started or detached once a round: each round begins as the last one ended. With and
# without are seconds apart, so there are twice as many rounds, and short ones, to average over.
others_rounds()
{
	shunt_ways=${shunt_ways% }
	for ((round = 0; round < 2 * rounds; round++)); do
		if ((round % 2 == 0)); then
			others_measure with
			ctl detach >/dev/null
			wait "${PIDS[shuntd]}"
			others_measure without
		else
			others_measure without
			shuntd_start
			others_measure with
		fi
	done
}

# Each of our rounds is several pairs of short ones, which are compared.
watched_rounds()
{
	"$PYTHON" -B "$LIB/../bench/watched.py" "$BUILD" $((4 * rounds)) $watched_sizes \
		>>"$DIR/rounds.csv"
}

# If it is not so, the way's name would be a lie.
spliced_check() # COUNTER LEAST WHAT
{
	local count
	wanted spliced "$ways" || return 0
	count=$(counter "$1")
	[ "$count" -ge "$2" ] || fail "$3: $1 is $count, not $2 or more"
}

sandbox_new "$build"
trap 'bench_free $?' EXIT
for way in $tcp_ways; do
	netns_new "$ID-$way"
done
! wanted redirect "$ways" || nsenter --net="/run/netns/$ID-redirect" nft -f - <<-END
	table ip shunt_bench {
		chain output {
			type nat hook output priority -100;
			ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :15001
		}
	}
END
meshes_write
shuntd_start
echo "part,cpus,case,round,way,rate,p50_us,p99_us,cpu_ns" >"$DIR/rounds.csv"

for way in $ways; do
	pair_measure exchange 64 "$way" 1 >/dev/null # warms up
done
# The agent may have to look at the program first, and its connection is over soon.
for ((tries = 10; tries > 0; tries--)); do
	! wanted spliced "$ways" || [ "$(counter splice_bytes)" -lt 6400 ] || break
	pair_measure exchange 64 spliced 1 >/dev/null
done
spliced_check splice_bytes 6400 "a connection of the way spliced"
for ((round = 0; round < rounds; round++)); do
	pairs_measure
done
if wanted program "$parts"; then
	! wanted spliced "$ways" || paired=$(counter splice_paired)
	servers_start
	sidecars_start tcp 6379
	programs_measure "redis -P1" redis-1
	programs_measure "redis -P16" redis-16
	sidecars_stop
	for mode in tcp http; do
		sidecars_start "$mode" 8080
		programs_measure "wrk mode $mode" http
		sidecars_stop
	done
	spliced_check splice_paired $((${paired-0} + 2 * clients)) "programs of the way spliced"
	for way in $tcp_ways; do
		stop "nginx-$way" KILL || true
		stop "redis-$way" KILL || true
	done
fi
if wanted watched "$parts" && wanted spliced "$ways"; then
	watched_rounds
fi
if wanted other "$parts" && [ -n "$shunt_ways" ]; then
	others_rounds
fi

"$PYTHON" -B "$LIB/../bench/splice_report.py" "$DIR/rounds.csv"
[ -z "$output" ] || cp "$DIR/rounds.csv" "$output"
[ -z "$plot" ] || "$PYTHON" -B "$LIB/../bench/splice_plot.py" "$DIR/rounds.csv" "$plot"
