"""What workers reported of a plugin's runtime, in words.

What differs from what was asked, and where it may come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.lambdas import end_of
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.remote.shared import plain

Answer = Mapping[str, Any]
"""What a worker answered, see `remote/worker/plugins.py`; or what the agent did when it registered the plugin."""

_ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?$")
"""The last line of a traceback: no frame of one, and nothing that a logger writes."""
_PACKAGES = re.compile(r'( File ")[^"]*/site-packages/')
_SET_IT = "set it in [tool.modelops.environment] env"


def unmade(plugin: PluginSettings, registered: Answer) -> str:
    """Why there is no plugin to register."""
    text = f"worker plugin {plugin.path} could not be made in the client: {registered['unmade']}"
    if module := registered.get("module"):
        package = str(module).partition(".")[0]
        text += (
            f". No package in the cell's environment has a module {package!r}: add the one that does to "
            "[tool.modelops.environment] requirements"
        )
    elif plugin.arguments and registered["unmade"].startswith("TypeError"):
        text += f". Its arguments are {', '.join(f'{name} = {it!r}' for name, it in plugin.arguments.items())}"
    return text


def not_set_up(plugin: PluginSettings, name: str, log_lines: Sequence[str], log: Path) -> str:
    """A worker that did not survive the plugin, as its log says.

    Args:
        log_lines: of the log, those after the line that announces the traceback.
    """
    ends = (number for number, line in enumerate(log_lines) if _ERROR_LINE.match(line))
    trace = log_lines[: next(ends, len(log_lines) - 1) + 1]
    when = ", which joined after the registration" if name == LATE else ""
    error = trace[-1] if trace else "it raised"
    head = f"worker plugin {plugin.path}, on {name}{when}: it ended the worker: {error}"
    frames = [f"    {line}" for line in _end_of("\n".join(trace))]
    return "\n".join([head, *frames, f"The worker did not live on. Its log: {log}"])


def _end_of(trace: str) -> list[str]:
    """The last lines of a worker's traceback, with files as they are called in its packages."""
    return [_PACKAGES.sub(r"\1", line) for line in end_of(trace)]


def faults(plugin: PluginSettings, reply: Answer, registered: Answer) -> Iterator[Fault]:
    """What is wrong with one worker, the most telling first."""
    setup = reply["setup"]
    if setup is None:
        yield Fault(head=f"it was never given the plugin {registered['name']!r}")
    elif setup["error"] is not None:
        listed = "lists the plugin and would run tasks" if reply["listed"] else "would run tasks"
        yield Fault(
            head=f"the plugin's setup raised {setup['error']}; the worker stays, {listed} all the same",
            details=tuple(_end_of(setup["traceback"])),
        )
    if plugin.probe:
        yield from _probe(plugin.probe, reply, registered)
    for path, asked in plugin.expect.items():
        found = reply["values"][path]
        first = reply["values"].get(plugin.probe, {}) if plugin.probe else {}
        if "missing" in first and path.startswith(f"{plugin.probe}."):
            continue  # reported already
        if "missing" in found or "raised" in found:
            yield Fault(head=f"asked for {path} = {asked!r}, {_absent(path, found)}")
        elif not is_same(asked, found):
            words = [f"asked for {path} = {asked!r}, has {_shown(asked, found)}"]
            words += origins(plugin, path, asked, reply, registered)
            yield Fault(head=". ".join(words))


def _probe(path: str, reply: Answer, registered: Answer) -> Iterator[Fault]:
    found = reply["values"][path]
    if "missing" in found:
        although = f", although it lists the plugin {registered['name']!r}" if reply["listed"] else ""
        what = f"no attribute {path!r}" if not found["of"] else f"no {path!r}: {_absent(path, found)}"
        yield Fault(head=f"it has {what}{although}; it registered, runs lambdas, and would run tasks without a runtime")
    elif "raised" in found:
        yield Fault(head=f"its {path!r} cannot be had: {_absent(path, found)}")
    elif found["class"] == "builtins:NoneType":
        yield Fault(head=f"its {path!r} is None; it registered, and would run tasks without a runtime")


def _absent(path: str, found: Answer) -> str:
    if "raised" in found:
        return f"{found['step']!r} raised {found['raised']}"
    where = f"{found['of']} (a {found['class']})" if found["of"] else "the worker"
    return f"{where} has no {found['missing']!r}" if path != found["missing"] else "the worker has no such attribute"


def is_same(asked: Any, found: Answer) -> bool:
    """Whether a value is the one that was asked for; an object is compared by its class, `module:Class`."""
    if "plain" in found:
        return _equal(asked, plain.unpack(found["plain"]))
    return bool(asked == found["class"])


