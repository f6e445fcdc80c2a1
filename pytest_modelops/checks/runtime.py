"""`runtime`: the worker plugin's runtime is the one asked for, on every worker, and on one that joins late.

The plugin stays registered, so bundle checks and tests of the user's run with it, as they do in production.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import cast

from pytest_modelops.checks import runtime_messages, runtime_processes
from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, counted, message
from pytest_modelops.cluster.cluster import LATE, Cluster
from pytest_modelops.cluster.logs import last_lines
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, RemoteError, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import PluginAnswer, PluginFacts, PluginQuestion, RegisteredPlugin
from pytest_modelops.remote.worker.plugins import NOT_SET_UP

_MARGIN_SECONDS = 0.3
"""How long before the deadline the agent stops, so that its report arrives in time."""
_POLL_SECONDS = 0.1
_SOON_SECONDS = 3.0
"""How long a worker has to answer while its setup may still go on."""


def run(plugin: PluginSettings, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Register the plugin, probe every worker, then have one more join, and probe that."""
    cell.progress("registering the worker plugin")
    cluster = cell.cluster
    registered = register(plugin, cell, deadline)
    addresses = {name: address for address, name in cluster.addresses.items()}
    facts = {
        name: _facts_of(plugin, cluster, name, answer)
        for name, answer in _probe(plugin, cluster, registered, addresses, deadline).items()
    }
    _judge(plugin, cluster, registered, facts)
    tasks = runtime_processes.run(plugin, cell, addresses, deadline)
    cell.progress("probing a worker that joins late")
    began = time.monotonic()
    with cluster.one_more(deadline) as (late, address):
        facts[late] = _await_setup(plugin, cluster, registered, address, deadline)
        _judge(plugin, cluster, registered, facts)
        for kind, figures in runtime_processes.run(plugin, cell, {late: address}, deadline).items():
            tasks[kind] |= figures
        took = time.monotonic() - began
    return {
        "plugin": registered["name"],
        "client": registered["origins"],
        "workers": {name: runtime_messages.figures(one) for name, one in facts.items()},
        "late_seconds": round(took, 3),
        **({"processes": tasks} if tasks else {}),
    }


def register(plugin: PluginSettings, cell: CheckedCell, deadline: Deadline) -> RegisteredPlugin:
    """Make the plugin in the client and register it.

    Raises:
        RemoteError: it could not be made.
        ProcessExited: a worker died of it.
        TimedOut: its setup did not end.
    """
    cluster = cell.cluster
    cluster.await_workers(deadline)
    before = dict(cluster.addresses)
    try:
        registered: RegisteredPlugin = cluster.agent.call(
            "register_plugin",
            arguments={name: plain.pack(value) for name, value in plugin.arguments.items()},
            question=_question(plugin, cluster),
            seconds=max(0.1, deadline.remaining - _MARGIN_SECONDS),
            deadline=deadline,
        )
    except TimedOut as error:
        raise TimedOut(f"worker plugin {plugin.path}: {error}") from None
    if "unmade" in registered:
        raise RemoteError(runtime_messages.unmade(plugin, registered), registered["traceback"])
    for address in registered["gone"]:
        if address in before:
            raise ProcessExited(_lost(plugin, cluster, before[address]))
    return registered


def _question(plugin: PluginSettings, cluster: Cluster) -> PluginQuestion:
    return {
        "path": plugin.path,
        "attributes": [*dict.fromkeys([*filter(None, [plugin.probe]), *plugin.expect])],
        "variables": list(cluster.settings.worker_variables),
    }


def _probe(
    plugin: PluginSettings,
    cluster: Cluster,
    registered: RegisteredPlugin,
    addresses: Mapping[str, str],
    deadline: Deadline,
) -> dict[str, PluginAnswer]:
    """Ask each of these workers what it has of the plugin."""
    answers = cluster.agent.call(
        "probe",
        name=registered["name"],
        question=_question(plugin, cluster),
        workers=list(addresses.values()),
        seconds=max(0.1, deadline.remaining - _MARGIN_SECONDS),
        deadline=deadline,
    )
    return {name: cast("PluginAnswer", answers[address]) for name, address in addresses.items()}


