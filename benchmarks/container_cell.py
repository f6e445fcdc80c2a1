"""How long a cell in containers takes to be up, beside the same cell in processes: both in one run, as a difference.

    python benchmarks/container_cell.py [--rounds 5] [--image modelops-fixture/python:{python}]

The seconds are those of the check `start`: from the first process or container until all workers are registered.
Environments and images are built before. Rounds alternate, because machines are shared and noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def start_seconds(backend: str, options: argparse.Namespace, directory: Path) -> tuple[float, float]:
    """Seconds of the check `start`, and of the whole cell."""
    report = directory / "report.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--rootdir", str(directory)),
            *("-c", str(directory / "pytest.ini"), "--modelops-matrix", "--modelops-backend", backend),
            *("--modelops-python", options.python, "--modelops-dask", options.dask),
            *("--modelops-report", str(report)),
        ],
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    cell = json.loads(report.read_text())["cells"][0]
    start = next(check["seconds"] for check in cell["checks"] if check["name"] == "start")
    return float(start), float(cell["seconds"])


def main() -> None:
    """Alternate, and print the medians and their difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--dask", default="2024.10.0")
    parser.add_argument("--image", default="modelops-fixture/python:{python}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")
        (directory / "pyproject.toml").write_text(f'[tool.modelops.docker]\nimage = "{options.image}"\n')
        found: dict[str, list[float]] = {"docker": [], "process": []}
        for backend in found:
            start_seconds(backend, options, directory)  # builds what there is not yet
        for number in range(options.rounds):
            for backend, seconds in found.items():
                start, whole = start_seconds(backend, options, directory)
                seconds.append(start)
                print(f"round {number + 1}: {backend} up after {start:.2f} s, whole cell {whole:.2f} s")
    containers, processes = (statistics.median(seconds) for seconds in found.values())
    print(
        f"median until up: containers {containers:.2f} s, processes {processes:.2f} s, "
        f"difference {containers - processes:.2f} s"
    )


if __name__ == "__main__":
    main()
