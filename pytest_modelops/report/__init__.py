"""Reports: results in, text out. Knows results and nothing of how they came about."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.report.targets import FORMATS

if TYPE_CHECKING:
    from pytest_modelops.report.model import RunReport


def write(report: RunReport, path: Path) -> None:
    """Write a report in the format that the path's ending names; see `files.write_text`."""
    from pytest_modelops.report.files import write_text

    render = importlib.import_module(f"{__name__}.{FORMATS[path.suffix]}").render
    write_text(render(report), path)
