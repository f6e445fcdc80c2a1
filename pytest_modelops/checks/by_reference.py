"""Whether a job may submit a bundle's own functions, where the bundle is in the running processes.

Dask sends an imported function by its name, and since 2023.4 the scheduler deserializes graphs
(https://github.com/dask/distributed/issues/7797), so it needs the bundle. A worker plugin installs nothing there. Jobs
that submit only functions of a runtime do not notice. So a failure is a fault if the settings name functions that jobs
submit, or install the bundle into the scheduler; otherwise it is a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import Source
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, TimedOut
from pytest_modelops.remote.shared.facts import Outcome

_SECONDS, _LEAST_SECONDS = 15.0, 1.0
_ON_THE_SCHEDULER = "Error during deserialization of the task graph"
"""Some releases of Dask send this without its cause. Workers and client have the module."""
_MISSING = re.compile(r"No module named '(?P<module>[^']+)'")


def ask(bundle: Bundle, source: Source, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Submit graphs with functions of the bundle while workers and client have it; returns figures for the report.

    `by_reference` says how they ended. A `note` says what a failure means to jobs that submit such functions.

    Raises:
        CheckFailed, TimedOut: one failed, and the settings say that it must not.
    """
    must = bundle.in_scheduler or bool(bundle.submits)
    functions = functions_of(bundle, source)
    found: Mapping[str, object] = {"outcome": "not tried", "why": "no function of it is named"}
    for module, name in functions:
        function = f"{module}:{name}" if name else module
        outcome = _submit(module, name, bundle, cell, deadline, must=must)
        found, problem = judged(function, outcome, bundle)
        if problem and must:
            error = TimedOut if "pending" in outcome else CheckFailed
            raise error(f"bundle {bundle.name!r}: {problem}")
        if problem:
            note = {"note": f"bundle {bundle.name!r}, cell {cell.cell.id}: {problem}"} if _is_missing(outcome) else {}
            return {"by_reference": found, **note}
    submitted = {"functions": [f"{module}:{name}" for module, name in functions]} if must else {}
    return {"by_reference": {**found, **submitted}}


def _submit(module: str, name: str, bundle: Bundle, cell: CheckedCell, deadline: Deadline, *, must: bool) -> Outcome:
    limit = deadline.at_most(_SECONDS)
    if limit.remaining < _LEAST_SECONDS:
        return {"pending": "because there was no time left to submit it"}
    cell.progress(f"submitting a function of {bundle.name} by reference")
    try:
        outcome: Outcome = cell.cluster.agent.call(
            "submit_by_reference", module=module, name=name, seconds=limit.remaining, deadline=Deadline(_SECONDS + 1)
        )
    except ModelopsError as error:
        if must:
            raise CheckFailed(f"bundle {bundle.name!r}: {module}:{name} cannot be submitted: {error}") from error
        return {"pending": str(error).partition("\n")[0]}  # later checks report what is broken
    return outcome


def functions_of(bundle: Bundle, source: Source) -> Sequence[tuple[str, str]]:
    """Return module and name of what is submitted; a name may be none of the module's attributes."""
    if bundle.submits:
        return [(module, name) for module, _, name in (one.partition(":") for one in bundle.submits)]
    module, _, name = (bundle.entrypoint or "").replace("/", ":").partition(":")
    own, attribute = source.split(module)
    if own in source.modules:
        return [(own, attribute or name)]
    if source.wire:
        return [(source.wire.module, source.wire.function)]
    return [(bundle.imports[0], "")] if bundle.imports else []


def _is_missing(outcome: Outcome) -> bool:
    """Whether the scheduler lacks the module."""
    text = f"{outcome.get('error', '')}\n{outcome.get('traceback', '')}"
    return _MISSING.search(text) is not None or _ON_THE_SCHEDULER in text


def judged(function: str, outcome: Outcome, bundle: Bundle) -> tuple[Mapping[str, object], str]:
    """Return what a report shows of how a graph ended, and what is wrong with that; empty if nothing is."""
    if "value" in outcome:
        return {"outcome": "passed"}, ""
    if "pending" in outcome:
        why = f"not finished in time, {outcome['pending']}"
        return {"outcome": "not tried", "why": why}, f"a graph with {function} was {why}"
    error = outcome.get("error") or outcome.get("gone", "")
    match = _MISSING.search(f"{error}\n{outcome.get('traceback', '')}")
    found = {"outcome": "failed", "why": match[0] if match else error}
    if not _is_missing(outcome):
        return found, f"a graph with {function} fails: {error}\n{outcome.get('traceback', '')}".rstrip()
    module, why = (match["module"], match[0]) if match else (function.partition(":")[0], error.partition("\n")[0])
    problem = (
        f"the scheduler has no module {module!r}, which workers and client have. A job that submits the bundle's "
        f"functions, as `client.submit` and `dask.delayed` do with {function}, fails with {why.strip()!r}: since "
        "Dask 2023.4 the scheduler deserializes graphs."
    )
    if not bundle.in_scheduler:
        problem += (
            " Install the bundle on the scheduler too, as `distributed.PipInstall` does in current releases, and set "
            'install = "everywhere" here; or send its functions by value: `cloudpickle.register_pickle_by_value`.'
        )
        if not bundle.submits:
            problem += " If your jobs submit such functions, name them in `submits` of the bundle."
    return found, problem
