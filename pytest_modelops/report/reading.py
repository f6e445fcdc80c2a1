"""Reading reports of earlier runs: a JSON report, or a directory that has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pytest_modelops.report.model import RunReport
from pytest_modelops.report.targets import IN_DIRECTORY


def read(path: Path) -> RunReport:
    """Read one report.

    Raises:
        ValueError: there is none that this version reads; the message names the path.
    """
    file = path / IN_DIRECTORY[".json"] if path.is_dir() else path
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{file} is not JSON; name a report that --modelops-report=PATH.json wrote") from None
    if not isinstance(plain, dict) or not {"schema", "cells"} <= plain.keys():
        raise ValueError(f"{file} is not a report; name one that --modelops-report=PATH.json wrote")
    try:
        return RunReport.from_json(plain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever another file has in a field
        raise ValueError(f"{file}: this version cannot read it ({error}); write it again") from None


def found_in(path: Path) -> Iterator[Path]:
    """Yield the reports that a path means: itself, or all of a directory and of those below it."""
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*.json")):
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(plain, dict) and {"schema", "cells", "backend"} <= plain.keys() and "host" in plain:
            yield file
