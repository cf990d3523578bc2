#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Without the JIT the kernel does not take the programs that splice: the agent redirects only and
# says what the operator can do. That is a setting of the whole host, so this is for guests of
# scripts/vmtest.
. "$(dirname "$(readlink -f "$0")")/../e2e/lib.sh"
[ -n "${SHUNT_GUEST-}" ] || fail "this changes a setting of the whole host; it is for scripts/vmtest"
SETTING=/proc/sys/net/core/bpf_jit_enable

sandbox_new "$@"
http_start
relay_start -v
config_write <<-END
	splice = node
END
status() # KEY
{
	ctl -j status | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

doctor() # CHECK: its result, and what was found
{
	"$BUILD/agent/shuntctl" -s "$DIR/control.sock" -j doctor | "$PYTHON" -c 'import json, sys
print(*[c["result"] for c in json.load(sys.stdin)["checks"] if c["name"] == sys.argv[1]])' "$1"
}

echo 0 >"$SETTING"
shuntd_start
cat "$DIR/shuntd.log"
ctl status
ctl doctor || true
expect "it redirects only" "redirect kernel" "$(status rung) $(status splice)"
expect "the doctor knows" "no no" "$(doctor JIT) $(doctor "program shunt_splice")"
