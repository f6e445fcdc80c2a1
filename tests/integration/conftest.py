"""Matrix runs as users start them: pytest in a process and session of its own, on a project of a few files.

Cells are used as they are (this Python, its Dask, nothing built) wherever a test does not need more. A run that has
ended is searched for anything that it left before a test sees it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import pytest

from pytest_modelops.report.model import RunReport
from pytest_modelops.report.paper import text
from pytest_modelops.report.terminal import matrix as summary
from tests.engines.gateway import gateway, gateway_cluster
from tests.engines.slurm import slurm
from tests.engines.sshd import sshd
from tests.forking import Forked, Template
from tests.names import CELL_CHECKS, after
from tests.processes import left_behind, poll

__all__ = ["gateway", "gateway_cluster", "slurm", "sshd"]  # fixtures

FOLLOWERS = {**{name: after(name) for name in ("resolve", "install", "start")}, "lambda": ("aggregation",)}
"""Which checks are blocked when one breaks."""
BUNDLE_CHECKS = ("preflight", "bundle-install", "handshake", "execute", "bundle-aggregation")
AT_ONCE = 15.0
"""Seconds for what waits for nothing, also on a busy machine."""
INSTALLED = 90.0
"""Seconds in which an installer reports why it cannot install, even if it builds something first: half its deadline."""
NOT_USED = ("randomly", "cacheprovider", "hypothesispytest")
"""Plugins that runs do without; hypothesis is as slow to import as all of ours."""
QUICK_START = "fork-workers"
"""How processes start in most runs: it takes half of the default's CPU."""
STARTS_ARE_TESTED = {"test_after_a_hang", "test_healthy_cells", "test_skew_cells", "test_starts", "test_stopping"}
"""Modules in which the processes of cells start as the project says."""
FRESH = {"test_healthy_cells"}
"""Modules in which pytest is run by a Python of its own, as users start it."""
UNKNOWN = "unknown"
"""The probable cause of what no known cause fits."""
_SHOWN = 4096


def write_wheel(path: Path, files: Mapping[str, str], *, requires: Sequence[str] = ()) -> Path:
    """Write a wheel with these files; its file name has name and version."""
    name, version = path.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    everything = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in everything.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
            record += f"{file},sha256={digest},{len(text.encode())}\n"
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A check, or a test of the user's, in the report (see `report.model.CheckResult`)."""

    name: str
    bundle: str | None
    variant: str
    status: str
    seconds: float
    message: str
    blocked_by: str | None
    selected: bool
    reproduce: str
    data: dict[str, Any]
    probable_cause: dict[str, Any] | None

    @property
    def cause(self) -> str | None:
        return self.probable_cause["id"] if self.probable_cause else None

    def says(self, *parts: str) -> None:
        """Assert that the message holds these parts, in this order."""
        at = 0
        for part in parts:
            at = self.message.find(part, at)
            assert at >= 0, f"{self.name} {self.status}; {part!r} is not, or not there, in:\n{self.message}"
            at += len(part)

    def broke(self, status: str, *parts: str, within: float, cause: str = UNKNOWN) -> Check:
        """Assert that it ended in this way, within so many seconds, and says these parts in this order; returns itself.

        Args:
            within: for what ends by itself `AT_ONCE`, for what hangs its deadline and 2 s.
            cause: the probable one.
        """
        reported = f"{self.name}[{self.bundle}] {self.status} after {self.seconds} s, {self.cause}\n{self.message}"
        assert self.status == status, reported
        assert self.cause == (None if status == "unavailable" else cause), reported
        assert self.seconds <= within, reported
        self.says(*parts)
        return self


