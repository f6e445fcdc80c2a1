"""Cells that are checked ahead of their tests: several at a time, each in a thread of its own, in the run's order.

pytest runs one test after the other, in its main thread. So that no core idles meanwhile, the checks of cells that come
later run in threads, and the test of a check waits for its result. Environments of the next cells are made while at
most `parallel` clusters run.

What is the user's runs in the main thread: when it is due, the cell's thread waits until the main thread has run it.
While a test of the user's runs, no thread does anything, since its mocks and time limits hold for the whole process.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pytest_modelops.remote.shared.waiting import wait_until
from pytest_modelops.session.budget import Budget

_LOOK_SECONDS = 0.5
"""How often memory is looked at while a cell waits for it."""
_END_SECONDS = 60.0
"""How long the threads have to stop their clusters when a run is ended early."""


class AheadCell(Protocol):
    """A cell, as its thread sees it. No method raises for what is wrong with the cell."""

    @property
    def id(self) -> str:
        """The cell's id, for people."""

    @property
    def seconds(self) -> float:
        """How long it has been in use."""

    def check_ahead(self, label: str) -> None:
        """Run a check; does nothing if it ran before."""

    def is_for_main(self, label: str) -> bool:
        """Return whether a check has to run in the main thread now, or something that has to run before it has to."""

    def uses_cluster(self, label: str) -> bool:
        """Return whether a check may use the cell's cluster."""

    def give_up(self) -> None:
        """Have the check that runs in another thread end soon, without a result."""

    def close(self) -> None:
        """Stop the cluster; does nothing if none runs."""


class _Job:
    """One cell and what is left to do in it. All fields are guarded by the lock of `Ahead`.

    Attributes:
        labels: the checks that are not done yet.
        held: whether the main thread closes the cell, since tests of the user's come after the checks.
        is_admitted: whether it fits into the budget.
        has_begun: whether it makes environments or uses its cluster, or has done so.
        has_place: whether it is one of those whose cluster may run.
        waits: whether its thread waits for the main thread.
        in_main: whether the main thread is using the cell.
        ended: whether nobody will ask for its checks any more.
        over: whether it is closed.
        error: a bug that ended its thread.
    """

    def __init__(self, cell: AheadCell, labels: Sequence[str], *, held: bool) -> None:
        self.cell = cell
        self.labels = deque(labels)
        self.done: set[str] = set()
        self.held = held
        self.is_admitted = self.has_begun = self.has_place = self.waits = self.in_main = self.ended = self.over = False
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None

    def raise_bug(self) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error


