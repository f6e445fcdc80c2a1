"""What artifacts hold: nothing, or an error. Judged on the worker, which has their whole content. Python 3.9 and up."""

from __future__ import annotations

import base64
import csv
import fnmatch
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .bundle_messages import Artifact, ArtifactContent

_SHOWN = 300
_TABLE = re.compile(r"\.(?:csv|tsv)$", re.IGNORECASE)
_NOT_JSON = object()


def look(outputs: Mapping[str, Artifact], conditions: Iterable[str]) -> dict[str, ArtifactContent]:
    """Return what is to be known of each artifact.

    Args:
        conditions: `ARTIFACT:PATH`; of a name, which may be a pattern, and dots lead into its JSON. A path that is
            empty means the artifact itself.
    """
    conditions = [*conditions]
    return {name: _look(name, base64.b64decode(one["inline"]), conditions) for name, one in outputs.items()}


def _look(name: str, content: bytes, conditions: Iterable[str]) -> ArtifactContent:
    document = _document(content)
    found: dict[str, str] = {}
    for condition in conditions:
        pattern, _, path = condition.rpartition(":")
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        if not path:
            if content.strip():
                found[condition] = _shown(content.decode(errors="backslashreplace"))
        elif document is _NOT_JSON:
            if pattern == name:
                found[condition] = "not JSON"
        elif value := _at(document, path.split(".")):
            found[condition] = _shown(value)
    return {"empty": _why_empty(name, content, document), "error": _error(document), "found": found}


def _document(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _why_empty(name: str, content: bytes, document: object) -> str:
    if not content.strip():
        return "no bytes" if not content else "only white space"
    if document is None or document in ([], {}):
        return json.dumps(document)
    if _TABLE.search(name):
        rows = _first_rows(name, content)
        if len(rows) == 1 and not any(map(_is_number, rows[0])):
            return "a table with a header and no rows"
    return ""


def _first_rows(name: str, content: bytes) -> list[list[str]]:
    """Return the first two rows of a table that have anything in them; none if it cannot be read."""
    dialect = csv.excel_tab if name.lower().endswith("tsv") else csv.excel
    rows = csv.reader(content.decode(errors="replace").splitlines(), dialect)
    try:
        return [*itertools.islice(filter(any, rows), 2)]
    except csv.Error:  # such as a field that is too long
        return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_ERRORS = {"error", "errors", "exception", "traceback"}


def _error(document: object) -> str:
    """Return the error that a JSON object has, or each object of a list; empty if there is none.

    Numbers measure something, and `null`, `false` or "" are no error.
    """
    if isinstance(document, Mapping):
        named = (value for key, value in document.items() if str(key).lower() in _ERRORS)
        return next((_shown(value) for value in named if _says_something(value)), "")
    if isinstance(document, list):
        found = [isinstance(one, Mapping) and _error(one) for one in document]
        return found[0] if found and all(found) and isinstance(found[0], str) else ""
    return ""


def _says_something(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_says_something, value.values()))
    if isinstance(value, list):
        return any(map(_says_something, value))
    return value is True or (isinstance(value, str) and bool(value.strip()))


def _at(document: Any, steps: Iterable[str]) -> Any:
    for step in steps:
        if isinstance(document, Mapping):
            document = document.get(step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
