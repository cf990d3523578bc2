#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# A Prometheus scrapes the agent: every panel of the dashboard shows something, every alert asks for
# what there is, is quiet while all is well, and wakes up when the sidecar and the agent are gone.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
CONF=$LIB/../../conf

promtool check rules "$CONF/prometheus/shunt.rules.yml" >"$DIR/promtool.log" ||
	fail "promtool refuses the rules: $(cat "$DIR/promtool.log")"
promtool test rules "$LIB/shunt.rules.test.yml" >"$DIR/promtool.log" 2>&1 ||
	fail "alerts do not fire as they should: $(cat "$DIR/promtool.log")"
expect "no alert is missing in that test" "" \
	"$(comm -23 <(sed -n 's/ *- alert: //p' "$CONF/prometheus/shunt.rules.yml" | sort) \
		<(sed -n 's/.*alertname="\(.*\)".*/\1/p' "$LIB/shunt.rules.test.yml" | sort))"

# The agent and Prometheus are beside the servers, where no other test's are.
http_start
relay_start
config_write </dev/null
sed -i 's/^metrics_listen =.*/metrics_listen = 127.0.0.1:9464/' "$DIR/shunt.ini"
SHUNTD_NETNS=$SRV
shuntd_start

cat >"$DIR/prometheus.yml" <<-END
	global:
	  scrape_interval: 1s
	  evaluation_interval: 1s
	rule_files: ["$(readlink -f "$CONF")/prometheus/shunt.rules.yml"]
	scrape_configs:
	  - job_name: shunt
	    static_configs: [{targets: ["127.0.0.1:9464"]}]
END
promtool check config "$DIR/prometheus.yml" >"$DIR/promtool.log" ||
	fail "promtool refuses the configuration: $(cat "$DIR/promtool.log")"
spawn prometheus host "$SRV" prometheus --config.file="$DIR/prometheus.yml" \
	--storage.tsdb.path="$DIR/tsdb" --web.listen-address=127.0.0.1:9090 --log.level=warn
answered prometheus "$SRV" 9090

traffic()
{
	while :; do
		app curl -s --retry 3 "http://$SRV4/hello" "http://$SRV4/hello" >/dev/null || true
	done
}
traffic &
TRAFFIC=$!

ask() # WHAT…
{
	(enter host "$SRV" "$PYTHON" "$LIB/prometheus.py" http://127.0.0.1:9090 "$@") ||
		fail "Prometheus: $*"
}

ask grow 'shunt_connects_total{outcome="redirected"}'
if splices; then
	ask grow shunt_splice_bytes_total
	ask dashboard "$CONF/grafana/shunt.json"
else
	# Without the programs that splice there is nothing to test.
	ask dashboard "$CONF/grafana/shunt.json" Self-test
fi
ask rules
ask quiet

stop relay || true
ask wakes ShuntSidecarDown
kill "$TRAFFIC"
stop shuntd
ask wakes ShuntDown
