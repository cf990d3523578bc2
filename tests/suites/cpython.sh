#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# CPython's own tests: those of its modules that open connections on the loopback interface.
. "$(dirname "$0")/lib.sh"
"$PYTHON" -c "import test.test_asyncio" 2>/dev/null || skip "libpython3-testsuite is not installed"
suite_new "$@"
suite_mesh

modules=(
	test_asynchat test_asyncio test_asyncore test_docxmlrpc test_epoll test_ftplib test_httplib
	test_httpservers test_imaplib test_logging test_nntplib test_os test_poplib test_pydoc
	test_robotparser test_selectors test_smtpd test_smtplib test_socket test_socketserver test_ssl
	test_telnetlib test_timeout test_urllib2_localnet test_wsgiref test_xmlrpc
)

suite_run() # CGROUP MODULE…
{
	rm -f "$DIR/home/junit.xml"
	# Sockets of virtual machines are no TCP, and some hosts never answer them.
	(suite_enter "$1" timeout 700 "$PYTHON" -m test -j2 --timeout 300 -u network -i '*VSOCK*' \
		--tempdir "$DIR/home" --junit-xml "$DIR/home/junit.xml" "${@:2}") \
		>>"$DIR/suite-$1.log" 2>&1 </dev/null || true
	[ -e "$DIR/home/junit.xml" ] || fail "regrtest did not come to its end in cgroup $1"
	suite_results cpython <"$DIR/home/junit.xml"
}
suite_compare "${modules[@]}"
expect_counted splice_paired splice_bytes
