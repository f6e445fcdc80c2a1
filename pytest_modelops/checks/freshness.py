"""Whether a bundle's runner executes what it is asked, with the bundle's own modules. See `remote/worker/fresh.py`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError

Answer = Mapping[str, Any]

_LEAST_SECONDS, _TIMES = 5.0, 4.0
"""So many seconds it gets, and so many times what one execution took: it is three, in two processes."""
_TOO_FEW_SECONDS, _STARTS = 1.0, 2
_OUT_OF_TIME = "there was no time left for it"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freshness:
    """What came of asking a copy.

    Attributes:
        faults: what is wrong; nothing where it was not tried.
        untried: why it was not, in words.
    """

    faults: tuple[Fault, ...] = ()
    untried: str = ""

    @property
    def figures(self) -> Mapping[str, str]:
        """For the report."""
        outcome = "not tried" if self.untried else "failed" if self.faults else "passed"
        return {"outcome": outcome, **({"why": self.untried} if self.untried else {})}


def ask(  # noqa: PLR0917
    bundle: Bundle,
    location: Answer,
    worker: str,
    outputs: Answer,
    cell: CheckedCell,
    deadline: Deadline,
    *,
    took: float,
) -> Freshness:
    """Ask a copy of the bundle on one worker, as `execute` has asked the bundle there.

    Args:
        outputs: the artifacts that the bundle returned there.
        took: seconds of that.
    """
    if reason := _nothing_to_try(bundle, location):
        return Freshness(untried=reason)
    soon = deadline.at_most(max(_LEAST_SECONDS, _TIMES * took))
    seconds = soon.remaining - MARGIN_SECONDS
    if seconds < max(_TOO_FEW_SECONDS, _STARTS * took):
        return Freshness(untried=_OUT_OF_TIME)
    cell.progress(f"executing a copy of {bundle.name} that tells when it was executed, on {worker}")
    asked = {
        "location": location,
        "worker": worker,
        "wire": location["wire"],
        "modules": location["modules"],
        "request": {"entrypoint": bundle.entrypoint, "params": dict(bundle.params), "seed": bundle.seed},
        "seconds": seconds,
    }
    try:
        reply = cell.cluster.ask_workers("fresh", asked, Deadline(deadline.remaining + 1))[worker]
    except ModelopsError as error:  # a worker that died of it: its later checks tell
        return Freshness(untried=str(error).partition("\n")[0])
    if "untried" in reply:
        return Freshness(untried=reply["untried"])
    return judged(reply, {name: one["checksum"] for name, one in outputs.items()}, location, cell.runner.path)


def _nothing_to_try(bundle: Bundle, location: Answer) -> str:
    if bundle.in_workers:
        return "no runner is between worker and bundle"
    if location["installs"]:
        return "its runner installs by itself, of which venv-reuse tells"
    return "" if location["wire"] else "it declares no wire function"


def judged(reply: Answer, checksums: Mapping[str, str], location: Answer, runner: Path | str | None) -> Freshness:
    """What `fresh.try_it` has reported, judged.

    Args:
        checksums: SHA-256 of the artifacts that the bundle itself returned, by name.
        runner: the runner's path, as configured.
    """
    faults = [_shadowed(name, file, location, runner) for name, file in reply["others"].items()]
    answers = reply["answers"]
    moments = [answer.get("moment") for answer in answers]
    if None in moments:
        module = location["wire"]["module"].partition(".")[0]
        same = all(answer.get("checksums", checksums) == checksums for answer in answers)
        if same and module in reply["beside"]:
            faults.append(_shadowed(module, reply["beside"][module], location, runner))
        elif same and reply["certain"]:
            faults.append(Fault(head=_ANSWER_OF_THE_BUNDLE))
        elif not faults:
            return Freshness(untried="another wire function than that of the copy answered")
    elif len(set(moments)) < len(moments):
        where = "another process" if moments[2] in moments[:2] else "the same process"
        faults.append(Fault(head=_KEPT.format(where=where)))
    return Freshness(faults=tuple(faults))


_KEPT = (
    "asked the same again, in {where}, it gave the answer of the first time, made at the same moment: nothing was "
    "executed, and a result that was kept stands for a new one"
)
_ANSWER_OF_THE_BUNDLE = (
    "asked for a copy of the bundle with another wire function, under a digest of its own, it gave the answer of the "
    "bundle: nothing was executed, and a result that was kept for another digest stands for a new one"
)


def _shadowed(name: str, file: str, location: Answer, runner: Path | str | None) -> Fault:
    shown = _on_the_host(file, location, runner)
    return Fault(
        head=f"its module {name!r} is shadowed: to its runner, {name!r} is {shown}, and the bundle's own is never "
        f"imported; {_TO_DO}"
    )


_TO_DO = (
    "rename one of them, have the runner put the bundle first on sys.path before it imports one of that name, or start "
    "it with -P (from Python 3.11 on)"
)


def with_hint(
    faults: Sequence[Fault], beside: Mapping[str, str], location: Answer, runner: Path | str | None
) -> list[Fault]:
    """Faults, those that speak of a module that lies beside the runner too with the place of that."""
    hinted = []
    for fault in faults:
        said = "\n".join((fault.head, *fault.details))
        near = [
            f" Beside its runner lies another {name}, which Python finds first: "
            f"{_on_the_host(file, location, runner)}; {_TO_DO}."
            for name, file in beside.items()
            if file in said or re.search(rf"(module|from|named) '{re.escape(name)}'", said)
        ]
        hinted.append(dataclasses.replace(fault, head=f"{fault.head}{''.join(near)}"))
    return hinted


def _on_the_host(file: str, location: Answer, runner: Path | str | None) -> str:
    """A file that came with the runner, where it came from."""
    if isinstance(runner, Path):
        brought = PurePosixPath(location["runner"])
        here, there = (runner, brought) if runner.is_dir() else (runner.parent, brought.parent)
        if PurePosixPath(file).is_relative_to(there):
            return str(here / PurePosixPath(file).relative_to(there))
    return file
