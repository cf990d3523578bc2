#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A restart of the agent opens no gap, not even when it is killed; a detach takes everything out.
# Neither costs a connection: programs connect and hold connections open all the while.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"

# A server that says how many connections it has had and echoes; a program whose threads connect
# without a pause, and each hold one connection all the time. The relay must have as many
# connections as the server: then none went past it.
cat >"$DIR/server.py" <<-'END'
	import os, socketserver, sys

	class Echo(socketserver.StreamRequestHandler):
	    def handle(self):
	        os.write(1, b"connection\n")
	        while data := self.connection.recv(4096):
	            self.connection.sendall(data)

	class Server(socketserver.ThreadingTCPServer):
	    daemon_threads = True
	    request_queue_size = 1024

	Server((sys.argv[1], 80), Echo).serve_forever()
END
cat >"$DIR/program.py" <<-'END'
	import os, signal, socket, sys, threading, traceback

	host, keeps_names = sys.argv[1], sys.argv[2:]
	stop = threading.Event()
	signal.signal(signal.SIGTERM, lambda *_: stop.set())
	counts = []

	def echo(sock):
	    sock.sendall(b"are you there?")
	    assert sock.recv(100) == b"are you there?"

	def visit(report):
	    old = socket.create_connection((host, 80))
	    names = old.getsockname(), old.getpeername()
	    count = 1
	    while not stop.is_set():
	        echo(old)
	        with socket.create_connection((host, 80)) as new:
	            echo(new)
	            if keeps_names:
	                assert (old.getsockname(), old.getpeername()) == names
	                assert new.getpeername() == (host, 80), new.getpeername()
	        count += 1
	        if report and count % 10 == 0:
	            print("so far", count, flush=True)
	    counts.append(count)

	def run(report):
	    try:
	        visit(report)
	    except BaseException:
	        traceback.print_exc()
	        os._exit(1)

	threads = [threading.Thread(target=run, args=(i == 0,)) for i in range(6)]
	for thread in threads:
	    thread.start()
	stop.wait()
	for thread in threads:
	    thread.join()
	print("connected", sum(counts), flush=True)
END

program_start() # [keeps_names]: the held connection's names must stay as they are
{
	rm -f "$DIR/program.log"
	spawn program app "$APP" "$PYTHON" -u "$DIR/program.py" "$SRV4" "$@"
	progress
}

progress() # waits until the program has gone on for a while
{
	local lines
	lines=$(wc -l <"$DIR/program.log")
	wait_for 10 "the program connects on" more_than "$lines"
	running program || fail "the program ended"
}

logged_since() # LINES TEXT: does the agent's log have TEXT behind its first LINES?
{
	tail -n "+$(($1 + 1))" "$DIR/shuntd.log" | grep -q "$2"
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

spawn server host "$SRV" "$PYTHON" -u "$DIR/server.py" "$SRV4"
answered server "$SRV" 80
relay_start
shuntd_start
program_start keeps_names

stop shuntd || fail "shuntd failed when it was asked to end"
[ ! -e "$DIR/control.sock" ] || fail "the control socket outlived its agent"
progress
shuntd_start
progress
stop shuntd KILL || true
progress
shuntd_start
progress
sed -i 's/^cgroups = .*/&, '"${CG//\//\\/}"'\/other/' "$DIR/shunt.ini"
ctl reload >/dev/null
progress
printf '[limits]\ncgroups = 2000\nrules = 2000\n' >>"$DIR/shunt.ini"
for limit in 3000 4000; do # maps of another size cannot be taken over
	sed -i "s/^cgroups = [0-9].*/cgroups = $limit/" "$DIR/shunt.ini"
	stop shuntd || fail "shuntd failed when it was asked to end"
	shuntd_start
	grep -q 'map shunt_cgroups .* made anew' "$DIR/shuntd.log" || fail "the map was taken over"
	progress
done
program_stop
wait_for 5 "the relay has all $count connections" relayed "$count"
expect "end, start, kill, start, reload, other limits: each of $count connections redirected" "$count" \
	"$(grep -c connection "$DIR/server.log")"
expect "the counters went on" "$count" "$(counter connect_redirected)"

program_start
for round in 1 2 3; do
	bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
	[ "$(grep -c prog "$DIR/objects")" -gt 5 ] || fail "there is too little to take out"
	ctl detach >/dev/null
	wait "${PIDS[shuntd]}" || fail "shuntd failed when it was told to detach"
	expect "detach $round: no program, link or map is left" "" "$(bpf_left "$DIR/objects")"
	[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left: $(find "$DIR/bpf/shunt")"
	[ ! -e "$DIR/control.sock" ] || fail "the control socket is left"
	running program || fail "a connection broke when Shunt was detached"
	progress # what was under way at the sidecar is over
	before=$(grep -c ^accepted "$DIR/relay.log")
	progress
	relayed "$before" || fail "still redirected after detach"
	shuntd_start
	progress
	[ "$(grep -c ^accepted "$DIR/relay.log")" -gt "$before" ] || fail "not redirected again"
done
program_stop
echo "ok: detached and started again under traffic"

bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
logged=$(wc -l <"$DIR/shuntd.log")
ctl detach >/dev/null &
wait_for 5 "the detach has begun" logged_since "$logged" detaching
kill "${PIDS[shuntd]}"
wait "${PIDS[shuntd]}" || fail "shuntd failed when it was ended in mid-detach"
expect "ended in mid-detach: nothing is left all the same" "" "$(bpf_left "$DIR/objects")"
[ ! -e "$DIR/bpf/shunt" ] || fail "pins are left"
