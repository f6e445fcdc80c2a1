"""The command that runs a test, or a check of a cell, again."""

from __future__ import annotations

import shlex
from platform import python_version

import pytest

from pytest_modelops.checks.base import Check
from pytest_modelops.config.options import OPTIONS
from pytest_modelops.config.setting import Kind
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role
from pytest_modelops.matrix.making import excluded
from pytest_modelops.session import module
from pytest_modelops.session.configured import Configured

OF_THE_RUN = {option.name for option in OPTIONS if option.name in {"matrix", "cell"} or option.decides == ()} - {
    "cache"
}
"""Options that a command for a single test does not need again: those that choose, and those that decide about none."""


def test_command(config: pytest.Config, nodeid: str) -> str:
    return shlex.join(["pytest", "--modelops-matrix", *_same_flags(config), nodeid])


def check_command(config: pytest.Config, configured: Configured, cell: Cell, check: Check) -> str:
    """Return the command that runs one check of one cell, and what it needs, again."""
    arguments = ["pytest", "--modelops-matrix", *_same_flags(config)]
    drifts = {v.dask_request for v in (cell[role] for role in Role)} != {cell.base.dask_text}
    release_may_change = cell.base.dask and not cell.base.as_is and not config.getoption("modelops_dask")
    if drifts and release_may_change and not cell.skew and cell.rolling is None:
        arguments += _pinned(configured, cell)
    if check.bundle is not None and check not in configured.checks:  # of a test's marker
        arguments.append(f"--modelops-bundle={check.bundle.path}")
    return shlex.join([*arguments, module.nodeid(check, cell.id)])


def _pinned(configured: Configured, cell: Cell) -> list[str]:
    """Return flags that name a cell's release, since `latest` may be another one some day.

    With them `include` is ignored, so they also make the axes those of a cell that only `include` adds. Empty for a
    cell that `exclude` removes from the axes and only `include` adds: no flag adds it.
    """
    matrix = configured.settings.matrix
    if excluded(cell, matrix.exclude):
        return []
    python = cell.base.python
    on_axis = matrix.python or (PythonVersion.parse(python_version()),)
    flags = [] if python in on_axis else ["--modelops-python", str(python)]
    return [*flags, "--modelops-dask", cell.base.dask_text]


def _same_flags(config: pytest.Config) -> list[str]:
    """Return the flags of this command line that the same cell needs again."""
    flags = []
    if config.getoption("inifilename", None):
        flags += ["-c", str(config.getoption("inifilename"))]
    if config.getoption("rootdir", None):
        flags += ["--rootdir", str(config.getoption("rootdir"))]
    for option in OPTIONS:
        given = config.getoption(option.dest)
        if not given or option.name in OF_THE_RUN:
            continue
        if option.kind is Kind.SWITCH:
            flags.append(option.flag)
            continue
        for value in given if option.kind is Kind.MANY else [given]:
            # pytest would look for its configuration at a path that is an argument of its own.
            flags += [f"{option.flag}={value}"] if option.path else [option.flag, str(value)]
    return flags


test_command.__test__ = False  # type: ignore[attr-defined] # it is no test
