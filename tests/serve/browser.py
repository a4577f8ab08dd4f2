"""A headless Chromium, driven by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


def chromium() -> str | None:
    """Where it is."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab.

    Args:
        socket: of its debugger.
    """

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket, self._ids = socket, count(1)
        self.requested: list[str] = []
        self.said: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; events that come first are noted."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != number:
            self._note(message)
        assert "error" not in message, message
        found: dict[str, Any] = message["result"]
        return found

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def wait_for(self, script: str, timeout_s: float = 30) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + timeout_s
        while not self.value(script):
            assert time.monotonic() < deadline, f"{script}: {self.value('document.body.innerText')}"
            time.sleep(0.05)

    def choose(self, selector: str, *files: Path) -> None:
        """Give a file input its files, as a person would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def picture(self, path: Path, width: int, height: int, *, dark: bool = False) -> None:
        """Save what it looks like, px."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        elif message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.said.append(json.dumps(message["params"]))


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Page]:
    """A page in a browser of its own, until the block ends."""
    command = [str(chromium()), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            port_file, deadline = folder / "DevToolsActivePort", time.monotonic() + 30
            while not port_file.exists() or not port_file.read_text().strip():
                assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.05)
            port = port_file.read_text().split()[0]
            tabs = httpx.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
            [tab] = [one for one in tabs if one["type"] == "page"]
            socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=60)
            page = Page(socket)
            for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
                page.call(f"{domain}.enable")
            page.call("Page.navigate", url=url)
            yield page
            socket.close()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
