"""The maker and what it is asked, with classes that start nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.remote.client.connection import Failure
from pytest_modelops.remote.client.maker import Maker
from pytest_modelops.remote.shared.cluster_messages import ClusterQuestion

CLASSES = """
class Made:
    scheduler_address = "tcp://127.0.0.1:9"
    closed = 0
    size = None

    def __init__(self, **options):
        self.options = options
        self.__dict__.update(options)

    def scale(self, workers):
        self.size = workers

    def adapt(self, minimum, maximum):
        self.size = (minimum, maximum)

    def close(self):
        self.closed += 1


class Remembers(Made):
    made = []

    def __init__(self, **options):
        super().__init__(**options)
        self.made.append(self)


class Hangs(Remembers):
    made = []

    def close(self):
        self.options["gate"].wait(20)


def returns_no_cluster():
    return [1]


class Fixed(Made):
    new_spec = None
    worker_spec = {0: {}}
"""


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("pytest_modelops.remote.client.maker.mark", lambda: None)
    monkeypatch.setattr("sys.path", [*sys.path])
    made = Maker()
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    made.leave()
    thread.join(20)
    assert not thread.is_alive()


def question(directory: Path, name: str, *, maximum: int = 0, **options: Any) -> ClusterQuestion:
    module = f"made_{abs(hash(directory)):x}"
    (directory / f"{module}.py").write_text(CLASSES)
    return {
        "path": f"{module}:{name}",
        "directory": str(directory),
        "options": options,
        "workers": 2,
        "maximum": maximum,
        "contact": str(directory / "contact.json"),
    }


@pytest.mark.parametrize(("maximum", "size"), [(0, 2), (4, (2, 4))])
def test_a_cluster_is_made_scaled_and_closed_once(tmp_path: Path, maker: Maker, maximum: int, size: object) -> None:
    maker.make(question(tmp_path, "Remembers", maximum=maximum, cores=1))
    assert maker.made(20)
    contact = tmp_path / "contact.json"
    assert json.loads(contact.read_text()) == {"address": "tcp://127.0.0.1:9", "security": ""}
    assert contact.stat().st_mode & 0o777 == 0o600
    [cluster] = type(maker._cluster).made
    assert (cluster.options, cluster.size) == ({"cores": 1}, size)
    assert maker.scale(3, 20)
    assert cluster.size == 3
    assert maker.close(20) == maker.close(20) == {"left": [], "notes": []}
    assert cluster.closed == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Nothing", {}, "has no Nothing"),
        ("Made", {"scheduler_address": "inproc://1/2"}, "no other process can reach; set processes = true"),
        ("Made", {"scheduler_address": None}, ":Made, which has no scheduler's address"),
        ("Fixed", {}, "its options give this cluster 1 workers, so it cannot have 2; set workers = 1"),
    ],
)
def test_a_cluster_that_cannot_be_used(
    tmp_path: Path, maker: Maker, name: str, options: dict[str, Any], said: str
) -> None:
    maker.make(question(tmp_path, name, **options))
    with pytest.raises(Failure) as raised:
        maker.made(20)
    assert said in str(raised.value)
    assert not (tmp_path / "contact.json").exists()


def test_closing_that_does_not_end_says_where_it_stands(tmp_path: Path, maker: Maker) -> None:
    gate = threading.Event()
    maker.make(question(tmp_path, "Hangs", gate=gate))
    assert maker.made(20)
    with pytest.raises(TimeoutError, match=r"^closing it has not ended after 0\.1 s; it stands at\n    File "):
        maker.close(0.1)
    gate.set()


def test_what_is_no_cluster_is_not_closed(tmp_path: Path, maker: Maker) -> None:
    maker.make(question(tmp_path, "returns_no_cluster"))
    with pytest.raises(Failure, match="made a builtins:list, which has no scheduler's address"):
        maker.made(20)
    assert maker.close(20) == {"left": [], "notes": []}
