"""Answers every request with a frame that is no JSON."""

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
    read()
    sys.stdout.buffer.write(b"Content-Length: 9\r\n\r\nnot: json")
    sys.stdout.buffer.flush()
