"""A headless Chromium, driven over a pipe by its DevTools protocol: what a page really does, without a driver package.

It is looked for on PATH, or where PENSTOCK_CHROMIUM says; without one the test skips. The browser keeps everything in a
folder of its own and asks nobody but the page.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
GUARD_S = 120.0


def find_chromium() -> str:
    """Return the browser's path; skips the test where there is none."""
    named = os.environ.get("PENSTOCK_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium (Debian: apt-get install chromium-headless-shell, or PENSTOCK_CHROMIUM=PATH)")
    return found


class Tab:
    """One page of the browser. `said` is its console and its complaints, `asked` every address it wanted."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, from_: int) -> None:
        self._process, self._to, self._from = process, to, from_
        self._numbers = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self.said: list[str] = []
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser and return what it answers."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until_s = time.monotonic() + GUARD_S
        while True:
            came = self._next(until_s)
            if came.get("id") == number:
                assert "error" not in came, f"{method}: {came['error']}"
                return dict(came["result"])

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        until_s = time.monotonic() + GUARD_S
        while not self.value(expression):
            assert time.monotonic() < until_s, f"never: {expression}; the page: {self.value('document.body.innerText')}"
            time.sleep(0.1)

    def until_said(self, text: str, *, times: int) -> None:
        """Wait until the page has complained so often; a complaint may come after the answer to what brought it."""
        until_s = time.monotonic() + GUARD_S
        while sum(text in each for each in self.said) < times:
            assert time.monotonic() < until_s, f"not {times} times {text!r}: {self.said}"
            self.value("0")
            time.sleep(0.1)

    def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        """Let the window have a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """Let the reader prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self) -> bytes:
        """Return a PNG of the whole page."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _next(self, until_s: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left_s = until_s - time.monotonic()
            ready, _, _ = select.select([self._from], [], [], max(0.0, left_s))
            octets = os.read(self._from, 1 << 16) if ready else b""
            assert octets, f"the browser {'says nothing' if not ready else 'ended'}"
            self._rest += octets
        first, _, self._rest = self._rest.partition(b"\0")
        came = json.loads(first)
        self._note(came.get("method"), came.get("params", {}))
        return dict(came)

    def _note(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.said.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(str(parameters["args"]))
        elif method == "Log.entryAdded":
            self.said.append(str(parameters["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(str(parameters["request"]["url"]))


@contextlib.contextmanager
def browsing(
    folder: Path, *, within: Callable[[], contextlib.AbstractContextManager[object]] | None = None
) -> Iterator[Tab]:
    """Give a tab of a browser that ends with the block; `within` is entered while it starts (a network namespace)."""
    path = find_chromium()
    read_theirs, write_ours = _far_pipe()
    read_ours, write_theirs = _far_pipe()

    def hand_over() -> None:  # the protocol stands at descriptors 3 and 4
        os.dup2(read_theirs, 3)
        os.dup2(write_theirs, 4)

    with within() if within is not None else contextlib.nullcontext():
        process = subprocess.Popen(
            [
                path,
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",  # a test may run as root, and asks its own page only
                "--disable-gpu",
                "--hide-scrollbars",
                "--no-first-run",
                "--disable-background-networking",
                f"--user-data-dir={folder}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=hand_over,  # noqa: PLW1509  (the tests' process has no threads that hold locks here)
            pass_fds=(3, 4),
            env={**os.environ, "HOME": str(folder)},
        )
    os.close(read_theirs)
    os.close(write_theirs)
    try:
        yield Tab(process, write_ours, read_ours)
    finally:
        process.kill()
        process.wait()
        os.close(write_ours)
        os.close(read_ours)


def _far_pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are not 3 or 4, which the browser wants for itself."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 50) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
