"""What graphs with a bundle's own functions say about the scheduler."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import read
from pytest_modelops.checks.by_reference import ask, functions_of
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, TimedOut
from tests.unit.bundles.files import WIRE, write_files

LACKS = {"error": "RuntimeError: Error during deserialization", "traceback": "x\nNo module named 'model'\n"}
LACKS_WITHOUT_CAUSE = {"error": "RuntimeError: Error during deserialization of the task graph. This\noccurs"}
RAISES = {"error": "ValueError: x", "traceback": "Traceback\nValueError: x"}
PENDING = {"pending": "not assigned to any worker"}


def asked(tmp_path: Path, outcome: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return the figures of a graph that ended so."""
    path = write_files(tmp_path / "bundle", {"model.py": "", "wire.py": WIRE})
    bundle = Bundle(name="b", path=path, **{"install": "workers", "entrypoint": "model:run", **settings})
    agent = SimpleNamespace(call=lambda method, **arguments: outcome)
    cell: Any = SimpleNamespace(
        cluster=SimpleNamespace(agent=agent), progress=lambda text: None, cell=SimpleNamespace(id="py3.12")
    )
    return dict(ask(bundle, read(path), cell, Deadline(30)))


def test_jobs_that_are_not_known_get_a_note(tmp_path: Path) -> None:
    for lacks in (LACKS, LACKS_WITHOUT_CAUSE):
        note = asked(tmp_path, lacks)["note"]
        for fact in ("has no module 'model'", "model:run", "2023.4", "PipInstall", "by_value", "submits", "everywhere"):
            assert fact in note
    found = asked(tmp_path, LACKS)["by_reference"]
    assert found == {"outcome": "failed", "why": "No module named 'model'"}


@pytest.mark.parametrize("settings", [{"submits": ("model:run",)}, {"install": "everywhere"}])
def test_jobs_that_submit_such_functions_fail(tmp_path: Path, settings: dict[str, Any]) -> None:
    for outcome, fact in ((LACKS, "has no module 'model'"), (RAISES, "ValueError: x"), (PENDING, "not assigned")):
        with pytest.raises(TimedOut if outcome is PENDING else CheckFailed, match=fact):
            asked(tmp_path, outcome, **settings)
    assert asked(tmp_path, {"value": True}, **settings)["by_reference"]["functions"] == ["model:run"]


def test_other_ends_are_reported_without_a_note(tmp_path: Path) -> None:
    assert asked(tmp_path, {"value": True}) == {"by_reference": {"outcome": "passed"}}
    assert asked(tmp_path, RAISES) == {"by_reference": {"outcome": "failed", "why": "ValueError: x"}}
    assert asked(tmp_path, PENDING)["by_reference"]["outcome"] == "not tried"


@pytest.mark.parametrize(
    ("files", "settings", "expected"),
    [
        ({"model.py": "", "wire.py": WIRE}, {"entrypoint": "model:run"}, [("model", "run")]),
        ({"model/deep.py": "", "wire.py": WIRE}, {"entrypoint": "model.deep/run"}, [("model.deep", "run")]),
        ({"model/deep.py": "", "wire.py": WIRE}, {"entrypoint": "model.deep.Day/run"}, [("model.deep", "Day")]),
        ({"wire.py": WIRE}, {"entrypoint": "elsewhere/run"}, [("wire", "wire")]),
        ({"model.py": ""}, {"imports": ("model",)}, [("model", "")]),
        ({"model.py": ""}, {"submits": ("model:a", "model:b")}, [("model", "a"), ("model", "b")]),
        ({"model.py": ""}, {}, []),
    ],
)
def test_the_function_is_the_entry_point_s_or_the_wire_function(
    tmp_path: Path, files: dict[str, str], settings: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    path = write_files(tmp_path / "bundle", files)
    assert functions_of(Bundle(name="b", path=path, **settings), read(path)) == expected
