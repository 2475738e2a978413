"""Drives a real Chromium over its DevTools protocol: opens pages, runs script, looks at them."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--remote-debugging-port=0", "--disable-dev-shm-usage", "--disable-background-networking"),
)


def program() -> str | None:
    """Where Chromium is; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@dataclass
class Browser:
    """One tab."""

    socket: ClientConnection
    messages: list[dict[str, Any]] = field(default_factory=list)
    """What the tab said by itself: console, exceptions, requests."""
    sent: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its answer."""
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.sent:
                assert "error" not in message, message
                return dict(message["result"])
            self.messages.append(message)

    def open(self, path: Path) -> None:
        """Opens a file, and waits until its first page of sources is there."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.documentElement?.dataset.readyMs")

    def load(self, path: Path) -> None:
        """Opens a file, and waits until it is read to its end; needs no script."""
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        loader = self.call("Page.navigate", url=path.as_uri())["loaderId"]
        while not any(_is_loaded(message, loader) for message in self.messages):
            self.messages.append(json.loads(self.socket.recv(timeout=60)))

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)
        return value

    def point(self, x: float, y: float) -> None:
        """Moves the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Presses a key such as ArrowRight."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes what the tab shows as PNG; `whole`: the page to its end."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def troubles(self) -> list[dict[str, Any]]:
        """Exceptions, console errors and refused content so far."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [message for message in self.messages if message["method"] in kinds]

    def requests(self) -> list[str]:
        """Addresses that the page asked for."""
        return [
            message["params"]["request"]["url"]
            for message in self.messages
            if message["method"] == "Network.requestWillBeSent"
        ]


def _is_loaded(message: dict[str, Any], loader: str) -> bool:
    about = message["params"]
    is_lifecycle = message["method"] == "Page.lifecycleEvent"
    return is_lifecycle and (about["name"], about["loaderId"]) == ("load", loader)


@contextmanager
def browser(size: tuple[int, int] = (1360, 1000), *, dark: bool = False) -> Iterator[Browser]:
    """A new tab in a Chromium of its own."""
    name = program()
    assert name is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [name, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with connect(_tab(Path(profile), process), max_size=None) as socket:
                tab = Browser(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    tab.call(f"{domain}.enable")
                tab.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1],
                         deviceScaleFactor=1, mobile=False)  # fmt: skip
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                tab.call("Emulation.setEmulatedMedia", features=[scheme])
                yield tab
        finally:
            process.terminate()
            process.wait(timeout=20)


def _tab(profile: Path, process: "subprocess.Popen[bytes]") -> str:
    """The address of the first tab's socket."""
    port = profile / "DevToolsActivePort"
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if port.exists() and (lines := port.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("Chromium did not start")
