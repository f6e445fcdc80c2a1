"""Directories of runs in the cache, which hold the cells' logs."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

_KEPT_RUNS = 20


def new_directory(cache: Path, kind: str = "runs") -> Path:
    """Return the path of this run's directory, which is not made yet."""
    now = datetime.datetime.now().astimezone()
    return cache / kind / f"{now:%Y%m%d-%H%M%S}-{os.getpid()}"


def forget_old_runs(runs: Path) -> None:
    """Remove the directories of all but the latest runs and those that are still running."""
    for directory in sorted(runs.glob("*"))[:-_KEPT_RUNS]:
        if not _is_running(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _is_running(directory: Path) -> bool:
    """Whether a process has the pid in the directory's name; another process with that pid only delays tidying."""
    try:
        os.kill(int(directory.name.rpartition("-")[2]), 0)
    except PermissionError:  # another user's process
        return True
    except (OSError, OverflowError, ValueError):
        return False
    return True
