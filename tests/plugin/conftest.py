"""Projects as users have them, on which pytest is run as users run it: in a process of its own.

Cells are used as they are, with nothing built, wherever a promise does not need more: a matrix of this Python as
`3.12` and as `3.12.1` has two of them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.forking import Template
from tests.names import CELL_CHECKS

PATCH = platform.python_version()
SERIES = ".".join(PATCH.split(".")[:2])
DASK = metadata.version("distributed")

SMALL = """
[tool.pytest.ini_options]  # without it, pytest before 8.1 does not find the rootdir from a directory below
[tool.modelops]
workers = 1
start = "fork-workers"  # the quickest
[tool.modelops.aggregation]
params = 2
replicates = 2
"""

SPY = """
import os, sys

STARTS = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "os.exec"}

def note(event, args):
    if event in STARTS:
        with open(os.environ["STARTED"], "a") as file:
            print(event, *map(repr, args[:2]), file=file)

sys.addaudithook(note)
"""
"""A plugin that notes every process which pytest starts."""

WITNESS = """
import json, os

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Witness(config))

class Witness:
    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        status = self.config.hook.pytest_report_teststatus(report=report, config=self.config)
        word = status[2] if status else report.outcome
        worker = report.node.gateway.id if hasattr(report, "node") else ""
        with open(os.environ["WITNESSED"], "a") as file:
            print(json.dumps([report.nodeid, word if isinstance(word, str) else word[0], worker]), file=file)
"""
"""A plugin that writes down each test, the word for its end, and the xdist worker that ran it."""

QUICK = """
import json
from pathlib import Path
import pytest
from pytest_modelops import errors
from pytest_modelops.checks.base import Check

ENDS = {
    "failed": errors.CheckFailed,
    "timed-out": errors.TimedOut,
    "unavailable": errors.Unavailable,
    "skipped": errors.NothingToDo,
    "asserted": AssertionError,
    "raised": ZeroDivisionError,
    "pytest-skipped": pytest.skip.Exception,
    "pytest-failed": pytest.fail.Exception,
}

def check(name, *needs):
    def run(cell, deadline):
        [file] = Path(__file__).parent.glob("ends.*")  # what strings name decides about tests, and this is not meant to
        ends = json.loads(file.read_text())
        end = ends.get(f"{name}[{cell.id}]")
        if end is not None:
            raise ENDS[end](f"{name} is {end} on purpose")
    return Check(name=name, run=run, needs=needs, main_thread=False, summary="a check that starts nothing")

def pytest_modelops_checks(checks, config):
    checks[:] = [check("first"), check("second", "first"), check("third", "second"), check("other")]
