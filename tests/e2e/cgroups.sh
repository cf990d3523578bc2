#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Cgroups come and go by the thousand: children of an enrolled one are redirected from their first
# connect on, and nothing is left of them in the map or in the agent's memory.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
# With the sanitizer nothing would be given back at once.
export ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0
http_start
relay_start
config_write <<-END
	[limits]
	cgroups = 8192
END
shuntd_start

status() # EXPRESSION on the object s
{
	ctl -j status | "$PYTHON" -c 'import json, sys
s = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}

in_map()
{
	status 'next(m["used"] for m in s["maps"] if m["name"] == "cgroups")'
}

in_map_is() # COUNT
{
	[ "$(in_map)" = "$1" ]
}

memory() # of the agent, in KiB
{
	awk '/^VmRSS/ { print $2 }' "/proc/${PIDS[shuntd]}/status"
}

churn() # ROUND: 5,000 cgroups in ten subtrees, there all at once, then gone
{
	local top="$CGROUP_ROOT$CG/app/round$1"
	mkdir "$top"
	"$PYTHON" - "$top" <<-'END'
		import os, sys

		top = sys.argv[1]
		for i in range(10):
		    os.mkdir(f"{top}/{i}")
		    for j in range(499):
		        os.mkdir(f"{top}/{i}/{j}")
	END
	wait_for 20 "the agent knows 5,000 more" in_map_is $((known + 5001))
	find "$top" -depth -type d -exec rmdir {} +
	wait_for 20 "the agent has forgotten them" in_map_is "$known"
}

known=$(in_map)
churn 0 # what is allocated once and kept is allocated now
before=$(memory)
churn 1
after=$(memory)
echo "agent's memory: $before KiB before, $after KiB after 5,000 more cgroups"
[ "$after" -le $((before + 1024)) ] || fail "the agent grew from $before to $after KiB"
expect "none of them is known" "$known" "$(status 's["cgroups"]["known"]')"

# mkdir, enter, connect at once: no time for the agent to see the cgroup in between.
"$PYTHON" - "$CGROUP_ROOT$CG/app" "/run/netns/$APP" "$SRV4" <<-'END'
	import ctypes, os, socket, sys

	top, netns, server = sys.argv[1:]
	for i in range(300):
	    child = f"{top}/new{i}"
	    os.mkdir(child)
	    pid = os.fork()
	    if pid == 0:
	        with open(f"{child}/cgroup.procs", "w") as procs:
	            procs.write(str(os.getpid()))
	        fd = os.open(netns, os.O_RDONLY)
	        if ctypes.CDLL(None).setns(fd, 0):
	            os._exit(1)
	        socket.create_connection((server, 80)).close()
	        os._exit(0)
	    if os.waitpid(pid, 0)[1]:
	        sys.exit("a child could not connect")
	for i in range(300):
	    os.rmdir(f"{top}/new{i}")
END
expect "every connect of a new cgroup is redirected" 300 "$(counter connect_redirected)"
expect "none was unclassified" 0 "$(counter connect_unclassified)"
wait_for 5 "the sidecar has them all" relayed 300
wait_for 20 "the agent has forgotten them" in_map_is "$known"

# An enrolled cgroup itself may come later than the agent.
rmdir "$CGROUP_ROOT$CG/app"
wait_for 5 "the agent knows that app is gone" in_map_is $((known - 1))
mkdir "$CGROUP_ROOT$CG/app"
wait_for 5 "the agent knows that app is back" in_map_is "$known"
expect "served in the new one" "hello from the server" "$(app curl -sS "http://$SRV4/hello")"
wait_for 5 "the sidecar has it" relayed 301
