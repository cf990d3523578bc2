#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# memcached behind HAProxy: sets without answers, gets of many keys with tens of MB at once.
. "$(dirname "$0")/real_lib.sh"
need haproxy memcached
sandbox_new "$@"

server_start memcached 11211 memcached -u root -l "$SRV4" -p 11211 -m 512 -I 8m -t 2
mesh_start </dev/null
haproxy_start

exchange() # PREFIX SECONDS-TO-PAUSE
{
	app timeout "$DEADLINE" "$PYTHON" - "$SRV4" "$@" <<-'END' || fail "exchange $*"
		import asyncio, random, sys

		host, prefix, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
		chance = random.Random(prefix)
		values = {f"{prefix}-{number}".encode(): chance.randbytes(size) for number, size in
		          enumerate([1, 50, 1000, 20_000, 400_000, 3_000_000] * 5)}

		async def main():
		    reader, writer = await asyncio.open_connection(host, 11211)
		    for key, value in values.items():
		        writer.write(b"set %s 0 0 %d noreply\r\n%s\r\n" % (key, len(value), value))
		        await writer.drain()
		    for key, value in values.items():
		        for _ in range(20 if len(value) < 2000 else 1):
		            writer.write(b"get %s\r\n" % key)
		            line = b"VALUE %s 0 %d\r\n" % (key, len(value))
		            assert await reader.readline() == line, key
		            assert await reader.readexactly(len(value) + 7) == value + b"\r\nEND\r\n", key
		    writer.write(b"get %s\r\n" % b" ".join(values))
		    for key, value in values.items():
		        assert await reader.readline() == b"VALUE %s 0 %d\r\n" % (key, len(value)), key
		        if len(value) > 1_000_000:
		            await asyncio.sleep(pause)
		        assert await reader.readexactly(len(value) + 2) == value + b"\r\n", key
		    assert await reader.readline() == b"END\r\n"
		    writer.write(b"quit\r\n")
		    assert await reader.read() == b""
		    writer.close()

		asyncio.run(main())
	END
}
exchange one 0
echo "ok: one client"
together exchange two 0.5 : exchange three 0 : exchange four 0.2
echo "ok: clients at once, some of them slow to read"

expect_counted splice_paired splice_bytes
