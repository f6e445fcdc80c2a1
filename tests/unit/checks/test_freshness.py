"""What a copy of a bundle answers about its execution, and which modules are beside a runner's script."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import all_checks
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.checks.freshness import ask, judged, with_hint
from pytest_modelops.config.runner import RunnerSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.worker import fresh

OWN = {"executable": "/py", "version": "3.12.1", "prefix": "/venv", "platform": "cpython-312-x86_64-linux"}
BUNDLE_S = {"answer.txt": "aa"}
LOCATION: Any = {"wire": {"module": "wire", "function": "wire"}, "runner": "/cell/runner/worker.py"}
ON_HOST = Path("/srv/deployed/worker.py")


def say(*answers: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    python = more.pop("python", None)
    report: Any = {"answers": answers, "others": {}, "beside": {}, "certain": True, "runs": [], "own": OWN, **more}
    came = judged(report, BUNDLE_S, LOCATION, ON_HOST, python)
    return dict(came.figures), " ".join(fault.head for fault in came.faults)


def at(*moments: int) -> list[dict[str, Any]]:
    return [{"moment": moment} for moment in moments]


def test_three_moments_are_three_executions() -> None:
    assert say(*at(1, 2, 3)) == ({"outcome": "passed"}, "")


def test_a_runner_that_imports_what_is_installed_from_the_bundle_s_directory_is_reported_not_blamed() -> None:
    expected = {"outcome": "passed", "from_source": ["flat"]}
    assert say(*at(1, 2, 3), from_source=["flat"]) == (expected, "")


def test_the_python_that_executes_is_the_worker_s_whatever_the_runner_s_own_process_runs() -> None:
    other = {**OWN, "executable": "/made/bin/python", "version": "3.11.2", "platform": "cpython-311-x86_64-linux"}
    figures, said = say(*at(1, 2, 3), runs=[OWN, OWN, other])
    assert figures == {"outcome": "failed"}
    assert said.startswith(
        "the work was done by Python 3.11.2 (/made/bin/python, prefix /venv), the worker runs 3.12.1"
    )
    assert say(*at(1, 2, 3), runs=[other], python="3.11") == ({"outcome": "passed"}, "")
    assert say(*at(1, 2, 3), runs=[OWN]) == ({"outcome": "passed"}, "")


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


@pytest.mark.parametrize(("protocol", "asked"), [("json-rpc", False), ("one-shot", True)])
def test_only_a_runner_that_another_check_covers_is_not_asked(tmp_path: Path, protocol: str, asked: bool) -> None:
    """`venv-reuse` asks a runner that installs whether it answers from a store, and there is none for one-shot."""
    report = {
        "answers": at(1, 2, 3),
        "others": {},
        "beside": {},
        "certain": True,
        "from_source": [],
        "runs": [],
        "own": {},
    }
    cluster = SimpleNamespace(ask_workers=lambda operation, arguments, deadline: {"worker-0": report})
    cell: Any = SimpleNamespace(
        cluster=cluster, progress=lambda text: None, runner=SimpleNamespace(path=None, python=None)
    )
    location: Any = {**LOCATION, "installs": True, "protocol": protocol}
    bundle = Bundle(name="b", path=tmp_path, entrypoint="wire/run")
    came = ask(bundle, location, "worker-0", {}, cell, Deadline(30), took=1.0)
    assert (came.untried == "") is asked
    runner = RunnerSettings(installs=True, protocol=protocol)
    checks = [check.name for check in all_checks([bundle], reuse=runner.reuses)]
    assert ("venv-reuse" in checks) is not asked, "what is reported as covered by a check has that check"
