"""The task that shows which process works. It travels into the cell as source."""

from __future__ import annotations

from typing import Any


def run_task(path: str) -> dict[str, Any]:
    """Call `module:function` on this worker; what it returned, its seconds, and the worker's own pid.

    And, where the process whose pid it returned is still there, when that was started, as the system says.
    """
    import functools
    import importlib
    import os
    import time

    import psutil  # which distributed needs, too

    module, _, name = path.partition(":")
    function: Any = functools.reduce(getattr, name.split("."), importlib.import_module(module))
    began = time.perf_counter()
    answer = function()
    seconds = time.perf_counter() - began
    pid = answer.get("pid") if isinstance(answer, dict) else answer
    try:
        start = psutil.Process(pid).create_time()
    except (psutil.Error, TypeError, ValueError):
        start = None
    return {"value": answer, "seconds": seconds, "worker": os.getpid(), "start": start}
