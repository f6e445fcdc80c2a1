"""Cells in containers on a real engine: the checks, what is left behind, cells that are left up, engines."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from pytest_modelops.__main__ import main
from pytest_modelops.backends.docker import belongings
from tests.integration.conftest import on_the_engine
from tests.integration.making_images import BASE, Images
from tests.processes import left_behind, poll

if TYPE_CHECKING:
    from tests.integration.conftest import ContainerMatrix

ROOT = Path(__file__).parent.parent.parent
BUNDLE = f"""
[[tool.modelops.bundles]]
path = "{ROOT}/fixtures/bundles/seir"
entrypoint = "seir.models/baseline"
params = {{ beta = 0.3 }}
seed = 7
target = "targets.incidence:incidence_target"
imports = ["seir"]
"""
ONE_CELL = """
[tool.pytest.ini_options]
[tool.modelops]
workers = 1
[tool.modelops.matrix]
python = ["3.12"]
dask = ["2024.10.0"]
[tool.modelops.aggregation]
params = 2
replicates = 2
"""


@pytest.fixture
def own_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make this a machine of its own, as far as labels show; returns the lines that do so in another process.

    Here, nothing that another test runs removes what this one has left, and `prune` removes nothing that others keep.
    """
    name = f"a-machine-of-its-own-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr("socket.gethostname", lambda: name)
    belongings._machine.cache_clear()
    yield f"import socket\nsocket.gethostname = lambda: {name!r}\n"
    belongings._machine.cache_clear()


def prune() -> str:
    """Do what `prune` does, and return its output."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["prune"]) == 0, out.getvalue()
    return out.getvalue()


def prune_by_command() -> str:
    """Run `prune` as users do, and return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_modelops", "prune"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_whole_checks_in_containers_two_cells_at_a_time(containers: ContainerMatrix) -> None:
    containers.configure(f"""
[tool.pytest.ini_options]
[tool.modelops]
workers = 2
{BUNDLE}
[tool.modelops.matrix]
python = ["3.12"]
dask = ["2024.10.0"]
include = [{{ python = "3.14", dask = "latest" }}]
""")
    run = containers.start("-n", "2").ended(seconds=500).passed()
    schema = json.loads((resources.files("pytest_modelops") / "report" / "schema.json").read_text())
    jsonschema.validate(run.report, schema, format_checker=jsonschema.FormatChecker())
    assert run.report["backend"] == "docker"
    assert "docker backend (" in run.out
    assert len(run.cells) == 2
    for cell in run.cells:
        assert set(cell.statuses.values()) == {"passed"}, cell.facts["id"]
        observed = cell.facts["observed"]
        reported = [observed["client"], observed["scheduler"], *observed["workers"].values()]
        assert len(reported) == 4
        assert all(facts["python"].startswith(cell.facts["python"]) for facts in reported)
        assert all(facts["executable"] == "/modelops/env/bin/python" for facts in reported)
        [environment] = cell.facts["environments"]
        assert environment["identity"].startswith("sha256:")
        assert cell.checks["versions"].data["images"] == dict.fromkeys(
            ("client", "scheduler", "worker"), environment["identity"]
        )
        logs = cell.facts["logs"]
        assert {"scheduler", "worker-0", "worker-1", "agent"} <= set(logs)
        assert "Start worker at" in Path(logs["worker-0"]).read_text()
    assert containers.left_on_the_engine(run) == []


def test_users_tests_run_on_workers_whose_image_is_found_again_and_whose_cell_is_not_kept(
    containers: ContainerMatrix,
) -> None:
    containers.configure(ONE_CELL)
    first = containers.run("-k", "install").passed().cell()
    test = containers.write(
        "test_own.py",
        """
        import os, socket, pytest

        def where():
            return socket.gethostname(), os.getpid()

        @pytest.mark.modelops_lambda("lambda x: x + 1", 41, expect=42)
        def test_own(modelops_cell):
            (name, pid) = modelops_cell.call(where)
            assert name == "worker-0"
            assert pid < 1000
            assert modelops_cell.logs["worker-0"].read_text()
        """,
    )
    run = containers.run(test.name, "--modelops-keep", "failed").passed()
    second = run.cell()
    assert second.facts["environments"][0]["reused"] is True
    assert first.facts["environments"][0]["identity"] == second.facts["environments"][0]["identity"]
    assert second.facts["lock"] == first.facts["lock"]
    assert "distributed==2024.10.0" in second.facts["lock"]
    assert second.facts["notes"] == []  # nothing was left up
    assert containers.left_on_the_engine(run) == []


