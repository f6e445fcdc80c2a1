"""Which cells may be taken from the last run, and which run, and why."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops.checks.base import Check
from pytest_modelops.config.file import ConfigFile
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.variables import Secrets
from pytest_modelops.environments.base import Lock
from pytest_modelops.errors import Unavailable
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.report.model import CellReport, Status
from pytest_modelops.session.baseline import keep
from pytest_modelops.session.fingerprint import Fingerprints
from pytest_modelops.session.trusting import FILES, Trusted, reason_for_tests, trusted
from tests.unit.report import made

VERSIONS = Versions(PythonVersion((3, 12)), Version("2024.10.0"))
CELL = Cell.uniform(VERSIONS)
BEGAN = "2026-11-20T10:00:00+00:00"
OF_RUN = {"workers": "1"}


@dataclasses.dataclass
class Last:
    """A last run with one cell, and what that cell is resolved to now."""

    cache: Path
    requirements: str = "dask==2024.10.0\n"
    error: Exception | None = None
    keep: str = "never"
    indexes: tuple[str, ...] = ()

    def resolve(self, versions: Versions, **_: Any) -> Lock:
        if self.error is not None:
            raise self.error
        return Lock(
            versions=versions,
            python=Version("3.12.1"),
            interpreter="python3.12",
            requirements=self.requirements,
            packages={},
            resolved=dt.datetime.now(dt.timezone.utc),
        )

    @property
    def fingerprints(self) -> Fingerprints:
        return Fingerprints(self.cache)

    def leave(self, status: Status = Status.PASSED, **fields: Any) -> CellReport:
        """Leave the report of a run in the cache."""
        of_cell = self.fingerprints.of_cell(CELL, self, {VERSIONS: self.resolve(VERSIONS)})  # type: ignore[arg-type]
        checks = (made.check("resolve"), made.check("lambda", status))
        cell = dataclasses.replace(made.cell("3.12", "2024.10.0", *checks), fingerprint=of_cell, **fields)
        report = made.run(cell, configuration=None, started=BEGAN, fingerprint=OF_RUN)
        keep(report, self.cache / "runs/20261120")
        return cell

    def ask(self, of_run: dict[str, str] = OF_RUN) -> Trusted:
        file = ConfigFile(path=None, directory=self.cache, table={"cache": str(self.cache)}, origin="", description="")
        settings = dataclasses.replace(parse(file, {}), keep=self.keep)
        live: Any = SimpleNamespace(
            id=CELL.id,
            cell=CELL,
            backend=self,
            checks=SimpleNamespace(seconds_for=lambda _: 60.0),
            progress=lambda _: None,
            lifecycle=SimpleNamespace(secrets=Secrets()),
        )
        return trusted(settings, [live], of_run, self.fingerprints)

    @property
    def reason(self) -> str:
        found = self.ask()
        assert not found.cells
        return found.reasons[CELL.id]


@pytest.fixture
def last(tmp_path: Path) -> Last:
    return Last(tmp_path)


def test_a_cell_that_passed_and_is_what_it_was_is_taken_as_of_its_own_run(last: Last) -> None:
    assert last.reason == "there is no earlier run of this configuration"
    old = last.leave()
    found = last.ask()
    assert found.reasons == {}
    assert found.cells == {CELL.id: dataclasses.replace(old, taken=BEGAN)}
    assert Trusted.from_json(found.to_json()) == found
    last.leave(taken="2026-11-01T00:00:00+00:00")
    assert last.ask().cells[CELL.id].taken == "2026-11-01T00:00:00+00:00", "and not as of the run that took it"


@pytest.mark.parametrize("status", [one for one in Status if not one.lets_through])
def test_a_cell_that_did_not_pass_runs(last: Last, status: Status) -> None:
    last.leave(status)
    assert last.reason == f"its status was {status.value} in the run of {BEGAN}"


def test_what_changed_is_named(last: Last) -> None:
    last.leave()
    assert last.ask({"workers": "2"}).reasons == {CELL.id: f"workers changed since the run of {BEGAN}"}
    assert last.ask({**OF_RUN, "hooks": "1"}).reasons == {CELL.id: f"hooks changed since the run of {BEGAN}"}
    last.requirements = "dask==2024.10.0\nmsgpack==1.2.0\n"
    parts = ", ".join(f"lock of the {role}" for role in ("client", "scheduler", "worker"))
    assert last.reason == f"{parts} changed since the run of {BEGAN}"
    last.error = Unavailable("There is no Python 3.12\nmore")
    assert last.reason == "what goes into it cannot be resolved now: There is no Python 3.12"
    last.error, last.keep = None, "always"
    assert last.reason == "it is to be left up"
    last.keep = "never"
    last.leave(id="another")
    assert last.reason == f"the run of {BEGAN} did not have it"


def test_checks_and_tests_that_are_selected_now_must_have_passed_then() -> None:
    mine = made.check("test_a.py::test_a", data={FILES: "1"})
    skipped = made.check("test_a.py::test_b", Status.SKIPPED, data={FILES: "1"})
    old = made.cell("3.12", "2024.10.0", made.check("start"), made.check("lambda", Status.SKIPPED), mine, skipped)
    old = dataclasses.replace(old, taken=BEGAN)
    start, shipped, other = (Check(name=name, run=lambda *_: None) for name in ("start", "lambda", "other"))
    assert reason_for_tests(old, [start, shipped], {mine.name: "1"}) == ""
    assert reason_for_tests(old, [start, other], {}) == f"other did not pass in the run of {BEGAN}"
    assert reason_for_tests(old, [start], {mine.name: "2"}) == f"files of {mine.name} changed since the run of {BEGAN}"
    assert "name a bundle" in reason_for_tests(old, [], {mine.name: ""})
    assert "did not pass" in reason_for_tests(old, [], {skipped.name: "1"}), "why it was skipped is not known"
    assert "did not pass" in reason_for_tests(old, [], {"test_new.py::test_c": "1"})
