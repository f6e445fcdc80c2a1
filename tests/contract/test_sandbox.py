"""What a sandbox promises, whatever backend it is of."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, TimedOut

if TYPE_CHECKING:
    from tests.contract.conftest import Kit

FOREVER = "import time; print('up', flush=True); time.sleep(1000)"


def start(sandbox: Sandbox, environment: Environment, code: str, **variables: str) -> Process:
    return sandbox.start("part", environment, ["-c", code], variables=variables)


def await_output(process: Process, text: str) -> None:
    deadline = Deadline(20)
    while text not in process.log.read_text():
        deadline.check(f"{text!r} in {process.log}")
        assert process.ending is None, process.log.read_text()
        time.sleep(0.01)


def test_output_is_in_the_log_from_the_first_byte(sandbox: Sandbox, environment: Environment) -> None:
    process = start(sandbox, environment, "import os; os.write(1, b'out'); os.write(2, b'err')")
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "outerr"
    assert sandbox.logs() == {"part": process.log}


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise SystemExit(3)", "exited with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
    ],
)
def test_an_ending_is_reported_in_words(sandbox: Sandbox, environment: Environment, code: str, ending: str) -> None:
    process = start(sandbox, environment, code)
    assert process.wait(Deadline(20)) == ending
    assert process.ending == ending
    assert process.state() == "gone"


def test_a_slow_process_is_not_an_ended_one(sandbox: Sandbox, environment: Environment) -> None:
    process = start(sandbox, environment, FOREVER)
    with pytest.raises(TimedOut, match=r"part .* did not end within 0\.1 s"):
        process.wait(Deadline(0.1))
    assert process.ending is None


def test_a_name_can_be_used_again_when_its_process_has_ended(sandbox: Sandbox, environment: Environment) -> None:
    for number in range(2):
        process = start(sandbox, environment, f"print('turn', {number})")
        assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "turn 0\nturn 1\n"


def test_signals_reach_the_process_and_its_state_is_seen(sandbox: Sandbox, environment: Environment) -> None:
    process = start(sandbox, environment, FOREVER)
    await_output(process, "up")
    assert process.signal(signal.SIGSTOP)
    deadline = Deadline(20)
    while not process.state().startswith("stopped"):
        deadline.check("the process is stopped")
    process.signal(signal.SIGCONT)
    assert process.signal(signal.SIGTERM)
    assert process.wait(Deadline(20)) == "was killed by SIGTERM"
    assert not process.signal(signal.SIGTERM)


def test_signals_reach_descendants_and_nobody_else(sandbox: Sandbox, environment: Environment) -> None:
    code = (
        "import subprocess; child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    process = start(sandbox, environment, code)
    await_output(process, "\n")
    child = int(process.log.read_text())
    stranger = min(pid for pid in (1, psutil.Process().ppid()) if pid != process.pid)
    assert not process.signal(signal.SIGUSR1, pid=stranger)
    assert process.signal(signal.SIGKILL, pid=child)
    assert process.wait(Deadline(20)) == "exited with code 0"


def test_a_process_can_write_to_the_cell_s_directory(sandbox: Sandbox, environment: Environment) -> None:
    code = "import os; d = os.environ['D']; print(os.listdir(d)); open(os.path.join(d, 'x'), 'w').close()"
    process = start(sandbox, environment, code, D=sandbox.cell_directory())
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "[]\n"


def test_an_attached_process_speaks_over_its_streams(sandbox: Sandbox, environment: Environment) -> None:
    code = "import sys; sys.stderr.write('aside'); sys.stdout.write(sys.stdin.read().upper())"
    process, stdin, stdout = sandbox.start_attached("part", environment, ["-c", code], variables={})
    with stdin:
        stdin.write(b"hello")
    with stdout:
        assert stdout.read() == b"HELLO"
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text() == "aside"


def test_variables_are_those_given_and_none_of_the_hosts(
    sandbox: Sandbox, environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SECRET", "PYTHONPATH", "PIP_INDEX_URL", "UV_INDEX", "DASK_SCHEDULER_ADDRESS", "HTTP_PROXY"):
        monkeypatch.setenv(name, "of the host")
    process = start(sandbox, environment, "import json, os; print(json.dumps(dict(os.environ)))", GIVEN="yes")
    process.wait(Deadline(20))
    variables = json.loads(process.log.read_text())
    assert variables["GIVEN"] == "yes"
    assert "of the host" not in variables.values()
    assert variables["HOME"] != str(Path.home())
    allowed = "GIVEN PATH HOME TMPDIR LANG LANGUAGE LC_ALL LC_CTYPE TZ DASK_CONFIG DASK_ROOT_CONFIG HOSTNAME"
    assert {name for name in variables if not name.startswith("PYTHON")} <= set(allowed.split())


def test_what_cannot_be_started_is_reported(sandbox: Sandbox, environment: Environment) -> None:
    broken = dataclasses.replace(environment, python="/no/such/python")
    try:  # a sandbox may start in the background, and report it as the ending
        message = str(start(sandbox, broken, "pass").wait(Deadline(20)))
    except CheckFailed as error:
        message = str(error)
    assert re.search(r"(?i)could not start /no/such/python: .*no such file", message)


def test_nothing_is_left_of_what_could_not_be_made(kit: Kit, sandbox: Sandbox, environment: Environment) -> None:
    broken: dict[str, Any] = {"python": "/no/such/python"}
    if hasattr(environment, "image"):  # its place is there before it
        broken["image"] = f"sha256:{'0' * 64}"
    with contextlib.suppress(CheckFailed):
        start(sandbox, dataclasses.replace(environment, **broken), "pass").wait(Deadline(20))
    assert list(sandbox.close()) == []
    assert kit.remains() == []


def test_closing_ends_everything_and_proves_it(kit: Kit, sandbox: Sandbox, environment: Environment) -> None:
    code = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "orphan = int(subprocess.run(['sh', '-c', 'setsid sleep 1000 >/dev/null & echo $!'], stdout=-1).stdout)\n"
        "print(child.pid, orphan, flush=True)\n"
        "while True: pass\n"
    )
    process = start(sandbox, environment, code)
    await_output(process, "\n")
    pids = [process.pid, *map(int, process.log.read_text().split())]
    assert all(kit.runs(process, pid) for pid in pids)
    assert list(sandbox.close()) == []
    assert list(sandbox.close()) == []  # closing twice is closing once
    assert not any(kit.runs(process, pid) for pid in pids)
    assert kit.remains() == []
    assert process.ending == "was killed by SIGKILL"


def test_closing_removes_all_but_the_logs(sandbox: Sandbox, environment: Environment) -> None:
    process = start(sandbox, environment, "open('file', 'w').write('x'); print('done')")
    process.wait(Deadline(20))
    sandbox.close()
    assert process.log.read_text() == "done\n"
    left = {path.name for path in process.log.parents[1].rglob("*") if path.is_file()}
    assert left <= {"part.log", "supervisor.log"}


def test_only_what_runs_is_reported_as_left_up(
    sandbox: Sandbox, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_modelops.backends.docker.link import Gone
    from pytest_modelops.backends.docker.sandbox import ContainerSandbox

    def gone() -> None:
        raise Gone("no answer")

    if not isinstance(sandbox, ContainerSandbox):
        with pytest.raises(CheckFailed, match="the process backend cannot leave a cell up"):
            sandbox.keep()
        return
    processes = {name: sandbox.start(name, environment, ["-c", FOREVER], variables={}) for name in ("gone", "stays")}
    for process in processes.values():
        await_output(process, "up")
    monkeypatch.setattr(processes["gone"], "keep", gone)
    reported = sandbox.keep()
    sandbox.kept = False  # so that the end of the test clears it
    assert re.search(r"was left up: modelops-kept-\S+-stays$", reported.splitlines()[0])
    assert "-gone" not in reported
    assert f"-stays {environment.python} -i -c" in reported


def test_what_is_put_is_readable_by_every_process_before_and_after_it_was_started(
    sandbox: Sandbox, environment: Environment, tmp_path: Path
) -> None:
    source = tmp_path / "bundle"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "data.bin").write_bytes(bytes(range(256)) * 4096)
    (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "run.sh").chmod(0o700)
    (source / "private").write_text("readable all the same")
    (source / "private").chmod(0o600)
    (source / "link").symlink_to(source / "private")
    early = sandbox.put(source, "bundles/early")
    code = (
        "import hashlib, os, subprocess, sys\n"
        "print('up', flush=True)\n"
        "for path in sys.argv[1:]:\n"
        "    while not os.path.exists(path + '/inner/data.bin'): pass\n"
        "    print(hashlib.sha256(open(path + '/inner/data.bin', 'rb').read()).hexdigest())\n"
        "    print(open(path + '/private').read(), open(path + '/link').read())\n"
        "    print(subprocess.run([path + '/run.sh'], capture_output=True, text=True).stdout)\n"
    )
    first = sandbox.start("first", environment, ["-c", code, early], variables={})
    assert first.wait(Deadline(20)) == "exited with code 0", first.log.read_text()
    second = sandbox.start("second", environment, ["-c", FOREVER], variables={})
    await_output(second, "up")
    late, other = sandbox.put_all(dict.fromkeys(("bundles/late", "bundles/early"), source)).values()
    assert other == early
    third = sandbox.start("third", environment, ["-c", code, early, late], variables={})
    assert third.wait(Deadline(20)) == "exited with code 0", third.log.read_text()
    lines = third.log.read_text().split()
    assert lines.count("ran") == 2
    assert lines.count("readable") == 4
    assert early != late


def test_a_file_or_directory_that_is_put_again_stays_as_it_is(
    sandbox: Sandbox, environment: Environment, tmp_path: Path
) -> None:
    file, directory = tmp_path / "one.txt", tmp_path / "directory"
    directory.mkdir()
    for content in ("first", "second"):
        for source in (file, directory / "two.txt"):
            source.write_text(content)
        paths = [sandbox.put(file, "files/one.txt"), f"{sandbox.put(directory, 'directories/directory')}/two.txt"]
    process = start(sandbox, environment, f"print(*[open(path).read() for path in {paths!r}])")
    process.wait(Deadline(20))
    assert process.log.read_text() == "first first\n"


def test_directory_and_home_of_a_process_can_be_written_to_and_run_from(
    sandbox: Sandbox, environment: Environment
) -> None:
    directory = sandbox.directory("part")
    code = (
        "import os, pathlib, subprocess\n"
        f"path = {directory!r} + '/environment'\n"
        "os.makedirs(path)\n"
        "open(path + '/big', 'wb').write(bytes(80 << 20))\n"
        "open(path + '/program', 'w').write('#!/bin/sh\\necho ran from here')\n"
        "os.chmod(path + '/program', 0o755)\n"
        "print(subprocess.run([path + '/program'], capture_output=True, text=True).stdout)\n"
        "home = pathlib.Path.home(); (home / 'x').write_text('x'); print(home)\n"
    )
    process = start(sandbox, environment, code)
    assert process.wait(Deadline(30)) == "exited with code 0", process.log.read_text()
    *_, ran, _, home = process.log.read_text().splitlines()
    assert ran == "ran from here"
    assert home != str(Path.home())


def test_sixteen_mebibytes_go_each_way_whole_beside_noise(sandbox: Sandbox, environment: Environment) -> None:
    code = (
        "import os, sys, threading\n"
        "noise = threading.Thread(target=lambda: [os.write(2, b'noise %d\\n' % n) for n in range(5000)])\n"
        "noise.start()\n"
        "data = sys.stdin.buffer.read()\n"
        "sys.stdout.buffer.write(data[::-1]); sys.stdout.flush(); noise.join()\n"
    )
    process, stdin, stdout = sandbox.start_attached("part", environment, ["-c", code], variables={})
    data = bytes(range(256)) * (16 * 2**20 // 256)
    with stdin:
        stdin.write(data)
    with stdout:
        assert stdout.read() == data[::-1]
    assert process.wait(Deadline(20)) == "exited with code 0"
    assert process.log.read_text().splitlines() == [f"noise {number}" for number in range(5000)]


def test_an_attached_process_that_dies_ends_its_streams(sandbox: Sandbox, environment: Environment) -> None:
    process, stdin, stdout = sandbox.start_attached("part", environment, ["-c", "raise SystemExit(4)"], variables={})
    with stdout:
        assert stdout.read() == b""
    assert process.wait(Deadline(20)) == "exited with code 4"

    def write_on() -> None:
        for _ in range(50):
            stdin.write(b"x" * 100_000)
            stdin.flush()
            time.sleep(0.05)

    with pytest.raises(OSError):  # noqa: PT011 - a broken pipe, or that there is none any more
        write_on()
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        stdin.close()


def test_sandboxes_of_one_backend_do_not_meet(kit: Kit, tmp_path: Path) -> None:
    one, other = kit.backend.sandbox(kit.cell), kit.backend.sandbox(kit.cell)
    try:
        first = start(one, kit.environment, FOREVER)
        second = start(other, kit.environment, FOREVER)
        await_output(first, "up")
        await_output(second, "up")
        assert first.log != second.log
        assert list(one.close()) == []
        assert second.ending is None
    finally:
        one.close()
        other.close()


def test_closing_the_backend_closes_its_sandboxes(kit: Kit) -> None:
    sandbox = kit.backend.sandbox(kit.cell)
    process = start(sandbox, kit.environment, FOREVER)
    await_output(process, "up")
    sandbox.close()
    kit.backend.close()
    assert kit.remains() == []
