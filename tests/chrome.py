"""Real Chromium, driven over a pipe: mouse, keys, media features, requests."""

import base64
import json
import os
import subprocess
import time
from fcntl import F_DUPFD, fcntl
from select import select

from browser import CHROMIUM

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
PATIENCE = 120
"""Seconds without an answer after which the browser, or what a test waits for, is taken for dead."""
CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def until(look):
    """Look again until there is something, and give it back."""
    given_up = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < given_up, "this never came"
        time.sleep(0.05)
    return found


class Chrome:
    """One browser; `open` shows a page in a tab of its own."""

    def __init__(self, profile):
        taken, self._to = os.pipe()
        self._from, given = os.pipe()
        ours = [fcntl(end, F_DUPFD, 10) for end in (taken, given)]
        wired = ["bash", "-c", f'exec "$@" 3<&{ours[0]} 4>&{ours[1]}', "-"]  # Chromium reads from 3 and writes to 4
        command = [CHROMIUM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([*wired, *command], pass_fds=ours, **quiet)
        for end in (taken, given, *ours):
            os.close(end)
        self._buffer, self._number, self.events = b"", 0, []

    def call(self, method, session=None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method, session):
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._read())

    def _read(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select([self._from], [], [], PATIENCE)
            part = os.read(self._from, 1 << 20) if ready else b""
            assert part, "Chromium does not answer"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address, **settings):
        return Tab(self, address, **settings)

    def close(self):
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._to)
        os.close(self._from)


class Tab:
    """A page that is open: `js` evaluates, `mouse` and `key` are real input events."""

    root = "document"
    """Where selectors look: of a widget, its shadow root."""

    def __init__(self, chrome, address, width=1280, height=800, dark=False):
        self._chrome = chrome
        self._target = chrome.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = chrome.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        self.resize(width, height)
        self.dark(dark)
        chrome.events.clear()
        self._call("Page.navigate", url=address)
        chrome.wait_for("Page.loadEventFired", self._session)
        self.settle()

    def _call(self, method, **params):
        return self._chrome.call(method, self._session, **params)

    def close(self):
        self._chrome.call("Target.closeTarget", targetId=self._target)

    def events(self, method):
        return [e["params"] for e in self._chrome.events if e.get("method") == method]

    def requests(self):
        """Addresses that were asked for; what the page's own policy stopped is left out."""
        stopped = {e["requestId"] for e in self.events("Network.loadingFailed") if e.get("blockedReason") == "csp"}
        asked = self.events("Network.requestWillBeSent")
        return [event["request"]["url"] for event in asked if event["requestId"] not in stopped]

    def forget(self):
        """Leave out of `requests` and `faults` what happened so far."""
        self._chrome.events.clear()

    def in_frame(self, expression):
        """`js` inside the page's only frame, also where it has a process of its own."""
        self._call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        self.settle()
        (frame,) = self._call("Page.getFrameTree")["frameTree"].get("childFrames", [None])
        own = [e["sessionId"] for e in self.events("Target.attachedToTarget") if e["targetInfo"]["type"] == "iframe"]
        if own:
            answer = self._chrome.call("Runtime.evaluate", own[0], expression=expression, returnByValue=True)
        else:
            world = self._call("Page.createIsolatedWorld", frameId=frame["frame"]["id"])["executionContextId"]
            settings = {"expression": expression, "contextId": world, "returnByValue": True}
            answer = self._call("Runtime.evaluate", **settings)
        return answer["result"].get("value")

    def faults(self):
        entries = [e["entry"]["text"] for e in self.events("Log.entryAdded")]
        return entries + [e["exceptionDetails"] for e in self.events("Runtime.exceptionThrown")]

    def js(self, expression):
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression):
        """Wait until this is true of the page."""
        until(lambda: self.js(f"Boolean({expression})"))

    def settle(self):
        """Wait for two frames: what an event changed is drawn in the next one."""
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))")

    def resize(self, width, height):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def dark(self, on=True):
        self.media(prefers_color_scheme="dark" if on else "light")

    def media(self, **features):
        """What the reader's system asks for, as `forced_colors="active"`."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._call("Emulation.setEmulatedMedia", features=listed)

    def print(self):
        """Print the page, on portrait A4 without backgrounds, as a browser does at first."""
        return base64.b64decode(self._call("Page.printToPDF", paperWidth=8.27, paperHeight=11.7)["data"])

    def middle(self, selector):
        """Where an element is, after it was scrolled into view."""
        found = f"{self.root}.querySelector({json.dumps(selector)})"
        self.js(f"{found}.scrollIntoView({{block: 'nearest', inline: 'nearest'}})")
        self.settle()
        return self.js(f"(r => [r.left + r.width / 2, r.top + r.height / 2])({found}.getBoundingClientRect())")

    def hover(self, selector):
        self.move(*self.middle(selector))

    def move(self, x, y, kind="mouseMoved", **more):
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)
        self.settle()

    def click(self, selector):
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.move(x, y, kind, button="left", clickCount=1)

    def drag(self, start, end):
        self.move(*start, "mousePressed", button="left", clickCount=1)
        self.move(*end, "mouseMoved", button="left", buttons=1)
        self.move(*end, "mouseReleased", button="left", clickCount=1)

    def key(self, *names):
        """Press keys by name: "Enter", "a", "Control+s"."""
        for name in names:
            held, _, key = name.rpartition("+") if len(name) > 1 else ("", "", name)
            text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 and not held else {}
            code = ord(key.upper()) if len(key) == 1 else CODES.get(key, 0)
            pressed = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 * (held == "Control")}
            for kind, more in (("keyDown", text), ("keyUp", {})):
                self._call("Input.dispatchKeyEvent", type=kind, **pressed, **more)
            self.settle()

    def write(self, text):
        self._call("Input.insertText", text=text)
        self.settle()

    def picture(self, path, whole=False):
        data = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
