"""How a process of a cell prints its stacks when it is sent a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_modelops.cluster.stacks import busy_threads
from pytest_modelops.remote.worker import modelops_preload
from tests.processes import poll

TIMES = 400
AFTER_SECONDS = 0.002
SIGNALS = "print(module['facts']()['stacks_signal'], module['facts']()['forced_stacks_signal'], flush=True)"
BUSY = f"""
import asyncio, runpy, threading, time
module = runpy.run_path({modelops_preload.__file__!r})
{SIGNALS}

def naps():
    while True:
        time.sleep(0.001)

async def steps():
    await asyncio.sleep(0)

async def works():
    while True:
        await asyncio.gather(*[steps() for _ in range(20)])

for _ in range(4):
    threading.Thread(target=naps, daemon=True).start()
asyncio.run(works())
"""
HOLDS_THE_GIL = f"""
import collections, itertools, runpy
module = runpy.run_path({modelops_preload.__file__!r})
{SIGNALS}

def holds():
    collections.deque(itertools.repeat(0), maxlen=0)

holds()
"""
IN_A_THREAD = f"""
import runpy, threading

def load():
    module = runpy.run_path({modelops_preload.__file__!r})
    {SIGNALS}

thread = threading.Thread(target=load)
thread.start()
thread.join()
"""


class Started:
    """A Python with the preload.

    Attributes:
        signals: their numbers, the forced one last.
    """

    def __init__(self, text: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=stderr)
        assert self.process.stdout
        self.signals = [int(number) for number in self.process.stdout.readline().split()]

    @property
    def printed(self) -> str:
        return self._log.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Started]]:
    started: list[Started] = []

    def start(text: str) -> Started:
        started.append(Started(text, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_a_busy_process_prints_its_stacks_as_often_as_it_is_asked_and_lives(start: Callable[[str], Started]) -> None:
    busy = start(BUSY)
    for _ in range(TIMES):
        busy.process.send_signal(busy.signals[0])
        time.sleep(AFTER_SECONDS)
        assert busy.process.poll() is None
    assert poll(lambda: "in works" in busy.printed, seconds=10)
    assert "in naps" in busy.printed
    assert busy.process.poll() is None


def test_a_process_that_holds_the_gil_prints_its_stacks_only_when_forced(start: Callable[[str], Started]) -> None:
    holding = start(HOLDS_THE_GIL)
    unforced, forced = holding.signals
    time.sleep(0.5)  # so that it holds it
    holding.process.send_signal(unforced)
    assert not poll(lambda: holding.printed, seconds=0.5)
    holding.process.send_signal(forced)
    assert poll(lambda: "in <module>" in holding.printed, seconds=10)
    [thread] = busy_threads(holding.printed)
    assert "in holds" in thread[1]


def test_where_python_can_have_no_handler_the_unforced_signal_is_not_offered(start: Callable[[str], Started]) -> None:
    unforced, forced = start(IN_A_THREAD).signals
    assert (unforced, forced > 0) == (0, True)


def test_another_handler_is_not_taken_for_ours() -> None:
    assert threading.current_thread() is threading.main_thread()
    number = modelops_preload.facts()["stacks_signal"]
    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert modelops_preload.facts()["stacks_signal"] == 0
    finally:
        signal.signal(number, before)
