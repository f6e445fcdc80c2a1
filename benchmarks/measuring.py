"""How everything is measured: seconds, CPU and memory of commands, in rounds that alternate between the sides."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures, Part, as_text

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
BARE = "bare script"
ALONE = "pytest alone"
TOX = "tox-uv -p 2"
OWN_PLUGINS = ("asyncio", "hypothesispytest", "randomly", "repeat", "rerunfailures", "socket", "timeout")
"""Plugins that only this repository's own tests use."""
FEW = 3
"""Rounds of what hardly varies, or takes long, however many are asked for."""
SKIPPED = 77
"""Exit code of a part that cannot be measured here."""


class Skip(Exception):
    """Why a part cannot be measured here."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What something took.

    Attributes:
        cpu: seconds, user and system, of all processes that were waited for.
        peak: MiB of the largest of these processes.
        output: what the command printed.
    """

    seconds: float
    cpu: float
    peak: float = 0.0
    output: str = ""


Work = Callable[[], Cost]
"""Does one side's work once. What it needs before is not in the cost."""


@contextlib.contextmanager
def started(command: Sequence[str], directory: Path, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process. If this one is interrupted, interrupt that one, unless the terminal has, and wait for it."""
    process = subprocess.Popen(command, cwd=directory, **options)
    try:
        yield process
    except KeyboardInterrupt:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise


def cost_of(command: Sequence[str], directory: Path, *, fails: bool = False, **variables: str) -> Cost:
    """Run a command; if it fails unexpectedly, end with what it printed."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        environ = {**os.environ, **variables}
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors}
        with started(command, directory, env=environ, **streams) as process:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        printed, complaint = output.read(), errors.read()
    if bool(process.returncode) is not fails:
        sys.exit(f"{printed}{complaint}\n{' '.join(command)} ended with exit code {process.returncode}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed)


def pytest(*arguments: str) -> list[str]:
    unused = [f"-pno:{plugin}" for plugin in ("cacheprovider", *OWN_PLUGINS)]
    return [sys.executable, "-m", "pytest", "-q", *unused, *arguments]


def alone(directory: Path) -> list[str]:
    """Make a project with one test that belongs to no cell; return the command that collects it."""
    made = directory / "alone"
    made.mkdir(exist_ok=True)
    (made / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    return pytest("--collect-only", "--rootdir", str(made), str(made))


def cells(count: int) -> str:
    return f"{count:,} {'cell' if count == 1 else 'cells'}"


def cells_of(report: Path) -> list[dict[str, Any]]:
    """The cells of a JSON report that were selected."""
    return [cell for cell in json.loads(report.read_text())["cells"] if cell["selected"]]


def alternate(rounds: int, sides: Mapping[str, Work]) -> dict[str, list[Cost]]:
    """Run all sides in turn, because machines are shared and their speed changes."""
    found: dict[str, list[Cost]] = {side: [] for side in sides}
    for number in range(rounds):
        for side, work in sides.items():
            found[side].append(cost := work())
            print(f"  round {number + 1}, {side}: {cost.seconds:.2f} s, CPU {cost.cpu:.2f} s", flush=True)
    return found


def figures_of(
    costs: Mapping[str, Sequence[Cost]], field: str, title: str, bases: Mapping[str, Sequence[str]]
) -> Figures:
    """One field of the costs: `seconds`, `cpu` or `peak`."""
    samples = {side: [getattr(cost, field) for cost in found] for side, found in costs.items()}
    return Figures(title, "MiB" if field == "peak" else "s", samples, bases)


@dataclasses.dataclass(frozen=True)
class Options:
    """Attributes:
    tox: a tox with tox-uv beside it.
    cache: the cache of cells that are warm; parts share it.
    beside: the Python of another installation of the plugin.
    image: a base image, for containers.
    """

    rounds: int
    tox: str | None
    cache: Path
    beside: str | None
    image: str


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--tox", help="a tox with tox-uv (`pip install tox tox-uv`); without it, tox is left out")
    made.add_argument("--cache", help="directory for environments; without it, a temporary one")
    made.add_argument("--beside", help="the Python of another installation, which matrix_by_check also runs")
    made.add_argument("--image", default="modelops-fixture/python:{python}", help="the base image of containers")
    made.add_argument("--docs", type=Path, help="directory for figures and plots; the page is written beside it")
    return made


@contextlib.contextmanager
def directory_or_temporary(path: str | None) -> Iterator[Path]:
    if path:
        yield Path(path).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="modelops-benchmark-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def main(name: str, measure: Callable[[Options, Path], Sequence[Figures]]) -> None:
    """Measure one part, print its tables, and keep its figures if there is a directory for them.

    Args:
        measure: gets the options and an empty directory.
    """
    arguments = vars(parser(sys.modules["__main__"].__doc__).parse_args())
    docs = arguments.pop("docs")
    # Without bytecode, each start would compile everything; and another installation would be this one.
    for variable in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
        os.environ.pop(variable, None)
    with directory_or_temporary(arguments.pop("cache")) as cache, directory_or_temporary(None) as directory:
        options = Options(cache=cache, **arguments)
        try:
            figures = measure(options, directory)
        except Skip as why:
            print(f"  skipped: {why}", flush=True)
            sys.exit(SKIPPED)
    for one in figures:
        print(f"\n{as_text(one)}", flush=True)
    if docs:
        Part.measured_here(figures).write(docs / f"{name}.json")