"""
QUICK_CHECKS = ("first", "second", "third", "other")

OTHER_PLUGINS = {"asyncio", "repeat", "rerunfailures", "socket"}
"""Installed for one table of tests, which names the one that it uses."""

_REPORT = "report.json"
_SECONDS = 150
"""After so long, a run hangs."""


@dataclasses.dataclass(frozen=True)
class Ran:
    """One run of pytest.

    Attributes:
        code: exit code.
        results: node id → the word that it ended with, in order of execution.
        workers: node id → the xdist worker that ran it.
        report: the JSON report, if it was asked for and there is one.
        clusters: the cell of each cluster that was started, in order of names; `…-2` for a second one.
        left: command lines of processes of the run's that are still there.
    """

    code: int
    out: str
    err: str
    results: dict[str, str]
    workers: dict[str, str]
    report: dict[str, Any]
    clusters: list[str]
    left: list[str]

    @property
    def refusal(self) -> str:
        """Of a run that was refused for wrong input: its only line of stderr."""
        assert self.code == pytest.ExitCode.USAGE_ERROR
        (line,) = self.err.strip().splitlines()
        return line

    @property
    def ids(self) -> list[str]:
        """Of a quiet `--collect-only`: the node ids."""
        return [line for line in self.out.splitlines() if "::" in line and " " not in line]

    def cell(self, cell_id: str) -> dict[str, Any]:
        """A cell of the report."""
        return next(cell for cell in self.report["cells"] if cell["id"] == cell_id)

    def checks(self, cell_id: str) -> dict[str, str]:
        """Status of each check of a cell in the report."""
        return {check["name"]: check["status"] for check in self.cell(cell_id)["checks"]}


class Project:
    """A directory with a `pyproject.toml` and tests.

    Attributes:
        fresh: whether pytest is run by a Python of its own, for tests of what is imported.
    """

    fresh = False
    small = SMALL
    check_names = CELL_CHECKS
    quick_checks = QUICK_CHECKS

    def __init__(
        self,
        pytester: pytest.Pytester,
        monkeypatch: pytest.MonkeyPatch,
        template: Template,
        *,
        plugins: Path,
        cache: Path,
    ) -> None:
        self._pytester = pytester
        self._template = template
        self._monkeypatch = monkeypatch
        plugins.mkdir()
        (plugins / "modelops_spy.py").write_text(SPY, encoding="utf-8")
        (plugins / "modelops_witness.py").write_text(WITNESS, encoding="utf-8")
        self._started, self._witnessed = plugins / "started", plugins / "witnessed"
        self.environ(
            DOCKER_HOST="unix:///no/engine",  # tests of containers have a place of their own
            PYTEST_MODELOPS_CACHE=str(cache),
            PYTHONPATH=str(plugins),
            STARTED=str(self._started),
            WITNESSED=str(self._witnessed),
        )
        self.path = pytester.path
        self.cache = cache
        self.patch = PATCH
        self.series = SERIES
        self.dask = DASK
        self.cell = f"py{PATCH}-dask{DASK}"
        """Id of the only cell, unless something else is configured."""
        self.configure()

    def configure(self, text: str = "", *, small: bool = True) -> None:
        """Write the `pyproject.toml`."""
        self.write("pyproject.toml", (SMALL if small else "") + text)

    def configure_two(self, text: str = "") -> tuple[str, str]:
        """Write a `pyproject.toml` with two cells, and return their ids."""
        self.configure(f'[tool.modelops.matrix]\npython = ["{SERIES}", "{PATCH}"]\n{text}')
        return f"py{SERIES}-dask{DASK}", f"py{PATCH}-dask{DASK}"

    def configure_quick(self) -> tuple[str, str, str]:
        """Set up three cells whose checks (`first`, `second`, `third` of which each needs the one before, and `other`)
        starts nothing, and return their ids. See `end`."""
        self.configure('[tool.modelops.matrix]\npython = ["3.12", "3.13", "3.14"]\n')
        self.write("conftest.py", QUICK)
        self.end()
        return f"py3.12-dask{DASK}", f"py3.13-dask{DASK}", f"py3.14-dask{DASK}"

    def end(self, **ends: str) -> None:
        """Say how the quick checks end from now on, if they do not pass: `**{"first[cell]": "failed"}`."""
        self.write("ends.json", json.dumps(ends))

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def environ(self, **variables: str) -> None:
        """Set variables for what is run from now on."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def enter(self, directory: str) -> None:
        """Run from a directory from now on."""
        self._monkeypatch.chdir(self.path / directory)

    def checks_of(self, *cells: str, check_names: tuple[str, ...] = CELL_CHECKS) -> list[str]:
        """Node ids of the checks in these cells, in order."""
        return [f"modelops::test_{check_name}[{cell}]" for cell in cells for check_name in check_names]

    def run(self, *arguments: str, order: str = "no:randomly", using: str = "") -> Ran:
        """Run pytest, with one of the `OTHER_PLUGINS` or none."""
        before = set(self.cache.glob("runs/*"))
        report = self.path / _REPORT
        report.unlink(missing_ok=True)
        self._witnessed.write_text("", encoding="utf-8")
        others = sorted(OTHER_PLUGINS - {using})
        plugins = ["modelops_witness", "no:hypothesispytest", order, *(f"no:{other}" for other in others)]
        plugin_arguments = [word for plugin in plugins for word in ("-p", plugin)]
        code, out, err = self._pytest([*plugin_arguments, *arguments])
        witnessed = [json.loads(line) for line in self._witnessed.read_text(encoding="utf-8").splitlines()]
        return Ran(
            code=code,
            out=out,
            err=err,
            results={test: word for test, word, _ in witnessed},
            workers={test: worker for test, _, worker in witnessed},
            report=json.loads(report.read_text(encoding="utf-8")) if report.exists() else {},
            clusters=sorted(
                log.parent.parent.name
                for run in set(self.cache.glob("runs/*")) - before
                for log in run.glob("*/logs/scheduler.log")
            ),
            left=list(self._left()),
        )

    def matrix(self, *arguments: str, order: str = "no:randomly", using: str = "") -> Ran:
        """Run the matrix, verbosely and with a report."""
        report = f"--modelops-report={self.path / _REPORT}"
        return self.run("--modelops-matrix", "-v", report, *arguments, order=order, using=using)

    def collect(self, *arguments: str) -> Ran:
        """Collect for the matrix, run nothing."""
        return self.run("--modelops-matrix", "--collect-only", "-q", *arguments)

    def spied(self, *arguments: str) -> tuple[Ran, str]:
        """Run pytest, and note every process that it starts."""
        self._started.write_text("", encoding="utf-8")
        ran = self.run("-p", "modelops_spy", *arguments)
        return ran, self._started.read_text(encoding="utf-8")

    def _pytest(self, arguments: list[str]) -> tuple[int, str, str]:
        if self.fresh:
            result = self._pytester.runpytest_subprocess(*arguments, timeout=_SECONDS)
            out, err = ("".join(f"{line}\n" for line in lines) for lines in (result.outlines, result.errlines))
            return int(result.ret), out, err
        base = Path(tempfile.mkdtemp(prefix="runpytest-", dir=self.path))
        files = [self._started.with_name(name) for name in ("stdout", "stderr")]
        run = self._template.start(
            [f"--basetemp={base}", *arguments], cwd=Path.cwd(), env=os.environ, stdout=files[0], stderr=files[1]
        )
        try:
            code = run.wait(_SECONDS)
        finally:
            run.kill()
            out, err = (file.read_text("utf-8", "replace") for file in files)
            print(out, err)  # noqa: T201 - for who reads about a failed test, as pytester does
        return code, out, err

    def _left(self) -> Iterator[str]:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or ()
            if any(str(self.cache / "runs") in word for word in words):
                yield " ".join(words)


