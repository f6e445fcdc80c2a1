"""What editors and readers see of the declared settings: a JSON Schema, and the tables of `docs/reference.md`.

`python -m pytest_modelops.config.reference docs/reference.md` writes the tables again after a declaration changed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_modelops.config.options import OPTIONS, PLAN_FORMS, PLAN_HELP
from pytest_modelops.config.setting import Declaration, Kind, Schema, Type, declarations
from pytest_modelops.config.settings import Settings

_BLOCK = re.compile(r"(<!-- settings: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def schema() -> Schema:
    """Return the JSON Schema of `[tool.modelops]`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "[tool.modelops] of pytest-modelops",
        **_schema_of_table(Settings),
    }


def _schema_of_table(table: type) -> Schema:
    settings = [one for one in declarations(table).values() if one.key]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {one.key: _schema_of_setting(one) for one in settings},
        **({"required": required} if (required := [one.key for one in settings if one.required]) else {}),
    }


def _schema_of_setting(one: Declaration[object]) -> Schema:
    found = {**_schema_of_type(one.type), "description": one.help}
    try:
        return {**found, "default": json.loads(one.shown)}
    except ValueError:  # there is none, or it is a table
        return found


def _schema_of_type(type_: Type[object]) -> Schema:
    if type_.table is None:
        return type_.schema
    table = _schema_of_table(type_.table)
    if type_.kind is not Kind.MANY:
        return table
    return {"type": "array", "items": {"anyOf": [table, type_.schema]} if type_.schema else table}


def tables() -> dict[str, str]:
    """Return the tables of the documentation, in Markdown: `flags`, and one for each declared table."""
    return {"flags": _flags(), **dict(_tables_of(Settings, "modelops"))}


def _tables_of(table: type, name: str) -> Iterator[tuple[str, str]]:
    settings = [one for one in declarations(table).values() if one.key]
    rows = [
        (f"`{one.key}`", f"`{one.shown}`" if one.shown else "", one.help) for one in settings if not one.type.section
    ]
    yield name, _markdown(("key", "default", "meaning"), rows)
    for one in settings:
        if one.type.table is not None and (one.type.section or one.type.kind is Kind.MANY):
            yield from _tables_of(one.type.table, one.key)


def _default(one: Declaration[object]) -> str:
    if one.required:
        return "required"
    return f"`{one.shown}`" if one.shown else ""


def _flags() -> str:
    plans = ", ".join(f"`--modelops-plan{form}`" for form in ("", *(f"={one}" for one in PLAN_FORMS)))
    rows = [(plans, "", "", PLAN_HELP)]
    for option in OPTIONS:
        value = f"={option.metavar}" if option.path else f" {option.metavar}" if option.metavar else ""
        repeatable = " Repeatable." if option.kind is Kind.MANY else ""
        rows.append(
            (
                f"`{option.flag}{value}`",
                f"`{option.variable_name}`" if option.variable else "",
                f"`{option.dest}`" if option.ini else "",
                (option.flag_help or option.help) + repeatable,
            )
        )
    return _markdown(("flag", "variable", "ini", "meaning"), rows)


def _markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def renewed(text: str) -> str:
    """Return a Markdown text with the tables of the declarations in its blocks `<!-- settings: NAME -->`."""
    found = tables()
    return _BLOCK.sub(lambda match: f"{match[1]}\n{found[match[2]]}\n{match[3]}", text)


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
