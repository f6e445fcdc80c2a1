"""The task that shows which process works. It travels into the cell as source."""

from __future__ import annotations

from typing import Any


def run_task(path: str) -> dict[str, Any]:
    """Call `module:function` on this worker; what it returned, its seconds, and the worker's own pid."""
    import functools
    import importlib
    import os
    import time

    module, _, name = path.partition(":")
    function: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    began = time.perf_counter()
    told = function()
    return {"told": told, "seconds": time.perf_counter() - began, "worker": os.getpid()}
