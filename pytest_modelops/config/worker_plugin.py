"""`[tool.modelops.worker-plugin]`: the worker plugin of a deployment, and what its runtime must be."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from pytest_modelops.config.setting import Place, Type, Values, leaf, not_one_of, setting, shown, table
from pytest_modelops.config.types import EXECUTOR, IMPORT_PATH, count, import_path, is_dotted, mapping, text
from pytest_modelops.errors import WrongInput, said_of

COLD, WARM, DIRECT = PROCESSES = ("cold", "warm", "direct")
"""A new process for every task; one process of each worker for all of them; the worker's own process."""


def _attribute(value: object) -> str:
    name = text(value)
    if not is_dotted(name):
        raise WrongInput(
            f"{name!r} is not an attribute of a worker; write a name, or names with dots between them, such as "
            "runtime.executor_type"
        )
    return name


def _arguments(value: object) -> Mapping[str, object]:
    def check(name: str) -> None:
        if not name.isidentifier():
            raise WrongInput(f"{name!r} is not the name of an argument")

    return mapping(value, "keyword arguments, such as { retries = 3 }", check, _plain, may_be_empty=True)


def _expect(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict) or not value:
        raise WrongInput(f'{shown(value)} is not a table of attributes, such as {{ "runtime.executor_type" = "cold" }}')
    return dict(_leaves(value))


def _leaves(values: Mapping[str, object], outer: str = "") -> Iterator[tuple[str, object]]:
    """Attribute and value. TOML makes a table of a name that has dots and no quotes."""
    for name, content in values.items():
        path = f"{outer}{name}"
        if not re.fullmatch(r"\w[\w.-]*", path):
            _attribute(path)
        if isinstance(content, dict) and content:
            yield from _leaves(content, f"{path}.")
            continue
        with said_of(path):
            _plain(content)
        yield path, content


def _plain(value: object) -> object:
    from pytest_modelops.remote.shared import plain

    try:
        plain.pack(value, shown(value))
    except TypeError:
        raise WrongInput(
            f"{shown(value)} cannot be compared or sent; write text, a number, true, false or a list of them"
        ) from None
    return value


def _processes(value: object) -> Mapping[str, str]:
    def check(kind: str) -> None:
        if kind not in PROCESSES:
            raise WrongInput(not_one_of(kind, "a way to run tasks", PROCESSES))

    return mapping(
        value,
        'functions, such as { cold = "acme.probes:run_one" }',
        check,
        import_path("is not an import path; write package.module:function"),
    )


def _tasks(value: object) -> int:
    if value == 1:
        raise WrongInput("1 task cannot show whether the next one has a process of its own; write 2 or more")
    return count(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """The worker plugin of a deployment, and what its runtime must be on every worker.

    Attributes:
        path: its class, `package.module:Class`.
        probe: empty if only `expect` is asked.
        expect: dotted attribute of the worker → its value: plain data, or `package.module:Class` for an object.
        processes: `COLD`, `WARM` or `DIRECT` → `package.module:function`.
    """

    path: str = setting(
        leaf(import_path("is not an import path; write package.module:Class"), IMPORT_PATH),
        'The import path of the class, `"acme.workers:RuntimePlugin"`. Client and workers must be able to import it: '
        "put its package into `[tool.modelops.environment]` `requirements`.",
        key="class",
        required='write one such as class = "acme.workers:RuntimePlugin"',
    )
    arguments: Mapping[str, object] = setting(
        leaf(_arguments, {"type": "object"}), "Keyword arguments of the class.", {}
    )
    probe: str = setting(
        leaf(_attribute, {"type": "string"}),
        'The attribute that every worker must have, `"runtime"`; dots lead on. `None` counts as missing. Set `probe`, '
        "`expect` or both.",
        "",
        shown="",
    )
    expect: Mapping[str, object] = setting(
        leaf(_expect, {"type": "object", "minProperties": 1}),
        'Attributes and the values that they must have: `{ "runtime.executor_type" = "cold" }`. Each step is an '
        "attribute, or else a key of a mapping. An enum's member counts as its value. A value that is not plain data "
        'is compared by its class, `{ "runtime.executor" = "acme.executors:Cold" }`, which proves more than a setting '
        "that the runtime reports.",
        {},
    )
    processes: Mapping[str, str] = setting(
        leaf(
            _processes,
            {
                "type": "object",
                "properties": dict.fromkeys(PROCESSES, IMPORT_PATH),
                "additionalProperties": False,
                "minProperties": 1,
            },
        ),
        '`{ cold = "acme.probes:run_one" }`: functions of yours, each called as a Dask task on each worker, one after '
        "the other. A function does something with the runtime and returns the pid of the process that did it, or "
        '`{"pid": …, "start": …}` with the time at which that process started. `cold`: a new process for every task; '
        "`warm`: one process for all tasks of a worker, beside the worker; `direct`: the worker's own process. You can "
        "name one function for each.",
        {},
    )
    tasks: int = setting(
        leaf(_tasks, {"type": "integer", "minimum": 2}),
        "How often each of these functions is called on each worker.",
        4,
    )
    python: str | None = setting(
        EXECUTOR,
        'The Python of the processes that do these tasks, as their interpreter says it itself: `"3.12"`, '
        '`"3.12.1"`, or `"any"`. Default: that of the worker, to the patch release, and for its platform.',
    )


_OF = {"tasks": "they would be of", "python": "would run it"}


def _finish(found: PluginSettings, values: Values, place: Place) -> PluginSettings:
    if not found.probe and not found.expect:
        raise WrongInput(
            f"{place}: has neither probe nor expect; name an attribute that the plugin sets on a worker, such as "
            'probe = "runtime": that a worker lists the plugin does not prove that it was set up'
        )
    for key in ("tasks", "python"):
        if key in values and not found.processes:
            raise WrongInput(f"{place}: has {key} and no processes that {_OF[key]}")
    return found


PLUGIN: Type[PluginSettings | None] = table(PluginSettings, _finish, section=True)
