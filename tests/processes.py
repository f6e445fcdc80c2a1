"""Waiting for processes, and finding what is left of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

_POLL_SECONDS = 0.02
_REST = 4
"""Times as long as a look took, nothing is looked at."""


def left_behind(*directories: Path) -> list[str]:
    """Describe every process whose variables, command line or working directory mention one of these directories.

    A cell's HOME is in its run's directory and a runner inherits it, so processes in sessions of their own show too.
    """
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "environ", "status"]):
        facts = process.info
        texts = [*(facts["cmdline"] or ()), facts["cwd"] or "", *(facts["environ"] or {}).values()]
        if process.pid != os.getpid() and any(str(directory) in text for directory in directories for text in texts):
            found.append(f"{process.pid} {facts['status']}: {' '.join(facts['cmdline'] or ())[:300]}")
    return found


def poll(condition: Callable[[], Any], *, seconds: float) -> Any:
    """Wait until the condition holds; returns its last value, true or not."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if (answer := condition()) or time.monotonic() > end:
            return answer
        # Looking at all processes of a machine takes long, and what is waited for needs the cores.
        time.sleep(max(_POLL_SECONDS, _REST * (time.monotonic() - began)))
