"""Bundles as users ship them: by configuration, flag and marker, with runners of their own; and what is left."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.conftest import BUNDLE_CHECKS, INSTALLED, Cell, Check, ContainerMatrix
from tests.pythons import another_python

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, Running, WriteWheel

REPOSITORY = Path(__file__).parents[2]
BUNDLES = REPOSITORY / "fixtures" / "bundles"
SERVERS = REPOSITORY / "tests" / "servers"
NUMBERS = f"""
    [tool.modelops]
    start = "fork-workers"
    bundles = [{{ path = "{BUNDLES / "numbers"}", entrypoint = "wire/run", target = "targets:mean" }}]
"""
ON_ONE_WORKER = NUMBERS.replace("[tool.modelops]", "[tool.modelops]\n    workers = 1", 1)


def with_runner(path: str) -> str:
    return f'{ON_ONE_WORKER}\n    [tool.modelops.runner]\n    path = "{path}"\n'


def test_two_runs_at_once_on_the_same_bundle_which_runs_its_checks(matrix: Matrix, tmp_path: Path) -> None:
    """One of the two runs in several processes."""
    matrix.configure(f"{NUMBERS}\n    [tool.modelops.aggregation]\n    params = 3\n    replicates = 3\n")
    pyproject = ("-c", str(matrix.path / "pyproject.toml"))
    first, second = (
        matrix.start(*more, *pyproject, f"--modelops-report={tmp_path}/{name}.json")
        for name, more in (("first", ()), ("second", ("-n", "2")))
    )
    first.process.wait(150)
    second.process.wait(150)  # what is left of either is looked for when both have ended
    for run in (first.ended().passed(), second.ended().passed()):
        assert run.directory.exists()
    cell, other = (
        Cell(json.loads((tmp_path / f"{name}.json").read_bytes())["cells"][0]) for name in ("first", "second")
    )
    assert {*cell.statuses.values(), *other.statuses.values()} == {"passed"}
    checks = {check["name"]: check for check in cell.facts["checks"] if check["bundle"] == "numbers"}
    assert list(checks) == list(BUNDLE_CHECKS)
    data = checks["bundle-install"]["data"]
    assert data == {
        "format": "requirements",
        "found": "it has a requirements.txt and 2 loose modules",
        "modules": 2,
        "accounted": {"client": 2, "worker-0": 2, "worker-1": 2},
        "packages": 0,
        "wheels": {"worker": data["wheels"]["worker"]},
        "wheels_reused": data["wheels_reused"],
        "install_reused": data["install_reused"],
        "installed_by": {"worker-0": "uv", "worker-1": "uv"},
    }
    for what in ("wheels_reused", "install_reused"):
        both = {data[what], other.checks["bundle-install"].data[what]}
        assert both == {True, False}, "one of the runs makes them, the other finds them"
    assert checks["execute"]["data"]["artifacts"] == {"numbers.json": 50}
    data = checks["bundle-aggregation"]["data"]
    assert data["tasks"] == 2 * (3 + 1)
    assert data["processes"] <= 2, "runners stay for the whole job"
    assert set(data["losses"]) == {"0-targets:mean", "1-targets:mean"}
    assert len(set(data["losses"].values())) == 2, "replicates of different sets have different seeds"
    assert {"worker-0-numbers-runner-stderr", "worker-1-numbers-runner-stdout"} <= set(cell.facts["logs"])


def test_what_was_installed_is_found_again_and_a_bundle_that_changes_it_harms_only_itself(
    matrix: Matrix, tmp_path: Path, write_wheel: WriteWheel
) -> None:
    """A `.pth` file writes to a module whenever a Python of the environment starts."""
    writes = "import os; open(os.path.join(sitedir, 'lib', '__init__.py'), 'a').write('#')\n"

    def ship(name: str, code: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "requirements.txt").write_text("./lib-1.0-py3-none-any.whl\n")
        write_wheel(tmp_path / name / "lib-1.0-py3-none-any.whl", {"lib/__init__.py": "", "lib.pth": code})

    for name in ("changes-itself", "is-edited"):
        ship(name, writes)
    ship("only-reads", "import sys; sys.reads_only = True\n")
    bundles = [str(tmp_path / name) for name in ("changes-itself", "is-edited", "only-reads")]
    matrix.configure(f'[tool.modelops]\nworkers = 1\nstart = "fork-workers"\nbundles = {bundles}\n')
    for time in ("first", "second"):
        run = matrix.run("-k", "bundle_install")
        checks = {one["bundle"]: Check(**one) for one in run.cell().facts["checks"] if one["name"] == "bundle-install"}
        broken = ["changes-itself"] if time == "second" else ["changes-itself", "is-edited"]
        for name in broken:
            said = ("a file that was installed is missing or not what the package's RECORD says: ", "/lib/__init__.py")
            checks[name].broke("failed", *said, within=INSTALLED)
        assert {name for name, check in checks.items() if check.status == "passed"} == checks.keys() - set(broken)
        assert checks["only-reads"].data["install_reused"] == (time == "second")
        ship("is-edited", "import sys; sys.is_edited = True\n")
    assert checks["is-edited"].data["install_reused"] is False


def test_a_runner_of_the_user_s_by_path(matrix: Matrix) -> None:
    matrix.configure(with_runner(str(SERVERS / "users_runner.py")))
    run = matrix.run("-k", "numbers").passed()
    log = Path(run.cell().facts["logs"]["worker-0-numbers-runner-stderr"])
    assert "this is the user's own runner" in log.read_text(encoding="utf-8")


def test_a_runner_of_the_user_s_inside_the_cell(
    building_matrix: Matrix, tmp_path: Path, write_wheel: WriteWheel
) -> None:
    source = (SERVERS / "users_runner.py").read_text(encoding="utf-8")
    files = {"deployment/__init__.py": "", "deployment/worker/run.py": source, "deployment/worker/__init__.py": ""}
    wheel = write_wheel(tmp_path / "deployment-1.0-py3-none-any.whl", files)
    building_matrix.configure(
        f"""
        {with_runner("deployment.worker:run.py")}
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["2024.10.0"]
        [tool.modelops.environment]
        requirements = ["{wheel}"]
        """.replace("        ", "    ")
    )
    run = building_matrix.run("-k", "handshake or execute").unavailable_is_no_failure().passed()
    log = Path(run.cell().facts["logs"]["worker-0-numbers-runner-stderr"])
    assert "this is the user's own runner" in log.read_text(encoding="utf-8")


def test_a_runner_that_the_cell_does_not_have(matrix: Matrix) -> None:
    matrix.configure(with_runner("no_such_deployment.worker:run.py"))
    run = matrix.run("-k", "handshake")
    check = run.check("handshake")
    assert (run.code, check.status) == (1, "failed")
    check.says("its runner could not be started", "no_such_deployment")


TESTS = f"""
    import functools
    import pytest

    @functools.lru_cache
    def square(x):
        return x * x

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) + 1
        return wrapper

    @logged
    def traced(x):
        return square(x)

    @pytest.mark.modelops_bundle("{BUNDLES / "seir"}")
    @pytest.mark.modelops_lambda(traced, 7, expect=50)
    @pytest.mark.modelops_handshake("{BUNDLES / "seir"}", deadline=30)
    def test_healthy(modelops_cell):
        assert modelops_cell.call("lambda: 42") == 42
        assert modelops_cell.call(square, 7) == 49
        assert set(modelops_cell.call_each(traced, 7).values()) == {{50}}
        with pytest.raises(Exception, match=r"functools\\.partial\\(.*is a wrapper"):
            modelops_cell.call(functools.partial(square, 7))

    @pytest.mark.modelops_bundle("{BUNDLES / "seir"}", deadline=120)
    def test_installed_again():
        pass

    @pytest.mark.modelops_handshake("{BUNDLES / "seir"}")
    def test_there_all_the_same():
        pass

    @pytest.mark.modelops_handshake("numbers")
    def test_configured():
        pass

    @pytest.mark.modelops_handshake("{BUNDLES / "import-hangs"}", deadline=4)
    def test_hangs():
        assert False, "the body is not reached"

    @pytest.mark.modelops_bundle("{BUNDLES / "missing-dependency"}")
    def test_needs_what_there_is_not():
        assert False, "the body is not reached"
