# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Chromium without a window, steered through a pipe: no port, nothing that others could reach."""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

DEADLINE = 60  # seconds: what takes longer does not come


class Browser:
    def __init__(self, binary="chromium"):
        self.home = tempfile.mkdtemp(prefix="shunt-browser-")
        theirs_in, self.to = os.pipe()
        self.out, theirs_out = os.pipe()
        self.log = open(f"{self.home}/log", "wb")

        def prepare():  # the browser reads from 3 and writes to 4
            low, high = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(os.dup(low), 3)
            os.dup2(os.dup(high), 4)
        # Beyond 4, so that nothing is overwritten before it is copied.
        theirs_in, theirs_out = self._above(theirs_in), self._above(theirs_out)
        self.process = subprocess.Popen(
            [binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync",
             "--disable-component-update", "--disable-extensions", "--no-proxy-server",
             "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe",
             f"--user-data-dir={self.home}/profile", "about:blank"],
            pass_fds=(3, 4, theirs_in, theirs_out), preexec_fn=prepare, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": self.home, "LC_ALL": "C.UTF-8"})
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer = b""
        self.number = 0
        self.events = []

    @staticmethod
    def _above(fd):
        copies = []
        while fd <= 10:
            copies.append(fd)
            fd = os.dup(fd)
        for copy in copies:
            os.close(copy)
        return fd

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()
        os.close(self.to)
        os.close(self.out)
        shutil.rmtree(self.home, ignore_errors=True)

    def _receive(self, end):
        while b"\0" not in self.buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.out], [], [], left)[0]:
                raise AssertionError("the browser does not answer")
            data = os.read(self.out, 1 << 20)
            if not data:
                with open(f"{self.home}/log", encoding="utf-8", errors="replace") as log:
                    raise AssertionError(f"the browser has ended: {log.read()[-2000:]}")
            self.buffer += data
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + DEADLINE
        while True:
            answer = self._receive(end)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def open(self, url, width, height, scale=1, mobile=False, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, target)
        for domain in "Page", "Runtime", "Log", "Network":
            page.call(f"{domain}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=mobile)
        page.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        page.call("Page.navigate", url=url)
        return page


class Page:
    def __init__(self, browser, session, target):
        self.browser = browser
        self.session = session
        self.target = target

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def run(self, expression):
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                         awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(f"{expression}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def wait_for(self, expression, what):
        end = time.monotonic() + DEADLINE
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain until {what}; the page:\n" +
                                     self.run("document.body.innerText"))
            time.sleep(0.1)
        return value

    def to_front(self):
        self.call("Page.bringToFront")
        self.wait_for("!document.hidden", "it is seen")

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def screenshot(self, path, whole=True):
        """Of the page, or of what of it is on the screen."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))

    def of_this(self, method):
        return [event["params"] for event in self.browser.events
                if event["method"] == method and event.get("sessionId") == self.session]

    def complaints(self):
        """What the console says is wrong, and scripts that failed."""
        self.run("1")  # whatever was under way has been heard
        texts = [entry["entry"]["text"] + " " + entry["entry"].get("url", "")
                 for entry in self.of_this("Log.entryAdded")
                 if entry["entry"]["level"] in ("error", "warning")]
        texts += [call["exceptionDetails"]["text"]
                  for call in self.of_this("Runtime.exceptionThrown")]
        return texts

    def requests(self):
        return [event["request"]["url"] for event in self.of_this("Network.requestWillBeSent")]
