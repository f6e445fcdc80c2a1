"""Takes a runner's stdout apart: frames, and whatever is outside them.

`jsonrpc.read_message` is for peers that keep to the protocol. Here nothing is forgiven and nothing is lost: a line such
as `Loading: model`, which a lenient reader takes for a header, is outside the frames. Python 3.9 and up.
"""

from __future__ import annotations

import json
import re
from typing import Any

_LENGTH = re.compile(rb"(.*?)content-length:[ \t]*(\d{1,18})[ \t]*", re.IGNORECASE | re.DOTALL)
_TYPE = re.compile(rb"content-type:.*", re.IGNORECASE | re.DOTALL)
MOST_OUTSIDE = 64 * 1024
"""So many bytes outside frames are kept for messages."""


class Splitter:
    """Feed it bytes as they come.

    Attributes:
        outside: what was outside frames so far, its first 64 KiB, in order.
        outside_bytes: how much that was in all.
        broken: bodies of frames that were no JSON object; they are outside, too.
    """

    def __init__(self) -> None:
        self.outside = bytearray()
        self.outside_bytes = 0
        self.broken = 0
        self._buffer = bytearray()
        self._searched = 0  # so much of it holds no end of a line
        self._header = b""  # lines of a header that has no body yet
        self._length: int | None = None
        self._in_body = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take in some bytes; returns the messages that are complete by now."""
        self._buffer += data
        messages: list[dict[str, Any]] = []
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
                    return messages
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                self._searched = 0
                self._take_line(line)

    def finish(self) -> None:
        """The stream ended: what has not become a frame is outside."""
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
            self._add_outside(line)

    def _drop_header(self) -> None:
        """It was none: something else follows."""
        self._add_outside(self._header)
        self._end_header()

    def _end_header(self) -> None:
        self._header, self._length, self._in_body = b"", None, False

    def _take_body(self) -> dict[str, Any] | None:
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
