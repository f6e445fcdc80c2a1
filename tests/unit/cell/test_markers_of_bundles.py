"""What a bundle's marker asks of a living cell, on checks that start nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks.base import Check
from pytest_modelops.errors import CellBroken, CheckFailed, RunnerTimedOut, TimedOut

if TYPE_CHECKING:
    from tests.unit.cell.conftest import MakeCell

BUNDLE = Bundle(name="seir", path=Path("/seir"))


class MarkerRun:
    """A cell, and the checks that a marker would run: what was performed, and what breaks it."""

    def __init__(self, make_cell: MakeCell) -> None:
        self.performed: list[str] = []
        self.deadlines: dict[str, float] = {}
        self.breaks: dict[str, Exception] = {}
        self.live = make_cell(self.check("start", None))
        checks: Any = self.live.checks
        checks.require_cluster = lambda: None
        self.preflight = self.check("preflight")
        self.install = self.check("bundle-install", needs=("start",), after=("preflight[seir]",))
        self.handshake = self.check("handshake", needs=("bundle-install[seir]",))

    def check(self, name: str, bundle: Bundle | None = BUNDLE, **more: Any) -> Check:
        def run(_: object, deadline: Any) -> None:
            self.performed.append(name)
            self.deadlines[name] = deadline.seconds
            if name in self.breaks:
                raise self.breaks[name]

        return Check(name=name, bundle=bundle, run=run, **more)

    def run(self, *checks: Check, seconds: float | None = None) -> list[str]:
        """What was performed for a marker."""
        self.performed.clear()
        self.live.checks.run_bundle(checks, seconds=seconds)
        return list(self.performed)


@pytest.fixture
def run_check(make_cell: MakeCell) -> MarkerRun:
    return MarkerRun(make_cell)


@pytest.mark.parametrize("seconds", [None, 7.0])
def test_a_marker_runs_all_that_its_last_check_needs(run_check: MarkerRun, seconds: float | None) -> None:
    assert run_check.run(run_check.preflight, run_check.install, seconds=seconds) == [
        "preflight",
        "start",
        "bundle-install",
    ]
    assert run_check.deadlines["bundle-install"] == (seconds or 60.0)


def test_what_was_performed_is_not_performed_again_without_a_deadline_of_its_own(run_check: MarkerRun) -> None:
    run_check.run(run_check.preflight, run_check.install)
    assert run_check.run(run_check.preflight, run_check.install, run_check.handshake) == ["handshake"]
    assert run_check.run(run_check.preflight, run_check.install, run_check.handshake) == []
    assert run_check.run(run_check.preflight, run_check.install, run_check.handshake, seconds=5) == ["handshake"]
    assert run_check.deadlines["handshake"] == 5


@pytest.mark.parametrize("seconds", [None, 7.0])
@pytest.mark.parametrize(
    ("check_name", "error", "reported"),
    [
        ("preflight", CheckFailed("no wire"), CheckFailed("preflight[seir] failed: no wire{}")),
        ("bundle-install", TimedOut("slow"), TimedOut("bundle-install[seir] timed-out: slow{}")),
        ("start", CheckFailed("no"), CellBroken("cell py3.12-dask2024.10.0: start failed: no", "start")),
    ],
)
def test_what_breaks_before_the_last_check_is_reported_as_what_it_is(
    run_check: MarkerRun, seconds: float | None, check_name: str, error: Exception, reported: Exception
) -> None:
    run_check.breaks[check_name] = error
    with pytest.raises(type(reported)) as raised:
        run_check.run(run_check.preflight, run_check.install, run_check.handshake, seconds=seconds)
    assert str(raised.value) == str(reported).format(f"\n\nreproduce: run {check_name}[seir]")
    assert "handshake" not in run_check.performed


def test_the_last_check_with_a_deadline_of_its_own_says_what_broke(run_check: MarkerRun) -> None:
    run_check.breaks["handshake"] = RunnerTimedOut("silent")
    with pytest.raises(RunnerTimedOut, match=r"^silent$"):
        run_check.run(run_check.preflight, run_check.install, run_check.handshake, seconds=7)


def test_preflight_stops_the_install_if_it_was_performed_and_only_then(
    run_check: MarkerRun, make_cell: MakeCell
) -> None:
    run_check.breaks["preflight"] = CheckFailed("no wire")
    assert run_check.run(run_check.install) == ["start", "bundle-install"]
    again = MarkerRun(make_cell)
    again.breaks["preflight"] = CheckFailed("no wire")
    with pytest.raises(CheckFailed, match="no wire"):
        again.run(again.preflight, again.install)
    with pytest.raises(CheckFailed, match="no wire"):
        again.run(again.install)
    assert again.performed == []
