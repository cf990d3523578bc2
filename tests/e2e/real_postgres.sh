#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# PostgreSQL behind HAProxy: COPY of tens of MB in both directions, with TLS and without.
. "$(dirname "$0")/real_lib.sh"
binaries=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$binaries/initdb" ] || skip "postgresql is not installed"
need haproxy psql openssl
sandbox_new "$@"

# It refuses to run as root.
chmod 711 "$DIR"
mkdir "$DIR/db"
chown postgres: "$DIR/db"
as_postgres=(setpriv --reuid postgres --regid postgres --init-groups env -C "$DIR/db")
"${as_postgres[@]}" "$binaries/initdb" -D "$DIR/db" -A trust -N --no-instructions -E UTF8 \
	--locale C >"$DIR/initdb.log" 2>&1 || fail "initdb"
"${as_postgres[@]}" openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shunt.test \
	-keyout "$DIR/db/server.key" -out "$DIR/db/server.crt" 2>"$DIR/openssl.log" || fail "openssl"
echo "host all all 0.0.0.0/0 trust" >>"$DIR/db/pg_hba.conf"
server_start postgres 5432 "${as_postgres[@]}" "$binaries/postgres" -D "$DIR/db" \
	-c listen_addresses="$SRV4" -c unix_socket_directories= -c ssl=on -c fsync=off
mesh_start </dev/null
haproxy_start

sql() # SSLMODE COMMAND: what it reads is on stdin
{
	app timeout "$DEADLINE" psql -qAtX -v ON_ERROR_STOP=1 \
		"host=$SRV4 user=postgres dbname=postgres sslmode=$1" -c "$2"
}

wait_for 10 "the database answers" sql disable "select 1"
expect "TLS is what was asked for" "t f" "$(for mode in require disable; do
	sql "$mode" "select ssl from pg_stat_ssl where pid = pg_backend_pid()" </dev/null
done | paste -sd ' ')"

# 40 MB in short rows and in long ones.
head -c 30M /dev/urandom | base64 -w 76 | nl -w 1 >"$DIR/short"
head -c 30M /dev/urandom | base64 -w 300000 | nl -w 1 >"$DIR/long"

copy() # SSLMODE FILE TABLE
{
	sql "$1" "create table $3 (number int, value text)" </dev/null || return
	sql "$1" "copy $3 from stdin" <"$DIR/$2" || return
	sql "$1" "copy $3 to stdout" </dev/null | cmp - "$DIR/$2" || return
	# Nothing is read before all is there, unlike with COPY.
	sql "$1" "select number || E'\\t' || value from $3 order by number" </dev/null |
		cmp - "$DIR/$2" || return
	sql "$1" "drop table $3" </dev/null
}
for mode in disable require; do
	for file in short long; do
		copy "$mode" "$file" "${file}_$mode" || fail "copy of $file rows, sslmode=$mode"
		echo "ok: copy of $file rows, sslmode=$mode"
	done
done
together copy disable short a : copy require short b : copy disable long c : copy require long d
echo "ok: all of them at once"

# Conversations of short questions and answers.
for mode in disable require; do
	for ((number = 0; number < 2000; number++)); do
		echo "select $number;"
	done | app timeout "$DEADLINE" psql -qAtX \
		"host=$SRV4 user=postgres dbname=postgres sslmode=$mode" >"$DIR/answers" ||
		fail "2000 questions, sslmode=$mode"
	seq 0 1999 | cmp - "$DIR/answers" || fail "not the answers to 2000 questions, sslmode=$mode"
	echo "ok: 2000 questions, sslmode=$mode"
done

expect_counted splice_paired splice_bytes splice_messages
