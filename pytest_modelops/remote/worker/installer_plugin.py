"""The worker plugin that installs a bundle into running workers (`bundles.Bundles.install_in_process`).

Workers find it by name, because their preload has this package, so it arrives even where functions cannot be sent.
Workers that join later, and those that a nanny restarts, get it before they run tasks. Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

from distributed import WorkerPlugin


class InstallBundle(WorkerPlugin):
    """Installs one bundle.

    Args:
        arguments: of `Bundles.install_in_process`.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self._arguments = dict(arguments)

    async def setup(self, worker: Any) -> None:
        # Not on the event loop: the scheduler gives up a worker that does not answer.
        install = functools.partial(worker.modelops_bundles.install_in_process, **self._arguments)
        answer = await asyncio.get_running_loop().run_in_executor(None, install)
        if failure := answer["failure"]:
            raise RuntimeError(f"{failure['failed']}: {failure['cause']}")

    def teardown(self, worker: Any) -> None:
        worker.modelops_bundles.uninstall(self._arguments["location"]["name"])
