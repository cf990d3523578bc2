# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Asks a Prometheus that scrapes an agent: prometheus.py URL grow METRIC… | dashboard FILE
[PANEL THAT MAY BE EMPTY]… | rules | quiet | wakes ALERT. Exits with 1 and says what is missing if
that does not come in time."""
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

DEADLINE = 60  # seconds
VARIABLES = {"$__rate_interval": "20s", "$instance": ".*", "$mesh": ".*"}
SELECTOR = re.compile(r"\b(?:shunt_\w+|up\b)(?:\{[^}]*\})?")


def fetch(path, **arguments):
    query = urllib.parse.urlencode(arguments)
    try:
        with urllib.request.urlopen(f"{URL}/api/v1/{path}?{query}", timeout=DEADLINE) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{path} {arguments}: {error.read().decode()}")


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain until {what}")
        time.sleep(0.2)


def values(expression):
    return [float(sample["value"][1]) for sample in fetch("query", query=expression)["result"]]


def shows(expression):
    """Something that can be drawn."""
    return any(not math.isnan(value) for value in values(expression))


def grow(*metrics):
    for what in metrics:
        wait_until(lambda what=what: sum(values(f"rate({what}[20s])")) > 0, f"{what} grows")


def expand(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    if "$" in expression:
        sys.exit(f"a variable that nothing defines: {expression}")
    return expression


def check_variable(variable):
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    metric, label = match.groups()
    wait_until(lambda: fetch(f"label/{label}/values", **{"match[]": metric}),
               f"variable {variable['name']} has a value")


def dashboard(file, *empty):
    with open(file, encoding="utf-8") as stream:
        board = json.load(stream)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    for panel in panels:
        if panel["title"] in empty:
            continue
        for target in panel["targets"]:
            expression = expand(target["expr"])
            wait_until(lambda e=expression: shows(e), f"'{panel['title']}' shows {expression}")
    variables = [v for v in board["templating"]["list"] if v["type"] == "query"]
    for variable in variables:
        check_variable(variable)
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) != len(ids):
        sys.exit("two panels have one id")
    print(f"ok: {len(panels) - len(empty)} panels and {len(variables)} variables show something")


def alerts():
    return [rule for group in fetch("rules")["groups"] for rule in group["rules"]]


def rules():
    wait_until(lambda: all(rule["health"] == "ok" for rule in alerts()), "every alert is evaluated")
    for alert in alerts():
        fetch("query", query=alert["query"])
        selectors = SELECTOR.findall(alert["query"])
        if not selectors:
            sys.exit(f"{alert['name']} asks for nothing")
        for selector in selectors:
            wait_until(lambda s=selector: values(s), f"{alert['name']} finds {selector}")
    print(f"ok: {len(alerts())} alerts ask for what there is")


def quiet():
    """Those of an agent that does what it should, on any kernel."""
    loud = [alert["name"] for alert in alerts()
            if alert["state"] != "inactive" and alert["name"] != "ShuntCannotSplice"]
    if loud:
        sys.exit(f"all is well, and yet: {loud}")
    print("ok: no alert")


def wakes(name):
    wait_until(lambda: any(alert["name"] == name and alert["state"] != "inactive"
                           for alert in alerts()), f"{name} wakes up")
    print(f"ok: {name}")


URL = sys.argv[1]
{function.__name__: function for function in (grow, dashboard, rules, quiet, wakes)}[
    sys.argv[2]](*sys.argv[3:])
