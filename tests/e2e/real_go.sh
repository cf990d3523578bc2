#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Proxies written in Go as the sidecar: Caddy, which speaks HTTP, and one that copies between two
# connections, which the runtime does by splice(2).
. "$(dirname "$0")/real_lib.sh"
need caddy go nginx curl
sandbox_new "$@"

file_make small 100K
file_make large 10M
file_make huge 60M
files_start </dev/null
mesh_start </dev/null

cat >"$DIR/proxy.go" <<-'END'
	package main

	import (
		"io"
		"net"
		"os"
	)

	func relay(to, from *net.TCPConn, done chan<- bool) {
		io.Copy(to, from)
		to.CloseWrite()
		done <- true
	}

	func serve(here *net.TCPConn) {
		defer here.Close()
		conn, err := net.Dial("tcp", os.Args[1])
		if err != nil {
			return
		}
		defer conn.Close()
		there, done := conn.(*net.TCPConn), make(chan bool)
		go relay(there, here, done)
		go relay(here, there, done)
		<-done
		<-done
	}

	func main() {
		listener, err := net.Listen("tcp", "127.0.0.1:15001")
		if err != nil {
			panic(err)
		}
		for {
			conn, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			go serve(conn.(*net.TCPConn))
		}
	}
END
GOCACHE=$BUILD/tests/go-cache GOPROXY=off go build -o "$DIR/proxy" "$DIR/proxy.go" ||
	fail "the proxy cannot be built"

bodies() # WHAT
{
	local name
	for name in small large huge; do
		download "$name"
		upload "$name"
	done
	echo "ok: $1, one after the other"
	together download large --limit-rate 3M : upload large --limit-rate 3M : download huge : \
		upload huge
	echo "ok: $1, all at once"
}

for flush in 0 -1; do
	cat >"$DIR/Caddyfile" <<-END
		{
			admin off
			auto_https off
		}
		http://:15001 {
			bind 127.0.0.1
			reverse_proxy $SERVED {
				flush_interval $flush
			}
		}
	END
	sidecar_start caddy env HOME="$DIR" caddy run --config "$DIR/Caddyfile" --adapter caddyfile
	bodies "Caddy, flush_interval $flush"
	stop caddy || true
done

sidecar_start proxy "$DIR/proxy" "$SERVED"
bodies "io.Copy"
stop proxy || true

# The first to write is the server, to a proxy that may not have written to any socket yet.
cat >"$DIR/greeter.py" <<-'END'
	import asyncio, sys

	async def greet(reader, writer):
	    writer.write(b"hello\n")
	    name = await reader.readline()
	    writer.write(b"and welcome, " + name)
	    await reader.read()
	    writer.close()

	async def main():
	    server = await asyncio.start_server(greet, sys.argv[1], 25)
	    await server.serve_forever()

	asyncio.run(main())
END
server_start greeter 25 "$PYTHON" "$DIR/greeter.py" "$SRV4"
sidecar_start proxy "$DIR/proxy" "$SRV4:25"
expect "a server that speaks first" "100 were welcomed" "$(
	app timeout "$DEADLINE" "$PYTHON" - "$SRV4" <<-'END'
		import asyncio, sys

		async def meet(number):
		    reader, writer = await asyncio.open_connection(sys.argv[1], 25)
		    assert await reader.readline() == b"hello\n"
		    writer.write(b"%d\n" % number)
		    assert await reader.readline() == b"and welcome, %d\n" % number
		    writer.write_eof()
		    assert await reader.read() == b""
		    writer.close()

		async def main():
		    for start in range(0, 100, 10):
		        await asyncio.gather(*map(meet, range(start, start + 10)))
		    print("100 were welcomed")

		asyncio.run(main())
	END
)"

# The runtime of Go reads by splice(2) where it can, so its programs are told apart.
expect_counted splice_plain_splices
