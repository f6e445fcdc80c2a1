"""How long warm cells take, beside the bare script that does the same job: all in one run, as ratios.

    python benchmarks/warm_cell.py [--rounds 5] [--cells 1 2 4 8] [--starts exec fork fork-workers]

Of `--python` × `--dask` the first cells are taken, one after the other; the bare script runs as often, with the Python
of each cell. Seconds of a cell are those of the report, from its first check to the proof that nothing is left, without
`resolve` and `install`; pytest's own work between the checks is in them. CPU is user + system of everything that a
command started, of ours without that of the same command that only runs `resolve` and `install`. Rounds alternate,
because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BARE = "bare"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What something took, in seconds."""

    seconds: float
    cpu: float


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_cells(
    ids: Sequence[str], start: str, options: argparse.Namespace, directory: Path, *more: str
) -> list[dict[str, Any]]:
    """Run cells through pytest, all if none is named; return their reports."""
    report = directory / "report.json"
    (directory / "pytest.ini").write_text("[pytest]\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--rootdir", str(directory), "-c", str(directory / "pytest.ini")),
            *("--modelops-matrix", "--modelops-backend", "process", f"--modelops-start={start}"),
            *(f"--modelops-python={python}" for python in options.python),
            *(f"--modelops-dask={dask}" for dask in options.dask),
            *(f"--modelops-cell={cell}" for cell in ids),
            *(f"--modelops-report={report}", *more),
        ],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cells: list[dict[str, Any]] = json.loads(report.read_text())["cells"]
    return [cell for cell in cells if cell["selected"]]


def cost_of_cells(ids: Sequence[str], start: str, options: argparse.Namespace, directory: Path) -> Cost:
    """From the first process of each cell to the proof that none is left."""
    first = cpu_of_children()
    run_cells(ids, start, options, directory, "-k", "install")
    second = cpu_of_children()
    cells = run_cells(ids, start, options, directory)
    cpu = cpu_of_children() - second - (second - first)
    building = [
        check["seconds"] for cell in cells for check in cell["checks"] if check["name"] in {"resolve", "install"}
    ]
    how = {value.partition(":")[0] for cell in cells for value in cell["started"].values()}
    assert start in how, f"{start}: {[cell['started'] for cell in cells]}"
    return Cost(sum(cell["seconds"] for cell in cells) - sum(building), cpu)


def cost_of_bare(pythons: Sequence[str], directory: Path) -> Cost:
    """The bare script with each of these interpreters, one after the other."""
    before, seconds = cpu_of_children(), 0.0
    for python in pythons:
        done = subprocess.run(
            [python, str(HERE / "bare_cell.py")], check=True, capture_output=True, text=True, cwd=directory
        )
        seconds += float(done.stdout.split()[-1])
    return Cost(seconds, cpu_of_children() - before)


def ratios(found: Sequence[Cost], bare: Sequence[Cost]) -> str:
    """The ratio of medians, and the least and the greatest ratio of a round."""
    shown = []
    for name in ("cpu", "seconds"):
        ours, theirs = ([getattr(cost, name) for cost in costs] for costs in (found, bare))
        by_round = [one / other for one, other in zip(ours, theirs, strict=True)]
        middle = statistics.median(ours) / statistics.median(theirs)
        shown.append(f"{name} × {middle:.2f} ({min(by_round):.2f}-{max(by_round):.2f})")
    return ", ".join(shown)


def main() -> None:
    """Alternate, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", nargs="+", default=["3.12", "3.13"])
    parser.add_argument("--dask", nargs="+", default=["2024.8.0", "2024.10.0", "2025.5.0", "2026.8.0"])
    parser.add_argument("--cells", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--starts", nargs="+", default=["exec", "fork", "fork-workers"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        cells = run_cells((), "fork", options, directory)  # builds the environments where there are none yet
        ids = [cell["id"] for cell in cells]
        pythons = [str(Path(cell["observed"]["client"]["executable"]).expanduser()) for cell in cells]
        for number in options.cells:
            costs: dict[str, list[Cost]] = {way: [] for way in (BARE, *options.starts)}
            for _ in range(options.rounds):
                for way, found in costs.items():
                    if way == BARE:
                        found.append(cost_of_bare(pythons[:number], directory))
                    else:
                        found.append(cost_of_cells(ids[:number], way, options, directory))
            for way, found in costs.items():
                cpu, seconds = (
                    statistics.median(getattr(cost, field) for cost in found) for field in ("cpu", "seconds")
                )
                print(
                    f"{number} cells, {way}: {cpu:.2f} s CPU, {seconds:.2f} s; {ratios(found, costs[BARE])}", flush=True
                )


if __name__ == "__main__":
    main()
