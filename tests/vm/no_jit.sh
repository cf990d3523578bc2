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

doctor() # rung | CHECK: its result
{
	"$PYTHON" - "$DIR/report" "$1" <<-'END'
		import json, sys

		report = json.load(open(sys.argv[1]))
		results = {check["name"]: check["result"] for check in report["checks"]}
		print(report["rung"] if sys.argv[2] == "rung" else results[sys.argv[2]])
	END
}

redirects() # HOST
{
	local before
	before=$(grep -c ^accepted "$DIR/relay.log" || true)
	app curl -sS -m $((5 * PATIENCE)) -o /dev/null "http://$1/hello" || fail "no connection to $1"
	wait_for 5 "the relay has the connection to $1" relayed $((before + 1))
}

echo 0 >"$SETTING"
shuntd_start
expect "it redirects only" "redirect kernel" "$(status rung) $(status splice)"
expect "and says why" "the programs that splice cannot be loaded without the JIT (net.core.bpf_jit_enable)" \
	"$(status splice_lacks)"
grep -qF "this kernel cannot splice: redirecting only: $(status splice_lacks)" "$DIR/shuntd.log" ||
	fail "so does not the log"
grep -q "the verifier refuses" "$DIR/shuntd.log" && fail "it tries what cannot be"
redirects "$SRV4"
redirects "[$SRV6]"
expect "what is plain is plain for that" 1 "$(($(counter splice_plain_kernel) > 0))"
expect "nothing is paired" 0 "$(counter splice_paired)"
ctl -j doctor >"$DIR/report" || fail "doctor"
expect "the doctor finds the same" "redirect no yes no" \
	"$(doctor rung) $(doctor JIT) $(doctor "program shunt_connect6") $(doctor "program shunt_splice")"

# What is there goes on by the time there is a JIT; the next agent makes use of it.
echo 1 >"$SETTING"
stop shuntd || true
shuntd_start
splices && best=on || best=kernel
expect "with the JIT it splices if this kernel can" "$best" "$(status splice)"
redirects "$SRV4"
