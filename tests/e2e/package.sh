#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The Debian package: two builds of it are identical; in a Debian 12 root of its own it is installed,
# enrols nothing as it comes, and redirects when it is told to; under traffic it is upgraded and
# purged, no connection fails, and nothing is left of it. All that where no systemd runs, and then
# with a systemd that starts, reloads and restarts the agent by its unit.
. "$(dirname "$0")/lib.sh"
. "$LIB/traffic.sh"
TOP=$(readlink -f "$LIB/../..")

# A root as it is when new. Kept in the build directory, as fetching it takes most of the time.
debian_new() # DIR
{
	local mirror
	mirror=$(apt-get indextargets --format '$(REPO_URI)' \
		'Created-By: Packages' 'Origin: Debian' 'Codename: bookworm' | head -n 1)
	rm -rf --one-file-system "$1.new"
	debootstrap --variant=minbase --include=systemd,systemd-sysv bookworm "$1.new" "$mirror" >"$DIR/debootstrap.log" ||
		fail "debootstrap: $(tail -n 3 "$DIR/debootstrap.log")"
	mv "$1.new" "$1"
}

# Every file of the root, but for what dpkg, apt and adduser keep of what they did, and logs.
files()
{
	(cd "$ROOT" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./var/cache \
		-o -path ./var/log -o -path ./proc -o -path ./sys -o -path ./tmp \
		-o -path ./etc/gshadow- -o -path ./run/adduser \) -prune \
		-o -printf '%M %U %G %p\n' | sort)
}

inside() # COMMAND…
{
	(enter host - chroot "$ROOT" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive "$@") >>"$DIR/inside.log" 2>&1
}

ctl()
{
	chroot "$ROOT" shuntctl "$@"
}

agent_start()
{
	spawn shuntd host - chroot "$ROOT" shuntd
	wait_for 180 "shuntd answers" ctl status
}

# Boots the root: a process that is the first of namespaces of its own, its cgroups this test's.
machine_start()
{
	spawn machine . - unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child sh -c '
		mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount -t sysfs sys "$1/sys" &&
		mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup" && mount --bind "$2" "$1/sys/fs/bpf" &&
		mount -t tmpfs run "$1/run" && exec chroot "$1" env -i container=test \
			PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target' \
		sh "$ROOT" "$DIR/bpf"
	wait_for 60 "systemd is up" machine_is running
}

machine_is() # STATE
{
	[ "$(in_machine systemctl is-system-running)" = "$1" ]
}

in_machine() # COMMAND…
{
	nsenter -t "$(pgrep -P "${PIDS[machine]}")" --mount --uts --ipc --pid --cgroup -- \
		chroot "$ROOT" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		DEBIAN_FRONTEND=noninteractive "$@"
}


machine_has_mesh() # NAME
{
	in_machine shuntctl meshes | grep -qw "$1"
}

unit_pid()
{
	in_machine systemctl show -P MainPID shuntd
}

package_version() # as dpkg has it
{
	chroot "$ROOT" dpkg-query -W -f '${Version} ${db:Status-Status}' shunt
}

sandbox_new "$@"
ROOT=$DIR/root
root_umount()
{
	local mount
	for mount in proc sys/fs/bpf sys/fs/cgroup sys; do
		! mountpoint -q "$ROOT/$mount" || umount -l "$ROOT/$mount"
	done
}
trap_free() # STATUS
{
	root_umount || true
	sandbox_free "$1"
}
trap 'trap_free $?' EXIT

# Whoever builds it elsewhere has what is named there, and nothing else.
for library in $(sed -n "s/^[a-z0-9_]* = dependency('\([a-z0-9-]*\)'.*/\1/p" "$TOP/meson.build" |
	grep -vx 'systemd\|threads'); do
	owner=$(dpkg -S "*/pkgconfig/$library.pc" | cut -d : -f 1 | head -n 1)
	grep -q "^ $owner\b" "$TOP/debian/control" || fail "debian/control does not name $owner"
done

