"""`runtime`: the worker plugin's runtime is the one asked for, on every worker, and on one that joins late.

The plugin stays registered, so bundle checks and tests of the user's run with it, as they do in production.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from pytest_modelops.checks import runtime_messages, runtime_processes
from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, counted, message
from pytest_modelops.cluster.cluster import LATE, Cluster
from pytest_modelops.cluster.logs import last_lines
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CannotScale, CheckFailed, ModelopsError, ProcessExited, RemoteError, TimedOut
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
    runtime = _Runtime(plugin, cluster, deadline)
    addresses = {name: address for address, name in cluster.addresses.items()}
    facts = {name: runtime.facts_of(name, answer) for name, answer in runtime.probe(addresses, deadline).items()}
    runtime.judge(facts)
    tasks = runtime_processes.run(plugin, cell, addresses, deadline)
    cell.progress("probing a worker that joins late")
    began, note = time.monotonic(), {}
    try:
        with cluster.one_more(deadline) as (late, address):
            facts[late] = runtime.await_setup(address)
            runtime.judge(facts)
            for kind, figures in runtime_processes.run(plugin, cell, {late: address}, deadline).items():
                tasks[kind] |= figures
            took = time.monotonic() - began
    except CannotScale as error:
        note, took = {"note": f"runtime: no worker that joins late was probed, since {error}"}, 0.0
    return {
        **note,
        "plugin": runtime.registered["name"],
        "client": runtime.registered["origins"],
        "workers": {name: runtime_messages.figures(one) for name, one in facts.items()},
        "late_seconds": round(took, 3),
        **({"processes": tasks} if tasks else {}),
    }


class _Runtime:
    """A plugin that is made in the client and registered, and what workers say of it.

    Raises:
        RemoteError: it could not be made.
        ProcessExited: a worker died of it.
        TimedOut: its setup did not end.
    """

    def __init__(self, plugin: PluginSettings, cluster: Cluster, deadline: Deadline) -> None:
        self._plugin, self._cluster, self._deadline = plugin, cluster, deadline
        self._title = f"worker plugin {plugin.path}"
        self._question: PluginQuestion = {
            "path": plugin.path,
            "attributes": [*dict.fromkeys([*filter(None, [plugin.probe]), *plugin.expect])],
            "variables": list(cluster.settings.worker_variables),
        }
        cluster.await_workers(deadline)
        before = dict(cluster.addresses)
        try:
            self.registered: RegisteredPlugin = cluster.agent.call(
                "register_plugin",
                arguments={name: plain.pack(value) for name, value in plugin.arguments.items()},
                question=self._question,
                seconds=max(0.1, deadline.remaining - _MARGIN_SECONDS),
                deadline=deadline,
            )
        except TimedOut as error:
            raise TimedOut(f"{self._title}: {error}") from None
        if "unmade" in self.registered:
            raise RemoteError(runtime_messages.unmade(plugin, self.registered), self.registered["traceback"])
        for address in self.registered["gone"]:
            if address in before:
                raise ProcessExited(self._lost(before[address]))

    def probe(self, addresses: Mapping[str, str], deadline: Deadline) -> dict[str, PluginAnswer]:
        """Ask each of these workers what it has of the plugin."""
        answers = self._cluster.agent.call(
            "probe",
            name=self.registered["name"],
            question=self._question,
            workers=list(addresses.values()),
            seconds=max(0.1, deadline.remaining - _MARGIN_SECONDS),
            deadline=deadline,
        )
        return {name: answers[address] for name, address in addresses.items()}

    def facts_of(self, name: str, answer: PluginAnswer) -> PluginFacts:
        """Return what a worker answered; raise if it did not."""
        if "silent" in answer:
            raise TimedOut(f"{name} was asked for its runtime: {answer['silent']}")
        if "error" in answer:
            if ended := self._ended_by_it(name):  # it was still registered when it was asked
                raise ProcessExited(ended)
            death = self._cluster.death_of_worker(name)
            why = self._cluster.with_names(answer["error"]) + (f"; {death}" if death else "")
            raise CheckFailed(f"{name} was asked for its runtime: {why}.{self._cluster.last_words(name)}")
        return answer["value"]

    def _ended_by_it(self, name: str) -> str:
        """Describe a worker whose log says that the plugin ended it; empty where it does not."""
        log = next(process.log for process in self._cluster.processes if process.name == name)
        lines = last_lines(log, most=400)
        starts = [number for number, line in enumerate(lines) if line.startswith(NOT_SET_UP)]
        return runtime_messages.not_set_up(self._plugin, name, lines[starts[-1] + 1 :], log) if starts else ""

    def _lost(self, name: str) -> str:
        """Describe a worker that the plugin took down; empty while nothing shows that it did."""
        if ended := self._ended_by_it(name):
            return ended
        death = self._cluster.death_of_worker(name)
        if name == LATE and not death:
            return ""
        where = f"{self._title}: while it was set up, {name} left the cluster"
        return f"{where}{f'; {death}' if death else ''}.{self._cluster.last_words(name)}"

    def await_setup(self, address: str) -> PluginFacts:
        """Wait until the plugin's setup has ended on the late worker, which is registered before that."""
        seen = "it was not asked"
        while not self._deadline.passed:
            answer = self.probe({LATE: address}, self._deadline.at_most(_SOON_SECONDS))[LATE]
            setup = answer["value"]["setup"] if "value" in answer else None
            if setup is not None and setup["done"]:
                return answer["value"]
            if lost := self._lost(LATE):
                raise ProcessExited(lost)
            if setup is not None:
                seen = "its setup has begun"
            else:
                seen = answer.get("error") or answer.get("silent") or "it was not given the plugin"
            time.sleep(_POLL_SECONDS)
        raise TimedOut(
            f"{self._title}: {LATE}, which joined after the others, was not set up within "
            f"{self._deadline.seconds:g} s; seen last: {seen}.{self._cluster.last_words(LATE)}"
        )

    def judge(self, facts: Mapping[str, PluginFacts]) -> None:
        """Raise `CheckFailed` with everything that is wrong with what the workers reported."""
        faults: dict[str, list[Fault]] = {}
        for name, one in facts.items():
            if found := list(runtime_messages.faults(self._plugin, one, self.registered)):
                faults[name] = found
        for name, fault in runtime_messages.differences(self._plugin, facts):
            faults.setdefault(name, []).append(fault)
        if not faults:
            if "error" in self.registered:
                text = f"{self._title}: registering it raised {self.registered['error']}"
                raise RemoteError(text, self.registered["traceback"])
            return
        if [*faults] == [LATE]:
            others = [name for name in facts if name != LATE]
            as_asked = f"({', '.join(others)} {'is' if len(others) == 1 else 'are'} as asked)"
            where = f"{self._title}, on {LATE}, which joined after the registration {as_asked}"
            raise CheckFailed(
                message(where, faults, f"Its log: {self._cluster.late.log}" if self._cluster.late else "")
            )
        count = counted(len(faults), facts, "workers")
        raise CheckFailed(message(f"{self._title}, {count}", faults, named=True))


def _register_again(plugin: PluginSettings, cell: CheckedCell, deadline: Deadline) -> None:
    """Register it in a cluster that was restarted; the check has reported already whether it works."""
    with contextlib.suppress(ModelopsError):
        _Runtime(plugin, cell.cluster, deadline)


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
