"""`venv-reuse[bundle]`: a runner that installs by itself uses its environment again when it may, and never else."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks import canary, own_installs, reuse_messages
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_isolated import MARGIN_SECONDS, location_in, wheels_of
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut

_END_SECONDS = 8.0
"""What a worker gets to end the last use and to tidy up, before the deadline."""


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Make two variants of the bundle that tell which of them runs, and have one worker use an environment for them."""
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
    answer = cell.cluster.ask_workers("reuse", asked, Deadline(deadline.remaining + 1))[worker]
    where = words.keep_logs(answer["logs"], f"{worker}-{bundle.name}-reuse", cell.keep_log)
    python = Version(answer["worker"]["version"])
    tidy = words.Tidy(
        directories=(f"{location['directories'][worker]}/reuse/live", f"{location['directories'][worker]}/reuse")
    )
    faults = {
        name: [tidy.fault(fault) for fault in found]
        for name, one in answer["canaries"].items()
        if (found := reuse_messages.faults(name, one, python))
    }
    figures = _figures(answer["canaries"], faults, worker)
    if not faults:
        return figures
    tried = [name for name, one in answer["canaries"].items() if "untried" not in one]
    intro = f"bundle {bundle.name!r}, cell {cell.cell.id}, {worker}, {words.counted(len(faults), tried, 'canaries')}"
    late = any("late" in one for one in answer["canaries"].values())
    hint = "\nFor more time: --modelops-deadline venv-reuse=SECONDS" if late else ""
    error: ModelopsError = (RunnerTimedOut if late else CheckFailed)(
        words.message(intro, faults, where, named=True) + hint
    )
    error.figures = figures
    raise error


def _put_variants(
    bundle: Bundle, source: formats.Source, cell: CheckedCell, deadline: Deadline
) -> Mapping[str, Mapping[str, str]]:
    """Make the variants and their wheels, and bring them into the cell."""
    sandbox, lock = cell.cluster.sandbox, cell.environments[cell.cell.worker].lock
    place = f"bundles/{bundle.name}/reuse-{secrets.token_hex(3)}"
    put = {}
    with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
        for variant in canary.variants(source, Path(directory)):
            house = wheels_of(bundle, variant.source, lock, cell, deadline)
            builds = own_installs.build_wheels(variant.source, cell, deadline)
            wheels = own_installs.wheels(house, builds, Path(directory, variant.name))
            put[variant.name] = {
                "source": sandbox.put(variant.source.path, f"{place}/{variant.name}/source"),
                "wheels": sandbox.put(wheels, f"{place}/{variant.name}/wheels"),
                "digest": variant.source.digest,
            }
    return put


def _figures(canaries: Mapping[str, Mapping[str, Any]], faults: Mapping[str, Any], worker: str) -> Mapping[str, Any]:
    """How each canary ended, and how long the uses took."""
    outcomes = {}
    for name, answer in canaries.items():
        outcome = "failed" if name in faults else "not tried" if "untried" in answer else "passed"
        why = {"why": answer["untried"]} if "untried" in answer else {}
        seconds = [use["seconds"] for use in answer.get("uses", ())]
        outcomes[name] = {"outcome": outcome, "seconds": answer["seconds"], "uses": seconds, **why}
    first, second = (outcomes[name]["uses"] for name in ("first-use", "second-use"))
    return {
        "worker": worker,
        "first_seconds": first[0] if first else None,
        "second_seconds": second[0] if second else None,
        "canaries": outcomes,
    }


def check(bundle: Bundle) -> Check:
    """The check for a bundle whose runner installs by itself."""
    return Check(
        name="venv-reuse",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("handshake", bundle),),
        seconds=300,
        summary="its runner uses an environment again when it may, and never else",
    )
