"""Cells that are really broken: each breaks at the right check, with the right status, in time, and says why."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
import pytest

from tests.integration.conftest import AT_ONCE, INSTALLED

if TYPE_CHECKING:
    from tests.integration.conftest import Matrix, WriteWheel

PRELOADS = Path(__file__).parents[2] / "fixtures" / "preloads"

AT_THE_30TH = """
import os, pathlib, shutil, signal
from distributed.diagnostics.plugin import WorkerPlugin

class AtThe30th(WorkerPlugin):
    done = 0

    def transition(self, key, start, finish, **kwargs):
        if str(key).startswith("sim-") and finish == "memory":
            self.done += 1
            if self.done == 30:
                {action}

async def dask_setup(worker):
    if str(worker.name) == "worker-1":
        await worker.plugin_add(plugin=AtThe30th(), name="at-the-30th")
"""
"""A preload with which worker-1 does something after its 30th replicate: in the middle of the aggregation."""

ON_TRANSITION = """
import glob, json, os, signal
from distributed.diagnostics.plugin import WorkerPlugin

class Once(WorkerPlugin):
    def transition(self, key, start, finish, **kwargs):
        if str(key).startswith({start!r}) and str(key).endswith({end!r}) and finish == {finish!r}:
{action}

async def dask_setup(worker):
    await worker.plugin_add(plugin=Once(), name="once")
"""
"""A preload with which a worker does something when one task changes its state."""

SMALL = "[tool.modelops.aggregation]\nparams = 8\nreplicates = 8\n"
"""A job with a parameter set 7, and a replicate 7 of it."""

WHEN_THERE = """
import os, signal, threading, time

def when_there(file, act):
    def wait():
        while not os.path.exists(file):
            time.sleep(0.01)
        act()
    threading.Thread(target=wait, daemon=True).start()
"""
"""For tests in a cell's project: do something as soon as a worker has created a file."""


def preload(matrix: Matrix, source: str | Path, more: str = "", *, option: str = "--preload") -> None:
    """Configure workers that load a file, which exists or is written here, and more settings."""
    path = source if isinstance(source, Path) else matrix.write("loaded_by_workers.py", source)
    matrix.configure(f'[tool.modelops.environment]\nworker-args = ["{option}", "{path}"]\n{textwrap.dedent(more)}')


# --- start --------------------------------------------------------------------------------------------------


def test_a_worker_that_never_registers(matrix: Matrix) -> None:
    preload(matrix, PRELOADS / "never_registers.py", "[tool.modelops.deadlines]\nstart = 8")
    run = matrix.run()
    check = run.cell().broke("start", "timed-out", deadline=8, cause="preload-does-not-end")
    check.says(
        "1 of 2 workers registered with the scheduler within 8 s.", "Diagnosis: worker-1 (pid ", " is not registered"
    )
    check.says("with the scheduler, at ", 'never_registers.py", line 11 in <module>.', "worker-1 (pid ")
    assert "worker-0" not in check.message.partition("Where each process stands")[0]
    check.says(
        "Where each process stands:",
        "worker-0 (pid ",
        "worker-1 (pid ",
        'never_registers.py", line 11 in <module>',
        *("its child process ", " was sleeping", "in ask_for_a_licence"),
    )
    assert run.code == 1


@pytest.mark.parametrize("nanny", ["true", "false"])
def test_a_worker_that_dies_at_start(matrix: Matrix, nanny: str) -> None:
    preload(matrix, PRELOADS / "dies_at_start.py", f"[tool.modelops]\nnanny = {nanny}")
    check = matrix.run().cell().broke("start", "failed", deadline=20)
    check.says("worker-1 exited with code 4", "no licence for this host", "Full log: ", "worker-1.log")


def test_options_that_dask_would_ignore(matrix: Matrix) -> None:
    matrix.configure("[tool.modelops.environment]\nworker-args = ['--lifetimes', '9 hours']")
    check = matrix.run().cell().broke("start", "failed", deadline=AT_ONCE, cause="option-unknown-to-dask")
    check.says("No such option: --lifetimes '9 hours'.", " of Dask 20", "`--lifetime`", "`worker-args`")


