"""How long after its deadline a check that hangs has its verdict, diagnosis included, for each process that freezes.

    python benchmarks/hang_to_verdict.py [--rounds 5] [--deadline 4]

In one cell, each process is frozen with SIGSTOP in turn, or a task holds the GIL, and a call runs into its deadline.
Printed are the seconds between the deadline and the error that the test sees: the median and the range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TEST = """
import json
import os
import signal
import time

import pytest

from pytest_modelops.errors import TimedOut


@pytest.mark.parametrize("victim", ["worker", "scheduler", "nanny", "agent", "gil"] * {rounds})
def test_hang(modelops_cell, victim):
    pids = {{
        "worker": modelops_cell.call("lambda: __import__('os').getpid()", worker="worker-1"),
        "scheduler": modelops_cell.observed["scheduler"]["pid"],
        "nanny": modelops_cell.call("lambda: __import__('os').getppid()", worker="worker-1"),
        "agent": modelops_cell.observed["client"]["pid"],
    }}
    hangs = "lambda: __import__('collections').deque(__import__('itertools').repeat(0), maxlen=0)"
    sleeps = "lambda: __import__('time').sleep(600)"
    if victim in pids:
        os.kill(pids[victim], signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(TimedOut) as raised:
            modelops_cell.call(hangs if victim == "gil" else sleeps, worker="worker-1", deadline={deadline})
        took = time.monotonic() - began - {deadline}
    finally:
        if victim in pids:
            os.kill(pids[victim], signal.SIGCONT)
    cause = str(raised.value).splitlines()[1]
    with open("seconds.jsonl", "a") as file:
        file.write(json.dumps([victim, took, cause]) + "\\n")
"""


def main() -> None:
    """Run the cell, and print a line for each process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--deadline", type=float, default=4.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pyproject.toml").write_text("[tool.modelops]\n")
        (directory / "test_hang.py").write_text(TEST.format(rounds=options.rounds, deadline=options.deadline))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--modelops-matrix", "test_hang.py"]
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[float]] = {}
        for line in (directory / "seconds.jsonl").read_text().splitlines():
            victim, seconds, cause = json.loads(line)
            if victim not in found:
                print(f"{victim}: {cause}")
            found.setdefault(victim, []).append(seconds)
    for victim, seconds in found.items():
        print(
            f"{victim}: verdict {statistics.median(seconds):.2f} s after the deadline "
            f"({min(seconds):.2f} to {max(seconds):.2f} s, {len(seconds)} times)"
        )


if __name__ == "__main__":
    main()