class Cell:
    """A cell in the report; `facts` is all that the report has about it.

    Attributes:
        checks: by name; states of a rolling upgrade by label.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        checks = [Check(**check) for check in facts["checks"]]
        self.checks = {f"{check.name}[{check.variant}]" if check.variant else check.name: check for check in checks}

    @property
    def statuses(self) -> dict[str, str]:
        return {name: check.status for name, check in self.checks.items()}

    def broke(self, check_name: str, status: str, *, deadline: float, cause: str = UNKNOWN) -> Check:
        """Assert that the cell broke at this check, in this way, in time and for this cause; that exactly the checks
        that need it were blocked by it; and that all others passed.
        """
        check = self.checks[check_name]
        reported = f"{self.facts['id']}: {self.statuses}\n{check.message}"
        assert (self.facts["first_broken"], self.facts["status"]) == (check_name, status), reported
        check.broke(status, within=deadline + 2, cause=cause)
        assert check.reproduce.endswith(f"'modelops::test_{check_name}[{self.facts['id']}]'"), reported
        for name in CELL_CHECKS:
            if name in FOLLOWERS.get(check_name, ()):
                follower = self.checks[name]
                assert (follower.status, follower.blocked_by) == ("blocked", check_name), reported
                follower.says(f"blocked by {check_name}: {check.message.splitlines()[0]}")
            elif name != check_name:
                assert self.checks[name].status == "passed", reported
        return check


@dataclasses.dataclass(frozen=True)
class Run:
    """A matrix run that has ended.

    Attributes:
        code: exit code, negative for a signal.
        out: what it printed.
        report: the JSON report; empty if there is none.
        directory: its own in the cache.
    """

    code: int
    out: str
    report: dict[str, Any]
    directory: Path

    @property
    def cells(self) -> list[Cell]:
        assert self.report, f"no report was written; exit code {self.code}\n{self.out}"
        return [Cell(cell) for cell in self.report["cells"]]

    def cell(self, cell_id: str | None = None) -> Cell:
        """Return a cell by its id, or the only one."""
        found = [cell for cell in self.cells if cell_id in (None, cell.facts["id"])]
        assert len(found) == 1, f"cells {[cell.facts['id'] for cell in self.cells]}; wanted {cell_id}"
        return found[0]

    def check(self, name: str, cell_id: str | None = None) -> Check:
        return self.cell(cell_id).checks[name]

    def passed(self) -> Run:
        """Assert that everything passed; returns itself."""
        assert self.code == 0, self.out
        return self

    def unavailable_is_no_failure(self) -> Run:
        """Skip the test if this machine lacks a Python that it needs; returns itself."""
        for cell in self.cells:
            if cell.facts["status"] == "unavailable":
                pytest.skip(cell.checks["resolve"].message.partition("\n")[0])
        return self


class Running:
    """A matrix run that has not ended."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked, project: Path, cache: Path) -> None:
        self.process = process
        self._project = project
        self._cache = cache

    @property
    def out(self) -> str:
        return (self._project / "out.txt").read_text(encoding="utf-8", errors="replace")

    @property
    def directory(self) -> Path:
        """The run's own directory in the cache, which may not exist yet."""
        return next(self._cache.glob(f"runs/*-{self.process.pid}"), self._cache / "runs" / "none")

    def until(self, condition: Callable[[], Any], awaited: str, *, seconds: float = 60) -> Any:
        """Wait for something that the run does."""
        answer = poll(lambda: condition() or self.process.poll() is not None, seconds=seconds)
        if self.process.poll() is not None:
            pytest.fail(f"it ended with {self.process.returncode} before {awaited}:\n{self.out}")
        assert answer, f"{awaited}: not within {seconds} s\n{self.out}"
        return answer

    def interrupt(self, *, again_when: Callable[[], bool] | None = None) -> Run:
        """Press Ctrl-C, for the whole process group, and once more when `again_when` holds; the run has 60 s to end."""
        os.killpg(self.process.pid, signal.SIGINT)
        if again_when is None:
            return self.ended(seconds=60)
        poll(again_when, seconds=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        return self.ended(seconds=60, seconds_to_vanish=20)

    def terminate(self) -> Run:
        """Send SIGTERM to pytest alone, twice, as CI systems do at their time limit; the run has 60 s to end."""
        self.process.terminate()
        time.sleep(1)
        self.process.terminate()
        return self.ended(seconds=60)

    def kill(self) -> Run:
        """Send SIGKILL to pytest alone, and wait until everything is gone, for which it has 20 s."""
        self.process.kill()
        return self.ended(seconds_to_vanish=20)

    def ended(self, *, seconds: float = 150, seconds_to_vanish: float = 0) -> Run:
        """Wait for the end, and assert that nothing is left of it."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # pytest's faulthandler prints where each thread stands
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"it did not end within {seconds} s; it printed:\n{self.out}")
        left = self.left()
        if left:
            poll(lambda: not self.left(), seconds=seconds_to_vanish)
            left = self.left()
        assert not left, "\n".join(["left behind:", *left, "", self.out])
        report = self._project / "report.json"
        return Run(
            code=code,
            out=self.out,
            report=json.loads(report.read_text(encoding="utf-8")) if report.exists() else {},
            directory=self.directory,
        )

    def left(self) -> list[str]:
        """Describe what exists of it now: processes, and directories that must not stay."""
        scratch = [*self.directory.glob("*/scratch"), *self.directory.glob("commands-*")]
        return [*left_behind(self._project, self.directory), *(f"directory {path}" for path in scratch)]


class Matrix:
    """A project in `path`, and runs of its matrix one after the other, with environments and logs in `cache`.

    Args:
        start: how the processes of cells start; if empty, as the project says.
        template: what pytest is forked from; without one, Python is started.
    """

    def __init__(self, path: Path, cache: Path, *, start: str = QUICK_START, template: Template | None = None) -> None:
        self._template = template
        self.path = path
        self.cache = cache
        self._start = start
        self._started: list[Running] = []
        (path / "tmp").mkdir(parents=True)

    def configure(self, text: str) -> None:
        self.write("pyproject.toml", text)

    def write(self, name: str, text: str) -> Path:
        """Write a file; the text may be indented as a whole."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def start(self, *arguments: str, env: dict[str, str] | None = None) -> Running:
        (self.path / "report.json").unlink(missing_ok=True)
        flags = ["--modelops-matrix", "--modelops-report=report.json", "-v", *(f"-pno:{name}" for name in NOT_USED)]
        command = [*flags, *arguments]
        variables = {**_host_variables(), **self._variables(), **(env or {})}
        self._started.append(Running(self._pytest(command, variables), self.path, self.cache))
        return self._started[-1]

    def _pytest(self, arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes] | Forked:
        file = self.path / "out.txt"
        if self._template is not None:
            return self._template.start(arguments, cwd=self.path, env=variables, stdout=file, stderr=file)
        with file.open("wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=self.path,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Run:
        return self.start(*arguments, env=env).ended()

    def close(self) -> None:
        """End what a failed test has left running."""
        for running in self._started:
            if running.process.poll() is None:
                running.kill()

    def _variables(self) -> dict[str, str]:
        return {
            **({"PYTEST_MODELOPS_START": self._start} if self._start else {}),
            "PYTEST_MODELOPS_CACHE": str(self.cache),
            "PYTEST_MODELOPS_PARALLEL": "1",  # tests run beside each other already
            "TMPDIR": str(self.path / "tmp"),  # by which the commands of the host are known
            "COLUMNS": "120",
            "PYTHONIOENCODING": "utf-8",
            "DOCKER_HOST": "unix:///no/engine",
        }


def _host_variables() -> dict[str, str]:
    """Return this process's variables without pytest's own and those by which pytest notices a CI."""
    ours = {"CI", "BUILD_NUMBER", "NO_COLOR", "FORCE_COLOR", "TERM"}
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("PYTEST_")}


@pytest.fixture
def _how(request: pytest.FixtureRequest, template: Template) -> dict[str, Any]:
    """How runs and the processes of their cells start."""
    module = request.path.stem
    return {
        "start": "" if module in STARTS_ARE_TESTED else QUICK_START,
        "template": None if module in FRESH else template,
    }


@pytest.fixture
def matrix(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, _how: dict[str, Any]) -> Iterator[Matrix]:
    """A project with one as-is cell, and a cache of its own."""
    cache = own_cache(tmp_path / "cache", tmp_path_factory)
    with contextlib.closing(Matrix(tmp_path / "project", cache, **_how)) as made:
        yield made


@pytest.fixture
def building_matrix(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, _how: dict[str, Any]) -> Iterator[Matrix]:
    """A project whose cells are built from the user's index, in a cache that the test session shares."""
    with contextlib.closing(Matrix(tmp_path / "project", shared_cache(tmp_path_factory), **_how)) as made:
        yield made


def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that all processes of the test session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory) / "shared" / "cache"


