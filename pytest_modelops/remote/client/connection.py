"""The cell's `distributed.Client`, and requests to the scheduler and the workers over Dask's own connection."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..shared.facts import (
    Answer,
    ClientStatus,
    ClusterFacts,
    ConnectionState,
    PreloadSetup,
    ProcessFacts,
    RegisteredWorker,
)
from ..worker import modelops_preload
from ..worker.plugins import error_text


class Failure(Exception):
    """A request failed, with a message for people.

    Attributes:
        traceback: the cell's own; empty where it says no more than the message.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.traceback = trace


@dataclasses.dataclass(frozen=True)
class Call:
    """A call that is sent as a task.

    Attributes:
        count: how many tasks call it.
        dependencies: how many tasks' results each of them takes.
    """

    function: Any
    arguments: tuple[Any, ...] = ()
    count: int = 1
    dependencies: int = 0


class Connection:
    """A client that connects in the background, from the beginning."""

    def __init__(self, contact: Any, seconds: float) -> None:
        self._client: Any = None
        self._connected = threading.Event()
        self._failure: Failure | None = None
        # The import takes longest, so it begins while the scheduler and the workers start.
        threading.Thread(target=self._connect, args=(contact, seconds), daemon=True).start()

    def _connect(self, contact: Any, seconds: float) -> None:
        try:
            self._client = self._connected_client(contact, seconds)
        except Failure as failure:
            self._failure = failure
        except BaseException as error:  # noqa: BLE001 - `connect` raises it
            self._failure = Failure(error_text(error), traceback.format_exc())
        self._connected.set()

    def _connected_client(self, contact: Any, seconds: float) -> Any:
        from distributed import Client

        return Client(**contact, timeout=seconds, set_as_default=False, name="modelops-agent")

    @property
    def client(self) -> Any:
        """The connected client."""
        if self._client is None:
            raise Failure("the client is not connected" + (f": {self._failure}" if self._failure else ""))
        return self._client

    priority = 0
    """Of the tasks, as Dask has it."""

    def reserve(self, *calls: Call) -> None:
        """Prepare to send these; raises `Failure` if the cluster may not get them."""

    def targets(self, worker: str | None, resources: Mapping[str, int] | None = None) -> list[str] | None:  # noqa: ARG002
        """Return which workers may do a task that is for this one, or for any; `None` if all may.

        Args:
            resources: that the task takes.
        """
        return [worker] if worker else None

    def in_turn(self, workers: list[str | None]) -> list[list[str | None]]:
        """Return these workers in groups, each of which gets its tasks when those of the group before are done."""
        return [workers]

    def connect(self, seconds: float) -> ConnectionState:
        """Wait until the client is connected."""
        if not self._connected.wait(seconds):
            return {"connected": False}
        if self._failure is not None:
            raise self._failure
        return {"connected": True, "scheduler": self.client.scheduler.address}

    def status(self) -> ClientStatus:
        """Return whether the client is connected now; it may have lost the scheduler since it first was."""
        if not self._connected.is_set():
            return {"status": "connecting", "connection": 0, "error": ""}
        if self._failure is not None:
            return {"status": "failed", "connection": 0, "error": str(self._failure)}
        return {"status": str(self.client.status), "connection": id(self.client.scheduler_comm), "error": ""}

    def retire(self, worker: str, seconds: float) -> bool:
        """Have a worker's results moved to others, and the worker closed; return whether the scheduler had it."""
        return bool(self.ask_scheduler("retire_workers", seconds=seconds, workers=[worker], close_workers=True))

    def close(self) -> bool:
        """Close the client, so that the scheduler forgets it before the scheduler is asked to end."""
        if self._client is not None:
            self._client.close(timeout=1)
        return True

    def ask_scheduler(self, operation: str, /, *, seconds: float = 10.0, **arguments: Any) -> Any:
        """Call an operation of the scheduler; plain data both ways."""

        async def ask() -> Any:
            return await getattr(self.client.scheduler, operation)(**arguments)

        try:
            return self.client.sync(ask, callback_timeout=seconds)
        except asyncio.TimeoutError as error:  # not the built-in TimeoutError before Python 3.11
            raise TimeoutError(f"the scheduler did not answer {operation!r} within {seconds:.0f} s") from error

    def _broadcast(
        self, message: Mapping[str, object], workers: list[str], *, seconds: float, nanny: bool = False
    ) -> Any:
        """Send a message to workers, or to their nannies; returns by worker an answer or an exception."""
        return self.ask_scheduler(
            "broadcast", seconds=seconds, msg=message, workers=workers, nanny=nanny, on_error="return"
        )

    def workers(self, seconds: float = 10.0) -> dict[str, RegisteredWorker]:
        """Return every worker that is registered, by address."""
        found = self.ask_scheduler("identity", seconds=seconds)["workers"]
        return {
            address: {
                "name": str(worker.get("name") or worker.get("id")),
                "memory_limit": int(worker.get("memory_limit") or 0),
                "resources": worker.get("resources", {}),
                "paused": worker.get("status") == "paused",
            }
            for address, worker in found.items()
        }

    def nannies_watch(self, workers: list[str], seconds: float) -> bool:
        """Return whether the nannies of these registered workers have noticed that they run.

        A nanny answers nothing before it has started, and that is when it has noticed.
        """
        try:
            self._broadcast({"op": "identity"}, workers, seconds=seconds, nanny=True)
        except (TimeoutError, KeyError):  # KeyError: a worker has left in the meantime
            return False
        return True

    def facts(self, variables: list[str], seconds: float) -> ClusterFacts:
        """Ask every process for its facts, all at once, within `seconds` together."""
        asked: dict[str, Callable[[], Any]] = {
            address: functools.partial(
                self.ask_worker, address, {"op": "modelops_facts", "variables": variables}, seconds
            )
            for address in self.workers(seconds)
        }
        asked["scheduler"] = functools.partial(self.ask_scheduler, "modelops_facts", seconds=seconds)
        facts = {name: facts_of(answer) for name, answer in ask_all(asked, seconds).items()}
        return {"client": modelops_preload.facts(), "scheduler": facts.pop("scheduler"), "workers": facts}

    def preloads(self, nannies: bool, seconds: float) -> dict[str, list[PreloadSetup]]:
        """Return how preloads went: of the scheduler, of each worker by address, and of the nanny of each.

        A process that does not answer is left out.
        """
        message, workers = {"op": "modelops_preloads"}, list(self.workers(seconds))
        found = {"scheduler": self.ask_scheduler("modelops_preloads", seconds=seconds)}
        found.update(self._broadcast(message, workers, seconds=seconds))
        if nannies:
            with contextlib.suppress(KeyError):  # a worker has left in the meantime
                answers = self._broadcast(message, workers, seconds=seconds, nanny=True)
                found.update({f"nanny of {address}": answer for address, answer in answers.items()})
        return {name: list(answer) for name, answer in found.items() if isinstance(answer, (list, tuple))}

    def ask_each(self, workers: Iterable[str], message: Mapping[str, object], seconds: float) -> dict[str, Answer]:
        """Send a message to each of these workers, all at once; returns their answers by address."""
        return ask_all(
            {address: functools.partial(self.ask_worker, address, message, seconds) for address in workers}, seconds
        )

    def ask_worker(self, address: str, message: Mapping[str, object], seconds: float) -> Any:
        answer = self._broadcast(message, [address], seconds=seconds)[address]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def ask_all(asked: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Answer]:
    """Call each function in a thread of its own, all at once, and wait."""
    answers: dict[str, Answer] = {}

    def ask(name: str) -> None:
        try:
            answers[name] = {"value": asked[name]()}
        except TimeoutError:
            answers[name] = {"silent": f"no answer within {seconds:.0f} s"}
        except Exception as error:  # noqa: BLE001 - it is the answer
            answers[name] = {"error": error_text(error)}

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def facts_of(answer: Answer, read: Callable[[Any], ProcessFacts] = lambda value: value) -> ProcessFacts:
    if "value" in answer:
        return read(answer["value"])
    return {"silent": answer["silent"]} if "silent" in answer else {"error": answer["error"]}
