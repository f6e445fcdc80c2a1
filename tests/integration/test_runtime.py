"""Worker plugins that are broken in every way that fixtures/plugins knows, on real workers; and healthy ones.

Most are tried in one cell, one after the other, and those that read other variables in a cell with these; each test
reads what the report says of its story. One that the workers do not survive is the last of its cell. What teams lost
days to is run in processes and in containers, all else in processes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.forking import Template
from tests.integration.conftest import PLUGINS, UNKNOWN, Check, ContainerMatrix, Matrix, Run, shared_cache

DEADLINE = 40
OLD, NEW = "2024.10.0", "latest"
"""Versions of Dask."""
COLD = {"modelops_runtime.executor_type": "cold"}
EXECUTOR_TYPE = "MODELOPS_EXECUTOR_TYPE"
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "cold": {EXECUTOR_TYPE: "cold"},
    "colt": {EXECUTOR_TYPE: "colt", "DASK_ACME__EXECUTOR_TYPE": "cold"},
    "others": {"MODELOPS_OTHER": "other", "MODELOPS_BUNDLE_SOURCE": "file", "MODELOPS_BUNDLES_DIR": "/tmp"},
}
"""Variables of the workers, in cells by their name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """A plugin in a cell that it shares with others.

    Attributes:
        plugin: `[tool.modelops.worker-plugin]`, beside `probe`.
        variables: of its cell, a name in `VARIABLES`.
        last: whether no other can come after it.
    """

    plugin: Mapping[str, Any]
    dask: tuple[str, ...] = (OLD,)
    seconds: int = DEADLINE
    variables: str = "cold"
    last: bool = False


def story(name: str, *, expect: Mapping[str, Any] = COLD, table: Mapping[str, Any] | None = None, **how: Any) -> Story:
    """A plugin of fixtures/plugins, from which `cold` is expected, unless the story says otherwise."""
    return Story(plugin={"path": f"acme_plugins.{name}", "expect": dict(expect), **(table or {})}, **how)


def running(name: str, **processes: str) -> Story:
    return story(name, expect={}, table={"processes": {k: f"acme_plugins.tasks:{v}" for k, v in processes.items()}})


DIRECTORIES = ["/data", "/bundles"]


def taking(executor: str) -> dict[str, Any]:
    return {"arguments": {"executor_type": executor, "directories": DIRECTORIES}}


