"""A directory with every report of a run and the logs that they link to, ready to be uploaded as an artifact."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pytest_modelops import report as reports
from pytest_modelops.report.files import write_text
from pytest_modelops.report.model import CellReport, RunReport
from pytest_modelops.report.targets import FORMATS, IN_DIRECTORY, LOGS

_LARGEST = 20 * 1024 * 1024
"""Bytes of a log that are copied: the last ones."""


def write(report: RunReport, directory: Path, *, logs: dict[str, dict[str, Path]], clean: Callable[[str], str]) -> None:
    """Write the reports, but for JUnit's, and copy the logs.

    Args:
        logs: path of each log, by the cell's id and the process.
        clean: makes the text of a log fit to be shared.

    Raises:
        OSError: a file cannot be written there.
    """
    if (directory / IN_DIRECTORY[".json"]).exists():
        shutil.rmtree(directory / LOGS, ignore_errors=True)  # of an earlier run
    cells = tuple(_with_logs(cell, directory, logs.get(cell.id, {}), clean) for cell in report.cells)
    for ending in FORMATS:
        reports.write(dataclasses.replace(report, cells=cells), directory / IN_DIRECTORY[ending])


def _with_logs(cell: CellReport, directory: Path, logs: dict[str, Path], clean: Callable[[str], str]) -> CellReport:
    """Copy a cell's logs; return its report with their paths in the directory. A log that is gone is left out."""
    copied = {}
    for name, path in sorted(logs.items()):
        try:
            text = _end_of(path)
        except OSError:
            continue
        inside = f"{LOGS}/{_file_name(cell.id)}/{_file_name(name)}.log"
        write_text(clean(text), directory / inside)
        copied[name] = inside
    return dataclasses.replace(cell, logs=copied)


def _end_of(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LARGEST))
        text = file.read().decode("utf-8", "backslashreplace")
    return f"[the first {size - _LARGEST} bytes are left out]\n{text}" if size > _LARGEST else text


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]", "_", text)
