"""What `[tool.modelops.worker-plugin]` says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_modelops.config import readers
from pytest_modelops.config.model import PROCESSES, PluginSettings
from pytest_modelops.config.options import not_one_of
from pytest_modelops.config.tables import Table
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.versions import said_of
from pytest_modelops.remote.shared import plain

_SECTION = "worker-plugin"
_KEYS = ("class", "arguments", "probe", "expect", "processes", "tasks")


def plugin(table: Table) -> PluginSettings | None:
    """The worker plugin; `None` where none is configured.

    Raises:
        WrongInput: something of it cannot be meant, or nothing is asked of it.
    """
    if _SECTION not in table.values:
        return None
    section = table.section(_SECTION, _KEYS)
    if "class" not in section.values:
        raise WrongInput(f'{section.place}: has no class; write one such as class = "acme.workers:RuntimePlugin"')
    found = PluginSettings(
        path=section.get("class", lambda value: _imported(value, "Class"), ""),
        arguments=section.get("arguments", _arguments, {}),
        probe=section.get("probe", _attribute, ""),
        expect=section.get("expect", _expect, {}),
        processes=section.get("processes", _processes, {}),
        tasks=section.get("tasks", _tasks, PluginSettings.tasks),
    )
    if not found.probe and not found.expect:
        raise WrongInput(
            f"{section.place}: has neither probe nor expect; name an attribute that the plugin sets on a worker, such "
            'as probe = "runtime": that a worker lists the plugin does not prove that it was set up'
        )
    if "tasks" in section.values and not found.processes:
        raise WrongInput(f"{section.place}: has tasks and no processes that they would be of")
    return found


def _imported(value: object, what: str) -> str:
    text = readers.text(value)
    module, colon, name = text.partition(":")
    if not colon or not _is_dotted(module) or not _is_dotted(name):
        raise WrongInput(f"{text!r} is not an import path; write package.module:{what}")
    return text


def _attribute(value: object) -> str:
    text = readers.text(value)
    if not _is_dotted(text):
        raise WrongInput(
            f"{text!r} is not an attribute of a worker; write a name, or names with dots between them, such as "
            "runtime.executor_type"
        )
    return text


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _arguments(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise WrongInput(f"{readers.shown(value)} is not a table of keyword arguments, such as {{ retries = 3 }}")
    for name, content in value.items():
        if not name.isidentifier():
            raise WrongInput(f"{name!r} is not the name of an argument")
        with said_of(name):
            _plain(content)
    return value


def _expect(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise WrongInput(
            f'{readers.shown(value)} is not a table of attributes, such as {{ "runtime.executor_type" = "cold" }}'
        )
    return dict(_leaves(value))


def _leaves(table: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    """Attribute and value; without quotes, TOML makes a table of what has dots."""
    for name, content in table.items():
        path = f"{outer}{name}"
        if not re.fullmatch(r"\w[\w.-]*", path):
            _attribute(path)
        if isinstance(content, dict) and content:
            yield from _leaves(content, f"{path}.")
            continue
        with said_of(path):
            _plain(content)
        yield path, content


def _plain(value: object) -> None:
    try:
        plain.pack(value, readers.shown(value))
    except TypeError:
        raise WrongInput(
            f"{readers.shown(value)} cannot be compared or sent; write text, a number, true, false or a list of them"
        ) from None


def _processes(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not value:
        raise WrongInput(
            f'{readers.shown(value)} is not a table of functions, such as {{ cold = "acme.probes:run_one" }}'
        )
    for kind in value:
        if kind not in PROCESSES:
            raise WrongInput(not_one_of(kind, "a way to run tasks", PROCESSES))
    found = {}
    for kind, path in value.items():
        with said_of(kind):
            found[kind] = _imported(path, "function")
    return found


def _tasks(value: object) -> int:
    count = readers.count(value)
    if count == 1:
        raise WrongInput("1 task cannot show whether the next one has a process of its own; write 2 or more")
    return count
