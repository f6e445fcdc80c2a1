"""Code in a worker's container may do nothing but its work. Each setting opens one thing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_modelops.deadline import Deadline
from pytest_modelops.matrix.cell import Cell
from tests.conftest import bare_backend
from tests.integration.test_containers import ONE_CELL

if TYPE_CHECKING:
    from tests.integration.conftest import ContainerMatrix

LOOK = """
import json, os, socket, subprocess, sys, threading
os.environ["RES_OPTIONS"] = "attempts:1 timeout:1"  # of the resolver
reported = {}
def attempt(name, what):
    try:
        reported[name] = what()
    except BaseException as error:
        reported[name] = f"refused: {type(error).__name__}: {error}"
def write(path):
    with open(path, "w") as file:
        file.write("x")
    os.unlink(path)
    return "done"
def reach(address):
    with socket.create_connection(address, timeout=3):
        return "done"
def become_root():
    os.setuid(0)
    return "done"
def status():
    lines = open("/proc/self/status").read().splitlines()
    return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}
host = json.loads(sys.argv[1])
attempt("uid", os.getuid)
attempt("write to /usr", lambda: write("/usr/x"))
attempt("write to /etc", lambda: write("/etc/x"))
attempt("write to the shared volume", lambda: write("/modelops/shared/x"))
attempt("write beside our program", lambda: write("/modelops/shared/remote/modelops_remote/x.py"))
attempt("write to /opened", lambda: write("/opened/x"))
attempt("become root", become_root)
attempt("capabilities", lambda: int(status()["CapEff"], 16) | int(status()["CapPrm"], 16) | int(status()["CapBnd"], 16))
attempt("no new privileges", lambda: status()["NoNewPrivs"])
attempt("seccomp", lambda: status()["Seccomp"])
attempt("secret", lambda: os.environ.get("SECRET_OF_THE_HOST"))
attempt("secrets of process 1", lambda: "SECRET_OF_THE_HOST" in open("/proc/1/environ").read())
attempt("the engine's socket", lambda: os.path.exists("/var/run/docker.sock"))
attempt("mounts of the host", lambda: [m.split()[1] for m in open("/proc/mounts") if "/modelops/" in m])
first = socket.inet_aton(socket.gethostbyname(socket.gethostname()))[:3]
waiting = {  # where no answer comes
    "reach the host": lambda: reach((host["host"], host["port"])),
    "reach the network's gateway": lambda: reach((socket.inet_ntoa(first + b"\\x01"), host["port"])),
    "ask for a name": lambda: socket.gethostbyname("pypi.org"),
}
threads = [threading.Thread(target=attempt, args=item) for item in waiting.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(reported))
"""


@pytest.fixture
def listening() -> Iterator[dict[str, Any]]:
    """A service of the host on all its addresses, and one of the addresses."""
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen(50)

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield {"host": address_of_this_machine(), "port": server.getsockname()[1]}
        server.shutdown(socket.SHUT_RDWR)


def address_of_this_machine() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))  # sends nothing
        return str(probe.getsockname()[0])


Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(engine: Any, tmp_path: Path, listening: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Look:
    """Returns what code in a container can do under given settings."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "a password")

    def looked(**settings: Any) -> dict[str, Any]:
        backend, environment = bare_backend(engine, tmp_path, **settings)
        sandbox = backend.sandbox(Cell.uniform(environment.lock.versions))
        try:
            process = sandbox.start("worker-0", environment, ["-c", LOOK, json.dumps(listening)], variables={})
            assert process.wait(Deadline(60)) == "exited with code 0", process.log.read_text()
            return dict(json.loads(process.log.read_text().splitlines()[-1]))
        finally:
            assert list(sandbox.close()) == []
            backend.close()

    return looked


def refused(reported: dict[str, Any], *names: str) -> None:
    for name in names:
        assert str(reported[name]).startswith("refused: "), f"{name}: {reported[name]}"


def test_by_default_nothing_is_open(look: Look) -> None:
    reported = look()
    assert reported["uid"] == 1000
    refused(reported, "write to /usr", "write to /etc", "write to the shared volume", "write beside our program")
    refused(reported, "write to /opened", "become root")
    assert reported["capabilities"] == 0
    assert reported["no new privileges"] == "1"
    assert reported["seccomp"] == "2"
    refused(reported, "reach the host", "reach the network's gateway", "ask for a name")
    assert reported["secret"] is None
    assert reported["secrets of process 1"] is False
    assert reported["the engine's socket"] is False