def own_cache(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty cache, apart from what was compiled: our package for cells, and bytecode of any source."""
    for name in ("remote", "bytecode"):
        shared = shared_cache(tmp_path_factory) / name
        shared.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(shared, target_is_directory=True)
    return cache


class ContainerMatrix(Matrix):
    """A project whose cells run in containers, on the tests' images."""

    def __init__(self, path: Path, cache: Path, engine: Any, **how: Any) -> None:
        super().__init__(path, cache, **how)
        self.engine = engine

    def configure(self, text: str) -> None:
        """Write the `pyproject.toml`; the base image is the tests', unless it says otherwise."""
        if "image" not in text and "prebuilt" not in text:
            text = text.replace("[tool.modelops.docker]\n", "")
            text += '\n[tool.modelops.docker]\nimage = "modelops-fixture/python:{python}"\n'
        super().configure(text)

    def left_on_the_engine(self, run: Run | Running) -> list[str]:
        return on_the_engine(self.engine, f"modelops.run={run.directory.name}")

    def _variables(self) -> dict[str, str]:
        variables = super()._variables()
        del variables["DOCKER_HOST"]
        return {**variables, "PYTEST_MODELOPS_BACKEND": "docker", "TESTCONTAINERS_RYUK_DISABLED": "true"}


class Reported:
    """What a shared run reported of its only cell and of the bundles in it.

    Attributes:
        checks: by bundle and check.
        logs: the beginning of each log, by name.
    """

    def __init__(self, report: dict[str, Any], logs: dict[str, str]) -> None:
        self._report = report
        [facts] = report["cells"]
        self.cell = Cell(facts)
        if facts["status"] == "unavailable":
            pytest.skip(self.cell.checks["resolve"].message.partition("\n")[0])
        self.logs = logs
        self.checks = {(check["bundle"], check["name"]): Check(**check) for check in facts["checks"] if check["bundle"]}

    def statuses(self, bundle: str) -> dict[str, str]:
        return {name: check.status for (of, name), check in self.checks.items() if of == bundle}

    def passed(self, bundle: str, *check_names: str) -> None:
        """Assert that the bundle has exactly these checks, and all passed."""
        messages = [check.message for (of, _), check in self.checks.items() if of == bundle]
        assert self.statuses(bundle) == dict.fromkeys(check_names, "passed"), messages

    def broke(
        self, bundle: str, check_name: str, status: str = "failed", *, within: float = AT_ONCE, cause: str = UNKNOWN
    ) -> Check:
        """Assert that it broke there, in this way, in time and for this cause; that all before passed, or was
        deselected; and that exactly what needs it was blocked by it.
        """
        reported = f"{bundle}: {self.statuses(bundle)}"
        assert (bundle, check_name) in self.checks, reported
        check = self.checks[bundle, check_name]
        node = f"modelops::test_{check_name.replace('-', '_')}[{self.cell.facts['id']}-{bundle}]"
        assert check.reproduce.endswith(f"'{node}'"), check.reproduce
        at = BUNDLE_CHECKS.index(check_name)
        for name in BUNDLE_CHECKS[:at]:
            assert self.statuses(bundle).get(name, "not-run") in {"passed", "not-run"}, reported
        for name in BUNDLE_CHECKS[at + 1 :]:
            if (follower := self.checks.get((bundle, name))) is not None:
                assert (follower.status, follower.blocked_by) == ("blocked", f"{check_name}[{bundle}]"), reported
        check.broke(status, within=within, cause=cause)
        if check.probable_cause and cause != UNKNOWN:
            ending = (
                f"{check_name}[{bundle}] {status.replace('-', ' ')}; probable cause: {check.probable_cause['cause']}"
            )
            assert f"{self.cell.facts['id']}: {ending}\n" in self._summary_without_others(bundle)
        return check

    def _summary_without_others(self, bundle: str) -> str:
        """What the terminal shows of a run with this bundle alone."""
        report = RunReport.from_json(self._report)
        [cell] = report.cells
        alone = dataclasses.replace(cell, checks=tuple(one for one in cell.checks if one.bundle == bundle))
        return text(summary(dataclasses.replace(report, cells=(alone,)), width=300, unicode=True))


def _run_once(
    tmp_path_factory: pytest.TempPathFactory,
    template: Template,
    name: str,
    configure: Callable[[Path], str],
    *arguments: str,
    engine: Any = None,
    sources: Sequence[Path] = (),
) -> Reported:
    """Run a matrix once in a test session, whatever its number of processes, so that many tests can read the report.

    Args:
        name: of the run; unique.
        configure: makes bundles in an empty directory, and returns the `pyproject.toml` of a matrix of one cell.
        engine: for a cell in containers.
        sources: directories to which the run must not write; nor may it write to the bundles.
    """
    result = shared_directory(tmp_path_factory) / f"{name}.json"
    with filelock.FileLock(result.with_suffix(".lock")):
        if not result.exists():
            made, project = tmp_path_factory.mktemp("bundles"), tmp_path_factory.mktemp(name) / "project"
            cache = shared_cache(tmp_path_factory)
            with contextlib.closing(
                Matrix(project, cache, template=template)
                if engine is None
                else ContainerMatrix(project, cache, engine, template=template)
            ) as matrix:
                matrix.configure(configure(made))
                before = [_contents(directory) for directory in (made, *sources)]
                run = matrix.start(*arguments).ended(seconds=600)
                assert run.report, run.out
                assert [_contents(directory) for directory in (made, *sources)] == before, "a bundle was written to"
                # Read now, because a cache keeps only the logs of its latest runs.
                logs = {path.name: path.read_text("utf-8", "replace")[:_SHOWN] for path in run.directory.rglob("*.log")}
                result.write_text(json.dumps({"report": run.report, "logs": logs}), encoding="utf-8")
    return Reported(**json.loads(result.read_text(encoding="utf-8")))


RunOnce = Callable[..., Reported]


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory, template: Template) -> RunOnce:
    return functools.partial(_run_once, tmp_path_factory, template)


