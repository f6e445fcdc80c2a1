"""How a worker died, as its log has it."""

from __future__ import annotations

import pytest

from pytest_modelops.cluster.parts import logged_death

LIMIT = "of 300 MiB (`--memory-limit` in `worker-args`)"
TIME = "2026-11-26 10:00:00,000 - "
EXCEEDED = (
    TIME + "distributed.nanny.memory - WARNING - Worker tcp://127.0.0.1:1 (pid=7) exceeded 95% memory budget. "
    "Restarting..."
)
ENDED = TIME + "distributed.nanny - INFO - Worker process 7 was killed by signal {}"
OTHER = TIME + "distributed.nanny - INFO - Worker process 8 exited with status 3"


@pytest.mark.parametrize("lines", [[EXCEEDED, ENDED.format(15)], [EXCEEDED, "…", ENDED.format(9)], [OTHER, EXCEEDED]])
def test_a_worker_that_exceeds_its_memory_limit(lines: list[str]) -> None:
    death, more = logged_death(lines, LIMIT)
    first, line = death.splitlines()
    assert "memory limit of 300 MiB" in first
    assert "95%" in first
    assert line.strip() == EXCEEDED
    assert more is False, "a SIGKILL of the nanny's is not the kernel's"


def test_an_earlier_restart_for_memory_is_not_the_cause() -> None:
    assert logged_death([EXCEEDED, ENDED.format(15), OTHER], LIMIT) == ("exited with status 3", False)


def test_other_deaths() -> None:
    assert logged_death([], LIMIT) == ("", False)
    assert logged_death([ENDED.format(11)], LIMIT) == ("was killed by signal 11", False)
    assert logged_death([ENDED.format(9)], LIMIT) == ("was killed by signal 9", True)
