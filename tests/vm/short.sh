#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A few tests of the suite "kernel" on another kernel: what a program sees of a redirected
# connection, what its sidecar sees, and whether splicing works or is refused for the right reason;
# and the agent where there is no JIT.
# usage: short.sh BUILD_DIR SERIES
set -euo pipefail
build=$1 series=$2
if [ "$(id -u)" != 0 ]; then
	echo "SKIP: needs root"
	exit 77
fi
here=$(dirname "$(readlink -f "$0")")
# One after the other, and patiently: other tests run beside the guest.
export SHUNT_TESTS_PATIENCE=${SHUNT_TESTS_PATIENCE-30}
exec "$here/all" -j 1 -o "$build/vm/short-$series" "$build" "$series" \
	connect origdst selftest no_jit
