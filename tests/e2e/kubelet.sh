#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#
# Pods as kubelet lays out their cgroups, with its systemd and its cgroupfs driver, in each class of
# service. The sidecar is known by its user, as in conf/examples. Containers restart under new names
# and are redirected from their first connection on; while the sidecar is away connections go on
# past it. The agent runs as in the pod of conf/kubernetes: in a cgroup namespace and a network
# namespace of its own, with the capabilities that its DaemonSet has.
. "$(dirname "$0")/lib.sh"
sandbox_new "$@"
http_start
UID_PROXY=1337
POD=kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0.slice

daemonset() # EXPRESSION: of Python, on the container and on that of the patch detach.yaml
{
	"$PYTHON" - "$LIB/../../conf/kubernetes" "$1" <<-'END'
		import sys, yaml

		def container(name):
		    things = yaml.safe_load_all(open(f"{sys.argv[1]}/{name}"))
		    return [thing["spec"]["template"]["spec"]["containers"][0] for thing in things
		            if thing.get("kind", "DaemonSet") == "DaemonSet"][0]

		print(eval(sys.argv[2], {"container": container("daemonset.yaml"),
		                         "patch": container("detach.yaml")}))
	END
}

ctl()
{
	"$BUILD/agent/shuntctl" -s "$DIR/run/control.sock" "$@"
}

# Runs a command as in the pod, in place of the (sub)shell's program.
in_pod() # NAME COMMAND…
{
	spawn "$1" "$POD/cri-containerd-shuntd.scope" - unshare --cgroup --mount --net sh -c '
		mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$CGROUP_ROOT" "$DIR/cgroup" \
		setpriv --no-new-privs --bounding-set="$CAPS" --inh-caps="$CAPS" "${@:2}"
}

agent_start()
{
	config_write <<-END
		[mesh istio]
		cgroups = $CG/kubepods.slice, $CG/kubepods
		sidecar_uids = $UID_PROXY
		tcp_redirect = 127.0.0.1:15001, [::1]:15001
		dns_redirect = 127.0.0.1:15053, [::1]:15053
		on_sidecar_down = bypass
	END
	sed -i "/^\[mesh test\]/,/^tcp_redirect/d; s|^cgroup_root = .*|cgroup_root = $DIR/cgroup|
		s|^control_socket = .*|control_socket = $DIR/run/control.sock|" "$DIR/shunt.ini"
	in_pod shuntd "$BUILD/agent/shuntd" -c "$DIR/shunt.ini"
	wait_for 180 "shuntd answers" ctl status
}

proxy_start() # CGROUP
{
	mkdir "$CGROUP_ROOT$CG/$1"
	spawn relay "$1" "$APP" setpriv --reuid="$UID_PROXY" --regid="$UID_PROXY" --clear-groups \
		"$DIR/relay" -l 127.0.0.1:15001 -l '[::1]:15001'
	answered relay "$APP" 15001
}

proxy_stop() # CGROUP
{
	stop relay || true
	cgroup_remove "$CG/$1"
}

# A container that was never there before, from its first connection on.
container_visit() # CGROUP ADDRESS
{
	mkdir "$CGROUP_ROOT$CG/$1"
	(enter "$1" "$APP" curl -sS "http://$2/hello")
	cgroup_remove "$CG/$1"
}

original_of() # NUMBER: where the relay's connection of that number was meant to go
{
	grep ^accepted "$DIR/relay.log" | sed -n "$1s/.* original //p"
}

