"""What the `runtime` check says: what differs on workers from what was asked, and where it may come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.lambdas import end_of
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import FoundValue, Origins, PluginFacts, RegisteredPlugin
from pytest_modelops.remote.worker.plugins import is_named_like

_ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?$")
"""The last line of a traceback: no frame of one, and nothing that a logger writes."""
_PACKAGES = re.compile(r'( File ")[^"]*/site-packages/')
_SET_IT = "set it in [tool.modelops.environment] env"
_NOT_SET = "not set"


def unmade(plugin: PluginSettings, registered: RegisteredPlugin) -> str:
    """Say why the plugin could not be made."""
    text = f"worker plugin {plugin.path} could not be made in the client: {registered['unmade']}"
    if module := registered.get("module"):
        package = module.partition(".")[0]
        text += (
            f". No package in the cell's environment has a module {package!r}: add one that has it to "
            "[tool.modelops.environment] requirements"
        )
    elif plugin.arguments and registered["unmade"].startswith("TypeError"):
        text += f". Its arguments are {', '.join(f'{name} = {it!r}' for name, it in plugin.arguments.items())}"
    return text


def not_set_up(plugin: PluginSettings, name: str, log_lines: Sequence[str], log: Path) -> str:
    """Describe a worker that did not survive the plugin.

    Args:
        log_lines: of its log, those after the line that announces the traceback.
    """
    ends = (number for number, line in enumerate(log_lines) if _ERROR_LINE.match(line))
    trace = log_lines[: next(ends, len(log_lines) - 1) + 1]
    when = ", which joined after the registration" if name == LATE else ""
    error = trace[-1] if trace else "it raised"
    head = f"worker plugin {plugin.path}, on {name}{when}: it ended the worker: {error}"
    frames = [f"    {line}" for line in _end_of("\n".join(trace))]
    return "\n".join([head, *frames, f"The worker did not survive it. Its log: {log}"])


def _end_of(trace: str) -> list[str]:
    """Return the last lines of a worker's traceback, with the paths of files in packages shortened."""
    return [_PACKAGES.sub(r"\1", line) for line in end_of(trace)]


def faults(
    plugin: PluginSettings, facts: PluginFacts, registered: RegisteredPlugin, set_it: str = _SET_IT
) -> Iterator[Fault]:
    """Yield what is wrong with one worker, causes first.

    Args:
        set_it: where a variable of the worker is set.
    """
    setup = facts["setup"]
    if setup is None:
        yield Fault(head=f"it was never given the plugin {registered['name']!r}")
    elif setup["error"] is not None:
        listed = "lists the plugin and would run tasks" if facts["listed"] else "would run tasks"
        # Whoever leaves by SystemExit has answered before the worker ended.
        stays = "" if setup["error"].startswith("SystemExit") else f"; the worker stays, {listed} all the same"
        yield Fault(
            head=f"the plugin's setup raised {setup['error']}{stays}", details=tuple(_end_of(setup["traceback"]))
        )
    if plugin.probe:
        yield from _probe(plugin.probe, facts, registered)
    for path, asked in plugin.expect.items():
        found = facts["values"][path]
        if "missing" in facts["values"].get(plugin.probe, {}) and path.startswith(f"{plugin.probe}."):
            continue  # reported already
        if "missing" in found or "raised" in found:
            yield Fault(head=f"asked for {path} = {asked!r}, {_absent(path, found)}")
        elif not is_same(asked, found):
            sentences = list(_origins(plugin, path, asked, facts["origins"], registered["origins"], set_it))
            if not sentences and "plain" in found:
                sentences = [_no_origin(path, set_it)]
            yield Fault(head=". ".join([f"asked for {path} = {asked!r}, has {_shown(asked, found)}", *sentences]))


def _probe(path: str, facts: PluginFacts, registered: RegisteredPlugin) -> Iterator[Fault]:
    found = facts["values"][path]
    if "missing" in found:
        although = f", although it lists the plugin {registered['name']!r}" if facts["listed"] else ""
        what = f"no attribute {path!r}" if not found["of"] else f"no {path!r}: {_absent(path, found)}"
        yield Fault(head=f"it has {what}{although}; it registered, runs lambdas, and would run tasks without a runtime")
    elif "raised" in found:
        yield Fault(head=f"its {path!r} cannot be read: {_absent(path, found)}")
    elif found["type"] == "builtins:NoneType":
        yield Fault(head=f"its {path!r} is None; it registered, and would run tasks without a runtime")


