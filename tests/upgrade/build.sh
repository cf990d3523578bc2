#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Builds another version of shuntd, to upgrade to and to roll back from.
# usage: build.sh SOURCE_DIR text|layout|pairs WORK_DIR OUTPUT
#   text     its programs differ, its maps do not
#   layout   so do what it keeps of sockets and connections, and its ABI
#   pairs    so do what it keeps of connections, and its ABI; what it keeps of sockets is the same
set -euo pipefail
source=$1 name=$2 work=$3 output=$4

change() # FILE SED_COMMANDS: which have to change something
{
	sed "$2" "$work/new/$1" >"$work/changed"
	! cmp -s "$work/changed" "$work/new/$1" || { echo "$1: '$2' changes nothing" >&2; exit 1; }
	cat "$work/changed" >"$work/new/$1"
}

rm -rf "$work/new"
mkdir -p "$work/new" "$work/src"
cp -r "$source"/{agent,bpf,conf,docs,include,meson.build,meson_options.txt,scripts,tests} "$work/new"
change meson.build "s/^\(\tversion: \)'[^']*'/\1'0-$name'/"
change include/shunt/abi.h 's/^\(#define SHUNT_CGROUP_DEPTH *\)32\b/\131/'
change bpf/socket.bpf.h 's/^\(#define SOCKET_OPTION_PAGE\) 4096/\1 4095/'
if [ "$name" != text ]; then
	abi=$(sed -n 's/^#define SHUNT_ABI_VERSION //p' "$work/new/include/shunt/abi.h")
	[ "$name" = layout ] && abi=$((abi + 1)) || abi=$((abi + 2))
	change include/shunt/abi.h "s/^#define SHUNT_ABI_VERSION .*/#define SHUNT_ABI_VERSION $abi/"
	change include/shunt/abi.h 's/^struct shunt_pair {/&\n__u64 moved[3];/; s/sizeof(struct shunt_pair) == /&24 + /'
fi
if [ "$name" = layout ]; then
	change include/shunt/abi.h '/^struct shunt_sock {/,/^}/{/struct shunt_endpoint dialled/d; s/.*struct shunt_endpoint actual;/&\nstruct shunt_endpoint dialled;/}'
fi

# Only what is another file now, so that little is compiled again.
(cd "$work/new" && find . -type f) | while read -r file; do
	cmp -s "$work/new/$file" "$work/src/$file" || install -D "$work/new/$file" "$work/src/$file"
done
run() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
[ -e "$work/build/build.ninja" ] || run meson setup "$work/build" "$work/src"
run ninja -C "$work/build" agent/shuntd
cp "$work/build/agent/shuntd" "$output"
