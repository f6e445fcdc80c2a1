"""Bytecode of what uv installs: each source is compiled once for a Python, whatever environment it is in.

uv's own `--compile-bytecode` compiles every file again for every environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.uv import Runner
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.runner import compiling

_LAST_CHARACTERS = 1000
COMMAND_LINE = ("distributed.cli.dask_scheduler", "distributed.cli.dask_worker")
"""Dask's command line, which loads what scheduler, nannies, workers and clients consist of."""
LOADED = (
    *COMMAND_LINE,
    *("tornado.platform.asyncio", "dask.distributed"),
    *("distributed.http.health", "distributed.http.proxy", "distributed.http.statics"),
    *("distributed.http.scheduler.info", "distributed.http.scheduler.json", "distributed.http.scheduler.prometheus"),
    *("distributed.http.worker.prometheus", "distributed.http.scheduler.missing_bokeh"),
    *("distributed.dashboard.worker", "distributed.dashboard.scheduler"),
)
"""What they load when they start: its first loads most of it."""


class Loaded(NamedTuple):
    """What importing some modules loads.

    Attributes:
        modules: the first is in every environment, the others may be missing.
        others: whether packages of which it loads nothing are meant, too, as a whole.
    """

    modules: Sequence[str]
    others: bool


class Bytecode:
    """A store of bytecode.

    Args:
        directory: that several sessions may share.
        variables: of the process that compiles.
    """

    def __init__(self, directory: Path, *, run: Runner, variables: Mapping[str, str]) -> None:
        self._directory = directory
        self._run = run
        self._variables = variables

    def compile(self, python: Path, top: Path, deadline: Deadline, *, only: Loaded | None = None) -> None:
        """Give sources below a directory their bytecode, except tests.

        Raises:
            CheckFailed: it could not be written.
            TimedOut: the deadline passed.
        """
        selected = (",".join(only.modules), "others" if only.others else "") if only else ()
        finished = self._run(
            [str(python), "-I", "-W", "ignore", str(compiling.__file__), str(self._directory), str(top), *selected],
            env=self._variables,
            cwd=top,
            deadline=deadline,
        )
        if finished.returncode != 0:
            raise CheckFailed(f"the modules in {top} could not be compiled: {finished.stderr[-_LAST_CHARACTERS:]}")
