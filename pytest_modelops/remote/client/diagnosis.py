"""Asking the scheduler and the workers for the tasks that are not done, all at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..shared.diagnosis_messages import Diagnosed
from .connection import Connection, ask_all


def diagnose(connection: Connection, workers: list[str], seconds: float) -> Diagnosed:
    """Ask for everything at once, within `seconds`; who does not answer in time is said to be silent.

    Args:
        workers: addresses.
    """
    asked: dict[str, Callable[[], Any]] = {
        address: functools.partial(connection.ask_worker, address, {"op": "modelops_pending"}, seconds)
        for address in workers
    }
    asked[""] = functools.partial(connection.ask_scheduler, "modelops_pending", seconds=seconds)
    answers = ask_all(asked, seconds)
    of_scheduler = answers.pop("")
    if "value" in of_scheduler:
        return {"scheduler": of_scheduler["value"], "workers": answers}
    return {"silent": of_scheduler.get("silent") or of_scheduler["error"], "workers": answers}
