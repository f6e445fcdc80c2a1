"""A function of each kind of construct, and the trial that names the kinds which break; no cluster runs."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
from packaging.version import Version

from pytest_modelops.checks import constructs, lambdas
from pytest_modelops.checks.constructs import kinds, together
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.client.tasks import Tasks, define
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.worker import trial

KINDS = {"loop", "comprehension", "closure", "`try`", "`with`", "generator", "nested class", "dataclass", "annotations"}


def test_each_kind_returns_42_by_itself_and_together() -> None:
    of_kind = kinds(Version("3.10"))
    assert of_kind.keys() >= KINDS | {"`match`", "defaults and keywords"}
    for one in (*of_kind.values(), together(of_kind)):
        value = define({"source": one.source, "name": one.name})(41)
        assert value == (42 if one.name != constructs.NAME else dict.fromkeys(of_kind, 42)), one.name


def test_an_older_client_is_not_given_syntax_that_it_cannot_compile() -> None:
    of_kind = kinds(Version("3.9.18"))
    assert of_kind.keys() >= KINDS
    assert "`match`" not in of_kind
    assert "match {" not in together(of_kind).source


def test_annotations_are_evaluated_as_the_client_s_python_does() -> None:
    one = kinds(Version("3.12"))["annotations"]
    assert "__future__" not in one.source


def dies(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 42


def hangs(_: int) -> int:
    time.sleep(60)
    return 42


def raises(x: int) -> int:
    raise SystemError(f"unknown opcode {x}")


def exits(_: int) -> int:
    os._exit(3)


@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        (lambda x: x + 1, ""),
        (lambda x: x, "returns 41, not 42"),
        (dies, "dies of SIGKILL"),
        (raises, "raises SystemError: unknown opcode 41"),
        (exits, "exits with code 3"),
        (hangs, "takes over 1 s"),
    ],
)
def test_a_trial_says_how_a_call_breaks(
    function: Callable[[int], int], outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 1)
    assert trial.try_call(cloudpickle.dumps((function, (41,))), 42) == outcome


def test_calls_are_pickled_with_the_functions_by_value() -> None:
    one = kinds(Version("3.10"))["closure"]
    no_connection: Any = None
    pickled = Tasks(no_connection).pickled({"closure": {"source": one.source, "name": one.name}}, [plain.pack(41)])
    assert trial.try_call(base64.b64decode(pickled["closure"]), 42) == ""


def check_on(outcome: dict[str, Any], broken: dict[str, str], *, worker: str) -> None:
    """Run the check on a cell where the lambda works and the other function has this outcome."""
    roles = {Role.CLIENT: "3.12.1", Role.SCHEDULER: worker, Role.WORKER: worker}
    packages = {"cloudpickle": Version("3.0.0")}
    environments = {
        python: SimpleNamespace(lock=SimpleNamespace(python=Version(python), packages=packages))
        for python in roles.values()
    }

    def call(method: str, **asked: Any) -> Any:
        assert method == "call_each"
        return {"tcp://1": outcome if asked["module"]["name"] == constructs.NAME else {"value": plain.pack(42)}}

    cluster = SimpleNamespace(
        addresses={"tcp://1": "worker-0"},
        await_workers=lambda _: None,
        agent=SimpleNamespace(call=call),
        death_of_worker=lambda _: "its process was killed by signal 11",
        last_words=lambda _: " Its last output: …",
        try_calls=lambda *_: broken,
    )
    cell: Any = SimpleNamespace(attached=False, cluster=cluster, cell=roles, environments=environments)
    lambdas.run(cell, Deadline(5))


def test_the_kinds_that_break_are_named_first() -> None:
    with pytest.raises(CheckFailed) as failed:
        check_on(
            {"gone": "…"},
            {"loop": "dies of SIGSEGV", "`try`": "dies of SIGSEGV", "`match`": "raises SystemError"},
            worker="3.11.7",
        )
    first, *rest = str(failed.value).splitlines()
    assert "loop, `try`, `match`" in first
    assert "Python: client 3.12.1, scheduler 3.11.7, worker 3.11.7" in first
    assert "loop, `try`: dies of SIGSEGV" in rest
    assert "`match`: raises SystemError" in rest
    assert any("worker-0" in line and "signal 11" in line for line in rest)


def test_a_wrong_value_is_a_failure_also_where_no_kind_breaks_by_itself() -> None:
    of_kind = kinds(Version("3.12.1"))
    with pytest.raises(CheckFailed, match=r"returned .*'loop': 43"):
        check_on({"value": plain.pack({**dict.fromkeys(of_kind, 42), "loop": 43})}, {}, worker="3.12.1")


def test_all_kinds_pass() -> None:
    check_on({"value": plain.pack(dict.fromkeys(kinds(Version("3.12.1")), 42))}, {}, worker="3.12.1")
