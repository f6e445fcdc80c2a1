"""Which checks run ahead of their tests, where, and in which order. The cells are made up; every wait has a limit."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pytest_modelops.session.ahead import Ahead
from pytest_modelops.session.budget import Budget

SECONDS = 20.0


class Cell:
    """A cell whose checks note that they ran, and wait where they are told to.

    Checks whose names begin with `make` use no cluster; those that begin with `user` are for the main thread.
    """

    def __init__(self, log: Log, cell_id: str) -> None:
        self.id = cell_id
        self._log = log
        self.gates: dict[str, threading.Event] = {}
        self.given_up = False
        self.closed = 0
        self.seconds = 0.0

    def check_ahead(self, label: str) -> None:
        self._log.note(f"{self.id} {label}")
        if label in self.gates:
            assert self.gates[label].wait(SECONDS)
            if label == "bug":
                raise ZeroDivisionError(label)
        self._log.note(f"{self.id} {label} done")

    def is_for_main(self, label: str) -> bool:
        return label.startswith("user")

    def uses_cluster(self, label: str) -> bool:
        return not label.startswith("make")

    def give_up(self) -> None:
        self.given_up = True
        for gate in self.gates.values():
            gate.set()

    def close(self) -> None:
        self.closed += 1
        self.seconds = 20.0
        self._log.note(f"{self.id} closed")

    def hold(self, *labels: str) -> Cell:
        self.gates.update({label: threading.Event() for label in labels})
        return self


class Log:
    """What cells did, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def note(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def until(self, *lines: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: {*lines} <= {*self.lines}, SECONDS), (lines, self.lines)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def make() -> Iterator[Callable[..., Ahead]]:
    made: list[Ahead] = []

    def make(parallel: int, **more: Any) -> Ahead:
        made.append(Ahead(parallel, **more))
        return made[-1]

    yield make
    for ahead in made:
        ahead.close()
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("cell ")]:
        thread.join(SECONDS)
        assert not thread.is_alive()


def ask(ahead: Ahead, cell: Cell, label: str, log: Log) -> None:
    """Ask for a check as its test does."""
    with ahead.turn(cell, label):
        if f"{cell.id} {label} done" not in log.lines:
            log.note(f"{cell.id} {label} in main")


def test_so_many_clusters_run_at_once_and_environments_of_as_many_more_are_made(
    log: Log, make: Callable[..., Ahead]
) -> None:
    ahead = make(2)
    cells = [Cell(log, name).hold("run") for name in "abcdef"]
    for cell in cells:
        ahead.add(cell, ["make", "run"], held=False)
    log.until("a run", "b run", "c make done", "d make done")
    assert not {"c run", "e make"} & {*log.lines}
    cells[1].gates["run"].set()
    log.until("b closed", "c run", "e make done")
    assert "d run" not in log.lines
    for cell in cells:
        cell.give_up()
    for cell in cells:
        ask(ahead, cell, "run", log)
        ahead.end(cell)
    assert [line for line in log.lines if "main" in line] == []
    assert [cell.closed for cell in cells] == [1] * 6
    starts = [line[0] for line in log.lines if line.endswith(" run")]
    assert starts == [*"abcdef"]


def test_a_cluster_waits_for_memory_but_the_only_one_does_not(log: Log, make: Callable[..., Ahead]) -> None:
    room, asked = threading.Event(), threading.Event()

    def has_room() -> bool:
        asked.set()
        return room.is_set()

    ahead = make(2, has_room=has_room)
    first, second = Cell(log, "a").hold("run"), Cell(log, "b")
    ahead.add(first, ["run"], held=False)
    log.until("a run")
    ahead.add(second, ["run"], held=False)
    assert asked.wait(SECONDS)
    assert "b run" not in log.lines
    room.set()
    log.until("b closed")
    first.give_up()


def test_what_is_the_users_runs_in_the_main_thread_when_its_test_is_due(log: Log, make: Callable[..., Ahead]) -> None:
    ahead = make(1)
    cell = Cell(log, "a")
    ahead.add(cell, ["make", "user", "run", "user-2", "last"], held=False)
    ask(ahead, cell, "make", log)
    assert "a run" not in log.lines
    ask(ahead, cell, "user", log)
    ask(ahead, cell, "run", log)
    ask(ahead, cell, "last", log)  # a plugin left the test of `user-2` out
    ahead.end(cell)
    assert [line for line in log.lines if not line.endswith("done")] == [
        *("a make", "a user in main", "a run", "a last in main", "a closed")
    ]


def test_a_cell_with_tests_is_closed_by_the_main_thread_and_keeps_its_place(
    log: Log, make: Callable[..., Ahead]
) -> None:
    ahead = make(1)
    first, second = Cell(log, "a"), Cell(log, "b")
    ahead.add(first, ["run"], held=True)
    ahead.add(second, ["make", "run"], held=True)
    ask(ahead, first, "run", log)
    log.until("b make done")
    assert "b run" not in log.lines
    with ahead.turn(first, "of a marker"):
        assert first.closed == 0
    ahead.end(first)
    assert first.closed == 1
    log.until("b run done")
    ahead.close()
    assert (second.closed, second.given_up) == (1, False)


