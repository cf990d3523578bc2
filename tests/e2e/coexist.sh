#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Other people's cgroup programs go on beside Shunt's: attached before or after, to the same cgroup
# or below it, and after Shunt is gone.
. "$(dirname "$0")/lib.sh"
command -v clang >/dev/null || skip "clang is not installed"
sandbox_new "$@"
http_start

cat >"$DIR/foreign.bpf.c" <<-'END'
	#include <linux/bpf.h>
	#include <bpf/bpf_helpers.h>

	__u64 runs;

	SEC("cgroup/connect4")
	int foreign_connect(struct bpf_sock_addr *ctx)
	{
		__sync_fetch_and_add(&runs, 1);
		return 1;
	}

	char LICENSE[] SEC("license") = "Dual BSD/GPL";
END
clang -target bpf -mcpu=v3 -O2 -g -idirafter "/usr/include/$(uname -m)-linux-gnu" \
	-c "$DIR/foreign.bpf.c" -o "$DIR/foreign.bpf.o"

foreign_attach() # NAME CGROUP
{
	bpftool prog load "$DIR/foreign.bpf.o" "$DIR/bpf/$1" pinmaps "$DIR/bpf/$1-maps"
	bpftool cgroup attach "$CGROUP_ROOT$CG/$2" cgroup_inet4_connect pinned "$DIR/bpf/$1" multi
}

foreign_runs() # NAME
{
	bpftool --json map dump pinned "$DIR/bpf/$1-maps/foreign_bss" |
		"$PYTHON" -c 'import json, sys
print(json.load(sys.stdin)[0]["formatted"]["value"][".bss"][0]["runs"])'
}

visit() # CGROUP
{
	local got
	got=$( (enter "$1" "$APP" curl -sS "http://$SRV4/hello") )
	[ "$got" = "hello from the server" ] || fail "got '$got' instead of the page"
}

relay_start
foreign_attach before app
visit app
expect "it runs without Shunt" 1 "$(foreign_runs before)"

shuntd_start
visit app
wait_for 5 "Shunt redirects beside it" relayed 1
expect "it runs beside Shunt" 2 "$(foreign_runs before)"

foreign_attach after app
mkdir "$CGROUP_ROOT$CG/app/child"
foreign_attach child app/child
visit app/child
wait_for 5 "Shunt redirects beside all three" relayed 2
expect "the one from before runs" 3 "$(foreign_runs before)"
expect "one attached later runs" 1 "$(foreign_runs after)"
expect "one in a child cgroup runs" 1 "$(foreign_runs child)"

ctl detach >/dev/null
wait "${PIDS[shuntd]}"
visit app/child
expect "Shunt is gone, the first runs" 4 "$(foreign_runs before)"
expect "Shunt is gone, the second runs" 2 "$(foreign_runs after)"
expect "Shunt is gone, the child's runs" 2 "$(foreign_runs child)"

shuntd_start
visit app/child
wait_for 5 "Shunt comes back beside them" relayed 3
expect "the first runs on" 5 "$(foreign_runs before)"
