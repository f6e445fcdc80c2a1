"""Answers every request with an error."""

from __future__ import annotations

import json
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


def send(message: dict[str, Any]) -> None:
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    sys.stdout.buffer.flush()


while True:
    request = read()
    send({"id": request["id"], "error": {"code": -32603, "message": "not today", "data": {"why": "it refuses"}}})
