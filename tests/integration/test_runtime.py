"""Worker plugins that are broken in every way that fixtures/plugins knows, on real workers; and healthy ones.

What teams lost days to is run in processes and in containers, all else in processes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import PLUGINS, UNKNOWN, Check, Matrix, Run

DEADLINE = 40
EACH = "worker plugin acme_plugins.{}:Plugin, 1 of 1 workers: "
BOTH = EACH.replace("1 of 1", "2 of 2")
LATE = "worker plugin acme_plugins.{}:{}, on worker-late, which joined after the registration"
"""What messages begin with."""


def configure(
    matrix: Matrix,
    wheel: Path,
    plugin: str,
    *,
    executor: str = "cold",
    variable: str = "MODELOPS_EXECUTOR_TYPE",
    more: str = "",
    expect: str = 'expect = { "modelops_runtime.executor_type" = "cold" }',
    dask: str = "2024.10.0",
    deadline: int = DEADLINE,
    workers: int = 1,
    nanny: str = "true",
) -> None:
    """Configure a cell with a plugin that must be `cold`; the variable on its workers is `executor`."""
    matrix.configure(
        f"""
        [tool.modelops]
        workers = {workers}
        nanny = {nanny}
        [tool.modelops.matrix]
        python = ["3.12"]
        dask = ["{dask}"]
        [tool.modelops.environment]
        requirements = ["{wheel}"]
        env = {{ {variable} = "{executor}" }}
        [tool.modelops.worker-plugin]
        class = "acme_plugins.{plugin}"
        probe = "modelops_runtime"
        {expect}
        {more}
        [tool.modelops.deadlines]
        runtime = {deadline}
        """
    )


def runtime_check(run: Run) -> Check:
    """Return the check of a run, where everything that it needs passed."""
    cell = run.unavailable_is_no_failure().cell()
    needed = {name: cell.checks[name].status for name in ("resolve", "install", "start")}
    assert set(needed.values()) == {"passed"}, (needed, run.out)
    return cell.checks["runtime"]


BACKENDS = pytest.mark.parametrize("backend", ["process", "docker"])
CELLS = pytest.mark.parametrize(("backend", "dask"), [("process", "latest"), ("docker", "2024.10.0")])


@pytest.fixture
def broken(request: pytest.FixtureRequest, wheel: Path) -> Any:
    """Run the check with a plugin, and assert that it breaks in time."""

    def broken(
        plugin: str,
        status: str = "failed",
        *,
        backend: str = "process",
        deadline: int = DEADLINE,
        cause: str = UNKNOWN,
        **keys: Any,
    ) -> Check:
        matrix = request.getfixturevalue("containers" if backend == "docker" else "building_matrix")
        configure(matrix, wheel, plugin, deadline=deadline, **keys)
        run = matrix.run("-k", "runtime")
        check = runtime_check(run)
        assert run.code == 1, run.out
        assert check.reproduce.endswith(f"'modelops::test_runtime[{run.cell().facts['id']}]'")
        if cause != UNKNOWN:
            assert re.search(r": runtime failed; probable cause: \w", run.out), run.out
        if backend == "docker":
            assert matrix.left_on_the_engine(run) == []
        return check.broke(status, within=deadline + 2, cause=cause)

    return broken


# Healthy. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dask", ["2024.10.0", "latest"])
def test_a_healthy_plugin_is_proved_on_every_worker_and_on_a_late_one(
    building_matrix: Matrix, wheel: Path, dask: str
) -> None:
    configure(
        building_matrix,
        wheel,
        "healthy:Plugin",
        dask=dask,
        workers=2,
        expect='expect = { "modelops_runtime.executor_type" = "cold", '
        '"modelops_runtime.executor" = "acme_plugins.runtime:Cold" }',
        more='processes = { cold = "acme_plugins.tasks:by_runtime", warm = "acme_plugins.tasks:by_one_process", '
        'direct = "acme_plugins.tasks:by_worker" }',
    )
    check = runtime_check(building_matrix.run("-k", "runtime").passed())
    assert check.data["plugin"] == "acme_plugins.healthy:Plugin"
    assert set(check.data["workers"]) == {"worker-0", "worker-1", "worker-late"}
    for reported in check.data["workers"].values():
        assert reported["values"]["modelops_runtime.executor_type"] == "'cold'"
        assert reported["values"]["modelops_runtime.executor"] == "acme_plugins.runtime:Cold"
        assert reported["variables"] == {"MODELOPS_EXECUTOR_TYPE": "cold"}
    assert check.data["client"] == {"variables": {"MODELOPS_EXECUTOR_TYPE": None}, "settings": {}}
    cold, warm, direct = (check.data["processes"][kind] for kind in ("cold", "warm", "direct"))
    for worker in ("worker-0", "worker-1", "worker-late"):
        assert len(set(cold[worker]["pids"])) == len(set(cold[worker]["starts"])) == 4
        assert len(set(warm[worker]["pids"])) == len(set(warm[worker]["starts"]) - {None}) == 1
        assert len(cold[worker]["seconds"]) == len(warm[worker]["seconds"]) == 4
        assert set(direct[worker]["pids"]) == {check.data["workers"][worker]["pid"]}


REFERENCE = PLUGINS.parents[1] / "docs" / "reference.md"
OURS = {
    "modelops.worker.plugin:ModelOpsWorkerPlugin": "acme_plugins.exec_env:Plugin",
    "modelops.adapters.exec_env.cold_debug:ColdDebugExecEnv": "acme_plugins.exec_env:ColdExecEnv",
}
"""Names of ModelOps in the example of the reference, and who plays them here."""


def example(wheel: Path, **instead: str) -> str:
    """Return the example of the reference, with the plugin that has the shape of ModelOps'."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", REFERENCE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = next(block for block in blocks if "[tool.modelops.worker-plugin]" in block)
    for name, other in {**OURS, "./workers": str(wheel), **instead}.items():
        assert name in text
        text = text.replace(name, other)
    return f'[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n{text}'


