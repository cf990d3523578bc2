#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The commands and configurations in the documents, as they are written: run in a sandbox, below a
# cgroup of its own, with an agent of its own. A command that is neither run nor said to be tried
# elsewhere fails.
. "$(dirname "$0")/lib.sh"
TOP=$(readlink -f "$LIB/../..")
sandbox_new "$@"
mkdir "$DIR/bin" "$DIR/work"

# What cannot be run here, or is what another test does.
elsewhere()
{
	case $1 in
	scripts/run) ;; # tests/e2e/tour.sh
	scripts/install-deps | meson\ *) ;; # scripts/test, tests/check/install.sh
	scripts/package | apt\ install\ *) ;; # tests/e2e/package.sh
	scripts/test* | scripts/bench* | scripts/vmtest*) ;; # themselves
	nsenter\ *\ nft\ *) ;; # of the rung nftables: tests/e2e/rung_nft.sh
	systemctl\ *) ;; # takes systemd; shuntd, which it would start, is started here
	docker\ * | kubectl\ *) ;; # take a cluster; tests/check/conf.py and tests/e2e/kubelet.sh
	*) return 1 ;;
	esac
}

fenced() # FILE LANGUAGE: the lines of such blocks, comments taken off, backslashed ones joined
{
	awk -v language="$2" '
		/^ *```/ { inside = !inside; block = inside ? substr($1, 4) : ""; next }
		inside && block == language { sub(/^   /, ""); print }' "$1" |
		sed -e ':more' -e '/\\$/{N;s/\\\n *//;bmore' -e '}'
}

# Names that stand for others in the documents.
as_meant()
{
	local line=${1%%    #*}
	line=${line//PID/$PROGRAM}
	line=${line//CGROUP//kubepods.slice/pod1/app-1}
	# It goes on until it is ended.
	[[ $line != "shuntctl events"* ]] || line="timeout 2 $line || [ \$? = 124 ]"
	# It takes a terminal, and goes on until it is told to end.
	[ "$line" != "shuntctl top" ] || line="echo q | TERM=xterm script -qec 'shuntctl top' /dev/null"
	echo "${line//\/sys\/fs\/bpf\/shunt/$DIR/bpf/shunt}"
}

agent_start()
{
	spawn shuntd host - "$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
	wait_for 180 "shuntd answers" ctl status
}

run() # LINE
{
	local line
	line=$(as_meant "$1")
	if [ "$line" = shuntd ]; then
		running shuntd || agent_start
	elif [ "${line%% *}" = rm ]; then
		# For when no agent can be had.
		[ -e "$DIR/bpf/shunt" ] || agent_start
		! running shuntd || stop shuntd KILL || true
		(cd "$DIR/work" && bash -c "$line") || fail "$document: $1"
	else
		running shuntd || agent_start
		(cd "$DIR/work" && enter host "$APP" timeout 180 bash -c "$line") >"$DIR/said.log" 2>&1 ||
			fail "$document: '$1': $(tail -n 3 "$DIR/said.log")"
		[[ $line != "shuntctl detach" ]] || { wait "${PIDS[shuntd]}" && unset 'PIDS[shuntd]'; }
	fi
	echo "ok: $document: $1"
	[[ $line != *"haproxy -D"* ]] || wait_for 30 "HAProxy listens" listening "$APP" 10001
	[[ $line != *splice_bytes* ]] || wait_for 60 "HAProxy was told, and spliced" shop_is_fast
}

# What the last command of the set-up of HAProxy is to show, when curl was run once more.
shop_is_fast()
{
	enter_quietly shuntctl exec /shop/app -- curl http://10.0.0.7/ || return
	[ "$(counter origdst_taken)" -ge 2 ] || return
	! splices || [ "$(counter splice_bytes)" -gt 0 ]
}

enter_quietly() # COMMAND…
{
	(enter host "$APP" "$@") >/dev/null 2>&1
}

running() # NAME
{
	[ -n "${PIDS[$1]-}" ] && kill -0 "${PIDS[$1]}" 2>/dev/null
}

# The configuration of README.md, below a cgroup of this test's.
cat >"$DIR/shunt.ini" <<-END
	[agent]
	cgroup_root = $CGROUP_ROOT$CG
	pin_dir = $DIR/bpf/shunt
	control_socket = $DIR/control.sock
	metrics_listen =
END
for document in README.md docs/OPERATIONS.md; do
	fenced "$TOP/$document" ini >"$DIR/part.ini"
	grep -q '^\[mesh' "$DIR/part.ini" || fail "there is no configuration in $document"
	cat "$DIR/part.ini" >>"$DIR/shunt.ini"
done
fenced "$TOP/docs/OPERATIONS.md" haproxy >"$DIR/work/haproxy.cfg"
for program in shuntd shuntctl; do
	option=-s\ $DIR/control.sock
	[ "$program" = shuntctl ] || option=-c\ $DIR/shunt.ini
	printf '#!/bin/sh\nexec %s %s "$@"\n' "$BUILD/agent/$program" "$option" >"$DIR/bin/$program"
	chmod +x "$DIR/bin/$program"
done
PATH=$DIR/bin:$PATH

# A pod, a program in it, and the server that the documents dial.
http_start
ip -n "$SRV" address add 10.0.0.7/32 dev eth0
ip -n "$APP" route add 10.0.0.7 via "$SRV4"
echo hello >"$DIR/www/index.html"
spawn web host "$SRV" "$PYTHON" -m http.server --bind 10.0.0.7 --directory "$DIR/www" 80
answered web "$SRV" 80
mkdir -p "$CGROUP_ROOT$CG/kubepods.slice/pod1"/{app-1,proxy-1}
spawn relay kubepods.slice/pod1/proxy-1 "$APP" "$BUILD/tests/shunt-relay" \
	-l 127.0.0.1:15001 -l '[::1]:15001'
answered relay "$APP" 15001
spawn program kubepods.slice/pod1/app-1 "$APP" sleep infinity
PROGRAM=${PIDS[program]}

count=0
for document in README.md docs/OPERATIONS.md docs/TESTING.md conf/kubernetes/README.md; do
	while IFS= read -r line; do
		line=${line#"${line%%[! ]*}"}
		[ -n "$line" ] && ! elsewhere "$line" || continue
		run "$line" </dev/null
		count=$((count + 1))
	done < <(fenced "$TOP/$document" "")
done
[ "$count" -ge 15 ] || fail "only $count commands were found"
[ ! -e "$DIR/bpf/shunt" ] || fail "after the last of them pins are left"
expect "they redirected" "accepted" "$(grep -o -m 1 ^accepted "$DIR/relay.log")"

# Settings that stand in the text, which says of none what section it belongs in.
for document in "$TOP"/README.md "$TOP"/docs/*.md; do
	grep -o '`[a-z_]* = [^`…]*`' "$document" | tr -d '`' || true
done | sort -u >"$DIR/settings"
[ "$(wc -l <"$DIR/settings")" -ge 10 ] || fail "there are too few: $(cat "$DIR/settings")"
while IFS= read -r setting; do
	mesh=$(printf '%s\n' 'cgroups = /a' 'sidecar_uids = 1' 'tcp_redirect = 127.0.0.1:1' |
		grep -v "^${setting%% *} ")
	for section in '[mesh b]' '[agent]' '[limits]'; do
		{
			printf '%s\n' "$section" "$setting"
			[ "$section" = '[mesh b]' ] || echo '[mesh a]'
			echo "$mesh"
		} >"$DIR/setting.ini"
		said=$("$BUILD/agent/shuntd" -c "$DIR/setting.ini" --check 2>&1) && continue 2
	done
	fail "'$setting' in the documents: $said"
done <"$DIR/settings"
echo "ok: settings"
