"""Not a peer, but what peers share: they read requests with it, and answer as a runner without fault."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any


def read() -> dict[str, Any]:
    """Return the next request; exits at the end of the stream."""
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)
    sys.stdin.buffer.readline()
    request: dict[str, Any] = json.loads(sys.stdin.buffer.read(int(line.split(b":")[1])))
    return request


def requests() -> Iterator[dict[str, Any]]:
    """Yield the requests; `shutdown` is the last."""
    method = ""
    while method != "shutdown":
        request = read()
        method = request["method"]
        yield request


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()


def answer(request: dict[str, Any], **wrong: Any) -> None:
    """Send what a runner without fault answers, but for what is wrong."""
    send({"id": request["id"], "result": {**result(request["method"]), **wrong}})


def one_shot(**wrong: Any) -> str:
    """Read the one request on stdin; returns the document that answers it."""
    return json.dumps({"result": {**result(json.loads(sys.stdin.buffer.read())["method"]), **wrong}})


def given(flag: str) -> str:
    return sys.argv[sys.argv.index(flag) + 1]


def result(method: str) -> dict[str, Any]:
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