def test_the_example_of_the_reference(building_matrix: Matrix, wheel: Path) -> None:
    building_matrix.configure(example(wheel))
    check = runtime_check(building_matrix.run("-k", "runtime").passed())
    assert [reported["values"] for reported in check.data["workers"].values()] == [
        {"modelops_runtime": "acme_plugins.exec_env:Executor", "modelops_runtime.exec_env": cold}
        for cold in ["acme_plugins.exec_env:ColdExecEnv"] * 3
    ]
    building_matrix.configure(example(wheel, **{'TYPE = "cold"': 'TYPE = "isolated_warm"'}))
    run = building_matrix.run("-k", "runtime")
    assert run.code == 1
    runtime_check(run).says(
        BOTH.format("exec_env"), "modelops_runtime.exec_env", "acme_plugins.exec_env:ColdExecEnv", "WarmExecEnv"
    )


@pytest.mark.parametrize("nanny", ["true", "false"])
def test_a_whole_cell_runs_with_the_plugin_and_without_the_late_worker(
    building_matrix: Matrix, wheel: Path, nanny: str
) -> None:
    building_matrix.write(
        "test_it.py",
        """
        import time

        def names():
            from distributed import get_worker, worker_client
            with worker_client() as client:
                return sorted(str(w["name"]) for w in client.scheduler_info()["workers"].values())

        def executor():
            from distributed import get_worker
            return get_worker().modelops_runtime.executor_type

        def test_it(modelops_cell):
            assert modelops_cell.workers == ("worker-0", "worker-1")
            assert modelops_cell.call(names) == ["worker-0", "worker-1"]
            assert modelops_cell.call_each(executor) == {"worker-0": "direct", "worker-1": "direct"}
            modelops_cell.close()  # as it is when pytest comes back to it
            assert modelops_cell.call_each(executor) == {"worker-0": "direct", "worker-1": "direct"}
        """,
    )
    configure(
        building_matrix,
        wheel,
        "healthy:Plugin",
        executor="direct",
        expect='expect = { modelops_runtime.executor_type = "direct" }',
        workers=2,
        nanny=nanny,
    )
    cell = building_matrix.run("test_it.py").unavailable_is_no_failure().passed().cell()
    # A test of the user's is selected alone; the plugin is there all the same, and its check is reported.
    assert cell.checks["runtime"].status == "passed"
    assert cell.checks["test_it.py::test_it"].status == "passed"
    assert "worker-late" in cell.facts["logs"]


