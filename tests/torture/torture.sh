#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The torture in cgroups and network namespaces of its own: on loopback, across a veth pair, through
# DNAT, through the sidecar; and while it runs, what splicing is allowed to do changes all the time,
# handshakes lose packets, and the agent dies.
set -euo pipefail

usage()
{
	cat <<-END
		usage: torture.sh BUILD_DIR [OPTION]...
		  -t, --seconds N        how long connections are made (20); longer if that does not
		                         do for --expect-splice
		  -c, --connections N    lasting ones at a time (200)
		  -b, --brief N          and brief ones (40)
		  -s, --seed N           of all that is random (1)
		  -m, --modes LIST       what the mesh's splice changes between
		                         ("off sidecar netns node"); the last is the first
		  -k, --kill             kill and restart shuntd too
		  -p, --plain            without Shunt: is it the torture that is wrong?
		  -d, --doze N           threads doze at one in so many places where they may lose
		                         the CPU (0: never)
		  -e, --expect-splice N  at least so many of each: pairs, leaves, spills, kicks, rejoins
		What is in SHUNT_TORTURE comes after the options.
	END
}

[ $# -gt 0 ] || { usage >&2; exit 2; }
build=$1
shift
read -ra others <<<"${SHUNT_TORTURE-}"
set -- "$@" "${others[@]}"
seconds=20 connections=200 brief=40 doze=0 seed=1 modes=(off sidecar netns node)
kills='' plain='' least='' unspliced=''
while [ $# -gt 0 ]; do
	case $1 in
	-k | --kill) kills=yes ;;
	-p | --plain) plain=yes ;;
	-h | --help) usage; exit ;;
	*)
		[ $# -gt 1 ] || { usage >&2; exit 2; }
		case $1 in
		-t | --seconds) seconds=$2 ;;
		-c | --connections) connections=$2 ;;
		-b | --brief) brief=$2 ;;
		-d | --doze) doze=$2 ;;
		-s | --seed) seed=$2 ;;
		-m | --modes) read -ra modes <<<"$2" ;;
		-e | --expect-splice) least=$2 ;;
		*) usage >&2; exit 2 ;;
		esac
		shift
		;;
	esac
	shift
done

. "$(dirname "$(readlink -f "$0")")/../e2e/lib.sh"

FAR_PORTS=17100-17199
REDIRECTED4=10.83.0.9:80 REDIRECTED6='[fd83::9]:80' # nobody is there: they end at the sidecar
SERVICE4=10.96.0.1 SERVICE6=fd96::1
SECONDS_MORE=180 # a machine may be so slow that an agent takes all the time to start

dnat_set()
{
	ip -n "$APP" route add "$SERVICE4" via "$SRV4"
	ip -n "$APP" route add "$SERVICE6" via "$SRV6"
	nsenter --net="/run/netns/$APP" nft -f - <<-END
		table inet services {
			chain output {
				type nat hook output priority -100
				ip daddr $SERVICE4 tcp dport 80 dnat ip to $SRV4:17112
				ip6 daddr $SERVICE6 tcp dport 80 dnat ip6 to [$SRV6]:17113
			}
		}
	END
}

# Both namespaces lose some packets of handshakes: at the server the client's ACK, so that the client
# has long been connected when its bytes bring the server to it; at the client the SYN-ACK.
handshakes_set()
{
	local netns
	for netns in "$APP" "$SRV"; do
		nsenter --net="/run/netns/$netns" nft -f - <<-END
			table inet handshakes {
				chain input {
					type filter hook input priority 0
					jump some
				}
				chain some {
				}
			}
		END
	done
}

handshakes_lose() # ACKS|SYNACKS|none
{
	local acks="tcp flags & (syn | ack | psh | fin | rst) == ack meta length < 80"
	local synacks="tcp flags & (syn | ack) == (syn | ack)"
	local netns

	for netns in "$APP" "$SRV"; do
		nsenter --net="/run/netns/$netns" nft flush chain inet handshakes some
	done
	case $1 in
	acks)
		nsenter --net="/run/netns/$SRV" nft add rule inet handshakes some \
			tcp dport $FAR_PORTS "$acks" numgen random mod 4 == 0 counter drop
		nsenter --net="/run/netns/$APP" nft add rule inet handshakes some \
			tcp dport 17001-17099 "$acks" numgen random mod 8 == 0 counter drop
		;;
	synacks)
		nsenter --net="/run/netns/$APP" nft add rule inet handshakes some \
			tcp sport $FAR_PORTS "$synacks" numgen random mod 4 == 0 counter drop
		;;
	esac
}

mesh_write() # MODE
{
	config_write <<-END
		include_cidrs = ${REDIRECTED4%:*}/32, fd83::9/128
		splice = $1
	END
}

one_of() # WORD…
{
	local words=("$@")
	echo "${words[RANDOM % $#]}"
}

