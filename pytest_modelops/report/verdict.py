"""The answer in one sentence: what broke, what the broken cells have in common, and what most probably did it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_modelops.report.changes import Change, Comparison
from pytest_modelops.report.differences import ROLES
from pytest_modelops.report.looks import is_in_part
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import counted

RED = frozenset({Status.FAILED, Status.TIMED_OUT, Status.BLOCKED, Status.UNAVAILABLE})
"""What a cell that did not pass ended with, if it came to a verdict."""
_SUSPECTS = 3
"""With more packages under suspicion, the sentence gives their number."""


def sentence(report: RunReport) -> str:
    """Return the verdict on a run, as one sentence."""
    asked = [cell for cell in report.cells if cell.selected or cell.broken]
    if not asked:
        return "No cell was run."
    if report.comparison is not None:
        return _compared(report, report.comparison, asked)
    red = [cell for cell in asked if cell.status in RED]
    if not red:
        return f"{_green(asked)}{_rest(asked)}."
    common = f"{_shared(red, report.cells)}{_where(red)}{_probable(red)}"
    return f"{len(red)} of {counted(len(asked), 'cell')} broken{common}{_rest(asked)}."


def _compared(report: RunReport, comparison: Comparison, asked: Sequence[CellReport]) -> str:
    newly = {change.id for change in comparison.of(Change.NEWLY_BROKEN)}
    broken = [cell for cell in asked if cell.id in newly]
    cells = counted(len(asked), "cell")
    said = f"nothing newly broken in {cells}"
    if broken:
        said = f"{len(broken)} of {cells} newly broken{_shared(broken, report.cells)}{_cause(comparison)}"
    counts = {
        "new and broken": sum(change.breaks for change in comparison.of(Change.NEW)),
        **{change.text: len(comparison.of(change)) for change in Change if change is not Change.NEWLY_BROKEN},
    }
    counts["new"] -= counts["new and broken"]
    others = "".join(f"; {number} {what}" for what, number in counts.items() if number)
    start = f"Upgrade to {comparison.upgrade}: {said}" if comparison.upgrade else said[0].upper() + said[1:]
    return f"{start}{others}{_rest(asked)}."


def _cause(comparison: Comparison) -> str:
    # Dask itself is no news where the sentence begins with its upgrade.
    named = {"dask", "distributed"} if comparison.upgrade.startswith("Dask ") else set()
    suspects = [one for one in comparison.suspects if one.name not in named]
    if not suspects:
        return ""
    if len(suspects) > _SUSPECTS:
        return f"; {len(suspects)} packages changed only in them"
    return f"; likely cause: {', '.join(map(str, suspects))}"


def _green(asked: Sequence[CellReport]) -> str:
    passed = [cell for cell in asked if cell.status is Status.PASSED]
    if len(passed) == len(asked):
        said = "The cell passed" if len(asked) == 1 else f"All {len(asked)} cells passed"
    else:
        said = f"{len(passed)} of {counted(len(asked), 'cell')} passed"
    in_part = sum(map(is_in_part, passed))
    return said + (f", {in_part if in_part < len(passed) else 'each'} only in part" if in_part else "")


def _rest(asked: Sequence[CellReport]) -> str:
    """Return how many cells neither passed nor broke in this run."""
    counts = {
        "missing": sum(cell.status is Status.MISSING for cell in asked),
        "known broken": sum(cell.status is Status.KNOWN_BROKEN for cell in asked),
        "taken from an earlier run": sum(cell.taken is not None for cell in asked),
        "not run": sum(cell.status is Status.NOT_RUN for cell in asked),
    }
    return "".join(f"; {number} {what}" for what, number in counts.items() if number)


def _where(red: Sequence[CellReport]) -> str:
    """Return the check at which all of them broke, if it is the same one."""
    labels = {(cell.broken.label, cell.broken.status) for cell in red if cell.broken}
    if len(labels) != 1:
        return ""
    ((label, status),) = labels
    return f"; {label} {status.value.replace('-', ' ')}"


def _probable(red: Sequence[CellReport]) -> str:
    """Return the probable cause, if all of them have the same one."""
    causes = {cell.probable_cause for cell in red}
    (cause, *others) = causes
    return f"; probable cause: {cause.cause}" if cause and cause.known and not others else ""


def _shared(broken: Sequence[CellReport], cells: Sequence[CellReport]) -> str:
    """Return what all broken cells have and no passed one has: `, both with Python 3.13 workers`."""
    passed = [cell for cell in cells if cell.status is Status.PASSED]
    if not passed:
        return ""
    traits = [trait for trait in _traits(broken[0]) if all(trait in set(_traits(cell)) for cell in broken)]
    found = next((trait for trait in traits if not any(trait in set(_traits(cell)) for cell in passed)), None)
    if found is None:
        return ""
    every = {1: "", 2: "both "}.get(len(broken), "all ")
    return f", {every}with {found}"


def _traits(cell: CellReport) -> Iterator[str]:
    """Yield what can be said of a cell's versions, the plainest first."""
    if cell.rolling is not None:
        yield "rolling upgrades"
        return
    for name in ("Python", "Dask"):
        versions = {role: cell.roles.get(role, {}).get(name.lower()) for role in ROLES}
        if len(set(versions.values())) == 1 and versions["worker"]:
            yield f"{name} {versions['worker']}"
    for name in ("Python", "Dask"):
        for role, plural in (("worker", "workers"), ("client", "clients"), ("scheduler", "schedulers")):
            if version := cell.roles.get(role, {}).get(name.lower()):
                yield f"{name} {version} {plural}"
    if cell.skew:
        yield "roles that differ in their versions"
