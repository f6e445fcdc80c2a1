"""Whether the process that a runtime or a runner names did the work, and runs the Python that it should."""

from __future__ import annotations

from collections.abc import Iterator

from packaging.version import Version

from pytest_modelops.config.types import ANY_PYTHON
from pytest_modelops.matrix.cell import PythonVersion
from pytest_modelops.remote.shared.facts import Interpreter, NamedProcess


def not_its_own(named: NamedProcess, of: str, *, lasting: bool) -> str:
    """Say why a process cannot be the one that did the work; empty if it can.

    Args:
        of: what it has to belong to, for people.
        lasting: whether it has to run still.
    """
    pid = named["pid"]
    if named["seen"]:
        return "" if named["lives"] or not lasting else f"pid {pid}, which ended before the answer arrived"
    if named["lives"]:
        command = f" ({named['command']})" if named["command"] else ""
        return f"pid {pid}{command}, which is no descendant of {of} (pid {named['of']})"
    if named["born"] and not lasting:
        return ""  # too quick to be seen
    return f"pid {pid}, which does not exist; it is no process that {of} (pid {named['of']}) has started in this run"


STORED = "A stored answer, or one of another worker, does not count: return the pid of the process that did the work."


def other_python(runs: Interpreter, own: Interpreter, wanted: str | None, key: str) -> Iterator[str]:
    """Say where the Python that did the work is not the one that it should be.

    Args:
        own: the worker's.
        wanted: what the user says it should be, as configured with `key`; `None` for the worker's.
    """
    if wanted == ANY_PYTHON:
        return
    if "unknown" in runs:
        yield f'which Python did the work is not known: {runs["unknown"]}; if that is right, set {key} = "{ANY_PYTHON}"'
        return
    where = f"{runs['executable']}, prefix {runs['prefix']}" if runs["prefix"] else runs["executable"]
    did = f"the work was done by Python {runs['version']} ({where})"
    actual = Version(runs["version"])
    if wanted is not None:
        if not PythonVersion.parse(wanted).admits(actual):
            yield f"{did}, and {key} is {wanted!r}"
    elif actual != Version(own["version"]):
        series = ".".join(map(str, actual.release[:2]))
        yield (
            f"{did}, the worker runs {own['version']} ({own['executable']}): have it make its environment with the "
            f'worker\'s interpreter, or set {key} = "{series}" if that is right'
        )
    if runs["platform"] != own["platform"] and actual.release[:2] == Version(own["version"]).release[:2]:
        yield (
            f"{did}, which is built for {runs['platform']}, the worker's for {own['platform']}: compiled modules of "
            f'one do not load in the other; if that is right, set {key} = "{ANY_PYTHON}"'
        )
