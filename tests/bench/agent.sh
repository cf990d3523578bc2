#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# start, reload, adoption, memory and enrolment with 10,000 cgroups and 50,000 connections, and how fast they are told
set -euo pipefail

if [ "${1-}" = -h ] || [ $# -ne 1 ]; then
	echo "usage: tests/bench/agent.sh BUILD_DIR"
	exit 2
fi
exec /usr/bin/env python3 "$(dirname "$0")/agent.py" "$1"
