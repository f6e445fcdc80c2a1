"""`rolling`: the cell is upgraded while it runs, one role at a time, and each state between works.

A state is green if

- all processes of the replaced role run the new versions, and those of no other role do,
- a job that began before the replacement completes, and every number is right. When the scheduler is replaced, Dask
  forgets the job, so it has to end with an error instead of hanging,
- functions run on each worker, and a job that is submitted afterwards completes.
"""

from __future__ import annotations

import contextlib
import copy
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping

from pytest_modelops.checks import aggregation, lambdas, versions
from pytest_modelops.checks.base import Check, CheckedCell, role_differences
from pytest_modelops.checks.lambdas import end_of
from pytest_modelops.cluster.cluster import Cluster
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, TimedOut
from pytest_modelops.matrix.cell import Role
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.facts import Progress, RunningReport
from pytest_modelops.shipping import ship

NAME = "rolling"
_JOB = AggregationSettings(params=20, replicates=20)
"""The job that goes on during a replacement."""
_REPLICATES = _JOB.params * _JOB.replicates
_BEGUN = _REPLICATES // 10
"""How many replicates are done before the replacement begins."""
_BEGIN_SECONDS = 30.0
_ANSWER_SECONDS = 5.0
"""How long the agent has to say what became of a job that is over."""
_STEP_SECONDS = 1.0
"""How long the job is awaited before it is looked whether a process has ended."""
_LAST_SECONDS = 20.0
"""How long what comes after the running job has at least, if that hangs."""


def simulate_slowly(param: int, replicate: int, seconds: float) -> int:
    """Make one replicate: a number that no other replicate has."""
    import time

    time.sleep(seconds)
    return param * 1_000_003 + replicate * replicate


def total(param: int, replicates: list[int]) -> dict[str, int]:
    """Return the sum of a parameter set's replicates."""
    return {"param": param, "sum": sum(replicates), "replicates": len(replicates)}


