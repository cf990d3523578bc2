#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# What is in no mesh pays nothing: no program of Shunt is attached above it, and none runs for it.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
http_start
config_write <<-END
	dns_redirect = 127.0.0.1:15053
END
relay_start
shuntd_start

# The cgroups that programs of this agent are attached to.
attached()
{
	local number
	bpf_objects "$DIR/bpf/shunt" >"$DIR/now"
	while read -r number; do
		find "$CGROUP_ROOT" -inum "$number" -printf '/%P\n'
	done < <(bpftool --json link show | "$PYTHON" -c 'if True:
		import json, sys

		ours = {int(line.split()[1]) for line in open(sys.argv[1]) if line.startswith("link")}
		print(*{link["cgroup_id"] for link in json.load(sys.stdin)
		        if link["id"] in ours and link["type"] == "cgroup"},
		      sep="\n")' "$DIR/now") | sort | paste -sd ' '
}
expect "attached to these cgroups only" "$CG/app $CG/proxy" "$(attached)"

# How often the programs of this agent ran, less the iterators, which it runs itself. They are of
# one type with shunt_reads, which would run for everybody's recv(). The switch is one for the whole
# host, so tests that use it take turns, and it is put back.
exec 9>/run/lock/shunt-test-bpf-stats
flock 9
stats=$(cat /proc/sys/kernel/bpf_stats_enabled)
trap 'echo "$stats" >/proc/sys/kernel/bpf_stats_enabled; sandbox_free $?' EXIT
echo 1 >/proc/sys/kernel/bpf_stats_enabled
runs()
{
	bpftool --json prog show | "$PYTHON" -c 'if True:
		import json, sys

		ours = {int(line.split()[1]) for line in open(sys.argv[1]) if line.startswith("prog")}
		print(sum(p.get("run_cnt", 0) for p in json.load(sys.stdin)
		          if p["id"] in ours and (p["type"] != "tracing" or p["name"] == "shunt_reads")))' \
		"$DIR/now"
}

visit() # app|outside
{
	expect "$1 is served" "hello from the server" "$("$1" curl -sS "http://$SRV4/hello")"
	expect "$1 is served over IPv6" "hello from the server" \
		"$("$1" curl -sS "http://[$SRV6]/hello")"
	"$1" bash -c "echo query >/dev/udp/$SRV4/53" 2>/dev/null || true # nobody answers
}

before=$(runs)
visit outside
expect "none ran for a program outside" "$before" "$(runs)"
wait_for 5 "the sidecar has seen nothing" relayed 0

visit app
wait_for 5 "the sidecar has seen both" relayed 2
[ "$(runs)" -gt "$before" ] || fail "none ran for a program inside either"
