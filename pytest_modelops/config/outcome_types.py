"""Types of the settings that say what a run does with its results, and which part of the matrix it runs.

Imported whenever pytest starts: what needs more than the standard library is imported where it is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.config.setting import leaf, many, relative, shown
from pytest_modelops.config.types import STRING, path, string, text
from pytest_modelops.errors import WrongInput

if TYPE_CHECKING:
    from pytest_modelops.matrix.shards import Shard
    from pytest_modelops.report.targets import Target

LAST = Path("last")
"""Stands for the last run, where a report is asked for. The path of a report is absolute."""


def _report(value: object, directory: Path) -> Target:
    from pytest_modelops.report.targets import target

    return target(text(value), path(value, directory))


def _baseline(value: object, directory: Path) -> Path:
    return LAST if value == str(LAST) else path(value, directory)


def _shard(value: object) -> Shard:
    from pytest_modelops.matrix.shards import Shard

    match = re.fullmatch(r"(\d+)/(\d+)", string(value))
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise WrongInput(f"{value!r} is not a shard; write one such as 2/8, the second of eight")
    return Shard(int(match[1]), int(match[2]))


def _duration(value: object) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", value.strip()) if isinstance(value, str) else None
    found = float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]] if match else 0
    if found <= 0:
        raise WrongInput(f"{shown(value)} is not a time; write one such as 90s, 10m or 1h")
    return found


SHARD = leaf(_shard, {"type": "string", "pattern": r"^\d+/\d+$"})
DURATION = leaf(_duration, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(s|m|min|h)\s*$"})
BASELINE = relative(_baseline, STRING)
REPORTS = many(relative(_report, STRING))