STORIES: Mapping[str, Story] = {
    "healthy": story(
        "healthy:Plugin",
        expect={**COLD, "modelops_runtime.executor": "acme_plugins.runtime:Cold"},
        table={
            "processes": {
                "cold": "acme_plugins.tasks:by_runtime",
                "warm": "acme_plugins.tasks:by_one_process",
                "direct": "acme_plugins.tasks:by_worker",
            }
        },
        dask=(OLD, NEW),
    ),
    "warm": story(
        "takes_arguments:Plugin",
        expect={},
        table={**taking("isolated_warm"), "processes": {"warm": "acme_plugins.tasks:by_runtime"}, "tasks": 3},
    ),
    "arguments": story(
        "takes_arguments:Plugin", expect={**COLD, "modelops_runtime.directories": DIRECTORIES}, table=taking("cold")
    ),
    "other-arguments": story("takes_arguments:Plugin", table=taking("direct")),
    "built-on-the-client": story("built_on_the_client:Plugin"),
    "falls-back": story("falls_back:Plugin"),
    "other-class": story("wrong_class:Plugin", expect={"modelops_runtime.executor": "acme_plugins.runtime:Cold"}),
    "not-cold": running("wrong_class:Plugin", cold="by_runtime"),
    "not-warm": running("healthy:Plugin", warm="by_runtime"),
    "stored-pid": running("healthy:Plugin", warm="by_a_stored_answer"),
    "other-python": running("healthy:Plugin", warm="by_the_machine_s_python"),
    "any-python": story(
        "healthy:Plugin",
        expect={},
        table={"processes": {"warm": "acme_plugins.tasks:by_the_machine_s_python"}, "python": "any"},
    ),
    "says-nothing": running("healthy:Plugin", warm="says_nothing"),
    "setup-raises": story("setup_fails:Plugin", dask=(OLD, NEW)),
    "setup-raises-late": story("setup_fails_late:Plugin", dask=(OLD, NEW)),
    "no-attribute": story("no_attribute:Plugin"),
    "late-is-other": story("late_is_other:Plugin"),
    "exits-late": story("exits_in_setup:Late", dask=(NEW,)),
    "unknown-late": story("unknown_to_workers:Late", dask=(NEW,)),
    "unknown": story("unknown_to_workers:Plugin"),
    "import-fails": story("import_fails:Plugin"),
    "no-arguments": story("healthy:Plugin", table={"arguments": {"executor": "cold"}}),
    "no-plugin": story("runtime:Cold"),
    "hangs-late": story("hangs_in_setup:Late", seconds=12),
    "hangs": story("hangs_in_setup:Plugin", seconds=6, last=True),
    "exits": story("exits_in_setup:Plugin", dask=(NEW,), last=True),
    "reads-settings": story("reads_settings:Plugin", variables="colt"),
    "no-such-value": story("healthy:Plugin", variables="colt"),
    "not-set": story("reads_settings:Plugin", variables="others"),
    "warm-environment": story(
        "exec_env:Plugin", expect={"modelops_runtime.exec_env": "acme_plugins.exec_env:ColdExecEnv"}, variables="others"
    ),
    "exits-too": story("exits_in_setup:Plugin", variables="others", last=True),
}
IN_CONTAINERS = (
    *("built-on-the-client", "other-class", "not-cold", "setup-raises", "setup-raises-late", "no-attribute"),
    "late-is-other",
)
EACH = "worker plugin acme_plugins.{}:Plugin, 2 of 2 workers: "
LATE = "worker plugin acme_plugins.{}:{}, on worker-late, which joined after the registration"
"""What messages begin with."""
CHECKS = """
    import contextlib
    import json
    from pathlib import Path

    from pytest_modelops.checks import runtime
    from pytest_modelops.checks.base import Check
    from pytest_modelops.config.model import PluginSettings


    def unregister(name):
        from distributed import worker_client

        with worker_client() as client:
            client.unregister_worker_plugin(name)


    def forget():
        from distributed import get_worker

        vars(get_worker()).pop("modelops_runtime", None)


    def check(name, story):
        plugin = PluginSettings(probe="modelops_runtime", **story["plugin"])

        def run(cell, deadline):
            try:
                return runtime.run(plugin, cell, deadline.at_most(story["seconds"]))
            finally:
                if not story["last"]:
                    with contextlib.suppress(Exception):
                        cell.call(unregister, plugin.path, worker="worker-0", deadline=20)
                    cell.call_each(forget, deadline=20)

        return Check(name="runtime", variant=name, run=run, needs=("start",), seconds=60)


    def pytest_modelops_checks(checks, config):
        stories = json.loads(Path(__file__).with_name("stories.json").read_text())
        checks[:] = [one for one in checks if one.name != "runtime"]
        checks += [check(name, story) for name, story in stories.items()]
"""
"""Tries one plugin after the other, instead of the one that is configured."""


def configure(
    matrix: Matrix,
    wheel: Path,
    plugin: str,
    *,
    variables: Mapping[str, str],
    expect: Mapping[str, Any] = COLD,
    dask: str = OLD,
    workers: int = 1,
    nanny: bool = True,
) -> None:
    """Configure a cell with a plugin, and these variables on its workers."""
    table = {"class": f"acme_plugins.{plugin}", "probe": "modelops_runtime", "expect": expect}
    settings = {
        "workers": workers,
        "nanny": nanny,
        "matrix": {"python": ["3.12"], "dask": [dask]},
        "environment": {"requirements": [str(wheel)], "env": variables},
        "worker-plugin": table,
        "deadlines": {"runtime": DEADLINE},
    }
    matrix.configure(tomli_w.dumps({"tool": {"modelops": settings}}))


def start_passed(run: Run) -> Run:
    """Assert that everything that the check needs passed; returns the run."""
    cell = run.unavailable_is_no_failure().cell()
    needed = {name: cell.checks[name].status for name in ("resolve", "install", "start")}
    assert set(needed.values()) == {"passed"}, (needed, run.out)
    return run


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, template: Template, wheel: Path
) -> Iterator[Callable[[str, str, str], Run]]:
    """Try all stories of a backend, a Dask and variables in one cell, when the first of them is asked for."""

    @functools.cache
    def tried(backend: str, dask: str, variables: str) -> Run:
        stories = {name: one for name, one in STORIES.items() if dask in one.dask and one.variables == variables}
        if backend == "docker":
            stories = {name: stories[name] for name in IN_CONTAINERS}
            engine = request.getfixturevalue("engine")
            made: Callable[..., Matrix] = functools.partial(ContainerMatrix, engine=engine)
        else:
            made = Matrix
        project = tmp_path_factory.mktemp(f"runtime-{backend}") / "project"
        matrix = opened.enter_context(
            contextlib.closing(made(project, shared_cache(tmp_path_factory), template=template))
        )
        configure(matrix, wheel, "healthy:Plugin", variables=VARIABLES[variables], dask=dask, workers=2)
        matrix.write("conftest.py", CHECKS)
        matrix.write("stories.json", json.dumps({name: dataclasses.asdict(one) for name, one in stories.items()}))
        run = matrix.start("-k", "runtime").ended(seconds=300)
        if isinstance(matrix, ContainerMatrix):
            assert matrix.left_on_the_engine(run) == []
        return run

    with contextlib.ExitStack() as opened:
        yield tried


