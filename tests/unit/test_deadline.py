"""One wait for all polling."""

from __future__ import annotations

import time

from pytest_modelops.deadline import Deadline


def test_until_returns_what_the_condition_returned() -> None:
    answers = iter(["", "", "there"])
    assert Deadline(20).until(lambda: next(answers), every=0.001) == "there"


def test_until_looks_once_more_when_the_deadline_has_passed() -> None:
    deadline, looks = Deadline(0.05), []

    def look() -> bool:
        looks.append(deadline.passed)
        return False

    began = time.monotonic()
    assert deadline.until(look, every=10) is False
    assert looks == [False, True]
    assert time.monotonic() - began < 5
    assert Deadline(0).until(lambda: 1, every=10) == 1