# Left behind ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["building", "starting", "working"])
def test_after_sigkill_a_sweep_leaves_nothing(containers: ContainerMatrix, own_machine: str, moment: str) -> None:
    # Versions of their own: `--modelops-fresh` replaces an image, which is the other tests' too.
    containers.configure(ONE_CELL.replace("2024.10.0", "2024.9.1"))
    test = containers.write(
        "test_own.py",
        """
        import time
        def test_own(modelops_cell):
            modelops_cell.call(lambda: 1)
            print("WORKING", flush=True)
            modelops_cell.call(lambda: __import__("time").sleep(600), deadline=600)
        """,
    )
    containers.write("conftest.py", own_machine)
    running = containers.start("-s", *(["--modelops-fresh"] if moment == "building" else []), test.name)
    label = f"modelops.pid={running.process.pid}"
    things = {
        "building": lambda: on_the_engine(containers.engine, label),
        "starting": lambda: len(on_the_engine(containers.engine, label)) > 5,
        "working": lambda: "WORKING" in running.out,
    }
    running.until(things[moment], moment, seconds=120)
    running.process.kill()
    running.process.wait()
    containers_of = {"label": [label], "status": "running"}
    if moment == "working":  # the lifeline ended all processes, before any sweep
        gone = poll(lambda: not containers.engine.api.containers(filters=containers_of), seconds=20)
        assert gone, containers.engine.api.containers(filters=containers_of)
    pruned = prune()
    assert "removed container" in pruned or not on_the_engine(containers.engine, label)
    assert on_the_engine(containers.engine, label) == []
    assert poll(lambda: not left_behind(containers.path), seconds=20)


