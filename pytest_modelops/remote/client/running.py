"""A job that goes on while something happens to the cluster: it may end only when it is asked to."""

from __future__ import annotations

import threading
import time

from ..shared.facts import Progress, RunningReport, ShippedModule
from ..shared.waiting import poll
from ..worker.plugins import error_text
from .connection import Failure
from .tasks import Future, Tasks, counted, fan_in

_POLL_SECONDS = 0.01
_FIRST_SECONDS = 0.02
"""How long the first task takes, if there is one thread for tasks."""
_GROWTH = 1.015
"""How many times as long as the one before a task takes: of 400, the 300th takes 1.7 s."""
_BEFORE = 0.75
"""Which part of the replicates may be submitted before the job may end."""
_SHOWN_FAILURES = 5
_ENDED = {"error", "cancelled"}
"""States of a future that never is done."""


class RunningJob:
    """One job of `params` × `replicates` tasks, and an aggregate of each parameter set.

    A few tasks are always under way. Until the job may end they take longer and longer, so that it is not done first,
    however long that takes.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._reset()

    def _reset(self) -> None:
        self._may_end = threading.Event()
        self._replicates: list[Future] = []
        self._aggregates: dict[str, Future] = {}
        self._error = ""
        self._thread: threading.Thread | None = None

    def begin(
        self, *, modules: dict[str, ShippedModule], params: int, replicates: int, run: str, threads: int, seconds: float
    ) -> bool:
        """Begin to submit the tasks.

        Args:
            modules: `simulate(param, replicate, seconds)` and `aggregate(param, replicates)`.
            run: makes the tasks' keys unique.
            threads: how many tasks the cluster does at once.
            seconds: after which nothing more is submitted.
        """
        simulate, aggregate = fan_in(self._tasks.connection, modules, params, replicates)
        self._reset()
        most, end = int(_BEFORE * params * replicates), time.monotonic() + seconds

        def submit() -> None:
            for param in range(params):
                own = []
                for replicate in range(replicates):
                    self._await_turn(threads + 1, most, end)
                    pause = threads * _FIRST_SECONDS * _GROWTH ** len(self._replicates)
                    pause = 0.0 if self._may_end.is_set() else pause
                    key = f"sim-{run}-{param}-{replicate}"
                    own.append(self._tasks.submit(simulate, param, replicate, pause, key=key))
                    self._replicates.append(own[-1])
                self._aggregates[str(param)] = self._tasks.submit(aggregate, param, own, key=f"agg-{run}-{param}")

        def submit_all() -> None:
            try:
                submit()
            except BaseException as error:  # noqa: BLE001 - what ended the job
                self._error = str(error) if isinstance(error, Failure) else error_text(error)

        self._thread = threading.Thread(target=submit_all, daemon=True)
        self._thread.start()
        return True

    def _await_turn(self, at_once: int, most: int, end: float) -> None:
        """Wait until one more task may be submitted; raises `Failure` if a task has failed."""

        def is_due() -> bool:
            if failed := self._failed():
                raise Failure(next(iter(failed.values())))
            pending = sum(future.status == "pending" for future in self._replicates)
            return self._may_end.is_set() or (pending < at_once and len(self._replicates) < most)

        if not poll(is_due, end=end, every=_POLL_SECONDS):
            raise Failure("it was not complete when its time was over")

    def _failed(self) -> dict[str, str]:
        """Return the errors of the first few tasks that failed or were cancelled, by key."""
        futures = [*self._replicates, *list(self._aggregates.values())]
        return {
            future.key: _error_of(future) for future in [f for f in futures if f.status in _ENDED][:_SHOWN_FAILURES]
        }

    def _is_done(self) -> bool:
        submitting = self._thread is not None and self._thread.is_alive()
        return not submitting and all(
            one.status == "finished" for one in [*self._replicates, *self._aggregates.values()]
        )

    def progress(self) -> Progress:
        finished = sum(one.status == "finished" for one in list(self._replicates))
        return {"finished": finished, "error": self._error}

    def finish(self, seconds: float) -> RunningReport:
        """Let the job end, and wait until it has, or until something in it has failed."""
        end = time.monotonic() + seconds
        self._may_end.set()
        poll(lambda: self._error or self._failed() or self._is_done(), end=end, every=_POLL_SECONDS)
        failed = self._failed()
        results, processing = self._tasks.settle(
            {name: future for name, future in self._aggregates.items() if future.status != "cancelled"},
            pinned={},
            seconds=0.0 if failed or self._error else max(0.0, end - time.monotonic()),
        )
        return {
            "finished": self.progress()["finished"],
            "error": self._error or next(iter(failed.values()), ""),
            "results": results,
            "failed": failed,
            "processing": counted(processing),
        }


def _error_of(future: Future) -> str:
    try:
        future.result(timeout=1)
    except BaseException as error:  # noqa: BLE001 - of a cancelled future; `CancelledError` is no `Exception`
        return error_text(error)
    return future.status
