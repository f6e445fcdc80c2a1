"""One warm cell, for each way to start its processes, beside a bare script that does the same job with the same Python.

    python -m benchmarks.one_cell [--rounds 5]

Seconds of a cell are those of the report, from its first check to the proof that nothing is left, without `resolve` and
`install`; pytest's own work between the checks is in them. CPU is that of everything that a command started, of ours
without that of the same command that only runs `resolve` and `install`.
"""

from __future__ import annotations

import functools
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import BARE, HERE, Cost, Options, alternate, cells_of, cost_of, figures_of, main, pytest

PYTHON, DASK = "3.12", "2024.10.0"
STARTS = ("exec", "fork", "fork-workers")


def cost_of_cell(start: str, options: Options, directory: Path) -> Cost:
    """From the first process of the cell to the proof that none is left."""
    report = directory / "report.json"
    command = [
        *pytest("--rootdir", str(directory), "-c", str(directory / "pytest.ini"), "--modelops-matrix"),
        *("--modelops-backend=process", f"--modelops-start={start}", f"--modelops-cache={options.cache}"),
        *(f"--modelops-python={PYTHON}", f"--modelops-dask={DASK}", f"--modelops-report={report}"),
    ]
    building = cost_of([*command, "-k", "install"], directory)
    whole = cost_of(command, directory)
    [cell] = cells_of(report)
    built = sum(check["seconds"] for check in cell["checks"] if check["name"] in {"resolve", "install"})
    how = {value.partition(":")[0] for value in cell["started"].values()}
    assert start in how, f"{start}: {cell['started']}"
    return Cost(cell["seconds"] - built, whole.cpu - building.cpu)


def cost_of_bare(python: str, directory: Path) -> Cost:
    """The bare script says its own seconds, from its first process to the end of the last."""
    whole = cost_of([python, str(HERE / "bare_cell.py")], directory)
    return Cost(float(whole.output.split()[-1]), whole.cpu)


def interpreter_of_cell(options: Options, directory: Path) -> str:
    """Run the cell once, which builds its environment where there is none; return its Python."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    cost_of_cell("fork", options, directory)
    [cell] = cells_of(directory / "report.json")
    return str(Path(cell["observed"]["client"]["executable"]).expanduser())


def measure(options: Options, directory: Path) -> list[Figures]:
    python = interpreter_of_cell(options, directory)
    sides = {BARE: functools.partial(cost_of_bare, python, directory)}
    sides |= {start: functools.partial(cost_of_cell, start, options, directory) for start in STARTS}
    costs = alternate(options.rounds, sides)
    bases = dict.fromkeys(STARTS, (BARE,))
    return [
        figures_of(costs, "cpu", "CPU of one warm cell", bases),
        figures_of(costs, "seconds", "Seconds of one warm cell", bases),
    ]


if __name__ == "__main__":
    main("one_cell", measure)