def test_one_warm_process_does_all_tasks_of_a_worker(building_matrix: Matrix, wheel: Path) -> None:
    configure(
        building_matrix,
        wheel,
        "healthy:Plugin",
        executor="isolated_warm",
        expect="",
        more='processes = { warm = "acme_plugins.tasks:by_runtime" }\ntasks = 3',
    )
    check = runtime_check(building_matrix.run("-k", "runtime").passed())
    warm = check.data["processes"]["warm"]
    assert all(len(set(of["pids"])) == 1 and len(of["seconds"]) == 3 for of in warm.values())
    assert len({pid for of in warm.values() for pid in of["pids"]}) == len(warm) == 2


ARGUMENTS = 'arguments = {{ executor_type = "{}", directories = ["/data", "/bundles"] }}'
DIRECTORIES = (
    'expect = { "modelops_runtime.executor_type" = "cold", "modelops_runtime.directories" = ["/data", "/bundles"] }'
)


def test_a_plugin_is_made_with_its_arguments(building_matrix: Matrix, wheel: Path) -> None:
    configure(building_matrix, wheel, "takes_arguments:Plugin", expect=DIRECTORIES, more=ARGUMENTS.format("cold"))
    check = runtime_check(building_matrix.run("-k", "runtime").passed())
    for reported in check.data["workers"].values():
        assert reported["values"]["modelops_runtime.directories"] == "['/data', '/bundles']"


def test_a_plugin_that_reads_dask_s_configuration(building_matrix: Matrix, wheel: Path) -> None:
    configure(building_matrix, wheel, "reads_settings:Plugin", variable="DASK_ACME__EXECUTOR_TYPE")
    check = runtime_check(building_matrix.run("-k", "runtime").passed())
    assert set(check.data["workers"]) == {"worker-0", "worker-late"}
    for reported in check.data["workers"].values():
        assert reported["settings"] == {"acme.executor_type": "'cold'"}


# What workers have is not what was asked for. ----------------------------------------------------------------


