"""The JSON Schema of the report, made from the model: its types, and what its docstrings say of each attribute.

`python -m pytest_modelops.report.schema` writes `schema.json` beside this file again after the model changed.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_modelops.report.causes import ProbableCause
from pytest_modelops.report.changes import CellChange, Comparison, Drift
from pytest_modelops.report.model import (
    SCHEMA,
    CellReport,
    CheckResult,
    EnvironmentReport,
    PlannedCell,
    RunReport,
    Status,
)
from pytest_modelops.report.upgrades import TriedOrder, Upgrade

FILE = Path(__file__).with_name("schema.json")
Schema = dict[str, Any]

_PYTHON = {"type": "string", "pattern": r"^\d+\.\d+(\.\d+((a|b|rc)\d+)?)?$"}
_TEXT = {"type": "string", "minLength": 1}
_SECONDS = {"type": "number", "minimum": 0}
_DEFINED: Mapping[type, str] = {
    CellReport: "cell",
    CheckResult: "check",
    Status: "status",
    EnvironmentReport: "environment",
    PlannedCell: "planned",
    ProbableCause: "cause",
    Comparison: "comparison",
    CellChange: "change",
    Drift: "drift",
    Upgrade: "upgrade",
    TriedOrder: "order",
}
_PLANNED = {
    "type": "object",
    "additionalProperties": False,
    "required": ["python", "dask"],
    "properties": {
        "python": {**_PYTHON, "description": "`3.12`: any patch release; `3.12.1`: that one."},
        "dask": {
            **_TEXT,
            "description": "A release, or what was asked for where no index could be asked what that is.",
        },
    },
}
_ROLES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        role: {**_PLANNED, "description": f"What the {role} was planned with."}
        for role in ("client", "scheduler", "worker")
    },
}
_FACTS = {"type": "object", "description": "What a process reported of itself. Open."}
_NARROWED: Mapping[str, Schema] = {
    "RunReport.started": {
        "type": "string",
        "format": "date-time",
        "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
    },
    "RunReport.seconds": _SECONDS,
    "RunReport.backend": _TEXT,
    "CellReport.id": _TEXT,
    "CellReport.python": _PYTHON,
    "CellReport.dask": _TEXT,
    "CellReport.seconds": _SECONDS,
    "CellReport.line": {"type": ["integer", "null"], "minimum": 1},
    "CellReport.roles": _ROLES,
    "PlannedCell.id": _TEXT,
    "PlannedCell.python": _PYTHON,
    "PlannedCell.dask": _TEXT,
    "PlannedCell.roles": _ROLES,
    "CellReport.observed": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "client": _FACTS,
            "scheduler": _FACTS,
            "workers": {"type": "object", "description": "By the worker's address.", "additionalProperties": _FACTS},
        },
    },
    "CheckResult.name": _TEXT,
    "CheckResult.seconds": _SECONDS,
    "CheckResult.data": {"type": "object"},
    "ProbableCause.id": _TEXT,
    "ProbableCause.cause": _TEXT,
    "LeftOut.id": _TEXT,
}
"""By class and attribute, what the type does not say."""
_DERIVED: Mapping[type, dict[str, Schema]] = {
    RunReport: {
        "schema": {"description": "Version of this shape.", "const": SCHEMA},
        "verdict": {"description": "The answer in one sentence.", "type": "string"},
        "upgrades": {
            "description": "The rolling upgrades, and which orders of them are safe.",
            "type": "array",
            "items": {"$ref": "#/$defs/upgrade"},
        },
    },
    CellReport: {
        "status": {
            "description": "How the cell ended; `passed` if everything that was asked of it passed or was skipped.",
            "$ref": "#/$defs/status",
        },
        "first_broken": {
            "description": "Label of the first check that failed, timed out or was unavailable, such as "
            "`handshake[seir]`; null if no check did.",
            "type": ["string", "null"],
        },
    },
}
"""Keys that are no attributes, since they follow from others."""
_CONDITIONS: Mapping[type, Schema] = {
    CellReport: {
        "if": {"properties": {"status": {"enum": [status.value for status in Status if status.broke]}}},
        "then": {"properties": {"first_broken": {"type": "string"}}},
        "else": {"properties": {"first_broken": {"type": "null"}}},
    },
    CheckResult: {
        "if": {"properties": {"status": {"const": Status.BLOCKED.value}}},
        "then": {"properties": {"blocked_by": {"type": "string"}}},
        "else": {"properties": {"blocked_by": {"type": "null"}}},
    },
}


def schema() -> Schema:
    """Return the JSON Schema of a report."""
    definitions = {name: _of_class(one) for one, name in _DEFINED.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:pytest-modelops:report:{SCHEMA}",
        "title": "Report of a pytest-modelops run",
        **_of_class(RunReport),
        "$defs": definitions,
    }


def _of_class(one: type) -> Schema:
    if issubclass(one, enum.Enum):
        return {"description": _summary(one), "enum": [member.value for member in one]}
    hints, described = typing.get_type_hints(one), _attributes(one)
    properties = {name: _of_attribute(one, name, hint, described) for name, hint in hints.items() if name in described}
    properties |= _DERIVED.get(one, {})
    is_open = typing.is_typeddict(one)
    return {
        "description": _summary(one) + (" Open." if is_open else ""),
        "type": "object",
        **({} if is_open else {"additionalProperties": False}),
        "required": ["python", "dask", "reused"] if is_open else list(properties),
        "properties": properties,
        **_CONDITIONS.get(one, {}),
    }


def _of_attribute(one: type, name: str, hint: Any, described: Mapping[str, str]) -> Schema:
    narrowed = _NARROWED.get(f"{one.__name__}.{name}")
    return {"description": described[name], **(_of_type(hint) if narrowed is None else narrowed)}


def _of_type(hint: Any) -> Schema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _DEFINED:
        return {"$ref": f"#/$defs/{_DEFINED[hint]}"}
    if origin in {typing.Union, types.UnionType}:
        (known,) = (one for one in arguments if one is not type(None))
        found = _of_type(known)
        return (
            {**found, "type": [found["type"], "null"]}
            if set(found) == {"type"}
            else {"anyOf": [found, {"type": "null"}]}
        )
    if origin in {tuple, list}:
        return {"type": "array", "items": _of_type(arguments[0])}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of_type(arguments[1])}
    if hint is object:
        return {}
    if dataclasses.is_dataclass(hint) or (inspect.isclass(hint) and issubclass(hint, enum.Enum)):
        return _of_class(hint)  # type: ignore[arg-type]
    return {"type": {str: "string", float: "number", int: "integer", bool: "boolean"}[hint]}


def _summary(one: type) -> str:
    return " ".join((inspect.getdoc(one) or "").partition("\n\n")[0].split())


def _attributes(one: type) -> dict[str, str]:
    """Return what a class's docstring says of each attribute, as a sentence."""
    text = (inspect.getdoc(one) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for entry in re.split(r"\n    (?=\S)", f"\n{text}".rstrip())[1:]:
        names, _, said = " ".join(entry.split()).partition(": ")
        sentence = said[:1].upper() + said[1:].rstrip(".") + "."
        found |= dict.fromkeys(names.split(", "), sentence)
    return found


def text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
