"""The report as a JSON file, for machines; `schema.json` beside this file describes it.

Everything can be written: an odd figure in one check must not cost the report of a long run.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_modelops.report.model import RunReport


def render(report: RunReport) -> str:
    """Return the report as indented JSON text with a newline at its end.

    Keys of the model stay in the model's order, cells in the plan's. Keys that come from the run (facts of the host,
    addresses, logs, data) are sorted, so that two reports can be compared line by line. NaN and infinity become `null`,
    and a value that JSON cannot hold becomes its text.
    """
    plain: Any = report.to_json()
    plain["host"] = _sorted(plain["host"])
    for cell in plain["cells"]:
        for open_part in ("observed", "environments", "logs"):
            cell[open_part] = _sorted(cell[open_part])
        for check in cell["checks"]:
            check["data"] = _sorted(check["data"])
    return json.dumps(_jsonable(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write(report: RunReport, path: Path) -> None:
    """Write the report atomically: a reader sees the old file or the new one.

    Creates missing directories. Replaces the file that a symbolic link points to, not the link.

    Raises:
        OSError: the file cannot be written there; the old one is untouched.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same directory, because a replacement is atomic only within one file system; and not by `tempfile`, whose
    # files no other user may read.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(render(report), encoding="utf-8", newline="\n")
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sorted(value: Any) -> Any:
    """Return the value with the keys of all its mappings sorted."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def _jsonable(value: Any) -> Any:
    """Return the nearest value that JSON and UTF-8 can hold."""
    if isinstance(value, Mapping):
        return {_jsonable(str(key)): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    # Bytes of a process's output that are not UTF-8 are decoded as surrogates, which cannot be written.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
