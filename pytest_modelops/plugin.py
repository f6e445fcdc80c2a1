"""The pytest plugin's entry point: register options, markers and the fixture, and route hooks.

Loaded whenever pytest starts, so it imports only what costs nothing. What runs a matrix is imported when it is needed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_modelops import fixtures, hookspecs, markers
from pytest_modelops.config import options
from pytest_modelops.errors import WrongInput
from pytest_modelops.fixtures import modelops_cell

if TYPE_CHECKING:
    from pytest_modelops.session.run import MatrixRun

__all__ = ["modelops_cell"]

_RUN = pytest.StashKey["MatrixRun"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register flags and ini settings."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register our own hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; with the flag, plan the matrix and register what runs it."""
    for line in markers.DECLARATIONS:
        config.addinivalue_line("markers", line)
    if config.option.help or config.option.version:
        return
    if not config.getoption("modelops_matrix"):
        typed = [arg for arg in config.invocation_params.args if str(arg).startswith("--modelops-")]
        if typed and not hasattr(config, "workerinput"):
            raise pytest.UsageError(f"{str(typed[0]).partition('=')[0]} does nothing without --modelops-matrix; add it")
        return
    _refuse_windows()
    from pytest_modelops.session.loading import FromBytecode

    FromBytecode.until_the_end_of(config)
    from pytest_modelops.session.collection import Collecting
    from pytest_modelops.session.distribution import Distributing
    from pytest_modelops.session.execution import Running
    from pytest_modelops.session.reporting import Reporting
    from pytest_modelops.session.terminating import Terminating

    register = config.pluginmanager.register
    register(Terminating(), "modelops-terminating")
    run = config.stash[_RUN] = _open(config)
    register(Collecting(run), "modelops-collecting")
    register(Running(run), "modelops-running")
    if not hasattr(config, "workerinput"):
        from pytest_modelops.session.writing import Writing, have_junit_written

        with _usage_errors():
            writing = Writing(config, run)
            have_junit_written(writing.targets, config)
        register(Reporting(run, writing), "modelops-reporting")
        register(Distributing(run), "modelops-distributing")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what still runs."""
    run = config.stash.get(_RUN, None)
    if run is not None:
        run.close()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """With `--modelops-plan`, print the plan instead of running it."""
    if config.getoption("modelops_plan") is None:
        return None
    import json

    _refuse_windows()
    from pytest_modelops.matrix import pipelines
    from pytest_modelops.matrix.plan import Plan
    from pytest_modelops.session.run import plan_only

    with _usage_errors():
        plan, text = plan_only(config)
        form = config.getoption("modelops_plan")
        if form in pipelines.FORMATS:
            text = pipelines.FORMATS[form](Plan.from_json(plan).cells)
        elif form == "json":
            text = json.dumps(plan, indent=2)
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
    return 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the flag, skip the tests that use a cell."""
    if config.getoption("modelops_matrix"):
        return
    skip = pytest.mark.skip(reason=fixtures.WITHOUT_FLAG)
    for item in items:
        if fixtures.NAME in getattr(item, "fixturenames", ()) or markers.applied(item):
            item.add_marker(skip)


def _refuse_windows() -> None:
    """Refuse a matrix on Windows, where what runs it cannot even be imported."""
    if sys.platform == "win32":
        raise pytest.UsageError(
            "--modelops-matrix needs Linux or macOS: its cells are POSIX processes or containers; on Windows, run "
            "pytest in WSL 2 (wsl --install)"
        )


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn wrong input into pytest's own error, which ends it with exit 4."""
    try:
        yield
    except WrongInput as error:
        raise pytest.UsageError(str(error)) from None


def _open(config: pytest.Config) -> MatrixRun:
    from pytest_modelops.session.run import MatrixRun

    with _usage_errors():
        run = MatrixRun(config)
        run.open()
    return run
