"""Reports: results in, text out. Knows results and nothing of how they came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_modelops.report import json
from pytest_modelops.report.model import RunReport

WRITERS: Mapping[str, Callable[[RunReport, Path], None]] = {".json": json.write}
"""By the ending of a report's path: what writes it."""
