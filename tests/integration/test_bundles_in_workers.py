"""Bundles that a worker plugin installs into running workers and the client: found there, run there, and gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import distributed

from pytest_modelops.remote.worker import in_process
from tests.integration.conftest import AT_ONCE, INSTALLED, Check, write_wheel

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, Run

BUNDLES = Path(__file__).parents[2] / "fixtures" / "bundles"
DEADLINE = 6
"""Of `execute`, in seconds."""
EVERYWHERE = ["client", "worker-0", "worker-1", "worker-late"]
WIRE = "def wire(entrypoint, params, seed):\n    return {'answer.txt': b'42'}\n"


def configured(*bundles: str) -> str:
    return f'[tool.modelops]\nstart = "fork-workers"\nbundles = [{", ".join(bundles)}]\n'


def table(path: Path, more: str = 'entrypoint = "wire/run"') -> str:
    return f'{{ path = "{path}", install = "workers", {more} }}'


NUMBERS = table(BUNDLES / "numbers", 'entrypoint = "wire/run", target = "targets:mean", target-data = { mean = 500 }')
SEIR = table(
    BUNDLES / "seir",
    'entrypoint = "seir.models/baseline", seed = 7, target = "targets.incidence:incidence_target", imports = ["seir"]',
)


TESTS = """
    import os
    import pytest

    @pytest.mark.modelops_bundle("numbers")
    def test_it_is_there(modelops_cell):
        reported = modelops_cell.call_each("lambda: __import__('wire').__file__")
        assert all("/bundles/numbers/bundle/wire.py" in file for file in reported.values())

    @pytest.mark.modelops_bundle("seir")
    def test_the_other_one_is_there(modelops_cell):
        with pytest.raises(Exception, match="No module named 'wire'"):
            modelops_cell.call("lambda: __import__('wire').__file__")
        assert "seir" in modelops_cell.call("lambda: __import__('seir').__name__")

    @pytest.mark.modelops_bundle("numbers")
    def test_it_is_there_again(modelops_cell):
        before = modelops_cell.call("lambda: __import__('os').getpid()", worker="worker-0")
        os.kill(before, 9)
        seen = "lambda: (__import__('os').getpid(), __import__('wire').__file__)"
        for _ in range(100):
            try:
                pid, file = modelops_cell.call(seen, worker="worker-0")
            except Exception:
                continue
            if pid != before:
                break
        assert pid != before
        assert "/bundles/numbers/bundle/wire.py" in file
"""
"""The last one kills a worker: that which its nanny starts has the bundle before it runs a task."""
NAMES = (
    *("numbers", "seir", "wire-raises", "import-fails", "unstable-output", "undeclared-module", "undeclared-data"),
)


def test_bundles_of_every_kind_one_after_the_other(matrix: Matrix, tmp_path: Path) -> None:
    """Most have a module `wire` of their own; none meets another's."""
    before = environment()
    entrypoints = {"undeclared-module": "undeclared", "undeclared-data": "barn"}
    more = {name: f'entrypoint = "{package}.wire/run"' for name, package in entrypoints.items()}
    known = {"numbers": NUMBERS, "seir": SEIR}
    tables = [known.get(name) or table(BUNDLES / name, more.get(name, 'entrypoint = "wire/run"')) for name in NAMES]
    named = shutil.copytree(BUNDLES / "import-fails", tmp_path / "import-fails-and-is-named")
    tables += [table(named, 'imports = ["wire"]'), prints(tmp_path)]
    tables += [wants_another(tmp_path), shadows(tmp_path), hides(tmp_path)]
    matrix.configure(configured(*tables))
    matrix.write("test_upgrade.py", TESTS)
    selected = "preflight or bundle_install or execute or bundle_aggregation or test_upgrade"
    run = matrix.start("-k", selected).ended(seconds=600)
    found = [Check(**one) for one in run.cell().facts["checks"]]
    checks = {(one.bundle, one.name): one for one in found if one.bundle}
    two_bundles_do_not_meet(run, checks)
    breaks_where_it_should(checks)
    other_modules_of_the_process(checks)
    statuses = {check.status for (bundle, _), check in checks.items() if bundle == "prints"}
    assert statuses == {"passed"}, "what it prints is no failure"
    tests = {one.name.rpartition("::")[2]: one.status for one in found if "::" in one.name}
    assert tests == dict.fromkeys(
        ("test_it_is_there", "test_the_other_one_is_there", "test_it_is_there_again"), "passed"
    )
    assert environment() == before, "the environment of the processes is as it was"


