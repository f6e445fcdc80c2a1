"""A headless Chromium for tests of pages, over its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

HOW_TO = "to run it, install a browser: sudo apt-get install --no-install-recommends chromium"
_SECONDS = 60.0
"""After so long, the browser hangs."""
_LARGEST = 256 * 1024 * 1024


def chromium() -> str | None:
    """The path of the browser, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One process with one page."""

    def __init__(self, program: str, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._ids = itertools.count(1)
        self._port_file = directory / "DevToolsActivePort"
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")
        self._process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={directory}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._connection = self._connect()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        self.requests: list[str] = []
        """Addresses that the page has asked for."""
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        async def disconnect() -> None:  # tornado looks for the loop that runs
            self._connection.close()
            await asyncio.sleep(0)

        try:
            self._loop.run_until_complete(disconnect())
        finally:
            self._process.terminate()
            self._process.wait(_SECONDS)
            self._loop.close()

    def _connect(self) -> WebSocketClientConnection:
        end = time.monotonic() + _SECONDS
        while not (self._port_file.exists() and self._port_file.read_text().strip()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the browser did not start")
            time.sleep(0.05)
        port = self._port_file.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_SECONDS) as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]

        async def connect() -> WebSocketClientConnection:
            return await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=_LARGEST)

        return self._loop.run_until_complete(connect())

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        return self._loop.run_until_complete(
            asyncio.wait_for(self._answer(number, {"id": number, "method": method, "params": parameters}), _SECONDS)
        )

    async def _answer(self, number: int, message: dict[str, Any]) -> dict[str, Any]:
        await self._connection.write_message(json.dumps(message))
        while True:
            answer = await self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def _next(self) -> dict[str, Any]:
        text = await self._connection.read_message()
        assert text is not None, "the browser ended"
        answer: dict[str, Any] = json.loads(text)
        if answer.get("method") == "Network.requestWillBeSent":
            self.requests.append(answer["params"]["request"]["url"])
        return answer

    def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self.requests.clear()

        async def loaded() -> None:
            while (await self._next()).get("method") != "Page.loadEventFired":
                pass

        self.send("Page.navigate", url="about:blank")
        self._loop.run_until_complete(asyncio.wait_for(loaded(), _SECONDS))
        self.requests.clear()
        self.send("Page.navigate", url=url)
        self._loop.run_until_complete(asyncio.wait_for(loaded(), _SECONDS))

    def run(self, script: str) -> Any:
        """Evaluate a JavaScript expression in the page; of a promise, what it resolves to."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def see(self, *, width: int = 1280, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Look at the page with a window of this size, on the medium and with the colours asked for."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)
