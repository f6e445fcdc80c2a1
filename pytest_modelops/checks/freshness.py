"""Whether a bundle's runner executes what it is asked, with the bundle's own modules. See `remote/worker/fresh.py`."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import cast

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import executors, unread_messages
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.config.runner import ONE_SHOT
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError
from pytest_modelops.remote.shared.bundle_messages import BundleLocation
from pytest_modelops.remote.shared.canary_messages import FreshReport

_LEAST_SECONDS, _TIMES = 5.0, 4.0
"""The copy is asked three times in two processes: it gets at least so many seconds, or so many executions' time."""
_INSTALL_SECONDS = 60.0
"""For a one-shot runner that installs by itself: it does so for the copy, from a bare environment."""
_TOO_FEW_SECONDS, _STARTS = 1.0, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Freshness:
    """What came of asking a copy."""

    faults: tuple[Fault, ...] = ()
    untried: str = ""  # why it was not asked
    from_source: tuple[str, ...] = ()  # installed modules that its runner imports from the bundle's directory

    @property
    def figures(self) -> Mapping[str, object]:
        """For the report."""
        if self.untried:
            return {"outcome": "not tried", "why": self.untried}
        from_source = {"from_source": list(self.from_source)} if self.from_source else {}
        return {"outcome": "failed" if self.faults else "passed", **from_source}


def ask(  # noqa: PLR0917
    bundle: Bundle,
    location: BundleLocation,
    worker: str,
    outputs: Mapping[str, Mapping[str, object]],
    cell: CheckedCell,
    deadline: Deadline,
    *,
    took: float,
) -> Freshness:
    """Ask a copy of the bundle on one worker what `execute` asked the bundle there.

    Args:
        outputs: the artifacts that the bundle returned there.
        took: how many seconds that took.
    """
    if bundle.in_workers:
        return Freshness(untried="no runner is between worker and bundle")
    if location["installs"] and location["protocol"] != ONE_SHOT:
        return Freshness(untried="its runner installs by itself, which `venv-reuse` checks")
    if not location["wire"]:
        return Freshness(untried="it declares no wire function")
    least = _INSTALL_SECONDS if location["installs"] else _LEAST_SECONDS
    seconds = deadline.at_most(max(least, _TIMES * took)).remaining - MARGIN_SECONDS
    if seconds < max(_TOO_FEW_SECONDS, _STARTS * took):
        return Freshness(untried="there was no time left for it")
    cell.progress(f"executing a copy of {bundle.name} on {worker}, which answers when it was executed")
    asked = {
        "location": location,
        "worker": worker,
        "wire": location["wire"],
        "request": {"entrypoint": bundle.entrypoint, "params": dict(bundle.params), "seed": bundle.seed},
        "seconds": seconds,
    }
    try:
        answer = cell.cluster.ask_workers("fresh", asked, Deadline(deadline.remaining + 1))[worker]
    except ModelopsError as error:  # a worker that died of it: its later checks report that
        return Freshness(untried=str(error).partition("\n")[0])
    checksums = {name: str(one["checksum"]) for name, one in outputs.items()}
    return judged(cast("FreshReport", answer), checksums, location, cell.runner.path, cell.runner.python)


def judged(
    report: FreshReport,
    checksums: Mapping[str, str],
    location: BundleLocation,
    runner: Path | str | None,
    python: str | None = None,
) -> Freshness:
    """Judge a worker's report.

    Args:
        python: the runner's Python, as configured.
        checksums: SHA-256 of the artifacts that the bundle itself returned, by name.
        runner: the runner's path, as configured.
    """
    if "untried" in report:
        return Freshness(untried=report["untried"])
    shadows = dict(report["others"])
    stored = ""
    moments = [answer.get("moment") for answer in report["answers"]]
    if None in moments:
        module = location["wire"]["module"].partition(".")[0] if location["wire"] else ""
        same = all(answer.get("checksums", checksums) == checksums for answer in report["answers"])
        if same and module in report["beside"]:
            shadows[module] = report["beside"][module]
        elif same and report["certain"]:
            stored = _ANSWER_OF_THE_BUNDLE
        elif not shadows:
            return Freshness(untried="another wire function than that of the copy answered")
    elif len(set(moments)) < len(moments):
        where = "another process" if moments[2] in moments[:2] else "the same process"
        stored = _REPEATED.format(where=where)
    heads = [
        f"its module {name!r} is shadowed: to its runner, {name!r} is {_on_the_host(file, location, runner)}, and the "
        f"bundle's own is never imported; {_TO_DO}"
        for name, file in shadows.items()
    ]
    pythons = (
        executors.other_python(runs, report["own"], python, "[tool.modelops.runner] python") for runs in report["runs"]
    )
    found = [*heads, *filter(None, [stored]), *dict.fromkeys(itertools.chain(*pythons))]
    return Freshness(faults=tuple(Fault(head=head) for head in found), from_source=tuple(report.get("from_source", ())))


_REPEATED = (
    "asked the same again, in {where}, it gave the answer of the first time, made at the same moment: nothing was "
    "executed, and a stored result stands for a new one"
)
_ANSWER_OF_THE_BUNDLE = (
    "asked for a copy of the bundle with another wire function, under a digest of its own, it gave the answer of the "
    "bundle: nothing was executed, and a result that was stored for another digest stands for a new one"
)
_TO_DO = (
    "rename one of them, have the runner put the bundle first on sys.path before it imports a module of that name, or "
    "start it with -P (from Python 3.11 on)"
)


def with_hint(
    faults: Sequence[Fault], beside: Mapping[str, str], location: BundleLocation, runner: Path | str | None
) -> list[Fault]:
    """Return the faults; where one names a module of which the runner has another beside it, say where that is."""
    hinted = []
    for fault in faults:
        text = "\n".join((fault.head, *fault.details))
        near = [
            f" Beside its runner is another {name}, which Python finds first: "
            f"{_on_the_host(file, location, runner)}; {_TO_DO}."
            for name, file in beside.items()
            if file in text or re.search(rf"(module|from|named) '{re.escape(name)}'", text)
        ]
        hinted.append(dataclasses.replace(fault, head=f"{fault.head}{''.join(near)}"))
    return unread_messages.with_hint(hinted, location)


def _on_the_host(file: str, location: BundleLocation, runner: Path | str | None) -> str:
    """Return where a file that came with the runner is on the host; any other file as it is."""
    if isinstance(runner, Path):
        copied = PurePosixPath(location["runner"])
        here, there = (runner, copied) if runner.is_dir() else (runner.parent, copied.parent)
        if PurePosixPath(file).is_relative_to(there):
            return str(here / PurePosixPath(file).relative_to(there))
    return file