def _facts_of(plugin: PluginSettings, cluster: Cluster, name: str, answer: PluginAnswer) -> PluginFacts:
    if "silent" in answer:
        raise TimedOut(f"{name} was asked for its runtime: {answer['silent']}")
    if "error" in answer:
        if ended := _ended_by_it(plugin, cluster, name):  # it was still registered when it was asked
            raise ProcessExited(ended)
        death = cluster.death_of_worker(name)
        why = f"; {death}" if death else ""
        raise CheckFailed(
            f"{name} was asked for its runtime: {cluster.with_names(answer['error'])}{why}.{cluster.last_words(name)}"
        )
    return answer["value"]


def _ended_by_it(plugin: PluginSettings, cluster: Cluster, name: str) -> str:
    """Describe a worker whose log says that the plugin ended it; empty where it does not."""
    log = next(process.log for process in cluster.processes if process.name == name)
    lines = last_lines(log, most=400)
    starts = [number for number, line in enumerate(lines) if line.startswith(NOT_SET_UP)]
    return runtime_messages.not_set_up(plugin, name, lines[starts[-1] + 1 :], log) if starts else ""


def _lost(plugin: PluginSettings, cluster: Cluster, name: str) -> str:
    """Describe a worker that the plugin took down; empty while nothing shows that it did."""
    if ended := _ended_by_it(plugin, cluster, name):
        return ended
    death = cluster.death_of_worker(name)
    if name == LATE and not death:
        return ""
    where = f"worker plugin {plugin.path}: while it was set up, {name} left the cluster"
    return f"{where}{f'; {death}' if death else ''}.{cluster.last_words(name)}"


def _await_setup(
    plugin: PluginSettings, cluster: Cluster, registered: RegisteredPlugin, address: str, deadline: Deadline
) -> PluginFacts:
    """Wait until the plugin's setup has ended on the late worker, which is registered before that."""
    seen = "it was not asked"
    while not deadline.passed:
        answer = _probe(plugin, cluster, registered, {LATE: address}, deadline.at_most(_SOON_SECONDS))[LATE]
        setup = answer["value"]["setup"] if "value" in answer else None
        if setup is not None and setup["done"]:
            return answer["value"]
        if lost := _lost(plugin, cluster, LATE):
            raise ProcessExited(lost)
        if setup is not None:
            seen = "its setup has begun"
        else:
            seen = answer.get("error") or answer.get("silent") or "it was not given the plugin"
        time.sleep(_POLL_SECONDS)
    raise TimedOut(
        f"worker plugin {plugin.path}: {LATE}, which joined after the others, was not set up within "
        f"{deadline.seconds:g} s; seen last: {seen}.{cluster.last_words(LATE)}"
    )


def _judge(
    plugin: PluginSettings, cluster: Cluster, registered: RegisteredPlugin, facts: Mapping[str, PluginFacts]
) -> None:
    """Raise `CheckFailed` with everything that is wrong with what the workers reported."""
    faults: dict[str, list[Fault]] = {}
    for name, one in facts.items():
        if found := list(runtime_messages.faults(plugin, one, registered)):
            faults[name] = found
    for name, fault in runtime_messages.differences(plugin, facts):
        faults.setdefault(name, []).append(fault)
    if not faults:
        if "error" in registered:
            text = f"worker plugin {plugin.path}: registering it raised {registered['error']}"
            raise RemoteError(text, registered["traceback"])
        return
    if [*faults] == [LATE]:
        others = [name for name in facts if name != LATE]
        verb = "is" if len(others) == 1 else "are"
        where = f"on {LATE}, which joined after the registration ({', '.join(others)} {verb} as asked)"
        after = f"Its log: {cluster.late.log}" if cluster.late is not None else ""
        raise CheckFailed(message(f"worker plugin {plugin.path}, {where}", faults, after))
    count = counted(len(faults), facts, "workers")
    raise CheckFailed(message(f"worker plugin {plugin.path}, {count}", faults, named=True))


def _register_again(plugin: PluginSettings, cell: CheckedCell, deadline: Deadline) -> None:
    """Register it in a cluster that was restarted; the check has reported already whether it works."""
    with contextlib.suppress(ModelopsError):
        register(plugin, cell, deadline)


def check(plugin: PluginSettings) -> Check:
    """Return the check for a worker plugin."""
    return Check(
        name="runtime",
        run=lambda cell, deadline: run(plugin, cell, deadline),
        needs=("start",),
        seconds=120,
        leaves=lambda cell, deadline: _register_again(plugin, cell, deadline),
        summary="the worker plugin's runtime is the one asked for on every worker, a late one too",
    )
