#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# An unmodified HAProxy as the sidecar, dnsmasq as its DNS, and real programs on either side.
. "$(dirname "$0")/lib.sh"
for program in haproxy dnsmasq nginx redis-server curl dig; do
	command -v "$program" >/dev/null || skip "$program is not installed"
done
sandbox_new "$@"

# With the address 0.0.0.0 a server of HAProxy's is where the client wanted to go. It asks
# SO_ORIGINAL_DST for that, but for IPv4 only; behind ip6tables too, IPv6 takes a server that is
# known beforehand. It has one thread: of two that log at once one drops its line, rather than wait
# (fd_write_frag_line()).
cat >"$DIR/haproxy.cfg" <<-END
	global
		maxconn 500
		nbthread 1
		log stdout format raw local0
	defaults
		mode tcp
		log global
		log-format "%ci original %[dst]:%[dst_port] received %B"
		timeout connect 5s
		timeout client 20s
		timeout server 20s
	listen ipv4
		bind 127.0.0.1:15001
		server original 0.0.0.0:0
	listen ipv6
		bind [::1]:15001
		server fixed [$SRV6]:80
END
spawn haproxy proxy "$APP" haproxy -db -f "$DIR/haproxy.cfg"
answered haproxy "$APP" 15001
spawn dnsmasq proxy "$APP" dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= \
	--user=root --no-resolv --no-hosts --port=15053 --bind-interfaces \
	--listen-address=127.0.0.1,::1 --address=/shunt.test/192.0.2.7
answered dnsmasq "$APP" 15053
mkdir "$DIR/www"
head -c 20M /dev/urandom >"$DIR/www/big"
http_start
spawn redis host "$SRV" redis-server --bind "$SRV4" --port 6379 --save "" --dir "$DIR" \
	--protected-mode no
answered redis "$SRV" 6379
config_write <<-END
	dns_redirect = 127.0.0.1:15053, [::1]:15053
END
shuntd_start

logged() # DESTINATION COUNT: in HAProxy's log, which has a line when a connection is over
{
	[ "$(grep -c "^$APP4 original $1 " "$DIR/haproxy.log")" = "$2" ]
}

expect "curl over IPv4" "hello from the server" "$(app curl -sS "http://$SRV4/hello")"
wait_for 5 "HAProxy logs the original destination" logged "$SRV4:80" 1
expect "curl over IPv6" "hello from the server" "$(app curl -sS "http://[$SRV6]/hello")"
expect "curl to a v4-mapped address" "$SRV4" \
	"$(app curl -sS -o /dev/null -w '%{remote_ip}' "http://[::ffff:$SRV4]/hello" |
		sed 's/^::ffff://')"
expect "what curl believes" "$SRV4 80 from $APP4" \
	"$(app curl -sS -o /dev/null -w '%{remote_ip} %{remote_port} from %{local_ip}' \
		"http://$SRV4/hello")"

app curl -sS -o "$DIR/big" "http://$SRV4/big"
cmp "$DIR/big" "$DIR/www/big" || fail "20 MB over IPv4 are not what the server has"
app curl -sS -o "$DIR/big" "http://[$SRV6]/big"
cmp "$DIR/big" "$DIR/www/big" || fail "20 MB over IPv6 are not what the server has"
echo "ok: 20 MB, byte for byte"

redis() # COMMAND…
{
	app redis-cli -h "$SRV4" "$@"
}
expect "redis takes" OK "$(redis set key value)"
expect "redis gives" value "$(redis get key)"
head -c 5M "$DIR/www/big" | base64 -w 0 >"$DIR/value"
expect "redis takes 7 MB" OK "$(redis -x set big <"$DIR/value")"
redis get big | cmp - <(cat "$DIR/value"; echo) || fail "redis gives something else"
wait_for 5 "HAProxy logs all of redis" logged "$SRV4:6379" 4

before=$(grep -c "original $SRV4:80 " "$DIR/haproxy.log")
expect "asyncio, 100 at once" "100 right, from $APP4 to $SRV4:80" "$(
	app "$PYTHON" - "$SRV4" <<-'END'
		import asyncio, sys

		async def visit(host):
		    reader, writer = await asyncio.open_connection(host, 80)
		    names = writer.get_extra_info("sockname")[:1] + writer.get_extra_info("peername")
		    writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
		    text = await reader.read()
		    writer.close()
		    assert text.endswith(b"hello from the server\n"), text
		    return names

		async def main():
		    got = await asyncio.gather(*(visit(sys.argv[1]) for _ in range(100)))
		    for here, there, port in sorted(set(got)):
		        print(len(got), f"right, from {here} to {there}:{port}")

		asyncio.run(main())
	END
)"
wait_for 5 "HAProxy logs all of them" logged "$SRV4:80" $((before + 100))

for server in "$SRV4" "$SRV6" 198.51.100.53; do
	for how in +notcp +tcp; do
		expect "dig @$server $how" 192.0.2.7 \
			"$(app dig +short +tries=1 +time=3 "$how" "@$server" shunt.test)"
	done
done

expect "nothing of it was refused" 0 "$(counter connect_refused_sidecar_down)"
expect "no original destination was missing" 0 "$(counter origdst_unknown)"
