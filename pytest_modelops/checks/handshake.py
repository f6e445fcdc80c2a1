"""`handshake[bundle]`: on every worker, at once, the runner starts and answers `ready`, and it is the right one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from packaging.version import InvalidVersion, Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import executors, freshness
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in
from pytest_modelops.checks.bundle_messages import (
    Fault,
    Tidy,
    counted,
    fault_of,
    faults_of_end,
    keep_logs,
    message,
    polluted,
)
from pytest_modelops.config.runner import JSON_RPC
from pytest_modelops.config.types import ANY_PYTHON
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, RunnerTimedOut
from pytest_modelops.remote.shared.bundle_messages import BundleLocation, HandshakeAnswer


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Start a runner on each worker, compare its answer, end it, and prove that nothing of it is left."""
    location = location_in(bundle, cell, deadline)
    cell.progress(f"shaking hands with the runner of {bundle.name}")
    seconds = max(0.1, deadline.remaining - MARGIN_SECONDS)
    answers: Mapping[str, HandshakeAnswer] = cell.cluster.ask_workers(
        "handshake", {"location": location, "seconds": seconds}, Deadline(deadline.remaining + 1)
    )
    tidy = Tidy(directories=location["directories"].values())
    faults, logs = {}, []
    for name, answer in answers.items():
        where = keep_logs(answer["logs"], f"{name}-{bundle.name}-runner", cell.keep_log)
        found = [tidy.fault(fault) for fault in _faults(answer, location, deadline, cell.runner.python)]
        if found := freshness.with_hint(found, answer["beside"], location, cell.runner.path):
            faults[name] = found
            logs.append(where)
    if not faults:
        return {"runners": len(answers)}
    count = counted(len(faults), answers, "workers")
    text = message(f"bundle {bundle.name!r}, cell {cell.cell.id}, {count}", faults, logs[0])
    late = any("silent" in answer["outcome"] for answer in answers.values())
    raise (RunnerTimedOut if late else CheckFailed)(text)


def _faults(
    answer: HandshakeAnswer, location: BundleLocation, deadline: Deadline, wanted: str | None
) -> Iterator[Fault]:
    """Yield what is wrong on a worker, the most telling first.

    Args:
        wanted: the runner's Python, as configured.
    """
    python = Version(answer["worker"]["version"])
    for outcome in filter(None, (answer["outcome"], answer["again"])):
        if "result" in outcome:
            yield from (Fault(head=head) for head in _mismatches(outcome["result"], answer, location, wanted))
        if outcome["outside"]:  # it may be the reason for the rest
            yield polluted(outcome["outside"], "ready", location["protocol"])
        if "result" not in outcome:
            yield fault_of(outcome, "ready", seconds=deadline.seconds, python=python)
    warm = [Fault(head=head) for head in _warm(answer)]
    yield from warm or _executors(answer, location, wanted)
    yield from faults_of_end(answer["end"])


def _warm(answer: HandshakeAnswer) -> Iterator[str]:
    """Yield the fault of a one-shot runner that has answered both requests from one process."""
    results = [outcome and outcome.get("result") for outcome in (answer["outcome"], answer["again"])]
    first, again = (result.get("pid") if isinstance(result, Mapping) else None for result in results)
    if first is not None and first == again:
        yield (
            f"both of its answers to `ready` came from process {first}: it is no one-shot runner, which starts a new "
            "process for every request"
        )


def _executors(answer: HandshakeAnswer, location: BundleLocation, wanted: str | None) -> Iterator[Fault]:
    """Yield where the process that answered is not the runner's, or runs another Python than it should."""
    outcomes = filter(None, (answer["outcome"], answer["again"]))
    processes = [outcome["process"] for outcome in outcomes if "process" in outcome]
    lasting = location["protocol"] == JSON_RPC
    heads: dict[str, tuple[str, ...]] = {}
    for process in processes:
        if why := executors.not_its_own(process, "its runner", lasting=lasting):
            heads[f"its answer to `ready` names {why}"] = (executors.STORED,)
        elif process["seen"]:
            python = executors.other_python(process["runs"], answer["own"], wanted, "[tool.modelops.runner] python")
            heads.update(dict.fromkeys(python, ()))
    if not heads and processes and not any(process["seen"] for process in processes):
        heads[f"pid {processes[0]['pid']}, which its answer to `ready` names, was not seen below its runner"] = ()
    yield from (Fault(head=head, details=details) for head, details in heads.items())


def _mismatches(ready: object, answer: HandshakeAnswer, location: BundleLocation, wanted: str | None) -> Iterator[str]:
    """Yield where the answer is not that of the runner that was started."""
    if not isinstance(ready, Mapping) or ready.get("ready") is not True:
        yield f"its runner answered `ready` with {ready!r}, not with ready: true"
        return
    if ready.get("bundle_digest") != location["digest"]:
        yield (
            f"its runner answers for the bundle digest {ready.get('bundle_digest')!r}, and was started for "
            f"{location['digest']!r}: it runs another bundle, or another state of this one"
        )
    if not _same_python(str(ready.get("version")), wanted or answer["worker"]["version"]):
        expected = f"and has to run {wanted}" if wanted else f"the worker runs {answer['worker']['version']}"
        yield f"its runner says that it runs Python {ready.get('version')}, {expected}"
    if "{venv}" in " ".join(location["command"]) or "{python}" in location["command"]:
        python, venv = str(ready.get("python")), answer["venv"]
        runs = answer["outcome"]["process"]["runs"] if "process" in answer["outcome"] else {}
        if not PurePosixPath(python).is_relative_to(venv):
            yield f"its runner runs {python}, which is not the interpreter of its environment {venv}"
        elif (prefix := runs.get("prefix")) and not PurePosixPath(prefix).is_relative_to(venv):
            yield f"its runner says that it runs {python}, and really runs {runs['executable']}, of another environment"


def _same_python(said: str, expected: str) -> bool:
    """Return whether `3.12` or `3.12.1` is the Python that is expected, as far as both go."""
    try:
        release = Version(said).release
    except InvalidVersion:
        return False
    if expected == ANY_PYTHON:
        return True
    both = zip(release, Version(expected).release, strict=False)
    return len(release) > 1 and all(one == other for one, other in both)


def check(bundle: Bundle) -> Check:
    return Check(
        name="handshake",
        bundle=bundle,
        run=functools.partial(run, bundle),
        needs=(label("bundle-install", bundle),),
        seconds=60,
        summary="on every worker, the bundle's runner starts and answers",
    )
