#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A few tests of the suite "kernel" on another kernel: what a program sees of a redirected
# connection, what its sidecar sees, and whether splicing works or is refused for the right reason.
# usage: short.sh BUILD_DIR SERIES
set -euo pipefail
build=$1 series=$2
if [ "$(id -u)" != 0 ]; then
	echo "SKIP: needs root"
	exit 77
fi
exec "$(dirname "$0")/../../scripts/vmtest" -C "$build" -t 1500 "$series" -- \
	meson test -C "$build" --no-rebuild --suite kernel --print-errorlogs --num-processes 1 \
	--timeout-multiplier 10 connect origdst selftest