"""


def test_markers(matrix: Matrix) -> None:
    matrix.configure(ON_ONE_WORKER)
    matrix.write("test_upgrade.py", TESTS)
    run = matrix.run("test_upgrade.py")
    statuses = {name.partition("::")[2]: check.status for name, check in run.cell().checks.items() if "::" in name}
    assert statuses == {
        "test_healthy": "passed",
        "test_installed_again": "passed",
        "test_there_all_the_same": "passed",
        "test_configured": "passed",
        "test_hangs": "timed-out",
        "test_needs_what_there_is_not": "failed",
    }, run.out
    hangs = run.check("test_upgrade.py::test_hangs")
    hangs.says("did not answer `ready` within the deadline of 4 s", 'File "wire.py", line')
    assert hangs.seconds <= 4 + 2 + 20, "its bundle is installed before"
    run.check("test_upgrade.py::test_needs_what_there_is_not").says(
        "bundle-install[missing-dependency] failed", "pytest-modelops-no-such-package"
    )
    check_name = next(
        check for check in run.cell().facts["checks"] if check["bundle"] == "missing-dependency" and check["reproduce"]
    )
    assert f"--modelops-bundle={BUNDLES / 'missing-dependency'}" in check_name["reproduce"]


def runners_of(bundle: str, matrix: Matrix, running: Running) -> list[psutil.Process]:
    """Runner processes of a bundle in this run, also those in its containers."""
    found = []
    for process in processes_of(matrix, running):
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if any("runner.py" in word for word in command) and any(f"/bundles/{bundle}/" in word for word in command):
                found.append(process)
    return found


def processes_of(matrix: Matrix, running: Running) -> Iterator[psutil.Process]:
    """Processes that name the run's directory, or are in its containers."""
    if isinstance(matrix, ContainerMatrix):
        only = {"label": [f"modelops.run={running.directory.name}"]}
        for thing in matrix.engine.api.containers(filters=only):
            with contextlib.suppress(Exception):  # it may have ended since
                for line in matrix.engine.api.top(thing["Id"], ps_args="-eo pid,args")["Processes"]:
                    yield psutil.Process(int(line[0]))
        return
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(str(running.directory) in word for word in process.cmdline()):
                yield process


