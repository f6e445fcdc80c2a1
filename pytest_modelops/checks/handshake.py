"""`handshake[bundle]`: on every worker, at once, the runner starts and answers `ready`, and it is the right one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks import freshness
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, RunnerTimedOut


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Start a runner on each worker, compare what it answers, end it, and prove that nothing of it is left."""
    location = location_in(bundle, cell, deadline)
    cell.progress(f"shaking hands with the runner of {bundle.name}")
    seconds = max(0.1, deadline.remaining - MARGIN_SECONDS)
    reply = cell.cluster.ask_workers(
        "handshake", {"location": location, "seconds": seconds}, Deadline(deadline.remaining + 1)
    )
    tidy = words.Tidy(directories=location["directories"].values())
    faults, logs = {}, []
    for name, answer in reply.items():
        where = words.keep_logs(answer["logs"], f"{name}-{bundle.name}-runner", cell.keep_log)
        found = [tidy.fault(fault) for fault in _faults(answer, location, deadline)]
        if found := freshness.with_hint(found, answer["beside"], location, cell.runner.path):
            faults[name] = found
            logs.append(where)
    if not faults:
        return {"runners": len(reply)}
    count = words.counted(len(faults), reply, "workers")
    message = words.message(f"bundle {bundle.name!r}, cell {cell.cell.id}, {count}", faults, logs[0])
    late = any("silent" in answer["outcome"] for answer in reply.values())
    raise (RunnerTimedOut if late else CheckFailed)(message)


def _faults(answer: Mapping[str, Any], location: Mapping[str, Any], deadline: Deadline) -> Iterator[Fault]:
    """What is wrong on a worker, the most telling first."""
    python = Version(answer["worker"]["version"])
    for outcome in filter(None, (answer["outcome"], answer["again"])):
        if "result" in outcome:
            yield from map(_fault, _untrue(outcome["result"], answer, location))
        if outcome["outside"]:  # it may be the reason for all else
            yield words.polluted(outcome["outside"], "ready", location["protocol"])
        if "result" not in outcome:
            yield words.fault_of(outcome, "ready", seconds=deadline.seconds, python=python)
    yield from map(_fault, _warm(answer))
    yield from words.faults_of_end(answer["end"])


def _warm(answer: Mapping[str, Any]) -> Iterator[str]:
    """Where a one-shot runner, which was asked twice, has answered twice from one process."""
    reply = [(answer[which] or {}).get("result") for which in ("outcome", "again")]
    first, again = (one.get("pid") if isinstance(one, Mapping) else None for one in reply)
    if first is not None and first == again:
        yield (
            f"both of its answers to `ready` came from process {first}: it is no one-shot runner, which is a new "
            "process for every request"
        )


def _fault(head: str) -> Fault:
    return Fault(head=head)


def _untrue(ready: Any, answer: Mapping[str, Any], location: Mapping[str, Any]) -> Iterator[str]:
    """Where the answer is not that of the runner which was started."""
    if not isinstance(ready, Mapping) or ready.get("ready") is not True:
        yield f"its runner answered `ready` with {ready!r}, not with ready: true"
        return
    if ready.get("bundle_digest") != location["digest"]:
        yield (
            f"its runner answers for the bundle digest {ready.get('bundle_digest')!r}, and was started for "
            f"{location['digest']!r}: it runs another bundle, or another state of this one"
        )
    if not _same_python(str(ready.get("version")), answer["worker"]["version"]):
        yield (
            f"its runner says that it runs Python {ready.get('version')}, the worker runs {answer['worker']['version']}"
        )
    if "{venv}" in " ".join(location["command"]) or "{python}" in location["command"]:
        python, venv = str(ready.get("python")), answer["venv"]
        if not PurePosixPath(python).is_relative_to(venv):
            yield f"its runner runs {python}, which is not the interpreter of its environment {venv}"


def _same_python(reply: str, worker: str) -> bool:
    """Whether `3.12` or `3.12.1` is the worker's Python, as far as it goes."""
    try:
        release = Version(reply).release
    except InvalidVersion:
        return False
    return len(release) > 1 and Version(worker).release[: len(release)] == release


def check(bundle: Bundle) -> Check:
    """The check for a bundle."""
    return Check(
        name="handshake",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("bundle-install", bundle),),
        seconds=60,
        summary="on every worker, the bundle's runner starts and answers",
    )