def _equal(asked: Any, actual: Any) -> bool:
    if isinstance(asked, list) and isinstance(actual, list | tuple):
        return len(asked) == len(actual) and all(map(_equal, asked, actual))
    if isinstance(asked, bool) != isinstance(actual, bool):  # 1 is not true
        return False
    return bool(asked == actual)


def _shown(asked: Any, found: Answer) -> str:
    if "plain" not in found:
        return str(found["class"])
    value = plain.unpack(found["plain"])
    kind = f" (a {type(value).__name__})" if type(value) is not type(asked) else ""
    return f"{found['repr']}{kind}"


def origins(plugin: PluginSettings, path: str, asked: Any, reply: Answer, registered: Answer) -> Iterator[str]:
    """Where a value that nobody asked for may come from, in sentences without their full stops."""
    setup = reply["setup"] or {"read": [], "settings": {}}
    for name in sorted({*reply["variables"], *setup["read"], *registered["read"]}):
        says = reply["variables"].get(name)
        if says is not None and (says == str(asked) or _is_of(name, path)):
            yield _of_variable(name, says, asked, setup, registered)
        elif says is None and _is_of(name, path):
            where = "during the plugin's setup there" if name in setup["read"] else "in the client"
            yield f"The variable {name} was looked up {where}, and this harness sets none; {_SET_IT}"
    for key in sorted({*setup["settings"], *registered["settings"]}):
        if _is_of(re.sub(r"[.-]", "_", key), path) or repr(asked) == setup["settings"].get(key):
            yield _of_setting(key, setup, registered)
    for name, value in plugin.arguments.items():
        if _is_of(name, path) or (isinstance(value, str) and value == asked):
            yield f"The plugin's argument {name} is {value!r}"


def _of_variable(name: str, says: str, asked: Any, setup: Answer, registered: Answer) -> str:
    right = says == str(asked)
    begin = f"The variable {name} of this worker says {says!r}"
    if name in setup["read"]:
        if right:
            return f"{begin} and was looked up during the plugin's setup: the value fell back, or was overridden"
        return f"{begin} and was looked up during the plugin's setup: a value that it does not know may fall back"
    text = f"{begin}, and was not looked up during the plugin's setup, so its value was not read there"
    if name in registered["read"]:
        lacks = ", which has no such variable" if name in registered["missing"] else ""
        text += f"; it was looked up in the client{lacks}, when the plugin was made: its configuration comes from there"
    return text


def _of_setting(key: str, setup: Answer, registered: Answer) -> str:
    here = key in setup["settings"]
    value = (setup if here else registered)["settings"][key]
    where = "during the plugin's setup there" if here else "in the client, when the plugin was made"
    if value is None:
        whose = "this worker" if here else "the client"
        variable = f"DASK_{key.upper().replace('.', '__').replace('-', '_')}"
        return (
            f"The Dask setting {key} was looked up {where}, and {whose} has none, so that a default was taken; set "
            f"{variable} in [tool.modelops.environment] env"
        )
    return f"The Dask setting {key} was looked up {where}, and is {value}"


def _is_of(name: str, path: str) -> bool:
    """Whether something is called like the attribute: the variable MODELOPS_EXECUTOR_TYPE and executor_type."""
    last = path.rpartition(".")[2].strip("_").lower()
    return bool(last) and f"_{name.lower()}".endswith(f"_{last}")


def differences(plugin: PluginSettings, reply: Mapping[str, Answer]) -> Iterator[tuple[str, Fault]]:
    """Workers whose runtime is of another class than that of the first one."""
    classes = {
        name: found["class"]
        for name, answer in reply.items()
        if (found := answer["values"].get(plugin.probe)) and "repr" in found
    }
    if not classes:
        return
    first = next(iter(classes))
    for name, kind in classes.items():
        if kind != classes[first]:
            yield name, Fault(head=f"its {plugin.probe} is a {kind}, that of {first} a {classes[first]}")


def figures(reply: Answer) -> dict[str, Any]:
    """What is worth keeping of what a worker reported."""
    values = {
        path: found["repr"] if "plain" in found else found["class"]
        for path, found in reply["values"].items()
        if "repr" in found
    }
    setup = reply["setup"] or {"read": [], "settings": {}}
    return {
        "pid": reply["pid"],
        "values": values,
        "variables_read": {name: reply["variables"].get(name) for name in setup["read"]},
        "settings_read": setup["settings"],
    }
