"""What a stage promises, whatever backend it is of."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment, Process, Stage
from pytest_modelops.errors import CheckFailed, TimedOut

FOREVER = "import time; print('up', flush=True); time.sleep(1000)"


def start(stage: Stage, environment: Environment, code: str, **variables: str) -> Process:
    return stage.start("part", environment, ["-c", code], variables=variables)


def await_words(process: Process, words: str) -> None:
    deadline = Deadline(20)
    while words not in process.log.read_text():
        deadline.check(f"{words!r} in {process.log}")
        assert process.ending is None, process.log.read_text()
        time.sleep(0.01)


def test_output_is_in_the_log_from_the_first_byte(stage: Stage, environment: Environment) -> None:
    process = start(stage, environment, "import os; os.write(1, b'out'); os.write(2, b'err')")
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "outerr"
    assert stage.logs() == {"part": process.log}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "exited with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
    ],
)
def test_an_ending_is_told_in_words(stage: Stage, environment: Environment, code: str, words: str) -> None:
    process = start(stage, environment, code)
    assert process.wait(Deadline(20)) == words
    assert process.ending == words
    assert process.state() == "gone"


def test_a_slow_process_is_not_an_ended_one(stage: Stage, environment: Environment) -> None:
    process = start(stage, environment, FOREVER)
    with pytest.raises(TimedOut, match=r"part .* did not end within 0\.1 s"):
        process.wait(Deadline(0.1))
    assert process.ending is None


def test_signals_reach_the_process_and_its_state_is_seen(stage: Stage, environment: Environment) -> None:
    process = start(stage, environment, FOREVER)
    await_words(process, "up")
    assert process.signal(signal.SIGSTOP)
    deadline = Deadline(20)
    while not process.state().startswith("stopped"):
        deadline.check("the process is stopped")
    process.signal(signal.SIGCONT)
    assert process.signal(signal.SIGTERM)
    assert process.wait(Deadline(20)) == "was killed by SIGTERM"
    assert not process.signal(signal.SIGTERM)


def test_signals_reach_descendants_and_nobody_else(stage: Stage, environment: Environment) -> None:
    code = (
        "import subprocess; child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    process = start(stage, environment, code)
    await_words(process, "\n")
    child = int(process.log.read_text())
    stranger = psutil.Process().ppid()
    assert not process.signal(signal.SIGUSR1, pid=stranger)
    assert process.signal(signal.SIGKILL, pid=child)
    assert process.wait(Deadline(20)) == "exited with code 0"


def test_an_attached_process_speaks_over_its_streams(stage: Stage, environment: Environment) -> None:
    code = "import sys; sys.stderr.write('aside'); sys.stdout.write(sys.stdin.read().upper())"
    process, stdin, stdout = stage.start_attached("part", environment, ["-c", code], variables={})
    with stdin:
        stdin.write(b"hello")
    with stdout:
        assert stdout.read() == b"HELLO"
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "aside"


def test_variables_are_those_given_and_none_of_the_hosts(
    stage: Stage, environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SECRET", "PYTHONPATH", "PIP_INDEX_URL", "UV_INDEX", "DASK_SCHEDULER_ADDRESS", "HTTP_PROXY"):
        monkeypatch.setenv(name, "of the host")
    process = start(stage, environment, "import json, os; print(json.dumps(dict(os.environ)))", GIVEN="yes")
    process.wait(Deadline(20))
    variables = json.loads(process.log.read_text())
    assert variables["GIVEN"] == "yes"
    assert "of the host" not in variables.values()
    assert variables["HOME"] != str(Path.home())
    allowed = {
        "GIVEN",
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "DASK_CONFIG",
        "DASK_ROOT_CONFIG",
    }
    assert {name for name in variables if not name.startswith("PYTHON")} <= allowed


def test_what_cannot_be_started_is_told(stage: Stage, environment: Environment) -> None:
    import dataclasses

    broken = dataclasses.replace(environment, python="/no/such/python")
    with pytest.raises(CheckFailed, match=r"could not start /no/such/python: .*No such file"):
        start(stage, broken, "pass")


def test_closing_ends_everything_and_proves_it(stage: Stage, environment: Environment) -> None:
    code = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "orphan = int(subprocess.run(['sh', '-c', 'setsid sleep 1000 >/dev/null & echo $!'], stdout=-1).stdout)\n"
        "print(child.pid, orphan, flush=True)\n"
        "while True: pass\n"
    )
    process = start(stage, environment, code)
    await_words(process, "\n")
    pids = [process.pid, *map(int, process.log.read_text().split())]
    assert all(psutil.pid_exists(pid) for pid in pids)
    assert list(stage.close()) == []
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert process.ending == "was killed by SIGKILL"


def test_closing_removes_all_but_the_logs(stage: Stage, environment: Environment, tmp_path: Path) -> None:
    process = start(stage, environment, "open('file', 'w').write('x'); print('done')")
    process.wait(Deadline(20))
    stage.close()
    assert process.log.read_text() == "done\n"
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"part.log", "keeper.log"}


def test_closing_twice_is_closing_once(stage: Stage, environment: Environment) -> None:
    start(stage, environment, FOREVER)
    assert list(stage.close()) == []
    assert list(stage.close()) == []
