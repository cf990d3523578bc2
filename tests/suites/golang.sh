#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# The tests of Go's standard library that open connections.
. "$(dirname "$0")/lib.sh"
need go
sources=$(go env GOROOT)/src
[ -e "$sources/net/net_test.go" ] || skip "the sources of Go are not installed"
suite_new "$@"
suite_mesh

packages=(
	crypto/tls log/syslog net net/http net/http/cookiejar net/http/httptest net/http/httputil
	net/rpc net/smtp
)

test_program() # PACKAGE
{
	echo "$DIR/${1//\//-}.test"
}

for package in "${packages[@]}"; do
	GOCACHE=$(readlink -f "$BUILD")/tests/go-cache GOPROXY=off \
		go test -c -o "$(test_program "$package")" "$package" ||
		fail "the tests of $package cannot be built"
done

suite_run() # CGROUP PACKAGE…
{
	local package
	for package in "${@:2}"; do
		(
			cd "$sources/$package"
			suite_enter "$1" GOCACHE="$DIR/home" go tool test2json -p "$package" \
				timeout 200 "$(test_program "$package")" -test.v -test.short \
				-test.timeout 150s
		) </dev/null 2>>"$DIR/suite-$1.log" | suite_results golang || true
	done
}
suite_compare "${packages[@]}"
# Go's runtime reads by splice(2) where it copies between connections, so its programs are told apart.
expect_counted splice_plain_splices
