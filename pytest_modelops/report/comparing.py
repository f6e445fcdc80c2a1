"""Comparing a run with an earlier one, the baseline: what broke since, what was fixed, and which packages drifted."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from pytest_modelops.report.changes import CellChange, Change, Comparison, Drift
from pytest_modelops.report.differences import ROLES, drift
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.verdict import RED

_ENVIRONMENTS = frozenset({"resolve", "install"})
"""Checks whose time says whether environments were cached, and nothing of the cell."""
_EXPECTED = frozenset({Status.PASSED, Status.SKIPPED, Status.KNOWN_BROKEN})
"""A check that ended so before and breaks now is newly broken: an entry of `known-broken` may have expired."""
_ENOUGH = 5
"""From so many pairs of cells on, their spread says what is noise."""
_AT_LEAST, _SECONDS, _SPREADS = 1.5, 2.0, 4.0
_FEW_TIMES = 2.5
"""A cell is slower if it takes so many times as long, so many seconds more, and so many spreads more than the others.

With few pairs there is no spread to speak of, and it must take `_FEW_TIMES` as long.
"""
_DEVIATIONS = 1.4826
"""Standard deviations of normal values in one median deviation."""

Pairs = Mapping[str, CellReport]
"""Cell of the baseline by the id of this run's cell."""


def compare(old: RunReport, new: RunReport) -> Comparison:
    """Return what changed from a baseline to a run."""
    judged = [cell for cell in new.cells if _has_verdict(cell)]
    pairs = _pairs([cell for cell in old.cells if _has_verdict(cell)], judged)
    slower = dict(_slower(judged, pairs))
    changes = [change for cell in judged if (change := _change(cell, pairs.get(cell.id), slower.get(cell.id)))]
    still_planned = {one.id for one in new.cells} | {one.id for one in new.planned} | {one.id for one in pairs.values()}
    gone = [CellChange(id=cell.id, change=Change.GONE) for cell in old.cells if cell.id not in still_planned]
    return Comparison(
        started=old.started,
        upgrade=_upgrade(old, new),
        changes=(*changes, *gone),
        suspects=_suspects(changes, judged, pairs),
    )


def _has_verdict(cell: CellReport) -> bool:
    return cell.status in {Status.PASSED, Status.KNOWN_BROKEN} or cell.status in RED


def _pairs(old: Sequence[CellReport], new: Sequence[CellReport]) -> Pairs:
    """Return which cell of the baseline each cell is compared with.

    That is the one with the same id. If an axis has moved on (`latest` is another release now), it is the one whose
    roles have the same Pythons, if only one cell of each run is left for them.
    """
    by_id = {cell.id: cell for cell in old}
    pairs = {cell.id: by_id[cell.id] for cell in new if cell.id in by_id}
    kept = {cell.id for cell in new}
    left_old = _by_pythons([cell for cell in old if cell.id not in kept])
    for pythons, cells in _by_pythons([cell for cell in new if cell.id not in pairs]).items():
        if len(cells) == len(left_old.get(pythons, ())) == 1:
            pairs[cells[0].id] = left_old[pythons][0]
    return pairs


def _by_pythons(cells: Sequence[CellReport]) -> dict[object, list[CellReport]]:
    found: dict[object, list[CellReport]] = {}
    for cell in cells:
        pythons = (cell.python, *(cell.roles.get(role, {}).get("python") for role in ROLES))
        upgrade = (cell.rolling.python, cell.rolling.order) if cell.rolling is not None else None
        found.setdefault((pythons, upgrade), []).append(cell)
    return found


def _change(cell: CellReport, old: CellReport | None, times: float | None) -> CellChange | None:
    check = _first_new_break(cell, old)
    was = old.id if old is not None and old.id != cell.id else None
    if old is None:
        change = Change.NEW
    elif cell.status in RED:
        is_new = check is not None or old.status not in RED
        change = Change.NEWLY_BROKEN if is_new else Change.STILL_BROKEN
    elif cell.status is Status.KNOWN_BROKEN:
        return None
    elif old.status is not Status.PASSED:
        change = Change.FIXED
    elif times is not None:
        change = Change.SLOWER
    else:
        return None
    if check is None and cell.broken is not None:
        check = cell.broken.label
    return CellChange(
        id=cell.id, was=was, change=change, check=check, times=times, drift=drift(old, cell) if old else ()
    )


def _first_new_break(cell: CellReport, old: CellReport | None) -> str | None:
    """Return the first check that broke and that passed before."""
    before = {check.label: check.status for check in old.checks} if old is not None else {}
    for check in cell.checks:
        if check.status.broke and (old is None or before.get(check.label) in _EXPECTED):
            return check.label
    return None


def _seconds(cell: CellReport) -> float:
    return sum(check.seconds for check in cell.checks if check.name not in _ENVIRONMENTS)


def _slower(cells: Sequence[CellReport], pairs: Pairs) -> Iterator[tuple[str, float]]:
    """Yield the cells that took longer than before, by more than the whole run did and than is noise."""
    times = {}
    for cell in cells:
        old = pairs.get(cell.id)
        if cell.taken is not None or old is None or {cell.status, old.status} != {Status.PASSED} or _seconds(old) <= 0:
            continue
        if [check.label for check in cell.ran] == [check.label for check in old.ran]:
            times[cell.id] = (_seconds(old), _seconds(cell) / _seconds(old))
    if not times:
        return
    ratios = [ratio for _, ratio in times.values()]
    usual = statistics.median(ratios) if len(ratios) >= _ENOUGH else 1.0
    spread = _DEVIATIONS * statistics.median(abs(ratio - usual) for ratio in ratios) / usual
    limit = max(_AT_LEAST, 1 + _SPREADS * spread) if len(ratios) >= _ENOUGH else _FEW_TIMES
    for cell_id, (before, ratio) in times.items():
        if ratio / usual > limit and before * (ratio - usual) > _SECONDS:
            yield cell_id, round(ratio / usual, 2)


def _upgrade(old: RunReport, new: RunReport) -> str:
    found = []
    for name in ("Python", "Dask"):
        before, now = (
            {roles[name.lower()] for cell in run.cells for roles in cell.roles.values()} for run in (old, new)
        )
        found += [f"{name} {version}" for version in sorted(now - before)]
    return found[0] if len(found) == 1 else ""


def _suspects(changes: Sequence[CellChange], cells: Sequence[CellReport], pairs: Pairs) -> tuple[Drift, ...]:
    """Return the drift that all newly broken cells have, and no cell that passed before and now."""
    broken = [set(change.drift) for change in changes if change.change is Change.NEWLY_BROKEN]
    if not broken:
        return ()
    cleared: set[Drift] = set()
    for cell in cells:
        other = pairs.get(cell.id)
        if other is not None and {cell.status, other.status} == {Status.PASSED}:
            cleared.update(drift(other, cell))
    return tuple(sorted(set.intersection(*broken) - cleared, key=lambda one: one.name))
