"""Several cells, each time as a whole command: ours, the bare script two at a time, and tox with an equivalent test.

    python -m benchmarks.several_cells [--rounds 5] [--tox PATH]

Every side starts a scheduler and two workers for each cell, runs a function on each, aggregates 400 tasks and stops.
Cold: environments are made, too, with the wheels in uv's cache. Warm: environments are there. Taken: nothing has
changed since a run in which all passed (`--modelops-trust-last`).
"""

from __future__ import annotations

import concurrent.futures
import functools
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import (
    BARE,
    HERE,
    TOX,
    Cost,
    Options,
    Work,
    alternate,
    cells,
    cells_of,
    cost_of,
    figures_of,
    main,
    pytest,
)

PYTHONS = ("3.12", "3.13")
DASKS = ("2024.8.0", "2024.10.0", "2025.5.1", "2026.8.0")
IDS = tuple(f"py{python}-dask{dask}" for python in PYTHONS for dask in DASKS)
COUNTS = (1, 2, 4, 8)

SETTINGS = f"""
[tool.pytest.ini_options]
[tool.modelops]
backend = "process"
[tool.modelops.matrix]
python = {[*PYTHONS]}
dask = {[*DASKS]}
"""
TOX_INI = f"""
[tox]
no_package = true
env_list = py{{{",".join(python.replace(".", "") for python in PYTHONS)}}}-dask{{{",".join(DASKS)}}}
[testenv]
deps =
{"".join(f"  dask{dask}: dask=={dask}{chr(10)}  dask{dask}: distributed=={dask}{chr(10)}" for dask in DASKS)}
commands = python {HERE / "bare_cell.py"}
"""


def ours(directory: Path, *more: str, ids: Sequence[str] = IDS, cold: bool = False) -> Cost:
    if cold:
        shutil.rmtree(directory / "cache", ignore_errors=True)
    report = directory / "report.json"
    command = pytest("--modelops-matrix", f"--modelops-cache={directory / 'cache'}", f"--modelops-report={report}")
    chosen = () if ids == IDS else (f"--modelops-cell={cell}" for cell in ids)
    cost = cost_of([*command, *chosen, *more], directory)
    found = cells_of(report)
    assert [cell["id"] for cell in found] == [*ids], found
    if not chosen and not more:
        pythons = [str(Path(cell["observed"]["client"]["executable"]).expanduser()) for cell in found]
        (directory / "pythons").write_text("\n".join(pythons))
    if "--modelops-trust-last" in more:
        assert all(cell["taken"] for cell in found), [cell["not_taken"] for cell in found]
    return cost


def bare(directory: Path, count: int) -> Cost:
    pythons = (directory / "pythons").read_text().splitlines()[:count]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        costs = list(pool.map(lambda python: cost_of([python, str(HERE / "bare_cell.py")], directory), pythons))
    return Cost(time.monotonic() - began, sum(cost.cpu for cost in costs))


def tox(program: str, directory: Path, *, cold: bool = False) -> Cost:
    if cold:
        shutil.rmtree(directory / ".tox", ignore_errors=True)
    # uv, which tox-uv asks for a Python, looks on PATH.
    pythons = [Path(python).resolve().parent for python in (directory / "pythons").read_text().splitlines()]
    path = os.pathsep.join([*dict.fromkeys(map(str, pythons)), os.environ["PATH"]])
    return cost_of([program, "run-parallel", "-p", "2"], directory, PATH=path)


def named(count: int, side: str) -> str:
    return f"{cells(count)}, {side}"


def measure(options: Options, directory: Path) -> list[Figures]:
    (directory / "pyproject.toml").write_text(SETTINGS)
    (directory / "tox.ini").write_text(TOX_INI)
    run, eight = functools.partial(ours, directory), functools.partial(named, 8)
    sides: dict[str, Work] = {"cold, ours": functools.partial(run, cold=True)}
    if options.tox:
        program = shutil.which(options.tox) or options.tox
        sides[f"cold, {TOX}"] = functools.partial(tox, program, directory, cold=True)
        sides[eight(TOX)] = functools.partial(tox, program, directory)
    for count in COUNTS:
        sides[named(count, BARE)] = functools.partial(bare, directory, count)
        sides[named(count, "ours")] = functools.partial(run, ids=IDS[:count])
    sides[eight("ours -n 2")] = functools.partial(run, "-n", "2")
    sides["taken, ours"] = functools.partial(run, "--modelops-trust-last")
    run(cold=True)  # now uv has the wheels
    costs = alternate(options.rounds, sides)
    bases = {named(count, "ours"): [named(count, BARE)] for count in COUNTS}
    bases[eight("ours")] += [eight(TOX)]
    bases |= {eight(TOX): [eight(BARE)], eight("ours -n 2"): [eight("ours"), eight(TOX)]}
    bases |= {"cold, ours": [f"cold, {TOX}", eight("ours")], "taken, ours": [eight("ours")]}
    by_count = {side: costs[side] for count in COUNTS for side in (named(count, BARE), named(count, "ours"))}
    of_eight = {side: found for side, found in costs.items() if side.startswith(("cold", "taken", cells(8)))}
    return [
        figures_of(by_count, "seconds", "Warm cells, the bare script two at a time", bases),
        figures_of(of_eight, "seconds", "8 cells", bases),
        figures_of(of_eight, "cpu", "CPU of 8 cells", bases),
    ]


if __name__ == "__main__":
    main("several_cells", measure)
