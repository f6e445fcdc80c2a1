"""What a copy of a bundle answers about its execution, and which modules are beside a runner's script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.freshness import judged, with_hint
from pytest_modelops.remote.worker import fresh

BUNDLE_S = {"answer.txt": "aa"}
LOCATION: Any = {"wire": {"module": "wire", "function": "wire"}, "runner": "/cell/runner/worker.py"}
ON_HOST = Path("/srv/deployed/worker.py")


def say(*answers: dict[str, Any], **more: Any) -> tuple[dict[str, str], str]:
    report: Any = {"answers": answers, "others": {}, "beside": {}, "certain": True, **more}
    came = judged(report, BUNDLE_S, LOCATION, ON_HOST)
    return dict(came.figures), " ".join(fault.head for fault in came.faults)


def at(*moments: int) -> list[dict[str, Any]]:
    return [{"moment": moment} for moment in moments]


def test_three_moments_are_three_executions() -> None:
    assert say(*at(1, 2, 3)) == ({"outcome": "passed"}, "")


@pytest.mark.parametrize(
    ("moments", "where"),
    [((1, 1, 2), "the same process"), ((1, 2, 1), "another process"), ((1, 1, 1), "another process")],
)
def test_a_moment_that_comes_again_was_stored(moments: tuple[int, ...], where: str) -> None:
    figures, said = say(*at(*moments))
    assert figures == {"outcome": "failed"}
    assert said.startswith(f"asked the same again, in {where}, it gave the answer of the first time")


def test_the_bundle_s_answer_for_a_copy_is_a_fault_only_where_that_is_certain() -> None:
    kept = {"checksums": BUNDLE_S}
    assert "under a digest of its own, it gave the answer of the bundle" in say(kept, kept, kept)[1]
    figures, said = say(kept, kept, kept, certain=False)
    assert (figures["outcome"], said) == ("not tried", "")
    other = {"checksums": {"answer.txt": "bb"}}
    assert say(other, other, other)[0]["outcome"] == "not tried"


def test_what_shadows_is_reported_with_its_place_on_the_host() -> None:
    file = "/cell/runner/config.py"
    assert "to its runner, 'config' is /srv/deployed/config.py" in say(*at(1, 2, 3), others={"config": file})[1]
    kept = {"checksums": BUNDLE_S}
    said = say(kept, kept, kept, certain=False, beside={"wire": "/cell/runner/wire.py"})[1]
    assert "its module 'wire' is shadowed: to its runner, 'wire' is /srv/deployed/wire.py" in said


@pytest.mark.parametrize(
    ("head", "hinted"),
    [
        ("AttributeError: module 'config' has no attribute 'RATE'", True),
        ("ImportError: cannot import name 'RATE' from 'config'", True),
        ("it died, /cell/runner/config.py", True),
        ("ModuleNotFoundError: No module named 'configuration'", False),
        ("it did not end", False),
    ],
)
def test_a_hint_goes_to_what_speaks_of_the_module(head: str, hinted: bool) -> None:
    [fault] = with_hint([Fault(head=head)], {"config": "/cell/runner/config.py"}, LOCATION, ON_HOST)
    assert ("another config, which Python finds first: /srv/deployed/config.py" in fault.head) is hinted, fault.head


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], True),
        (["-u", "-W", "ignore", "-Xdev"], True),
        (["-uX", "dev"], True),
        (["-P"], False),
        (["-I"], False),
        (["-uP"], False),
        (["-m"], False),
    ],
)
def test_a_script_s_directory_comes_first_unless_python_is_reported_otherwise(
    tmp_path: Path, options: list[str], found: bool
) -> None:
    for name in ("runner/config.py", "runner/same.py", "bundle/same.py", "bundle/config.py", "runner/pkg/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("" if "same" in name else name)
    script = str(tmp_path / "runner" / "worker.py")
    location: Any = {"directory": str(tmp_path)}
    reported = fresh.beside(["/venv/bin/python", *options, script], ["config", "same", "pkg", "gone"], location)
    expected = {"config": "config.py", "pkg": "pkg/__init__.py"}
    assert reported == ({n: str(tmp_path / "runner" / f) for n, f in expected.items()} if found else {})


def test_what_is_no_python_has_no_directory(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text("")
    location: Any = {"directory": str(tmp_path)}
    assert fresh.beside(["/usr/bin/env", str(tmp_path / "x.py")], ["config"], location) == {}
