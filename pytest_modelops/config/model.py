"""What settings come to: frozen types that the rest of the package reads, and nothing of how they are written."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BACKENDS = ("auto", "docker", "process")
"""What a setting may say; `backends.registry` opens them."""

FAILED_WHEN = ("error", "outputs.error", "outputs.empty")
"""What makes a replicate a failed one although Dask calls it finished; see `bundle_words.failures`."""


PROTOCOLS = ("json-rpc", "one-shot")
"""How a runner is asked.

Frames to one process (`remote/worker/runner_process.py`), or a process a request (`remote/worker/one_shot.py`).
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AggregationSettings:
    """Size of the aggregation job: `params` × `replicates` tasks, and `params` aggregates of them.

    Attributes:
        failed_when: which of `FAILED_WHEN` make a bundle's replicate a failed one.
    """

    params: int = 20
    replicates: int = 20
    failed_when: tuple[str, ...] = FAILED_WHEN


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """How the runner of a bundle is started.

    Attributes:
        command: its command line; `{python}` is the interpreter of the bundle's environment, `{runner}` the runner's
            path, `{bundle}`, `{venv}`, `{digest}` and `{wheels}` are the bundle's, `{version}` is the worker's Python.
        path: a file of the host's, or a directory with a `__main__.py`; or `module:file`, a file beside a module of the
            workers' environment; `None` for the reference runner.
        protocol: one of `PROTOCOLS`.
        installs: whether it installs the bundle by itself, into an environment that has nothing but pip.
        fresh_env: variables that make it install whatever there is; `None` where there are none.
    """

    command: tuple[str, ...] = (
        *("{python}", "{runner}", "--bundle-path", "{bundle}"),
        *("--venv-path", "{venv}", "--bundle-digest", "{digest}"),
    )
    path: Path | str | None = None
    protocol: str = PROTOCOLS[0]
    installs: bool = False
    fresh_env: Mapping[str, str] | None = None

    @property
    def reuses(self) -> bool:
        """Whether it may use an environment again: a one-shot runner has a new one for every request, if any."""
        return self.installs and self.protocol == PROTOCOLS[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """The worker plugin of a deployment, and what its runtime must be on every worker.

    Attributes:
        path: its class, `package.module:Class`, importable by client and workers.
        arguments: of the class, by keyword; plain data as TOML has it.
        probe: dotted attribute that every worker must have; empty when only `expect` is asked.
        expect: dotted attribute of the worker → its value: plain data, or `package.module:Class` for an object.
        processes: `COLD`, `WARM` or `DIRECT` → a function, `package.module:function`, that does something with the
            runtime on a worker and returns which process did it.
        tasks: how often such a function is called on each worker.
    """

    path: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probe: str = ""
    expect: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    processes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tasks: int = 4


COLD, WARM, DIRECT = PROCESSES = ("cold", "warm", "direct")
"""A new process for every task; one process of each worker for all of them; the worker's own process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What goes into a cell's environments besides Dask.

    Attributes:
        requirements: PEP 508 lines, or paths of a project directory or wheel, absolute.
        constraints: absolute path of a constraints file.
        as_of: resolve as if it were that day.
        rootdir: directory whose uv configuration applies.
    """

    requirements: tuple[str, ...] = ()
    constraints: Path | None = None
    as_of: datetime.date | None = None
    rootdir: Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How the parts are started.

    Attributes:
        workers: worker processes.
        threads: threads of each.
        nanny: whether each has a nanny, as is Dask's own default.
        worker_variables: environment variables of the workers.
        worker_arguments: further arguments of `dask worker`.
    """

    workers: int
    threads: int
    nanny: bool
    worker_variables: Mapping[str, str]
    worker_arguments: Sequence[str]
