#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# libuv's own tests of what it does with TCP, against the library that is installed.
. "$(dirname "$0")/lib.sh"
need gcc
suite_new "$@"
suite_source libuv1
source=$DIR/home/libuv1
suite_mesh

mapfile -t files < <(find "$source/test" -name '*.c' ! -name '*win*' ! -name '*benchmark*')
gcc -w -D_GNU_SOURCE -I"$source"/{include,src,test} -o "$DIR/uv_run_tests" "${files[@]}" \
	-luv -lpthread -ldl || fail "the tests cannot be built"
# What is in the files that make TCP handles; the list of the program itself says what runs here.
mapfile -t tests < <(
	comm -12 <((suite_enter outside "$DIR/uv_run_tests" --list) | sort) <(
		grep -l uv_tcp_init "$source"/test/test-*.c |
			xargs grep -hoP '^TEST_IMPL\(\K\w+' | sort
	)
)

suite_run() # CGROUP TEST…
{
	local test
	for test in "${@:2}"; do
		(
			cd "$DIR/home"
			suite_enter "$1" timeout 100 "$DIR/uv_run_tests" "$test"
		) </dev/null 2>&1 || true
	done | tee -a "$DIR/suite-$1.log" | suite_results libuv
}
suite_compare "${tests[@]}"
expect_counted splice_paired splice_bytes
