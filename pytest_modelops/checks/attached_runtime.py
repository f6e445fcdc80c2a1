"""`runtime` of a deployment: the plugin that is there already, and what it has set up, asked of every worker.

Nothing is registered. A worker is added, and removed, only where that is allowed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pytest_modelops.checks import attached_looks, runtime_messages
from pytest_modelops.checks.attached_looks import by_value, shown
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, counted, message
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.config.variables import is_secret
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, NothingToDo
from pytest_modelops.remote.shared.facts import FoundValue, PluginFacts, RegisteredPlugin, WorkerLook

_SET_IT = "set it where the deployment's workers are started"
_SETUP_SECONDS = 10.0
"""How long the plugins of a worker that has joined may take to be set up."""
_POLL_SECONDS = 0.3
Look = Callable[[], tuple[Mapping[str, WorkerLook], Mapping[str, str]]]


def run(plugin: PluginSettings, cell: CheckedCell, deadline: Deadline, *, scale: bool) -> Mapping[str, object]:
    """Ask every worker for the plugin; with `scale`, also one more that joins."""
    attributes = [*dict.fromkeys([*filter(None, [plugin.probe]), *plugin.expect])]
    question = {"path": plugin.path, "attributes": attributes, "variables": list(attached_looks.variables(cell))}
    here: RegisteredPlugin = {
        "name": plugin.path,
        "origins": cell.cluster.agent.call("origins", question=question, deadline=deadline),
    }

    def look() -> tuple[Mapping[str, WorkerLook], Mapping[str, str]]:
        return attached_looks.ask(cell, deadline, attributes=attributes)

    looks, broken = look()
    if not looks and not broken:
        raise NothingToDo("no worker of the deployment runs this client's Python, and others get no function")
    _judge(plugin, looks, broken, here, attached_looks.variables(cell))
    late = _late(plugin, cell, deadline, here, look) if scale else {}
    notes = ["no task was sent for `processes`"] if plugin.processes else []
    if scale:
        notes += [scaled] if (scaled := attached_looks.deployment(cell).scaled) else []
    else:
        notes.append('no worker joined late: `allow = ["scale"]` is not set')
    return {
        "plugin": plugin.path,
        "client": here["origins"],
        "workers": {name: runtime_messages.figures(_facts(plugin, one)) for name, one in {**looks, **late}.items()},
        **({"note": f"worker plugin {plugin.path}: {'; '.join(notes)}"} if notes else {}),
    }


def _late(
    plugin: PluginSettings, cell: CheckedCell, deadline: Deadline, here: RegisteredPlugin, look: Look
) -> Mapping[str, WorkerLook]:
    """Have one more worker join, and return what it has."""
    cell.progress("scaling the deployment up by one worker")
    with cell.cluster.one_more(deadline) as (late, address):
        cell.observed = cell.cluster.facts(deadline)
        name = cell.cluster.addresses[address]
        looks, broken = deadline.at_most(_SETUP_SECONDS).until(  # it is registered before its plugins are set up
            look, every=_POLL_SECONDS, done=lambda seen: name in seen[0] and _is_set_up(plugin, seen[0][name])
        )
        found = {late: looks[name]} if name in looks else {}
        why = broken.get(name, "it runs another Python than this client")
        _judge(plugin, found, {} if found else {late: why}, here, ())
    cell.observed = cell.cluster.facts(deadline)
    return found


def _is_set_up(plugin: PluginSettings, look: WorkerLook) -> bool:
    return plugin.path in look["plugins"] and all("repr" in found for found in look["values"].values())


def _judge(
    plugin: PluginSettings,
    looks: Mapping[str, WorkerLook],
    broken: Mapping[str, str],
    here: RegisteredPlugin,
    compared: Collection[str],
) -> None:
    """Raise `CheckFailed` with everything that is wrong with what the workers said."""
    faults = {name: found for name, look in looks.items() if (found := _faults(plugin, look, here))}
    faults |= {name: [Fault(head=f"it did not say what it has: {why}")] for name, why in broken.items()}
    for text, names in _differences(looks, compared):
        for name in names:
            faults.setdefault(name, []).append(Fault(head=text))
    if faults:
        title = f"worker plugin {plugin.path}, {counted(len(faults), [*looks, *broken], 'workers')}"
        raise CheckFailed(message(title, faults, named=True))


def _faults(plugin: PluginSettings, look: WorkerLook, here: RegisteredPlugin) -> list[Fault]:
    facts = _facts(plugin, look)
    found = list(runtime_messages.faults(plugin, facts, here, _SET_IT))
    if not facts["listed"]:
        has = ", ".join(look["plugins"]) or "none"
        found.insert(0, Fault(head=f"it has no plugin of the class {plugin.path}; its plugins are: {has}"))
    return found


def _facts(plugin: PluginSettings, look: WorkerLook) -> PluginFacts:
    return {
        "pid": look["pid"],
        "listed": plugin.path in look["plugins"],
        "setup": {"done": True, "error": None, "traceback": ""},  # how it went, nobody there has noted
        "values": look["values"],
        "origins": look["origins"],
    }


def _differences(looks: Mapping[str, WorkerLook], compared: Collection[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what differs from most workers, and on which: values of the runtime, and variables that may decide them.

    Args:
        compared: the variables that `versions` compares.
    """
    first = next(iter(looks.values()), None)
    for path in first["values"] if first else ():
        yield from _outliers(f"its {path} is", by_value(looks, lambda one, path=path: _value(one["values"][path])))  # type: ignore[misc]
    named = {name for one in looks.values() for name in one["origins"]["variables"]}
    for name in sorted(named.difference(compared)):
        values = by_value(looks, functools.partial(_variable, name))
        yield from _outliers(f"its variable {name} is", values)


def _outliers(what: str, found: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    most, *others = found
    for one in others:
        yield f"{what} {one}, and {most} on most workers", found[one]


def _variable(name: str, look: WorkerLook) -> str:
    return shown(look["origins"]["variables"].get(name), hidden=is_secret(name))


def _value(found: FoundValue) -> str:
    if "missing" in found or "raised" in found:
        return "not there"
    return found["repr"] if "plain" in found else found["type"]
