"""What the client's side of a fault is: counting a job's tasks, and filling a worker's memory."""

from __future__ import annotations

from ..shared.facts import TaskCount
from .connection import Connection


class ClientFaults:
    """Asks the scheduler and workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def count_tasks(self, operation: str, seconds: float) -> TaskCount:
        """Have the scheduler count the tasks that are submitted from now on.

        Args:
            operation: `begin`, `look` or `end`.
        """
        counts: TaskCount = self._connection.ask_scheduler("modelops_count", seconds=seconds, operation=operation)
        return counts

    def fill_memory(self, worker: str, most: int, seconds: float) -> bool:
        """Have the worker at this address begin to fill its memory, with so many bytes at most."""
        return bool(self._connection.ask_worker(worker, {"op": "modelops_fill_memory", "most": most}, seconds))
