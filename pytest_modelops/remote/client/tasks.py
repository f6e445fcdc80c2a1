"""Tasks on the cluster: submitted with functions that the host sends as source, awaited, and their outcomes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol

from ..shared import plain
from ..shared.facts import Outcome, ShippedModule
from ..worker.plugins import error_text
from .connection import Call, Connection, Failure

_POLL_SECONDS = 0.01
_LOOK_AROUND_SECONDS = 0.5
"""How often the scheduler is asked who is still there, while tasks are awaited."""
_LEAST_SECONDS = 1.0
"""How long a result that is done has to arrive, also when the time is over."""
_FETCHED_AT_ONCE = 20
_LAST_SECONDS = 0.4
"""How long the scheduler has to say where tasks are, when their time is over."""
_LAST_TASK_SECONDS = 0.2
"""How long a task may still run when nobody waits for it any more."""

Processing = Mapping[str, Sequence[str]]
"""Keys of the tasks that each worker has, by address."""


class _WorkerGone(Exception):
    """The worker left that a task is bound to."""


class Future(Protocol):
    """A `distributed.Future`; its status is `pending`, `finished`, `error` and more."""

    key: str
    status: str

    def result(self, timeout: float) -> object: ...
    def exception(self, timeout: float) -> BaseException: ...
    def traceback(self, timeout: float) -> TracebackType: ...
    def release(self) -> None: ...


def define(module: ShippedModule) -> Any:
    """Return the function of a shipped module.

    Its namespace is named like that of a job's script, so that cloudpickle sends the function by value.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    try:
        exec(compile(module["source"], f"<{module['name']}>", "exec", dont_inherit=True), namespace)  # noqa: S102 - what it is for
    except Exception as error:
        raise Failure(
            f"{module['name']} could not be defined in the client's Python: {error_text(error)}", traceback.format_exc()
        ) from error
    function = namespace[module["name"]]
    return function if _can_travel(function) else _by_source(module)


def _can_travel(function: object) -> bool:
    """Return whether Dask can send a function with all that it uses."""
    from distributed.protocol import pickle  # Dask's start takes long

    try:
        pickle.cloudpickle.dumps(function)  # type: ignore[attr-defined] # Dask's own `dumps` logs what it cannot send
    except Exception:  # noqa: BLE001 - whatever a decorator made of it
        return False
    return True


_TRAMPOLINE = """
def {name}(*args, **kwargs):
    namespace = {{"__name__": "__main__"}}
    exec(compile(_SOURCE, "<{name}>", "exec"), namespace)
    return namespace[{name!r}](*args, **kwargs)
"""


def _by_source(module: ShippedModule) -> Any:
    """Return a function that the worker makes from its source.

    Pickle finds what `functools.lru_cache` makes by its module, and no worker has that module
    (https://github.com/dask/distributed/issues/5998).
    """
    namespace: dict[str, object] = {"__name__": "__main__", "_SOURCE": module["source"]}
    exec(_TRAMPOLINE.format(name=module["name"]), namespace)  # noqa: S102 - a function of ours around it
    return namespace[module["name"]]


def fan_in(connection: Connection, modules: Mapping[str, ShippedModule], params: int, replicates: int) -> Any:
    """Return `simulate` and `aggregate` of these modules, when so many tasks of them may be submitted."""
    simulate, aggregate = define(modules["simulate"]), define(modules["aggregate"])
    connection.reserve(
        Call(simulate, count=params * replicates), Call(aggregate, count=params, dependencies=replicates)
    )
    return simulate, aggregate


def counted(processing: Processing | None) -> dict[str, int] | None:
    """Return how many tasks each worker has, by address."""
    return None if processing is None else {worker: len(keys) for worker, keys in processing.items()}


