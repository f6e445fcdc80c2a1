"""`bisect` as a command: which cells are compared, what each step and the verdict say, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pytest_modelops.__main__ import main
from pytest_modelops.report import write
from pytest_modelops.report.model import CellReport, CheckResult, RollingReport, Status
from pytest_modelops.session import stepping
from tests.unit.report.made import broken, cell, check, run

CELL = "py3.12-dask2024.10.0"
NEW = {"anyio": "2", "msgpack": "2", "zict": "2"}
OLD = dict.fromkeys(NEW, "1")
Judge = Callable[[frozenset[str]], tuple[Status, str]]
"""Status and message of the check `lambda` in a cell with the new versions of these packages."""


def made(lock: dict[str, str], *checks: CheckResult) -> CellReport:
    return cell("3.12", "2024.10.0", *checks, lock={**lock, "distributed": "2024.10.0"})


def ended(status: Status, message: str, **fields: str) -> CheckResult:
    return check(
        "lambda", status, message, reproduce=f"pytest --modelops-matrix 'modelops::test_lambda[{CELL}]'", **fields
    )


class Project:
    """A project with a red report, a green one, and a stand-in for pytest."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.file = path / "pyproject.toml"
        self.file.write_text('[tool.modelops]\ncache = "cache"\n', encoding="utf-8")
        monkeypatch.chdir(path)
        self.reports(red=made(NEW, ended(Status.FAILED, "worker-0 died 4 times")), green=made(OLD, check("lambda")))

    def reports(self, *, red: CellReport, green: CellReport) -> None:
        for name, one in (("red", red), ("green", green)):
            write(run(one, started=f"2026-11-2{name == 'red':d}T10:00:00+00:00"), self.path / f"{name}.json")

    def bisect(self, judge: Judge, *arguments: str) -> tuple[int, list[str]]:
        """Return the exit code and the lines of stdout, or of stderr if there are any."""

        def run_pytest(called: Sequence[str], directory: Path) -> int:
            python, dask = (called[called.index(f"--modelops-{axis}") + 1] for axis in ("python", "dask"))
            pins = dict(line.split("==") for line in (directory / "constraints.txt").read_text("utf-8").splitlines())
            status, message = judge(frozenset(name for name in NEW if pins[name] == "2"))
            first = check("start")
            if status is Status.BLOCKED:
                first, message = check("start", Status.FAILED, message), "blocked by start"
            blocked_by = {"blocked_by": "start"} if status is Status.BLOCKED else {}
            one = cell(python, dask, first, ended(status, message, **blocked_by), lock=pins)
            write(run(one), directory / "report.json")
            return 1

        self._monkeypatch.setattr(stepping, "_pytest", run_pytest)
        code = main(["bisect", CELL, *(arguments or ("--report", "red.json", "--baseline", "green.json"))])
        captured = self._capsys.readouterr()
        return code, (captured.err or captured.out).splitlines()

    def refuses(self, *arguments: str) -> str:
        code, lines = self.bisect(lambda _: (Status.PASSED, ""), *arguments)
        assert code == 2
        (line,) = lines
        return line


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, monkeypatch, capsys)


def red_with(*names: str) -> Judge:
    return lambda new: (Status.FAILED, "worker-0 died 7 times") if new >= {*names} else (Status.PASSED, "")


def test_one_guilty_package_is_named_with_each_step(project: Project) -> None:
    code, lines = project.bisect(red_with("msgpack"))
    assert code == 0
    assert lines[:5] == [
        f"{CELL} of 2026-11-21 breaks at lambda, and {CELL} of 2026-11-20 passes it.",
        "They differ in 3 changes:",
        "  anyio 1 → 2",
        "  msgpack 1 → 2",
        "  zict 1 → 2",
    ]
    assert lines[5].startswith("step 1 (")
    assert lines[5].endswith("none of the changes: green")
    assert lines[7].endswith("with anyio 1 → 2, msgpack 1 → 2: red: worker-0 died 7 times")
    verdict = "verdict: msgpack 1 → 2 turns lambda red: red twice with it, green twice without it; 5 cells."
    assert lines[10:12] == [verdict, f"again: pytest --modelops-matrix 'modelops::test_lambda[{CELL}]'"]