def test_the_network_is_opened_alone(look: Look) -> None:
    reported = look(network=True)
    assert reported["reach the host"] == "done"
    assert reported["uid"] == 1000
    assert reported["capabilities"] == 0
    refused(reported, "write to /usr", "become root")


def test_directories_of_the_image_are_opened_alone_and_variables_of_the_host_are_passed_by_name(look: Look) -> None:
    reported = look(writable=("/opened",), pass_env=("SECRET_OF_THE_HOST", "NOT_SET"))
    assert reported["write to /opened"] == "done"
    assert reported["secret"] == "a password"
    refused(reported, "write to /usr", "write to /etc", "become root", "reach the host")


def test_a_user_is_asked_for_and_root_still_cannot_write_to_the_image(look: Look) -> None:
    reported = look(user="0:0")
    assert reported["uid"] == 0
    refused(reported, "write to /usr", "write to the shared volume", "reach the host")
    assert reported["capabilities"] == 0


def test_the_root_is_opened_to_root(look: Look) -> None:
    reported = look(user="0:0", read_only=False)
    assert reported["write to /etc"] == "done"
    refused(reported, "write to the shared volume", "write beside our program", "reach the host")


def test_capabilities_and_privileges_are_opened_one_by_one(look: Look) -> None:
    reported = look(capabilities=("SYS_NICE",), new_privileges=True, user="0:0")
    assert reported["capabilities"] == 1 << 23  # CAP_SYS_NICE, linux/capability.h
    assert reported["no new privileges"] == "0"


def test_code_on_a_real_worker_fails_to_get_out_and_its_limits_are_those_that_were_set(
    containers: ContainerMatrix, engine: Any, listening: dict[str, Any]
) -> None:
    limits = 'image = "modelops-fixture/python:{python}"\nmemory = "700m"\ncpus = 0.5\npids = 90\n'
    containers.configure(f"{ONE_CELL}[tool.modelops.docker]\n{limits}")
    test = containers.write(
        "test_own.py",
        f"""
        import pytest

        def reaches():
            import socket
            socket.create_connection(({listening["host"]!r}, {listening["port"]}), timeout=3)

        def writes():
            open("/usr/local/lib/evil.py", "w")

        def becomes_root():
            import os
            os.setuid(0)

        def reads():
            import os
            return sorted(os.environ)

        def too_many():
            import threading, time
            for number in range(200):
                threading.Thread(target=time.sleep, args=(1,), daemon=True).start()

        @pytest.mark.parametrize(
            ("attempt", "words"),
            [
                (reaches, "No route to host|unreachable|timed out"),
                (writes, "Read-only file system"),
                (becomes_root, "Operation not permitted"),
            ],
        )
        def test_refused(modelops_cell, attempt, words):
            with pytest.raises(Exception, match=words):
                modelops_cell.call(attempt)

        def test_variables(modelops_cell):
            assert "SECRET_OF_THE_HOST" not in modelops_cell.call(reads)

        def test_memory(modelops_cell):
            assert modelops_cell.call(lambda: __import__("distributed").system.MEMORY_LIMIT) == 700 << 20

        def test_pids(modelops_cell):
            try:
                modelops_cell.call(too_many)
            except Exception as error:
                assert "can't start new thread" in str(error)
            else:
                raise AssertionError("200 threads were started")
        """,
    )
    running = containers.start(test.name, env={"SECRET_OF_THE_HOST": "a password"})
    label = {"label": ["modelops.part=worker-0", f"modelops.pid={running.process.pid}"]}
    running.until(lambda: engine.api.containers(filters=label), "a worker's container is up", seconds=120)
    config = engine.api.inspect_container(engine.api.containers(filters=label)[0]["Id"])["HostConfig"]
    assert (config["Memory"], config["MemorySwap"]) == (700 << 20, 700 << 20)
    assert config["NanoCpus"] == 500_000_000
    assert config["PidsLimit"] == 90
    assert config["PortBindings"] in (None, {})
    assert all(not bind.startswith("/") for bind in config["Binds"])
    running.ended().passed()