def two_bundles_do_not_meet(run: Run, checks: Mapping[tuple[str, str], Check]) -> None:
    names = {"preflight", "bundle-install", "execute", "bundle-aggregation"}
    for bundle, module in (("numbers", "wire"), ("seir", "seir")):
        own = {name: check for (of, name), check in checks.items() if of == bundle}
        assert own.keys() == names, "there is no runner to shake hands with"
        assert {check.status for check in own.values()} == {"passed"}
        data = own["bundle-install"].data
        assert data["processes"] == EVERYWHERE
        assert data["accounted"] == dict.fromkeys(EVERYWHERE, data["modules"])
        assert own["preflight"].data["modules"] == data["modules"]
        assert own["execute"].data["processes"] == 2, "the workers themselves"
        assert own["bundle-aggregation"].data["tasks"] == 2 * (3 + 1)
        assert data["by_reference"] == {"outcome": "failed", "why": f"No module named '{module}'"}, "the scheduler's"
        assert f"the scheduler has no module '{module}', which workers and client have" in " ".join(run.out.split())
    assert checks["numbers", "execute"].data["artifacts"] == {"numbers.json": 50}


def breaks_where_it_should(checks: Mapping[tuple[str, str], Check]) -> None:
    of_execute = {
        "wire-raises": "`execute` raised ValueError: beta must be positive",
        "import-fails": "`execute` raised ModuleNotFoundError: No module named",
        "unstable-output": "'answer.txt' differs between workers",
    }
    for name, expected in of_execute.items():
        assert checks[name, "bundle-install"].status == "passed"
        checks[name, "execute"].broke("failed", expected, within=AT_ONCE)
    checks["undeclared-module", "bundle-install"].broke(
        "failed",
        "2 modules of it are not found after the install",
        "undeclared.models, undeclared.models.baseline",
        within=INSTALLED,
        cause="build-leaves-modules-out",
    )
    assert checks["undeclared-data", "bundle-install"].status == "passed"
    checks["undeclared-data", "execute"].broke(
        "failed", "`execute` raised FileNotFoundError", within=INSTALLED, cause="build-leaves-data-out"
    )
    named = checks["import-fails-and-is-named", "bundle-install"]
    named.broke("failed", "import wire failed: ModuleNotFoundError", within=INSTALLED)
    assert {"client", "worker-0", "worker-1"} <= set(re.findall(r"[\w-]+", named.message))


def other_modules_of_the_process(checks: Mapping[tuple[str, str], Check]) -> None:
    """The process has imported a package in another version, a module from elsewhere, or has not imported it yet."""
    here = metadata.version("msgpack")
    checks["wants-another", "bundle-install"].broke(
        "failed",
        "was not installed into 3 of 3 processes",
        f"the bundle brings msgpack 0.0.1, and this process has already imported msgpack {here}, which stays",
        f"ask for msgpack=={here}",
        within=INSTALLED,
    )
    assert checks["wants-another", "execute"].blocked_by == "bundle-install[wants-another]"
    expected = "its module tornado cannot be imported: this process has already imported another tornado ("
    hides_it = checks["hides", "bundle-install"].broke("failed", expected, within=INSTALLED)
    assert "module config" not in hides_it.message
    assert checks["shadows", "execute"].status == "passed", checks["shadows", "execute"].message
    [shadowed] = checks["shadows", "bundle-install"].data["shadowed"]
    assert shadowed.startswith("iniconfig ")
    assert shadowed.endswith(" by 0.0.1")


def prints(directory: Path) -> str:
    """At its import and in its task."""
    made = shutil.copytree(BUNDLES / "writes-to-stdout", directory / "prints")
    wire = (made / "wire.py").read_text(encoding="utf-8")
    (made / "wire.py").write_text(f"{wire}\nprint('loading the model')\n", encoding="utf-8")
    return table(made)


