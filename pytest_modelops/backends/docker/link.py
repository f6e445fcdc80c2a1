"""A container's streams: frames to and from its init, and its output into a log."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pytest_modelops.backends.docker.engine import Engine
from pytest_modelops.remote.shared.process_messages import Answer, InitEvents, Request
from pytest_modelops.remote.shared.waiting import wait_until

_ANSWER_SECONDS = 10.0
"""An init answers in milliseconds; this is for machines under heavy load."""
_LOOK_SECONDS = 0.2
_STDOUT = 1
"""The engine's number of the stream with frames; the other one is the output."""
_READ_BYTES = 1 << 20


class Gone(Exception):
    """The container, or the connection to it, has ended."""


class Link:
    """Talks to the init of a container (see `remote/supervisor/init.py`). Make it before the container is started.

    Args:
        log: file that the container's output goes to.
        attached: where the command's stdout goes, if it is attached.
    """

    def __init__(self, engine: Engine, container: str, *, log: Path, attached: IO[bytes] | None = None) -> None:
        stream = engine.api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        self._stream = stream  # holds the connection
        self._socket: Any = getattr(stream, "_sock", stream)
        with contextlib.suppress(AttributeError):
            self._socket.settimeout(None)
        # Bytes behind the HTTP header may be in the response's own buffer already.
        response = getattr(stream, "_response", None)
        self._response = response
        self._reader: Any = response.raw._fp.fp if response is not None else stream  # noqa: SLF001
        self._log = log.open("ab", buffering=0)
        self._attached = attached
        self._writing = threading.Lock()
        self._ids = itertools.count()
        self._changed = threading.Condition()
        self._answers: dict[int, Answer] = {}
        self._frames = bytearray()
        self.events: InitEvents = {}
        self.ended = False
        self._thread = threading.Thread(target=self._read_all, name=f"container {log.stem}", daemon=True)
        self._thread.start()

    def _read_all(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while len(head := self._read(8)) == 8:  # noqa: PLR2004 - kind, three zeros, length
                kind, left = head[0], struct.unpack(">I", head[4:])[0]
                while left:
                    data = self._read(min(left, _READ_BYTES))
                    if not data:
                        break
                    left -= len(data)
                    if kind == _STDOUT:
                        self._feed(data)
                    else:
                        self._log.write(data)
        if self._attached is not None:
            with contextlib.suppress(OSError):
                self._attached.close()
        self._log.close()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _read(self, count: int) -> bytes:
        return bytes(self._reader.read(count) or b"")

    def _feed(self, data: bytes) -> None:
        self._frames += data
        while len(self._frames) >= 5:  # noqa: PLR2004 - kind and length
            kind = bytes(self._frames[:1])
            if kind not in (b"C", b"D"):
                # Output of an entry point, before it starts the command.
                self._log.write(self._frames)
                self._frames.clear()
                return
            length = struct.unpack(">I", self._frames[1:5])[0]
            if len(self._frames) < 5 + length:
                return
            content = bytes(self._frames[5 : 5 + length])
            del self._frames[: 5 + length]
            if kind == b"D":
                if self._attached is not None:
                    with contextlib.suppress(OSError, ValueError):  # the reader has closed it
                        self._attached.write(content)
                        self._attached.flush()
                continue
            message = json.loads(content)  # an `Answer`, or `InitEvents`
            with self._changed:
                if "id" in message:
                    self._answers[message["id"]] = message
                else:
                    self.events.update(message)
                self._changed.notify_all()

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send a frame.

        Raises:
            OSError: the connection is gone.
        """
        frame = memoryview(kind + struct.pack(">I", len(content)) + content)
        with self._writing:
            if type(self._socket) is not socket.socket:  # TLS, or a channel of ssh's
                self._socket.sendall(frame)
                return
            while frame:
                # An engine may stop reading for a container that has ended, without closing the connection.
                if self.ended or "exited" in self.events:
                    raise BrokenPipeError("the container has ended")
                _, writable, _ = select.select([], [self._socket], [], _LOOK_SECONDS)
                with contextlib.suppress(BlockingIOError):
                    frame = frame[self._socket.send(frame, socket.MSG_DONTWAIT) if writable else 0 :]

    def ask(self, request: Request) -> Answer:
        """Send a request to the init and return its answer; raises `Gone`."""
        number = next(self._ids)
        try:
            self.send(b"C", json.dumps({**request, "id": number}).encode())
        except OSError as error:
            raise Gone(str(error)) from error
        with self._changed:
            wait_until(
                self._changed, lambda: number in self._answers or self.ended or "exited" in self.events, _ANSWER_SECONDS
            )
            if number not in self._answers:
                raise Gone("no answer")
            return self._answers.pop(number)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition on `events` or `ended` holds; return whether it does."""
        with self._changed:
            return wait_until(self._changed, condition, seconds)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(2)
        parts: tuple[Any, ...] = (self._stream, self._response, self._socket)
        for part in parts:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                part.close()


class StdinOf(io.RawIOBase):
    """The stdin of an attached command, as a stream.

    Args:
        link: waits for the container's link; raises `Gone` if the container was not started.
    """

    def __init__(self, link: Callable[[], Link]) -> None:
        self._link = link

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        try:
            self._link().send(b"D", content)
        except Gone as error:
            raise BrokenPipeError(str(error)) from error
        return len(content)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError, Gone):
                self._link().send(b"E")
            super().close()


def pipe() -> tuple[IO[bytes], IO[bytes]]:
    """Return the two ends of a pipe, to read from and to write to."""
    reads, writes = os.pipe()
    return os.fdopen(reads, "rb"), os.fdopen(writes, "wb")
