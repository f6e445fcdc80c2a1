"""Processes that are forked from one that has imported their module, beside such that Python executes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_modelops.remote.shared.supervised import CouldNot, Supervised

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")

SECONDS = 60.0
REPORT = """
import json, multiprocessing.process, multiprocessing.spawn, os, signal, sys

def state():
    main = sys.modules["__main__"]
    prepared = multiprocessing.spawn.get_preparation_data("child")
    return {
        "argv": sys.argv,
        "orig_argv": getattr(sys, "orig_argv", None),
        "path": sys.path,
        "flags": str(sys.flags),
        "main": [main.__name__, main.__spec__.name, main.__file__, main.state is state, str(main.__builtins__)],
        "known": "commands.report" in sys.modules,
        "prepared": {name: prepared[name] for name in ("init_main_from_name", "sys_path", "dir", "orig_dir")},
        "cwd": os.getcwd(),
        "variables": dict(os.environ),
        "files": [os.path.realpath(f"/proc/self/fd/{n}") for n in range(3)],
        "number of files": len(os.listdir("/proc/self/fd")),
        "session": os.getsid(0) == os.getpid(),
        "supervised": os.getppid(),
        "signals": [str(signal.getsignal(number)) for number in range(1, 32)],
        "threads": len(os.listdir("/proc/self/task")),
    }
"""
END = """
if __name__ == "__main__":
    print("out", flush=True)
    os.write(2, b"err")
    with open("state.json", "w") as file:
        json.dump(state(), file)
    random = [__import__("random").random(), multiprocessing.process.current_process().authkey.hex()]
    with open("random.json", "w") as file:
        json.dump(random, file)
    with open("/proc/self/cmdline", "rb") as file:
        print(file.read().replace(b"\\0", b" ").decode().rstrip())
    sys.exit(3)
"""


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return answer


class Place:
    """A supervisor, a package `commands` with modules to run, and a working directory for each process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "lib" / "commands").mkdir(parents=True)
        (path / "lib" / "commands" / "__init__.py").touch()
        self.supervised = Supervised(log=str(path / "supervisor.log"))
        self.env = {"PYTHONPATH": str(path / "lib"), "PYTHONUNBUFFERED": "1", "A": "1"}

    def write(self, name: str, source: str) -> None:
        (self.path / "lib" / "commands" / f"{name}.py").write_text(source)

    def prepare(self, name: str) -> int:
        python = sys.executable
        return self.supervised.prepare(
            python, [f"commands.{name}"], env=self.env, cwd=str(self.path), log=str(self.path / f"from-{name}.log")
        )

    def start(self, name: str, *arguments: str, template: int = 0, directory: str = "") -> tuple[int, Path]:
        """Start a module, forked where a process to fork from is given; return its pid and its directory."""
        cwd = self.path / (directory or f"{name}-{template}")
        cwd.mkdir()
        argv = [f"commands.{name}", *arguments]
        env = {**self.env, "B": "2", "PYTHONPATH": f"{self.path}/more:{self.path}/lib"}
        pid = self.supervised.start(
            argv if template else [sys.executable, "-m", *argv],
            env=env,
            cwd=str(cwd),
            log=str(cwd / "log"),
            template=template,
        )
        return pid, cwd


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    assert made.supervised.close() == []


def test_a_forked_process_is_as_one_that_python_executes(place: Place) -> None:
    place.write("report", f"{REPORT}{END}")
    template = place.prepare("report")
    assert place.supervised.obstacle(template, SECONDS) == ""
    states, logs = [], []
    for number, start_from in enumerate((template, 0, template)):
        pid, cwd = place.start("report", "--x", "y z", template=start_from, directory=f"p{number}")
        assert place.supervised.wait(pid, SECONDS) == "exited with code 3"
        text = (cwd / "state.json").read_text().replace(f"p{number}", "p")
        states.append(json.loads(text))
        logs.append((cwd / "log").read_text())
    assert states[0] == states[1] == states[2]
    assert states[0]["supervised"] == place.supervised.pid
    expected = f"out\nerr{sys.executable} -m commands.report --x y z\n"
    assert logs == [expected] * 3
    first, second = ((place.path / name / "random.json").read_text() for name in ("p0", "p2"))
    assert first != second


def test_what_is_printed_while_importing_is_in_each_log(place: Place) -> None:
    place.write("loud", "import os; os.write(1, b'imported,') if __name__ != '__main__' else print(' ran')")
    template = place.prepare("loud")
    assert place.supervised.obstacle(template, SECONDS) == ""
    for directory in ("one", "two"):
        pid, cwd = place.start("loud", template=template, directory=directory)
        assert place.supervised.wait(pid, SECONDS) == "exited with code 0"
        assert (cwd / "log").read_text() == "imported, ran\n"


def test_streams_ends_and_signals_of_a_forked_process(place: Place) -> None:
    place.write("echo", "import sys\nif __name__ == '__main__':\n    print(sys.stdin.read().upper()); 1 / 0")
    template = place.prepare("echo")
    assert place.supervised.obstacle(template, SECONDS) == ""
    (place.path / "echo").mkdir()
    data = "bytes " * 100_000
    pid, stdin, stdout = place.supervised.start_attached(
        ["commands.echo"], env=place.env, cwd=str(place.path), log=str(place.path / "echo.log"), template=template
    )
    with stdin:
        stdin.write(data.encode())
    with stdout:
        assert stdout.read().decode() == data.upper() + "\n"
    assert place.supervised.wait(pid, SECONDS) == "exited with code 1"
    assert (place.path / "echo.log").read_text().endswith("ZeroDivisionError: division by zero\n")
    place.write("sleeps", "import time\nif __name__ == '__main__':\n    time.sleep(1000)")
    template = place.prepare("sleeps")
    assert place.supervised.obstacle(template, SECONDS) == ""
    pid, _ = place.start("sleeps", template=template)
    os.kill(template, signal.SIGKILL)  # the others live on without it
    until(lambda: place.supervised.ending(template))
    assert place.supervised.ending(pid) is None
    assert place.supervised.signal(pid, signal.SIGTERM)
    assert place.supervised.wait(pid, SECONDS) == "was killed by SIGTERM"
    with pytest.raises(CouldNot, match="to fork from did not answer"):
        place.start("sleeps", template=template, directory="late")


def test_forked_processes_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write("sleeps", "import time\nif __name__ == '__main__':\n    time.sleep(1000)")
    template = place.prepare("sleeps")
    assert place.supervised.obstacle(template, SECONDS) == ""
    pids = [place.start("sleeps", template=template, directory=name)[0] for name in ("one", "two")]
    os.kill(place.supervised.pid, signal.SIGKILL)
    until(lambda: not any(psutil.pid_exists(pid) for pid in (template, *pids)))
    assert place.supervised.close() is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "started threads",
        ),
        ("import os; kept = os.pipe()", "opened files"),
        ("import subprocess; child = subprocess.Popen(['sleep', '9'])", "started a process"),
        ("raise ImportError('no licence')", "the process to fork it from exited with code 1"),
    ],
)
def test_why_nothing_can_be_forked(place: Place, source: str, why: str) -> None:
    place.write("odd", source)
    assert why in place.supervised.obstacle(place.prepare("odd"), SECONDS)


def test_an_import_that_hangs(place: Place) -> None:
    place.write("hangs", "import time; time.sleep(1000)")
    assert "took more than 0 s" in place.supervised.obstacle(place.prepare("hangs"), 0.2)
