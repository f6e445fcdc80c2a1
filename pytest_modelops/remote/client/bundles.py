"""Bundles, from the client: requests to workers, and the bundle that is installed into running processes."""

from __future__ import annotations

import time
from typing import Any

from ..shared import plain
from ..shared.facts import Answer
from ..worker.bundles import Bundles
from ..worker.plugins import error_text
from .connection import Connection
from .plugin import Registration


class ClientBundles:
    """Installs at most one bundle at a time into every worker and into this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bundles = Bundles("agent")
        self._installed = self._plugin = ""

    def ask_workers(self, operation: str, arguments: Any, workers: list[str], seconds: float) -> dict[str, Answer]:
        """Have these workers do something with a bundle, all at once and not as tasks.

        Args:
            operation: a method of `Bundles`, with its arguments.

        Returns:
            By address; values are packed.
        """
        message = {"op": "modelops_bundles", "operation": operation, "arguments": arguments}
        return {
            address: _without_envelope(answer)
            for address, answer in self._connection.ask_each(workers, message, seconds).items()
        }

    def install(self, name: str, arguments: Any, here: Any, seconds: float) -> dict[str, str]:
        """Install a bundle into every worker, by a plugin of Dask's, and into this process; remove any other.

        Args:
            name: of the plugin.
            arguments: of `Bundles.install_in_process`, on workers.
            here: of `Bundles.install_in_process`, in this process.
            seconds: for all of it.

        Returns:
            `{}`, or `{"error": why registering the plugin failed}`. Each process says itself what it has
            (`inspect_process`).
        """
        from ..worker.installer_plugin import InstallBundle  # imports distributed, which takes long

        self.uninstall(seconds)
        end = time.monotonic() + seconds
        self._plugin, self._installed = name, here["location"]["name"]
        registration = Registration(self._connection.client, InstallBundle(name, arguments), name)
        self._bundles.install_in_process(**here)
        if not registration.ended(end - time.monotonic()):
            raise TimeoutError(f"`register_plugin` did not return within {seconds:.0f} s")
        return {"error": error_text(registration.error)} if registration.error is not None else {}

    def uninstall(self, seconds: float) -> dict[str, str]:
        """Remove the installed bundle; returns `{}`, or `{"error": why that failed}`."""
        installed, self._installed = self._installed, ""
        plugin, self._plugin = self._plugin, ""
        if installed:
            self._bundles.uninstall(installed)
        if plugin:
            try:
                self._connection.ask_scheduler("unregister_worker_plugin", seconds=seconds, name=plugin)
            except Exception as error:  # noqa: BLE001 - it is the answer
                return {"error": error_text(error)}
        return {}

    def inspect_process(self, **arguments: Any) -> Any:
        """Return what this process has of a bundle, packed (see `Bundles.inspect_process`)."""
        return plain.pack(self._bundles.inspect_process(**arguments))


def _without_envelope(answer: Answer) -> Answer:
    """Turn what the worker's handler returned, `{"value"}` or `{"raised"}`, into an answer."""
    if "value" not in answer:
        return answer
    if "raised" in answer["value"]:
        return {"error": answer["value"]["raised"]}
    return {"value": plain.pack(answer["value"]["value"])}
