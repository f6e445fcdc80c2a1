"""A look at a worker of a deployment, which has nothing of ours: it changes nothing there.

The client sends this function with all that it uses, as a request that is no task, so busy workers answer, too.
Python 3.9 and up.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from .plugins import class_of, origins, probe

if TYPE_CHECKING:
    from ..shared.facts import LookQuestion, WorkerLook


async def look(question: LookQuestion, dask_worker: Any) -> WorkerLook:
    """Return what a worker has of what is asked for. Nothing is imported."""
    # Not on the event loop: a property of the user's may take its time.
    answer = functools.partial(_answer, question, dask_worker)
    return await asyncio.get_running_loop().run_in_executor(None, answer)


def _answer(question: LookQuestion, dask_worker: Any) -> WorkerLook:
    return {
        "pid": os.getpid(),
        "plugins": sorted(class_of(plugin) for plugin in dask_worker.plugins.values()),
        "values": probe(dask_worker, question["attributes"]),
        "origins": origins(question),
        "packages": {name: _version(name) for name in question["packages"]},
        "missing": [name for name in question["modules"] if not _is_found(name)],
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _is_found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is imported, and has no spec
        return True