@BACKENDS
def test_a_configuration_that_was_built_on_the_client(broken: Any, backend: str) -> None:
    keys = {"workers": 2, "cause": "plugin-does-not-take-variable"}
    broken("built_on_the_client:Plugin", backend=backend, **keys).says(
        BOTH.format("built_on_the_client"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "The variable MODELOPS_EXECUTOR_TYPE is 'cold' on this worker and not set in the client: the value fell back, "
        "or was overridden, or the plugin reads it in the client\nworker-0, worker-1",
    )


def test_a_value_that_fell_back(broken: Any) -> None:
    broken("falls_back:Plugin", cause="plugin-does-not-take-variable").says(
        EACH.format("falls_back"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "The variable MODELOPS_EXECUTOR_TYPE is 'cold' on this worker and not set in the client: the value fell back, "
        "or was overridden",
    )


def test_an_argument_that_is_another_one(broken: Any) -> None:
    broken("takes_arguments:Plugin", more=ARGUMENTS.format("direct")).says(
        EACH.format("takes_arguments"),
        "asked for modelops_runtime.executor_type = 'cold', has 'direct'. ",
        "The plugin's argument executor_type is 'direct'",
    )


def test_a_setting_that_nobody_made(broken: Any) -> None:
    cause = "plugin-variable-not-set"
    broken("reads_settings:Plugin", variable="MODELOPS_OTHER", executor="other", cause=cause).says(
        EACH.format("reads_settings"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "No variable …EXECUTOR_TYPE and no Dask setting DASK_…__EXECUTOR_TYPE is set on this worker or in the client, ",
        "so a default may have been taken; if the plugin reads one, set it in [tool.modelops.environment] env",
    )


@BACKENDS
def test_an_object_of_another_class(broken: Any, backend: str) -> None:
    broken(
        "wrong_class:Plugin",
        backend=backend,
        expect='expect = { "modelops_runtime.executor" = "acme_plugins.runtime:Cold" }',
    ).says(
        EACH.format("wrong_class"),
        "asked for modelops_runtime.executor = 'acme_plugins.runtime:Cold', has acme_plugins.runtime:IsolatedWarm",
    )


@BACKENDS
def test_a_process_that_is_reused_is_not_cold(broken: Any, backend: str) -> None:
    check = broken(
        "wrong_class:Plugin", backend=backend, expect="", more='processes = { cold = "acme_plugins.tasks:by_runtime" }'
    )
    check.says(EACH.format("wrong_class"), "asked for cold, a new process for every task; 4 tasks had 1 (pid ")
    check.says("pids, in order: ")


def test_a_new_process_for_every_task_is_not_warm(broken: Any) -> None:
    broken("healthy:Plugin", more='processes = { warm = "acme_plugins.tasks:by_runtime" }').says(
        EACH.format("healthy"), "asked for warm, one process for all tasks of a worker; 4 tasks had 4", "pids"
    )


def test_a_stored_pid_is_no_process_of_the_worker(broken: Any) -> None:
    more = 'processes = { warm = "acme_plugins.tasks:by_a_stored_answer" }'
    broken("healthy:Plugin", expect="", more=more).says(
        EACH.format("healthy"),
        "`acme_plugins.tasks:by_a_stored_answer` named pid ",
        ", which ended before the answer arrived",
        "return the pid of the process that did the work",
    )


OTHER = "acme_plugins.tasks:by_the_machine_s_python"


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="this machine has no /usr/bin/python3")
@pytest.mark.parametrize("declared", ["", "any"])
def test_tasks_run_the_worker_s_python_or_the_one_that_is_declared(
    building_matrix: Matrix, wheel: Path, declared: str
) -> None:
    more = f'processes = {{ warm = "{OTHER}" }}' + (f'\npython = "{declared}"' if declared else "")
    configure(building_matrix, wheel, "healthy:Plugin", expect="", more=more)
    check = runtime_check(building_matrix.run("-k", "runtime"))
    if declared:
        assert check.status == "passed", check.message
        return
    check.broke("failed", within=DEADLINE + 2).says(
        EACH.format("healthy"),
        "asked for warm, the work was done by Python 3.",
        "/usr/bin/python3",
        "the worker runs 3.12",
    )


def test_a_function_that_does_not_return_its_process(broken: Any) -> None:
    broken("healthy:Plugin", more='processes = { warm = "acme_plugins.tasks:says_nothing" }').says(
        "`acme_plugins.tasks:says_nothing` returned None; it has to return a pid, or {"
    )


# Set-ups that break. -----------------------------------------------------------------------------------------


@CELLS
def test_a_setup_that_raises_is_reported_with_the_worker_s_own_traceback(broken: Any, backend: str, dask: str) -> None:
    broken("setup_fails:Plugin", backend=backend, dask=dask, cause="plugin-setup-raises").says(
        EACH.format("setup_fails"),
        "the plugin's setup raised PermissionError: the bundles' directory /bundles cannot be written; the worker "
        "stays, lists the plugin and would run tasks all the same",
        "acme_plugins/setup_fails.py",
        "in open_storage",
        "it has no attribute 'modelops_runtime', although it lists the plugin 'acme_plugins.setup_fails:Plugin'; it "
        "registered, runs lambdas, and would run tasks without a runtime",
    )


@CELLS
def test_a_setup_that_raises_on_a_late_worker_only(broken: Any, backend: str, dask: str) -> None:
    broken("setup_fails_late:Plugin", backend=backend, dask=dask, cause="plugin-setup-raises").says(
        LATE.format("setup_fails_late", "Plugin"),
        "(worker-0 is as asked): the plugin's setup raised OSError: the node of this worker has no volume",
        "acme_plugins/setup_fails_late.py",
        "worker-late.log",
    )


@BACKENDS
def test_a_worker_without_the_attribute_although_it_lists_the_plugin(broken: Any, backend: str) -> None:
    broken("no_attribute:Plugin", backend=backend, workers=2).says(
        "worker plugin acme_plugins.no_attribute:Plugin, 1 of 2 workers: it has no attribute 'modelops_runtime', "
        "although it lists the plugin 'acme_plugins.no_attribute:Plugin'; it registered, runs lambdas, and would run "
        "tasks without a runtime\nworker-1"
    )


@BACKENDS
def test_a_late_worker_with_another_runtime(broken: Any, backend: str) -> None:
    broken("late_is_other:Plugin", backend=backend, cause="workers-with-different-code").says(
        LATE.format("late_is_other", "Plugin"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'",
        "its modelops_runtime is a acme_plugins.late_is_other:OldRuntime, that of worker-0 a "
        "acme_plugins.runtime:Runtime",
    )


def test_a_value_that_no_worker_takes(broken: Any) -> None:
    broken("healthy:Plugin", executor="colt", cause="plugin-setup-raises").says(
        EACH.format("healthy"), "raised ValueError: MODELOPS_EXECUTOR_TYPE='colt' is none of "
    )


@pytest.mark.parametrize("dask", ["2024.10.0", "latest"])
def test_a_setup_that_ends_every_worker(broken: Any, dask: str) -> None:
    check = broken("exits_in_setup:Plugin", dask=dask, workers=2)
    check.says("worker plugin acme_plugins.exits_in_setup:Plugin, on worker-", ": SystemExit: 3")
    check.says("acme_plugins/exits_in_setup.py", "The worker did not survive it.", ".log")


def test_a_setup_that_ends_a_late_worker(broken: Any) -> None:
    broken("exits_in_setup:Late", dask="latest").says(
        LATE.format("exits_in_setup", "Late"), "SystemExit: 3", "acme_plugins/exits_in_setup.py"
    )


def test_what_a_worker_cannot_unpack(broken: Any) -> None:
    broken("unknown_to_workers:Plugin", cause="plugin-lacks-module").says(
        EACH.format("unknown_to_workers"), "No module named 'acme_runtime'", "in _unpacked"
    )


def test_what_a_late_worker_cannot_unpack(broken: Any) -> None:
    error = "it ended the worker: ModuleNotFoundError: No module named "
    broken("unknown_to_workers:Late", dask="latest", cause="plugin-lacks-module").says(
        LATE.format("unknown_to_workers", "Late"), error, "in _unpacked", "worker-late.log"
    )


def test_a_setup_that_hangs(broken: Any) -> None:
    broken("hangs_in_setup:Plugin", "timed-out", deadline=6).says(
        "worker plugin acme_plugins.hangs_in_setup:Plugin: `register_plugin` did not return within 6 s: the plugin's "
        "setup has not ended on every worker",
        "Where each process stands:",
        "hangs_in_setup.py",
        "setup",
    )


def test_a_setup_that_hangs_on_a_late_worker(broken: Any) -> None:
    broken("hangs_in_setup:Late", "timed-out", deadline=12).says(
        "worker plugin acme_plugins.hangs_in_setup:Late: worker-late, which joined after the others, was not set up ",
        "within 12 s",
        "Where each process stands:",
        "worker-late (pid ",
        "hangs_in_setup.py",
    )


# What does not even begin. -----------------------------------------------------------------------------------


def test_a_plugin_that_the_client_cannot_import(broken: Any) -> None:
    broken("import_fails:Plugin").says(
        "worker plugin acme_plugins.import_fails:Plugin could not be made in the client: ModuleNotFoundError: "
        "No module named 'acme_no_such_package'. No package in the cell's environment has a module "
        "'acme_no_such_package': add one that has it to [tool.modelops.environment] requirements"
    )


def test_arguments_that_the_class_does_not_take(broken: Any) -> None:
    broken("healthy:Plugin", more='arguments = { executor = "cold" }').says(
        "could not be made in the client: TypeError: ", "takes no arguments. Its arguments are executor = 'cold'"
    )


def test_a_class_that_is_no_plugin(broken: Any) -> None:
    broken("runtime:Cold").says(
        "TypeError: acme_plugins.runtime:Cold is a acme_plugins.runtime:Cold, which is not a distributed.W"
    )


def test_every_story_has_its_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    stories = {file.stem for file in (PLUGINS / "acme_plugins").glob("*.py")} - {"__init__"}
    reported = set(re.findall(r"^\| `(\w+)`", (PLUGINS / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert stories == reported
    assert all(f"{story}:" in text or f".{story}:" in text for story in stories)
