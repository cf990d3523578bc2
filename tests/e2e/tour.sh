#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The try-out of scripts/run shows what it says that it shows.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 BUILD_DIR" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "SKIP: needs root"; exit 77; }

out=$("$(dirname "$(readlink -f "$0")")/../../scripts/tour" "$1")
echo "$out"

part() # NUMBER: of the tour
{
	sed -n "/^$1\\. /,/^$(($1 + 1))\\. /p" <<<"$out"
}

shows() # NUMBER TEXT
{
	grep -q -- "$2" <<<"$(part "$1")" || { echo "FAIL: part $1 does not show: $2" >&2; exit 1; }
}

shows 2 "it dialled    10.83.0.1 port 80, from 10.83.0.2"
shows 2 "it got        hello from the web server"
shows 2 "sidecar saw   nothing"
shows 3 "it dialled    10.83.0.1 port 80, from 10.83.0.2"
shows 3 "it got        hello from the web server"
shows 3 "sidecar saw   accepted 10.83.0.2:[0-9]* original 10.83.0.1:80"
shows 3 "redirected to  127.0.0.1:15001"
shows 4 "it is at 198.51.100.1"
shows 4 "so says 10.83.0.1#53"
shows 5 "it is at 198.51.100.2"
shows 5 "so says 10.83.0.1#53"
shows 6 "connect_redirected  *2 "
shows 7 "nothing left behind: 1[0-9] programs"
