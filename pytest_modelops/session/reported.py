"""The report that a command of `python -m pytest_modelops` is about, and the settings where it is called."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_modelops.config.file import nearest
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.setting import Given
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.model import CellReport, RunReport
from pytest_modelops.session.baseline import last_run, report_at

_CACHE = "PYTEST_MODELOPS_CACHE"


def settings_here() -> Settings:
    """Return the settings of the nearest configuration, with the variable of the cache, and no flags."""
    start = Path.cwd()
    cache = os.environ.get(_CACHE, "").strip()
    given = {"cache": (Given(texts=(cache,), origin=_CACHE, directory=start),)} if cache else {}
    return parse(nearest(start, otherwise=(), directory=start), given)


def reported(settings: Settings, path: Path | None, usage: str) -> tuple[RunReport, str]:
    """Return the run that is meant, and what it is for people.

    Args:
        path: of the report; `None` for the last run here of the configuration.
        usage: how the command is given a report.

    Raises:
        WrongInput: there is none.
    """
    if path is not None:
        return report_at(path), str(path)
    found = last_run(settings)
    if found is None:
        raise WrongInput(
            f"there is no run of this configuration in {settings.cache} (configuration: "
            f"{settings.file.path or 'none'}); name a report: {usage}"
        )
    return found, f"the last run, of {found.started}"


def cell_of(run: RunReport, cell_id: str, source: str, *, instead: str) -> CellReport:
    """Return a cell of a report by its id; raises `WrongInput`.

    Args:
        instead: with which versions to name a cell instead of one that is upgraded while it runs.
    """
    cell = next((one for one in run.cells if one.id == cell_id), None)
    if cell is None:
        raise WrongInput(f"{source} has no cell {cell_id}; it has {', '.join(one.id for one in run.cells)}")
    if cell.rolling is not None:
        raise WrongInput(f"{cell_id} is upgraded while it runs; name a cell with the versions {instead}")
    return cell
