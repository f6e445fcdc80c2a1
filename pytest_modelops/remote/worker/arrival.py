"""Has a worker or a scheduler answer what checks ask, although it was started without a preload of ours.

The text of this file travels in a pickle that has its source and no bytecode, so it arrives where another Python runs.
`packed`, the package `modelops_remote` as a ZIP archive, travels beside it. Python 3.9 and up.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import io
import os
import shutil
import sys
import tempfile
import zipfile
from typing import Any, Optional

from distributed import WorkerPlugin

packed: bytes


def _preload(directory: Optional[str]) -> Any:  # noqa: UP045 - Python 3.9
    """Unpack the package unless this process has it, and return the module that serves.

    Args:
        directory: where to unpack it, which is removed with the process; a new one if `None`.
    """
    if "modelops_remote" not in sys.modules:
        where = tempfile.mkdtemp(prefix="modelops-", dir=directory)
        if directory is None:
            atexit.register(shutil.rmtree, where, ignore_errors=True)
        zipfile.ZipFile(io.BytesIO(packed)).extractall(where)  # noqa: F821 - it travels beside
        here = os.path.join(where, "modelops_remote")
        spec = importlib.util.spec_from_file_location(
            "modelops_remote", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
        )
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018
        package = sys.modules["modelops_remote"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module("modelops_remote.worker.modelops_preload")


def on_scheduler(dask_scheduler: Any) -> None:
    """Have the scheduler answer; called by Dask with it."""
    _preload(None).serve(dask_scheduler, [])


class Arrival(WorkerPlugin):
    """Has each worker answer, later ones and restarted ones too."""

    name = "modelops"

    def setup(self, worker: Any) -> None:
        preload = _preload(worker.local_directory)
        preload.serve(worker, [], registering=True)

        def modelops_name(name: str, log: str, **_: Any) -> bool:
            worker.modelops_bundles.rename(name)
            try:  # of a file system that workers and host share
                file = open(log, "a")  # noqa: SIM115 - it stays open, for signals
            except OSError:
                return True
            preload.print_stacks_into(file)
            return True

        worker.handlers["modelops_name"] = modelops_name


plugin = Arrival()
