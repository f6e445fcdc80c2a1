"""Refuse a run whose rootdir pytest took from a path that is the value of a flag.

pytest looks for its configuration before it knows which flags of plugins take a value. It takes `reports/out.json` in
`--modelops-report reports/out.json` for a path of tests, if it exists, and may find the settings of another project.
"""

from __future__ import annotations

import inspect
import itertools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.config import findpaths

from pytest_modelops.config.options import CONFIG
from pytest_modelops.errors import WrongInput


def refuse_moved_rootdir(config: pytest.Config) -> None:
    """Refuse the run if pytest's rootdir would be another one without the values of flags."""
    if config.getoption("inifilename", None) or config.getoption("rootdir", None):
        return
    start = config.invocation_params.dir
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    tests = [word for word in words if word in config.option.file_or_dir]
    pairs = [(flag, value) for flag, value in itertools.pairwise(words) if flag.startswith("--") and "=" not in flag]
    tests += [value for flag, value in pairs if flag == CONFIG.flag]  # who names a project means its rootdir, too
    values = [(flag, value) for flag, value in pairs if value not in tests and (start / value).exists()]
    if not values or (meant := _rootdir(tests, start)) == config.rootpath:
        return
    flag, value = next((one for one in values if _rootdir([*tests, one[1]], start) != meant), values[0])
    raise WrongInput(
        f"{flag} {value}: pytest takes {value} for a path of tests, and {config.rootpath} for the rootdir instead of "
        f"{meant}; write {flag}={value}"
    )


def _rootdir(tests: Sequence[str], start: Path) -> Path:
    """Return the rootdir that pytest takes for these arguments. No public function of pytest does."""
    arguments = {"inifile": None, "args": tests, "rootdir_cmd_arg": None, "invocation_dir": start, "override_ini": None}
    parameters = inspect.signature(findpaths.determine_setup).parameters  # they differ between pytest 7.4, 8 and 9
    found: Path = findpaths.determine_setup(**{name: arguments.get(name) for name in parameters})[0]  # type: ignore[arg-type]
    return found
