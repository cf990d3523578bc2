#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is in conf/: the examples are configurations without a mistake; the Kubernetes objects have
only fields that the API has, of its types and none that is required missing; they fit to one
another and to the unit of systemd."""
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
SKIP = 77
try:
    import yaml
    from kubernetes.client import models
except ImportError as error:
    print(f"SKIP: {error}")
    sys.exit(1 if os.environ.get("SHUNT_TESTS_MUST_RUN") == "1" else SKIP)

BUILD = pathlib.Path(sys.argv[1])
OBJECTS = TOP / "conf/kubernetes"
SIMPLE = {"str": str, "int": int, "bool": bool, "float": (int, float)}
# What the API has had since the version that the package of its client has: 1.30.
NEWER = {("V1SecurityContext", "appArmorProfile"): "V1SeccompProfile"}
# Not the API's own, but the Prometheus Operator's, as far as it is used here.
SERVICE_MONITOR = {"selector": {"matchLabels": dict},
                   "endpoints": [{"port": str, "path": str, "interval": str,
                                  "relabelings": [{"sourceLabels": [str], "targetLabel": str}]}]}
failures = []


def expect(condition, complaint):
    if not condition:
        failures.append(complaint)


def check(kind, value, where):
    """@kind: a type as the models name them."""
    if value is None or kind == "object":
        return
    if kind.startswith("list["):
        expect(isinstance(value, list), f"{where}: not a list")
        for number, item in enumerate(value):
            check(kind[5:-1], item, f"{where}[{number}]")
    elif kind.startswith("dict("):
        for key, item in value.items():
            check(kind[5:-1].split(", ", 1)[1], item, f"{where}.{key}")
    elif kind in SIMPLE:
        same = isinstance(value, SIMPLE[kind]) and isinstance(value, bool) == (kind == "bool")
        expect(same, f"{where}: '{value}' is not of type {kind}")
    else:
        check_model(kind, value, where)


def check_model(kind, value, where):
    model = getattr(models, kind)
    names = {name: attribute for attribute, name in model.attribute_map.items()}
    arguments = {}
    for key, item in value.items():
        if (kind, key) in NEWER:
            check(NEWER[kind, key], item, f"{where}.{key}")
        elif key in names:
            check(model.openapi_types[names[key]], item, f"{where}.{key}")
            arguments[names[key]] = item
        else:
            failures.append(f"{where}: {kind} has no field '{key}'")
    try:
        model(**arguments)
    except ValueError as problem:
        failures.append(f"{where}: {problem}")


def check_shape(shape, value, where):
    """@value has what @shape has, and nothing else."""
    if isinstance(shape, type):
        expect(isinstance(value, shape), f"{where}: '{value}' is not {shape.__name__}")
    elif isinstance(shape, list):
        for number, item in enumerate(value):
            check_shape(shape[0], item, f"{where}[{number}]")
    else:
        for key, item in value.items():
            if key in shape:
                check_shape(shape[key], item, f"{where}.{key}")
            else:
                failures.append(f"{where}: there is no field '{key}'")


def read_objects():
    """{kind: object}; there is one of each."""
    found = {}
    for path in sorted(OBJECTS.glob("*.yaml")):
        if path.name == "detach.yaml":
            continue
        for value in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            kind, where = value["kind"], f"{path.name}: {value['kind']}"
            expect(kind not in found, f"{where}: there is another")
            found[kind] = value
            if kind == "ServiceMonitor":
                expect(value["apiVersion"] == "monitoring.coreos.com/v1", f"{where}: apiVersion")
                check_shape(SERVICE_MONITOR, value["spec"], f"{where}.spec")
                check_model("V1ObjectMeta", value["metadata"], f"{where}.metadata")
            else:
                expect(value["apiVersion"] == ("apps/v1" if kind == "DaemonSet" else "v1"),
                       f"{where}: apiVersion")
                check_model(f"V1{kind}", value, where)
    return found


def shuntd_check(path):
    done = subprocess.run([BUILD / "agent/shuntd", "-c", path, "--check"], text=True, check=False,
                          capture_output=True)
    expect(done.returncode == 0 and not done.stderr, f"{path}: {done.stderr}")


def settings(text):
    """{(section, key): value}, lists that span lines joined."""
    text = re.sub(r"\n[ \t]+(?=[^ \t\n])", " ", re.sub(r"^;.*\n", "", text, flags=re.M))
    found, section = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif "=" in line:
            key, value = line.split("=", 1)
            found[section, key.strip()] = value.strip()
    return found


def check_daemonset(objects):
    pod = objects["DaemonSet"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    labels = pod["metadata"]["labels"]
    for what, selector in (
            ("DaemonSet", objects["DaemonSet"]["spec"]["selector"]["matchLabels"]),
            ("Service", objects["Service"]["spec"]["selector"])):
        expect(selector.items() <= labels.items(), f"{what} does not select the pods")
    selector = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    expect(selector.items() <= objects["Service"]["metadata"]["labels"].items(),
           "ServiceMonitor does not select the Service")

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = objects["Service"]["spec"]["ports"][0]
    expect(service["targetPort"] in ports, "the Service's port is not the pods'")
    expect(objects["ServiceMonitor"]["spec"]["endpoints"][0]["port"] == service["name"],
           "the ServiceMonitor's port is not the Service's")

    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    expect(volumes.keys() == mounts.keys(), "volumes and mounts differ")
    expect(volumes["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"],
           "the ConfigMap is not the one that is mounted")
    expect(pod["spec"]["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"],
           "the ServiceAccount is not the pods'")
    for kind, value in objects.items():
        name = value["metadata"].get("namespace", value["metadata"]["name"])
        expect(name == objects["Namespace"]["metadata"]["name"], f"{kind}: in namespace {name}")

    unit = (TOP / "conf/shuntd.service.in").read_text(encoding="utf-8")
    wanted = re.search(r"^CapabilityBoundingSet=(.*)", unit, re.M)[1].split()
    added = container["securityContext"]["capabilities"]["add"]
    expect({f"CAP_{name}" for name in added} == {*wanted, "CAP_DAC_OVERRIDE"},
           f"capabilities: {added}, in the unit {wanted}")
    return container, mounts, ports


def check_configmap(objects, mounts, ports):
    text = objects["ConfigMap"]["data"]["shunt.ini"]
    path = BUILD / "configmap.ini"
    path.write_text(text, encoding="utf-8")
    shuntd_check(path)
    path.unlink()
    ours = settings(text)
    istio = settings((TOP / "conf/examples/istio.ini").read_text(encoding="utf-8"))
    expect({key: ours[key] for key in ours if key[0] != "[agent]"} == istio,
           "the ConfigMap's mesh is not that of conf/examples/istio.ini")
    expect(ours["[agent]", "cgroup_root"] == mounts["cgroup"], "cgroup_root is not what is mounted")
    expect(ours["[agent]", "metrics_listen"].endswith(f":{ports['metrics']}"),
           "metrics_listen is not the pods' port")
    expect(mounts["bpf"] == "/sys/fs/bpf" and mounts["run"] == "/run/shunt"
           and mounts["config"] == "/etc/shunt", "not the default places")


def check_versions(container):
    version = re.search(r"^\tversion: '(.*)'", (TOP / "meson.build").read_text(), re.M)[1]
    expect(container["image"].endswith(f"/shunt:{version}"), "the image is of another version")
    for name in ("Dockerfile", "README.md"):
        for tag in re.findall(r"shunt:([\d.]+\d)", (OBJECTS / name).read_text(encoding="utf-8")):
            expect(tag == version, f"{name}: version {tag}, the project is {version}")


def check_detach(container):
    patch = yaml.safe_load((OBJECTS / "detach.yaml").read_text(encoding="utf-8"))
    changed = patch["spec"]["template"]["spec"]["containers"][0]
    expect(changed["name"] == container["name"], "detach.yaml patches another container")
    check_model("V1Container", changed, "detach.yaml")
    subprocess.run(["sh", "-n", "-c", changed["command"][-1]], check=True)


examples = sorted((TOP / "conf/examples").glob("*.ini"))
expect(len(examples) >= 4, "conf/examples: some are missing")
for example in examples:
    shuntd_check(example)
all_objects = read_objects()
first, all_mounts, all_ports = check_daemonset(all_objects)
check_configmap(all_objects, all_mounts, all_ports)
check_versions(first)
check_detach(first)
if failures:
    sys.exit("\n".join(failures))
