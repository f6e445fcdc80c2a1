"""Bundles, from the client: requests to workers, and the bundle that is installed into running processes."""

from __future__ import annotations

import time
from typing import Any

from ..shared import plain
from ..shared.facts import Answer
from ..worker.bundles import Bundles
from ..worker.plugins import error_text
from ..worker.serving import HANDLER
from .connection import Connection, Failure
from .plugin import Registration


class ClientBundles:
    """Installs at most one bundle at a time into every worker, into this process and, if asked, into the scheduler."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bundles = Bundles("agent")
        self._installed = self._plugin = self._in_scheduler = ""

    def ask_workers(
        self, operation: str, arguments: Any, workers: list[str], seconds: float, served: str = HANDLER
    ) -> dict[str, Answer]:
        """Have these workers do something with a bundle, all at once and not as tasks.

        Args:
            operation: a method of `Bundles`, with its arguments.
            served: name of the request.

        Returns:
            By address; values are packed.
        """
        message = {"op": served, "operation": operation, "arguments": arguments}
        return {
            address: _without_envelope(answer)
            for address, answer in self._connection.ask_each(workers, message, seconds).items()
        }

    def install(self, name: str, arguments: Any, here: Any, in_scheduler: Any, seconds: float) -> dict[str, str]:
        """Install a bundle into every worker, by a plugin of Dask's, and into this process; remove any other.

        Args:
            name: of the plugin.
            arguments: of `Bundles.install_in_process`, on workers.
            here: of `Bundles.install_in_process`, in this process.
            in_scheduler: of `Bundles.install_in_process`, in the scheduler; `None` if it does not get the bundle.
            seconds: for all of it.

        Returns:
            `{}`, or `{"error": why registering the plugin, or asking the scheduler, failed}`. Each process says itself
            what it has (`inspect_process`).
        """
        from ..worker.installer_plugin import InstallBundle  # imports distributed, which takes long

        self.uninstall(seconds)
        end = time.monotonic() + seconds
        self._plugin, self._installed = name, here["location"]["name"]
        registration = Registration(self._connection.client, InstallBundle(name, arguments), name)
        self._bundles.install_in_process(**here)
        if in_scheduler is not None:
            self._in_scheduler = in_scheduler["location"]["name"]
            answer = self._ask_scheduler("install_in_process", in_scheduler, end - time.monotonic())
            if "error" in answer:
                return {"error": answer["error"]}
        if not registration.ended(end - time.monotonic()):
            raise TimeoutError(f"`register_plugin` did not return within {seconds:.0f} s")
        return {"error": error_text(registration.error)} if registration.error is not None else {}

    def uninstall(self, seconds: float) -> dict[str, str]:
        """Remove the installed bundle; returns `{}`, or `{"error": why that failed}`."""
        installed, self._installed = self._installed, ""
        plugin, self._plugin = self._plugin, ""
        in_scheduler, self._in_scheduler = self._in_scheduler, ""
        if installed:
            self._bundles.uninstall(installed)
        if plugin:
            try:
                self._connection.ask_scheduler("unregister_worker_plugin", seconds=seconds, name=plugin)
                if in_scheduler:
                    self._ask_scheduler("uninstall", {"name": in_scheduler}, seconds)
            except Exception as error:  # noqa: BLE001 - it is the answer
                return {"error": error_text(error)}
        return {}

    def inspect_process(self, **arguments: Any) -> Any:
        """Return what this process has of a bundle, packed (see `Bundles.inspect_process`)."""
        return plain.pack(self._bundles.inspect_process(**arguments))

    def inspect_scheduler(self, **arguments: Any) -> Any:
        """Return what the scheduler has of a bundle, packed (see `Bundles.inspect_process`)."""
        answer = self._ask_scheduler("inspect_process", arguments, 10.0)
        if "error" in answer:
            raise Failure("the scheduler could not be asked what it has of the bundle", answer["error"])
        return answer["value"]

    def _ask_scheduler(self, operation: str, arguments: Any, seconds: float) -> Answer:
        asked = {"operation": operation, "arguments": arguments}
        return _without_envelope(
            {"value": self._connection.ask_scheduler("modelops_bundles", seconds=seconds, **asked)}
        )


def _without_envelope(answer: Answer) -> Answer:
    """Turn what the worker's handler returned, `{"value"}` or `{"raised"}`, into an answer."""
    if "value" not in answer:
        return answer
    if "raised" in answer["value"]:
        return {"error": answer["value"]["raised"]}
    return {"value": plain.pack(answer["value"]["value"])}
