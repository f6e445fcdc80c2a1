"""Files of ours on a worker of a deployment, as a task puts them there, and their end.

The client sends this file as source, so it imports nothing of ours. It is all tied to the task's result: when nobody
wants that any more, because the client has closed or was killed, Dask drops it, and everything is removed. The
directory is in the worker's own, which Dask removes if the worker is killed. Python 3.9 and up.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import shutil
import sys
import tarfile
import threading
import time
import weakref
from typing import Any

_TIMES, _PAUSE_SECONDS = 20, 0.1


class Delivered:
    """What keeps the files on this worker: while it exists, they do. A copy elsewhere keeps nothing."""

    def __reduce__(self) -> Any:
        return str, ()


def deliver(token: str, archive: bytes, operations: tuple[str, ...]) -> Any:
    """Unpack an archive on this worker; with operations, for the first time: then also answer them.

    Args:
        token: names the directory, the package, and what answers.
        archive: a tar file; the first one has the package `modelops_remote`.
        operations: of `Bundles` that the worker performs on request.
    """
    from distributed import get_worker

    worker: Any = get_worker()
    root = os.path.join(worker.local_directory, f"modelops-{token}")
    if operations:
        os.makedirs(root, mode=0o700)
    kept = Delivered()
    if operations:
        weakref.finalize(kept, remove_in_thread, worker, root, token)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)  # before 3.12
        files.extractall(root)  # noqa: S202 - it is ours
    if operations:
        name = f"modelops_remote_{token}"
        package = os.path.join(root, "modelops_remote")
        spec: Any = importlib.util.spec_from_file_location(
            name, os.path.join(package, "__init__.py"), submodule_search_locations=[package]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        bundles = importlib.import_module(f"{name}.worker.bundles").Bundles(str(worker.name), root)
        setattr(worker, f"modelops_bundles_{token}", bundles)
        serving: Any = importlib.import_module(f"{name}.worker.serving")
        serving.serve_bundles(worker, lambda: bundles, operations, f"modelops_bundles_{token}")
    return kept


def remove_in_thread(worker: Any, root: str, token: str) -> None:
    """Remove everything; not on the event loop, which is where Dask drops results."""
    threading.Thread(target=remove, args=(worker, root, token), daemon=True).start()


def remove(worker: Any, root: str, token: str) -> None:
    """End what runs of it, and remove it from the worker's process and from the disk."""
    name = f"modelops_remote_{token}"
    worker.handlers.pop(f"modelops_bundles_{token}", None)
    worker.__dict__.pop(f"modelops_bundles_{token}", None)
    supervised: Any = sys.modules.get(f"{name}.shared.supervised")
    for _ in range(_TIMES):  # a request that has not ended may start another process, or write another file
        if supervised is not None:
            supervised.close_all()
        shutil.rmtree(root, ignore_errors=True)
        time.sleep(_PAUSE_SECONDS)
        if not os.path.exists(root):
            break
    for module in [*sys.modules]:
        if module.partition(".")[0] == name:
            sys.modules.pop(module, None)


def left(token: str, dask_worker: Any) -> list[str]:
    """Return what is still there of it, for people."""
    root = os.path.join(dask_worker.local_directory, f"modelops-{token}")
    found = [root] if os.path.exists(root) else []
    found += [f"its handler {name}" for name in dask_worker.handlers if name.endswith(f"_{token}")]
    return [*found, *(f"its module {name}" for name in [*sys.modules] if name == f"modelops_remote_{token}")]
