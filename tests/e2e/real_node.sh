#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Node.js at both hops: its HTTP server, a proxy of its as the sidecar, and its client beside curl.
. "$(dirname "$0")/real_lib.sh"
need node curl
sandbox_new "$@"

file_make small 100K
file_make large 10M
file_make huge 60M
mkdir "$DIR/www/put"

cat >"$DIR/server.js" <<-'END'
	const fs = require('fs'), http = require('http'), path = require('path');
	const { pipeline } = require('stream');
	const [host, root] = process.argv.slice(2);
	http.createServer({ keepAliveTimeout: 0 }, (request, response) => {
		const file = path.join(root, request.url);
		if (request.method === 'PUT') {
			pipeline(request, fs.createWriteStream(file), error => {
				response.statusCode = error ? 500 : 201;
				response.end();
			});
		} else {
			pipeline(fs.createReadStream(file), response, () => {});
		}
	}).listen(80, host);
END
cat >"$DIR/proxy.js" <<-'END'
	const http = require('http'), { pipeline } = require('stream');
	const agent = new http.Agent({ keepAlive: true });
	http.createServer({ keepAliveTimeout: 0 }, (request, response) => {
		const { method, url: path, headers } = request;
		const onward = http.request({ host: process.argv[2], method, path, headers, agent });
		onward.on('response', answer => {
			response.writeHead(answer.statusCode, answer.headers);
			pipeline(answer, response, () => {});
		});
		onward.on('error', error => response.destroy(error));
		pipeline(request, onward, () => {});
	}).listen(15001, '127.0.0.1');
END
cat >"$DIR/client.js" <<-'END'
	const assert = require('assert'), fs = require('fs'), http = require('http');
	const { once } = require('events');
	const [host, name, file, count] = process.argv.slice(2);
	const wanted = fs.readFileSync(file);
	const agent = new http.Agent({ keepAlive: true, maxSockets: 5 });
	async function get(slowly) {
		const request = http.get({ host, path: '/' + name, agent });
		const [response] = await once(request, 'response');
		const parts = [];
		for await (const part of response) {
			parts.push(part);
			if (slowly && parts.length % 50 === 0)
				await new Promise(resolve => setTimeout(resolve, 100));
		}
		assert(Buffer.concat(parts).equals(wanted));
	}
	process.exitCode = 1; // unless it comes to the end of this
	(async () => {
		for (let left = +count; left > 0; left -= 10)
			await Promise.all(Array.from({ length: 10 }, (_, i) => get(left > 20 && i === 0)));
		agent.destroy();
		process.exitCode = 0;
	})();
END

server_start server 80 node "$DIR/server.js" "$SRV4" "$DIR/www"
mesh_start </dev/null
sidecar_start proxy node "$DIR/proxy.js" "$SRV4"

clients() # NAME COUNT
{
	app timeout "$DEADLINE" node "$DIR/client.js" "$SRV4" "$1" "$DIR/www/$1" "$2" ||
		fail "Node's client: $2 times $1"
}
for name in small large huge; do
	download "$name"
	upload "$name"
	upload "$name" -H "Transfer-Encoding: chunked"
	echo "ok: curl, $name"
done
clients small 1000
clients large 30
echo "ok: clients of Node's"
together download large --limit-rate 3M : upload large --limit-rate 3M : clients small 300 : \
	download huge : upload huge
echo "ok: all at once, some slow"

expect_counted splice_paired splice_bytes splice_messages
