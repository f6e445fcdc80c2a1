"""JSON-RPC 2.0 in frames: `Content-Length: N`, an empty line, N bytes of UTF-8 JSON.

Framing and messages only; both ends use this file. Source: the base protocol of the Language Server Protocol.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import IO, Any, TypedDict, cast

METHOD_NOT_FOUND = -32601
SERVER_ERROR = -32000
TIMED_OUT = -32001

MOST_BYTES = 1 << 31
"""No message is longer."""


class ErrorData(TypedDict):
    """What an error of ours adds: the traceback from the cell; may be empty."""

    traceback: str


class ErrorObject(TypedDict, total=False):
    """Why a request failed: one of the codes above, and a message for people."""

    code: int
    message: str
    data: ErrorData


class Message(TypedDict, total=False):
    """A request has `method` and `params`; its answer has the same `id`, and `result` or `error`."""

    jsonrpc: str
    id: int
    method: str
    params: dict[str, Any]
    result: Any
    error: ErrorObject


class BrokenFrame(ValueError):
    """What was read is not a frame; the message quotes it."""


def read_message(stream: IO[bytes]) -> Message | None:
    """Read one message; return `None` at the end of the stream.

    Raises:
        BrokenFrame: a line is not a header, the stream ends inside a message, or the message is not a JSON object.
    """
    length = _read_header(stream)
    if length is None:
        return None
    body = stream.read(length)
    if len(body) < length:
        raise BrokenFrame(f"the stream ended after {len(body)} of {length} bytes")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise BrokenFrame(f"not a JSON-RPC message: {body[:200]!r}")
    return cast("Message", message)


def _read_header(stream: IO[bytes]) -> int | None:
    """Return the length of the message that follows; `None` at the end of the stream."""
    length = None
    while line := stream.readline():
        if line in (b"\r\n", b"\n"):
            if length is None:
                raise BrokenFrame("a header without Content-Length")
            return length
        name, colon, value = line.partition(b":")
        is_length = name.lower() == b"content-length"
        if not colon or (is_length and not _is_length(value.strip())):
            raise BrokenFrame(f"not a header: {line[:200]!r}")
        if is_length:
            length = int(value)
    if length is not None:
        raise BrokenFrame("the stream ended inside a header")
    return None


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= len(str(MOST_BYTES)) and int(digits) <= MOST_BYTES


def encode(message: Mapping[str, object]) -> bytes:
    """Return a message in its frame."""
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


class Writer:
    """Writes whole messages, from any thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, object]) -> None:
        frame = encode(message)
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()
