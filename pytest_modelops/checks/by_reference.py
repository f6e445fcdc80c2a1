"""Whether a job may submit a bundle's own functions by reference, where the bundle is in the running processes.

Since Dask 2023.4 the scheduler deserializes graphs (https://github.com/dask/distributed/issues/7797), and a worker
plugin installs nothing there. Jobs that submit only functions of a runtime do not notice, so this is no fault.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import Source
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError
from pytest_modelops.remote.shared.facts import Outcome

_SECONDS, _LEAST_SECONDS = 15.0, 1.0
_ON_THE_SCHEDULER = "Error during deserialization of the task graph"
"""Some releases of Dask send this without its cause. Workers and client have the module."""
_MISSING = re.compile(r"No module named '(?P<module>[^']+)'")


def ask(bundle: Bundle, source: Source, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Submit a graph with a function of the bundle while workers and client have it; returns figures for the report.

    `by_reference` says how it ended. A `note` says what that means to a job.
    """
    function = function_of(bundle, source)
    limit = deadline.at_most(_SECONDS)
    if function is None or limit.remaining < _LEAST_SECONDS:
        why = "no entry point, wire function or `imports` names one" if function is None else "there was no time left"
        return {"by_reference": {"outcome": "not tried", "why": why}}
    module, name = function
    cell.progress(f"submitting a function of {bundle.name} by reference")
    try:
        outcome: Outcome = cell.cluster.agent.call(
            "submit_by_reference", module=module, name=name, seconds=limit.remaining, deadline=Deadline(_SECONDS + 1)
        )
    except ModelopsError as error:  # later checks report what is broken
        return {"by_reference": {"outcome": "not tried", "why": str(error).partition("\n")[0]}}
    return figures(bundle.name, cell.cell.id, f"{module}:{name}", outcome)


def function_of(bundle: Bundle, source: Source) -> tuple[str, str] | None:
    """Return module and name of what is submitted; the name may be none of the module's attributes."""
    module, _, name = (bundle.entrypoint or "").replace("/", ":").partition(":")
    if module in source.modules:
        return module, name
    if source.wire:
        return source.wire.module, source.wire.function
    return (bundle.imports[0], "") if bundle.imports else None


def figures(bundle: str, cell: str, function: str, outcome: Outcome) -> Mapping[str, object]:
    """Return what a report shows of how the graph ended."""
    if "value" in outcome:
        return {"by_reference": {"outcome": "passed"}}
    if "pending" in outcome:
        return {"by_reference": {"outcome": "not tried", "why": f"not finished in time, {outcome['pending']}"}}
    error = outcome.get("error") or outcome.get("gone", "")
    match = _MISSING.search(f"{error}\n{outcome.get('traceback', '')}")
    found = {"by_reference": {"outcome": "failed", "why": match[0] if match else error}}
    if match is None and _ON_THE_SCHEDULER not in error:
        return found
    module, why = function.partition(":")[0], error.partition("\n")[0].strip()
    if match:
        module, why = match["module"], match[0]
    note = (
        f"bundle {bundle!r}, cell {cell}: the scheduler has no module {module!r}, which workers and client "
        f"have. A job that submits the bundle's functions by reference, as `dask.delayed` does with {function}, fails "
        f"with {why!r}: since Dask 2023.4 the scheduler deserializes graphs. If your jobs do that, install the "
        "bundle on the scheduler too, as `distributed.PipInstall` does in current releases, or send its functions by "
        "value: `cloudpickle.register_pickle_by_value`"
    )
    return {**found, "note": note}
