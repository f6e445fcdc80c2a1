"""Child processes that a worker's task or plugin waits for: where they stand when the worker hangs."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

from pytest_modelops.backends.base import Process
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.process_messages import ChildStack

_ABORTED = "Fatal Python error: Aborted"
"""The first line that faulthandler prints on SIGABRT."""
_POLL_SECONDS = 0.02
_LOG_SECONDS = 1.0
"""How long output may take from a container into the log."""


def stacks_of_children(
    process: Process, pid: int, innermost: Callable[[str], Sequence[str]]
) -> tuple[Sequence[str], bool]:
    """End the child processes of a worker with their stacks.

    Args:
        process: the worker, or its nanny.
        pid: of the worker.
        innermost: shortens what faulthandler has printed.

    Returns:
        Lines for people, and whether any child was ended.
    """
    before = process.log.stat().st_size
    children = process.abort_children(pid=pid)
    expected = sum(child["in_log"] and not child["obstacle"] for child in children)

    def in_log() -> Sequence[str]:
        return process.log.read_bytes()[before:].decode(errors="replace").split(_ABORTED)[1:]

    Deadline(_LOG_SECONDS if expected else 0).until(
        lambda: len(in_log()) >= expected and "most recent call first" in in_log()[-1] if expected else True,
        every=_POLL_SECONDS,
    )
    dumps = iter(in_log())
    lines = []
    for child in children:
        dump = next(dumps, "") if child["in_log"] and not child["obstacle"] else child["dump"]
        lines += described(child, innermost(dump))
    return lines, any(not child["obstacle"] for child in children)


def described(child: ChildStack, stack: Sequence[str]) -> list[str]:
    """Return lines about a child process, for people."""
    state = child["state"] + (f" in {child['waits_in']}" if child["waits_in"] else "")
    command = textwrap.shorten(child["command"], 120, placeholder=" …")
    if child["obstacle"]:
        return [f"its child process {child['pid']} ({command}) is {state}; no stack, since {child['obstacle']}"]
    return [
        f"its child process {child['pid']} ({command}) was {state}; SIGABRT ended it, for this stack:",
        *[f"    {line}" for line in stack or ["it printed none"]],
    ]
