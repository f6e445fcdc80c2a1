"""A cluster: one real scheduler, N real workers and the agent, on any sandbox. Start-up and the stop sequence.

The parts are the modules behind Dask's own command line; they start at once and find each other.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.backends.base import Process, Sandbox
from pytest_modelops.cluster.agent import Agent
from pytest_modelops.cluster.logs import last_line, last_lines, tail
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, RunnerTimedOut, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared import plain

LATE = "worker-late"
"""Name of the worker that joins late; see `Cluster.one_more`."""
_LATE_SECONDS = 6.0
"""How long that one has to leave."""
_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.1
"""How often the agent is asked which workers are registered."""
_LAST_LOOK_SECONDS = 0.5
"""What the scheduler gets at least to say so; within the agent's grace."""
_FACTS_SECONDS = 2.0
"""What workers that were restarted get to tell who they are now."""
_ANSWER_SECONDS = 2.0
"""What workers get to say which tasks they are on, and nannies whether they watch."""
_KERNEL_SECONDS = 0.5
"""In which a sandbox's program tells whether the kernel killed a worker for memory; it looks every 0.2 s."""
_DUMP_SECONDS = 0.8
"""How long processes get to print their stacks; they need milliseconds."""
_DEATH = re.compile(r"(?:Worker process \d+|^modelops: a process) ((?:was killed|exited|died).*)")
"""A nanny's words for the end of its worker, or those of the program that a sandbox started it by."""
_FRAMES = 6
"""Innermost frames shown of each thread that is not idle."""
_ALIVE = {"running", "sleeping"}
"""States in which a process honours a signal."""
_IDLE = re.compile(
    r"line \d+ in (?:select|wait|get|_watch|_recv|_worker|read_message|epoll|accept)$"
    r"|multiprocessing/(?:popen_fork|popen_spawn_posix|resource_tracker)\.py\""  # of nannies
)
"""How faulthandler names the innermost frame of a thread that awaits work."""


