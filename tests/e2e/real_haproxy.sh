#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# HAProxy as the sidecar of bodies up to 60 MB in both directions, with and without its own splicing
# (splice(2), which does not see bytes that go past TCP).
. "$(dirname "$0")/real_lib.sh"
need haproxy nginx curl socat
sandbox_new "$@"

haproxy_write() # OPTION…
{
	cat >"$DIR/haproxy.cfg" <<-END
		global
			maxconn 500
			stats socket $DIR/haproxy.sock
		defaults
			mode $mode
			timeout connect 5s
			timeout client ${DEADLINE}s
			timeout server ${DEADLINE}s
			${*:+$(printf 'option %s\n' "$@")}
		listen ipv4
			bind 127.0.0.1:15001
			server original 0.0.0.0:0
	END
}

pipes() # how many HAProxy has made to splice through
{
	socat -t 5 - "UNIX:$DIR/haproxy.sock" <<<"show info" |
		awk '/^Pipes(Used|Free):/ { n += $2 } END { print n }'
}

bodies() # NAME…
{
	local name
	for name; do
		download "$name"
		upload "$name"
	done
}

file_make tiny 1
file_make small 100K
file_make middle 1M
file_make large 10M
file_make huge 60M
files_start </dev/null
mesh_start </dev/null

# With these it splices from the first bytes on, and shows it by nothing before: it has to be named.
never() # on|off
{
	sed -i '/^splice_never/d' "$DIR/shunt.ini"
	[ "$1" = off ] || sed -i 's|^\[agent\]|&\nsplice_never = /**/haproxy|' "$DIR/shunt.ini"
	ctl reload >/dev/null
}

for options in "" splice-auto "splice-request splice-response"; do
	[[ ! $options =~ splice-response ]] || never on
	for mode in tcp http; do
		# shellcheck disable=SC2086 # words are what is wanted
		haproxy_write $options
		sidecar_start haproxy haproxy -db -f "$DIR/haproxy.cfg"
		bodies tiny small middle large huge
		together bodies small middle huge : bodies huge middle small : bodies middle large
		[ -n "$options" ] || expect "no pipes in mode $mode" 0 "$(pipes)"
		# With splice-auto it may well come to the conclusion that it is not worth it.
		[[ ! $options =~ splice-response ]] || [ "$(pipes)" -gt 0 ] ||
			fail "HAProxy has spliced nothing"
		stop haproxy || true
		echo "ok: mode $mode, ${options:-no splicing of its own}"
	done
done

never off
# What it may splice(2) goes the same way whenever it begins to: a slow reader, then a fast one.
mode=tcp
haproxy_write splice-auto
sidecar_start haproxy haproxy -db -f "$DIR/haproxy.cfg"
together download large --limit-rate 2M : upload large --limit-rate 2M : bodies huge
echo "ok: slow beside fast"

expect_counted splice_paired splice_bytes
