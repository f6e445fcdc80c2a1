"""Worker plugins: made in the client as a job makes them, registered, and asked for on each worker."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from ..shared import plain
from ..shared.facts import Answer, PluginQuestion, RegisteredPlugin
from ..worker.plugins import class_of, error_text, origins
from .connection import Connection

_LOOK_AROUND_SECONDS = 0.5
"""How often the scheduler is asked who is still there, while a plugin is registered."""


class Registration:
    """A plugin that is being registered, in a thread: `register_plugin` waits for the setup on every worker.

    Attributes:
        error: what registering raised.
        traceback: of the error.
    """

    def __init__(self, client: Any, plugin: Any, name: str) -> None:
        self.error: BaseException | None = None
        self.traceback = ""
        self._register = getattr(client, "register_plugin", None) or client.register_worker_plugin  # before 2023.9.2
        self._thread = threading.Thread(target=self._run, args=(plugin, name), daemon=True)
        self._thread.start()

    def _run(self, plugin: Any, name: str) -> None:
        try:
            self._register(plugin, name=name)
        except BaseException as error:  # noqa: BLE001 - it is reported
            self.error, self.traceback = error, traceback.format_exc()

    def ended(self, seconds: float) -> bool:
        """Wait; returns whether registering has ended."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()


class Plugins:
    """Makes and registers worker plugins, and asks workers for them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, arguments: dict[str, object], question: PluginQuestion, seconds: float) -> RegisteredPlugin:
        """Make a worker plugin in this Python, and register it.

        What became of it on the workers, they say themselves (see `probe`).

        Args:
            arguments: packed, by keyword.
            question: what workers are going to be asked.
        """
        path, end = question["path"], time.monotonic() + seconds
        found: RegisteredPlugin = {"origins": origins(question)}
        try:
            plugin = make(path, {name: plain.unpack(value) for name, value in arguments.items()})
        except BaseException as error:  # noqa: BLE001 - a SystemExit of a module is reported too
            found["unmade"], found["traceback"] = error_text(error), traceback.format_exc()
            if isinstance(error, ModuleNotFoundError):
                found["module"] = error.name
            return found
        found["name"] = str(getattr(plugin, "name", None) or path)
        before = self._connection.workers(seconds)
        registration = Registration(self._connection.client, plugin, found["name"])
        while not registration.ended(_LOOK_AROUND_SECONDS):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"`register_plugin` did not return within {seconds:.0f} s: the plugin's setup has not ended on "
                    "every worker"
                )
            if gone := self._gone(before, end):
                found["gone"] = gone
                return found
        found["gone"] = []
        if registration.error is not None:
            found["error"], found["traceback"] = error_text(registration.error), registration.traceback
            found["gone"] = self._gone(before, end)
        return found

    def _gone(self, before: Iterable[str], end: float) -> list[str]:
        """Return which of these workers are not registered any more; none if the scheduler does not answer."""
        with contextlib.suppress(TimeoutError):
            return sorted(set(before) - set(self._connection.workers(max(0.1, end - time.monotonic()))))
        return []

    def probe(self, name: str, question: PluginQuestion, workers: list[str], seconds: float) -> dict[str, Answer]:
        """Ask these workers for the plugin that was registered by this name; returns a `PluginAnswer` by address."""
        return self._connection.ask_each(
            workers, {"op": "modelops_probe", "plugin": name, "question": question}, seconds
        )


def make(path: str, arguments: Mapping[str, object]) -> Any:
    """Return an instance of the class `module:Class`, made here as a job's client makes it.

    Raises:
        TypeError: it is not a worker plugin. Anything that the import or the class raises passes through.
    """
    module, _, name = path.partition(":")
    kind: Any = importlib.import_module(module)
    for step in name.split("."):
        kind = getattr(kind, step)
    made = kind(**arguments)
    from distributed import WorkerPlugin

    if not isinstance(made, WorkerPlugin):
        raise TypeError(f"{path} is a {class_of(made)}, which is not a distributed.WorkerPlugin")
    return made