class Cluster:
    """Scheduler, workers and agent of one cell, as started; `await_ready` says when they are up."""

    def __init__(
        self,
        sandbox: Sandbox,
        environments: Mapping[Role, Environment],
        settings: ClusterSettings,
        *,
        start_seconds: float,
    ) -> None:
        """Start everything at once.

        Args:
            start_seconds: how long the client shall try to connect.
        """
        self.sandbox = sandbox
        self.settings = settings
        self._environments = environments
        self._preload = f"{sandbox.remote}/modelops_remote/worker/modelops_preload.py"
        self.scheduler = sandbox.start(
            "scheduler",
            environments[Role.SCHEDULER],
            [
                *("-m", "distributed.cli.dask_scheduler"),
                *sandbox.scheduler_arguments(),
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
            ],
            variables={},
        )
        self.workers = [self._start_worker(f"worker-{number}") for number in range(settings.workers)]
        self.agent = Agent.start(sandbox, environments[Role.CLIENT], seconds=start_seconds)
        self.addresses: Mapping[str, str] = {}
        """Worker name by address, in order of names, once ready."""
        self._kept = False
        self._watched: set[str] = set()
        """Names of the workers whose nannies are known to replace them when they die."""
        self._reported: dict[str, Mapping[str, Any]] = {}
        """The last facts of each part by its name."""
        self.late: Process | None = None
        """The worker that joined late, while there is one; see `one_more`."""

    def _start_worker(self, name: str) -> Process:
        return self.sandbox.start(
            name,
            self._environments[Role.WORKER],
            [
                *("-m", "distributed.cli.dask_worker"),
                *self.sandbox.worker_arguments(),
                *("--name", name, "--nthreads", str(self.settings.threads)),
                "--nanny" if self.settings.nanny else "--no-nanny",
                *("--local-directory", self.sandbox.directory(name)),
                *("--dashboard-address", "127.0.0.1:0", "--preload", self._preload),
                *self.settings.worker_arguments,
            ],
            variables={**self.settings.worker_variables, "PYTEST_MODELOPS_REMOTE": self.sandbox.remote},
        )

    @property
    def processes(self) -> Sequence[Process]:
        """Every part: scheduler, workers, agent."""
        late = [self.late] if self.late is not None else []
        return [self.scheduler, *self.workers, *late, self.agent.process]

    def await_ready(self, deadline: Deadline) -> None:
        """Wait until the client is connected and all workers are registered.

        Raises:
            ProcessExited: a part ended.
            RemoteError: the client could not connect; the message holds Dask's own words.
            TimedOut: the deadline passed; the message says who was missing.
        """
        self._await_client(deadline)
        self.await_workers(deadline)

    def await_workers(self, deadline: Deadline, names: Sequence[str] | None = None) -> Mapping[str, str]:
        """Wait until workers are registered, be it again: a nanny restarts one that died, at another address.

        Args:
            names: of which workers; of all, where not given.

        Returns:
            Their addresses by name; `addresses` is up to date, too.

        Raises:
            ProcessExited, TimedOut: as `await_ready`.
        """
        wanted = [worker for worker in self.workers if names is None or worker.name in names]
        while True:
            self._raise_if_exited([self.scheduler, *wanted, self.agent.process])
            seconds = max(deadline.remaining, _LAST_LOOK_SECONDS)
            registered = self.agent.call("workers", seconds=seconds, deadline=deadline)
            found = {worker["name"]: address for address, worker in registered.items()}
            missing = [worker for worker in wanted if worker.name not in found]
            if not missing and self._nannies_watch({worker.name: found[worker.name] for worker in wanted}, deadline):
                before = {name: address for address, name in self.addresses.items()}
                last = before | found
                self.addresses = {last[part.name]: part.name for part in self.workers if part.name in last}
                if restarted := [name for name in found if before.get(name, found[name]) != found[name]]:
                    for name in restarted:  # what it reported was another process's
                        self._reported.pop(name, None)
                    self.facts(deadline.at_most(_FACTS_SECONDS))
                return {worker.name: found[worker.name] for worker in wanted}
            if deadline.passed:
                if not missing:
                    raise TimedOut(
                        "all workers registered with the scheduler, but not every nanny noticed that its worker runs"
                        f" within {deadline.seconds:g} s.\n" + "\n".join(self._last_seen(wanted))
                    )
                raise TimedOut(
                    f"{len(wanted) - len(missing)} of {len(wanted)} workers registered with the scheduler"
                    f" within {deadline.seconds:g} s.\n" + "\n".join(self._last_seen(missing))
                )
            time.sleep(_LOOK_SECONDS)

    def _nannies_watch(self, found: Mapping[str, str], deadline: Deadline) -> bool:
        """Whether each of these workers' nannies has noticed that it runs; one that died before would end its nanny."""
        asked = {name: address for name, address in found.items() if name not in self._watched}
        if not self.settings.nanny or not asked:
            return True
        seconds = max(min(_ANSWER_SECONDS, deadline.remaining), _LAST_LOOK_SECONDS)
        watch: bool = self.agent.call("nannies_watch", workers=list(asked.values()), seconds=seconds, deadline=deadline)
        if watch:
            self._watched |= asked.keys()
        return watch

    def _await_client(self, deadline: Deadline) -> None:
        # In short steps, so that a part which exits is noticed while the client still tries to reach it.
        while not self.agent.call("connect", seconds=min(_LOOK_SECONDS * 2, deadline.remaining), deadline=deadline)[
            "connected"
        ]:
            self._raise_if_exited(self.processes)
            if deadline.passed:
                raise TimedOut(
                    f"the client was not connected to the scheduler within {deadline.seconds:g} s.\n"
                    + "\n".join(self._last_seen([self.scheduler, self.agent.process]))
                )

    @staticmethod
    def _raise_if_exited(processes: Iterable[Process]) -> None:
        """Raise `ProcessExited` for the first that has ended; the scheduler comes first, since others follow it."""
        for process in processes:
            if process.ending is not None:
                raise ProcessExited(f"{process.name} {process.ending}{last_line(process.log)}.{tail(process.log)}")

    @staticmethod
    def _last_seen(processes: Iterable[Process]) -> list[str]:
        return [f"{process.name} (pid {process.pid}) is {process.state()}.{tail(process.log)}" for process in processes]

    def facts(self, deadline: Deadline) -> Mapping[str, Any]:
        """What every process says of itself: `{"client": …, "scheduler": …, "workers": {address: …}}`.

        Each holds `pid`, `python`, `packages`, … (see `remote/worker/modelops_preload.py`), or `silent` or `error`.
        """
        reply: Mapping[str, Any] = self.agent.call(
            "facts", variables=list(self.settings.worker_variables), seconds=deadline.remaining, deadline=deadline
        )
        workers = {self.addresses.get(address, address): facts for address, facts in reply["workers"].items()}
        by_name = {"agent": reply["client"], "scheduler": reply["scheduler"], **workers}
        # Who is silent now may have reported its pid before.
        self._reported.update({name: facts for name, facts in by_name.items() if "pid" in facts})
        return reply

    def ask_workers(self, operation: str, arguments: Mapping[str, Any], deadline: Deadline) -> Mapping[str, Any]:
        """Have every worker do something with a bundle (`remote/worker/bundles.py`), all at once and not as tasks.

        Returns:
            What each reported, by worker name.

        Raises:
            CheckFailed: a worker died of it, or is gone.
            TimedOut: a worker did not answer.
        """
        self.await_workers(deadline)
        answers: Mapping[str, Mapping[str, Any]] = self.agent.call(
            "ask_workers",
            operation=operation,
            arguments=dict(arguments),
            workers=list(self.addresses),
            seconds=deadline.remaining,
            deadline=deadline,
        )
        reply = {}
        for address, name in self.addresses.items():
            answer = answers[address]
            if "silent" in answer:
                raise TimedOut(f"{name} was asked to {operation} the bundle: {answer['silent']}")
            if "error" in answer:
                death = self.death_of_worker(name)
                why = death or self.with_names(answer["error"])
                raise CheckFailed(f"{name} was asked to {operation} the bundle: {why}{self.last_words(name)}")
            reply[name] = plain.unpack(answer["value"])
        return reply

    @contextlib.contextmanager
    def one_more(self, deadline: Deadline) -> Iterator[tuple[str, str]]:
        """Have one more worker, which joins late; it is no part of `workers`, and gone afterwards.

        Yields:
            Its name and its address, as soon as it is registered.

        Raises:
            ProcessExited: it ended.
            RunnerTimedOut: it was not registered in time, or what was done with it timed out; with all stacks.
            CheckFailed: it would not go.
        """
        late = self.late = self._start_worker(LATE)
        try:
            yield LATE, self._await_late(late, deadline)
        except TimedOut as error:
            raise RunnerTimedOut(f"{error}\n\nWhere each process stands:\n{self.stacks()}") from None
        finally:
            left = self._end_late(late)
            self.late = None
        if left:
            raise CheckFailed(f"{LATE} was ended, and the scheduler has not forgotten it after {left:g} s")

    def _await_late(self, late: Process, deadline: Deadline) -> str:
        while True:
            self._raise_if_exited([self.scheduler, late, self.agent.process])
            seconds = max(deadline.remaining, _LAST_LOOK_SECONDS)
            registered = self.agent.call("workers", seconds=seconds, deadline=deadline)
            for address, worker in registered.items():
                if worker["name"] == late.name:
                    return str(address)
            if deadline.passed:
                raise TimedOut(
                    f"{late.name}, started when the others were up, was not registered with the scheduler within "
                    f"{deadline.seconds:g} s.\n" + "\n".join(self._last_seen([late]))
                )
            time.sleep(_LOOK_SECONDS)

    def _end_late(self, late: Process) -> float:
        """End the late worker, and wait until the scheduler has forgotten it; 0, or how long it has not."""
        deadline = Deadline(_LATE_SECONDS)
        self._terminate([late], deadline)
        if late.ending is None:
            for pid in [late.pid, *late.descendants()]:  # first the nanny, which would start another one
                late.signal(signal.SIGKILL, pid=pid)
        with contextlib.suppress(ModelopsError):  # what is wrong with the others shows elsewhere
            while LATE in {worker["name"] for worker in self._registered().values()}:
                if deadline.passed:
                    return deadline.seconds
                time.sleep(_POLL_SECONDS)
        return 0

    def _registered(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.agent.call("workers", seconds=1, deadline=Deadline(1))
        return found

    def stacks(self) -> str:
        """Where each process stands: its Python stacks, or why it has none to show.

        A process that once reported its facts prints its stacks and goes on. If none did, the cluster never
        came up and is
        given up: each process gets SIGABRT and ends with its stacks.
        """
        deadline = Deadline(_DUMP_SECONDS)
        asked = []
        for process in self.processes:
            facts = self._reported.get(process.name)
            pid = facts["pid"] if facts else process.pid  # with a nanny, the worker is not what we started
            state = process.state(pid=pid)
            size = process.log.stat().st_size
            if facts:
                process.signal(facts["stacks_signal"], pid=pid)
            elif not self._reported or process is self.late:  # which has reported nothing, and is to go anyway
                self._abort(process, deadline)
            asked.append((process, pid, state, size))
        for process, _, state, size in asked:
            while state in _ALIVE and process.log.stat().st_size == size and not deadline.passed:
                time.sleep(_POLL_SECONDS)
        time.sleep(_POLL_SECONDS)  # a dump is written line by line
        parts = []
        for process, pid, state, size in asked:
            dump = process.log.read_bytes()[size:].decode(errors="replace")
            parts.append(f"{process.name} (pid {pid}) is {state}; whole stacks in {process.log}")
            parts += [f"    {line}" for line in innermost(dump)] or ["    it printed no stack"]
        return "\n".join(parts)

    @staticmethod
    def _abort(process: Process, deadline: Deadline) -> None:
        """End a process with its stacks. First what it has started: a nanny's worker would go with it, silently."""
        started = process.descendants()
        for pid in reversed(started):
            process.signal(signal.SIGABRT, pid=pid)
        while any(process.state(pid=pid) in _ALIVE for pid in started) and not deadline.passed:
            time.sleep(_POLL_SECONDS)
        process.signal(signal.SIGABRT)

    def free_workers(self, deadline: Deadline) -> Sequence[str]:
        """End the workers that are still on a task whose time was over, and wait for those that nannies start again.

        A thread cannot be stopped, and whatever comes next would wait behind it. Without nannies they are left alone.

        Returns:
            Their names.

        Raises:
            ProcessExited, TimedOut: as `await_ready`.
        """
        if not self.settings.nanny:
            return []
        seconds = deadline.at_most(_ANSWER_SECONDS).remaining
        stuck: Sequence[str] = self.agent.call("stuck", seconds=seconds, deadline=deadline)
        names = [name for address, name in self.addresses.items() if address in stuck]
        for process in self.workers:
            if process.name in names and process.name in self._reported:
                process.signal(signal.SIGKILL, pid=self._reported[process.name]["pid"])
        while set(stuck) & set(self._registered()) and not deadline.passed:
            time.sleep(_POLL_SECONDS)
        self.await_workers(deadline, names)
        return names

    def with_names(self, text: str) -> str:
        """A text of Dask's in which each worker is called by its name too."""
        for address, name in self.addresses.items():
            text = text.replace(address, f"{name} ({address})")
        return text

    def last_words(self, name: str) -> str:
        """What a part printed that tells most, and where its whole log is."""
        return tail(next(process.log for process in self.processes if process.name == name), most=6)

    def death_of_worker(self, name: str) -> str:
        """How a worker's process ended, as its nanny or the sandbox says; empty when neither does."""
        part = next(process for process in self.processes if process.name == name)
        if part.ending is not None:
            return f"it {part.ending}"
        end = time.monotonic() + _KERNEL_SECONDS
        while True:
            deaths = [match[1] for line in last_lines(part.log, most=400) if (match := _DEATH.search(line))]
            # The nanny only sees a signal; where the sandbox's program knows why the kernel sent it, it says so beside.
            causes = [words for words in deaths[-2:] if "by the kernel" in words]
            if causes or not deaths or not deaths[-1].endswith(" signal 9") or time.monotonic() > end:
                return f"its process {(causes or deaths)[-1]}" if deaths else ""
            time.sleep(_POLL_SECONDS)

    def keep(self) -> str:
        """Have scheduler and workers outlive `stop`; returns how to get in and how to clear them."""
        words = self.sandbox.keep()
        self._kept = True
        return words

    def stop(self) -> Sequence[str]:
        """End the cluster quickly and prove that nothing is left. Returns what is left, in words.

        The order is what makes it quick: everything at once means that each part waits for the others. Measured:
        0.4 s with nannies first and then the scheduler, 8 s with SIGTERM to all. A worker that is busy ignores every
        polite way, so the sandbox's SIGKILL follows.
        """
        with contextlib.suppress(ModelopsError):  # frozen, dead or busy: closing its stdin ends it
            self.agent.call("close", deadline=Deadline(0.5))
        self.agent.close()
        if self._kept:
            return self.sandbox.close()
        if self.settings.nanny:
            self._terminate(self.workers, Deadline(2.0))
            self._terminate([self.scheduler], Deadline(1.0))
        else:
            self._terminate([self.scheduler], Deadline(1.5))
        return self.sandbox.close()

    @staticmethod
    def _terminate(processes: Sequence[Process], deadline: Deadline) -> None:
        for process in processes:
            process.signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(deadline)
            except TimedOut:
                return  # the sandbox kills it


def innermost(dump: str) -> list[str]:
    """What matters of a faulthandler dump: the innermost frames of each busy thread, and how many are idle."""
    threads: list[list[str]] = []
    for line in dump.splitlines():
        if "most recent call first" in line:
            threads.append([line])
        elif threads and line.startswith("  "):
            threads[-1].append(line)
    busy = [
        thread
        for thread in threads
        if any(line.startswith("  File") for line in thread) and not _IDLE.search(thread[1])
    ]
    lines = [line for thread in busy for line in thread[: _FRAMES + 1]]
    idle = len(threads) - len(busy)
    if idle:
        lines.append(f"{idle} idle thread{'' if idle == 1 else 's'}")
    return lines
