"""A client of a deployment: why it cannot connect, in words, and what it refuses to send."""

from __future__ import annotations

import contextlib
import http.server
import platform
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import distributed  # before threads do
import pytest

from pytest_modelops.remote.client import attached, reach
from pytest_modelops.remote.client.attached import Attached
from pytest_modelops.remote.client.connection import Call, Failure
from pytest_modelops.remote.client.limits import EACH_BYTES

MINE = platform.python_version()
NOBODY = "tcp://127.0.0.1:1"


def contact(**more: Any) -> Any:
    return {"tasks": 5, "bytes": 10**6, "seconds": 60.0, "force": False, "files": "", **more}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attached, "_ASK_SECONDS", 1.0)
    monkeypatch.setattr(reach, "TCP_SECONDS", 0.5)
    monkeypatch.setattr(reach, "_PROBE_SECONDS", 0.5)


@contextlib.contextmanager
def listening(*, backlog: int = 5) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        yield listener


@contextlib.contextmanager
def full() -> Iterator[socket.socket]:
    """A port whose queue is full, so that the kernel drops further packets, as a firewall does."""
    with listening(backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(listener.getsockname())
        yield listener


@contextlib.contextmanager
def page() -> Iterator[socket.socket]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.socket
        server.shutdown()


@contextlib.contextmanager
def closed() -> Iterator[socket.socket]:
    with listening() as listener:
        address = listener.getsockname()
    with socket.socket() as bound:
        bound.bind(address)  # nobody else takes the port, and nobody listens
        yield bound


@pytest.mark.parametrize(
    ("peer", "scheme", "said"),
    [
        (closed, "tcp", "connection refused"),
        (full, "tcp", "firewall"),
        (listening, "tcp", "something listens there, but no scheduler"),
        (page, "tcp", "speaks HTTP"),
        (listening, "tls", "a certificate authority, a certificate and a key"),
    ],
)
def test_why_an_address_cannot_be_used(peer: Any, scheme: str, said: str) -> None:
    with peer() as listener:
        address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(Failure, match=said) as raised:
            Attached(contact(address=address), 2).connect(20)
    assert str(raised.value).startswith(f"{address}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("peer", "said"), [(page, "speaks HTTP"), (listening, "does not speak TLS")])
def test_a_port_without_tls(peer: Any, said: str) -> None:
    with peer() as listener:
        assert said in reach.other_protocol(f"tls://127.0.0.1:{listener.getsockname()[1]}")


def test_a_host_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fail)
    assert reach.obstacle("tcp://nowhere:8786") == "there is no host 'nowhere' (Name or service not known)"


def test_a_port_with_tls_where_none_is_expected() -> None:
    with listening() as listener:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def serve() -> None:
            with contextlib.suppress(OSError):
                context.wrap_socket(listener.accept()[0], server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        assert "write tls://" in reach.other_protocol(f"tcp://127.0.0.1:{listener.getsockname()[1]}")


def test_a_scheduler_that_answers_and_that_this_client_cannot_connect_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("identity() got an unexpected keyword argument 'n_workers'")

    monkeypatch.setattr(distributed, "Client", fail)
    old = {"python": "3.10.1", "packages": {"distributed": "2024.10.0"}}
    monkeypatch.setattr(attached, "_scheduler_facts", lambda *_: old)
    with pytest.raises(
        Failure, match=rf"on Python {MINE} cannot connect to Dask 2024.10.0 on Python 3.10.1: TypeError"
    ):
        Attached(contact(address=NOBODY), 2).connect(20)


@pytest.mark.parametrize(
    ("returned", "said"),
    [("42", "returned 42, which is neither an address nor a Dask cluster"), ("1 / 0", "factory made:make: ZeroDiv")],
)
def test_a_factory_that_makes_no_deployment(tmp_path: Path, returned: str, said: str) -> None:
    module = f"made_{abs(hash(returned))}"
    (tmp_path / f"{module}.py").write_text(f"def make():\n    return {returned}\n", encoding="utf-8")
    found = contact(factory=f"{module}:make", directory=str(tmp_path))
    with pytest.raises(Failure, match=said.replace("made:", f"{module}:")):
        Attached(found, 2).connect(20)


def connection(
    scheduler: str, *, force: bool = False, limits: Mapping[str, float] | None = None, **workers: str
) -> Attached:
    """A client of a deployment that has said what it runs; its worker `a` can aggregate."""
    made = Attached(contact(address=NOBODY, force=force, **(limits or {})), 1)
    settings: Any = {name: {"resources": {"aggregation": 1} if name == "a" else {}} for name in workers}
    made._facts = {
        "scheduler": {"python": scheduler},
        "workers": {
            name: {"settings": settings[name], "python": python}
            if python
            else {"settings": settings[name], "silent": "…"}
            for name, python in workers.items()
        },
    }
    return made


def test_idle_workers_first() -> None:
    made = connection(MINE, a=MINE, b=MINE, c=MINE, d="3.8.1")
    assert made.targets(None) == ["a", "b", "c"], "none is idle"
    made._idle = {"b", "c", "d"}
    assert made.targets(None) == ["b", "c"]
    assert made.targets(None, {"aggregation": 1}) == ["a"], "the only one that can"
    with pytest.raises(Failure, match="nothing was sent: no worker with this client's Python has the resources"):
        made.targets(None, {"GPU": 1})
    assert made.in_turn(["a", "b", "c"]) == [["b", "c"], ["a"]]
    assert made.in_turn([None]) == [[None]]


def test_functions_go_only_where_the_same_python_runs() -> None:
    made = connection(MINE, a=MINE, b="3.8.1", c="")
    assert made.targets("a") == ["a"]
    assert made.targets(None) == ["a"]
    for worker in ("b", "c", "joined since"):
        with pytest.raises(Failure, match=f"nothing was sent: {worker} is not known to run Python"):
            made.targets(worker)
    with pytest.raises(Failure, match="no worker"):
        connection(MINE, b="3.8.1").targets(None)
    for scheduler in ("3.8.1", ""):
        with pytest.raises(Failure, match="scheduler is not known to run Python"):
            connection(scheduler, a=MINE).targets("a")
    forced = connection("3.8.1", force=True, b="3.8.1")
    assert (forced.targets("b"), forced.targets(None)) == (["b"], None)


def test_no_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def made(**limits: float) -> Attached:
        found = connection(MINE, limits=limits, a=MINE)
        monkeypatch.setattr(found, "facts", lambda *_: asked.append("versions"))
        monkeypatch.setattr(found, "_idle_workers", set)
        return found

    one = made()
    one.reserve(Call(len, count=3), Call(len))
    with pytest.raises(Failure, match=r"2 tasks were not sent.* has sent 4.*`tasks` of .* allows 5"):
        one.reserve(Call(len, count=2))
    one.reserve(Call(len))
    assert len(asked) == 3, "they are asked again before each job"
    small = made(bytes=8 * EACH_BYTES)
    small.reserve(Call(len))
    with pytest.raises(Failure, match=r"\d+ bytes were not sent.*`bytes` of .* allows 2048"):
        small.reserve(Call(len, dependencies=7))
    with pytest.raises(Failure, match=r"\d\d\d\d bytes were not sent"):
        small.reserve(Call(len, (b"1" * 2000,)))
    with pytest.raises(Failure, match=r"1 tasks were not sent.*`seconds` of .* 0 s"):
        made(seconds=0).reserve(Call(len))


@pytest.mark.parametrize("answer", [None, {}, {"host": {}, "packages": {}}, "what?"])
def test_an_answer_without_versions(answer: object) -> None:
    assert "error" in attached.process_facts(answer)