def test_variables_that_dask_cannot_read_as_its_configuration(matrix: Matrix) -> None:
    matrix.configure("[tool.modelops.environment]\nenv = { DASK_A__B = 'text', DASK_A__B__C = 'below it' }")
    check = matrix.run().cell().broke("start", "failed", deadline=AT_ONCE, cause="variables-break-dask-configuration")
    check.says("worker-", "exited with code 1 (TypeError", "DASK_A__B, DASK_A__B__C. See `env`")


def test_arguments_of_a_preload_reach_it(matrix: Matrix) -> None:
    """Also the first, which Dask would take for the scheduler's address."""
    matrix.write(
        "test_it.py",
        """
        def token():
            from distributed import get_worker
            return get_worker().token

        def test_it(modelops_cell):
            assert modelops_cell.call_each(token) == {"worker-0": "t-1"}
        """,
    )
    takes = """
        import click

        @click.command()
        @click.option("--token")
        def dask_setup(worker, token):
            worker.token = token
        """
    path = matrix.write("takes_a_token.py", takes)
    matrix.configure(
        f"[tool.modelops]\nworkers = 1\n[tool.modelops.environment]\n"
        f'worker-args = ["--preload", "{path}", "--token", "t-1"]'
    )
    matrix.run("test_it.py").passed()


def test_preloads_of_workers_and_nannies_that_raise(matrix: Matrix) -> None:
    """Also errors that Dask does not catch, which end the process; of the scheduler's, which is configured, too."""
    source = "def dask_setup(server):\n    open_ledger()\n\ndef open_ledger():\n    raise {0}('no {1}')\n"
    path = matrix.write("for_nannies.py", source.format("SystemExit", "quota"))
    leaves = matrix.write("leaves.py", source.format("KeyboardInterrupt", "licence"))
    of_scheduler = matrix.write("of_scheduler.py", source.format("SystemExit", "address"))
    preload(
        matrix,
        source.format("OSError", "ledger"),
        f"""scheduler-env = {{ DASK_DISTRIBUTED__SCHEDULER__PRELOAD = '["{of_scheduler}"]' }}
        [tool.modelops]
        workers = 1""",
        option=f'--preload-nanny", "{path}", "--preload", "{leaves}", "--preload',
    )
    check = matrix.run().cell().broke("start", "failed", deadline=AT_ONCE, cause="preload-raises")
    check.says(
        "the preload ", "loaded_by_workers.py failed on worker-0 (tcp://", "): OSError: no ledger", "open_ledger"
    )
    check.says("for_nannies.py failed on nanny of worker-0 (tcp://", "): SystemExit: no quota", "open_ledger")
    check.says("leaves.py failed on worker-0 (tcp://", "): KeyboardInterrupt: no licence", "open_ledger")
    check.says("of_scheduler.py failed on scheduler: SystemExit: no address", "open_ledger")


def test_a_configured_preload_of_the_scheduler_that_raises(building_matrix: Matrix, write_wheel: WriteWheel) -> None:
    settings = "distributed: {scheduler: {preload: [ledger_preload]}}\n"
    wheel = write_wheel(
        building_matrix.path / "ledger_preload-1.0-py3-none-any.whl",
        {
            "ledger_preload.py": "async def dask_setup(scheduler):\n    scheduler.ledger = {}['ledger']\n",
            "ledger_preload-1.0.data/data/etc/dask/ledger.yaml": settings,
        },
    )
    building_matrix.configure(f'[tool.modelops]\nworkers = 1\n[tool.modelops.environment]\nrequirements = ["{wheel}"]')
    check = building_matrix.run().cell().broke("start", "failed", deadline=20, cause="preload-raises")
    check.says("the preload ledger_preload failed on scheduler: KeyError: 'ledger'", "in dask_setup")