def test_several_guilty_packages_and_another_message_than_before_are_named(project: Project) -> None:
    def judge(new: frozenset[str]) -> tuple[Status, str]:
        if "zict" in new and "anyio" not in new:
            return Status.BLOCKED, "no solution for a + b:\nbecause zict==2 needs anyio==2"
        return (Status.TIMED_OUT, "worker-0 hangs") if {"anyio", "zict"} <= new else (Status.PASSED, "")

    code, lines = project.bisect(judge)
    assert code == 0
    text = "\n".join(lines)
    assert "with zict 1 → 2: unresolved: start failed: because zict==2 needs anyio==2" in text
    at = next(number for number, line in enumerate(lines) if line.startswith("verdict: "))
    assert lines[at].startswith(
        "verdict: anyio 1 → 2 and zict 1 → 2, only together, turn lambda red: red twice with all"
    )
    assert lines[at + 1 : at + 4] == [
        "  without anyio: unresolved",
        "  without zict: green twice",
        "The message is another one than in the report: worker-0 hangs",
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            Status.PASSED,
            "no verdict: the red cell's versions were red, and then green. It is flaky, or what broke it has",
        ),
        (
            Status.FAILED,
            "no verdict: the green cell's versions were green, and then red. What broke it is not among the",
        ),
        (Status.BLOCKED, "no verdict: the green cell's versions were green, and then unresolved."),
    ],
)
def test_cells_that_are_not_as_they_were_have_no_verdict(project: Project, status: Status, said: str) -> None:
    code, lines = project.bisect(lambda _: (status, "because"))
    assert code == 1
    assert lines[-2].startswith(said)
    assert Path(lines[-1].removeprefix("evidence: "), "step-01", "report.json").exists()


def test_without_a_baseline_the_nearest_green_cell_of_the_report_is_meant(project: Project) -> None:
    far = cell("3.11", "2024.8.0", check("lambda"), lock=OLD)
    near = cell("3.11", "2024.10.0", check("lambda"), lock=OLD)
    red = made(NEW, ended(Status.FAILED, "no answer"))
    write(run(far, near, red), project.path / "red.json")
    _, lines = project.bisect(red_with("zict"), "--report", "red.json")
    assert f"{CELL} of 2026-11-20 breaks at lambda, and py3.11-dask2024.10.0 of" in lines[0]
    assert "  Python 3.11 → 3.12" in lines
    _, lines = project.bisect(red_with("zict"), "py3.11-dask2024.8.0", "--report", "red.json")
    assert "  Dask 2024.8.0 → 2024.10.0" in lines


def test_what_cannot_be_bisected_is_refused_in_one_line(project: Project) -> None:
    ends = ("--report", "red.json", "--baseline", "green.json")
    assert "name a report: bisect RED --report REPORT" in project.refuses("--baseline", "green.json")
    assert "red.json has no cell that passed; name a report" in project.refuses("--report", "red.json")
    assert "has no cell py3.9; it has" in project.refuses("py3.9", *ends)
    assert f"{CELL} is passed in green.json; name a cell with" in project.refuses("--report", "green.json")
    known = '{ cell = "py3.12-*", check = "lambda", reason = "r", link = "https://example.org/1" }'
    project.file.write_text(f"[tool.modelops]\nknown-broken = [{known}]\n", encoding="utf-8")
    assert "remove this entry for lambda" in project.refuses(*ends)
    project.file.write_text('[tool.modelops]\ncache = "cache"\n', encoding="utf-8")
    project.reports(red=made(NEW, ended(Status.FAILED, "m")), green=made(OLD, check("start")))
    assert f"{CELL} did not pass lambda in green.json" in project.refuses(*ends)
    project.reports(red=broken("3.12"), green=cell("3.12", "2024.10.0", check("lambda")))
    assert "nothing to bisect" in project.refuses(*ends)
    upgrade = RollingReport(python="3.12", dask="2026.8.0", order=("worker", "scheduler", "client"))
    upgraded = dataclasses.replace(made(NEW, ended(Status.FAILED, "m")), rolling=upgrade)
    project.reports(red=upgraded, green=made(OLD, check("lambda")))
    assert f"{CELL} is upgraded while it runs; name a cell with the versions" in project.refuses(*ends)
