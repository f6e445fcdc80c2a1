"""Answers requests about bundles on a worker or the scheduler, which arrive over Dask's own connection. Python 3.9+."""

from __future__ import annotations

import asyncio
import concurrent.futures
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..shared.facts import WorkerAnswer

HANDLER = "modelops_bundles"
IN_SCHEDULER = ("install_in_process", "inspect_process", "uninstall")
IN_WORKER = ("install", "handshake", "close", "fresh", "reuse", "inspect_process")
_AT_ONCE = 8


def serve_bundles(server: Any, bundles: Callable[[], Any], operations: Sequence[str], name: str = HANDLER) -> None:
    """Answer requests of this name with these operations of what `bundles` returns."""
    threads = concurrent.futures.ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="modelops")

    async def answer(operation: str, arguments: Mapping[str, object], **_: Any) -> WorkerAnswer:
        if operation not in operations:
            return {"raised": f"no operation {operation!r}"}

        def perform() -> Any:
            return getattr(bundles(), operation)(**arguments)

        try:  # not on the event loop: the scheduler gives up a worker that does not answer
            return {"value": await asyncio.get_running_loop().run_in_executor(threads, perform)}
        except Exception:  # noqa: BLE001 - it is the answer
            return {"raised": traceback.format_exc()}

    server.handlers[name] = answer
