"""The agent of a cell whose cluster a Dask cluster class makes. Run as `agent.py` is; its contact is a file's path.

Scheduler and workers have no preload of ours, so they are given what answers the agent once the client is connected: by
Dask's own means for running a function on the scheduler and for registering a worker plugin.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from ..shared.cluster_messages import ClusterContact, WorkerName
from ..shared.waiting import poll
from . import agent
from .connection import Connection, Failure, ask_all

_POLL_SECONDS = 0.05
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PLUGIN = "modelops"


class _BySource:
    """Is unpickled as one of the names of `arrival.py`, from that file's source."""

    def __init__(self, name: str, packed: bytes) -> None:
        self._name, self._packed = name, packed

    def __reduce__(self) -> tuple[Any, ...]:
        with open(os.path.join(_PACKAGE, "worker", "arrival.py"), encoding="utf-8") as file:
            source = file.read()
        space = {"__name__": "modelops_arrival", "packed": self._packed}
        return eval, (f"exec(source, space) or space[{self._name!r}]", {"source": source, "space": space})


class Made(Connection):
    """A connection to a cluster whose scheduler's address is in a file, once it is made."""

    def _connected_client(self, contact: Mapping[str, str], seconds: float) -> Any:
        end = time.monotonic() + seconds
        import distributed  # noqa: F401 - it takes long, and the cluster is made meanwhile

        found = _awaited(contact["file"], end)
        security = pickle.loads(base64.b64decode(found["security"])) if found["security"] else None  # noqa: S301 - the maker's
        left = max(1.0, end - time.monotonic())
        return super()._connected_client({"address": found["address"], "security": security}, left)

    def join(self, seconds: float) -> bool:
        """Have the scheduler, the workers and all later ones answer what checks ask."""
        end, packed = time.monotonic() + seconds, _packed()
        answer = self.ask_scheduler("run_function", seconds=seconds, function=_pickled("on_scheduler", packed))
        _raise_if_error(answer, "the scheduler")
        register = functools.partial(
            self.ask_scheduler, "register_worker_plugin", plugin=_pickled("plugin", packed), name=_PLUGIN
        )
        try:
            answers = register(seconds=end - time.monotonic(), idempotent=False)
        except TypeError:  # it has no such parameter before 2023.4
            answers = register(seconds=end - time.monotonic())
        for worker, one in answers.items():
            _raise_if_error(one, worker)
        return True

    def name_workers(self, names: Mapping[str, WorkerName], seconds: float) -> list[str]:
        """Tell workers, by address, what they are called; return the addresses of those that have answered."""
        asked: dict[str, Callable[[], Any]] = {
            address: functools.partial(self.ask_worker, address, {"op": "modelops_name", **name}, seconds)
            for address, name in names.items()
        }
        return [address for address, answer in ask_all(asked, seconds).items() if answer.get("value") is True]

    def signal_worker(self, address: str, pid: int, number: int, seconds: float) -> bool:
        """Have a worker's nanny, which is on the worker's machine, send it a signal; return whether it did."""
        message = {"op": "run", "function": pickle.dumps(functools.partial(os.kill, pid, number), protocol=4)}
        try:
            answer = self._broadcast(message, [address], seconds=seconds, nanny=True)[address]
        except (TimeoutError, KeyError):  # KeyError: the worker has left in the meantime
            return False
        return isinstance(answer, dict) and answer.get("status") == "OK"

    def worker_logs(self, seconds: float) -> dict[str, str]:
        """Return the last lines of Dask's own log in each worker, by address, the earliest first."""
        answers = self.ask_scheduler("worker_logs", seconds=seconds)
        return {
            address: "\n".join(line for _, line in reversed(lines))
            for address, lines in answers.items()
            if isinstance(lines, (list, tuple))
        }


def _awaited(path: str, end: float) -> ClusterContact:
    if not poll(lambda: os.path.exists(path), end=end, every=_POLL_SECONDS):
        raise Failure("no cluster was made")
    with open(path, encoding="utf-8") as file:
        contact: ClusterContact = json.load(file)
    return contact


def _pickled(name: str, packed: bytes) -> bytes:
    return pickle.dumps(_BySource(name, packed), protocol=4)  # any Python from 3.9 on reads it


def _packed() -> bytes:
    """Return the package as a ZIP archive, without what only clients need."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, directories, names in os.walk(_PACKAGE):
            directories[:] = [name for name in directories if name not in ("client", "__pycache__")]
            for name in names:
                path = os.path.join(parent, name)
                archive.write(path, os.path.join("modelops_remote", os.path.relpath(path, _PACKAGE)))
    return content.getvalue()


def _raise_if_error(answer: Any, who: str) -> None:
    """Raise what running our code there raised, as Dask answers it."""
    if isinstance(answer, Mapping) and (error := answer.get("exception_text") or answer.get("exception")):
        raise Failure(f"{who} could not be prepared for checks: {error}", str(answer.get("traceback_text") or ""))


def offered(made: Made) -> agent.Methods:
    """Return what pytest may call."""
    further = made.join, made.name_workers, made.signal_worker, made.worker_logs
    return {**agent.methods(made), **{method.__name__: method for method in further}}


if __name__ == "__main__":
    agent.main(Made, offered)
