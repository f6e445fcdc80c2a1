"""A step of `bisect`: pytest runs one check of one cell with constraints, and its report says how that ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.config.options import OPTIONS
from pytest_modelops.config.settings import Settings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.commands import HostProcesses
from pytest_modelops.environments.resolver import UNANSWERED
from pytest_modelops.errors import CheckFailed, TimedOut, WrongInput
from pytest_modelops.matrix.cell import Cell, PythonVersion, Versions
from pytest_modelops.matrix.making import excluded
from pytest_modelops.report.model import CellReport, CheckResult, Status
from pytest_modelops.report.paper import Paper
from pytest_modelops.report.reading import read
from pytest_modelops.report.targets import IN_DIRECTORY, JUNIT
from pytest_modelops.session.changing import Mixture
from pytest_modelops.session.reproducing import OF_THE_RUN
from pytest_modelops.session.searching import Answer

_LONGEST = 24 * 3600.0
"""Seconds: each check in a step has a deadline of its own."""
_TO_END = 60.0
"""Seconds that pytest has to end its cell after Ctrl-C."""
_LAST_LINES = 12
_ALWAYS = {"PYTEST_MODELOPS_KEEP": "never", "PYTEST_MODELOPS_TRUST_LAST": "false"}
_PAPER = Paper(width=120, unicode=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """How a step ended.

    Attributes:
        message: the first line of the check that broke, or why it is not known; empty if it passed.
        reproduce: the command that runs it again; empty if it was not run.
        seconds: of pytest as a whole; 0 if it was not run.
    """

    answer: Answer
    message: str = ""
    reproduce: str = ""
    seconds: float = 0.0


class Steps:
    """Runs the check at which a cell broke, in other cells.

    Args:
        cell: the red one; the command that reproduces its check is run with other versions.
        known: ids of cells that the configuration may have although it excludes them from the axes.
        directory: gets a directory for each step, with constraints, output and reports.
    """

    def __init__(
        self, cell: CellReport, check: CheckResult, *, settings: Settings, known: Sequence[str], directory: Path
    ) -> None:
        self._check = check
        self._matrix = settings.matrix
        self._runs = settings.cache / "runs"
        self._known = known
        self._directory = directory
        *self._flags, self._node = _arguments(check.reproduce)
        self._id = cell.id

    def run(self, number: int, mixture: Mixture) -> Step:
        """Run a step.

        Raises:
            CheckFailed: pytest ended without a report, no index answered, or the cell did not have what was asked for.
        """
        selection = self._selection(mixture)
        if isinstance(selection, Step):
            return selection
        directory = self._directory / f"step-{number:02}"
        directory.mkdir(parents=True)
        constraints = directory / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in mixture.constraints), encoding="utf-8")
        node = self._node.replace(self._id, mixture.id)
        arguments = [*self._flags, *selection, f"--modelops-constraints={constraints}"]
        # The directory of reports has JUnit's, and pytest writes no second one that the project may ask for.
        arguments += [f"--modelops-report={directory}", f"--junitxml={directory / IN_DIRECTORY[JUNIT]}", node]
        began = time.monotonic()
        pid = _pytest(arguments, directory)
        for of_the_run in self._runs.glob(f"*-{pid}"):
            shutil.rmtree(of_the_run, ignore_errors=True)  # the step's own reports have copies of the logs
        try:
            report = read(directory)
        except ValueError:
            lines = (directory / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CheckFailed(
                "\n".join([f"step {number} ended without a report; its last output:", *lines[-_LAST_LINES:]])
            ) from None
        cell = next((one for one in report.cells if one.id == mixture.id), None)
        if cell is None:
            raise CheckFailed(f"step {number} ran no cell {mixture.id}, as a hook may have changed the cells")
        step = _judged({one.label: one for one in cell.checks}, self._check.label)
        if step.answer is not Answer.UNRESOLVED:
            _compare(number, cell, mixture)
        elif any(one.message.startswith(UNANSWERED) for one in cell.checks):
            raise CheckFailed(f"step {number} could not be resolved: {step.message}")
        return dataclasses.replace(step, seconds=time.monotonic() - began)

    def _selection(self, mixture: Mixture) -> list[str] | Step:
        """Return flags that make the plan have the cell; a step if the configuration excludes it."""
        if not mixture.python:
            return ["--modelops-cell", mixture.id]
        cell = Cell.uniform(Versions(PythonVersion.parse(mixture.python), Version(mixture.dask)))
        reason = excluded(cell, self._matrix.exclude)
        if reason and mixture.id not in self._known:
            return Step(answer=Answer.UNRESOLVED, message=f"{mixture.id} is {reason}")
        if reason:
            return ["--modelops-cell", mixture.id]
        return ["--modelops-python", mixture.python, "--modelops-dask", mixture.dask]


def _arguments(reproduce: str) -> list[str]:
    """Return the arguments of a command that reproduces a check, without those that a step has of its own."""
    if not reproduce:
        raise WrongInput("the report does not say how to run this check again, so it cannot be bisected")
    found = iter(shlex.split(reproduce)[1:])
    kept = []
    for one in found:
        if one in {"--modelops-python", "--modelops-dask", "--modelops-keep"}:
            next(found)
        else:
            home = one.startswith("~/") or "=~/" in one
            kept.append(one.replace("~/", f"{Path.home()}/", 1) if home else one)
    return kept


def _pytest(arguments: Sequence[str], directory: Path) -> int:
    """Run pytest to its end, and return its pid. Nothing of it outlives this process; Ctrl-C lets it end its cell."""
    scratch = directory / "scratch"
    scratch.mkdir()
    processes = HostProcesses(log=scratch / "supervisor.log", directory=scratch)
    try:
        process = processes.start(
            "pytest",
            [sys.executable, "-m", "pytest", "-o", f"cache_dir={scratch / 'cache'}", *arguments],
            env=_variables(os.environ),
            cwd=Path.cwd(),
            log=directory / "output.txt",
        )
        try:
            process.wait(Deadline(_LONGEST))
        except BaseException:
            process.signal(signal.SIGINT)
            with contextlib.suppress(TimedOut):
                process.wait(Deadline(_TO_END))
            raise
        return process.pid
    finally:
        processes.close()


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step, which leaves no cell up and takes no result of an earlier run.

    Without those that select, divide or compare a run, or make GitHub's summary.
    """
    others = {option.variable_name for option in OPTIONS if option.name in OF_THE_RUN} | {"GITHUB_ACTIONS"}
    return {**{name: value for name, value in environ.items() if name not in others}, **_ALWAYS}