def times_ready(runner: psutil.Process) -> int:
    """How many runners of its bundle on its worker have said that they are ready until now, which is kept beside it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{runner.pid}/cwd/../logs/stdout").read_bytes().count(b'"ready": true')
    return 0


def has_ended(process: psutil.Process) -> bool:
    """Whether it has."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


DEADLINE = 7
"""Of the check in which a worker is killed, in seconds."""


@pytest.mark.parametrize(
    ("bundle", "check_name", "number", "backend", "nanny"),
    [
        ("import-hangs", "handshake", signal.SIGKILL, "process", "true"),
        ("import-hangs", "handshake", signal.SIGKILL, "process", "false"),
        ("hangs-in-task", "execute", signal.SIGTERM, "process", "true"),
        ("hangs-in-task", "execute", signal.SIGKILL, "docker", "true"),
    ],
)
def test_a_worker_that_is_killed_takes_its_runner_along(  # noqa: PLR0917
    request: pytest.FixtureRequest, bundle: str, check_name: str, number: signal.Signals, backend: str, nanny: str
) -> None:
    matrix: Matrix = request.getfixturevalue("containers" if backend == "docker" else "matrix")
    cell = '[tool.modelops.matrix]\n    python = ["3.12"]\n    dask = ["2024.10.0"]'
    matrix.configure(
        f"""
    [tool.modelops]
    nanny = {nanny}
    bundles = [{{ path = "{BUNDLES / bundle}", entrypoint = "wire/run" }}]
    {cell if backend == "docker" else ""}
    [tool.modelops.deadlines]
    {check_name} = {DEADLINE}
    """
    )
    # A forked worker dies of SIGTERM at once; one that was spawned shuts down, and others go on meanwhile.
    running = matrix.start("-k", check_name, "--modelops-start=fork")
    [runner, other] = running.until(
        lambda: (
            len(found := runners_of(bundle, matrix, running)) == 2
            # The first one was the handshake's.
            and (check_name == "handshake" or all(times_ready(one) == 2 for one in found))
            and found
        ),
        "both runners run",
        seconds=120,
    )
    supervisor, _, worker, *_ = runner.parents()  # between them is what forks supervisors
    worker.send_signal(number)
    running.until(lambda: has_ended(runner), "it is gone", seconds=10)
    assert other.is_running(), "the other worker's goes on until its deadline"
    run = running.ended()
    assert has_ended(supervisor)
    assert has_ended(other)
    if isinstance(matrix, ContainerMatrix):
        assert matrix.left_on_the_engine(run) == []
    killed = f"its process was killed by signal {number}" if nanny == "true" else f"it was killed by {number.name}"
    said = {
        "handshake": ("failed", "was asked to handshake the bundle: ", killed),
        "execute": (
            "timed-out",  # on the other worker, which is reported first
            f"did not answer `execute` within the deadline of {DEADLINE} s",
            'File "wire.py", line 8 in wire',
            f"the worker left the cluster while the task was on it; {killed}",
        ),
    }
    assert run.code == 1
    run.check(check_name).broke(*said[check_name], within=DEADLINE + 2)


def test_an_environment_of_another_python_than_the_worker_s(matrix: Matrix) -> None:
    other = another_python()
    preload = matrix.write(
        "mistakes_its_python.py",
        f"""
        import sys

        def dask_setup(worker):
            if worker.name == "worker-1":
                sys.executable = {str(other)!r}
        """,
    )
    matrix.configure(
        f"""
        {NUMBERS}
        [tool.modelops.environment]
        worker-args = ["--preload", "{preload}"]
        """.replace("        ", "    ")
    )
    run = matrix.run("-k", "bundle_install")
    cell = run.cell()
    check = cell.checks["bundle-install"]
    assert (run.code, cell.facts["first_broken"], check.status) == (1, "bundle-install[numbers]", "failed"), run.out
    worker_s = ".".join(map(str, sys.version_info[:3]))
    check.says("was not installed on 1 of 2 workers", f"its environment runs Python {other.name[6:]}.")
    check.says(f", the worker {worker_s}")
    assert check.seconds <= 180 + 2
