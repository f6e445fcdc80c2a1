"""Broken images and containers: a clear error at the right check, and the rest of the matrix goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.engine import connect
from tests.conftest import SECOND_DATA, image_for, start_engine
from tests.integration.conftest import AT_ONCE
from tests.integration.making_images import ELF_OF_ANOTHER_MACHINE, Images

if TYPE_CHECKING:
    from tests.integration.conftest import ContainerMatrix

SETTINGS = """
[tool.pytest.ini_options]
[tool.modelops]
workers = 1
[tool.modelops.aggregation]
params = 2
replicates = 2
[tool.modelops.deadlines]
resolve = {resolve}
[tool.modelops.matrix]
python = [{pythons}]
dask = ["2024.10.0"]
[tool.modelops.docker]
{settings}
"""


def settings(text: str, *pythons: str, resolve: int = 120) -> str:
    asked = ", ".join(f'"{python}"' for python in pythons or ("3.12",))
    return SETTINGS.format(settings=text, pythons=asked, resolve=resolve)


@pytest.fixture
def images(engine: Any) -> Iterator[Images]:
    made = Images(engine)
    yield made
    made.close()


@dataclasses.dataclass(frozen=True)
class Broken:
    """A broken image, tagged with the Python that is asked for, and its message."""

    make: Callable[[Images], Any]
    status: str
    words: tuple[str, ...]


BROKEN = {
    "3.10": Broken(  # without Python
        lambda images: images.imported("3.10", {"readme": b"nothing runs here"}),
        "failed",
        (":3.10 has no Python that runs: python was not found; python3 was not found",),
    ),
    "3.11": Broken(  # of another machine
        lambda images: images.imported("3.11", {"usr/local/bin/python": ELF_OF_ANOTHER_MACHINE}, architecture="arm64"),
        "unavailable",
        (":3.11 is for arm64", "without emulating it", "Name an image for"),
    ),
    "3.13": Broken(  # whose entry point swallows the command
        lambda images: images.derived("3.13", changes=['ENTRYPOINT ["/bin/sh", "-c", "echo my own way"]']),
        "failed",
        (
            "did not run the command that it was given, `python -c …`: it exited with code 0 and printed 'my own way'",
            "Its entry point (/bin/sh -c echo my own way)",
        ),
    ),
    "3.14": Broken(  # whose entry point never ends
        lambda images: images.derived("3.14", changes=['ENTRYPOINT ["/bin/sh", "-c", "echo serving; sleep 600"]']),
        "timed-out",
        ("did not end within", "serving", 'such as `exec "$@"`'),
    ),
    "3.15": Broken(  # that cannot be had
        lambda _: None, "unavailable", ("there is no image", ":3.15 on the engine at", "could not pull", "docker load")
    ),
    "3.16": Broken(  # with another Python
        lambda images: images.tagged("3.16"), "failed", ("has Python 3.12", "and 3.16 was asked for")
    ),
}


def test_images_that_are_broken(containers: ContainerMatrix, images: Images) -> None:
    seconds = 12
    images.tagged("3.12")
    for broken in BROKEN.values():
        broken.make(images)
    containers.configure(settings(f'image = "{images.repository}:{{python}}"', *BROKEN, "3.12", resolve=seconds))
    run = containers.run()
    assert run.code == 1, run.out
    for python, broken in BROKEN.items():
        check = run.cell(f"py{python}-dask2024.10.0").broke("resolve", broken.status, deadline=seconds + 60)
        check.says(*broken.words)
    assert run.cell("py3.12-dask2024.10.0").facts["status"] == "passed"
    assert containers.left_on_the_engine(run) == []


def test_a_full_disk_of_a_cell_and_then_a_worker_over_its_memory_limit(containers: ContainerMatrix) -> None:
    containers.configure(
        settings('image = "modelops-fixture/python:{python}"\nmemory = "300m"\ndisk = "24m"')
        + '[tool.modelops.environment]\nworker-args = ["--memory-limit", "0"]\n'  # Dask's own limit must not act first
    )
    test = containers.write(
        "test_own.py",
        """
        import pytest

        def fill():
            import tempfile
            with tempfile.TemporaryFile() as file:
                file.write(bytes(64 << 20))

        def test_disk(modelops_cell):
            modelops_cell.call(fill)

        @pytest.mark.modelops_lambda("lambda: len(b'x' * (1 << 30))", expect=1 << 30)
        def test_memory(modelops_cell):
            pass
        """,
    )
    run = containers.run(test.name)
    assert run.code == 1
    checks = run.cell().checks
    disk, memory = [check for check in checks.values() if check.status == "failed"]
    assert (disk.name, memory.name) == (f"{test.name}::test_disk", f"{test.name}::test_memory")
    disk.says("No space left on device")
    memory.says("was killed by the kernel for memory at 300 MiB")
    assert "killed by the kernel for memory at 300 MiB" in Path(run.cell().facts["logs"]["worker-0"]).read_text()


def test_a_scheduler_without_a_nanny_over_its_memory_limit_ends_in_words(containers: ContainerMatrix) -> None:
    text = settings('image = "modelops-fixture/python:{python}"\nmemory = "40m"')
    containers.configure(text)
    run = containers.run()
    check = run.cell().checks["start"]
    assert check.status == "failed", run.out
    check.says("was killed by the kernel for memory at 40 MiB")
    assert containers.left_on_the_engine(run) == []


# What is audited --------------------------------------------------------------------------------------------------


def test_modules_that_an_image_must_have_beside_a_warning_about_latest(
    containers: ContainerMatrix, images: Images
) -> None:
    images.tagged("latest")
    must_have = 'require-modules = ["json.decoder", "modelops.worker"]'
    containers.configure(settings(f'image = "{images.repository}"\ncpus = 512\n{must_have}'))
    run = containers.run()
    check = run.cell().broke("versions", "failed", deadline=60, cause="image-lacks-module")
    check.says(f"image {images.repository} has no module modelops.worker, which require-modules asks for")
    assert "json.decoder" not in check.message
    note, cpus = run.cell().facts["notes"]
    assert cpus.startswith("[tool.modelops.docker] cpus = 512 is more than the ")
    assert note.startswith(f"image {images.repository}: `latest` is another image tomorrow; ")
    assert "note: image" in run.out


def prebuilt(containers: ContainerMatrix, images: Images, tag: str, dask: str) -> str:
    """An image as users deploy it: Dask on PATH, and an entry point that runs what it is given."""
    containers.configure(settings('image = "modelops-fixture/python:{python}"').replace("2024.10.0", dask))
    run = containers.run("-k", "install").passed()
    identity = run.cell().facts["environments"][0]["identity"]
    script = b'#!/bin/sh\necho "getting ready" >&2\nexport PREPARED=yes\nexec "$@"\n'
    return images.derived(
        tag,
        base=identity,
        files={"entry.sh": script},
        changes=[
            'ENTRYPOINT ["/entry.sh"]',
            "ENV PATH=/modelops/env/bin:/usr/local/bin:/usr/bin:/bin OF_THE_IMAGE=yes",
        ],
    )


def test_prebuilt_images_are_run_as_they_are_and_roles_whose_images_disagree_are_broken(
    containers: ContainerMatrix, images: Images
) -> None:
    name = prebuilt(containers, images, "deployed", "2024.10.0")
    containers.configure(settings(f'prebuilt = "{name}"'))
    containers.write(
        "test_own.py",
        """
        def reported():
            import os
            return [os.environ.get("PREPARED"), os.environ.get("OF_THE_IMAGE"), open("/proc/1/cmdline").read()[:10]]

        def test_own(modelops_cell):
            prepared, of_the_image, _ = modelops_cell.call(reported)
            assert (prepared, of_the_image) == ("yes", "yes")
        """,
    )
    run = containers.run().passed()  # the checks, and the test
    assert run.check("test_own.py::test_own").status == "passed"
    assert run.cell().facts["environments"][0]["location"] == f"image {name}"
    assert run.cell().facts["environments"][0]["reused"] is True
    assert "getting ready" in Path(run.cell().facts["logs"]["scheduler"]).read_text()
    asked = '[tool.modelops.environment]\nrequirements = ["distributed>2024.9", "acme-contracts>=2", "tornado<6"]\n'
    containers.configure(asked + settings(f'prebuilt = "{name}"'))
    run = containers.run("-k", "versions")
    run.check("versions").broke(
        "failed",
        f"image {name} has no acme-contracts, which requirements ask for (acme-contracts>=2)",
        f"image {name} has tornado 6",
        "and requirements ask for tornado<6",
        within=AT_ONCE,
    )

    new = prebuilt(containers, images, "new", "2026.8.0")
    roles = f'prebuilt = {{ client = "{name}", scheduler = "{name}", worker = "{new}" }}'
    containers.configure(settings(roles))
    run = containers.run("-k", "versions")
    [cell] = run.cells
    assert cell.facts["status"] == "failed", run.out
    if cell.facts["first_broken"] == "versions":
        cell.checks["versions"].says("planned with Dask 2024.10.0, runs 2026.8.0")
        cell.checks["versions"].says("distributed differs: ")
    else:  # versions so far apart may not even connect; then the message says so
        cell.checks["start"].says("The roles differ in dask: client 2024.10.0, scheduler 2024.10.0, worker 2026.8.0")


def test_a_prebuilt_image_without_dask(containers: ContainerMatrix) -> None:
    containers.configure(settings('prebuilt = "modelops-fixture/python:{python}"'))
    run = containers.run()
    run.cell().broke("install", "failed", deadline=60).says("is run as it is", "has no distributed")


# Other engines ----------------------------------------------------------------------------------------------------


@pytest.fixture
def second_engine(engine: Any) -> Iterator[Any]:
    """Another engine, on a TCP port of loopback, with the base images."""
    if os.geteuid() != 0:
        pytest.skip("a second engine takes root")
    if shutil.which("dockerd") is None or shutil.which("ip") is None:
        pytest.skip("to run it: apt-get install docker.io iproute2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = start_engine("second", SECOND_DATA, address=f"tcp://127.0.0.1:{port}")
    try:
        other, image = connect({"DOCKER_HOST": started.address}), image_for(engine, "3.12")
        belongings.remove_images(other)  # of an earlier session
        wanted = engine.api.inspect_image(image)["Id"]
        if wanted not in {there["Id"] for there in other.api.images()}:
            other.api.load_image(b"".join(engine.api.get_image(image)))
        other.api.tag(wanted, *image.split(":"))
        other.api.close()
        yield started
    finally:
        started.stop()


def test_a_second_engine_on_a_tcp_address_and_its_death_in_the_middle(
    containers: ContainerMatrix, second_engine: Any
) -> None:
    env = {"DOCKER_HOST": second_engine.address}
    image = 'image = "modelops-fixture/python:{python}"'
    containers.configure(settings(image))
    run = containers.run(env=env).passed()
    assert f"at {second_engine.address})" in run.out
    assert len(connect(env).api.images("modelops-cell")) == 1

    containers.configure(settings(image).replace('"2024.10.0"', '"2024.10.0", "2024.8.0"'))
    test = containers.write(
        "test_own.py",
        f"""
        import os, signal, pytest

        @pytest.mark.modelops_cells("*2024.10.0")
        def test_kills_the_engine(modelops_cell):
            assert modelops_cell.call(lambda: 1) == 1
            os.kill({second_engine.pid}, signal.SIGKILL)
            modelops_cell.call(lambda: __import__("time").sleep(1) or 2)

        @pytest.mark.modelops_cells("*2024.8.0")
        def test_afterwards(modelops_cell):
            modelops_cell.call(lambda: 1)
        """,
    )
    run = containers.run(test.name, "-p", "no:randomly", env=env)
    assert run.code == 1
    assert "INTERNALERROR" not in run.out
    first, then = run.cell("py3.12-dask2024.10.0"), run.cell("py3.12-dask2024.8.0")
    [died] = [check for check in first.checks.values() if "kills_the_engine" in check.name]
    assert died.status == "failed"
    died.says("engine", "does not answer any more")
    first.checks["stop"].says("after stopping the cell, this was left", "prune")
    assert then.facts["status"] == "unavailable", json.dumps(then.statuses)
    # Its image was inspected for the cell before, so `resolve` may pass.
    assert then.facts["first_broken"] in {"resolve", "install"}
    then.checks[then.facts["first_broken"]].says("does not answer any more")