@pytest.fixture
def passed(shared: Callable[[str, str, str], Run]) -> Any:
    """Return the check of a story, which passed."""

    def passed(name: str, *, dask: str = OLD) -> Check:
        check = start_passed(shared("process", dask, STORIES[name].variables)).check(f"runtime[{name}]")
        assert check.status == "passed", check.message
        return check

    return passed


@pytest.fixture
def broken(shared: Callable[[str, str, str], Run]) -> Any:
    """Return the check of a story, which broke in time."""

    def broken(
        name: str, status: str = "failed", *, backend: str = "process", dask: str = OLD, cause: str = UNKNOWN
    ) -> Check:
        run = start_passed(shared(backend, dask, STORIES[name].variables))
        assert run.code == 1, run.out
        check = run.check(f"runtime[{name}]")
        assert check.reproduce.endswith(f"'modelops::test_runtime[{run.cell().facts['id']}-{name}]'")
        return check.broke(status, within=STORIES[name].seconds + 4, cause=cause)  # the stacks of two workers

    return broken


# xdist runs what is in containers apart from all else; see `SHARED_RUNS`.
BACKENDS = pytest.mark.parametrize("backend", ["process", "docker"], ids=["in-processes", "docker"])
CELLS = pytest.mark.parametrize(
    ("backend", "dask"),
    [("process", OLD), ("process", NEW), ("docker", OLD)],
    ids=["in-processes", "in-processes-with-a-newer-dask", "docker"],
)


# Healthy. ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dask", [OLD, NEW])
def test_a_healthy_plugin_is_proved_on_every_worker_and_on_a_late_one(passed: Any, dask: str) -> None:
    check = passed("healthy", dask=dask)
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