def run(replaced: tuple[Role, ...], cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Replace the last of these roles while a job goes on, and check the state. The others have been replaced before.

    Returns:
        `versions` of each role; `replaced_in` seconds; when the scheduler was replaced, what became of the `client` and
        which workers were `started_again`; of the `running_job`, how many replicates were done `before`, `during` and
        `after` the replacement, and the error with which it `ended`; `job`, those of the job afterwards.
    """
    role, replacing = replaced[-1], cell.cluster.replacing
    for earlier in replaced[len(replacing.replaced) : -1]:  # the check of that state ended before
        replacing.sound = False
        with contextlib.suppress(ModelopsError):
            replacing.replace(earlier, cell.environments[cell.cell.upgraded(earlier)], deadline)
    if not replacing.sound:
        cell.progress("starting client and workers again")
        replacing.renew(deadline)
    state = _in_state(cell, replaced)
    job = _Job(cell.cluster, deadline) if replacing.sound else None
    replacing.sound = False
    figures: dict[str, object] = {"running_job": None}
    with _said_of(cell, state, role, figures):
        if job is not None:
            cell.progress(f"running a job while the {role.value} is replaced")
            job.await_begun(deadline)
        began = time.monotonic()
        replacing.replace(role, cell.environments[state.cell[role]], deadline)
        figures["replaced_in"] = round(time.monotonic() - began, 3)
        if role is Role.SCHEDULER:
            figures |= {"client": replacing.client, "started_again": replacing.started_again}
        if job is not None:
            figures["running_job"] = job.end(role, state, deadline)
        replacing.end_former()
        figures |= _check(state, deadline)
    replacing.sound = True
    return figures


def _in_state(cell: CheckedCell, replaced: tuple[Role, ...]) -> CheckedCell:
    """Return the cell as other checks are to see it when these roles have been replaced."""
    state = copy.copy(cell)
    state.cell = cell.cell.after(replaced)
    return state


def _check(state: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Check versions, functions and a new job in a state."""
    state.cluster.await_workers(deadline)
    versions.run(state, deadline)
    lambdas.run(state, deadline)
    job = aggregation.run_with(state.aggregation, state, deadline)
    environments = {role.value: state.environments[state.cell[role]].lock for role in Role}
    reported = {name: f"Python {lock.python}, Dask {lock.packages.get('dask')}" for name, lock in environments.items()}
    return {"versions": reported, "job": job}


@contextlib.contextmanager
def _said_of(cell: CheckedCell, state: CheckedCell, role: Role, figures: Mapping[str, object]) -> Iterator[None]:
    """Have a message begin with what was replaced, and say how the roles differ; have the report show figures."""
    try:
        yield
    except ModelopsError as error:
        old, new = cell.environments[cell.cell[role]].lock, cell.environments[cell.cell.upgraded(role)].lock
        changes = [
            f"{name} {before} → {after}"
            for name, before, after in (
                ("Python", old.python, new.python),
                ("Dask", old.packages.get("dask"), new.packages.get("dask")),
            )
            if before != after
        ]
        differences = role_differences(state)
        rest = f"\n{differences}" if differences and differences not in str(error) else ""
        what = "the workers were" if role is Role.WORKER else f"the {role.value} was"
        error.figures = {**figures, **error.figures}
        error.args = (f"{what} replaced ({', '.join(changes)}): {error}{rest}", *error.args[1:])
        raise


class _Job:
    """A job that a client has begun, and that is not complete before `end`."""

    def __init__(self, cluster: Cluster, deadline: Deadline) -> None:
        self._agent, self._replacing = cluster.agent, cluster.replacing
        self._before: Progress = {"finished": 0, "error": ""}
        self._agent.call(
            "begin_job",
            modules={"simulate": ship(simulate_slowly).module, "aggregate": ship(total).module},
            params=_JOB.params,
            replicates=_JOB.replicates,
            run=secrets.token_hex(4),
            threads=cluster.settings.workers * cluster.settings.threads,
            seconds=deadline.remaining,
            deadline=deadline,
        )

    def await_begun(self, deadline: Deadline) -> None:
        """Wait until a part of it is done."""

        def begun() -> bool:
            self._before = self._agent.call("progress", deadline=deadline)
            if error := self._before["error"]:
                raise CheckFailed(f"the job that was to run meanwhile failed before anything was replaced: {error}")
            return self._before["finished"] >= _BEGUN

        if not deadline.at_most(_BEGIN_SECONDS).until(begun, every=0.1):
            raise TimedOut(
                f"the job that was to run meanwhile did not begin: {self._before['finished']} of {_BEGUN} tasks were "
                f"done within {_BEGIN_SECONDS:g} s, before anything was replaced"
            )

    def end(self, role: Role, state: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
        """Let it end, and judge how it did.

        Raises:
            CheckFailed: it failed, lost results, or a number is wrong.
            TimedOut: it neither completed nor failed.
        """
        state.progress("waiting for the job that went on")
        seconds = max(deadline.remaining - _LAST_SECONDS, deadline.remaining / 2)
        try:
            during: Progress = self._agent.call("progress", deadline=Deadline(_ANSWER_SECONDS))
            report = self._ended(role, Deadline(seconds))
        except ProcessExited as error:
            if role is Role.SCHEDULER:  # the client has ended with it, and was started again
                return {"before": self._before["finished"], "during": 0, "after": 0, "ended": str(error)}
            raise
        figures = {
            "before": self._before["finished"],
            "during": max(0, during["finished"] - self._before["finished"]),
            "after": max(0, report["finished"] - during["finished"]),
            "ended": report["error"],
        }
        results = {name: plain.unpack(one["value"]) for name, one in report["results"].items() if "value" in one}
        done = (
            f"{report['finished']} of {_REPLICATES} replicates and {len(results)} of {_JOB.params} aggregates were done"
        )
        if role is Role.SCHEDULER and report["error"]:
            return figures  # Dask's scheduler keeps nothing, and the client knows
        if report["error"]:
            lines = [f"the job that ran meanwhile failed; {done}. {role_differences(state)}".rstrip(), report["error"]]
            raise _with(CheckFailed("\n".join([*lines, *_evidence(report, state)])), figures)
        if len(results) < _JOB.params:
            lines = [
                f"the job that ran meanwhile hangs: it neither completed nor failed within {seconds:.0f} s; {done}."
            ]
            raise _with(TimedOut("\n".join([*lines, *_evidence(report, state)])), figures)
        if wrong := list(aggregation.wrong(results, _JOB)):
            raise _with(
                CheckFailed(f"the job that ran meanwhile completed with {len(wrong)} wrong aggregates"), figures
            )
        return figures

    def _ended(self, role: Role, deadline: Deadline) -> RunningReport:
        """Let it end; return how it did, or how far it is when the deadline has passed, with at least one look."""

        def look() -> RunningReport:
            step = min(_STEP_SECONDS, deadline.remaining)
            answering = Deadline(step + _ANSWER_SECONDS)  # also if the replacement took all the time
            report: RunningReport = self._agent.call("finish_job", seconds=step, deadline=answering)
            if role is not Role.SCHEDULER and not report["error"]:  # with that, all may end
                self._replacing.raise_if_exited()
            return report

        def is_over(report: RunningReport) -> bool:
            done = [name for name, one in report["results"].items() if "pending" not in one]
            return bool(report["error"]) or len(done) == _JOB.params

        return deadline.until(look, every=0, done=is_over)


def _with(error: ModelopsError, running_job: Mapping[str, object]) -> ModelopsError:
    error.figures = {"running_job": running_job}
    return error


def _evidence(report: RunningReport, state: CheckedCell) -> Iterator[str]:
    """Yield lines about the first tasks that failed, the workers that died, and what is still to do."""
    yield from (f"{key}: {error}" for key, error in list(report["failed"].items())[1:])
    failed = next((outcome for outcome in report["results"].values() if "error" in outcome), None)
    if failed is not None:
        yield from end_of(failed["traceback"])
    yield from lambdas.deaths(state.cluster, state.cluster.names)
    if report["processing"] is None:
        yield "The scheduler does not answer."
    held = {worker: count for worker, count in (report["processing"] or {}).items() if count}
    yield from (f"{state.cluster.with_names(worker)} holds {count} tasks" for worker, count in held.items())


def checks(orders: Iterable[tuple[Role, ...]]) -> list[Check]:
    """Return the checks of all states of these orders, each once."""
    states = dict.fromkeys(order[: count + 1] for order in orders for count in range(len(order)))
    found: dict[tuple[Role, ...], Check] = {}
    for state in sorted(states, key=len):
        before = found.get(state[:-1])
        found[state] = _check_of(state, (before.label,) if before is not None else ())
    return list(found.values())


def _check_of(replaced: tuple[Role, ...], first: tuple[str, ...]) -> Check:
    return Check(
        name=NAME,
        variant="+".join(role.value for role in replaced),
        replaced=replaced,
        run=lambda cell, deadline: run(replaced, cell, deadline),
        needs=("versions", "aggregation"),
        first=first,
        seconds=180,
        summary="with some roles upgraded, a running job completes and a new one works",
    )
