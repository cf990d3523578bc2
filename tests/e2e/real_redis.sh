#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Redis behind HAProxy: pipelines in both directions at once, large values, many clients, pub/sub.
. "$(dirname "$0")/real_lib.sh"
need haproxy redis-server redis-cli redis-benchmark
sandbox_new "$@"

server_start redis 6379 redis-server --bind "$SRV4" --port 6379 --save "" --dir "$DIR" \
	--protected-mode no
mesh_start </dev/null
haproxy_start

redis() # COMMAND…
{
	app timeout "$DEADLINE" redis-cli -h "$SRV4" "$@"
}

# Prints "set KEY VALUE" 100,000 times.
mass_insertion()
{
	awk 'BEGIN {
		for (i = 0; i < 100000; i++)
			printf "*3\r\n$3\r\nset\r\n$%d\r\nmass:%d\r\n$%d\r\n%s\r\n",
				5 + length(i), i, 3 + length(i), "no " i
	}'
}
mass_insertion >"$DIR/mass"
expect "redis-cli --pipe" "errors: 0, replies: 100000" "$(redis --pipe <"$DIR/mass" | tail -n 1)"
expect "the last of them" "no 99999" "$(redis get mass:99999)"

# Answers are read while questions are still being written: neither waits for the other, so that
# both directions fill up.
pipeline() # PREFIX SECONDS-TO-PAUSE
{
	app timeout "$DEADLINE" "$PYTHON" - "$SRV4" "$@" <<-'END' || fail "pipeline $*"
		import asyncio, random, sys

		host, prefix, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
		chance = random.Random(prefix)
		values = [chance.randbytes(chance.choice([1, 100, 3000, 30000, 300000]))
		          for _ in range(300)]

		def command(*words):
		    yield b"*%d\r\n" % len(words)
		    for word in words:
		        yield b"$%d\r\n%s\r\n" % (len(word), word)

		async def ask(writer):
		    for number, value in enumerate(values):
		        key = f"{prefix}:{number}".encode()
		        writer.writelines([*command(b"SET", key, value), *command(b"GET", key)])
		        await writer.drain()
		    for number in range(len(values)):
		        writer.writelines(command(b"GET", f"{prefix}:{number}".encode()))
		    await writer.drain()

		async def value_of(reader):
		    size = int((await reader.readline())[1:])
		    return (await reader.readexactly(size + 2))[:-2]

		async def check(reader):
		    for number, value in enumerate(values):
		        assert await reader.readline() == b"+OK\r\n", number
		        assert await value_of(reader) == value, number
		        if number % 100 == 50:
		            await asyncio.sleep(pause)
		    for number, value in enumerate(values):
		        assert await value_of(reader) == value, number

		async def main():
		    reader, writer = await asyncio.open_connection(host, 6379)
		    await asyncio.gather(ask(writer), check(reader))
		    writer.close()

		asyncio.run(main())
	END
}
pipeline one 0
echo "ok: a pipeline"
together pipeline two 1 : pipeline three 0 : pipeline four 0.5 : pipeline five 2
echo "ok: pipelines at once, some of them slow to read"

for depth in 1 16 500; do
	app timeout "$DEADLINE" redis-benchmark -h "$SRV4" -n 30000 -c 20 -P "$depth" -d 200 -q \
		-t set,get,lpush,lrange_100 >"$DIR/benchmark.log" 2>&1 ||
		fail "redis-benchmark -P $depth"
	! grep -i error "$DIR/benchmark.log" || fail "redis-benchmark -P $depth has errors"
done
echo "ok: redis-benchmark, 1, 16 and 500 in a pipeline"

spawn subscriber app "$APP" timeout "$DEADLINE" redis-cli -h "$SRV4" subscribe news
wait_for 10 "somebody listens" grep -q subscribe "$DIR/subscriber.log"
for ((number = 0; number < 200; number++)); do
	echo "publish news $number"
done | redis >"$DIR/published.log"
wait_for 10 "all news are there" grep -qx 199 "$DIR/subscriber.log"
expect "all news in order" "$(seq 0 199)" "$(grep -A 1 '^news$' "$DIR/subscriber.log" |
	grep -xE '[0-9]+' | tail -n 200)"

expect_counted splice_paired splice_bytes splice_messages
