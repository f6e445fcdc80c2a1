"""What a graph with a bundle's own function says about the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.bundles.formats import read
from pytest_modelops.checks.by_reference import figures, function_of
from tests.unit.bundles.files import WIRE, write_files


def say(**outcome: Any) -> dict[str, Any]:
    return dict(figures("b", "py3.12-dask2024.10.0", "model:run", outcome))  # type: ignore[arg-type]


def test_a_module_that_the_scheduler_lacks_is_named_with_what_to_do() -> None:
    found = say(error="RuntimeError: Error during deserialization", traceback="x\nNo module named 'model'\n")
    assert found["by_reference"] == {"outcome": "failed", "why": "No module named 'model'"}
    for fact in (
        "the scheduler has no module 'model'",
        "model:run",
        "2023.4",
        "PipInstall",
        "register_pickle_by_value",
    ):
        assert fact in found["note"]


def test_an_error_of_the_scheduler_without_its_cause_is_named_too() -> None:
    error = "RuntimeError: Error during deserialization of the task graph. This frequently\noccurs"
    found = say(error=error, traceback="")
    assert "the scheduler has no module 'model'" in found["note"]


def test_other_ends_are_reported_without_a_note() -> None:
    assert say(value=True) == {"by_reference": {"outcome": "passed"}}
    assert say(error="ValueError: x", traceback="") == {"by_reference": {"outcome": "failed", "why": "ValueError: x"}}
    assert say(pending="on worker-0")["by_reference"]["outcome"] == "not tried"


@pytest.mark.parametrize(
    ("files", "settings", "expected"),
    [
        ({"model.py": "", "wire.py": WIRE}, {"entrypoint": "model:run"}, ("model", "run")),
        ({"model/deep.py": "", "wire.py": WIRE}, {"entrypoint": "model.deep/run"}, ("model.deep", "run")),
        ({"wire.py": WIRE}, {"entrypoint": "elsewhere/run"}, ("wire", "wire")),
        ({"model.py": ""}, {"imports": ("model",)}, ("model", "")),
        ({"model.py": ""}, {}, None),
    ],
)
def test_the_function_is_the_entry_point_s_or_the_wire_function(
    tmp_path: Path, files: dict[str, str], settings: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    path = write_files(tmp_path / "bundle", files)
    assert function_of(Bundle(name="b", path=path, **settings), read(path)) == expected
