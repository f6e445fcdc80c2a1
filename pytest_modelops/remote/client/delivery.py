"""Copies bundles and what runs them to the workers of a deployment, and has them removed. See `worker/delivered.py`."""

from __future__ import annotations

import io
import os
import pickle
import secrets
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..shared.bundle_messages import PUT
from ..shared.waiting import poll
from ..worker import serving
from ..worker.delivered import left
from .connection import Call, Connection, Failure
from .tasks import Future, Tasks, define

_OPERATIONS = ("install", "handshake", "close", "fresh")
_OURS = __name__.rsplit(".", 2)[0]
_PACKAGE = Path(__file__).parents[1]
_WITHDRAW_SECONDS = 8.0
_POLL_SECONDS = 0.1


def by_value(function: Any) -> bytes:
    """Return a function of ours with all that it uses of ours, for a process that has nothing of it."""
    from distributed.protocol import pickle as dask_pickle  # Dask's start takes long

    cloudpickle = dask_pickle.cloudpickle  # type: ignore[attr-defined] # it imports it
    cloudpickle.register_pickle_by_value(sys.modules[_OURS])
    packed: bytes = cloudpickle.dumps(function)
    return packed


def request(function: Any, *arguments: object) -> dict[str, object]:
    """Return the request, which is no task, that a worker calls a function of ours with itself as `dask_worker`."""
    return {
        "op": "run",
        "function": by_value(function),
        "args": pickle.dumps(arguments),
        "kwargs": pickle.dumps({}),
        "wait": True,
    }


class Delivery:
    """What this client has copied to workers; it stays while the client lives.

    Args:
        files: directory of what is copied.
    """

    def __init__(self, connection: Connection, tasks: Tasks, files: str) -> None:
        self._connection, self._tasks, self._files = connection, tasks, Path(files)
        self._token = secrets.token_hex(4)
        self._kept: list[tuple[str, Future]] = []
        self._has: dict[str, list[str]] = {}
        """Names of what each worker has, by address."""

    @property
    def served(self) -> str:
        """Name of what answers for bundles on the workers."""
        return f"{serving.HANDLER}_{self._token}"

    def places(self, seconds: float) -> dict[str, str]:
        """Return the directory of what is copied, by the address of each worker."""
        workers = self._connection.ask_scheduler("identity", seconds=seconds)["workers"]
        return {
            address: os.path.join(one["local_directory"], f"modelops-{self._token}") for address, one in workers.items()
        }

    def deliver(self, names: list[str], workers: list[str], seconds: float) -> bool:
        """Copy files and directories, named relative to `put/`, to those of these workers that do not have them yet."""
        function = define({"source": (_PACKAGE / "worker" / "delivered.py").read_text("utf-8"), "name": "deliver"})
        futures: dict[str, Future] = {}
        for lacking in dict.fromkeys(tuple(self._lacking(one, names)) for one in workers):
            of_these = [one for one in workers if lacking == tuple(self._lacking(one, names))]
            if not lacking:
                continue
            first = "" in lacking
            arguments = (self._token, self._archive(lacking), _OPERATIONS if first else ())
            self._connection.reserve(Call(function, arguments, len(of_these)))
            futures.update({one: self._tasks.submit(function, *arguments, worker=one) for one in of_these})
        self._kept += futures.items()  # also of what fails: it may have begun
        poll(
            lambda: all(future.status != "pending" for future in futures.values()),
            end=time.monotonic() + seconds,
            every=_POLL_SECONDS,
        )
        for address, future in futures.items():
            if future.status != "finished":
                why = future.exception(timeout=1) if future.status == "error" else f"not within {seconds:g} s"
                raise Failure(f"the files were not copied to {address}: {why}")
            self._has[address] = ["", *names]
        return True

    def _lacking(self, worker: str, names: list[str]) -> Sequence[str]:
        """Return what a worker does not have; the empty name is the package of ours."""
        return [name for name in ("", *names) if name not in self._has.get(worker, ())]

    def _archive(self, names: Sequence[str]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name in names:
                source = self._files / PUT / name if name else _PACKAGE
                archive.add(source, PUT + name if name else "modelops_remote", filter=_without_bytecode)
        return file.getvalue()

    def withdraw(self) -> list[str]:
        """Have everything removed from the workers that are still there; return what is left, for people."""
        addresses = [address for address, _ in self._kept]
        for _, future in self._kept:
            future.release()
        self._kept, self._has = [], {}
        found: dict[str, list[str]] = {}
        end = time.monotonic() + _WITHDRAW_SECONDS
        while addresses:
            there = [one for one in dict.fromkeys(addresses) if one in self._connection.workers()]
            answers = self._connection.ask_each(there, request(left, self._token), max(1.0, end - time.monotonic()))
            found = {one: _said(answer) for one, answer in answers.items() if _said(answer)}
            if not found or time.monotonic() > end:
                break
            time.sleep(_POLL_SECONDS)
        return [f"{one}: {', '.join(what)}" for one, what in found.items()]


def _said(answer: Any) -> list[str]:
    value = answer.get("value", {})
    if value.get("status") == "OK":
        return list(value["result"])
    return [str(answer.get("silent") or answer.get("error") or value)]


def _without_bytecode(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name.split("/") else member
