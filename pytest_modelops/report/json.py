"""The report as a JSON file, for machines; `schema.json` beside this file describes it.

Everything can be written: an odd figure in one check must not cost the report of a long run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pytest_modelops.report.model import RunReport, fields_of
from pytest_modelops.report.upgrades import Upgrade, upgrades
from pytest_modelops.report.verdict import sentence


def render(report: RunReport) -> str:
    """Return the report as indented JSON text with a newline at its end.

    Keys of the model stay in the model's order, cells in the plan's. Keys that come from the run (facts of the host,
    addresses, logs, data) are sorted, so that two reports can be compared line by line. NaN and infinity become `null`,
    and a value that JSON cannot hold becomes its text.
    """
    plain: Any = {**report.to_json(), "verdict": sentence(report), "upgrades": [*map(_upgrade, upgrades(report))]}
    plain["host"] = _sorted(plain["host"])
    for cell in plain["cells"]:
        for open_part in ("observed", "environments", "logs"):
            cell[open_part] = _sorted(cell[open_part])
        for check in cell["checks"]:
            check["data"] = _sorted(check["data"])
    return json.dumps(_jsonable(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _upgrade(upgrade: Upgrade) -> dict[str, object]:
    return {**fields_of(upgrade), "orders": [fields_of(one) for one in upgrade.orders]}


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
