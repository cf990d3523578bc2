#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# What a program and its sidecar see is what they see with nftables' REDIRECT, but for the
# differences below. Each of them is explained in docs/DIFFERENCES.md.
. "$(dirname "$0")/lib.sh"
command -v nft >/dev/null || skip "nft is not installed"
sandbox_new "$@"

PROBE=("$PYTHON" "$LIB/probe.py")
SIDECAR_GID=1337

sidecars_start() # ADDRESS… of the sidecar for TCP
{
	local as=(setpriv --regid "$SIDECAR_GID" --clear-groups)
	spawn tcp proxy "$APP" "${as[@]}" "${PROBE[@]}" server sidecar "$@"
	spawn dnstcp proxy "$APP" "${as[@]}" "${PROBE[@]}" server "DNS sidecar" \
		127.0.0.1/15053 ::1/15053
	spawn dnsudp proxy "$APP" "${as[@]}" "${PROBE[@]}" dns 127.0.0.1/15053 ::1/15053
	answered tcp "$APP" 15001
	answered dnstcp "$APP" 15053
	wait_for 5 "the DNS sidecar runs" udp_bound
}

udp_bound()
{
	[ "$(nsenter --net="/run/netns/$APP" ss -Hlun "sport = :15053" | wc -l)" = 2 ]
}

probe() # OUTPUT
{
	app "${PROBE[@]}" client "$SRV4" "$SRV6" "$APP4" >"$DIR/$1"
	stop tcp || true
	stop dnstcp || true
	stop dnsudp || true
	app "${PROBE[@]}" refused "$SRV4" "$SRV6" >>"$DIR/$1"
}

nft_redirect()
{
	nsenter --net="/run/netns/$APP" nft -f - <<-END
		table inet shunt_test {
			chain output {
				type nat hook output priority -100;
				meta skgid $SIDECAR_GID accept
				ip daddr 127.0.0.0/8 accept
				ip6 daddr ::1 accept
				meta l4proto { tcp, udp } th dport 53 redirect to :15053
				meta l4proto tcp redirect to :15001
			}
		}
	END
}

compare() # TITLE ADDRESS… of the sidecar for TCP
{
	nft_redirect
	sidecars_start "${@:2}"
	probe with_nft
	nsenter --net="/run/netns/$APP" nft delete table inet shunt_test

	shuntd_start
	sidecars_start "${@:2}"
	probe with_shunt
	ctl detach >/dev/null
	wait "${PIDS[shuntd]}"

	[ "$(wc -l <"$DIR/with_nft")" -gt 100 ] || fail "the probe said too little"
	# The names that a listener for both gives to IPv4 are its own affair.
	(diff "$DIR/with_nft" "$DIR/with_shunt" || true) |
		sed -n 's/\[::ffff:\([0-9.]*\)\]/\1/; /^[<>]/p' >"$DIR/differences"
	diff -u <(grep -v '^#' "$LIB/compare_nft.expected") "$DIR/differences" ||
		fail "$1: the differences are not the known ones"
	echo "ok: $1"
}

spawn server host "$SRV" "${PROBE[@]}" server "server itself" "$SRV4/80" "$SRV6/80"
answered server "$SRV" 80
config_write <<-END
	sidecar_gids = $SIDECAR_GID
	dns_redirect = 127.0.0.1:15053, [::1]:15053
END
compare "a listener for IPv4, another for IPv6" 127.0.0.1/15001 ::1/15001
compare "a listener for both" ::/15001
