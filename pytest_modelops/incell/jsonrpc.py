"""JSON-RPC 2.0 in frames: `Content-Length: N`, an empty line, N bytes of UTF-8 JSON.

Framing and messages only; both ends use this file. Source: the base protocol of the Language Server Protocol.
"""

from __future__ import annotations

import json
import threading
from typing import IO, Any

METHOD_NOT_FOUND = -32601
SERVER_ERROR = -32000
TIMED_OUT = -32001


class BrokenFrame(ValueError):
    """What was read is not a frame; the message quotes it."""


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one message; `None` at the end of the stream.

    Raises:
        BrokenFrame: a header line is none, or the stream ends inside a message.
    """
    length = None
    while True:
        line = stream.readline()
        if not line:
            if length is None:
                return None
            raise BrokenFrame("the stream ended inside a header")
        if line in (b"\r\n", b"\n"):
            break
        name, colon, value = line.partition(b":")
        if not colon or (name.lower() == b"content-length" and not value.strip().isdigit()):
            raise BrokenFrame(f"not a header: {line[:200]!r}")
        if name.lower() == b"content-length":
            length = int(value)
    if length is None:
        raise BrokenFrame("a header without Content-Length")
    body = stream.read(length)
    if len(body) < length:
        raise BrokenFrame(f"the stream ended after {len(body)} of {length} bytes")
    message = json.loads(body)
    if not isinstance(message, dict):
        raise BrokenFrame(f"not a JSON-RPC message: {body[:200]!r}")
    return message


def encode(message: dict[str, Any]) -> bytes:
    """One message in its frame."""
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


class Writer:
    """Writes whole messages, from any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Write one message and flush it."""
        frame = encode(message)
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()
