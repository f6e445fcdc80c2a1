from __future__ import annotations

import pytest

from pytest_modelops.session.budget import Budget


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("pytest_modelops.session.budget.time.time", lambda: now[0])
    return now


def test_a_cell_is_begun_if_it_is_expected_to_end_in_time(clock: list[float]) -> None:
    budget = Budget(60, started=1000.0, measured={"short": 20.0, "long": 70.0, "late": 20.0})
    assert budget.admits("short")
    assert not budget.admits("long")
    clock[0] += 50
    assert budget.admits("short"), "it was begun"
    assert not budget.admits("late")
    assert budget.reason == "it would not end within the budget of 1 min 0 s"


def test_without_a_measured_time_a_cell_takes_as_long_as_those_before_it(clock: list[float]) -> None:
    budget = Budget(60, started=1000.0, measured={})
    assert budget.admits("first")
    budget.took("first", 20)
    budget.took("another", 30)
    clock[0] += 30
    assert budget.admits("second")
    clock[0] += 10
    assert not budget.admits("third")
    budget.took("third", 0)
    clock[0] -= 20
    assert budget.admits("fourth"), "one that was not begun says nothing of time"
    clock[0] += 20
    assert not budget.admits("fifth")
