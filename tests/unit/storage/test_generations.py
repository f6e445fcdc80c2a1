"""Directories that are made once and shared: when one is used again, replaced and removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.deadline import Deadline
from pytest_modelops.storage import files
from pytest_modelops.storage import generations as module
from pytest_modelops.storage.generations import Generations

Start = Callable[..., Generations]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes, as far as generations notice."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(contextlib.closing(Generations(tmp_path, **options)))


def obtain(generations: Generations, name: str = "one", fault: str = "") -> tuple[Path, bool]:
    def make(directory: Path) -> str:
        directory.mkdir()
        return "facts"

    return generations.obtain(name, what="making", fault=lambda *_: fault, make=make, deadline=Deadline(5))[:2]


def test_one_is_made_once_and_replaced_when_it_has_a_fault(start: Start) -> None:
    generations = start()
    first, reused = obtain(generations)
    assert not reused
    assert obtain(generations) == (first, True)
    generations.close()
    second, reused = obtain(generations, fault="it was changed")
    assert (second.name, reused, first.exists()) == ("2", False, False)


def test_fresh_makes_one_a_session_and_spares_the_one_in_use(start: Start) -> None:
    running = start(session="running")
    old, _ = obtain(running)
    new, _ = obtain(start(fresh=True, session="fresh"))
    assert (new != old, old.exists()) == (True, True)
    assert obtain(start(fresh=True, session="fresh")) == (new, True)
    running.close()
    assert obtain(start(session="later")) == (new, True)
    assert not old.exists()


def test_what_was_not_used_for_long_is_removed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    unused, _ = obtain(first, "unused")
    first.close()
    user = start()
    used, _ = obtain(user, "used")
    monkeypatch.setattr(module, "UNUSED_SECONDS", -1.0)
    obtain(start(), "another")
    assert (unused.exists(), used.exists()) == (False, True)


def test_what_fails_halfway_leaves_nothing(start: Start, tmp_path: Path) -> None:
    def make(directory: Path) -> None:
        directory.mkdir()
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        start().obtain("one", what="making", fault=lambda *_: "", make=make, deadline=Deadline(5))
    assert list((tmp_path / "one").iterdir()) == []


def test_what_another_process_removes_at_the_same_time_is_gone(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()  # as a process leaves it whose `make` has failed
    real = files.locked

    @contextlib.contextmanager
    def locked(file: Path, *arguments: Any) -> Iterator[None]:
        if file.name == "other.lock":
            (tmp_path / "other").rmdir()
        with real(file, *arguments):
            yield

    monkeypatch.setattr(module, "locked", locked)
    _, reused = obtain(start())
    assert not reused
    assert not (tmp_path / "other").exists()