def test_nothing_runs_beside_a_test_of_the_users(log: Log, make: Callable[..., Ahead]) -> None:
    ahead = make(2)
    cell = Cell(log, "a").hold("run")
    ahead.add(cell, ["run", "next"], held=False)
    log.until("a run")
    paused = threading.Thread(target=ahead.pause)
    paused.start()
    paused.join(0.05)
    assert paused.is_alive()
    cell.gates["run"].set()
    paused.join(SECONDS)
    assert not paused.is_alive()
    late = Cell(log, "b")
    ahead.add(late, ["run"], held=False)
    assert log.lines == ["a run", "a run done"]
    ahead.resume()
    log.until("a closed", "b closed")


def test_a_cell_beyond_the_time_limit_is_not_begun_and_keeps_no_other_one_up(
    log: Log, make: Callable[..., Ahead]
) -> None:
    budget = Budget(60.0, time.time(), measured={"a": 20.0, "late": 70.0, "held": 70.0, "b": 20.0})
    ahead = make(1, budget=budget)
    first, late, held, second = cells = [Cell(log, name) for name in ("a", "late", "held", "b")]
    first.hold("run")
    for cell in cells:
        ahead.add(cell, ["make", "run"], held=cell is held)
    log.until("a run", "b make done")
    assert "b run" not in log.lines
    assert [budget.admits(cell.id) for cell in cells] == [True, False, False, True]
    first.gates["run"].set()
    log.until("b closed")
    for cell in cells:
        ahead.end(cell)
    assert {line[:1] for line in log.lines} == {"a", "b"}
    assert (late.closed, held.closed, second.closed) == (0, 0, 1)


def test_a_cell_of_unknown_time_is_begun_when_one_has_ended_and_it_fits(log: Log, make: Callable[..., Ahead]) -> None:
    budget = Budget(30.0, time.time(), measured={})
    ahead = make(1, budget=budget)
    first, second, third = cells = [Cell(log, name) for name in "abc"]
    first.hold("run")
    second.hold("run")
    for cell in cells:
        ahead.add(cell, ["make", "run"], held=False)
    log.until("a run")
    assert "b make" not in log.lines
    first.gates["run"].set()
    log.until("b run")
    ahead.end(first)
    ahead.end(third)  # nothing has to end first: it was not begun
    second.gates["run"].set()
    ahead.end(second)
    assert [cell.closed for cell in cells] == [1, 1, 0]


def test_a_run_that_is_ended_early_gives_up_what_runs_and_closes_all(log: Log, make: Callable[..., Ahead]) -> None:
    interrupted = []
    ahead = make(2, interrupt=lambda: interrupted.append(1))
    cells = [Cell(log, "a").hold("run"), Cell(log, "b"), Cell(log, "c").hold("make"), Cell(log, "d"), Cell(log, "e")]
    ahead.add(cells[0], ["run", "next"], held=False)
    ahead.add(cells[1], ["run"], held=True)
    ahead.add(cells[2], ["make", "run"], held=False)
    ahead.add(cells[3], ["make", "run"], held=False)
    ahead.add(cells[4], ["make", "run"], held=False)
    log.until("a run", "b run done", "c make", "d make done")
    ahead.close()
    assert [cell.closed for cell in cells] == [1, 1, 1, 1, 0]
    assert (cells[0].given_up, cells[2].given_up, interrupted) == (True, True, [1])
    assert not {"a next", "c run", "d run", "e make"} & {*log.lines}
    ahead.close()
    assert interrupted == [1]


def test_a_bug_of_ours_is_raised_where_its_result_is_asked_for(log: Log, make: Callable[..., Ahead]) -> None:
    ahead = make(1)
    cell, after = Cell(log, "a").hold("bug"), Cell(log, "b")
    cell.gates["bug"].set()
    ahead.add(cell, ["bug", "run"], held=True)
    ahead.add(after, ["run"], held=False)
    with pytest.raises(ZeroDivisionError), ahead.turn(cell, "bug"):
        pass
    with ahead.turn(cell, "run"):
        log.note("a run in main")
    ahead.end(cell)
    log.until("b closed")


def test_a_cell_that_does_not_run_ahead_is_left_to_the_main_thread(log: Log, make: Callable[..., Ahead]) -> None:
    ahead, cell = make(1), Cell(log, "a")
    ask(ahead, cell, "run", log)
    ahead.end(cell)
    assert log.lines == ["a run in main", "a closed"]


def test_ctrl_c_that_reaches_another_thread_ends_the_wait(
    make: Callable[..., Ahead], monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    """Python's main thread handles it, and is not woken for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    cell = Cell(log, "a").hold("run")

    def interrupted(label: str) -> None:
        time.sleep(0.2)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        assert cell.gates[label].wait(SECONDS)

    monkeypatch.setattr(cell, "check_ahead", interrupted)
    ahead = make(1)
    try:
        ahead.add(cell, ["run"], held=False)
        with pytest.raises(KeyboardInterrupt), ahead.turn(cell, "run"):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    ahead.close()
    assert (cell.given_up, cell.closed) == (True, 1)