def wants_another(directory: Path) -> str:
    made = bundle(directory / "wants-another", "./msgpack-0.0.1-py3-none-any.whl", {"wire.py": WIRE})
    write_wheel(made / "msgpack-0.0.1-py3-none-any.whl", {"msgpack/__init__.py": ""})
    return table(made)


def shadows(directory: Path) -> str:
    wire = "import iniconfig\ndef wire(e, p, s):\n    return {'answer.txt': iniconfig.VERSION}\n"
    made = bundle(directory / "shadows", "./iniconfig-0.0.1-py3-none-any.whl", {"wire.py": wire})
    write_wheel(made / "iniconfig-0.0.1-py3-none-any.whl", {"iniconfig/__init__.py": "VERSION = b'0.0.1'\n"})
    return table(made, 'entrypoint = "wire/run", expect = { "answer.txt" = "0.0.1" }, imports = ["iniconfig"]')


def hides(directory: Path) -> str:
    return table(bundle(directory / "hides", "", {"wire.py": WIRE, "tornado.py": "", "config.py": ""}))


def test_jobs_that_submit_functions_of_the_bundle(matrix: Matrix) -> None:
    """All three have a module `grid`: what went into the scheduler for one is not there for the next."""
    for name in ("all", "workers-only", "unnamed"):
        matrix.write(f"{name}/grid.py", "def run(seed):\n    return {'seed': seed}\n")
        matrix.write(f"{name}/wire.py", WIRE)
    matrix.write(
        "test_job.py",
        """
        import grid
        import pytest

        @pytest.mark.modelops_bundle("all")
        def test_job(modelops_cell):
            with modelops_cell.client() as client:
                assert client.submit(grid.run, 3).result(timeout=30) == {"seed": 3}

        @pytest.mark.modelops_bundle("unnamed")
        def test_job_of_workers(modelops_cell):
            with modelops_cell.client() as client:
                client.submit(grid.run, 3).result(timeout=30)
        """,
    )
    matrix.configure(
        """
        [tool.modelops]
        workers = 1
        start = "fork-workers"
        bundles = [
            { path = "all", install = "everywhere", entrypoint = "grid:run", submits = ["grid:run", "wire:wire"] },
            { path = "workers-only", install = "workers", entrypoint = "grid:run", submits = "grid:run" },
            { path = "unnamed", install = "workers", entrypoint = "grid:run" },
        ]
        [tool.pytest.ini_options]
        pythonpath = ["all"]
        """
    )
    run = matrix.run()
    found = [Check(**one) for one in run.cell().facts["checks"]]
    checks = {(one.bundle, one.name.rpartition("::")[2].partition("[")[0]): one for one in found}
    installed = checks["all", "bundle-install"]
    assert installed.status == checks["all", "execute"].status == "passed", installed.message
    assert installed.data["processes"] == ["client", "scheduler", "worker-0", "worker-late"]
    assert installed.data["by_reference"] == {"outcome": "passed", "functions": ["grid:run", "wire:wire"]}
    assert checks[None, "test_job"].status == "passed"
    lacks = "the scheduler has no module 'grid', which workers and client have"
    cause = "scheduler-lacks-module"
    lacking = checks["workers-only", "bundle-install"]
    lacking.broke("failed", lacks, 'install = "everywhere"', within=INSTALLED, cause=cause)
    assert checks["workers-only", "execute"].blocked_by == "bundle-install[workers-only]"
    assert checks["unnamed", "execute"].status == "passed", "a runtime's jobs do not notice"
    assert checks["unnamed", "bundle-install"].data["by_reference"]["outcome"] == "failed"
    assert "name them in `submits`" in " ".join(run.out.split())
    checks[None, "test_job_of_workers"].broke("failed", within=INSTALLED, cause=cause)


def environment() -> dict[str, tuple[int, int]]:
    """Every file of this interpreter's packages, which are those of an as-is cell."""
    return in_process.listing([str(Path(distributed.__file__).parents[1])])


