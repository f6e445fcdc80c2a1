"""What planning and collecting 1, 100 and 1,000 cells costs, beside a pytest that collects nothing.

    python -m benchmarks.many_cells [--rounds 5]

The answers of the index are cached by a first run. CPU is that of the process and of those that it starts; memory is
the peak of the largest of these.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import ALONE, Options, alone, alternate, cost_of, figures_of, main, pytest

PYTHONS = ("3.10", "3.11", "3.12", "3.12.1", "3.13", "3.13.0", "3.14")
COUNTS = (1, 100, 1000)
PLAN, COLLECT = ("--modelops-matrix", "--modelops-plan=json"), ("--modelops-matrix", "--collect-only")


def project(directory: Path, cells: int, releases: list[str]) -> Path:
    """Make a project with so many cells, or a few more."""
    pythons = PYTHONS[:cells]
    dasks = releases[-math.ceil(cells / len(pythons)) :]
    matrix = {"python": [*pythons], "dask": dasks}
    lines = ["[tool.pytest.ini_options]", "[tool.modelops]", 'backend = "process"', 'cache = "../cache"']
    lines += ["[tool.modelops.matrix]", *(f"{key} = {json.dumps(values)}" for key, values in matrix.items())]
    made = directory / str(cells)
    made.mkdir(exist_ok=True)
    (made / "pyproject.toml").write_text("\n".join(lines))
    return made


def measure(options: Options, directory: Path) -> list[Figures]:
    every = project(directory, 1, [">=1"])
    releases = [cell["dask"] for cell in json.loads(cost_of(pytest(*PLAN), every).output)["cells"]]
    sides = {ALONE: functools.partial(cost_of, alone(directory), directory)}
    for count in COUNTS:
        made = project(directory, count, releases)
        sides[f"plan of {count:,}"] = functools.partial(cost_of, pytest(*PLAN), made)
        sides[f"collection of {count:,}"] = functools.partial(cost_of, pytest(*COLLECT), made)
    for work in sides.values():  # the index's answers, and bytecode
        work()
    costs = alternate(options.rounds, sides)
    bases = {side: (ALONE,) for side in costs if side != ALONE}
    titles = {"seconds": "Plan and collection", "cpu": "CPU of plan and collection", "peak": "Memory at the peak"}
    return [figures_of(costs, field, title, bases) for field, title in titles.items()]


if __name__ == "__main__":
    main("many_cells", measure)
