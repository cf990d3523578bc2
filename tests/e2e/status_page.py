#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Looks at the status page with a browser, for status_page.sh.

usage: status_page.py URL SHUNTCTL SOCKET CGROUP SPLICE PICTURES AGENT-PID
"""
import glob
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from browser import DEADLINE, Browser

sys.path.append(f"{os.path.dirname(os.path.abspath(__file__))}/../kernel")
from flow_table import FlowTable

BUSIEST = 100  # SUMS_FLOWS
FEW, MANY = 500, 5000
URL, SHUNTCTL, SOCKET, CGROUP, SPLICE, PICTURES, AGENT = sys.argv[1:]
HOSTILE = CGROUP + "/app/<img src=x onerror=pwned=1>&lt;"


def say(what):
    print("ok:", what)


def expect(what, wanted, got):
    if wanted != got:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}")
    say(what)


def shuntctl(*arguments):
    return json.loads(subprocess.check_output([SHUNTCTL, "-s", SOCKET, "-j", *arguments],
                                              timeout=DEADLINE))


def fetch(path):
    with urllib.request.urlopen(URL + path, timeout=DEADLINE) as response:
        return response.read().decode(), response.headers


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.1)
    return value


def api(name):
    return json.loads(fetch("api/" + name)[0])


def check_api():
    wait_until(lambda: {**shuntctl("status"), "uptime_seconds": 0} ==
               {**api("status"), "uptime_seconds": 0}, "status is shuntctl's")
    say("status is shuntctl's")
    expect("meshes are shuntctl's", shuntctl("meshes"), api("meshes"))
    expect("counters have shuntctl's names", set(shuntctl("counters")), set(api("counters")))

    def agree():
        flows = {flow["id"] for flow in shuntctl("flows")}
        return flows and flows == {flow["id"] for flow in api("flows").get("flows", [])}
    wait_until(agree, "the flows are those of shuntctl")
    say("flows are shuntctl's")

    def edges(graph):
        return sorted((edge["cgroup"] or "", edge["destination"], edge["redirected"],
                       edge["mesh"], edge["server_cgroup"], edge["flows"])
                      for edge in graph.get("edges", []))
    wait_until(lambda: edges(shuntctl("graph", "-i", "0")) == edges(api("graph")),
               "the graph is that of shuntctl")
    say("the graph is shuntctl's")
    wait_until(lambda: all(flow["tcp_per_s"] is not None and
                           flow["tcp_per_s"] + flow["spliced_per_s"] > 0
                           for flow in api("flows")["flows"]), "all flows have rates")
    say("what moves has a rate")


def check_headers():
    policy = fetch("")[1]["Content-Security-Policy"]
    for part in "default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'":
        if part not in policy:
            raise AssertionError(f"'{part}' is not in the policy: {policy}")
    if "unsafe" in policy:
        raise AssertionError(policy)
    say("the policy is strict")
    for method in "POST", "PUT", "DELETE":
        request = urllib.request.Request(URL + "api/status", method=method)
        try:
            urllib.request.urlopen(request, timeout=DEADLINE)
        except urllib.error.HTTPError as error:
            expect(f"{method} is refused", 405, error.code)
        else:
            raise AssertionError(f"{method} was answered")


SPLICED_ROWS = "document.querySelectorAll('#flows .state.spliced').length"
RATED_ROWS = "[...document.querySelectorAll('#flows td.n.spliced, #flows td.n.tcp')]" \
    ".filter((cell) => / .?i?B\\/s$/.test(cell.textContent) && !/^0 /.test(cell.textContent)).length"


def check_page(page):
    expect("its title", "Shunt", page.wait_for("document.title", "it has a title"))
    page.wait_for(RATED_ROWS, "rates are shown")
    page.wait_for("document.querySelectorAll('#graph path').length", "the graph is drawn")
    page.wait_for("document.querySelectorAll('#chart .line-spliced').length", "the chart is drawn")
    if SPLICE != "off" and api("status")["splice"] == "on":
        page.wait_for(SPLICED_ROWS, "spliced connections are shown")
        page.wait_for("document.querySelectorAll('#graph path.spliced').length",
                      "spliced edges are shown")
        page.run("$('more').click()")
        page.wait_for("/in blocking mode/.test($('flows').textContent)", "it is told why not")
    say("rates, graph and chart are shown")
    text = page.run("document.body.innerText")
    for part in "test", "checkout", "redis-server", shuntctl("status")["version"]:
        if part.lower() not in text.lower():
            raise AssertionError(f"'{part}' is not on the page: {text}")
    looks = page.run("Number(document.documentElement.dataset.looks)")
    page.wait_for(f"Number(document.documentElement.dataset.looks) > {looks} + 2", "it is refreshed")
    say("it is refreshed")


def check_hostile(page):
    name = json.dumps(HOSTILE)
    page.wait_for(f"document.body.textContent.includes({name}) || "
                  f"[...document.querySelectorAll('[title]')].some((e) => e.title === {name})",
                  "the hostile cgroup is shown")
    page.wait_for("document.body.textContent.includes('<b>\"&amp;')",
                  "the hostile program is shown")
    expect("names are text", [0, 0, 1, "undefined"], page.run(
        "[document.images.length, document.querySelectorAll('b').length,"
        " document.scripts.length, typeof pwned]"))


def check_filter(page):
    rows = "document.querySelectorAll('#flows tbody tr').length"
    page.run("$('more').click()")
    expect("all of them", len(api("flows")["flows"]), page.run(rows))
    expect("and no more", True, page.run("$('more').hidden"))
    before = page.run(rows)
    page.run("$('filter').value = 'REPORTS'; $('filter').dispatchEvent(new Event('input'))")
    expect("the filter", 5, page.run(rows))
    page.run("$('filter').value = 'no such thing'; $('filter').dispatchEvent(new Event('input'))")
    expect("nothing matches", 0, page.run(rows))
    page.run("$('filter').value = ''; $('filter').dispatchEvent(new Event('input'))")
    expect("all of them again", before, page.run(rows))


def check_widths(browser):
    for width, name, mobile, dark in (1280, "desktop", False, False), (1280, "dark", False, True), \
            (820, "tablet", False, False), (390, "phone", True, False), (320, "small", True, True):
        page = browser.open(URL, width, 800, scale=2 if mobile else 1, mobile=mobile, dark=dark)
        page.wait_for(RATED_ROWS, "rates are shown")
        page.wait_for("document.querySelectorAll('#chart .line-spliced').length", "there is a chart")
        if PICTURES:
            page.wait_for("state.history.length > 8", "there is something to see")
            page.screenshot(f"{PICTURES}/{name}.png")
            page.screenshot(f"{PICTURES}/{name}-top.png", whole=False)
        if page.run("document.documentElement.scrollWidth") > width:
            raise AssertionError(f"at {width} it is wider than the screen")
        page.close()
        say(f"it fits {width} pixels")


def check_requests(page):
    foreign = [url for url in page.requests() if not url.startswith(URL)]
    expect("nothing is fetched from elsewhere", [], foreign)
    expect("the console is empty", [], page.complaints())
    page.run("(() => { const script = document.createElement('script');"
             "script.textContent = 'injected = 1'; document.body.append(script); })()")
    expect("a script that is put in does not run", "undefined", page.run("typeof injected"))
    if not any("Content Security Policy" in text for text in page.complaints()):
        raise AssertionError("the policy did not stop it")


def check_silence(page):
    """An agent that does not answer is told of, and so is that it does again."""
    os.kill(int(AGENT), signal.SIGSTOP)
    try:
        page.wait_for("/no answer/.test($('live').textContent)", "the silence is shown")
    finally:
        os.kill(int(AGENT), signal.SIGCONT)
    page.wait_for("$('live').textContent === 'live'", "it is live again")
    say("silence is told")


def check_off(page):
    """An agent that redirects nothing has nothing more to tell; then it has again."""
    page.run("take({...state.status, rung: 'off', rung_why: 'no <b>', splice: 'off', maps: [],"
             " links: [], warnings: []}, null, null, null, null)")
    expect("why nothing is redirected", "Nothing is redirected: no <b>",
           page.run("$('notes').innerText"))
    page.wait_for("$('notes').hidden", "it is over")
    page.wait_for(RATED_ROWS, "rates are shown again")


class Place:
    """What a table of flows asks of an agent, and of a cgroup."""

    def __init__(self):
        status = api("status")
        self.directory = status["cgroup_root"] + CGROUP
        self.pins = status["pin_dir"]

    def pin(self, name):
        found, = glob.glob(f"{self.pins}/v*/*/{name}")
        return found


def work_of(page, looks):
    """How many milliseconds of a CPU the page's thread takes to look once, and to show it."""
    def now():
        metrics = page.call("Performance.getMetrics")["metrics"]
        took, = (metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
        return page.run("Number(document.documentElement.dataset.looks)"), took
    before = now()
    page.wait_for(f"Number(document.documentElement.dataset.looks) >= {before[0] + looks}",
                  "it is refreshed")
    after = now()
    return 1000 * (after[1] - before[1]) / (after[0] - before[0])


def check_thousands(page):
    """With ten times as many connections the page has no more to show, and no more to do."""
    place = Place()
    table = FlowTable(place, [place, place])
    page.call("Performance.enable", timeDomain="threadTicks")
    work = []
    for count in FEW, MANY:
        table.fill(count)
        page.wait_for(f"state.flows && state.flows.all.flows >= {count}", "all are counted")
        work.append(work_of(page, 8))
        size = len(fetch("api/flows")[0])
        print(f"with {count} connections a look takes the page {work[-1]:.1f} ms of a CPU; "
              f"its flows are {size} bytes")
        expect("the busiest are told", BUSIEST, page.run("state.flows.flows.length"))
    page.run("$('more').hidden || $('more').click()")
    rows = page.run("document.querySelectorAll('#flows tbody tr').length")
    expect("the busiest are shown", BUSIEST, rows)
    if work[1] > 3 * work[0]:
        raise AssertionError(f"the more connections, the slower the page: {work}")
    table.close()
    page.wait_for(f"state.flows.all.flows < {FEW}", "they are gone")


def main():
    check_api()
    check_headers()
    browser = Browser()
    try:
        page = browser.open(URL, 1280, 800)
        check_page(page)
        check_filter(page)
        check_hostile(page)
        check_widths(browser)
        page.to_front()
        check_silence(page)
        check_off(page)
        check_thousands(page)
        check_requests(page)
    finally:
        browser.close()


main()
