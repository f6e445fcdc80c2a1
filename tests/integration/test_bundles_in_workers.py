"""Bundles that a worker plugin installs into running workers and the client: found there, run there, and gone."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import distributed
import pytest

from pytest_modelops.remote.worker import in_process
from tests.integration.conftest import AT_ONCE, INSTALLED, Check

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, WriteWheel

BUNDLES = Path(__file__).parents[2] / "fixtures" / "bundles"
DEADLINE = 10
"""Of `execute`, in seconds."""
EVERYWHERE = ["client", "worker-0", "worker-1", "worker-late"]
WIRE = "def wire(entrypoint, params, seed):\n    return {'answer.txt': b'42'}\n"


def configured(*bundles: str) -> str:
    return f"[tool.modelops]\nbundles = [{', '.join(bundles)}]\n"


def table(path: Path, more: str = 'entrypoint = "wire/run"') -> str:
    return f'{{ path = "{path}", install = "workers", {more} }}'


NUMBERS = table(BUNDLES / "numbers", 'entrypoint = "wire/run", target = "targets:mean", target-data = { mean = 500 }')
SEIR = table(
    BUNDLES / "seir",
    'entrypoint = "seir.models/baseline", seed = 7, target = "targets.incidence:incidence_target", imports = ["seir"]',
)


def test_two_bundles_run_their_checks_and_do_not_meet(matrix: Matrix) -> None:
    """Both have modules `wire` or `targets` of their own."""
    before = environment()
    matrix.configure(configured(NUMBERS, SEIR))
    run = matrix.run("-k", "numbers or seir").passed()
    checks = {(check["bundle"], check["name"]): check for check in run.cell().facts["checks"] if check["bundle"]}
    names = ("preflight", "bundle-install", "execute", "bundle-aggregation")
    assert set(checks) == {(bundle, name) for bundle in ("numbers", "seir") for name in names}, (
        "there is no runner to shake hands with"
    )
    for bundle in ("numbers", "seir"):
        data = checks[bundle, "bundle-install"]["data"]
        assert data["processes"] == EVERYWHERE
        assert data["accounted"] == dict.fromkeys(EVERYWHERE, data["modules"])
        assert checks[bundle, "preflight"]["data"]["modules"] == data["modules"]
        assert checks[bundle, "execute"]["data"]["processes"] == 2, "the workers themselves"
        assert checks[bundle, "bundle-aggregation"]["data"]["tasks"] == 2 * (3 + 1)
    for bundle, module in (("numbers", "wire"), ("seir", "seir")):
        submitted = checks[bundle, "bundle-install"]["data"]["by_reference"]
        assert submitted == {"outcome": "failed", "why": f"No module named '{module}'"}, "the scheduler lacks it"
        assert f"the scheduler has no module '{module}', which workers and client have" in " ".join(run.out.split())
    assert checks["numbers", "execute"]["data"]["artifacts"] == {"numbers.json": 50}
    assert environment() == before, "the environment of the processes is as it was"


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


def test_a_package_that_the_process_has_imported_in_another_version(
    matrix: Matrix, tmp_path: Path, write_wheel: WriteWheel
) -> None:
    directory = bundle(tmp_path / "wants-another", "./msgpack-0.0.1-py3-none-any.whl", {"wire.py": WIRE})
    write_wheel(directory / "msgpack-0.0.1-py3-none-any.whl", {"msgpack/__init__.py": ""})
    matrix.configure(configured(table(directory)))
    run = matrix.run("-k", "wants-another")
    here = metadata.version("msgpack")
    assert run.code == 1
    run.check("bundle-install").broke(
        "failed",
        "was not installed into 3 of 3 processes",
        f"the bundle brings msgpack 0.0.1, and this process has already imported msgpack {here}, which stays",
        f"ask for msgpack=={here}",
        within=INSTALLED,
    )
    assert run.check("execute").blocked_by == "bundle-install[wants-another]"


def test_a_package_that_nobody_has_imported_yet_is_shadowed_and_reported(
    matrix: Matrix, tmp_path: Path, write_wheel: WriteWheel
) -> None:
    wire = "import iniconfig\ndef wire(e, p, s):\n    return {'answer.txt': iniconfig.VERSION}\n"
    directory = bundle(tmp_path / "shadows", "./iniconfig-0.0.1-py3-none-any.whl", {"wire.py": wire})
    write_wheel(directory / "iniconfig-0.0.1-py3-none-any.whl", {"iniconfig/__init__.py": "VERSION = b'0.0.1'\n"})
    more = 'entrypoint = "wire/run", expect = { "answer.txt" = "0.0.1" }, imports = ["iniconfig"]'
    matrix.configure(configured(table(directory, more)))
    cell = matrix.run("-k", "shadows").passed().cell()
    [shadowed] = cell.checks["bundle-install"].data["shadowed"]
    assert shadowed.startswith("iniconfig ")
    assert shadowed.endswith(" by 0.0.1")


def test_a_module_that_the_process_has_imported_from_elsewhere(matrix: Matrix, tmp_path: Path) -> None:
    directory = bundle(tmp_path / "hides", "", {"wire.py": WIRE, "tornado.py": "", "config.py": ""})
    matrix.configure(configured(table(directory)))
    expected = "its module tornado cannot be imported: this process has already imported another tornado ("
    check = matrix.run("-k", "hides").check("bundle-install").broke("failed", expected, within=INSTALLED)
    assert "module config" not in check.message


def test_a_module_that_is_left_out_and_an_import_that_fails(matrix: Matrix) -> None:
    left_out = table(BUNDLES / "undeclared-module", 'entrypoint = "undeclared.wire/run"')
    flat = table(BUNDLES / "undeclared-flat", 'entrypoint = "sprout.wire/run"')
    data = table(BUNDLES / "undeclared-data", 'entrypoint = "barn.wire/run"')
    fails = table(BUNDLES / "import-fails", 'imports = ["wire"]')
    matrix.configure(configured(left_out, flat, data, fails))
    run = matrix.run("-k", "undeclared or import-fails")
    found = run.cell().facts["checks"]
    checks = {check["bundle"]: Check(**check) for check in found if check["name"] == "bundle-install"}
    cause = "build-leaves-modules-out"
    checks["undeclared-flat"].broke("failed", "sprout.models, sprout.models.baseline", within=INSTALLED, cause=cause)
    assert checks["undeclared-data"].status == "passed"
    [executed] = [Check(**one) for one in found if (one["bundle"], one["name"]) == ("undeclared-data", "execute")]
    executed.broke("failed", "`execute` raised FileNotFoundError", within=INSTALLED, cause="build-leaves-data-out")
    left_out_s, fails_s = checks["undeclared-module"], checks["import-fails"]
    left_out_s.broke("failed", "2 modules of it are not found after the install", within=INSTALLED, cause=cause)
    fails_s.broke("failed", "import wire failed: ModuleNotFoundError", within=INSTALLED)
    assert {"client", "worker-0", "worker-1"} <= set(re.findall(r"[\w-]+", fails_s.message))


def test_answers_that_are_none_break_where_they_are_asked_for(matrix: Matrix) -> None:
    expected = {
        "wire-raises": "`execute` raised ValueError: beta must be positive",
        "import-fails": "`execute` raised ModuleNotFoundError: No module named",
        "unstable-output": "'answer.txt' differs between workers",
        "empty-output": "it returned no artifact that holds anything",
    }
    matrix.configure(configured(*(table(BUNDLES / name) for name in expected)))
    checks = matrix.run("-k", "bundle_install or execute").cell().facts["checks"]
    statuses = {check["bundle"]: check["status"] for check in checks if check["name"] == "bundle-install"}
    assert statuses == dict.fromkeys(expected, "passed")
    executed = {check["bundle"]: Check(**check) for check in checks if check["name"] == "execute"}
    assert executed.keys() == expected.keys()
    for name, check in executed.items():
        check.broke("failed", expected[name], within=AT_ONCE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hangs-in-task", ("not finished in time", "Where each process stands", 'wire.py", line')),
        (
            "dies-in-task",
            ("2 of 2 workers: the worker left the cluster while the task was on it; its process was killed",),
        ),
    ],
)
def test_it_breaks_at_the_right_check(matrix: Matrix, name: str, expected: tuple[str, ...]) -> None:
    matrix.configure(f"{configured(table(BUNDLES / name))}[tool.modelops.deadlines]\nexecute = {DEADLINE}\n")
    cell = matrix.run("-k", name).cell()
    assert cell.facts["first_broken"] == f"execute[{name}]", cell.statuses
    hangs = name == "hangs-in-task"
    status, within = ("timed-out", DEADLINE + 2) if hangs else ("failed", AT_ONCE)
    cell.checks["execute"].broke(status, *expected, within=within)


def test_what_it_prints_is_no_failure(matrix: Matrix) -> None:
    matrix.configure(configured(*(table(BUNDLES / n) for n in ("prints-at-import", "writes-to-stdout"))))
    matrix.run("-k", "prints-at-import or writes-to-stdout").passed()


BREAKS = """
    import os
    import pathlib

    def dask_setup(worker):
        real = worker.modelops_bundles.install_in_process
        def install(location, **given):
            breaks_on = "worker-" + os.environ["BREAKS_ON"]
            if str(worker.name) == breaks_on == "worker-1":
                directory = pathlib.Path(location["directories"]["worker-1"])
                directory.mkdir(parents=True)
                (directory / "inside").touch()  # where its packages belong
            elif str(worker.name) == breaks_on:
                location, given["requirements"] = {**location, "installed": None}, ["no-such-package==1"]
            return real(location, **given)
        worker.modelops_bundles.install_in_process = install