@pytest.fixture(autouse=True)
def _nothing_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests are run with shall not decide what they find."""
    for name in list(os.environ):
        if name.startswith("PYTEST_") and name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    for name in ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")


@pytest.fixture(scope="session")
def _home() -> str:
    """The user's own, of which pytester hides the configuration of pip and uv and the cache of uv."""
    return str(Path.home())


@pytest.fixture
def project(
    _home: str, template: Template, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Project:
    """A project with one small cell, and a cache of its own."""
    return Project(pytester, monkeypatch, template, plugins=tmp_path / "plugins", cache=tmp_path / "cache")


@pytest.fixture
def building_project(_home: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose cells are built, from the user's index."""
    monkeypatch.setenv("HOME", _home)
    return project


Once = Callable[[Callable[[], Ran]], Ran]


@pytest.fixture(scope="session")
def _runs() -> dict[str, Ran]:
    return {}


@pytest.fixture
def once(_runs: dict[str, Ran]) -> Once:
    """Run something for the first test that asks for it, and give the result to the others."""

    def once(run: Callable[[], Ran]) -> Ran:
        name = f"{run.__module__}.{run.__qualname__}"
        if name in _runs:
            print(_runs[name].out, _runs[name].err)  # noqa: T201 - as pytester does where it runs
        else:
            _runs[name] = run()
        return _runs[name]

    return once
