"""Where the seconds of the README's matrix go: by check, in a first run with an empty cache and in warm ones.

    python benchmarks/matrix_by_check.py [--rounds 3] [--beside PYTHON] [-- further arguments of pytest]

`--beside` names the Python of another installation, such as an earlier version's; its runs alternate with this one's,
and the last column is the ratio of the medians. uv's own cache stays, so wheels are downloaded once. Seconds are those
of the report, the sum over all cells; CPU is that of pytest and of everything that it waited for.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
Run = Mapping[str, float]
"""Seconds by check; `CPU` and `all` besides."""


def run(python: str, cache: Path, more: Sequence[str]) -> Run:
    """Run the matrix once, with the cache as it is."""
    report = cache / "report.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pytest = str(Path(python).with_name("pytest"))  # `-m pytest` would import the plugin from the working directory
    command = [pytest, "-q", "--modelops-matrix", f"--modelops-report={report}", *more]
    environ = {**os.environ, "PYTEST_MODELOPS_CACHE": str(cache)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, float] = collections.defaultdict(float)
    for cell in json.loads(report.read_text())["cells"]:
        for check in cell["checks"]:
            found[check["name"]] += check["seconds"] or 0.0
    found["all"] = sum(found.values())
    found["CPU"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def show(title: str, runs: Sequence[Run], beside: Sequence[Run]) -> None:
    print(f"\n{title}\n{'check':20} {'seconds':>8} {'share':>6}" + (f" {'beside':>8} {'ratio':>6}" if beside else ""))
    medians = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        line = f"{name:20} {seconds:8.1f} {seconds / medians['all']:6.0%}"
        if beside and (other := statistics.median(one[name] for one in beside)):
            line += f" {other:8.1f} {seconds / other:6.2f}"
        print(line, flush=True)


def main() -> None:
    """Alternate, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside")
    parser.add_argument("more", nargs="*")
    options = parser.parse_args()
    pythons = [sys.executable, *filter(None, [options.beside])]
    with tempfile.TemporaryDirectory(prefix="modelops-") as name:
        runs: dict[str, list[Run]] = {python: [] for python in pythons}
        for _ in range(1 + options.rounds):
            for number, python in enumerate(pythons):
                cache = Path(name, str(number))
                cache.mkdir(exist_ok=True)
                runs[python].append(run(python, cache, options.more))
    ours, beside = runs[sys.executable], runs.get(options.beside, [])
    show("first run, empty cache", ours[:1], beside[:1])
    show(f"median of {options.rounds} warm runs", ours[1:], beside[1:])


if __name__ == "__main__":
    main()
