#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# start, reload, adoption, memory and enrolment with 10,000 cgroups and 50,000 connections, and how fast they are told
set -euo pipefail

usage()
{
	cat <<-END
		usage: scripts/bench agent [-q] [-c CGROUPS] [-f FLOWS] [-r ROUNDS]
		  -q  quick, well within a minute: 2,000 cgroups, 2 rounds (options after it win)
		  -c  cgroups (10000)
		  -f  connections (50000)
		  -r  rounds, of which the median is told (5)
	END
}

build=$1
shift
cgroups=10000 flows=50000 rounds=5
while getopts qc:f:r:h option; do
	case $option in
	q) cgroups=2000 rounds=2 ;;
	c) cgroups=$OPTARG ;;
	f) flows=$OPTARG ;;
	r) rounds=$OPTARG ;;
	h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
done
[ $# -lt "$OPTIND" ] || { usage >&2; exit 2; }
exec /usr/bin/env python3 -B "$(dirname "$0")/agent.py" "$build" "$cgroups" "$flows" "$rounds"