# Something that no connection may notice. Its choice is random; so is how long it lasts, which is
# what the waiting in between is for.
disturb()
{
	local what mode began cookies
	what=$(one_of "${disturbances[@]}")
	case $what in
	mode)
		mode=$(one_of "${modes[@]}")
		mesh_write "$mode"
		ctl reload >/dev/null || fail "reload to splice = $mode"
		what+=" $mode"
		;;
	kill)
		began=$SECONDS
		stop shuntd KILL || true
		shuntd_start
		# It lives for as long as it took to start, or most connections would meet none.
		sleep "$((SECONDS - began))"
		;;
	cookies)
		cookies=$(one_of "${cookie_modes[@]}")
		nsenter --net="/run/netns/$SRV" sysctl -qw net.ipv4.tcp_syncookies="$cookies"
		# Who was given a cookie and shows it when there are none any more is reset: a client
		# that believes to be connected, if its ACK was lost and it sends nothing for a while.
		[ "$cookies" != 2 ] || cookie_modes=(1 2)
		;;
	handshakes)
		mode=$(one_of none acks synacks)
		handshakes_lose "$mode"
		what+=" $mode"
		;;
	esac
	done_count[$what]=$((${done_count[$what]-0} + 1))
}

torture_start()
{
	local sidecar4=$REDIRECTED4 sidecar6=$REDIRECTED6
	local app=/run/netns/$APP srv=/run/netns/$SRV group=$CGROUP_ROOT$CG
	local tell=("-x" "'$BUILD/agent/shuntctl' -s '$DIR/control.sock' flows --port")
	local longest=$seconds

	[ -z "$plain" ] || tell=()
	[ -z "$least" ] || longest=$((seconds + SECONDS_MORE))
	[ -z "$plain" ] || { sidecar4=127.0.0.1:15001 sidecar6='[::1]:15001'; }
	mkdir "$group"/app/{client,server,remote}
	spawn torture host - "$BUILD/tests/shunt-torture" \
		-d "$longest" -c "$connections" -b "$brief" -s "$seed" \
		-y "$doze" "${tell[@]}" \
		-p "client=$group/app/client,$app" -p "server=$group/app/server,$app" \
		-p "sidecar=$group/proxy,$app" -p "remote=$group/app/remote,$srv" \
		-p "outside=$group/outside,$app" \
		-r "loopback4=client,server,127.0.0.1:17001,127.0.0.1:17001" \
		-r "loopback6=client,server,[::1]:17002,[::1]:17002" \
		-r "mapped=client,server,[::]:17003,[::ffff:127.0.0.1]:17003" \
		-r "late=client,server,127.0.0.1:17004,127.0.0.1:17004,late" \
		-r "sidecar4=client,sidecar,127.0.0.1:15001,$sidecar4" \
		-r "sidecar6=server,sidecar,[::1]:15001,$sidecar6" \
		-r "upstream=sidecar,server,127.0.0.1:17005,127.0.0.1:17005" \
		-r "outside=outside,server,127.0.0.1:17006,127.0.0.1:17006" \
		-r "far4=client,remote,$SRV4:17110,$SRV4:17110" \
		-r "far6=server,remote,[$SRV6]:17111,[$SRV6]:17111" \
		-r "service4=client,remote,$SRV4:17112,$SERVICE4:80" \
		-r "service6=client,remote,[$SRV6]:17113,[$SERVICE6]:80" \
		-r "back=remote,server,[::]:17007,[::ffff:$APP4]:17007" \
		-r "far-late=client,remote,$SRV4:17114,$SRV4:17114,late"
}

# What there were fewer of than --expect-splice wants
splice_missed()
{
	[ -n "$least" ] && [ -z "$unspliced" ] || return 0
	ctl counters | awk -v least="$least" '
		/^splice_(paired|left|spilled|kicked|rejoined) / && $2 < least { printf " %s=%s", $1, $2 }'
}

splice_check()
{
	local missed
	if [ -n "$unspliced" ]; then
		expect "this kernel splices nothing" 0 "$(counter splice_paired)"
		return
	fi
	missed=$(splice_missed)
	[ -z "$missed" ] || fail "fewer than $least:$missed"
}

sandbox_new "$build"
declare -A done_count=()
cookie_modes=(0 1 2)
RANDOM=$seed
disturbances=(cookies handshakes)
dnat_set
handshakes_set
if [ -z "$plain" ]; then
	disturbances+=(mode mode)
	[ -z "$kills" ] || disturbances+=(kill)
	mesh_write "${modes[-1]}"
	shuntd_start
	splices || unspliced=yes
fi

torture_start
began=$SECONDS told=
while running torture; do
	sleep "0.$((RANDOM % 800 + 100))"
	disturb
	if [ -z "$told" ] && [ "$((SECONDS - began))" -ge "$seconds" ] && [ -z "$(splice_missed)" ]; then
		kill "${PIDS[torture]}" 2>/dev/null || true # makes no more connections
		told=yes
	fi
	[ "$((SECONDS - began))" -lt "$((seconds + SECONDS_MORE + 300 * PATIENCE))" ] ||
		fail "the torture does not come to its end"
done
status=0
stop torture || status=$?
cat "$DIR/torture.log"
for what in "${!done_count[@]}"; do
	echo "disturbed by      $what, ${done_count[$what]} times"
done | sort
[ -n "$plain" ] || ctl counters | grep '^splice_' || true
[ "$status" = 0 ] || fail "shunt-torture: exit status $status; seed $seed"
[ -z "$least" ] || splice_check
[ -n "$plain" ] || running shuntd || fail "shuntd ended"