@pytest.fixture(scope="session")
def bundles_in_containers(run_once: RunOnce, engine: Any) -> Reported:
    """What one cell in containers said of all formats, whose bundles are not executed, and of all broken bundles."""
    from tests.integration import test_broken_bundles as broken
    from tests.integration import test_formats_on_every_backend as formats
    from tests.integration.test_bundle_formats import FORMATS

    def configure(directory: Path) -> str:
        names = broken.ALL - broken.IN_PROCESSES_ONLY
        return broken.configuration(directory, names, workers=1, more=formats.ship(directory))

    others = " or ".join(sorted({name.rpartition("-")[2] for name in formats.NAMES.values()}))
    chosen = ("-k", f"{formats.CHECK_NAMES} or not ({others})")
    return run_once("bundles-docker", configure, *chosen, engine=engine, sources=[broken.BUNDLES, FORMATS])


def _contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def on_the_engine(engine: Any, label: str) -> list[str]:
    """Describe the containers, networks and volumes that have a label."""
    only = {"label": [label]}
    containers = engine.api.containers(all=True, filters=only)
    return [
        *(f"container {thing['Names']} {thing['State']}" for thing in containers),
        *(f"network {thing['Name']}" for thing in engine.api.networks(filters=only)),
        *(f"volume {thing['Name']}" for thing in engine.api.volumes(filters=only)["Volumes"] or ()),
    ]


