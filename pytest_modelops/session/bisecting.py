"""`python -m pytest_modelops bisect`: which of the changes between a green and a red cell turn it red, by trying."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.changes import Drift
from pytest_modelops.report.differences import nearest, passed_cells
from pytest_modelops.report.model import CellReport, CheckResult, RunReport, Status
from pytest_modelops.report.paper import counted, duration
from pytest_modelops.session import logs
from pytest_modelops.session.baseline import report_at
from pytest_modelops.session.changing import Difference
from pytest_modelops.session.reported import cell_of, reported, settings_here
from pytest_modelops.session.searching import Answer, NoVerdict, Search
from pytest_modelops.session.stepping import Step, Steps, first_line
from pytest_modelops.storage.files import unused_path

_NAMED = 3
"""So many changes are named in the line of a step; of more, their number."""


def bisect(
    red_id: str, green_id: str | None, *, report: Path | None, baseline: Path | None, say: Callable[[str], None]
) -> bool:
    """Find the changes, saying each step; return whether there is a verdict.

    Args:
        green_id: `None` for the cell that passed whose versions are nearest.
        report: JSON or a directory of reports; `None` for the last run here of the configuration.
        baseline: a report of an earlier run, which has the green cell.
        say: gets lines for people.

    Raises:
        WrongInput: there are no such cells, or they cannot be bisected.
        CheckFailed: a step could not be run.
    """
    settings = settings_here()
    run, source = reported(settings, report, "bisect RED --report REPORT")
    earlier = report_at(baseline) if baseline else run
    red = _cell(run, red_id, source)
    check = _broken(red, source)
    green = _green(red, check, earlier, green_id, str(baseline) if baseline else source)
    _refuse_known(settings, check)
    difference = Difference(green, red)
    new = logs.new_directory(settings.cache, "bisections")
    directory = unused_path(new.parent, new.name)
    steps = Steps(red, check, settings=settings, known=(red.id, green.id), directory=directory)
    directory.mkdir(parents=True)
    logs.forget_old_runs(directory.parent)
    with (directory / "bisect.txt").open("w", encoding="utf-8") as transcript:

        def say_and_keep(line: str) -> None:
            say(line)
            print(line, file=transcript, flush=True)

        before, now = (one.started[:10] for one in (earlier, run))
        say_and_keep(f"{red.id} of {now} breaks at {check.label}, and {green.id} of {before} passes it.")
        found = _Bisection(difference, steps, check, say_and_keep).run()
        say_and_keep(f"evidence: {directory}")
        return found


class _Bisection:
    def __init__(self, difference: Difference, steps: Steps, check: CheckResult, say: Callable[[str], None]) -> None:
        self._difference = difference
        self._steps = steps
        self._check = check
        self._say = say
        self._taken: list[tuple[frozenset[Drift], Step]] = []

    def run(self) -> bool:
        changes = self._difference.changes
        self._say(f"They differ in {counted(len(changes), 'change')}:")
        for change in changes:
            self._say(f"  {change}")
        for change in self._difference.beyond:
            self._say(f"  not tried, since its file is named and not its version: {change}")
        try:
            guilty = Search(changes, self._ask).find()
        except NoVerdict as none:
            self._say(self._no_verdict(none))
            return False
        self._report(guilty)
        return True

    def _ask(self, chosen: frozenset[Drift]) -> Answer:
        number = len(self._taken) + 1
        step = self._steps.run(number, self._difference.mixture(chosen))
        self._taken.append((chosen, step))
        names = (
            ", ".join(map(str, self._in_order(chosen))) if 0 < len(chosen) <= _NAMED else counted(len(chosen), "change")
        )
        total = len(self._difference.changes)
        tried = {0: "none of the changes", total: "all changes"}.get(len(chosen), f"with {names}")
        said = f": {step.message}" if step.message else ""
        took = f" ({duration(step.seconds)})" if step.seconds else ""
        self._say(f"step {number}{took}, {tried}: {step.answer.value}{said}")
        return step.answer

    def _report(self, guilty: Sequence[Drift]) -> None:
        names = " and ".join(map(str, guilty))
        label = self._check.label
        cells = f"{sum(bool(step.reproduce) for _, step in self._taken)} cells"
        if len(guilty) == 1:
            self._say(f"verdict: {names} turns {label} red: red twice with it, green twice without it; {cells}.")
        else:
            self._say(f"verdict: {names}, only together, turn {label} red: red twice with all of them; {cells}.")
            for one in guilty:
                rest = frozenset(guilty) - {one}
                answer = next(step.answer for chosen, step in self._taken if chosen == rest)
                seen = "green twice" if answer is Answer.GREEN else "unresolved"
                self._say(f"  without {one.name}: {seen}")
        step = next((step for chosen, step in self._taken if chosen == frozenset(guilty)))
        if _essence(step.message) != _essence(self._check.message):
            self._say(f"The message is another one than in the report: {step.message}")
        self._say(f"again: {step.reproduce}")

    def _no_verdict(self, none: NoVerdict) -> str:
        chosen = none.changes
        ends = {0: "the green cell's versions", len(self._difference.changes): "the red cell's versions"}
        versions = ends.get(len(chosen), f"the versions with {', '.join(map(str, self._in_order(chosen)))}")
        why = f"{versions} were {none.expected.value}, and then {none.instead.value}."
        if none.instead is Answer.UNRESOLVED:
            return f"no verdict: {why}"
        if not chosen:
            return f"no verdict: {why} What broke it is not among the changes, or it is flaky."
        return f"no verdict: {why} It is flaky, or what broke it has been mended."

    def _in_order(self, chosen: frozenset[object]) -> list[Drift]:
        return [change for change in self._difference.changes if change in chosen]


def _essence(message: str) -> str:
    """Return a message's first line without numbers, which differ from run to run."""
    return re.sub(r"\d+", "0", first_line(message))


def _cell(run: RunReport, cell_id: str, source: str) -> CellReport:
    return cell_of(run, cell_id, source, instead="of the state that breaks")


def _broken(red: CellReport, source: str) -> CheckResult:
    check = red.broken
    if check is None or check.status not in {Status.FAILED, Status.TIMED_OUT}:
        raise WrongInput(
            f"{red.id} is {red.status.value} in {source}; name a cell with a check that failed or timed out"
        )
    return check


def _green(red: CellReport, check: CheckResult, run: RunReport, cell_id: str | None, source: str) -> CellReport:
    """Return the cell that passed the check at which the other one broke."""
    if cell_id is not None:
        green = _cell(run, cell_id, source)
    else:
        near = nearest(red, passed_cells(run.cells))
        if near is None:
            raise WrongInput(f"{source} has no cell that passed; name a report that has one: --baseline REPORT")
        green = near
    if not any(one.label == check.label and one.status is Status.PASSED for one in green.checks):
        raise WrongInput(f"{green.id} did not pass {check.label} in {source}; name a cell that did")
    return green


def _refuse_known(settings: Settings, check: CheckResult) -> None:
    """Refuse entries of `known-broken` for the check: with them a step that passes is a failure."""
    for known in settings.known_broken:
        if known.check in {check.name, check.label}:
            raise WrongInput(f"{known.place}: remove this entry for {known.check} while you bisect it")