def bundle(directory: Path, requirement: str, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "requirements.txt").write_text(f"{requirement}\n", encoding="utf-8")
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")
    return directory


BREAKS = """
    import pathlib

    def dask_setup(worker):
        real = worker.modelops_bundles.install_in_process
        def install(location, **given):
            breaks_on = location["name"].partition("-")[2]
            if str(worker.name) == breaks_on == "worker-1":
                directory = pathlib.Path(location["directories"]["worker-1"])
                directory.mkdir(parents=True)
                (directory / "inside").touch()  # where its packages belong
            elif str(worker.name) == breaks_on:
                location, given["requirements"] = {**location, "installed": None}, ["no-such-package==1"]
            return real(location, **given)
        worker.modelops_bundles.install_in_process = install
"""


def test_an_install_that_fails_on_one_worker_and_tasks_that_break(matrix: Matrix, tmp_path: Path) -> None:
    expected = {
        "worker-1": (
            "was not installed into 1 of 3 processes",
            "copying what was installed for numbers-worker-1: ",
            "exists",
        ),
        "worker-late": ("was not installed into worker-late, which joined after the others", "no-such-package"),
    }
    bundles = [shutil.copytree(BUNDLES / "numbers", tmp_path / f"numbers-{where}") for where in expected]
    names = ("dies-in-task", "hangs-in-task")
    breaks = matrix.write("breaks.py", BREAKS)
    matrix.configure(
        configured(*map(table, bundles), *(table(BUNDLES / name) for name in names))
        + f'[tool.modelops.environment]\nworker-args = ["--preload", "{breaks}"]\n'
        + f"[tool.modelops.deadlines]\nexecute = {DEADLINE}\n"
    )
    run = matrix.run("-k", "bundle_install or in-task")
    assert run.code == 1, run.out
    checks = {(one["bundle"], one["name"]): Check(**one) for one in run.cell().facts["checks"] if one["bundle"]}
    for where, said in expected.items():
        check = checks[f"numbers-{where}", "bundle-install"].broke("failed", *said, within=INSTALLED)
        assert where in check.message
    assert {checks[name, "bundle-install"].status for name in names} == {"passed"}
    left = "2 of 2 workers: the worker left the cluster while the task was on it; its process was killed"
    checks["dies-in-task", "execute"].broke("failed", left, within=AT_ONCE)
    hangs = ("not finished in time", "Where each process stands", 'wire.py", line')
    checks["hangs-in-task", "execute"].broke("timed-out", *hangs, within=DEADLINE + 2)


def test_cells_that_are_built_and_those_whose_workers_have_another_python(building_matrix: Matrix) -> None:
    """Where functions cannot be sent, bundles are installed and runners answer all the same."""
    building_matrix.configure(
        configured(f'{{ path = "{BUNDLES / "numbers"}", entrypoint = "wire/run" }}', SEIR)
        + '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n'
        + 'include = [{ python = "3.12", dask = "2024.10.0", worker = { python = "3.13" } }]\n'
    )
    run = building_matrix.run("-k", "lambda or handshake or execute or seir").unavailable_is_no_failure()
    like, skew = run.cells
    assert like.facts["first_broken"] is None, run.out
    assert {check["status"] for check in like.facts["checks"] if check["selected"]} == {"passed"}
    checks = {(one["bundle"], one["name"]): Check(**one) for one in skew.facts["checks"]}
    install = checks["seir", "bundle-install"]
    assert (install.status, install.data["processes"]) == ("passed", EVERYWHERE), install.message
    assert skew.facts["first_broken"] == "lambda"
    assert checks["numbers", "handshake"].status == "passed", "the runner has the worker's Python, as it should"
    checks["numbers", "execute"].broke("failed", "worker", within=INSTALLED, cause="roles-of-different-pythons")


def test_a_handshake_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(configured(NUMBERS))
    marker = 'import pytest\n\n@pytest.mark.modelops_handshake("numbers")\ndef test_it():\n    pass\n'
    matrix.write("test_upgrade.py", marker)
    run = matrix.start("test_upgrade.py").ended()
    assert run.code == 4
    assert "'numbers' is installed into the workers, where it has no runner" in run.out
