"""Where the seconds of the README's matrix go: by check, in a first run with an empty cache and in warm ones.

    python -m benchmarks.matrix_by_check [--rounds 3] [--beside PYTHON]

uv's own cache stays, so wheels are downloaded once. Seconds are those of the report, the sum over all cells, of which
several run at once; CPU is that of pytest and of everything that it waited for. `--beside` names the Python of another
installation, such as an earlier version's; its runs alternate with this one's.
"""

from __future__ import annotations

import collections
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import FEW, REPOSITORY, Options, cells_of, cost_of, main

WHOLE, ALL, CPU = "whole command", "all checks", "CPU"
BESIDE = ", beside"
Run = dict[str, float]
"""Seconds by check; `WHOLE`, `ALL` and `CPU` besides."""


def run(python: str, cache: Path) -> Run:
    """Run the matrix once, with the cache as it is."""
    report = cache / "report.json"
    program = str(Path(python).with_name("pytest"))  # `-m pytest` would import the plugin from the working directory
    command = [program, "-q", "--modelops-matrix", f"--modelops-report={report}", f"--modelops-cache={cache}"]
    cost = cost_of(command, REPOSITORY)
    print(f"  {python}: {cost.seconds:.1f} s, CPU {cost.cpu:.1f} s", flush=True)
    found: Run = {WHOLE: cost.seconds, CPU: cost.cpu, ALL: 0.0}
    checks: Run = collections.defaultdict(float)
    for cell in cells_of(report):
        for check in cell["checks"]:
            checks[check["name"]] += check["seconds"]
    found[ALL] = sum(checks.values())
    return found | dict(sorted(checks.items(), key=lambda item: -item[1]))


def figures(title: str, runs: Sequence[Run], beside: Sequence[Run]) -> Figures:
    samples = {name: [one[name] for one in runs] for name in runs[0]}
    others = {f"{name}{BESIDE}": [one[name] for one in beside] for name in (beside[0] if beside else ())}
    bases = {name: [f"{name}{BESIDE}"] for name in samples} if beside else {}
    bases |= {} if beside else {name: [ALL] for name in samples if name not in {WHOLE, ALL, CPU}}
    return Figures(title, "s", samples | others, bases)


def measure(options: Options, directory: Path) -> list[Figures]:
    pythons = [sys.executable, *filter(None, [options.beside])]
    runs: dict[str, list[Run]] = {python: [] for python in pythons}
    for _ in range(1 + min(FEW, options.rounds)):
        for number, python in enumerate(pythons):
            cache = directory / str(number)
            cache.mkdir(exist_ok=True)
            runs[python].append(run(python, cache))
    ours, beside = runs[sys.executable], runs.get(options.beside or "", [])
    return [
        figures("README's matrix, first run with an empty cache", ours[:1], beside[:1]),
        figures("README's matrix, warm", ours[1:], beside[1:]),
    ]


if __name__ == "__main__":
    main("matrix_by_check", measure)
