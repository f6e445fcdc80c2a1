"""The run that this one is compared with: a report, or the last run of the same configuration on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pytest_modelops.config.outcome_types import LAST
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.remote.worker.plugins import is_named_like
from pytest_modelops.report import write
from pytest_modelops.report.model import RunReport, Status
from pytest_modelops.report.reading import read
from pytest_modelops.report.sharing import Sharing
from pytest_modelops.report.verdict import RED

_KEPT = "report.json"
"""Name of the report that each run leaves in its own directory of the cache."""


def sharing_of(settings: Settings) -> Sharing:
    """Return what hides the settings' values of variables, and this machine's home directory."""
    expect = settings.plugin.expect if settings.plugin else {}

    def reported(name: str) -> bool:  # by `runtime`, as what decided about an attribute
        return any(is_named_like(name, attribute) for attribute in expect)

    values = settings.environment.everything(settings.containers.pass_env, reported=reported)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` raises where there is none
    return Sharing({home, home.resolve()} if home.is_absolute() else (), values.hide)


def baseline_of(settings: Settings) -> RunReport | None:
    """Return the report that is asked for; `None` if none is, or if there is no last run.

    Raises:
        WrongInput: it cannot be read.
    """
    if settings.baseline is None:
        return None
    if settings.baseline != LAST:
        try:
            return report_at(settings.baseline)
        except WrongInput as error:
            raise WrongInput(f"--modelops-baseline: {error}") from None
    return last_run(settings)


def report_at(path: Path) -> RunReport:
    """Return a report that somebody names; `WrongInput` if it cannot be read."""
    try:
        return read(path)
    except ValueError as error:
        raise WrongInput(str(error)) from None


def last_run(settings: Settings) -> RunReport | None:
    """Return the last run of the same configuration on this machine; `None` if there is none."""
    file = settings.file.path
    configuration = sharing_of(settings).text(str(file)) if file else None
    for kept in sorted((settings.cache / "runs").glob(f"*/{_KEPT}"), reverse=True):
        with contextlib.suppress(ValueError):
            report = read(kept)
            if report.configuration == configuration:
                return report
    return None


def seconds_of(report: RunReport) -> dict[str, float]:
    """Return how long each cell took, by id; of those that were judged."""
    judged = {Status.PASSED, Status.KNOWN_BROKEN, *RED}
    return {cell.id: cell.seconds for cell in report.cells if cell.status in judged and cell.seconds}


def past_of(settings: Settings) -> tuple[dict[str, float], set[str]]:
    """Return how long cells took in the baseline, by id, and the ids of those that were broken."""
    report = baseline_of(settings)
    if report is None:
        return {}, set()
    return seconds_of(report), {cell.id for cell in report.cells if cell.status in RED}


def keep(report: RunReport, directory: Path) -> None:
    """Keep a run's report for later ones. That never costs the run: without space, there is no last run."""
    with contextlib.suppress(OSError):
        write(report, directory / _KEPT)