def _absent(path: str, found: FoundValue) -> str:
    if "raised" in found:
        return f"{found['step']!r} raised {found['raised']}"
    where = f"{found['of']} (a {found['type']})" if found["of"] else "the worker"
    return f"{where} has no {found['missing']!r}" if path != found["missing"] else "the worker has no such attribute"


def is_same(asked: object, found: FoundValue) -> bool:
    """Return whether a value is the one that was asked for; an object is compared by its class, `module:Class`."""
    if "plain" in found:
        return _equal(asked, plain.unpack(found["plain"]))
    return asked == found["type"]


def _equal(asked: Any, actual: Any) -> bool:
    if isinstance(asked, list) and isinstance(actual, list | tuple):
        return len(asked) == len(actual) and all(map(_equal, asked, actual))
    if isinstance(asked, bool) != isinstance(actual, bool):  # 1 is not true
        return False
    return bool(asked == actual)


def _shown(asked: object, found: FoundValue) -> str:
    if "plain" not in found:
        return found["type"]
    value = plain.unpack(found["plain"])
    kind = f" (a {type(value).__name__})" if type(value) is not type(asked) else ""
    return f"{found['repr']}{kind}"


def _origins(  # noqa: PLR0917
    plugin: PluginSettings, path: str, asked: object, here: Origins, client: Origins, set_it: str
) -> Iterator[str]:
    """Say where a value that was not asked for may come from, in sentences without their full stops.

    Args:
        here: of the worker.
    """
    for name in sorted({*here["variables"], *client["variables"]}):
        values = (here["variables"].get(name), client["variables"].get(name))
        if values != (None, None) and (is_named_like(name, path) or str(asked) in values):
            hint = _hint(values[0], str(asked), set_it, same=values[0] == values[1])
            yield f"The variable {name} is {_both(*values)}{hint}"
    for key in sorted({*here["settings"], *client["settings"]}):
        if is_named_like(key, path):
            yield f"The Dask setting {key} is {_both(here['settings'].get(key), client['settings'].get(key), str)}"
    for name, value in plugin.arguments.items():
        if is_named_like(name, path) or (isinstance(value, str) and value == asked):
            yield f"The plugin's argument {name} is {value!r}"


def _no_origin(path: str, set_it: str) -> str:
    last = path.rpartition(".")[2].upper()
    return (
        f"No variable …{last} and no Dask setting DASK_…__{last} is set on this worker or in the client, so a default "
        f"may have been taken; if the plugin reads one, {set_it}"
    )


def _both(here: str | None, client: str | None, show: Callable[[str], str] = repr) -> str:
    """Describe a value on the worker and in the client."""
    there = _NOT_SET if client is None else show(client)
    return f"{_NOT_SET if here is None else show(here)} on this worker and {there} in the client"


def _hint(here: str | None, asked: str, set_it: str, *, same: bool) -> str:
    """Say why a plugin may not have taken a variable's value, or what to do."""
    if here is None:
        return f"; {set_it}"
    if here != asked:
        return ": a value that the plugin does not know may fall back to a default"
    return ": the value fell back, or was overridden" + ("" if same else ", or the plugin reads it in the client")


def differences(plugin: PluginSettings, facts: Mapping[str, PluginFacts]) -> Iterator[tuple[str, Fault]]:
    """Yield the workers whose runtime is of another class than that of the first one."""
    classes = {
        name: found["type"]
        for name, one in facts.items()
        if (found := one["values"].get(plugin.probe)) and "repr" in found
    }
    if not classes:
        return
    first = next(iter(classes))
    for name, kind in classes.items():
        if kind != classes[first]:
            yield name, Fault(head=f"its {plugin.probe} is a {kind}, that of {first} a {classes[first]}")


def figures(facts: PluginFacts) -> dict[str, object]:
    """Return what the report holds of what a worker said."""
    values = {
        path: found["repr"] if "plain" in found else found["type"]
        for path, found in facts["values"].items()
        if "repr" in found
    }
    return {"pid": facts["pid"], "values": values, **facts["origins"]}
