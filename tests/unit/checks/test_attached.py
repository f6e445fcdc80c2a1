"""What checks conclude about a deployment from what it reported; no process runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops import checks
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import attached, preflight
from pytest_modelops.checks.base import Check, role_differences
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, NothingToDo, TimedOut
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.report.model import CheckResult, Status
from tests.names import CELL_CHECKS
from tests.unit.checks.test_checks import HERE, lock

PACKAGES = dict.fromkeys(("dask", "cloudpickle", "msgpack", "tornado"), "1")


def facts(python: str = "3.12.1", dask: str = "2024.10.0", **packages: str) -> dict[str, Any]:
    return {"python": python, "packages": {**PACKAGES, "distributed": dask, **packages}}


def observed(*workers: dict[str, Any], scheduler: dict[str, Any] | None = None, client: str = "3.12.1") -> Any:
    return {
        "client": {**facts(client), "executable": "/python"},
        "scheduler": scheduler or facts(),
        "workers": {f"tcp://{n}": {**one, "settings": {"name": f"w{n}"}} for n, one in enumerate(workers)},
    }


def run_versions(found: Any, *, client: str = "3.12.1", **asked: Any) -> Any:
    own = dataclasses.replace(lock(client), packages={})
    cell: Any = SimpleNamespace(
        attached=True,
        cell=Cell.uniform(HERE),
        cluster=SimpleNamespace(facts=lambda _: found, settings=SimpleNamespace(worker_variables={})),
        environments={HERE: SimpleNamespace(lock=own, faults=())},
        observed={},
    )
    return attached.versions(cell, Deadline(9), asked=attached.Asked(**asked))


def test_a_deployment_that_runs_the_same_everywhere() -> None:
    assert run_versions(observed(facts(), facts())) is None
    newer = facts(dask="2026.8.0")
    assert run_versions(observed(newer, newer, scheduler=newer)) is None, "another Dask is for later checks to judge"


@pytest.mark.parametrize(
    ("found", "error", "said"),
    [
        (
            observed(facts(), facts("3.13.0", msgpack="2"), facts()),
            CheckFailed,
            (
                r"but 1 of 3 workers of the deployment run 3.13.0.*none was sent.*\n"
                r"w1 \(tcp://1\): not what most.*: Python 3.13.0 \(most: 3.12.1\), msgpack 2 \(most: 1\)$"
            ),
        ),
        (observed(facts("3.13.0"), scheduler=facts("3.13.0")), CheckFailed, "the scheduler and 1 of 1 workers"),
        (observed(facts(), facts(), scheduler=facts(dask="3")), CheckFailed, r"^the scheduler: .*distributed 3 \(work"),
        (observed(facts(), {"silent": "no answer"}), TimedOut, r"did not answer within 10 s: w1 \(tcp://1\)$"),
        (observed(facts(), {"error": "OSError: gone"}), CheckFailed, r"w1 \(tcp://1\) answered with an error: OSError"),
        (observed({"silent": "no answer"}), TimedOut, "w0"),
    ],
)
def test_what_differs_is_named(found: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        run_versions(found)


def test_with_force_functions_may_crash_and_it_says_so() -> None:
    with pytest.raises(CheckFailed, match="so they may crash there"):
        run_versions(observed(facts("3.13.0")), force=True)


def test_other_packages_that_differ_are_a_note() -> None:
    found = run_versions(observed(facts(numpy="1"), facts(numpy="2"), facts(numpy="2")))
    assert found == {"note": "the deployment's workers differ in numpy (2 on 2, 1 on 1)"}


def test_the_deployment_is_what_is_broken_if_its_own_client_is() -> None:
    broken = [CheckResult(name="lambda", status=Status.FAILED, message="")]
    assert attached.control_note(observed(facts(), facts()), broken).startswith("lambda breaks for a client with")
    assert attached.control_note(observed(facts(), facts(), facts("3.13.0")), broken), "most of it is the same"
    others: list[Any] = [observed(facts(dask="3"), scheduler=facts(dask="3")), observed(facts(), client="3.13.0"), {}]
    for other in others:
        assert attached.control_note(other, broken) == ""
    assert attached.control_note(observed(facts()), [CheckResult(name="lambda", status=Status.PASSED)]) == ""
    of_the_users = [
        CheckResult(name="test_a.py::test_b", status=Status.FAILED),
        CheckResult(name="own", status=Status.FAILED),
    ]
    assert attached.control_note(observed(facts(), facts()), of_the_users) == ""


def test_differences_are_those_of_the_deployment() -> None:
    cell: Any = SimpleNamespace(attached=True, observed=observed(facts("3.13.0"), facts("3.13.1")))
    assert "Python: client 3.12.1, scheduler 3.12.1, worker 3.13.0, 3.13.1" in role_differences(cell)
    cell.observed = {}
    assert role_differences(cell) == ""


@pytest.mark.parametrize(
    ("allow", "skipped"),
    [
        ((), {"bundle-install[seir]", "handshake[seir]", "venv-reuse[seir]", "bundle-install[grid]"}),
        (("install", "scale"), {"venv-reuse[seir]", "bundle-install[grid]"}),
    ],
)
def test_what_would_write_is_skipped_unless_it_is_allowed(allow: tuple[str, ...], skipped: set[str]) -> None:
    bundles = [Bundle(name="seir", path=Path("seir")), Bundle(name="grid", path=Path("grid"), install="workers")]
    plugin = PluginSettings(path="a:B", probe="c")
    custom = Check(name="custom", needs=("lambda",), run=lambda *_: None)
    own = Check(name="own", run=lambda *_: None)
    there = attached.of_deployment(
        checks.all_checks(bundles, plugin, reuse=True, faults=[Fault(name="memory")]),
        attached.Asked(allow=allow, plugin=plugin),
    )
    found = {check.label: check for check in checks.in_order(attached.behind_versions([*there, custom, own]))}
    skipped = {*skipped, "aggregation[memory]"}
    nothing: Any = None
    for label in skipped:
        with pytest.raises(
            NothingToDo, match=r"nothing is installed|running processes|tries what goes wrong|make memory happen"
        ):
            found[label].run(nothing, nothing)
    behind = {label for label, check in found.items() if "versions" in check.needs}
    others = {"bundle-install[seir]", "handshake[seir]"} if allow else set()
    assert behind == {*CELL_CHECKS, "custom", "runtime", *others} - {"resolve", "install", "start", "versions"}
    labels = list(found)
    assert labels.index("runtime") < labels.index("lambda"), (
        "workers of another runtime are named before a task is sent"
    )
    assert found["preflight[seir]"].needs == ("start",)


def test_a_bundle_is_compared_with_each_python_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compare(_: Bundle, __: object, python: Version, ___: object) -> dict[str, object]:
        asked.append(python)
        if python == Version("3.13.0"):
            raise CheckFailed("bundle 'seir' needs an older Python")
        return {"format": "packaged"}

    monkeypatch.setattr(preflight, "compare", compare)
    found = observed(facts(), facts(), facts("3.13.0"), {"silent": "no answer"})
    cell: Any = SimpleNamespace(observed=found, runner=SimpleNamespace(path=None))
    bundle = Bundle(name="seir", path=Path("seir"))
    with pytest.raises(CheckFailed, match=r"older Python\nPython 3.13.0 runs on w2 \(tcp://2\)\.$"):
        attached.fits_workers(bundle, cell, Deadline(9))
    assert asked == [Version("3.12.1"), Version("3.13.0")]
    cell.observed = observed({"silent": "no answer"})
    with pytest.raises(NothingToDo, match="w0"):
        attached.fits_workers(bundle, cell, Deadline(9))
