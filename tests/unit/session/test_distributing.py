"""Which xdist worker gets which tests, on workers that only note what they are sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pytest_modelops.session.distribution import Distributing

TESTS = [f"test_{name}[{cell}]" for cell in ("a", "b", "c") for name in ("one", "two", "three", "four")]


class Worker:
    """An xdist worker, by its name."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.sent: list[str] = []
        self.shutting_down = False
        self.gone = False

    def send_runtest_some(self, indices: list[int]) -> None:
        if self.gone:
            raise OSError("cannot send to a worker that crashed")
        self.sent += [TESTS[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_a_worker_that_takes_over_the_last_test_of_a_cell_is_not_left_waiting() -> None:
    config: Any = SimpleNamespace(
        getvalue=lambda _: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=False, dist="load")
    )
    run: Any = SimpleNamespace(cell_of=lambda test: test.partition("[")[2][0])
    scheduler = Distributing(run).pytest_xdist_make_scheduler(config, None)
    other, crashes, new = map(Worker, ("gw0", "gw1", "gw2"))
    for worker in (other, crashes):
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, TESTS)
    scheduler.schedule()
    assert (other.sent, crashes.sent) == (TESTS[:4], TESTS[4:8])
    for index in (4, 5):
        scheduler.mark_test_complete(crashes, index)
    crashes.gone = True  # in `three`; the word of `two` comes after that, so that it is given the last cell as well
    assert [*scheduler.assigned_work[crashes]] == ["b", "c"]
    for index in range(3):
        scheduler.mark_test_complete(other, index)
    assert other.shutting_down
    assert scheduler.remove_node(crashes) == TESTS[6]
    scheduler.add_node(new)
    scheduler.add_node_collection(new, TESTS)
    scheduler.schedule()
    assert new.sent == [TESTS[7], *TESTS[8:]]
