"""Bytecode of what uv installs: each source is compiled once for a Python, whatever environment it is in.

uv's own `--compile-bytecode` compiles every file again for every environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.uv import Runner
from pytest_modelops.errors import CheckFailed
from pytest_modelops.remote.runner import compiling

_LAST_CHARACTERS = 1000


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

    def compile(self, python: Path, top: Path, deadline: Deadline) -> None:
        """Give every source below a directory its bytecode.

        Raises:
            CheckFailed: it could not be written.
            TimedOut: the deadline passed.
        """
        finished = self._run(
            [str(python), "-I", "-W", "ignore", str(compiling.__file__), str(self._directory), str(top)],
            env=self._variables,
            cwd=top,
            deadline=deadline,
        )
        if finished.returncode != 0:
            raise CheckFailed(f"the modules in {top} could not be compiled: {finished.stderr[-_LAST_CHARACTERS:]}")
