"""One warm cell in containers, beside a plain testcontainers fixture of the same image, and beside it in processes.

    python -m benchmarks.container_cells [--rounds 5] [--image modelops-fixture/python:{python}]

Seconds are those of the whole pytest command, and of the check `start`: from the first process or container until all
workers are registered. Environments and images are there. The fixture is what one would write by hand: a network, a
scheduler and two workers, each with a wait for its log; the job runs in the scheduler's container. It checks nothing
else, keeps no logs and locks nothing down. Ryuk, testcontainers' clean-up container, is off for both.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import HERE, Cost, Options, Skip, alternate, cells_of, cost_of, figures_of, main, pytest
from benchmarks.one_cell import DASK, PYTHON
from pytest_modelops.backends.docker.engine import connect
from pytest_modelops.errors import ModelopsError

OURS, PLAIN, PROCESSES = "ours, in containers", "testcontainers fixture", "ours, in processes"

TEST = """
import contextlib
import pathlib

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

IMAGE, PYTHON, JOB = {image!r}, {python!r}, pathlib.Path({job!r}).read_text()


@pytest.fixture
def scheduler():
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())

        def start(name, message, module, *arguments):
            container = DockerContainer(IMAGE).with_network(network).with_network_aliases(name)
            container.with_command([PYTHON, "-m", module, *arguments])
            return stack.enter_context(container.waiting_for(LogMessageWaitStrategy(message)))

        found = start("scheduler", "Scheduler at:", "distributed.cli.dask_scheduler")
        for number in range(2):
            name = f"worker-{{number}}"
            arguments = ("tcp://scheduler:8786", "--name", name, "--nthreads", "1", "--local-directory", "/tmp")
            start(name, "Registered to:", "distributed.cli.dask_worker", *arguments)
        yield found


def test_job(scheduler):
    code, output = scheduler.exec([PYTHON, "-c", JOB, "tcp://scheduler:8786"])
    assert code == 0, output.decode()
"""


def ours(backend: str, options: Options, directory: Path, starts: list[float]) -> Cost:
    """Run the cell; append the seconds of its check `start`."""
    report = directory / "report.json"
    matrix = ("--modelops-matrix", f"--modelops-backend={backend}", f"--modelops-cache={options.cache}")
    cell = (f"--modelops-python={PYTHON}", f"--modelops-dask={DASK}", f"--modelops-report={report}")
    cost = cost_of(pytest(*matrix, *cell), directory)
    [found] = cells_of(report)
    starts.append(next(check["seconds"] for check in found["checks"] if check["name"] == "start"))
    return cost


def has_engine(image: str) -> None:
    """Raise `Skip` if no engine answers, or if it has not the image."""
    try:
        engine = connect()
    except ModelopsError as error:
        raise Skip(str(error).partition(". ")[0]) from None
    if not engine.api.images(image):
        raise Skip(f"the engine has no image {image}; --image names another")
    engine.api.close()


def measure(options: Options, directory: Path) -> Sequence[Figures]:
    has_engine(options.image.format(python=PYTHON))
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    matrix, plain = directory / "ours", directory / "plain"
    for made in (matrix, plain):
        made.mkdir()
    (matrix / "pyproject.toml").write_text(f'[tool.modelops.docker]\nimage = "{options.image}"\n')
    starts: dict[str, list[float]] = {OURS: [], PROCESSES: []}
    sides = {
        OURS: functools.partial(ours, "docker", options, matrix, starts[OURS]),
        PLAIN: functools.partial(cost_of, pytest("-p", "no:modelops", "test_plain.py"), plain),
        PROCESSES: functools.partial(ours, "process", options, matrix, starts[PROCESSES]),
    }
    for side in (PROCESSES, OURS):  # builds what there is not yet
        sides[side]()
        starts[side].clear()
    [cell] = cells_of(matrix / "report.json")
    image = cell["environments"][0]["location"].split()[1]
    values = {"image": image, "python": cell["observed"]["client"]["executable"], "job": str(HERE / "bare_cell.py")}
    (plain / "pytest.ini").write_text("[pytest]\n")
    (plain / "test_plain.py").write_text(TEST.format(**values))
    costs = alternate(options.rounds, sides)
    return [
        figures_of(costs, "seconds", "One cell, the whole command", {OURS: (PLAIN, PROCESSES)}),
        Figures("The check `start`", "s", starts, {OURS: (PROCESSES,)}),
    ]


if __name__ == "__main__":
    main("container_cells", measure)