pod_try() # POD BEFORE AFTER: what stands before and after the id of a container in its cgroup's name
{
	local pod=$1 before=$2 after=$3 passed redirected
	: >"$DIR/relay.log"
	mkdir -p "$CGROUP_ROOT$CG/$pod"
	passed=$(counter connect_bypassed_sidecar_down)
	redirected=$(counter connect_redirected)
	expect "$pod: without a sidecar it is served" "hello from the server" \
		"$(container_visit "$pod/${before}a1$after" "$SRV4")"
	expect "$pod: past the sidecar" $((passed + 1)) "$(counter connect_bypassed_sidecar_down)"

	proxy_start "$pod/${before}b1$after"
	expect "$pod: with a sidecar it is served" "hello from the server" \
		"$(container_visit "$pod/${before}a2$after" "$SRV4")"
	expect "$pod: and over IPv6, after a restart" "hello from the server" \
		"$(container_visit "$pod/${before}a3$after" "[$SRV6]")"
	proxy_stop "$pod/${before}b1$after"

	expect "$pod: while the sidecar restarts it is served" "hello from the server" \
		"$(container_visit "$pod/${before}a4$after" "$SRV4")"
	proxy_start "$pod/${before}b2$after"
	expect "$pod: with the sidecar restarted it is served" "hello from the server" \
		"$(container_visit "$pod/${before}a5$after" "$SRV4")"
	expect "$pod: the sidecar was told where to" "$SRV4:80 [$SRV6]:80 $SRV4:80" \
		"$(original_of 1) $(original_of 2) $(original_of 3)"
	expect "$pod: three redirected" $((redirected + 3)) "$(counter connect_redirected)"
	expect "$pod: two past the sidecar" $((passed + 2)) "$(counter connect_bypassed_sidecar_down)"
	proxy_stop "$pod/${before}b2$after"
	cgroup_remove "$CG/$pod"
}

cp "$BUILD/tests/shunt-relay" "$DIR/relay"
chmod 711 "$DIR"
CAPS=$(daemonset '"-all," + ",".join(
	"+" + name.lower() for name in container["securityContext"]["capabilities"]["add"])')
mkdir -p "$CGROUP_ROOT$CG/$POD/cri-containerd-shuntd.scope" "$DIR"/{cgroup,run}
agent_start
expect "with these capabilities it splices" "" "$(grep 'nothing is spliced' "$DIR/shuntd.log" || true)"
for class in "" burstable besteffort; do
	slice=kubepods${class:+-$class}
	for runtime in cri-containerd crio; do
		pod_try "kubepods.slice/${class:+$slice.slice/}$slice-pod1234_5678.slice" "$runtime-" .scope
	done
	pod_try "kubepods/${class:+$class/}pod1234-5678" "" ""
done
expect "no cgroup was unclassified" 0 "$(counter connect_unclassified)"
wait_for 5 "the agent has forgotten the pods" \
	sh -c "! '$BUILD/agent/shuntctl' -s '$DIR/run/control.sock' cgroups | grep -q pod1234"
expect "a cgroup can be asked about" "redirected: sent to the sidecar" \
	"$(ctl explain "$CG/kubepods" "$SRV4:80" | sed -n 's/^outcome *//p')"

# As README.md has it: the patched pod comes in place of the one before, and takes everything out.
mkdir "$DIR/bin"
printf '#!/bin/sh\nexec "%s" -c "%s"\n' "$BUILD/agent/shuntd" "$DIR/shunt.ini" >"$DIR/bin/shuntd"
printf '#!/bin/sh\nexec "%s" -s "%s" "$@"\n' "$BUILD/agent/shuntctl" "$DIR/run/control.sock" \
	>"$DIR/bin/shuntctl"
chmod +x "$DIR"/bin/*
bpf_objects "$DIR/bpf/shunt" >"$DIR/objects"
[ "$(grep -c link "$DIR/objects")" -gt 5 ] || fail "there is too little to take out"
stop shuntd || fail "shuntd failed when its pod was ended"
in_pod detach env PATH="$DIR/bin:$PATH" sh -c "$(daemonset 'patch["command"][-1]')"
wait_for 180 "the patched pod has detached" test ! -e "$DIR/bpf/shunt"
expect "detached: no program, link or map is left" "" "$(bpf_left "$DIR/objects")"
running detach || fail "the patched pod ended, and would be started again"
