"""How long after its deadline a check that hangs has its verdict, diagnosis included, for each process that freezes.

    python -m benchmarks.hang_to_verdict [--rounds 5]

In one cell, each process is frozen with SIGSTOP in turn, or a task holds the GIL, and a call runs into its deadline.
The runner of a bundle is frozen in the check `execute`, or the bundle's function never ends. Seconds are those between
the deadline and the error. They can be negative for bundles, because their checks keep `MARGIN_SECONDS` of the deadline
for ending the runners.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.figures import Figures
from benchmarks.measuring import Options, cells_of, cost_of, main, pytest
from benchmarks.one_cell import DASK, PYTHON

DEADLINE = 2.0
TEST = f"""
import json
import os
import signal
import time

import pytest

from pytest_modelops.errors import TimedOut


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("victim", ["worker", "scheduler", "nanny", "agent", "GIL"])
def test_hang(modelops_cell, victim, number):
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
            modelops_cell.call(hangs if victim == "GIL" else sleeps, worker="worker-1", deadline={DEADLINE})
        took = time.monotonic() - began - {DEADLINE}
    finally:
        if victim in pids:
            os.kill(pids[victim], signal.SIGCONT)
    cause = str(raised.value).splitlines()[1]
    with open("seconds.jsonl", "a") as file:
        file.write(json.dumps([victim, took, cause]) + "\\n")
"""
BUNDLES = {"runner": "os.kill(os.getpid(), signal.SIGSTOP)", "bundle's function": "time.sleep(600)"}
WIRE = """
import os
import signal
import time


def wire(entrypoint, params, seed):
    {hang}
"""


def of_processes(options: Options, directory: Path, cell: Sequence[str]) -> dict[str, list[float]]:
    """Seconds by the process that was frozen."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "test_hang.py").write_text(TEST.replace("ROUNDS", str(options.rounds)))
    cost_of(pytest(*cell, "test_hang.py"), directory)
    found: dict[str, list[float]] = {}
    for line in (directory / "seconds.jsonl").read_text().splitlines():
        victim, seconds, cause = json.loads(line)
        print(f"  {victim}: {seconds:.2f} s after the deadline; {cause}", flush=True)
        found.setdefault(victim, []).append(seconds)
    return found


def of_runners(options: Options, directory: Path, cell: Sequence[str]) -> Mapping[str, list[float]]:
    """Seconds by what hangs; each bundle is a copy of its own."""
    lines, kinds = [], {}
    for number in range(options.rounds):
        for kind, hang in BUNDLES.items():
            name = f"{kind.partition(chr(39))[0]}-{number}"
            (directory / name).mkdir()
            (directory / name / "wire.py").write_text(WIRE.format(hang=hang))
            lines.append(f'  {{ path = "{name}", entrypoint = "wire/run" }},')
            kinds[name] = kind
    tables = ["[tool.modelops]", "bundles = [", *lines, "]", "[tool.modelops.deadlines]", f"execute = {DEADLINE}"]
    (directory / "pyproject.toml").write_text("\n".join(tables))
    report = directory / "report.json"
    cost_of(pytest(*cell, "-k", "execute", f"--modelops-report={report}"), directory, fails=True)
    found: dict[str, list[float]] = {kind: [] for kind in BUNDLES}
    for check in cells_of(report)[0]["checks"]:
        if check["name"] == "execute":
            assert check["status"] == "timed-out", check["message"]
            assert ("SIGSTOP" in check["message"]) is (kinds[check["bundle"]] == "runner"), check["message"]
            seconds = check["seconds"] - DEADLINE
            cause = " ".join(check["message"].splitlines()[:2])
            print(f"  {kinds[check['bundle']]}: {seconds:.2f} s after the deadline; {cause}", flush=True)
            found[kinds[check["bundle"]]].append(seconds)
    return found


def measure(options: Options, directory: Path) -> list[Figures]:
    cell = ["--modelops-matrix", "--modelops-backend=process", f"--modelops-cache={options.cache}"]
    cell += [f"--modelops-python={PYTHON}", f"--modelops-dask={DASK}"]
    processes, bundles = directory / "processes", directory / "bundles"
    processes.mkdir()
    bundles.mkdir()
    samples = {**of_processes(options, processes, cell), **of_runners(options, bundles, cell)}
    return [Figures("From the deadline to the verdict", "s", samples)]


if __name__ == "__main__":
    main("hang_to_verdict", measure)
