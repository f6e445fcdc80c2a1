"""`venv-reuse[bundle]`: a runner that installs by itself reuses its environment when it may, and only then."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages, canary, own_installs, reuse_messages
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in, wheels_of
from pytest_modelops.config.types import ANY_PYTHON
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut
from pytest_modelops.remote.shared.canary import read
from pytest_modelops.remote.shared.canary_messages import ReuseReport, Tried, Variant

_END_SECONDS = 8.0
"""What a worker gets to end the last use and to tidy up, before the deadline."""


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Make two canaries of the bundle, and have one worker use an environment for them in every scenario."""
    location = location_in(bundle, cell, deadline)
    source = formats.read(bundle.path, cell.unpacked, deadline=deadline)
    variants = _put_variants(bundle, source, cell, deadline)
    worker = cell.cluster.workers[0].name
    cell.progress(f"using the environment of {bundle.name} again and again on {worker}")
    asked = {
        "location": location,
        "worker": worker,
        "variants": variants,
        "forced": None if cell.runner.fresh_env is None else dict(cell.runner.fresh_env),
        "seconds": max(1.0, deadline.remaining - min(_END_SECONDS, deadline.remaining / 4) - MARGIN_SECONDS),
    }
    answers = cell.cluster.ask_workers("reuse", asked, Deadline(deadline.remaining + 1))
    report = cast("ReuseReport", answers[worker])
    logs = bundle_messages.keep_logs(report["logs"], f"{worker}-{bundle.name}-reuse", cell.keep_log)
    directory = f"{location['directories'][worker]}/reuse"
    tidy = bundle_messages.Tidy(directories=(f"{directory}/live", directory))
    scenarios, python = report["scenarios"], _python_of(report, cell.runner.python)
    faults = {
        name: [tidy.fault(fault) for fault in found]
        for name, one in scenarios.items()
        if (found := reuse_messages.faults(name, one, python))
    }
    figures = _figures(scenarios, faults, worker)
    if not faults:
        return figures
    count = bundle_messages.counted(
        len(faults), [one for one in scenarios.values() if "untried" not in one], "canaries"
    )
    intro = f"bundle {bundle.name!r}, cell {cell.cell.id}, {worker}, {count}"
    late = any("late" in one for one in scenarios.values())
    hint = "\nFor more time: --modelops-deadline venv-reuse=SECONDS" if late else ""
    message = bundle_messages.message(intro, faults, logs, named=True) + hint
    error: ModelopsError = (RunnerTimedOut if late else CheckFailed)(message)
    error.figures = figures
    raise error


def _put_variants(
    bundle: Bundle, source: formats.Source, cell: CheckedCell, deadline: Deadline
) -> Mapping[str, Variant]:
    """Make the canaries and their wheels, and copy them into the cell."""
    sandbox, lock = cell.cluster.sandbox, cell.environments[cell.cell.worker].lock
    target = f"bundles/{bundle.name}/reuse-{secrets.token_hex(3)}"
    put: dict[str, Variant] = {}
    with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
        for name, variant in canary.variants(source, Path(directory)).items():
            house = wheels_of(bundle, variant, lock, cell, deadline)
            builds = own_installs.build_wheels(variant, lock, cell, deadline)
            wheels = own_installs.wheels(house, builds, Path(directory, name))
            put[name] = {
                "source": sandbox.put(variant.path, f"{target}/{name}/source"),
                "wheels": sandbox.put(wheels, f"{target}/{name}/wheels"),
                "digest": variant.digest,
            }
    return put


def _python_of(report: ReuseReport, wanted: str | None) -> Version:
    """Return the Python that canaries have to be executed by: for any, the one that executed the first of them."""
    if wanted is None:
        return Version(report["version"])
    if wanted != ANY_PYTHON:
        return Version(wanted)
    first = next((use for use in report["scenarios"]["first-use"].get("uses", ()) if use["answers"]), None)
    answer = read(first["answers"][-1].get("result")) if first else None
    return Version(answer["runs"]["version"] if answer and "runs" in answer else report["version"])


def _figures(scenarios: Mapping[str, Tried], faults: Collection[str], worker: str) -> Mapping[str, object]:
    """Return how each scenario ended, and how long its uses took, for the report."""
    uses = {name: [use["seconds"] for use in tried.get("uses", ())] for name, tried in scenarios.items()}
    outcomes = {}
    for name, tried in scenarios.items():
        outcome = "failed" if name in faults else "not tried" if "untried" in tried else "passed"
        why = {"why": tried["untried"]} if "untried" in tried else {}
        outcomes[name] = {"outcome": outcome, "seconds": tried["seconds"], "uses": uses[name], **why}
    return {
        "worker": worker,
        "first_seconds": next(iter(uses["first-use"]), None),
        "second_seconds": next(iter(uses["second-use"]), None),
        "canaries": outcomes,
    }


def check(bundle: Bundle) -> Check:
    """Return the check for a bundle whose runner installs by itself."""
    return Check(
        name="venv-reuse",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("handshake", bundle),),
        seconds=300,
        summary="its runner reuses an environment when it may, and only then",
    )