def test_a_plan_leaves_what_a_dead_run_left_and_the_next_start_removes_it(
    containers: ContainerMatrix, engine: Any, own_machine: str
) -> None:
    name = f"modelops-of-the-dead-{uuid.uuid4().hex[:8]}"
    code = (
        f"{own_machine}"
        "from pytest_modelops.backends.docker import belongings, engine\n"
        f"api, labels = engine.connect().api, belongings.labels({name!r})\n"
        f"api.create_container({BASE!r}, ['true'], name={name!r}, labels=labels)\n"
        f"api.create_network({name!r}, labels=labels)\n"
        f"api.create_volume({name!r}, labels=labels)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    left = on_the_engine(engine, f"modelops.run={name}")
    assert len(left) == 3
    containers.write("conftest.py", own_machine)
    with socket.create_server(("127.0.0.1", 0)) as registry:
        registry.setblocking(False)
        address = f"127.0.0.1:{registry.getsockname()[1]}"
        containers.configure(ONE_CELL + f'[tool.modelops.docker]\nimage = "{address}/python:{{python}}"\n')
        env = {"TESTCONTAINERS_RYUK_DISABLED": "false", "RYUK_CONTAINER_IMAGE": f"{address}/ryuk:1"}
        assert containers.run("--modelops-plan", env=env).code == 0
        with pytest.raises(BlockingIOError):
            registry.accept()  # no image was asked for
    assert on_the_engine(engine, f"modelops.run={name}") == left
    containers.configure(ONE_CELL)
    run = containers.run("-k", "resolve").passed()
    assert f"dead runs have left container {name}, network {name}, volume {name}, removed before" in run.out
    assert on_the_engine(engine, f"modelops.run={name}") == []


@pytest.mark.usefixtures("own_machine")
def test_a_sweep_touches_nobody_elses(engine: Any) -> None:
    alive = belongings.labels("alive")
    others = {
        "alive": alive,
        "another-machine": {**alive, "modelops.machine": "another", "modelops.pid": "1", "modelops.boot": "x"},
        "another-namespace": {**alive, "modelops.namespace": "pid:[1]", "modelops.pid": "999999999"},
        "no-owner": {"modelops.run": "without-owner"},
        "a-stranger": {"com.example": "theirs"},
    }
    dead = {
        "earlier-boot": {**alive, "modelops.boot": "an earlier one"},
        "no-such-pid": {**alive, "modelops.pid": "999999999"},
        "pid-of-another": {**alive, "modelops.started": "1"},
    }
    names = {f"modelops-test-{os.getpid()}-{name}": labels for name, labels in {**others, **dead}.items()}
    try:
        for name, labels in names.items():
            engine.api.create_volume(name, labels=labels)
        prune()
        there = {volume["Name"] for volume in engine.api.volumes()["Volumes"]}
        left = {name for name in names if name in there}
        assert left == {f"modelops-test-{os.getpid()}-{name}" for name in others}
    finally:
        for name in names:
            belongings.remove(engine, "volume", name)


# Left up ----------------------------------------------------------------------------------------------------------


def exec_in(engine: Any, container: str, *command: str) -> str:
    made = engine.api.exec_create(container, list(command))
    output = str(engine.api.exec_start(made["Id"]).decode())
    ended = engine.api.exec_inspect(made["Id"])
    assert ended["ExitCode"] == 0, (output, ended, engine.api.inspect_container(container)["State"])
    return output


def test_a_failed_cell_is_kept_can_be_entered_and_is_cleared_by_prune(containers: ContainerMatrix, engine: Any) -> None:
    containers.configure(ONE_CELL)
    test = containers.write(
        "test_own.py",
        """
        def test_own(modelops_cell):
            assert modelops_cell.call(lambda: 1) == 2
        """,
    )
    run = containers.run(test.name, "--modelops-keep", "failed")
    try:
        assert run.code == 1
        [note] = run.cell().facts["notes"]
        assert "was left up" in note
        for words in (
            "docker exec -it modelops-kept-",
            "/bin/python -i -c ",  # the path of the cell's own: an image may have no `python`
            "from distributed import Client",
            "pytest_modelops prune",
        ):
            assert words in note, note
            assert words in run.out, run.out
        only = {"label": [f"modelops.run={run.directory.name}"]}
        up = {thing["Names"][0].lstrip("/"): thing for thing in engine.api.containers(filters=only)}
        assert sorted(thing["Labels"]["modelops.part"] for thing in up.values()) == ["scheduler", "worker-0"]
        scheduler = next(name for name, thing in up.items() if thing["Labels"]["modelops.part"] == "scheduler")
        code = (
            "from distributed import Client; client = Client('tcp://scheduler:8786', timeout=20); "
            "print(client.submit(lambda x: x + 1, 41).result())"
        )
        assert "42" in exec_in(engine, scheduler, "python", "-c", code)

        containers.run("-k", "resolve")  # sweeps
        assert len(engine.api.containers(filters=only)) == 2
    finally:
        pruned = prune_by_command()
    assert "removed container modelops-kept-" in pruned
    assert containers.left_on_the_engine(run) == []


def test_the_process_backend_keeps_nothing_and_says_so(containers: ContainerMatrix) -> None:
    containers.configure(ONE_CELL)
    run = containers.run("--modelops-backend", "process", "--modelops-keep", "always")
    assert run.code == 4
    assert "the process backend cannot leave cells up" in run.out


# Engines ----------------------------------------------------------------------------------------------------------


def test_without_an_engine_the_message_lists_what_was_tried_and_how_to_start_one(containers: ContainerMatrix) -> None:
    containers.configure(ONE_CELL)
    run = containers.run(env={"DOCKER_HOST": "tcp://127.0.0.1:1"})
    assert run.code == 4
    assert "--modelops-backend docker: no container engine answers. Tried DOCKER_HOST=tcp://127.0.0.1:1" in run.out
    assert "Connection refused" in run.out
    assert "systemctl start docker" in run.out
    assert "INTERNALERROR" not in containers.run("-n", "2", env={"DOCKER_HOST": "tcp://127.0.0.1:1"}).out


def test_auto_takes_the_engine_that_answers_and_says_why(containers: ContainerMatrix) -> None:
    containers.configure(ONE_CELL)
    with_engine = containers.run("--modelops-backend", "auto", "-k", "resolve")
    assert "docker backend (" in with_engine.out
    assert "(auto: an engine answers)" in with_engine.out
    without = containers.run("--modelops-plan", env={"PYTEST_MODELOPS_BACKEND": "auto", "DOCKER_HOST": "unix:///no"})
    assert without.code == 0
    containers.configure(ONE_CELL + '[tool.modelops.docker]\nimage = "127.0.0.1:1/nobody:{python}"\n')
    cannot_pull = containers.run("--modelops-backend", "auto", "-k", "resolve").unavailable_is_no_failure().passed()
    assert "process backend" in cannot_pull.out
    assert cannot_pull.report["backend"] == "process"
    why = "an engine answers, but it cannot pull 127.0.0.1:1/nobody:3.12: "
    assert [note for note in cannot_pull.cell().facts["notes"] if why in note]
    assert why in containers.run("--modelops-backend", "auto", "--modelops-plan").out
    nothing = containers.run("-k", "resolve", env={"PYTEST_MODELOPS_BACKEND": "auto", "DOCKER_HOST": "unix:///no"})
    assert "process backend" in nothing.out
    assert "(auto: no container engine answers)" in nothing.out


def test_a_source_distribution_is_reported_at_resolve_and_serves_if_it_is_pure_python(
    containers: ContainerMatrix,
) -> None:
    containers.configure(ONE_CELL + '[tool.modelops.environment]\nrequirements = ["docopt==0.6.2"]\n')
    test = containers.write(
        "test_own.py",
        """
        def test_own(modelops_cell):
            assert modelops_cell.call(lambda: __import__("docopt").__version__) == "0.6.2"
        """,
    )
    run = containers.run(test.name).passed()
    [note] = run.cell().checks["resolve"].data["notes"]
    assert note.startswith("only a source distribution exists of docopt 0.6.2 for image modelops-fixture/python:3.12")


RYUK = b"""
import os, socket
with socket.create_server(("0.0.0.0", 8080)) as server:
    print("fake Started!", flush=True)
    while True:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(1000):
                print("asked to watch", data.decode().strip(), flush=True)
                connection.sendall(b"ACK\\n")
"""
"""Ryuk's protocol without its removals: its image cannot be pulled everywhere."""


def test_ryuk_is_reported_whose_containers_to_watch(containers: ContainerMatrix, engine: Any) -> None:
    if not engine.api.networks(names=["bridge"]):
        pytest.skip("this engine has no default bridge, on which Ryuk publishes its port")
    images = Images(engine)
    ryuk = images.derived("1", files={"ryuk.py": RYUK}, changes=['CMD ["python", "/ryuk.py"]', "EXPOSE 8080"])
    containers.configure(ONE_CELL)
    env = {"RYUK_CONTAINER_IMAGE": ryuk, "TESTCONTAINERS_RYUK_DISABLED": "false"}
    running = containers.start(env=env)
    try:
        watched = {"label": ["modelops.part=worker-0", f"modelops.pid={running.process.pid}"]}
        running.until(lambda: engine.api.containers(filters=watched), "a worker is up", seconds=120)
        [worker] = engine.api.containers(filters=watched)
        session = worker["Labels"]["org.testcontainers.session-id"]
        [reaper] = engine.api.containers(filters={"name": f"testcontainers-ryuk-{session}"})
        printed = engine.api.logs(reaper["Id"]).decode()
        assert f"asked to watch label=org.testcontainers.session-id={session}" in printed
        running.ended().passed()
        gone = poll(lambda: not engine.api.containers(filters={"name": f"ryuk-{session}"}), seconds=30)
        assert gone
    finally:
        images.close()
