#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Tcl's own tests of sockets and HTTP.
. "$(dirname "$0")/lib.sh"
need tclsh8.6
suite_new "$@"
suite_source tcl8.6
source=$DIR/home/tcl8.6
suite_mesh

suite_run() # CGROUP FILE…
{
	local file
	for file in "${@:2}"; do
		echo "GROUP: $file"
		(
			cd "$source/tests"
			suite_enter "$1" timeout 200 tclsh8.6 "$file.test" -verbose pse
		) </dev/null 2>&1 || true
	done | tee -a "$DIR/suite-$1.log" | suite_results tcl
}
suite_compare socket http http11
# All its sockets are in blocking mode.
expect_counted splice_plain_blocking
