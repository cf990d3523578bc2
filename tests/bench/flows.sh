#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# how long shuntctl flows takes with 50,000 connections, and others wait for the agent
set -euo pipefail

if [ "${1-}" = -h ] || [ $# -ne 1 ]; then
	echo "usage: tests/bench/flows.sh BUILD_DIR"
	exit 2
fi
exec /usr/bin/env python3 "$(dirname "$0")/flows.py" "$1"