def example(wheel: Path) -> str:
    """Return the example of the reference, with the plugin that has the shape of ModelOps'."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", REFERENCE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = next(block for block in blocks if "[tool.modelops.worker-plugin]" in block)
    for name, other in {**OURS, "./workers": str(wheel)}.items():
        assert name in text
        text = text.replace(name, other)
    return f'[tool.modelops.matrix]\npython = ["3.12"]\ndask = ["2024.10.0"]\n{text}'


def test_the_example_of_the_reference(building_matrix: Matrix, wheel: Path) -> None:
    building_matrix.configure(example(wheel))
    check = start_passed(building_matrix.run("-k", "runtime").passed()).check("runtime")
    assert [reported["values"] for reported in check.data["workers"].values()] == [
        {"modelops_runtime": "acme_plugins.exec_env:Executor", "modelops_runtime.exec_env": cold}
        for cold in ["acme_plugins.exec_env:ColdExecEnv"] * 3
    ]


def test_another_environment_than_the_example_s(broken: Any) -> None:
    broken("warm-environment").says(
        EACH.format("exec_env"), "modelops_runtime.exec_env", "acme_plugins.exec_env:ColdExecEnv", "WarmExecEnv"
    )


@pytest.mark.parametrize("nanny", [True, False])
def test_a_whole_cell_runs_with_the_plugin_and_without_the_late_worker(
    building_matrix: Matrix, wheel: Path, nanny: bool
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
        variables={EXECUTOR_TYPE: "direct"},
        expect={"modelops_runtime.executor_type": "direct"},
        workers=2,
        nanny=nanny,
    )
    cell = building_matrix.run("test_it.py").unavailable_is_no_failure().passed().cell()
    # A test of the user's is selected alone; the plugin is there all the same, and its check is reported.
    assert cell.checks["runtime"].status == "passed"
    assert cell.checks["test_it.py::test_it"].status == "passed"
    assert "worker-late" in cell.facts["logs"]


def test_one_warm_process_does_all_tasks_of_a_worker(passed: Any) -> None:
    warm = passed("warm").data["processes"]["warm"]
    assert all(len(set(of["pids"])) == 1 and len(of["seconds"]) == 3 for of in warm.values())
    assert len({pid for of in warm.values() for pid in of["pids"]}) == len(warm) == 3


def test_a_plugin_is_made_with_its_arguments(passed: Any) -> None:
    for reported in passed("arguments").data["workers"].values():
        assert reported["values"]["modelops_runtime.directories"] == "['/data', '/bundles']"


def test_a_plugin_that_reads_dask_s_configuration(passed: Any) -> None:
    check = passed("reads-settings")
    assert set(check.data["workers"]) == {"worker-0", "worker-1", "worker-late"}
    for reported in check.data["workers"].values():
        assert reported["settings"] == {"acme.executor_type": "'cold'"}


# What workers have is not what was asked for. ----------------------------------------------------------------


@BACKENDS
def test_a_configuration_that_was_built_on_the_client(broken: Any, backend: str) -> None:
    broken("built-on-the-client", backend=backend, cause="plugin-does-not-take-variable").says(
        EACH.format("built_on_the_client"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "The variable MODELOPS_EXECUTOR_TYPE is 'cold' on this worker and not set in the client: the value fell back, "
        "or was overridden, or the plugin reads it in the client\nworker-0, worker-1",
    )


def test_a_value_that_fell_back(broken: Any) -> None:
    broken("falls-back", cause="plugin-does-not-take-variable").says(
        EACH.format("falls_back"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "The variable MODELOPS_EXECUTOR_TYPE is 'cold' on this worker and not set in the client: the value fell back, "
        "or was overridden",
    )


def test_an_argument_that_is_another_one(broken: Any) -> None:
    broken("other-arguments").says(
        EACH.format("takes_arguments"),
        "asked for modelops_runtime.executor_type = 'cold', has 'direct'. ",
        "The plugin's argument executor_type is 'direct'",
    )


def test_a_setting_that_nobody_made(broken: Any) -> None:
    broken("not-set", cause="plugin-variable-not-set").says(
        EACH.format("reads_settings"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. ",
        "No variable …EXECUTOR_TYPE and no Dask setting DASK_…__EXECUTOR_TYPE is set on this worker or in the client, ",
        "so a default may have been taken; if the plugin reads one, set it in [tool.modelops.environment] env",
    )


@BACKENDS
def test_an_object_of_another_class(broken: Any, backend: str) -> None:
    broken("other-class", backend=backend).says(
        EACH.format("wrong_class"),
        "asked for modelops_runtime.executor = 'acme_plugins.runtime:Cold', has acme_plugins.runtime:IsolatedWarm",
    )


@BACKENDS
def test_a_process_that_is_reused_is_not_cold(broken: Any, backend: str) -> None:
    check = broken("not-cold", backend=backend)
    check.says(EACH.format("wrong_class"), "asked for cold, a new process for every task; 4 tasks had 1 (pid ")
    check.says("pids, in order: ")


def test_a_new_process_for_every_task_is_not_warm(broken: Any) -> None:
    broken("not-warm").says(
        EACH.format("healthy"), "asked for warm, one process for all tasks of a worker; 4 tasks had 4", "pids"
    )


def test_a_stored_pid_is_no_process_of_the_worker(broken: Any) -> None:
    broken("stored-pid").says(
        EACH.format("healthy"),
        "`acme_plugins.tasks:by_a_stored_answer` named pid ",
        ", which ended before the answer arrived",
        "return the pid of the process that did the work",
    )


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="this machine has no /usr/bin/python3")
def test_tasks_run_the_worker_s_python_or_the_one_that_is_declared(passed: Any, broken: Any) -> None:
    passed("any-python")
    broken("other-python").says(
        EACH.format("healthy"),
        "asked for warm, the work was done by Python 3.",
        "/usr/bin/python3",
        "the worker runs 3.12",
    )


def test_a_function_that_does_not_return_its_process(broken: Any) -> None:
    broken("says-nothing").says("`acme_plugins.tasks:says_nothing` returned None; it has to return a pid, or {")


# Set-ups that break. -----------------------------------------------------------------------------------------


@CELLS
def test_a_setup_that_raises_is_reported_with_the_worker_s_own_traceback(broken: Any, backend: str, dask: str) -> None:
    broken("setup-raises", backend=backend, dask=dask, cause="plugin-setup-raises").says(
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
    broken("setup-raises-late", backend=backend, dask=dask, cause="plugin-setup-raises").says(
        LATE.format("setup_fails_late", "Plugin"),
        "(worker-0, worker-1 are as asked): the plugin's setup raised OSError: the node of this worker has no volume",
        "acme_plugins/setup_fails_late.py",
        "worker-late.log",
    )


@BACKENDS
def test_a_worker_without_the_attribute_although_it_lists_the_plugin(broken: Any, backend: str) -> None:
    broken("no-attribute", backend=backend).says(
        "worker plugin acme_plugins.no_attribute:Plugin, 1 of 2 workers: it has no attribute 'modelops_runtime', "
        "although it lists the plugin 'acme_plugins.no_attribute:Plugin'; it registered, runs lambdas, and would run "
        "tasks without a runtime\nworker-1"
    )


@BACKENDS
def test_a_late_worker_with_another_runtime(broken: Any, backend: str) -> None:
    broken("late-is-other", backend=backend, cause="workers-with-different-code").says(
        LATE.format("late_is_other", "Plugin"),
        "asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'",
        "its modelops_runtime is a acme_plugins.late_is_other:OldRuntime, that of worker-0 a "
        "acme_plugins.runtime:Runtime",
    )


def test_a_value_that_no_worker_takes(broken: Any, shared: Callable[[str, str, str], Run]) -> None:
    broken("no-such-value", cause="plugin-setup-raises").says(
        EACH.format("healthy"), "raised ValueError: MODELOPS_EXECUTOR_TYPE='colt' is none of "
    )
    out = shared("process", OLD, "colt").out
    assert re.search(r": runtime\[no-such-value\] failed; probable cause: \w", out), out


@pytest.mark.parametrize("dask", [OLD, NEW])
def test_a_setup_that_ends_every_worker(broken: Any, dask: str) -> None:
    check = broken("exits" if dask == NEW else "exits-too", dask=dask)
    check.says("worker plugin acme_plugins.exits_in_setup:Plugin, on worker-", ": SystemExit: 3")
    check.says("acme_plugins/exits_in_setup.py", "The worker did not survive it.", ".log")


def test_a_setup_that_ends_a_late_worker(broken: Any) -> None:
    broken("exits-late", dask=NEW).says(
        LATE.format("exits_in_setup", "Late"), "SystemExit: 3", "acme_plugins/exits_in_setup.py"
    )


def test_what_a_worker_cannot_unpack(broken: Any) -> None:
    broken("unknown", cause="plugin-lacks-module").says(
        EACH.format("unknown_to_workers"), "No module named 'acme_runtime'", "in _unpacked"
    )


def test_what_a_late_worker_cannot_unpack(broken: Any) -> None:
    error = "it ended the worker: ModuleNotFoundError: No module named "
    broken("unknown-late", dask=NEW, cause="plugin-lacks-module").says(
        LATE.format("unknown_to_workers", "Late"), error, "in _unpacked", "worker-late.log"
    )


def test_a_setup_that_hangs(broken: Any) -> None:
    broken("hangs", "timed-out").says(
        "worker plugin acme_plugins.hangs_in_setup:Plugin: `register_plugin` did not return within 6 s: the plugin's "
        "setup has not ended on every worker",
        "Where each process stands:",
        "hangs_in_setup.py",
        "setup",
    )


def test_a_setup_that_hangs_on_a_late_worker(broken: Any) -> None:
    broken("hangs-late", "timed-out").says(
        "worker plugin acme_plugins.hangs_in_setup:Late: worker-late, which joined after the others, was not set up ",
        "within 12 s",
        "Where each process stands:",
        "worker-late (pid ",
        "hangs_in_setup.py",
    )


# What does not even begin. -----------------------------------------------------------------------------------


def test_a_plugin_that_the_client_cannot_import(broken: Any) -> None:
    broken("import-fails").says(
        "worker plugin acme_plugins.import_fails:Plugin could not be made in the client: ModuleNotFoundError: "
        "No module named 'acme_no_such_package'. No package in the cell's environment has a module "
        "'acme_no_such_package': add one that has it to [tool.modelops.environment] requirements"
    )


def test_arguments_that_the_class_does_not_take(broken: Any) -> None:
    broken("no-arguments").says(
        "could not be made in the client: TypeError: ", "takes no arguments. Its arguments are executor = 'cold'"
    )


def test_a_class_that_is_no_plugin(broken: Any) -> None:
    broken("no-plugin").says(
        "TypeError: acme_plugins.runtime:Cold is a acme_plugins.runtime:Cold, which is not a distributed.W"
    )


def test_every_story_has_its_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    stories = {file.stem for file in (PLUGINS / "acme_plugins").glob("*.py")} - {"__init__"}
    reported = set(re.findall(r"^\| `(\w+)`", (PLUGINS / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert stories == reported
    assert all(f"{story}:" in text or f".{story}:" in text for story in stories)
