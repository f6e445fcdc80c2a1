"""Which cells need not run, because they passed in the last run and nothing that decides about them has changed.

Where this cannot be known, a cell runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pytest

from pytest_modelops.cell.live import LiveCell
from pytest_modelops.checks.base import Check, label
from pytest_modelops.checks.bundle_install import wheels_now
from pytest_modelops.checks.bundle_isolated import WHEELS
from pytest_modelops.config.settings import Settings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError
from pytest_modelops.matrix.cell import Role
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.session.baseline import last_run
from pytest_modelops.session.fingerprint import Fingerprints, Parts, changed_parts
from pytest_modelops.session.sources import Sources, conftests

FILES = "files"
"""Key of the data of a user's test: a hash of its files, see `Fingerprints.of_test`."""


class TrustedJson(TypedDict):
    """`Trusted` as xdist's workers get it.

    Attributes:
        cells: as `CellReport.to_json` has them.
        reasons: as in `Trusted`.
    """

    cells: list[Any]
    reasons: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Trusted:
    """What of the last run is true still, as far as that is known before tests are collected.

    Attributes:
        cells: by id, the reports of cells that may be taken.
        reasons: by id, why other cells have to run.
    """

    cells: Mapping[str, CellReport]
    reasons: Mapping[str, str]

    def to_json(self) -> TrustedJson:
        return {"cells": [cell.to_json() for cell in self.cells.values()], "reasons": dict(self.reasons)}

    @classmethod
    def from_json(cls, plain: TrustedJson) -> Trusted:
        cells = map(CellReport.from_json, plain["cells"])
        return cls({cell.id: cell for cell in cells}, plain["reasons"])


def trusted(settings: Settings, cells: Iterable[LiveCell], of_run: Parts, fingerprints: Fingerprints) -> Trusted:
    """Compare the last run with this one, cell by cell. It resolves what a run would resolve, and starts no cell.

    Args:
        of_run: the parts of the fingerprint that all cells have in common.
    """
    last = last_run(settings)
    if last is None:
        return Trusted({}, {live.id: "there is no earlier run of this configuration" for live in cells})
    if obstacle := _obstacle(settings, last, of_run):
        return Trusted({}, {live.id: obstacle for live in cells})
    before = {cell.id: cell for cell in last.cells}
    found: dict[str, CellReport] = {}
    reasons: dict[str, str] = {}
    for live in cells:
        old = before.get(live.id)
        if old is None:
            reasons[live.id] = f"the run of {last.started} did not have it"
        elif reason := _reason_to_run(live, old, settings, fingerprints, last.started):
            reasons[live.id] = reason
        else:
            logs = {name: str(Path(path).expanduser()) for name, path in old.logs.items()}
            found[live.id] = dataclasses.replace(old, taken=old.taken or last.started, not_taken="", logs=logs)
    return Trusted(found, reasons)


def _obstacle(settings: Settings, last: RunReport, of_run: Parts) -> str:
    """Return why no cell may be taken; empty if some may."""
    if settings.keep == "always":
        return "it is to be left up"
    if changed := changed_parts(last.fingerprint, of_run):
        return _changed(changed, last.started)
    return ""


def _reason_to_run(
    live: LiveCell, old: CellReport, settings: Settings, fingerprints: Fingerprints, started: str
) -> str:
    if old.status is not Status.PASSED:
        return f"its status was {old.status.value} in the run of {started}"
    try:
        changed = _changed_parts(live, old, settings, fingerprints)
    except ModelopsError as error:
        first = live.lifecycle.secrets.hide(str(error)).partition("\n")[0]
        return f"what goes into it cannot be resolved now: {first}"
    finally:
        live.progress("")
    return _changed(changed, started) if changed else ""


def _changed_parts(live: LiveCell, old: CellReport, settings: Settings, fingerprints: Fingerprints) -> list[str]:
    """Resolve again what was resolved, and return the names of the parts of the cell that differ."""
    cell, deadline = live.cell, Deadline(live.checks.seconds_for("resolve"))
    ran = {check.label: check for check in old.ran}
    if "resolve" not in ran:  # with checks of the user's only
        return changed_parts(old.fingerprint, fingerprints.of_cell(cell, live.backend, {}))
    found = {one: live.backend.resolve(one, deadline=deadline, progress=live.progress) for one in cell.needed}
    locks = {role: found[cell[role]] for role in Role}
    now = fingerprints.of_cell(cell, live.backend, found)
    changed = changed_parts(old.fingerprint, now)
    for bundle in settings.bundles:
        installed = ran.get(label("bundle-install", bundle))
        if installed is not None and installed.data.get(WHEELS) != wheels_now(bundle, locks, live, deadline):
            changed.append(f"wheels of bundle {bundle.name}")
    return changed


def _changed(parts: Iterable[str], started: str) -> str:
    return f"{', '.join(parts)} changed since the run of {started}"


class TestFiles:
    """The files that decide about the user's tests: their own, the `conftest.py` above, and what these import."""

    __test__ = False

    def __init__(self, config: pytest.Config, fingerprints: Fingerprints) -> None:
        self._config = config
        self._fingerprints = fingerprints
        self._sources = Sources(config.rootpath)
        self._files: dict[Path, list[Path]] = {}
        self._hashes: dict[Path, str] = {}

    def of(self, file: Path) -> list[Path]:
        if file not in self._files:
            above = conftests(file, self._config.rootpath)
            self._files[file] = sorted(self._sources.that_decide(file, *above))
        return self._files[file]

    def hash(self, file: Path) -> str:
        if file not in self._hashes:
            self._hashes[file] = self._fingerprints.of_test(self.of(file), self._config)
        return self._hashes[file]


def take(
    trusted: Trusted, cell: LiveCell, checks: Sequence[Check], tests: Mapping[str, str], *, every: Iterable[Check]
) -> None:
    """Have a cell take its results from the last run, if they are true still.

    Args:
        checks, tests: see `reason_for_tests`.
        every: all checks of the cell.
    """
    old = trusted.cells.get(cell.id)
    cell.not_taken = reason_for_tests(old, checks, tests) if old is not None else trusted.reasons.get(cell.id, "")
    if old is not None and not cell.not_taken:
        there = {*(check.label for check in every), *tests}
        cell.take(dataclasses.replace(old, checks=tuple(one for one in old.ran if one.label in there)))


def reason_for_tests(old: CellReport, checks: Iterable[Check], tests: Mapping[str, str]) -> str:
    """Return why a cell has to run, although it passed and is what it was: because of what is selected now.

    Args:
        checks: those that are selected.
        tests: hash of the files of each of the user's tests, by its name in reports; empty if a bundle decides about
            it that is none of this run's.
    """
    results = {check.label: check for check in old.checks}
    since = f"the run of {old.taken}"
    for check in checks:
        result = results.get(check.label)
        if result is None or not result.status.lets_through:
            return f"{check.label} did not pass in {since}"
    for name, files in tests.items():
        result = results.get(name)
        if result is None or result.status is not Status.PASSED:
            return f"{name} did not pass in {since}"
        if not files:
            return f"the markers of {name} name a bundle that is none of this run's"
        if result.data.get(FILES) != files:
            return f"files of {name} changed since {since}"
    return ""