def test_a_scheduler_that_dies_at_start(building_matrix: Matrix, write_wheel: WriteWheel) -> None:
    # Dask reads etc/dask of the prefix; with this, the scheduler loads pages that do not exist.
    settings = "distributed: {scheduler: {http: {routes: [ledger.pages]}}}\n"
    wheel = write_wheel(
        building_matrix.path / "site_settings-1.0-py3-none-any.whl",
        {"site_settings-1.0.data/data/etc/dask/site.yaml": settings},
    )
    building_matrix.configure(f'[tool.modelops.environment]\nrequirements = ["{wheel}"]')
    cell = building_matrix.run().cell()
    check = cell.broke("start", "failed", deadline=20, cause="module-missing-at-start")
    check.says("scheduler exited with code 1", "ModuleNotFoundError: No module named 'ledger'")
    check.says("Full log: ", "scheduler.log")
    assert "site-settings==1.0" in cell.facts["lock"]


# --- versions -----------------------------------------------------------------------------------------------


def test_a_worker_that_runs_something_else_than_was_asked_for(matrix: Matrix) -> None:
    stray = matrix.path / "stray"  # as with a forgotten PYTHONPATH
    copy = Path(shutil.copytree(Path(cloudpickle.__file__).parent, stray / "cloudpickle")) / "__init__.py"
    copy.write_text(copy.read_text().replace(f'"{cloudpickle.__version__}"', '"0.0.1"'))
    meddles = """
        import os, dask

        os.environ["MODELOPS_EXECUTOR_TYPE"] = "warm"
        os.environ.pop("LEDGER", None)
        dask.config.set({"distributed.worker.memory.target": 0.9})
        """
    preload(
        matrix,
        meddles,
        f"""
        [tool.modelops]
        workers = 1
        [tool.modelops.environment.env]
        PYTHONPATH = "{stray}"
        MODELOPS_EXECUTOR_TYPE = "cold"
        LEDGER = "tcp://ledger"
        DASK_DISTRIBUTED__WORKER__MEMORY__TARGET = "0.5"
        """,
    )
    run = matrix.run()
    check = run.cell().broke("versions", "failed", deadline=30)
    [address] = run.cell().facts["observed"]["workers"]
    installed = cloudpickle.__version__
    check.says(
        "what runs is not what was asked for:",
        f"worker-0 ({address}): asked for cloudpickle {installed}, runs 0.0.1",
        f"worker-0 ({address}): asked for the variable MODELOPS_EXECUTOR_TYPE='[…]', has 'warm'",
        f"worker-0 ({address}): asked for the variable LEDGER='[…]', has None",
        f"worker-0 ({address}): asked for Dask's distributed.worker.memory.target = 0.5, has 0.9",
        f"cloudpickle differs: client {installed}, scheduler {installed}, worker-0 ({address}) 0.0.1",
    )
    for shown in ("MODELOPS_EXECUTOR_TYPE='cold', has 'warm'", "LEDGER='tcp://ledger', has None"):
        assert f"worker-0 ({address}): asked for the variable {shown}" in run.out, (
            "the terminal shows what reports do not"
        )


