"""What is copied to a worker of a deployment lives as long as the task's result; here the worker is no process."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import pytest

from pytest_modelops.remote.client.delivery import Delivery
from pytest_modelops.remote.worker import delivered
from tests.processes import poll


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "local").mkdir()
    found = SimpleNamespace(local_directory=str(tmp_path / "local"), name="w0", handlers={"ping": len})
    monkeypatch.setattr(distributed, "get_worker", lambda: found)
    return found


def archive(tmp_path: Path, *names: str) -> bytes:
    nothing: Any = None
    (tmp_path / "put").mkdir(exist_ok=True)
    (tmp_path / "put" / "wire.py").write_text("", encoding="utf-8")
    return Delivery(nothing, nothing, str(tmp_path))._archive(names)


def test_it_is_there_until_the_result_is_dropped(tmp_path: Path, worker: Any) -> None:
    kept = delivered.deliver("t1", archive(tmp_path, ""), ("close",))
    delivered.deliver("t1", archive(tmp_path, "wire.py"), ())
    root = Path(worker.local_directory) / "modelops-t1"
    assert (root / "put" / "wire.py").is_file()
    assert worker.modelops_bundles_t1._here({**LOCATION, "runner": "put/run.py"})["runner"] == f"{root}/put/run.py"
    assert worker.modelops_bundles_t1._here(LOCATION)["directory"] == f"{root}/bundles/seir"
    there = delivered.left("t1", worker)
    assert there == [str(root), "its handler modelops_bundles_t1", "its module modelops_remote_t1"]
    assert pickle.loads(pickle.dumps(kept)) == "", "a copy on another worker keeps nothing"
    assert delivered.left("t1", worker) == there
    del kept
    assert poll(lambda: not delivered.left("t1", worker), seconds=10)
    assert worker.handlers == {"ping": len}
    assert "modelops_bundles_t1" not in vars(worker)


def test_of_what_cannot_be_unpacked_nothing_stays(worker: Any) -> None:
    with pytest.raises(Exception, match="file"):
        delivered.deliver("t2", b"no archive", ("close",))
    assert poll(lambda: not delivered.left("t2", worker), seconds=10)


LOCATION: Any = {
    "name": "seir",
    "directories": {"w0": "/elsewhere"},
    "source": "put/source",
    "wheels": "put/wheels",
    "runner": "acme.cli:run.py",
}
