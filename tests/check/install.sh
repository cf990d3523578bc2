#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# `meson install` puts everything where it is looked for, complete and nothing else, and leaves a
# configuration that is there already.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 BUILD_DIR" >&2; exit 2; }
BUILD=$(readlink -f "$1")
TOP=$(readlink -f "$(dirname "$0")/../..")
DIR=$(mktemp -d "${TMPDIR:-/tmp}/shunt-install-XXXXXX")
trap 'rm -rf "$DIR"' EXIT

fail()
{
	echo "FAIL: $*" >&2
	exit 1
}

prefix=$(meson introspect "$BUILD" --buildoptions | /usr/bin/python3 -c 'if True:
	import json, sys

	print(*(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
expected=$(sort <<-END
	/etc/shunt/shunt.ini
	$prefix/bin/shuntctl
	$prefix/lib/systemd/system/shuntd.service
	$prefix/lib/sysusers.d/shuntd.conf
	$prefix/sbin/shuntd
	$prefix/share/bash-completion/completions/shuntctl
	$prefix/share/man/man5/shunt.ini.5
	$prefix/share/man/man8/shuntctl.8
	$prefix/share/man/man8/shuntd.8
	$prefix/share/shunt/grafana/shunt.json
	$prefix/share/shunt/prometheus/shunt.rules.yml
END
)

meson install -C "$BUILD" --no-rebuild --quiet --destdir "$DIR"
installed=$(cd "$DIR" && find . -type f -printf '/%P\n' | sort)
[ "$installed" = "$expected" ] || fail "$(diff <(echo "$expected") <(echo "$installed"))"
"$DIR$prefix/sbin/shuntd" -c "$DIR/etc/shunt/shunt.ini" --check
version=$(meson introspect "$TOP/meson.build" --projectinfo | sed 's/.*"version": "\([^"]*\)".*/\1/')
for program in sbin/shuntd bin/shuntctl; do
	said=$("$DIR$prefix/$program" --version)
	[ "$said" = "${program#*/} $version" ] || fail "$program is '$said', the project is $version"
done
grep -qx "ExecStart=$prefix/sbin/shuntd" "$DIR$prefix/lib/systemd/system/shuntd.service" ||
	fail "the unit starts something else"
compopt() { :; } # bash has it for completions alone
completes() # OFFER WORD…: what is offered for the last of these
{
	local offer=$1 COMP_WORDS=(shuntctl "${@:2}") COMP_CWORD=$(($# - 1)) COMPREPLY
	_shuntctl
	[ "${COMPREPLY[*]}" = "$offer" ] || fail "bash completes '${*:2}' with '${COMPREPLY[*]}'"
}
. "$DIR$prefix/share/bash-completion/completions/shuntctl"
completes detach det
completes "-s -j --help --version" -
completes detach -s /run/socket -j det
completes "-j --help" status -
completes "-a -j --help" cgroups -
completes "--mesh" flows --pid 1 --m
completes "spliced spilled" events --state sp
completes bytes flows --sort b
completes "-i -n -T -j --help" graph -
completes svg graph -T s
completes -- exec / ""
completes "" exec / -- sh -

echo "; the operator was here" >>"$DIR/etc/shunt/shunt.ini"
meson install -C "$BUILD" --no-rebuild --quiet --destdir "$DIR"
tail -n 1 "$DIR/etc/shunt/shunt.ini" | grep -q operator || fail "the configuration was overwritten"