def test_a_worker_that_does_not_report_its_versions(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import os, signal

        def test_it(modelops_cell):
            modelops_cell.require("start")
            reported = modelops_cell.observed["workers"].values()
            [pid] = [facts["pid"] for facts in reported if facts["settings"]["name"] == "worker-1"]
            os.kill(pid, signal.SIGSTOP)
            modelops_cell.run_check("versions")
            os.kill(pid, signal.SIGCONT)
            # Asking for its stacks did no harm.
            modelops_cell.require("lambda")
            assert pid in modelops_cell.call_each("lambda: __import__('os').getpid()").values()
        """,
    )
    matrix.configure("[tool.modelops.deadlines]\nversions = 3")
    cell = matrix.run("test_it.py").cell()
    check = cell.checks["versions"].broke("timed-out", within=3 + 2, cause="process-stopped")
    check.says("asked for their versions, these did not answer:", "worker-1 (tcp://", "): no answer within 3 s")
    assert "worker-0" not in check.message.partition("Where each process stands")[0]
    check.says("Where each process stands:", "worker-1 (pid ", " is stopped (SIGSTOP)")
    assert cell.checks["test_it.py::test_it"].status == "passed", cell.checks["test_it.py::test_it"].message


# --- lambda -------------------------------------------------------------------------------------------------


def test_functions_that_fail(matrix: Matrix) -> None:
    """All in one cell: what one test does to its workers does not affect the next."""
    matrix.write(
        "test_it.py",
        """
        import pytest

        def exits(code):
            import os
            os._exit(code)

        def test_dies(modelops_cell):
            modelops_cell.call_each(exits, 7)

        @pytest.mark.modelops_lambda(exits, 8)
        def test_marked_dies(modelops_cell):
            raise AssertionError("must not run")

        @pytest.mark.modelops_lambda("lambda x: 1 / x", 0)
        def test_raises():
            raise AssertionError("must not run")

        @pytest.mark.modelops_lambda("lambda x: x", 41, expect=42)
        def test_wrong():
            raise AssertionError("must not run")

        @pytest.mark.modelops_lambda("lambda: __import__('time').sleep(1000)", deadline=2)
        def test_slow():
            raise AssertionError("must not run")
        """,
    )
    run = matrix.run("test_it.py")
    assert run.code == 1
    cell = run.cell()
    checks = {name.removeprefix("test_it.py::"): check for name, check in cell.checks.items()}
    statuses = {name: check.status for name, check in checks.items() if name.startswith("test_")}
    assert statuses.pop("test_slow") == "timed-out"
    assert set(statuses.values()) == {"failed"}
    checks["test_dies"].says(f"exits in cell {cell.facts['id']} on worker-0: the worker left the cluster")
    checks["test_dies"].says("while the task was on it; its process exited with status 7")
    checks["test_marked_dies"].says("`exits` with 8 failed on 2 of 2 workers.")
    checks["test_marked_dies"].says("worker-0, worker-1: the worker left the cluster while the task was on it;")
    checks["test_marked_dies"].says("its process exited with status 8", "worker-0: Its last output:", "worker-0.log")
    checks["test_raises"].says("`lambda x: 1 / x` with 0 failed on 2 of 2 workers.")
    checks["test_raises"].says("worker-0, worker-1: ZeroDivisionError: division by zero", "in <lambda>")
    checks["test_wrong"].says("`lambda x: x` with 41 failed on 2 of 2 workers.", "returned 41, not 42")
    checks["test_slow"].says("failed on 2 of 2 workers.", "not finished within 2 s, processing on ", "tcp://")
    # They were restarted after each death, and are where the function waits.
    checks["test_slow"].says("Where each process stands:", "worker-1 (pid ", " in <lambda>")
    assert checks["test_slow"].seconds <= 2 + 2


def test_a_function_that_is_too_hungry_for_memory(matrix: Matrix) -> None:
    matrix.write(
        "test_it.py",
        """
        import time

        def eats():
            kept = []
            for _ in range(100):
                kept.append(bytearray(b"x" * (10 << 20)))
                time.sleep(0.05)

        def test_it(modelops_cell):
            modelops_cell.call_each(eats)
        """,
    )
    matrix.configure(
        '[tool.modelops]\nworkers = 1\n[tool.modelops.environment]\nworker-args = ["--memory-limit", "320MiB"]'
    )
    check = matrix.run("test_it.py").check("test_it.py::test_it")
    assert check.cause == "memory-limit"
    check.says(
        "its process was ended by its nanny", "of its memory limit of 320 MiB (`--memory-limit` in `worker-args`)"
    )
    check.says(" memory budget", "Log: ", "worker-0.log")


def test_a_package_that_is_too_new_for_its_dask(building_matrix: Matrix) -> None:
    building_matrix.write(
        "test_it.py",
        """
        def frames():
            import dask.dataframe

        def test_it(modelops_cell):
            modelops_cell.call(frames)
        """,
    )
    building_matrix.configure(
        """
        [tool.modelops]
        workers = 1
        [tool.modelops.matrix]
        python = ["3.11"]
        dask = ["2023.1.1"]
        [tool.modelops.environment]
        requirements = ["pandas>=2,<2.1", "numpy<2"]
        """
    )
    cell = building_matrix.run("test_it.py").unavailable_is_no_failure().cell()
    check = cell.checks["test_it.py::test_it"].broke("failed", within=INSTALLED, cause="pandas-2-with-old-dask")
    check.says("AttributeError: module 'pandas.core.strings' has no attribute 'StringMethods'")


def test_a_function_that_takes_its_worker_down_before_a_slow_nanny_has_noticed_it(matrix: Matrix) -> None:
    """Such a nanny would think that the worker failed to start, and end."""
    slow = "from distributed.nanny import WorkerProcess\nWorkerProcess._init_msg_interval = 3\n"
    preload(matrix, slow, "[tool.modelops]\nworkers = 1", option="--preload-nanny")
    matrix.write(
        "test_it.py",
        """
        import pytest

        def test_dies(modelops_cell):
            with pytest.raises(Exception, match="exited with status 7"):
                modelops_cell.call_each("lambda: __import__('os')._exit(7)")

        def test_lives_again(modelops_cell):
            assert modelops_cell.call_each("lambda: 42") == {"worker-0": 42}
        """,
    )
    matrix.run("test_it.py").passed()


# --- aggregation --------------------------------------------------------------------------------------------


def test_a_worker_that_freezes_in_the_middle_of_the_aggregation(matrix: Matrix) -> None:
    freezes = AT_THE_30TH.format(action="os.kill(os.getpid(), signal.SIGSTOP)")
    preload(matrix, freezes, "[tool.modelops.deadlines]\naggregation = 5")
    check = matrix.run().cell().broke("aggregation", "timed-out", deadline=5, cause="process-stopped")
    check.says("aggregating 20 × 20 tasks: not complete within 5 s; ", " of 20 aggregates were complete, ")
    check.says("Diagnosis: worker-1 (pid ", " is stopped (SIGSTOP) and does nothing; tasks ", " are on it.")
    check.says(" of 400 replicates.", "worker-1 (tcp://", ") holds ", " tasks", "Where each process stands:")
    check.says("worker-0 (pid ", "worker-1 (pid ", " is stopped (SIGSTOP)")
    numbers = re.search(r"(\d+) of 20 aggregates were complete, (\d+) of 400", check.message)
    assert numbers is not None
    assert int(numbers[1]) < 20
    assert 30 <= int(numbers[2]) < 400


def test_a_worker_that_loses_its_directory_in_the_middle_of_the_aggregation(matrix: Matrix) -> None:
    preload(matrix, AT_THE_30TH.format(action="shutil.rmtree(pathlib.Path.cwd())"))
    check = matrix.run().cell().broke("aggregation", "failed", deadline=120)
    check.says("aggregating 20 × 20 tasks: ", " aggregates failed; ", " of 20 aggregates were complete, ")
    check.says("aggregate of parameter set ", ": FileNotFoundError: ", "/worker-1/", "in aggregate")


def test_a_replicate_that_takes_its_worker_down(matrix: Matrix) -> None:
    crash = " " * 12 + "os.kill(os.getpid(), signal.SIGSEGV)"
    preload(matrix, ON_TRANSITION.format(start="sim-", end="-7-7", finish="executing", action=crash), SMALL)
    check = matrix.run().cell().broke("aggregation", "failed", deadline=120)
    check.says("aggregating 8 × 8 tasks: 1 aggregates failed; ", "sim-", "-7-7: KilledWorker: ")
    check.says("aggregate of parameter set 7: KilledWorker: ", "worker-", ": its process ", " signal 11")


def test_numbers_that_are_wrong(matrix: Matrix) -> None:
    """A disk that changes what is written to it: what the worker returned was right, what it wrote is not."""
    rot = """\
            [path] = glob.glob("**/aggregate-7-*.json", recursive=True)
            with open(path) as file:
                written = json.load(file)
            with open(path, "w") as file:
                json.dump({**written, "sum": written["sum"] + 1}, file)"""
    preload(matrix, ON_TRANSITION.format(start="agg-", end="-7", finish="memory", action=rot), SMALL)
    check = matrix.run().cell().broke("aggregation", "failed", deadline=120)
    right = sum(7 * 1_000_003 + replicate**2 for replicate in range(8))
    check.says("aggregating 8 × 8 tasks: 1 aggregates are wrong.")
    check.says(f"parameter set 7: got sum {right + 1} of 8 replicates, must be {right}")


def test_a_job_that_is_not_even_submitted_in_time(matrix: Matrix) -> None:
    matrix.configure(
        """
        [tool.modelops]
        workers = 1
        [tool.modelops.aggregation]
        params = 2000
        replicates = 50
        [tool.modelops.deadlines]
        aggregation = 2
        """
    )
    check = matrix.run().cell().broke("aggregation", "timed-out", deadline=2)
    check.says("aggregating 2000 × 50 tasks: not complete within 2 s; ", " of 102000 tasks were submitted until then")


# --- the parts that are not Dask's workers ------------------------------------------------------------------


def test_a_scheduler_that_freezes(matrix: Matrix) -> None:
    there = matrix.path / "there"
    matrix.write(
        "test_it.py",
        WHEN_THERE
        + f"""
def test_it(modelops_cell):
    modelops_cell.require("lambda")
    pid = modelops_cell.observed["scheduler"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    modelops_cell.run_check("versions")
    os.kill(pid, signal.SIGCONT)
    when_there({str(there)!r}, lambda: os.kill(pid, signal.SIGSTOP))
    modelops_cell.run_check("aggregation")
""",
    )
    preload(
        matrix,
        AT_THE_30TH.format(action=f"pathlib.Path({str(there)!r}).touch()"),
        """
        [tool.modelops.aggregation]
        params = 50
        [tool.modelops.deadlines]
        versions = 3
        aggregation = 6
        """,
    )
    cell = matrix.run("test_it.py").cell()
    for check_name, deadline in {"versions": 3, "aggregation": 6}.items():
        check = cell.checks[check_name]
        check.broke("timed-out", within=deadline + 2, cause="process-stopped")
        check.says("Diagnosis: scheduler (pid ", " is stopped (SIGSTOP) and does nothing.")
        check.says("Where each process stands:", "scheduler (pid ", " is stopped (SIGSTOP)")
    cell.checks["versions"].says("the scheduler did not answer 'identity' within 3 s")
    cell.checks["aggregation"].says("not complete within 6 s; ", " replicates.", "The scheduler does not answer.")


@pytest.mark.parametrize(
    ("victim", "text"),
    [
        pytest.param("modelops_cell.observed['client']['pid']", "was killed by SIGKILL", id="agent"),
        pytest.param(
            "psutil.Process(modelops_cell.observed['scheduler']['pid']).ppid()",
            "was lost together with its supervisor, which was killed; see ",
            id="supervisor",
        ),
    ],
)
def test_a_part_of_the_harness_is_killed_in_the_middle(matrix: Matrix, victim: str, text: str) -> None:
    there = matrix.path / "there"
    matrix.write(
        "test_it.py",
        WHEN_THERE
        + f"""
import psutil

def test_it(modelops_cell):
    modelops_cell.require("lambda")
    pid = {victim}
    when_there({str(there)!r}, lambda: os.kill(pid, signal.SIGKILL))
    modelops_cell.run_check("aggregation")
    assert time.time() - os.stat({str(there)!r}).st_mtime < 2
""",
    )
    says = AT_THE_30TH.format(action=f"pathlib.Path({str(there)!r}).touch()")
    preload(matrix, says, "[tool.modelops.aggregation]\nparams = 200")
    cell = matrix.run("test_it.py").cell()
    check = cell.checks["aggregation"]
    assert check.status == "failed", check
    check.says(f"the agent (the cell's client) {text}")
    assert cell.checks["test_it.py::test_it"].status == "passed", cell.checks["test_it.py::test_it"].message
