"""How long a warm cell takes, beside the bare script that does the same job: both in one run, as a ratio.

    python benchmarks/warm_cell.py [--rounds 5] [--python 3.12] [--dask 2024.10.0]

A cell's seconds are those of the report, from its first check to the proof that nothing is left, without `resolve` and
`install`; pytest's own work between the checks is in them. Rounds alternate, because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def run_cell(python: str, dask: str, directory: Path) -> dict[str, Any]:
    """One cell through pytest; returns its report."""
    report = directory / "report.json"
    (directory / "pytest.ini").write_text("[pytest]\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--rootdir", str(directory), "-c", str(directory / "pytest.ini")),
            *("--modelops-matrix", "--modelops-python", python, "--modelops-dask", dask),
            *("--modelops-report", str(report)),
        ],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    cell: dict[str, Any] = json.loads(report.read_text())["cells"][0]
    return cell


def seconds_of(cell: dict[str, Any]) -> float:
    """From the cell's first process to the proof that none is left."""
    before = sum(check["seconds"] for check in cell["checks"] if check["name"] in {"resolve", "install"})
    return float(cell["seconds"] - before)


def main() -> None:
    """Alternate, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--dask", default="2024.10.0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        cell = run_cell(options.python, options.dask, directory)  # builds the environment where there is none yet
        python = cell["observed"]["client"]["executable"]
        cells, bare = [], []
        for number in range(options.rounds):
            done = subprocess.run(
                [python, str(HERE / "bare_cell.py")], check=True, capture_output=True, text=True, cwd=directory
            )
            bare.append(float(done.stdout.split()[-1]))
            cells.append(seconds_of(run_cell(options.python, options.dask, directory)))
            print(f"round {number + 1}: bare {bare[-1]:.2f} s, cell {cells[-1]:.2f} s")
    ratio = statistics.median(cells) / statistics.median(bare)
    print(f"median: bare {statistics.median(bare):.2f} s, cell {statistics.median(cells):.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