@pytest.fixture
def containers(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, engine: Any, _how: dict[str, Any]
) -> Iterator[ContainerMatrix]:
    """A project whose cells run in containers, with a cache that the test session shares."""
    cache = shared_cache(tmp_path_factory)
    with contextlib.closing(ContainerMatrix(tmp_path / "project", cache, engine, **_how)) as made:
        yield made


WriteWheel = Callable[..., Path]


@pytest.fixture(name="write_wheel")
def _write_wheel() -> WriteWheel:
    return write_wheel


PLUGINS = Path(__file__).parents[2] / "fixtures" / "plugins"


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The plugins' package; the same file in all tests, so that they share one environment, and in all sessions, whose
    engine keeps its image.
    """
    sources = sorted((PLUGINS / "acme_plugins").glob("*.py"))
    files = {f"acme_plugins/{file.name}": file.read_text("utf-8") for file in sources}
    name = f"modelops-plugins-{os.getuid()}-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]}"
    shared = Path(tempfile.gettempdir(), name)
    (shared / "new").mkdir(mode=0o700, parents=True, exist_ok=True)
    path = shared / "acme_plugins-1.0-py3-none-any.whl"
    with filelock.FileLock(shared / "lock"):
        if not path.exists():
            write_wheel(shared / "new" / path.name, files).rename(path)
    return path
