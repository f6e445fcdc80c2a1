"""`[tool.modelops.cluster]`: the Dask cluster class that makes a cell's scheduler and workers, and its options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_modelops.config.setting import Place, Type, Values, leaf, not_one_of, setting, shown, table
from pytest_modelops.config.types import COUNT, STRING, count, import_path, mapping, text
from pytest_modelops.errors import WrongInput, said_of

FIELDS = (
    "python",
    "scheduler-python",
    "image",
    "python-version",
    "dask-version",
    "directory",
    "log-directory",
    "workers",
)
"""What `{…}` in an option may name."""
_OF_IMAGE = ("python-version", "dask-version")
_FIELD = re.compile(r"(?<![{$])\{([a-z][a-z-]*)\}(?!\})")
"""`{{name}}` and shell's `${name}` are left alone."""
_ESCAPED = re.compile(r"\{(\{[a-z][a-z-]*\})\}")
_CLASS = r"[\w.]+:[\w.]+"
_BOUNDS = ("minimum", "maximum")


def filled(value: Any, fields: Mapping[str, object]) -> Any:
    """Return an option with its fields filled in, at any depth; a text that is only a field becomes its value."""
    if isinstance(value, Mapping):
        return {key: filled(one, fields) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, fields) for one in value]
    if not isinstance(value, str):
        return value
    if whole := _FIELD.fullmatch(value):
        return fields[whole[1]]
    return _ESCAPED.sub(r"\1", _FIELD.sub(lambda match: str(fields[match[1]]), value))


def names_in(value: object) -> set[str]:
    """Return the names of the fields in an option, at any depth."""
    if isinstance(value, Mapping):
        return {name for one in value.values() for name in names_in(one)}
    if isinstance(value, list):
        return {name for one in value for name in names_in(one)}
    return set(_FIELD.findall(value)) if isinstance(value, str) else set()


def _refuse_unknown(value: object, valid: tuple[str, ...]) -> None:
    for name in sorted(names_in(value)):
        if name not in valid:
            raise WrongInput(f"{{{name}}}: {not_one_of(name, 'a field', valid)}; write {{{{{name}}}}} for the text")


_class = import_path("is not a class; write module:Class, such as distributed:LocalCluster")


def _options(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise WrongInput(f"{shown(value)} is not a table of keyword arguments, such as {{ cores = 1 }}")
    for name, one in value.items():
        if not name.isidentifier():
            raise WrongInput(f"{name!r} is not the name of an argument")
        with said_of(name):
            _refuse_other_types(one)
            _refuse_unknown(one, FIELDS)
    return value


def _refuse_other_types(value: object) -> None:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _refuse_other_types(one)
    elif not isinstance(value, str | int | float | bool):
        raise WrongInput(f"{shown(value)} is a date or time, which cannot be sent; write it as text")


def _image(value: object) -> str:
    _refuse_unknown(text(value), _OF_IMAGE)
    return text(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adaptive:
    """How many workers a cluster that scales itself has, at least and at most. Checks run on the least number."""

    minimum: int
    maximum: int


def _adaptive(value: object) -> Adaptive:
    found = mapping(value, "bounds, such as { minimum = 1, maximum = 4 }", _bound, count)
    for name in _BOUNDS:
        if name not in found:
            raise WrongInput(f"has no {name}; write {{ minimum = 1, maximum = 4 }}")
    if found["maximum"] < found["minimum"]:
        raise WrongInput(f"maximum {found['maximum']} is less than minimum {found['minimum']}")
    return Adaptive(minimum=found["minimum"], maximum=found["maximum"])


def _bound(name: str) -> None:
    if name not in _BOUNDS:
        raise WrongInput(not_one_of(name, "a bound", _BOUNDS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassSettings:
    """A Dask cluster class.

    Attributes:
        path: of the class, `module:Class`.
        directory: of the configuration; the module is looked for there, too.
    """

    path: str = setting(
        leaf(_class, {"type": "string", "pattern": f"^{_CLASS}$"}),
        "The class, or a function that returns a cluster: `module:Class`, such as `dask_jobqueue:SLURMCluster`. It is "
        "imported in the environment of the cell's scheduler, to which its distribution belongs as one of the "
        "`requirements`, or from beside this file.",
        "",
        shown="",
        key="class",
    )
    options: Mapping[str, object] = setting(
        leaf(_options, {"type": "object"}),
        "Keyword arguments of the class. In texts, at any depth: "
        "`{python}` and `{scheduler-python}`, the interpreters of the cell's environments; `{image}`; "
        "`{python-version}` and `{dask-version}` of the workers; `{directory}`, a directory of the cell's own; "
        "`{log-directory}`, whose files are the cell's logs; `{workers}`, their number. "
        "`{{python}}` is the text itself.",
        {},
    )
    image: str = setting(
        leaf(_image, STRING),
        "What `{image}` in `options` stands for, such as `registry/app:py{python-version}-dask{dask-version}`.",
        "",
        shown="",
    )
    scale: int | None = setting(COUNT, "How many workers the cluster is scaled to; by default `workers`.")
    adaptive: Adaptive | None = setting(
        leaf(
            _adaptive,
            {
                "type": "object",
                "properties": dict.fromkeys(_BOUNDS, COUNT.schema),
                "required": [*_BOUNDS],
                "additionalProperties": False,
            },
        ),
        "Have the cluster scale itself, instead of `scale`: `{ minimum = 1, maximum = 4 }`. Checks run on the least "
        "number of workers.",
    )
    directory: Path = Path()


def _finish(found: ClassSettings, _: Values, place: Place) -> ClassSettings:
    if found.scale is not None and found.adaptive is not None:
        raise WrongInput(f"{place}: has scale and adaptive; leave out one")
    if "image" in names_in(found.options) and not found.image:
        raise WrongInput(f"{place}: options name {{image}}, and there is no image; set image")
    return dataclasses.replace(found, directory=place.directory)


CLUSTER: Type[ClassSettings] = table(ClassSettings, _finish, section=True)