# Twice, with all different that may be: the place, its owner's umask, language and time zone, and
# the second from the sources that the first left, without git.
export DEB_BUILD_OPTIONS=nocheck
mkdir "$DIR"/tmp{1,2-with-a-longer-name}
(umask 022; TMPDIR=$DIR/tmp1 LC_ALL=C TZ=UTC "$TOP/scripts/package" -o "$DIR/first") \
	>"$DIR/build1.log" 2>&1 || fail "the package is not built: $(tail -n 20 "$DIR/build1.log")"
tar -xf "$DIR"/first/shunt_*.tar.xz -C "$DIR/tmp2-with-a-longer-name"
(umask 077; TMPDIR=$DIR/tmp2-with-a-longer-name LC_ALL=C.UTF-8 TZ=Pacific/Auckland \
	"$DIR"/tmp2-with-a-longer-name/shunt-*/scripts/package -o "$DIR/second") \
	>"$DIR/build2.log" 2>&1 || fail "it is not built again: $(tail -n 20 "$DIR/build2.log")"
for file in "$DIR"/first/*.{deb,dsc,tar.xz}; do
	cmp "$file" "$DIR/second/$(basename "$file")" || fail "two builds differ"
	echo "ok: two builds are identical: $(basename "$file")"
done
DEB=$(ls "$DIR"/first/shunt_*.deb)
VERSION=$(dpkg-deb -f "$DEB" Version)

# The next version: the same but for its number.
dpkg-deb -R "$DEB" "$DIR/next"
sed -i 's/^Version: .*/&+next/' "$DIR/next/DEBIAN/control"
dpkg-deb --root-owner-group -b "$DIR/next" "$DIR/next.deb" >/dev/null

[ -x "$BUILD/debian/lib/systemd/systemd" ] || debian_new "$BUILD/debian"
cp -a "$BUILD/debian" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t sysfs -o ro sys "$ROOT/sys"
mount --bind "$CGROUP_ROOT" "$ROOT/sys/fs/cgroup"
mount --bind "$DIR/bpf" "$ROOT/sys/fs/bpf"
cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
cp "$DEB" "$DIR/next.deb" "$ROOT/srv"
[ -n "$(ls "$BUILD/debian/var/lib/apt/lists"/*_Packages 2>/dev/null)" ] || inside apt-get update
files >"$DIR/before"

inside apt-get install -y --no-install-recommends "/srv/$(basename "$DEB")" ||
	fail "it is not installed: $(tail -n 20 "$DIR/inside.log")"
expect "it is installed" "$VERSION installed" "$(package_version)"
cp -au "$ROOT"/var/cache/apt/archives/*.deb "$BUILD/debian/var/cache/apt/archives/" 2>/dev/null || true
expect "the group shunt is there" "shunt" "$(chroot "$ROOT" getent group shunt | cut -d : -f 1)"
for page in shuntd.8 shuntctl.8 shunt.ini.5; do
	[ -n "$(find "$ROOT/usr/share/man" -name "$page.gz")" ] || fail "there is no page $page"
done

server_start
relay_start
agent_start
[ -z "$(ls "$DIR"/bpf/shunt/v*/links)" ] || fail "as installed it is attached to something"
expect "as installed it enrols nothing" "[]" "$(ctl -j cgroups)"
cat >"$ROOT/etc/shunt/shunt.ini" <<-END
	[mesh test]
	cgroups = $CG/app
	sidecar_cgroups = $CG/proxy
	tcp_redirect = 127.0.0.1:15001, [::1]:15001
END
ctl reload >/dev/null
program_start

inside dpkg -i /srv/next.deb || fail "it is not upgraded: $(tail -n 20 "$DIR/inside.log")"
expect "it is upgraded" "$VERSION+next installed" "$(package_version)"
grep -q "^cgroups = $CG/app" "$ROOT/etc/shunt/shunt.ini" || fail "the configuration was overwritten"
progress
stop shuntd || fail "the agent of the version before failed when it was asked to end"
progress
agent_start
progress
program_stop
wait_for 5 "the relay has all $count connections" relayed "$count"
expect "upgraded: each of $count connections was redirected" "$count" \
	"$(grep -c connection "$DIR/server.log")"

