"""Counts characters where it should count bytes, which differs for its answers."""

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


while True:
    request = read()
    body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {"größe": "zwölf"}}, ensure_ascii=False)
    sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body.encode())
    sys.stdout.buffer.flush()
