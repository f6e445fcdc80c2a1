"""What is being done now, as it is shown in a log."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_modelops.session import progress
from pytest_modelops.session.progress import Progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe from which what is shown can be read."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    monkeypatch.setattr(Progress, "_open_out", lambda self: None if self._worker else writes)
    monkeypatch.setattr(progress, "_LOG_AFTER_SECONDS", 0.0)
    yield reads
    os.close(reads)


def started(directory: Path, **config: Any) -> Progress:
    reported: Any = SimpleNamespace(
        getoption=lambda *_: 0, pluginmanager=SimpleNamespace(get_plugin=lambda _: None), **config
    )
    return Progress(reported, directory)


@pytest.mark.usefixtures("shown")
def test_nothing_is_shown_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, closes = threading.Event(), threading.Event()

    def of_workers(_: Progress) -> list[tuple[str, float]]:
        looks.set()
        closes.wait(20)
        return [("cell: still going on", 0.0)]

    wrote: list[str] = []
    monkeypatch.setattr(Progress, "_of_workers", of_workers)
    monkeypatch.setattr(Progress, "_write", lambda _, text: wrote.append(text))
    shows = started(tmp_path)
    assert looks.wait(20)
    threading.Timer(0.5, closes.set).start()
    shows.close()
    before = [*wrote]
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
    time.sleep(0.5)
    assert wrote == before


def test_what_a_worker_did_is_not_reported_when_it_is_gone(tmp_path: Path, shown: int) -> None:
    shows = started(tmp_path)
    workers = [started(tmp_path, workerinput={"workerid": f"gw{number}"}) for number in range(2)]
    for number, worker in enumerate(workers):
        worker.say(f"cell-{number}", "resolving")
    assert [text for text, _ in shows._of_workers()] == ["cell-0: resolving", "cell-1: resolving"]
    shows.forget("gw0")
    shows.forget("gw7")
    assert [text for text, _ in shows._of_workers()] == ["cell-1: resolving"]
    poll = time.monotonic() + 20
    while time.monotonic() < poll:
        with contextlib.suppress(BlockingIOError):
            assert b"cell-1: resolving" in os.read(shown, 1 << 16)
            break
    shows.close()