program_start
bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
[ "$(grep -c prog "$DIR/objects")" -gt 5 ] || fail "there is too little to take out"
inside apt-get purge -y shunt || fail "it is not purged: $(tail -n 20 "$DIR/inside.log")"
wait "${PIDS[shuntd]}" || fail "the agent failed when the package was purged"
progress
program_stop
expect "purged: no program, link or map is left" "" "$(bpf_left "$DIR/objects")"
[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left: $(find "$DIR/bpf/shunt")"
inside apt-get autoremove --purge -y
files >"$DIR/after"
expect "purged: no file is left" "" "$(diff "$DIR/before" "$DIR/after" || true)"
expect "purged: the group is gone" "" "$(chroot "$ROOT" getent group shunt || true)"

# Removed while no agent answers: what the last one pinned goes all the same.
inside apt-get install -y --no-install-recommends "/srv/$(basename "$DEB")"
cat >"$ROOT/etc/shunt/shunt.ini" <<-END
	[agent]
	pin_dir = /sys/fs/bpf/shunt ; the default
	[mesh test]
	cgroups = $CG/app
	sidecar_cgroups = $CG/proxy
	tcp_redirect = 127.0.0.1:15001
END
agent_start
bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
stop shuntd KILL || true
inside apt-get remove -y shunt
expect "removed without an agent: nothing is left in the kernel" "" "$(bpf_left "$DIR/objects")"
[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left: $(find "$DIR/bpf/shunt")"
[ -e "$ROOT/etc/shunt/shunt.ini" ] || fail "removing, not purging, took the configuration"
inside dpkg --purge shunt
[ ! -e "$ROOT/etc/shunt" ] || fail "/etc/shunt is left"

echo "--- with systemd"
root_umount
: >"$DIR/relay.log"
: >"$DIR/server.log"
machine_start
in_machine apt-get install -y --no-install-recommends "/srv/$(basename "$DEB")" \
	>>"$DIR/inside.log" 2>&1 || fail "it is not installed: $(tail -n 20 "$DIR/inside.log")"
expect "installing starts the unit" active "$(in_machine systemctl is-active shuntd)"
expect "and enables it" enabled "$(in_machine systemctl is-enabled shuntd)"
cat >"$ROOT/etc/shunt/shunt.ini" <<-END
	[mesh test]
	cgroups = /app
	sidecar_cgroups = /proxy
	tcp_redirect = 127.0.0.1:15001, [::1]:15001
END
in_machine systemctl reload shuntd
wait_for 60 "the unit has reloaded" machine_has_mesh test
# A machine that is no host has process numbers of its own, so it splices nothing, and says so.
in_machine shuntctl status >"$DIR/status"
expect "it splices on hosts alone" "kernel" "$(sed -n 's/^splice  *\(on\|off\|kernel\)$/\1/p' "$DIR/status")"
grep -q "^splice lacks *failed in the self-test: borrow" "$DIR/status" ||
	fail "it does not say why nothing is spliced: $(cat "$DIR/status")"
filter=$(in_machine systemctl show --property SystemCallFilter shuntd)
for call in bpf pidfd_getfd open_by_handle_at; do
	expect "the unit may call it" "$call" "$(grep -ow "$call" <<<"$filter")"
done
program_start
before=$(unit_pid)
in_machine dpkg -i /srv/next.deb >>"$DIR/inside.log" 2>&1 ||
	fail "it is not upgraded: $(tail -n 20 "$DIR/inside.log")"
expect "upgraded: the unit runs" active "$(in_machine systemctl is-active shuntd)"
[ "$before" != "$(unit_pid)" ] || fail "upgrading did not restart the agent"
progress
program_stop
wait_for 5 "the relay has all $count connections" relayed "$count"
expect "upgraded under systemd: each of $count connections was redirected" "$count" \
	"$(grep -c connection "$DIR/server.log")"
program_start
bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
in_machine apt-get purge -y shunt >>"$DIR/inside.log" 2>&1 ||
	fail "it is not purged: $(tail -n 20 "$DIR/inside.log")"
progress
program_stop
expect "purged under systemd: nothing is left in the kernel" "" "$(bpf_left "$DIR/objects")"
expect "purged: no unit is left" "" "$(find "$ROOT/etc/systemd" "$ROOT/lib/systemd" -name 'shunt*')"
expect "purged: nor a file of the agent's" "" "$(in_machine find /run/shunt /etc/shunt 2>/dev/null || true)"
