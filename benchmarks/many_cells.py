"""What planning and collecting 1, 100 and 1,000 cells costs, beside a pytest that collects nothing, as one run.

    python benchmarks/many_cells.py [--rounds 5]

The answers of the index are cached by a first run. CPU is that of the process and of those that it starts; memory is
the peak of the process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHONS = ("3.10", "3.11", "3.12", "3.12.1", "3.13", "3.13.0", "3.14")
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")


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


def measured(directory: Path, *arguments: str) -> tuple[float, float, float]:
    """Run pytest; return seconds, seconds of CPU and MiB at its peak."""
    began = time.monotonic()
    process = subprocess.Popen([*PYTEST, *arguments], cwd=directory, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        plan, collect = ["--modelops-matrix", "--modelops-plan=json"], ["--modelops-matrix", "--collect-only"]
        every = project(directory, 1, [">=1"])
        answer = subprocess.run([*PYTEST, *plan], cwd=every, check=True, capture_output=True, text=True).stdout
        releases = [cell["dask"] for cell in json.loads(answer)["cells"]]
        sides = {"pytest alone": (every, ["--collect-only"])}
        for cells in (1, 100, 1000):
            made = project(directory, cells, releases)
            sides |= {f"plan of {cells}": (made, plan), f"collection of {cells}": (made, collect)}
        for where, arguments in sides.values():  # the index's answers, and bytecode
            measured(where, *arguments)
        found = {side: [measured(where, *what) for _ in range(rounds)] for side, (where, what) in sides.items()}
    for side, values in found.items():
        seconds, cpu, memory = (statistics.median(one) for one in zip(*values, strict=True))
        print(f"{side}: {seconds:.2f} s, CPU {cpu:.2f} s, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