def first_line(message: str) -> str:
    return _PAPER.first_line(message)


def _judged(checks: Mapping[str, CheckResult], label: str) -> Step:
    """Return what a check's result means: red only if this check itself broke."""
    check = checks.get(label)
    if check is None:
        return Step(answer=Answer.UNRESOLVED, message="this cell does not have the check")
    if check.status is Status.PASSED:
        return Step(answer=Answer.GREEN, reproduce=check.reproduce)
    if check.status in {Status.FAILED, Status.TIMED_OUT}:
        return Step(answer=Answer.RED, message=first_line(check.message), reproduce=check.reproduce)
    root = checks.get(check.blocked_by or "", check)
    first, _, rest = root.message.strip().partition("\n")
    why = rest if first.endswith(":") and rest else first  # of a solver, the first line lists what was asked for
    message = f"{root.label} {root.status.value}: {first_line(why)}"
    return Step(answer=Answer.UNRESOLVED, message=message, reproduce=root.reproduce)


def _compare(number: int, cell: CellReport, mixture: Mixture) -> None:
    """Refuse a step whose cell has other versions than its constraints ask for."""
    asked: dict[str, list[Requirement]] = {}
    for line in mixture.constraints:
        requirement = Requirement(line)
        asked.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for line in cell.lock:
        name, _, version = line.partition("==")
        wanted = asked.get(name, [])
        if wanted and not any(one.specifier.contains(version, prereleases=True) for one in wanted):
            raise CheckFailed(
                f"step {number} asked for {wanted[0]}, and the cell has {name} {version}; bisect needs cells whose "
                "packages are installed for them, not prebuilt ones"
            )
