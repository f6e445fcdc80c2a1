"""Which modules a bundle's directory has, as it was copied to the client."""

from __future__ import annotations

from pathlib import Path

from pytest_modelops.remote.runner.inspection import missing_in
from tests.integration.conftest import write_wheel

WHEEL = "model-1.0-py3-none-any.whl"
FILES = {"wire": "wire.py", "pkg": "src/pkg/__init__.py", "one": WHEEL, "one.two": WHEEL, "pure": WHEEL, "fast": WHEEL}


def write(directory: Path, *without: str) -> Path:
    inside = {
        "one/__init__.py": "",
        "one/two.py": "",
        "model-1.0.data/purelib/pure.py": "",
        "fast.cpython-312-x86_64-linux-gnu.so": "",
    }
    write_wheel(directory / WHEEL, {name: text for name, text in inside.items() if name not in without})
    for name in ("wire.py", "src/pkg/__init__.py"):
        if name not in without:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text("")
    return directory


def test_all_that_is_there_is_found(tmp_path: Path) -> None:
    assert missing_in(str(write(tmp_path)), FILES) == []


def test_what_is_lost_on_the_way_is_named_also_of_a_wheel(tmp_path: Path) -> None:
    lost = ("src/pkg/__init__.py", "one/two.py", "model-1.0.data/purelib/pure.py")
    assert missing_in(str(write(tmp_path, *lost)), FILES) == ["pkg", "one.two", "pure"]


def test_a_wheel_that_is_lost_takes_its_modules_along(tmp_path: Path) -> None:
    (write(tmp_path) / WHEEL).unlink()
    assert missing_in(str(tmp_path), FILES) == ["one", "one.two", "pure", "fast"]
