#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Redis's own tests: the protocol, large values, limits of buffers, many clients, replication.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark tclsh8.6
suite_new "$@"
suite_source redis
source=$DIR/home/redis
for program in redis-server redis-cli redis-benchmark; do
	ln -sf "$(command -v "$program")" "$source/src/$program"
done
suite_mesh

units=(
	unit/networking unit/obuf-limits unit/protocol unit/pubsub unit/querybuf unit/tracking unit/wait
	integration/failover integration/redis-benchmark integration/redis-cli
	integration/replication-2 integration/replication-buffer
)

suite_run() # CGROUP UNIT…
{
	local unit
	for unit in "${@:2}"; do
		echo "GROUP: $unit"
		(
			cd "$source"
			suite_enter "$1" timeout 300 ./runtest --single "$unit" --clients 1 --timeout 120
		) </dev/null || true
	done | tee -a "$DIR/suite-$1.log" | suite_results redis
}
suite_compare "${units[@]}"
expect_counted splice_paired splice_bytes
