"""Running a cell's checks: each once, after those that it needs, with its own deadline."""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pytest_modelops.cell.lifecycle import Lifecycle
from pytest_modelops.checks import faulty_aggregation
from pytest_modelops.checks.aggregation import run_with as run_aggregation
from pytest_modelops.checks.attached import NOT_THERE
from pytest_modelops.checks.base import Check, CheckedCell, needs_start
from pytest_modelops.checks.bundle_in_workers import install_again
from pytest_modelops.checks.lambdas import run_on_each
from pytest_modelops.checks.lost_workers import judged
from pytest_modelops.checks.outcome import outcome_of
from pytest_modelops.cluster.faults import DuringJob
from pytest_modelops.config.faults import Fault
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CellBroken, CheckFailed, NothingToDo, RunnerTimedOut, TimedOut
from pytest_modelops.matrix.cell import Cell
from pytest_modelops.report.known import KnownBreak
from pytest_modelops.report.model import CheckResult, Status
from pytest_modelops.shipping import Shipped

_T = TypeVar("_T")


class GivenUp(Exception):
    """The run ends before a check has, so the check has no result."""


class Checks:
    """The checks of one cell and their results.

    They may run ahead, in another thread (see `session.ahead`). One thread at a time uses this, but for `results`.

    Args:
        live: what checks are given.
        deadlines: seconds by check, where they are not the check's own.
        reproduce: the command that runs one check of a cell.
        known: checks that are known to be broken.
    """

    def __init__(
        self,
        live: CheckedCell,
        lifecycle: Lifecycle,
        checks: Sequence[Check],
        *,
        deadlines: Mapping[str, float],
        reproduce: Callable[[Cell, Check], str],
        known: Sequence[KnownBreak] = (),
    ) -> None:
        self._live = live
        self._lifecycle = lifecycle
        self._checks = {check.label: check for check in checks}
        self._seconds = {**{check.name: check.seconds for check in checks}, **deadlines}
        self._reproduce = reproduce
        self._known = known
        self._passed: set[str] = set()
        self._results: dict[str, CheckResult] = {}
        behind_versions = lifecycle.deployment is not None and any("versions" in check.needs for check in checks)
        self._before_functions = "versions" if behind_versions else "start"
        """The check that has to pass before functions of the user's are sent."""
        self._given_up = False
        self._ahead: int | None = None
        """The thread that runs a check ahead."""
        self._not_asked_for: set[str] = set()

    @property
    def results(self) -> Mapping[str, CheckResult]:
        """Results by label, in the order in which they ended, also those of users' tests.

        Without those of checks that ran ahead and that nobody has asked for yet.
        """
        return {label: result for label, result in list(self._results.items()) if label not in self._not_asked_for}

    def add(self, result: CheckResult) -> None:
        self._results[result.label] = result

    def run(self, label: str) -> CheckResult:
        """Run a check once, after those that it needs; never raises for what is wrong with the cell."""
        if label not in self._results:
            result = self._run(self._checks[label])
            if self._given_up:
                raise GivenUp
            if self._ahead == threading.get_ident():
                self._not_asked_for.add(label)
            self._results[label] = result
        if self._ahead != threading.get_ident():
            self._not_asked_for.difference_update(self._with_causes(label))
        return self._results[label]

    def run_ahead(self, label: str) -> None:
        """Run a check as `run` does, but keep its result back until somebody asks for it."""
        self._ahead = threading.get_ident()
        try:
            self.run(label)
        except GivenUp:
            pass
        finally:
            self._ahead = None

    def give_up(self) -> None:
        """Keep what runs ahead from having a result; called from another thread."""
        self._given_up = True

    def is_for_main(self, label: str) -> bool:
        """Return whether a check that is to run in pytest's main thread has to run now, for this one or as this one."""
        return any(self._checks[one].main_thread for one in self._with_causes(label) if one not in self._results)

    def has(self, label: str) -> bool:
        """Return whether a check is one of the cell's, or one that a marker has asked for."""
        return label in self._checks

    def uses_cluster(self, label: str) -> bool:
        """Return whether a check may use the cell's cluster."""
        return label not in self._checks or self._checks[label].uses_cluster

    def ahead_of(self, labels: Sequence[str]) -> list[str]:
        """Return these checks, each after those of its needs that use no cluster."""
        found: dict[str, None] = {}
        for label in labels:
            found.update(dict.fromkeys(one for one in self._needs(label) if not self.uses_cluster(one)))
            found[label] = None
        return list(found)

    def _needs(self, label: str) -> list[str]:
        """Return the checks that run before one, directly or not, each after its own; without those left out."""
        found: dict[str, None] = {}
        check = self._checks.get(label)
        for need in (*check.needs, *check.first) if check is not None else ():
            found.update(dict.fromkeys([*self._needs(need), need]))
        return list(found)

    def _with_causes(self, label: str) -> set[str]:
        """Return a check and all that run before it because of it."""
        check, found = self._checks[label], {label, *self._needs(label)}
        if check.bundle is not None and check.needs:
            for left in self._leaving():
                found |= {left.label, *self._needs(left.label)}
        if label in self._results and (root := self._results[label].blocked_by):
            found.add(root)
        return found

    def require(self, label: str) -> None:
        """Run a check; raise `CellBroken` unless it passed."""
        result = self.run(label)
        if not self._lets_through(result):
            root = self._root(result)
            cell = self._live.cell
            raise CellBroken(f"cell {cell.id}: {root.label} {root.status.value}: {root.message}", root.label)

    def require_cluster(self) -> None:
        """Start the cluster if it does not run; raise `CellBroken` if it could not be started.

        A closed cell is started again: with tests in an order of its own, pytest may come back to it.
        """
        self.require("start")
        if self._lifecycle.cluster is None:
            deadline = Deadline(self.seconds_for("start"))
            cluster = self._live.open_cluster(deadline)
            cluster.await_ready(deadline)
            self._live.observed = cluster.facts(deadline)
            for check in self._leaving():
                if check.label in self._results and check.leaves is not None:
                    check.leaves(self._live, Deadline(self.seconds_for(check.name)))

    def prepare(self) -> None:
        """Set the cluster up as in production, before a bundle or code of the user's runs in it.

        The checks that do so report their failures themselves.
        """
        self._free_workers()
        for check in self._leaving():
            self.run(check.label)

    def prepare_cluster(self) -> None:
        """Start the cluster if it does not run, set up as in production, for functions of the user's.

        Raises:
            CellBroken: as `require_cluster`; or the cell is attached, and no function may be sent.
        """
        self.prepare()
        self.require(self._before_functions)
        self.require_cluster()

    def run_bundle(self, checks: Sequence[Check], *, seconds: float | None) -> None:
        """Run the checks that a bundle's marker asks for, in this order; they need not be checks of the run.

        Args:
            seconds: for the last check, which then runs even if it ran before.

        Raises:
            CheckFailed, TimedOut: a check did not pass; the message is its own.
            CellBroken: the cell itself is broken.
            NothingToDo: the cell is attached.
        """
        deployment = self._lifecycle.deployment
        if deployment is not None and (
            not deployment.may_install or any(one.bundle and one.bundle.in_workers for one in checks)
        ):
            raise NothingToDo(f"a marker asks for a bundle on the workers; {NOT_THERE}")
        for check in checks:
            self._checks.setdefault(check.label, check)
        *before, last = checks
        labels = [check.label for check in before] + ([last.label] if seconds is None else [*last.needs])
        for label in labels:
            result = self.run(label)
            if self._lets_through(result):
                continue
            root = self._root(result)
            if root.bundle is None:
                self.require(root.label)
            error = TimedOut if root.status is Status.TIMED_OUT else CheckFailed
            raise error(f"{root.label} {root.status.value}: {root.message}\n\nreproduce: {root.reproduce}")
        if seconds is not None:
            if last.needs:
                self.require_cluster()
            deadline = Deadline(seconds)
            self.with_diagnosis(lambda: last.run(self._live, deadline))
        if last.bundle is not None and last.bundle.in_workers:  # the test's body expects it there
            self.require_cluster()
            install_again(last.bundle, self._live, Deadline(self.seconds_for(last.name)))

    def run_lambda(
        self,
        function: Shipped,
        args: tuple[Any, ...],
        *,
        expect: Callable[[Any], bool],
        expected: str,
        seconds: float | None,
    ) -> None:
        """Do what `modelops_lambda` asks for; raises what the check would."""
        deadline = self._deadline_with_cluster("lambda", seconds)
        self.with_diagnosis(lambda: run_on_each(self._live, deadline, function, args, expect=expect, expected=expected))

    def run_aggregation(
        self, settings: AggregationSettings, *, seconds: float | None, fault: Fault | None = None
    ) -> Mapping[str, object]:
        """Do what `modelops_aggregation` asks for; return what a fault did, and raise what the check would."""
        if fault is not None:
            self._refuse_attached(fault)
        deadline = self._deadline_with_cluster("aggregation", seconds)
        if fault is None:
            self.with_diagnosis(lambda: run_aggregation(settings, self._live, deadline))
            return {}
        return self.with_diagnosis(lambda: faulty_aggregation.run_with(fault, settings, self._live, deadline))

    @contextlib.contextmanager
    def during_test(self, fault: Fault) -> Iterator[DuringJob]:
        """Have a fault happen while the body of a test runs; see `cluster.faults.DuringJob`.

        Raises:
            CellBroken: as `prepare_cluster`.
            NothingToDo: it cannot happen in this cell.
        """
        self._refuse_attached(fault)
        self.prepare_cluster()
        with self._live.during_job(fault) as during:
            yield during

    def _refuse_attached(self, fault: Fault) -> None:
        if self._live.attached:
            raise NothingToDo(f"a marker asks for {fault.name}; {NOT_THERE}")

    def _deadline_with_cluster(self, check_name: str, seconds: float | None) -> Deadline:
        self.prepare_cluster()
        return Deadline(seconds or self.seconds_for(check_name))

    def with_diagnosis(self, run: Callable[[], _T]) -> _T:
        """Call `run`; if it times out, add to the message what hangs and where each process stands."""
        try:
            if self._lifecycle.cluster is not None:
                self._lifecycle.cluster.note_begin()
            return run()
        except RunnerTimedOut:
            raise
        except TimedOut as error:
            if self._lifecycle.cluster is None:
                raise
            self._lifecycle.timed_out = True
            explained = self._lifecycle.cluster.explained(error)
            self._lifecycle.collect_logs()
            raise explained from None
        except Exception:
            raise
        except BaseException:  # such as the time limit of another plugin: what it waited for may still run
            self._lifecycle.timed_out = True
            raise

    def seconds_for(self, check_name: str) -> float:
        return self._seconds.get(check_name, Check.seconds)

    def _run(self, check: Check) -> CheckResult:
        if (needed := self._obstacle(check)) is not None:
            return self._blocked(check, needed.blocked_by or needed.label)
        if check.bundle is not None and check.needs:
            self.prepare()
        if not check.replaced:  # a rolling upgrade starts all workers again after a state that broke
            self._free_workers()
        self._lifecycle.begin()
        self._lifecycle.note_losses(f"before {check.label}")
        began = time.monotonic()

        def run() -> object:
            if self._lifecycle.was_open and needs_start(check, self._checks):
                self.require_cluster()  # the cell may have been closed since
            return check.run(self._live, Deadline(self.seconds_for(check.name)))

        try:
            status, message, data = outcome_of(lambda: self.with_diagnosis(run))
        except CellBroken as broken:  # it used something that it does not list in `needs`
            return self._blocked(check, broken.root)
        finally:
            self._live.progress("")
            self._lifecycle.collect_logs()  # it may have started another process
        status, message = self._with_losses(check, status, message)
        secrets, seconds = self._lifecycle.secrets, time.monotonic() - began
        if status.lets_through:
            self._passed.add(check.label)
        status, message = self._judged(check, status, message)
        return check.ended(
            status,
            secrets.hide(message),
            seconds=seconds,
            reproduce=self._reproduce(self._live.cell, check),
            data=secrets.hide_in(data),
        )

    def _with_losses(self, check: Check, status: Status, message: str) -> tuple[Status, str]:
        """Return status and message with what it means that workers ended meanwhile."""
        if check.main_thread and status is Status.PASSED:  # the user's own, which may end workers on purpose
            self._lifecycle.note_losses(f"during {check.label}")
        lost = self._lifecycle.lost_workers()
        if check.replaced:  # a rolling upgrade ends workers
            return status, message
        return judged(status, message, lost, self._last_on_cluster())

    def _last_on_cluster(self) -> str:
        """Return the label of the check that used the cluster last, and has ended; empty if none has."""
        latest = reversed(self._results.items())
        return next((label for label, one in latest if self.uses_cluster(label) and not one.blocked_by), "")

    def _obstacle(self, check: Check) -> CheckResult | None:
        """Run what has to run before a check; return the first result that blocks it."""
        for label in check.first:
            self.run(label)
        ran_before = [self._results[label] for label in check.after if label in self._results]
        for before in (ran_before, map(self.run, check.needs)):
            for needed in list(before):  # a blocked check starts no cluster
                if not self._lets_through(needed):
                    return needed
        return None

    def _judged(self, check: Check, status: Status, message: str) -> tuple[Status, str]:
        """Return status and message with what is known of the check."""
        today = datetime.datetime.now().astimezone().date()
        for known in self._known:
            if known.matches(self._live.cell.id, check.name, check.label):
                return known.judge(status, message, today)
        return status, message

    def _lets_through(self, result: CheckResult) -> bool:
        """Whether checks that need this one may run; also if it failed only because it is known to be broken."""
        return result.status.lets_through or result.label in self._passed

    def _blocked(self, check: Check, root: str) -> CheckResult:
        cause = self._results[root].message.partition("\n")[0]
        return check.ended(Status.BLOCKED, f"blocked by {root}: {cause}", blocked_by=root)

    def _root(self, result: CheckResult) -> CheckResult:
        return self._results[result.blocked_by or result.label]

    def _leaving(self) -> list[Check]:
        """The checks that leave something in the cluster for later checks and tests."""
        return [check for check in self._checks.values() if check.leaves is not None]

    def _free_workers(self) -> None:
        """Have workers free, and the cluster as it was started, for what comes next."""
        self._lifecycle.renew()
        self._lifecycle.free_workers(Deadline(self.seconds_for("start")))
