"""Which workers are still on tasks that nobody waits for; with a connection that answers from a list."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.remote.client import tasks
from pytest_modelops.remote.worker.modelops_preload import dask_setup


class Answers:
    """A connection; `running` holds what workers say, one answer after the other."""

    def __init__(self, *running: dict[str, Any], wanted: Sequence[str] = (), processing: Any = None) -> None:
        self._running = list(running)
        self._answers = {"modelops_wanted": list(wanted), "processing": processing or {}}

    def ask_scheduler(self, operation: str, **_: Any) -> Any:
        return self._answers[operation]

    def workers(self, _: float) -> dict[str, Any]:
        return dict.fromkeys(self._running[0])

    def ask_each(self, workers: Any, _: Any, __: float) -> dict[str, Any]:
        now = self._running.pop(0)
        return {name: now[name] if isinstance(now[name], dict) else {"value": now[name]} for name in workers}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LAST_TASK_SECONDS", 0)


def stuck(connection: Answers, **more: Any) -> list[str]:
    fake: Any = connection
    return tasks.Tasks(fake).stuck(1, **more)


def test_every_worker_that_stays_on_a_task_is_stuck_whoever_submitted_it() -> None:
    first = {"a": ["outer"], "b": ["subtask"], "c": [], "d": ["ending"]}
    assert stuck(Answers(first, {**first, "d": []})) == ["a", "b"]


def test_tasks_that_another_client_wants_run_on() -> None:
    running = {"a": ["mine"], "b": ["late"]}
    assert stuck(Answers(running, running, wanted=["mine"]), spared=["Client-1"]) == ["b"]


def test_a_silent_worker_is_stuck_if_it_has_tasks() -> None:
    silent: Any = {"a": {"silent": "no answer"}, "b": {"silent": "no answer"}}
    assert stuck(Answers(silent, silent, processing={"a": ["x"]})) == ["a"]


class Restarting(Answers):
    """A connection to a scheduler that is killed, and whose client then gives up the future."""

    def __init__(self, future: SimpleNamespace) -> None:
        super().__init__()
        self._future = future

    def workers(self, _: float) -> dict[str, Any]:
        self._future.status = "error"
        raise ConnectionResetError("in <TCP (closed) ConnectionPool.identity>")

    def ask_scheduler(self, operation: str, **_: Any) -> Any:
        raise ConnectionResetError(operation)


def test_a_scheduler_that_is_gone_for_a_moment_is_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_LOOK_AROUND_SECONDS", 0)
    error = RuntimeError("lost with the scheduler")
    future: Any = SimpleNamespace(key="one", status="pending", exception=lambda **_: error, traceback=lambda **_: None)
    connection: Any = Restarting(future)
    outcomes, _ = tasks.Tasks(connection).settle({"one": future}, pinned={}, seconds=5)
    assert "lost with the scheduler" in str(outcomes["one"])
    future.status = "pending"
    monkeypatch.setattr(tasks, "_LOOK_AROUND_SECONDS", 60)
    assert tasks.Tasks(connection).settle({"one": future}, pinned={}, seconds=0.1)[1] is None


@pytest.mark.parametrize("there", [True, False])
def test_a_result_is_not_awaited_if_the_worker_that_had_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    asked: list[float] = []

    def result(timeout: float) -> int:
        asked.append(timeout)
        if there and len(asked) == 2:
            return 42
        raise TimeoutError

    monkeypatch.setattr(tasks, "_LOOK_AROUND_SECONDS", 0.01)
    future: Any = SimpleNamespace(key="one", status="finished", result=result)
    connection: Any = Answers({"tcp://1": []} if there else {"tcp://2": []})
    outcomes, _ = tasks.Tasks(connection).settle({"one": future}, pinned={"one": "tcp://1"}, seconds=600)
    assert ("value" if there else "gone") in outcomes["one"]
    assert asked == [0.01] * (2 if there else 1)


def set_up(server: SimpleNamespace) -> None:
    """Load the preload, without what it serves besides its own answers."""
    others = SimpleNamespace(
        Bundles=lambda _: None,
        serve=lambda *_, **__: None,
        serve_bundles=lambda *_: None,
        IN_WORKER=(),
        IN_SCHEDULER=(),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pytest_modelops.remote.worker.modelops_preload._beside", lambda _: others)
        dask_setup(server)


def test_a_worker_reports_tasks_that_have_seceded() -> None:
    task = SimpleNamespace(key="outer")
    state = SimpleNamespace(executing=set(), long_running=[task])
    worker = SimpleNamespace(handlers={}, nanny=None, name="w", state=state, preloads=[])
    set_up(worker)
    assert worker.handlers["modelops_running"]() == ["outer"]


def test_the_scheduler_reports_what_a_client_wants_and_what_that_needs() -> None:
    needed = SimpleNamespace(key="needed", dependencies=[])
    wanted = SimpleNamespace(key=("wanted", 1), dependencies=[needed])
    scheduler = SimpleNamespace(handlers={}, preloads=[], clients={"Client-1": SimpleNamespace(wants_what=[wanted])})
    set_up(scheduler)
    assert set(scheduler.handlers["modelops_wanted"](clients=["Client-1", "gone"])) == {"needed", "('wanted', 1)"}
