"""How long eight cells take: ours, a bare script two at a time, and tox with tox-uv, all in one run, as ratios.

    python benchmarks/eight_cells.py [--rounds 5] [--cold] [--tox PATH]

Every side starts a scheduler and two workers for each cell, runs a function on each, aggregates 400 tasks and stops.
`--cold` has the environments made, too, with the wheels in uv's cache; the bare script is left out then. `--tox` is a
tox with tox-uv in it (`pip install tox tox-uv`); without it, tox is left out. The sides alternate, because machines are
shared and noisy. CPU is of all processes that were waited for.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PYTHONS = ("3.12", "3.13")
DASKS = ("2024.8.0", "2024.10.0", "2025.5.1", "2026.8.0")

SETTINGS = f"""
[tool.pytest.ini_options]
[tool.modelops]
backend = "process"
[tool.modelops.matrix]
python = {[*PYTHONS]}
dask = {[*DASKS]}
"""
TOX = f"""
[tox]
no_package = true
env_list = py{{{",".join(python.replace(".", "") for python in PYTHONS)}}}-dask{{{",".join(DASKS)}}}
[testenv]
deps =
{"".join(f"  dask{dask}: dask=={dask}{chr(10)}  dask{dask}: distributed=={dask}{chr(10)}" for dask in DASKS)}
commands = python {HERE / "bare_cell.py"}
"""


def run(command: Sequence[str], directory: Path) -> None:
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sides(directory: Path, tox: str | None, *, cold: bool) -> dict[str, Callable[[], None]]:
    """Return what runs the eight cells, by its name; everything that it needs is there."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--modelops-matrix"]
    cache = directory / "cache"

    def ours(*options: str) -> None:
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        run([*pytest, f"--modelops-cache={cache}", *options], directory)

    def bare() -> None:
        pythons = sorted(cache.glob("environments/*/1/bin/python"))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda python: run([str(python), str(HERE / "bare_cell.py")], directory), pythons))

    ours()
    found = {"ours": ours, "ours -n 2": lambda: ours("-n", "2")}
    if not cold:
        found["bare, two at a time"] = bare
    if tox is not None:
        # uv, which tox-uv asks for a Python, looks on PATH.
        pythons = (next(cache.glob(f"environments/py{name}.*/1/bin/python")).resolve().parent for name in PYTHONS)
        os.environ["PATH"] = os.pathsep.join([*map(str, pythons), os.environ["PATH"]])
        tox_command = [tox, "run-parallel", "-p", "2", *(["-r"] if cold else [])]
        run([tox, "run-parallel", "-p", "2"], directory)
        found["tox -p 2"] = lambda: run(tox_command, directory)
    return found


def main() -> None:
    """Alternate, and print medians, spread, and ratios to each of the other sides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--tox")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pyproject.toml").write_text(SETTINGS)
        (directory / "tox.ini").write_text(TOX)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        there = sides(directory, options.tox and shutil.which(options.tox), cold=options.cold)
        seconds: dict[str, list[float]] = {side: [] for side in there}
        cpu: dict[str, list[float]] = {side: [] for side in there}
        for number in range(options.rounds):
            for side, work in there.items():
                before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
                work()
                seconds[side].append(time.monotonic() - began)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu[side].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            print(f"round {number + 1}:", ", ".join(f"{side} {seconds[side][-1]:.1f} s" for side in there), flush=True)
    for side in there:
        median, low, high = statistics.median(seconds[side]), min(seconds[side]), max(seconds[side])
        print(f"{side}: {median:.1f} s ({low:.1f} to {high:.1f}), CPU {statistics.median(cpu[side]):.1f} s")
    for side in there:
        for other in there:
            if side.startswith("ours") and side != other:
                print(f"{side} / {other}: {statistics.median(seconds[side]) / statistics.median(seconds[other]):.2f}")


if __name__ == "__main__":
    main()
