"""Fills the memory of a worker's process, until something ends it."""

from __future__ import annotations

import threading
import time

_CHUNK = 16 << 20
_PAUSE_SECONDS = 0.01
_held: list[bytes] = []


def fill_memory(most: int) -> bool:
    """Begin to allocate memory, and hold it; returns at once.

    Args:
        most: bytes; no more are allocated.
    """

    def fill() -> None:
        for _ in range(most // _CHUNK):
            _held.append(b"x" * _CHUNK)  # written to, else the kernel would give none
            time.sleep(_PAUSE_SECONDS)  # so that the worker can still do something else

    threading.Thread(target=fill, name="modelops-fill-memory", daemon=True).start()
    return True
