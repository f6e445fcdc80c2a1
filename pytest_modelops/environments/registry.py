"""The table of backends: what a setting's word for one opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pytest_modelops.environments.base import Backend, EnvironmentSpec
from pytest_modelops.environments.process import ProcessBackend

BACKENDS: dict[str, Callable[..., Backend]] = {"process": ProcessBackend}
"""Each is called with `spec`, `cache`, `fresh` and `folder` (of the run)."""
NAMES = ("auto", *BACKENDS)
"""What a setting may say."""


def open_backend(name: str, *, spec: EnvironmentSpec, cache: Path, fresh: bool, folder: Path) -> Backend:
    """Open a backend by its name; `auto` is the best there is on this machine."""
    return BACKENDS["process" if name == "auto" else name](spec=spec, cache=cache, fresh=fresh, folder=folder)
