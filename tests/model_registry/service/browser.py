"""Headless Chromium over its DevTools protocol: just enough to look at pages as people meet them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect


class Browser:
    """One page. Events that arrive meanwhile are kept in `events`."""

    def __init__(self, connection: WebSocketClientConnection, loop: asyncio.AbstractEventLoop) -> None:
        self.connection = connection
        self.loop = loop
        self.events: list[dict[str, Any]] = []
        self.count = 0
        self.secret = ""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        return self.loop.run_until_complete(asyncio.wait_for(self._ask(method, parameters), 30))

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        own = self.count
        await self.connection.write_message(json.dumps({"id": own, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.connection.read_message())  # type: ignore[arg-type]
            if message.get("id") == own:
                assert "error" not in message, message
                return message["result"]  # type: ignore[no-any-return]
            if "method" in message and not await self._continue(message):
                self.events.append(message)

    async def _continue(self, event: dict[str, Any]) -> bool:
        """Let a request go on that waits: for the password, where the browser's prompt asks for one."""
        method, parameters = event.get("method"), {"requestId": event.get("params", {}).get("requestId")}
        if method == "Fetch.authRequired":
            typed = {"response": "ProvideCredentials", "username": "me", "password": self.secret}
            credentials = typed if self.secret else {"response": "CancelAuth"}
            command, more = "Fetch.continueWithAuth", {"authChallengeResponse": credentials}
        elif method == "Fetch.requestPaused":
            command, more = "Fetch.continueRequest", {}
        else:
            return False
        self.count += 1
        await self.connection.write_message(
            json.dumps({"id": self.count, "method": command, "params": parameters | more})
        )
        return True

    def sign_in(self, url: str, secret: str) -> None:
        """Load a page as somebody who types `secret` where the browser asks for a password; none closes the prompt."""
        self.secret = secret
        self.ask("Fetch.enable", handleAuthRequests=True)
        self.open(url)
        self.ask("Fetch.disable")

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self.ask("Page.navigate", url=url)
        for _ in range(3000):
            if self.run("document.readyState === 'complete' && location.href") == url:
                return
        raise AssertionError(f"{url} did not load")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Return the value of a JavaScript expression, or of its promise, once it is true; an exception fails."""
        answer = self.ask(
            "Runtime.evaluate",
            expression=f"""(async () => {{
                for (let k = 0; k < 200; k++) {{
                    const value = await ({script});
                    if (value) return value;
                    await new Promise((done) => setTimeout(done, 100));
                }}
            }})()""",
            returnByValue=True,
            awaitPromise=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        """Make the page as large as a screen."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """Be somebody who likes pages light or dark."""
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def press(self, key: str) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)

    def screenshot(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page: WCAG 2.2 AA and good practice."""
        self.run(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
        script = """axe.run().then(found => found.violations.map(
            v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).join(' | ')))"""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"]["value"]  # type: ignore[no-any-return]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, in this order; what a page has in itself is none."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent if not each["request"]["url"].startswith("data:")]

    def accessible(self) -> list[tuple[str, str]]:
        """Return role and name of everything that a screen reader meets."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
        ]


@contextmanager
def chromium(headers: dict[str, str], *more: str) -> Iterator[Browser]:
    """Start Chromium with `more` options and yield a page that sends `headers` with every request."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here; Debian's package is called chromium")
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [program, *options, *more, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            assert process.stderr is not None
            found = next(m for line in process.stderr if (m := re.search(r"ws://(127\.0\.0\.1:\d+)/", line)))
            target = httpx.put(f"http://{found.group(1)}/json/new?about:blank", timeout=30).json()
            connection = loop.run_until_complete(_connect(target["webSocketDebuggerUrl"]))
            page = Browser(connection, loop)
            for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
                page.ask(f"{domain}.enable")
            page.ask("Network.setExtraHTTPHeaders", headers=headers)
            yield page
            connection.close()
        finally:
            process.terminate()
            process.wait(30)
            loop.close()


async def _connect(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address, max_message_size=1 << 26)
