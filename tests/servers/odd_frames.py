"""Writes frames byte by byte, several at once, with LF and headers in odd case; echoes large params."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any


def read() -> dict[str, Any]:
    """The next request; ends with the stream."""
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)
    sys.stdin.buffer.readline()
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read(int(line.split(b":")[1])))
    return request


HEADERS = (
    b"content-LENGTH:%d\n\n",
    b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-length: \t%d \r\n\r\n",
    b"Content-Length: %d\ncontent-type: json\n\n",
)
sent = []


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    frame = HEADERS[len(sent) % len(HEADERS)] % len(body) + body
    sent.append(frame)
    for at in range(60):
        sys.stdout.buffer.write(frame[at : at + 1])
        sys.stdout.buffer.flush()
    sys.stdout.buffer.write(frame[60:])
    sys.stdout.buffer.flush()


def given(flag: str) -> str:
    return sys.argv[sys.argv.index(flag) + 1]


def result(method: str) -> dict[str, Any]:
    """What a runner without fault answers."""
    answers: dict[str, dict[str, Any]] = {
        "ready": {
            "ready": True,
            "bundle_digest": given("--bundle-digest"),
            "python": sys.executable,
            "version": "{}.{}".format(*sys.version_info[:2]),
            "pid": os.getpid(),
            "venv": given("--venv-path"),
        },
        "execute": {"reported.txt": "dG9sZA=="},
        "aggregate": {"loss": 1.0, "diagnostics": {}, "n_replicates": 1, "outputs": {}},
        "shutdown": {"ok": True},
    }
    return answers[method]


while True:
    request = read()
    if request["method"] == "execute":
        params = request["params"]
        echo = {"echo.json": base64.b64encode(json.dumps(params["params"]).encode()).decode()}
        send({"id": request["id"], "result": echo if "entrypoint" in params else params})
    else:
        send({"id": request["id"], "result": result(request["method"])})
    if request["method"] == "shutdown":
        break
