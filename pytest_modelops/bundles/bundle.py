"""A bundle and its settings: its location, and what cells run of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

INSTALLS = ("isolated", "workers", "everywhere")
"""Where a bundle is installed: an environment of its own on each worker, or running processes: the workers and the
client, or also the scheduler."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle and its settings.

    Attributes:
        name: for people and node ids; the directory's or the archive's, see `archive.name_of`.
        path: the directory or archive, absolute.
        entrypoint: what the wire function runs, `package.module/scenario` or `package.module:object`; `None` for
            nothing.
        params: the entry point's parameters, plain data as JSON has it.
        seed: of an execution; replicates of an aggregation have seeds of their own.
        targets: functions that aggregate, each `package.module:function` (old form `package.module/function`).
        target_data: the second argument of every target, plain data as JSON has it.
        imports: modules that must import on each worker, `package` or `package.module`.
        expect: name of an artifact → its content, UTF-8 text or `sha256:` and 64 hexadecimal digits.
        aggregation_params: parameter sets of the job that aggregates the bundle's own replicates.
        aggregation_replicates: replicates of each parameter set.
        install: one of `INSTALLS`.
        submits: functions that jobs submit themselves, each `package.module:function`.
    """

    name: str
    path: Path
    entrypoint: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    targets: tuple[str, ...] = ()
    target_data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    imports: tuple[str, ...] = ()
    expect: Mapping[str, str] = dataclasses.field(default_factory=dict)
    aggregation_params: int = 2
    aggregation_replicates: int = 3
    install: str = INSTALLS[0]
    submits: tuple[str, ...] = ()

    @property
    def in_workers(self) -> bool:
        """Whether running workers import it, without an environment or a runner of its own."""
        return self.install != "isolated"

    @property
    def in_scheduler(self) -> bool:
        """Whether the scheduler imports it, too."""
        return self.install == "everywhere"

    def __hash__(self) -> int:
        """Hash name and path; the mappings have no hash."""
        return hash((self.name, self.path))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patterns:
    """Regular expressions for how a deployment wants entry points and targets to be written; `None` for any way."""

    entrypoint: str | None = None
    target: str | None = None