class Ahead:
    """The cells of a run, in its order.

    Args:
        parallel: how many clusters may run at once, and how many cells may make their environments at once.
        has_room: whether there is memory for one more cluster; asked only if one runs. `None`: there always is.
        budget: decides which cells are begun. `None`: all are.
        interrupt: ends what runs for environments, and keeps more from being started.
    """

    def __init__(
        self,
        parallel: int,
        *,
        has_room: Callable[[], bool] | None = None,
        budget: Budget | None = None,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._parallel = parallel
        self._has_room = has_room
        self._budget = budget
        self._interrupt = interrupt
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._open: list[_Job] = []
        """Those that are not over."""
        self._running = 0
        self._paused = self._ending = False

    def add(self, cell: AheadCell, labels: Sequence[str], *, held: bool) -> None:
        """Add a cell with its checks, in order. A cell that was added before stays as it is."""
        with self._changed:
            if cell.id not in self._jobs and not self._ending:
                job = self._jobs[cell.id] = _Job(cell, labels, held=held)
                self._open.append(job)
                self._advance()

    @contextlib.contextmanager
    def turn(self, cell: AheadCell, label: str) -> Iterator[None]:
        """Wait until a check has run or the main thread has to run it; the body may use the cell then."""
        job = self._jobs.get(cell.id)
        if job is not None:
            with self._changed:
                wait_until(self._changed, lambda: label in job.done or job.waits or job.over)
                job.raise_bug()
                job.in_main = label not in job.done and not job.over
                if job.in_main and label in job.labels:
                    while job.labels[0] != label:  # nobody asks for these
                        job.labels.popleft()
        try:
            yield
        finally:
            if job is not None and job.in_main:
                with self._changed:
                    job.in_main = False
                    if job.labels and job.labels[0] == label:
                        job.waits = False  # its thread goes on
                    self._note(job, label)

    def pause(self) -> None:
        """Wait until no thread does anything, and have none begin something until `resume`."""
        with self._changed:
            self._paused = True
            wait_until(self._changed, lambda: not self._running)

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._changed.notify_all()

    def end(self, cell: AheadCell) -> None:
        """Close a cell, or wait until its thread has closed it."""
        job = self._jobs.get(cell.id)
        if job is None:
            try:
                cell.close()
            finally:
                self._note_end(cell)
            return
        with self._changed:
            job.ended = True
            self._changed.notify_all()
            wait_until(self._changed, lambda: job.over or (job.held and job.waits))
        try:
            if job.held and not job.over:
                cell.close()
        finally:
            with self._changed:
                self._finish(job)
        job.raise_bug()

    def stop(self) -> None:
        """Have no check begin any more."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def close(self) -> None:
        """End all cells early. What runs in a thread gets no result."""
        self.stop()
        with self._changed:
            started = [job for job in self._open if job.thread is not None]
            busy = [job for job in started if not job.waits]
        for job in busy:
            job.cell.give_up()
        if busy:
            self._interrupt()
        with self._changed:
            wait_until(self._changed, lambda: all(job.over for job in started), _END_SECONDS)

    def _advance(self) -> None:
        """Start the threads of the cells that are next. The caller holds the lock, as in all that follow."""
        for job in self._open[: 0 if self._ending else 2 * self._parallel]:
            if job.thread is None:
                name = f"cell {job.cell.id}"
                job.thread = threading.Thread(target=self._work, args=(job,), name=name, daemon=True)
                job.thread.start()

    def _note(self, job: _Job, label: str) -> None:
        job.done.add(label)
        if job.labels and job.labels[0] == label:
            job.labels.popleft()
        self._changed.notify_all()

    def _finish(self, job: _Job) -> None:
        """Give the cell's place to the next one."""
        if not job.over:
            job.over = True
            self._open.remove(job)
            self._note_end(job.cell)
            self._advance()
        self._changed.notify_all()

    def _note_end(self, cell: AheadCell) -> None:
        if self._budget is not None:
            self._budget.ended(cell.id, cell.seconds)

    def _work(self, job: _Job) -> None:
        with self._changed:
            try:
                while (label := self._next(job)) is not None:
                    with self._unlocked():
                        job.cell.check_ahead(label)
                    self._note(job, label)
                if self._wait_to_close(job):
                    with self._unlocked():
                        job.cell.close()
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                job.error = error
            if not job.held or self._ending or job.error:
                self._finish(job)

    @contextlib.contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Let others have the lock while a thread works."""
        self._running += 1
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._running -= 1
            self._changed.notify_all()

    def _next(self, job: _Job) -> str | None:
        """Wait until the cell's next check may run, and return its label; `None` if its thread has no more to do."""
        while job.labels and not (self._ending or job.ended):
            label = job.labels[0]
            if not self._may_go_on(job, label):
                self._changed.wait(_LOOK_SECONDS)
            elif job.cell.is_for_main(label):
                self._wait_for_main(job, lambda: not job.labels or job.labels[0] != label)  # noqa: B023
            else:
                return label
        return None

    def _wait_for_main(self, job: _Job, done: Callable[[], bool]) -> None:
        job.waits = True
        self._changed.notify_all()
        self._changed.wait_for(lambda: job.over or (not job.in_main and (done() or job.ended or self._ending)))
        job.waits = False

    def _wait_to_close(self, job: _Job) -> bool:
        """Wait until a cell can be closed; return whether its thread has to do it."""
        if job.held:
            job.waits = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: job.over or (self._ending and not job.in_main))
        else:
            self._changed.wait_for(lambda: job.over or not self._paused or self._ending)
        return job.has_begun and not job.over

    def _may_go_on(self, job: _Job, label: str) -> bool:
        """Return whether a check may run now, and take the place that it needs. Places are given in the run's order."""
        if self._paused:
            return False
        before = self._open[: self._open.index(job)]
        if job.cell.uses_cluster(label):
            if not job.has_place:
                taken = sum(other.has_place for other in self._open)
                if taken >= self._parallel or not all(other.has_place for other in before):
                    return False
                if taken and self._has_room is not None and not self._has_room():
                    return False
                if not self._is_admitted(job):
                    return False
                job.has_place = True
                self._changed.notify_all()
        elif not job.has_begun and (
            sum(not other.has_place for other in before) >= self._parallel or not self._is_admitted(job)
        ):
            return False
        job.has_begun = True
        return True

    def _is_admitted(self, job: _Job) -> bool:
        """Return whether a cell may begin; one that never may is over. Cells are decided about in the run's order."""
        if job.is_admitted or self._budget is None:
            return True
        if not all(other.is_admitted for other in self._open[: self._open.index(job)]):
            return False
        admitted = self._budget.may_begin(job.cell.id, self._parallel)
        if admitted is False:
            job.labels.clear()
            self._finish(job)
        if admitted:
            job.is_admitted = True
            self._changed.notify_all()
        return job.is_admitted
