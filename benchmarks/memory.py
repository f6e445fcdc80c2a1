"""How much memory one warm cell takes at its peak, beside the bare script, and how much pytest's own process.

    python -m benchmarks.memory [--rounds 3]

Every tenth of a second, the proportional set sizes (PSS) of all processes below pytest are added: supervisor,
scheduler, nannies, workers, client and the processes that they were forked from. Of the bare script, its own process
counts, too, because it is the client. Of pytest's own process, it is the greatest resident size that the kernel has
seen (VmHWM). Linux only.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.figures import Figures
from benchmarks.measuring import ALONE, BARE, FEW, HERE, Options, Skip, alone, main, pytest, started
from benchmarks.one_cell import DASK, PYTHON, STARTS, interpreter_of_cell

SECONDS = 0.1
MIB = 2**20
WITH_CELL = "pytest with one cell"


@dataclasses.dataclass
class Peaks:
    """MiB: of the command's own process, of all processes below it, and of both together."""

    own: float = 0.0
    below: float = 0.0
    together: float = 0.0


def pss(process: psutil.Process) -> float:
    """MiB of memory, what several processes share in equal parts; 0 if it has ended."""
    try:
        return float(process.memory_full_info().pss) / MIB
    except psutil.Error:
        return 0.0


def high_water(pid: int) -> float:
    """MiB of the greatest resident size so far; 0 of a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def peaks_of(command: Sequence[str], directory: Path) -> Peaks:
    """Run a command and look at its processes; if it fails, end with what it printed."""
    found = Peaks()
    with (
        (directory / "output").open("w+") as output,
        started(command, directory, stdout=output, stderr=output) as process,
    ):
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            below = sum(map(pss, watched.children(recursive=True)))
            found.own = max(found.own, high_water(process.pid))
            found.below = max(found.below, below)
            found.together = max(found.together, below + pss(watched))
            time.sleep(SECONDS)
        if process.returncode:
            output.seek(0)
            sys.exit(output.read())
    return found


def measure(options: Options, directory: Path) -> list[Figures]:
    if sys.platform != "linux":
        raise Skip("only Linux knows the proportional set size of a process")
    python = interpreter_of_cell(options, directory)
    matrix = pytest("--modelops-matrix", "--modelops-backend=process", f"--modelops-cache={options.cache}")
    one = (f"--modelops-python={PYTHON}", f"--modelops-dask={DASK}")
    commands = {ALONE: alone(directory), BARE: [python, str(HERE / "bare_cell.py")]}
    commands |= {start: [*matrix, *one, f"--modelops-start={start}"] for start in STARTS}
    found: dict[str, list[Peaks]] = {side: [] for side in commands}
    for number in range(min(FEW, options.rounds)):
        for side, command in commands.items():
            found[side].append(peaks := peaks_of(command, directory))
            print(f"  round {number + 1}, {side}: {peaks.own:.0f} MiB, below it {peaks.below:.0f} MiB", flush=True)
    cell = {BARE: [peaks.together for peaks in found[BARE]]}
    cell |= {start: [peaks.below for peaks in found[start]] for start in STARTS}
    host = {ALONE: [peaks.own for peaks in found[ALONE]], WITH_CELL: [peaks.own for peaks in found["fork"]]}
    return [
        Figures("All processes of one cell", "MiB", cell, dict.fromkeys(STARTS, (BARE,))),
        Figures("pytest's own process", "MiB", host, {WITH_CELL: (ALONE,)}),
    ]


if __name__ == "__main__":
    main("memory", measure)
