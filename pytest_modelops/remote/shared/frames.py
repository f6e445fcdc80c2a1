"""Splits a runner's stdout into frames and everything outside of them. Python 3.9 and up.

`jsonrpc.read_message` is for peers that keep to the protocol. This is strict and loses nothing: a line such as
`Loading: model`, which a lenient reader takes for a header, is outside of the frames.
"""

from __future__ import annotations

import json
import re
from typing import Any

_LENGTH = re.compile(rb"(.*?)content-length:[ \t]*(\d{1,18})[ \t]*", re.IGNORECASE | re.DOTALL)
_TYPE = re.compile(rb"content-type:.*", re.IGNORECASE | re.DOTALL)
MOST_OUTSIDE = 64 * 1024
"""This many bytes outside of frames are stored for messages."""

Message = dict[str, Any]
"""A JSON object as a runner sent it: nothing is known of its fields."""


def is_message(text: bytes | bytearray) -> bool:
    """Return whether a text is a JSON-RPC message as a whole."""
    text = text.strip()
    if len(text) > MOST_OUTSIDE or not (text.startswith(b"{") and text.endswith(b"}")):
        return False
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return "jsonrpc" in message or ("id" in message and ("result" in message or "error" in message))


class Splitter:
    """Takes bytes as they arrive.

    Attributes:
        outside: the first 64 KiB of what was outside of frames, in order.
        outside_bytes: the size of all of it.
        broken: number of frames whose body is not a JSON object; such bodies are outside, too.
        unframed: number of JSON-RPC messages without a frame, as who writes one a line sends them; outside, too.
    """

    def __init__(self) -> None:
        self.outside = bytearray()
        self.outside_bytes = 0
        self.broken = 0
        self.unframed = 0
        self._buffer = bytearray()
        self._searched = 0  # no line ends before this place in the buffer
        self._header = b""  # lines of a header whose body has not come yet
        self._length: int | None = None
        self._in_body = False

    def feed(self, data: bytes) -> list[Message]:
        """Take in bytes; returns the messages that they complete."""
        self._buffer += data
        messages: list[Message] = []
        while True:
            if self._in_body:
                if len(self._buffer) < (self._length or 0):
                    return messages
                message = self._take_body()
                if message is not None:
                    messages.append(message)
            else:
                end = self._buffer.find(b"\n", self._searched)
                if end < 0:
                    self._searched = len(self._buffer)
                    self.unframed += self._length is None and is_message(self._buffer)  # the line's end may never come
                    return messages
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                self._searched = 0
                self._take_line(line)

    def finish(self) -> None:
        """Take in the end of the stream: an incomplete frame is outside."""
        self._add_outside(self._header + bytes(self._buffer))
        self._buffer.clear()
        self._searched = 0
        self._end_header()

    def _take_line(self, line: bytes) -> None:
        content = line.rstrip(b"\r\n")
        match = _LENGTH.fullmatch(content)
        if match:
            before = match[1]  # written without a newline before the frame
            if before or self._length is not None:
                self._drop_header()
            self._add_outside(before)
            self._header += line[len(before) :]
            self._length = int(match[2])
        elif _TYPE.fullmatch(content):
            self._header += line
        elif self._length is not None and not content:
            self._header += line
            self._in_body = True
        else:
            if self._length is None:
                self._drop_header()
                self.unframed += is_message(line)
            self._add_outside(line)

    def _drop_header(self) -> None:
        """Put aside what looked like a header and is followed by something else."""
        self._add_outside(self._header)
        self._end_header()

    def _end_header(self) -> None:
        self._header, self._length, self._in_body = b"", None, False

    def _take_body(self) -> Message | None:
        length = self._length or 0
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._end_header()
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            return message
        self.broken += 1
        self._add_outside(body)
        return None

    def _add_outside(self, data: bytes) -> None:
        self.outside_bytes += len(data)
        self.outside += data[: MOST_OUTSIDE - len(self.outside)]
