"""What one client may send to a deployment: so many tasks and bytes, for so many seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from ..shared.facts import AttachContact
from .connection import Call, Failure

EACH_BYTES = 256
"""What Dask adds to a task, and to each of its dependencies, at most: keys, priorities, restrictions."""


class Limits:
    """Counts what is sent, from when it is made."""

    def __init__(self, contact: AttachContact) -> None:
        self._most = contact
        self._end = time.monotonic() + contact["seconds"]
        self._tasks = self._bytes = 0

    def reserve(self, calls: Iterable[Call]) -> None:
        """Count these calls as sent; raises `Failure` if that is more than is allowed."""
        calls = list(calls)
        tasks = sum(call.count for call in calls)
        size = sum(call.count * (_size(call) + EACH_BYTES * (1 + call.dependencies)) for call in calls)
        allows = "[tool.modelops.attach] allows"
        for key, sent, more, most in (
            ("tasks", self._tasks, tasks, self._most["tasks"]),
            ("bytes", self._bytes, size, self._most["bytes"]),
        ):
            if sent + more > most:
                raise Failure(
                    f"{more} {key} were not sent to the deployment: this client has sent {sent}, and `{key}` of "
                    f"{allows} {most}"
                )
        if time.monotonic() > self._end:
            raise Failure(
                f"{tasks} tasks were not sent to the deployment: `seconds` of {allows} a client to send for "
                f"{self._most['seconds']:g} s, which are over"
            )
        self._tasks, self._bytes = self._tasks + tasks, self._bytes + size


def _size(call: Call) -> int:
    from distributed.protocol import pickle  # Dask's start takes long

    packed: Any = pickle.dumps((call.function, call.arguments))
    return len(packed)
