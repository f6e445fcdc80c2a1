"""A step of `bisect`: the command of the report with other versions, and what its report means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_modelops.errors import CheckFailed, WrongInput
from pytest_modelops.report import write
from pytest_modelops.report.model import CheckResult, RunReport, Status
from pytest_modelops.session import stepping
from pytest_modelops.session.changing import Mixture
from pytest_modelops.session.reported import settings_here
from pytest_modelops.session.searching import Answer
from tests.unit.report.made import broken, cell, check, run

REPRODUCE = (
    "pytest --modelops-matrix --modelops-config=~/sim/pyproject.toml --modelops-python 3.13 --modelops-keep failed "
    "--modelops-workers 1 "
    "'modelops::test_handshake[py3.13-dask2024.10.0-seir]'"
)
RED = broken(name="handshake", message="no answer within 5 s")
HANDSHAKE = CheckResult(name="handshake", bundle="seir", status=Status.FAILED, reproduce=REPRODUCE)
OLD = Mixture(id="py3.12-dask2024.10.0", python="3.12", dask="2024.10.0", constraints=("msgpack==1.1.0",))


class Pytest:
    """Stands for pytest: remembers how it is called, and writes a report."""

    def __init__(self, report: RunReport | None) -> None:
        self.report = report
        self.arguments: Sequence[str] = ()

    def __call__(self, arguments: Sequence[str], directory: Path) -> int:
        self.arguments = arguments
        (directory / "output.txt").write_text("ERROR: no such option\n", encoding="utf-8")
        if self.report:
            write(self.report, directory / "report.json")
        return 4321


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> stepping.Steps:
    file = '[tool.modelops]\ncache = "cache"\n[tool.modelops.matrix]\nexclude = [{ dask = "<2024.9" }]\n'
    (tmp_path / "pyproject.toml").write_text(file, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return stepping.Steps(RED, HANDSHAKE, settings=settings_here(), known=(RED.id,), directory=tmp_path / "steps")


def result(status: Status, message: str = "") -> RunReport:
    found = CheckResult(name="handshake", bundle="seir", status=status, message=message, reproduce="pytest again")
    return run(cell("3.12", "2024.10.0", check("start"), found))


def test_the_command_of_the_report_runs_with_the_versions_of_the_step(
    steps: stepping.Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "_pytest", called := Pytest(result(Status.FAILED, "\nno answer\nmore")))
    (of_the_run := tmp_path / "cache" / "runs" / "20261127-000000-4321").mkdir(parents=True)
    step = steps.run(3, OLD)
    assert (step.answer, step.message, step.reproduce) == (Answer.RED, "no answer", "pytest again")
    directory = tmp_path / "steps" / "step-03"
    assert (directory / "constraints.txt").read_text(encoding="utf-8") == "msgpack==1.1.0\n"
    assert called.arguments[:3] == [
        "--modelops-matrix",
        f"--modelops-config={Path.home()}/sim/pyproject.toml",
        "--modelops-workers",
    ]
    assert called.arguments[4:8] == ["--modelops-python", "3.12", "--modelops-dask", "2024.10.0"]
    assert f"--modelops-constraints={directory / 'constraints.txt'}" in called.arguments
    assert called.arguments[-1] == "modelops::test_handshake[py3.12-dask2024.10.0-seir]"
    assert not of_the_run.exists()


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (Status.PASSED, Answer.GREEN),
        (Status.FAILED, Answer.RED),
        (Status.TIMED_OUT, Answer.RED),
        *((status, Answer.UNRESOLVED) for status in (Status.BLOCKED, Status.UNAVAILABLE, Status.SKIPPED)),
        (Status.NOT_RUN, Answer.UNRESOLVED),
    ],
)
def test_only_the_check_itself_makes_a_step_red(
    steps: stepping.Steps, monkeypatch: pytest.MonkeyPatch, status: Status, answer: Answer
) -> None:
    monkeypatch.setattr(stepping, "_pytest", Pytest(result(status, "because")))
    assert steps.run(1, OLD).answer is answer


def test_a_step_that_says_nothing_or_has_other_versions_is_an_error(
    steps: stepping.Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "_pytest", Pytest(None))
    with pytest.raises(CheckFailed, match="step 1 ended without a report; its last output:\nERROR: no such option"):
        steps.run(1, OLD)
    down = check("resolve", Status.FAILED, "no index answered, and there is no earlier lock of py3.12")
    blocked = CheckResult(name="handshake", bundle="seir", status=Status.BLOCKED, blocked_by="resolve")
    monkeypatch.setattr(stepping, "_pytest", Pytest(run(cell("3.12", "2024.10.0", down, blocked))))
    with pytest.raises(CheckFailed, match="step 3 could not be resolved: resolve failed: no index answered"):
        steps.run(3, OLD)
    monkeypatch.setattr(stepping, "_pytest", Pytest(result(Status.PASSED)))
    with pytest.raises(CheckFailed, match=r"asked for msgpack==1\.0, and the cell has msgpack 1\.1\.0"):
        steps.run(2, Mixture(id=OLD.id, python="3.12", dask="2024.10.0", constraints=("msgpack==1.0",)))


def test_what_the_configuration_excludes_is_not_run(steps: stepping.Steps) -> None:
    step = steps.run(1, Mixture(id="py3.12-dask2024.8.0", python="3.12", dask="2024.8.0", constraints=()))
    assert (step.answer, step.message) == (Answer.UNRESOLVED, 'py3.12-dask2024.8.0 is excluded by { dask = "<2024.9" }')


def test_a_check_that_cannot_be_run_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="does not say how to run"):
        stepping._arguments("")


def test_variables_that_select_or_divide_a_run_do_not_reach_a_step() -> None:
    kept = {"PATH": "/bin", "PYTEST_MODELOPS_CACHE": "/cache", "PYTEST_MODELOPS_BACKEND": "process"}
    dropped = {
        "PYTEST_MODELOPS_KEEP": "failed",
        "PYTEST_MODELOPS_SHARD": "1/2",
        "PYTEST_MODELOPS_CELL": "a",
        "GITHUB_ACTIONS": "true",
    }
    assert stepping._variables({**kept, **dropped}) == {**kept, **stepping._ALWAYS}