"""


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("worker-1", ("was not installed into 1 of 3 processes", "copying what was installed for numbers: ", "exists")),
        ("worker-late", ("was not installed into worker-late, which joined after the others", "no-such-package")),
    ],
)
def test_an_install_that_fails_on_one_worker(matrix: Matrix, where: str, expected: tuple[str, ...]) -> None:
    breaks = matrix.write("breaks.py", BREAKS)
    matrix.configure(
        configured(NUMBERS)
        + f'[tool.modelops.environment]\nenv = {{ BREAKS_ON = "{where.removeprefix("worker-")}" }}\n'
        + f'worker-args = ["--preload", "{breaks}"]\n'
    )
    run = matrix.run("-k", "numbers")
    assert run.code == 1, run.out
    check = run.check("bundle-install").broke("failed", *expected, within=INSTALLED)
    assert where in check.message


TESTS = """
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
"""


def test_a_test_s_body_finds_it_in_the_workers(matrix: Matrix) -> None:
    matrix.configure(configured(NUMBERS, SEIR))
    matrix.write("test_upgrade.py", TESTS)
    matrix.run("test_upgrade.py").passed()


RESTARTED = """
    import os, time
    import pytest

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


def test_a_worker_that_its_nanny_has_restarted_has_it_before_it_runs_a_task(matrix: Matrix) -> None:
    matrix.configure(configured(NUMBERS))
    matrix.write("test_upgrade.py", RESTARTED)
    matrix.run("test_upgrade.py").passed()


def test_cells_that_are_built_and_those_whose_client_has_another_python(building_matrix: Matrix) -> None:
    building_matrix.configure(
        configured(SEIR)
        + '[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n'
        + 'include = [{ python = "3.12", dask = "2024.10.0", worker = { python = "3.13" } }]\n'
    )
    run = building_matrix.run("-k", "seir").unavailable_is_no_failure()
    like, skew = run.cells
    assert like.facts["first_broken"] is None, run.out
    assert {check["status"] for check in like.facts["checks"] if check["bundle"]} == {"passed"}
    install = skew.checks["bundle-install"]
    assert (install.status, install.data["processes"]) == ("passed", EVERYWHERE), install.message


def test_a_handshake_is_wrong_input(matrix: Matrix) -> None:
    matrix.configure(configured(NUMBERS))
    marker = 'import pytest\n\n@pytest.mark.modelops_handshake("numbers")\ndef test_it():\n    pass\n'
    matrix.write("test_upgrade.py", marker)
    run = matrix.start("test_upgrade.py").ended()
    assert run.code == 4
    assert "'numbers' is installed into the workers, where it has no runner" in run.out
