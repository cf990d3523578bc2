#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# connections per second: plain, through nftables' REDIRECT, through Shunt
#
# All three end at a listener on 127.0.0.1:15001. Each has a network namespace of its own, alike but
# for the rules in that of REDIRECT: neither these nor conntrack are in the way of the other two.
set -euo pipefail

usage()
{
	cat <<-END
		usage: scripts/bench connect [-1] [-n CONNECTIONS] [-r ROUNDS] [-o FILE]
		  -1  client and server on one CPU; without it, on one each
		  -n  connections in a round (5000)
		  -r  rounds of each way (15)
		  -o  keep what each round gave, as CSV
	END
}

build=$1
shift
connections=5000 rounds=15 output=
server_cpu=$(($(nproc) > 1))
while getopts 1n:r:o:h option; do
	case $option in
	1) server_cpu=0 ;;
	n) connections=$OPTARG ;;
	r) rounds=$OPTARG ;;
	o) output=$OPTARG ;;
	h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
done
[ $# -lt "$OPTIND" ] || { usage >&2; exit 2; }

. "$(dirname "$(readlink -f "$0")")/../e2e/lib.sh"

WAYS=(plain redirect shunt)
SIDECAR=127.0.0.1:15001
ELSEWHERE=10.83.0.9:80 # where nobody is: what is not redirected does not connect

bench_free() # STATUS
{
	trap - EXIT INT TERM
	for way in "${WAYS[@]}"; do
		ip netns del "$ID-$way" 2>/dev/null || true
	done
	sandbox_free "$1"
}

netns_new() # NETNS
{
	ip netns add "$1"
	ip -n "$1" link add eth0 type veth peer name eth1
	netns_up "$1" "$APP4/24"
	nsenter --net="/run/netns/$1" sysctl -qw net.ipv4.ip_local_port_range="1024 65535"
}

bench_round() # WAY; niced, so that what else runs is in the way less
{
	local client=outside server=outside dial=$ELSEWHERE
	case $1 in
	plain) dial=$SIDECAR ;;
	shunt) client=app server=proxy ;;
	esac
	(enter host "$ID-$1" nice -n -20 "$BUILD/tests/shunt-bench-connect" -n "$connections" \
		-c 0 -s "$server_cpu" "$CGROUP_ROOT$CG/$client" "$CGROUP_ROOT$CG/$server" \
		"$SIDECAR" "$dial")
}

sandbox_new "$build"
trap 'bench_free $?' EXIT
for way in "${WAYS[@]}"; do
	netns_new "$ID-$way"
done
nsenter --net="/run/netns/$ID-redirect" nft -f - <<-END
	table ip shunt_bench {
		chain output {
			type nat hook output priority -100;
			ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :15001
		}
	}
END
shuntd_start
for way in "${WAYS[@]}"; do
	bench_round "$way" >/dev/null # warms up
done

echo "round,way,connections_per_s,p50_us,p99_us,cpu_us" >"$DIR/rounds.csv"
for ((round = 0; round < rounds; round++)); do
	for ((i = 0; i < ${#WAYS[@]}; i++)); do
		way=${WAYS[(round + i) % ${#WAYS[@]}]}
		figures=$(bench_round "$way")
		echo "$round,$way,$figures" >>"$DIR/rounds.csv"
	done
done
echo "$rounds rounds of $connections connections; client on CPU 0, server on CPU $server_cpu"
echo
"$PYTHON" "$LIB/../bench/summary.py" "$DIR/rounds.csv"
[ -z "$output" ] || cp "$DIR/rounds.csv" "$output"
