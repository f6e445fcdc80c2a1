"""The run that this one is compared with: a report, or the last run of the same configuration on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pytest_modelops.config.settings import LAST, Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.report import json
from pytest_modelops.report.model import RunReport
from pytest_modelops.report.reading import read

_KEPT = "report.json"
"""Name of the report that each run leaves in its own directory of the cache."""


def baseline_of(settings: Settings, configuration: str | None) -> RunReport | None:
    """Return the report that is asked for; `None` if none is, or if there is no last run.

    Args:
        configuration: as reports show it.

    Raises:
        WrongInput: it cannot be read.
    """
    if settings.baseline is None:
        return None
    if settings.baseline != LAST:
        try:
            return read(settings.baseline)
        except ValueError as error:
            raise WrongInput(f"--modelops-baseline: {error}") from None
    for file in sorted((settings.cache / "runs").glob(f"*/{_KEPT}"), reverse=True):
        with contextlib.suppress(ValueError):
            report = read(file)
            if report.configuration == configuration:
                return report
    return None


def keep(report: RunReport, directory: Path) -> None:
    """Keep a run's report for later ones. That never costs the run: without space, there is no last run."""
    with contextlib.suppress(OSError):
        json.write(report, directory / _KEPT)
