"""The worker plugin that brings a bundle into running workers; what it does there is `bundles.Bundles.bring`.

It is found by its name on workers, whose preload has this package, so that it also travels where functions do not.
Workers that join later, and those that a nanny has restarted, get it before they run tasks. Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

from distributed import WorkerPlugin


class BringBundle(WorkerPlugin):
    """Brings one bundle.

    Args:
        arguments: of `Bundles.bring`.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self._arguments = dict(arguments)

    async def setup(self, worker: Any) -> None:
        """Install it, not on the event loop: a worker that does not answer the scheduler is given up."""
        perform = functools.partial(worker.modelops_bundles.bring, **self._arguments)
        answer = await asyncio.get_running_loop().run_in_executor(None, perform)
        if "failed" in answer:
            raise RuntimeError(f"{answer['failed']}: {answer['cause']}")

    def teardown(self, worker: Any) -> None:
        """Take it away."""
        worker.modelops_bundles.take_away(self._arguments["location"]["name"])
