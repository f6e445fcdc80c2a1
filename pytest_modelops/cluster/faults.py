"""A fault in the middle of a job: waiting until enough tasks are done, making it happen, and ending it."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from pytest_modelops.backends.base import Sandbox
from pytest_modelops.cluster.registration import LOOK_SECONDS, Registration
from pytest_modelops.cluster.started_parts import StartedParts
from pytest_modelops.cluster.starting import SCHEDULER
from pytest_modelops.config.faults import CUT_OFF, DISK, FREEZE, KILL, MEMORY, RESTART, SLOW, Fault
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, NothingToDo, TimedOut
from pytest_modelops.remote.shared.facts import TaskCount

_POLL_SECONDS = 0.02
_ASK_SECONDS = 5.0
_GONE_SECONDS = 30.0
"""How long a worker may take to end, also of its memory, and a scheduler to be up again with all workers."""
_OVER_THE_LIMIT = 1.2
"""How much of its memory limit a worker allocates at most."""
_TEXTS = {
    KILL: "{who} was killed (SIGKILL)",
    FREEZE: "{who} was frozen (SIGSTOP) for {seconds:.1f} s",
    CUT_OFF: "{who} was cut off from the network for {seconds:.1f} s",
    MEMORY: "the memory of {who} was filled, and it was ended after {seconds:.1f} s",
    DISK: "the disk of {who} was full for {seconds:.1f} s",
    RESTART: "{who} was killed (SIGKILL), and up again with all workers after {seconds:.1f} s",
    SLOW: "the network of {who} was slow for {seconds:.1f} s",
}


@dataclasses.dataclass
class Happened:
    """What happened.

    Attributes:
        fault: its name.
        process: name of the process that it happened to; pid: as its sandbox counts.
        done, total: how many tasks of the job were done then, and how many there were.
        seconds: how long it lasted; of a process that was ended, until it was gone.
    """

    fault: str
    process: str
    pid: int
    done: int
    total: int
    seconds: float = 0.0

    def __str__(self) -> str:
        text = _TEXTS[self.fault].format(who=f"{self.process} (pid {self.pid})", seconds=self.seconds)
        return f"{text} when {self.done} of {self.total} tasks were done"


class DuringJob:
    """A context in which a job runs. In another thread, the fault happens when enough of the job's tasks are done.

    Args:
        pids: of the processes themselves by name; with a nanny, that of the worker below it.
        addresses: name by address of the workers; the fault happens to the first one.
        tasks: how many the job has; `None` if only the scheduler knows.

    Attributes:
        happened: `None` if the job ended before.
        error: why it could not be made to happen.
        began: whether it began to happen, so that the cluster is not what it was.
        counts: the last ones.
    """

    def __init__(
        self,
        fault: Fault,
        sandbox: Sandbox,
        parts: StartedParts,
        registration: Registration,
        *,
        pids: Mapping[str, int],
        addresses: Mapping[str, str],
        tasks: int | None,
    ) -> None:
        self.fault = fault
        self._sandbox = sandbox
        self._parts = parts
        self._registration = registration
        self._pids = pids
        self._address, self._worker = next(iter(addresses.items()))
        self._tasks = tasks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fault", daemon=True)
        self.happened: Happened | None = None
        self.error: ModelopsError | None = None
        self.began = False
        self.counts: TaskCount = {"done": 0, "known": 0}

    def __enter__(self) -> DuringJob:  # noqa: PYI034 - `Self` is of Python 3.11
        """Begin; raises `NothingToDo` if this fault cannot happen here."""
        if why := self._obstacle():
            raise NothingToDo(f"{self.fault.name}: {why}")
        self._count("begin")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, if it lasts; the job is over."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(ModelopsError):  # of a scheduler that was restarted or hangs
            self._count("end", seconds=1.0)

    def _obstacle(self) -> str:
        limit = self._parts.memory_limits.get(self._worker, 0)
        if self.fault.name == MEMORY and not self._parts.nannies:
            return "a nanny ends a worker at its memory limit, and the workers have none; remove `nanny = false`"
        if self.fault.name == MEMORY and not limit:
            return "the workers have no memory limit; set `--memory-limit` in `worker-args`"
        return self._sandbox.obstacle_to(self.fault.name, memory_limit=limit)

    def _count(self, operation: str, seconds: float = _ASK_SECONDS) -> TaskCount:
        counts: TaskCount = self._parts.agent.call(
            "count_tasks", operation=operation, seconds=seconds, deadline=Deadline(seconds)
        )
        return counts

    def _watch(self) -> None:
        known = 0
        try:
            while not self._stop.wait(_POLL_SECONDS):
                try:
                    counts = self.counts = self._count("look")
                except TimedOut:  # the scheduler is busy
                    continue
                # Without a total, the job is taken as submitted when nothing was added since the last look.
                total = self._tasks or (counts["known"] if counts["known"] == known else 0)
                known = counts["known"]
                if total and counts["known"] and self.fault.needed_of(total) <= counts["done"] < total:
                    self._make(counts["done"], total)
                    return
        except ModelopsError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - it is the reason why the check fails
            self.error = CheckFailed(f"{self.fault.name}: {type(error).__name__}: {error}")

    def _make(self, done: int, total: int) -> None:
        self.began = True
        name = SCHEDULER if self.fault.name == RESTART else self._worker
        began = time.monotonic()
        happened = Happened(self.fault.name, name, self._pids[name], done, total)
        ways: Mapping[str, Callable[[], None]] = {
            KILL: self._kill,
            FREEZE: self._freeze,
            MEMORY: self._fill_memory,
            RESTART: self._restart_scheduler,
        }
        ways.get(self.fault.name, self._disturb)()
        happened.seconds = round(time.monotonic() - began, 3)
        self.happened = happened

    def _kill(self) -> None:
        self._send(signal.SIGKILL)
        self._await_state("gone")

    def _freeze(self) -> None:
        try:
            self._send(signal.SIGSTOP)
            self._await_state("stopped")
            self._stop.wait(self.fault.seconds)
        finally:
            self._parts.named(self._worker).signal(signal.SIGCONT, pid=self._pids[self._worker])

    def _fill_memory(self) -> None:
        most = int(self._parts.memory_limits[self._worker] * _OVER_THE_LIMIT)
        deadline = Deadline(_ASK_SECONDS)
        self._parts.agent.call("fill_memory", worker=self._address, most=most, seconds=_ASK_SECONDS, deadline=deadline)
        self._await_state("gone")

    def _disturb(self) -> None:
        end = self._sandbox.disturb(self.fault.name, self._worker)
        try:
            self._stop.wait(self.fault.seconds)
        finally:
            end()

    def _restart_scheduler(self) -> None:
        """Kill the scheduler, start it at the same address, and start workers that end without it, as systemd does."""
        deadline = Deadline(_GONE_SECONDS)
        self._parts.restart_scheduler(deadline)

        def all_up() -> bool:
            self._parts.restart_ended_workers()
            with contextlib.suppress(ModelopsError):  # not connected yet
                return set(self._parts.names) <= self._registration.now(Deadline(1)).keys()
            return False

        if not deadline.until(all_up, every=LOOK_SECONDS):
            raise CheckFailed(f"{self.fault.name}: after {_GONE_SECONDS:g} s not all workers were registered again")

    def _send(self, number: signal.Signals) -> None:
        if not self._parts.named(self._worker).signal(number, pid=self._pids[self._worker]):
            raise CheckFailed(f"{self.fault.name}: {self._worker} (pid {self._pids[self._worker]}) was gone already")

    def _await_state(self, state: str) -> None:
        process, pid = self._parts.named(self._worker), self._pids[self._worker]
        deadline = Deadline(_GONE_SECONDS)
        if not deadline.until(lambda: process.state(pid=pid).startswith(state), every=_POLL_SECONDS):
            raise CheckFailed(
                f"{self.fault.name}: {self._worker} (pid {pid}) is {process.state(pid=pid)} after {_GONE_SECONDS:g} s, "
                f"and was to be {state}"
            )

    # The verdict ----------------------------------------------------------------------------------------------------

    @property
    def figures(self) -> dict[str, object]:
        """For the report."""
        if self.happened is None:
            return {}
        return {"fault": dataclasses.asdict(self.happened), "note": f"{self.fault.name}: {self.happened}"}

    def why_not_happened(self) -> ModelopsError | None:
        """Return why the fault did not happen, or not as it should; `NothingToDo` if it cannot; `None` if it did."""
        if self.error is not None or self.happened is not None:
            return self.error
        needed = f"{self.fault.at:.0%}" if self.fault.at < 1 else f"{self.fault.at:g}"
        seen = f"{self.counts['done']} of {self._tasks or self.counts['known']}"
        return CheckFailed(
            f"{self.fault.name} did not happen: the job was over before {needed} of its tasks were seen done; last "
            f"seen were {seen}. Give it more tasks, or longer ones."
        )
