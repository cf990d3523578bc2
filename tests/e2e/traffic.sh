# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# A server and a program that notices each connection that is refused or breaks; for scripts that
# have read lib.sh. The relay must have as many connections as the server: then none went past it.

server_start()
{
	spawn server host "$SRV" "$PYTHON" -u "$LIB/traffic.py" server "$SRV4"
	answered server "$SRV" 80
}

program_start() # [keeps_names]: the held connection's names must stay as they are
{
	rm -f "$DIR/program.log"
	spawn program app "$APP" "$PYTHON" -u "$LIB/traffic.py" program "$SRV4" "$@"
	progress
}

progress() # waits until the program has gone on for a while
{
	local lines
	lines=$(wc -l <"$DIR/program.log")
	wait_for 10 "the program connects on" more_than "$lines"
	running program || fail "the program ended"
}

more_than() # LINES
{
	[ "$(wc -l <"$DIR/program.log")" -gt $(($1 + 1)) ]
}

program_stop() # sets count: how often it connected
{
	stop program || fail "the program failed"
	count=$(sed -n 's/^connected //p' "$DIR/program.log")
}