class Tasks:
    """Submits tasks and waits for them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ended = 0
        """How often all waiting was ended; see `stuck`."""
        self._late: list[Future] = []
        """Futures of tasks that were not done in time, until the next is submitted: the scheduler forgets a task that
        nobody wants, and could not say where it was."""

    def submit(
        self,
        function: Any,
        *args: object,
        key: str | None = None,
        worker: str | None = None,
        resources: Mapping[str, int] | None = None,
    ) -> Future:
        """Submit a call, to the worker with this address where one is given."""
        self._late = []
        connection = self.connection
        future: Future = connection.client.submit(
            function,
            *args,
            pure=False,
            key=key,
            workers=connection.targets(worker, resources),
            resources=resources,
            priority=connection.priority,
        )
        return future

    def aggregation_resources(self, seconds: float) -> Mapping[str, int] | None:
        """Return the resources that an aggregate is submitted with, if any worker has them."""
        workers = self.connection.workers(seconds).values()
        return {"aggregation": 1} if any(worker["resources"].get("aggregation") for worker in workers) else None

    def call_each(
        self, module: ShippedModule, args: list[Any], workers: list[str | None], seconds: float
    ) -> dict[str, Outcome]:
        """Call a function on each of these workers, all of a group at once; `None` is any of them.

        Args:
            args: packed.
            workers: addresses.

        Returns:
            Outcomes by address, `None` as text.
        """
        function, arguments = define(module), tuple(plain.unpack(value) for value in args)
        self.connection.reserve(Call(function, arguments, len(workers)))
        end, outcomes = time.monotonic() + seconds, {}
        for group in self.connection.in_turn(workers):
            futures = {str(address): self.submit(function, *arguments, worker=address) for address in group}
            pinned = {address: address for address in group if address}
            outcomes.update(self.settle(futures, pinned=pinned, seconds=end - time.monotonic())[0])
        return outcomes

    def pickled(self, modules: dict[str, ShippedModule], args: list[Any]) -> dict[str, str]:
        """Return calls of functions as Dask would send them, in base64, by the functions' names in `modules`."""
        from distributed.protocol import pickle

        arguments = tuple(plain.unpack(value) for value in args)
        return {
            name: base64.b64encode(pickle.dumps((define(module), arguments))).decode()
            for name, module in modules.items()
        }

    def settle(
        self, futures: Mapping[str, Future], *, pinned: Mapping[str, str], seconds: float
    ) -> tuple[dict[str, Outcome], Processing | None]:
        """Wait until each future is done, its worker is gone, or the time is over.

        Args:
            pinned: address of the worker that a future must run on, by the future's name.

        Returns:
            Outcomes by name; and what is still processing, `None` if the scheduler does not answer.
        """
        end, ended = time.monotonic() + seconds, self._ended
        gone = self._await(futures, pinned, end)
        pending = _any_pending(futures, gone)
        processing = self._processing() if pending else {}
        nowhere = f"not assigned to any worker{self._paused()}" if pending and processing is not None else ""

        def outcome(name: str) -> Outcome:
            future = futures[name]
            if name in gone:
                return _gone(gone[name])
            if future.status == "pending" or processing is None:  # without a scheduler no result can be fetched
                return {"pending": _whereabouts(future.key, processing) or nowhere}
            return self._outcome(future, end, pinned.get(name))

        with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:  # Dask then asks for all results together
            fetched = {name: pool.submit(outcome, name) for name in futures}
            outcomes = {name: one.result() for name, one in fetched.items()}
        if self._ended == ended:
            self._late += [futures[name] for name, outcome in outcomes.items() if "pending" in outcome]
        return outcomes, processing

    def _await(self, futures: Mapping[str, Future], pinned: Mapping[str, str], end: float) -> dict[str, str]:
        """Wait for futures; returns the address of each worker that left, by its future's name."""
        gone: dict[str, str] = {}
        ended = self._ended
        look_around = time.monotonic() + _LOOK_AROUND_SECONDS
        while _any_pending(futures, gone) and time.monotonic() <= end and self._ended == ended:
            if time.monotonic() > look_around:
                # A task that is bound to a worker which died waits for ever, and Dask does not say so.
                # The scheduler may be busy, for which it has until the end, or just restart.
                with contextlib.suppress(OSError):
                    present = self.connection.workers(max(0.0, end - time.monotonic()))
                    left = {name: address for name, address in pinned.items() if address not in present}
                    gone |= {name: address for name, address in left.items() if futures[name].status == "pending"}
                look_around = time.monotonic() + _LOOK_AROUND_SECONDS
            time.sleep(_POLL_SECONDS)
        return gone

    def _outcome(self, future: Future, end: float, pinned: str | None) -> Outcome:
        """Return what came of a future that is done."""
        try:
            if future.status == "error":
                # With the worker's own traceback, instead of one through the client that asks.
                error, trace = future.exception(timeout=10), future.traceback(timeout=10)
            else:
                result = self._result(future, end, pinned)
                try:
                    return {"value": plain.pack(result, "what it returned")}
                except TypeError as refusal:
                    return {"error": str(refusal), "traceback": ""}
        except _WorkerGone:
            return _gone(str(pinned))
        except (TimeoutError, asyncio.TimeoutError):
            return {"pending": "done, but what it returned had not arrived by then"}
        except Exception as failure:  # noqa: BLE001 - a result that cannot come back is an outcome too
            error, trace = failure, failure.__traceback__  # type: ignore[assignment]
        return {"error": error_text(error), "traceback": "".join(traceback.format_exception(type(error), error, trace))}

    def _result(self, future: Future, end: float, pinned: str | None) -> object:
        """Fetch a result. If the worker is gone that had it, Dask waits for ever for one to compute it again."""
        end = max(end, time.monotonic() + _LEAST_SECONDS)
        while True:
            left = end - time.monotonic()
            try:
                return future.result(timeout=min(left, _LOOK_AROUND_SECONDS) if pinned else left)
            except (TimeoutError, asyncio.TimeoutError):
                if pinned and pinned not in self.connection.workers(max(0.0, end - time.monotonic())):
                    raise _WorkerGone from None
                if time.monotonic() >= end:
                    raise

    def _processing(self) -> Processing | None:
        """Ask the scheduler which tasks each worker has; `None` if it does not answer."""
        try:
            processing: Processing = self.connection.ask_scheduler("processing", seconds=_LAST_SECONDS)
        except OSError:  # also TimeoutError
            return None
        return processing

    def _paused(self) -> str:
        """Say which workers take no tasks because of their memory; empty if none, or if the scheduler is silent."""
        try:
            workers = self.connection.workers(_LAST_SECONDS)
        except OSError:
            return ""
        paused = [address for address, worker in workers.items() if worker["paused"]]
        return f"; paused, since they are short of memory: {', '.join(paused)}" if paused else ""

    def stuck(self, seconds: float, *, spared: Sequence[str] = ()) -> list[str]:
        """Return the addresses of workers that are still on a task although nobody waits for one any more.

        Subtasks count, which another worker's client has submitted, and so does a worker that has tasks and does not
        say which it runs. Calls that still wait for tasks end now, so that their tasks are not run again elsewhere.

        Args:
            spared: ids of clients whose tasks may run on.
        """
        self._ended += 1
        assigned = self._processing() or {}
        self._late = []
        before = self._running(assigned, seconds, spared)
        if not before:
            return []
        time.sleep(_LAST_TASK_SECONDS)  # a task that is just ending is not stuck
        now = self._running(assigned, seconds, spared)
        return [address for address, keys in now.items() if keys & before.get(address, set())]

    def _running(self, assigned: Processing, seconds: float, spared: Sequence[str]) -> dict[str, set[str]]:
        """Return the keys of the tasks that each worker's threads are on, by address, for workers with any.

        Args:
            assigned: taken for what a worker runs that does not answer.
        """
        allowed = set(self.connection.ask_scheduler("modelops_wanted", seconds=seconds, clients=list(spared)))
        answers = self.connection.ask_each(self.connection.workers(seconds), {"op": "modelops_running"}, seconds)
        found = {}
        for address, answer in answers.items():
            keys = answer.get("value", [str(key) for key in assigned.get(address, ())])
            if left := set(keys) - allowed:
                found[address] = left
        return found


def _any_pending(futures: Mapping[str, Future], gone: Mapping[str, str]) -> bool:
    return any(future.status == "pending" for name, future in futures.items() if name not in gone)


def _gone(address: str) -> Outcome:
    return {"gone": f"{address} left the cluster while the task was on it"}


def _whereabouts(key: str, processing: Processing | None) -> str:
    """Say where a task is that is not done; empty if no worker has it."""
    if processing is None:
        return "unaccounted for, because the scheduler does not answer"
    for worker, keys in processing.items():
        if key in keys:
            others = [str(other) for other in keys if other != key]
            besides = f", which also has {', '.join(others[:3])} to do" if others else ""
            return f"processing on {worker}{besides}"
    return ""
