#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# nginx as the sidecar, buffered and unbuffered, with readers that are slow or stop. It is
# edge-triggered, takes a short read for the end of what there is, and asks FIONREAD.
. "$(dirname "$0")/real_lib.sh"
need nginx curl
sandbox_new "$@"

file_make small 100K
file_make large 10M
file_make huge 60M
files_start </dev/null
mesh_start </dev/null

nginx_start() # what is on stdin is added to the location
{
	nginx_write sidecar "worker_processes 2;" "
		client_max_body_size 0;
		upstream files {
			server $SERVED;
			keepalive 4;
		}
		server {
			listen 127.0.0.1:15001;
			location / {
				proxy_pass http://files;
				proxy_http_version 1.1;
				proxy_set_header Connection '';
				$(cat)
			}
		}"
	sidecar_start sidecar nginx -c "$DIR/sidecar.conf" -p "$DIR" -e stderr
}

# Reads the answer, and in the middle of it nothing for some seconds; its receive buffer is small,
# so that sidecar and server stop too.
pausing() # NAME RECEIVE_BUFFER
{
	app timeout "$DEADLINE" "$PYTHON" - "$DIR/www/$1" "$SRV4" "$1" "$2" <<-'END' ||
		import selectors, socket, sys, time

		path, host, name, size = sys.argv[1:]
		with open(path, "rb") as file:
		    wanted = file.read()
		with socket.socket() as sock:
		    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(size))
		    sock.setblocking(False)
		    sock.connect_ex((host, 80))
		    selector = selectors.EpollSelector()
		    selector.register(sock, selectors.EVENT_WRITE)
		    selector.select()
		    sock.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
		    selector.modify(sock, selectors.EVENT_READ)
		    got = bytearray()
		    pauses = [1 << 20, len(wanted) // 2]
		    while True:
		        selector.select()
		        part = sock.recv(1 << 16)
		        if not part:
		            break
		        got += part
		        if pauses and len(got) > pauses[0]:
		            pauses.pop(0)
		            time.sleep(2)
		assert got.partition(b"\r\n\r\n")[2] == wanted, len(got)
	END
		fail "a reader that stops for a while does not get all of $1"
}

settings=(
	"proxy_buffering on;"
	"proxy_buffering off;"
	"proxy_buffering off; proxy_request_buffering off;"
	"proxy_buffering on; proxy_max_temp_file_size 0; proxy_buffers 8 4k; proxy_busy_buffers_size 8k;"
)
for setting in "${settings[@]}"; do
	nginx_start <<<"$setting"
	for name in small large huge; do
		download "$name"
		upload "$name"
	done
	echo "ok: $setting fast readers"
	together download large --limit-rate 3M : download large --limit-rate 4M : \
		upload large --limit-rate 3M : upload huge : download huge
	echo "ok: $setting slow readers"
	together pausing huge 65536 : pausing large 4096 : pausing huge 1000000
	echo "ok: $setting readers that stop"
	stop sidecar QUIT || true
done

expect_counted splice_paired splice_bytes
