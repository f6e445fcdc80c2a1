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
    budget.ended("first", 20)
    budget.ended("another", 30)
    clock[0] += 30
    assert budget.admits("second")
    clock[0] += 10
    assert not budget.admits("third")
    budget.ended("third", 0)
    clock[0] -= 20
    assert budget.admits("fourth"), "one that was not begun says nothing of time"
    clock[0] += 20
    assert not budget.admits("fifth")


def test_a_cell_that_has_to_wait_for_others_is_begun_if_it_ends_in_time_after_them(clock: list[float]) -> None:
    budget = Budget(60, started=1000.0, measured={"long": 40, "short": 10, "next": 45, "late": 30, "other": 5})
    assert budget.may_begin("long", 2)
    assert budget.may_begin("short", 2)
    assert budget.may_begin("next", 2), "from 10 to 55"
    assert budget.may_begin("late", 2) is False, "from 40 to 70"
    assert not budget.admits("late"), "decided once"
    clock[0] += 10
    budget.ended("short", 10)
    assert budget.may_begin("other", 2), "from 40 to 45"


def test_a_cell_of_unknown_time_waits_until_one_has_ended(clock: list[float]) -> None:
    budget = Budget(60, started=1000.0, measured={})
    assert budget.may_begin("first", 1)
    assert budget.may_begin("second", 1) is None
    clock[0] += 25
    budget.ended("first", 25)
    assert budget.may_begin("second", 1)
    assert budget.may_begin("third", 1) is False, "from 50 to 75"


def test_the_test_of_a_cell_does_not_wait_for_the_time_of_another(clock: list[float]) -> None:
    budget = Budget(60, started=1000.0, measured={})
    assert budget.may_begin("first", 1)
    assert budget.may_begin("second", 1) is None
    assert budget.admits("second")
    assert budget.may_begin("second", 1)
