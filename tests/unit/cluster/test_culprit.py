"""What hangs, and why, from what processes and Dask said: cases that are hard to bring about in a cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.cluster.culprit import Evidence, culprit
from pytest_modelops.cluster.stacks import Standing

AT = "tcp://127.0.0.1:1"
DASK = "/env/lib/python3.12/site-packages/distributed"
THREAD = "Thread 0x1 (most recent call first):\n"
PYTHON = "/usr/lib/python3.12"
RUNS_LOOP = f'  File "{PYTHON}/asyncio/base_events.py", line 9 in run_forever\n  File "<string>", line 1 in <module>\n'
WAITS = f'{THREAD}  File "/usr/lib/python3.12/selectors.py", line 4 in select\n{RUNS_LOOP}'
IN_LOOP = f'  File "{PYTHON}/asyncio/events.py", line 8 in _run\n{RUNS_LOOP}'
IN_DASK = f'{THREAD}  File "{DASK}/core.py", line 4 in handle_comm\n{IN_LOOP}'
BLOCKED = (
    f'{THREAD}  File "/usr/lib/python3.12/queue.py", line 4 in get\n  File "/w/plugin.py", line 7 in transition\n'
    f'  File "{DASK}/worker.py", line 4 in transition\n  File "/usr/lib/python3.12/asyncio/events.py", line 8 in _run\n'
    f"{RUNS_LOOP}"
)
TASK = f'{THREAD}  File "/w/model.py", line 3 in fit\n  File "{DASK}/worker.py", line 4 in apply_function\n'


def process(name: str = "worker-0", state: str = "sleeping", dump: str = WAITS) -> Standing:
    return Standing(name, 7, state, log=Path("/logs") / name, dump=dump)


def task(key: str, state: str, **facts: Any) -> dict[str, Any]:
    return {
        "key": key,
        "state": state,
        "worker": "",
        "waits_for": [],
        "resources": {},
        "places": [],
        "deaths": 0,
        **facts,
    }


def asked(
    *pending: dict[str, Any],
    worker: dict[str, Any] | None = None,
    resources: dict[str, float] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    entry = {"name": "worker-0", "paused": False, "resources": resources or {}, "processing": [], "tasks": 0, **facts}
    counts = {one["state"]: 1 for one in pending}
    scheduler = {"counts": counts, "pending": list(pending), "locks": [], "workers": {AT: entry}, "story": []}
    return {"scheduler": scheduler, "workers": {AT: worker or {"value": {"tasks": {}, "stacks": {}}}}}


def named(answer: Any, *processes: Standing, deaths: dict[str, list[str]] | None = None) -> str:
    found = processes or (process("scheduler"), process())
    return culprit(Evidence(found, answer, {AT: "worker-0"}, deaths or {}))


SILENT = {"silent": "no answer within 1 s"}


@pytest.mark.parametrize(
    ("dump", "says"),
    [
        (
            WAITS + TASK,
            'a task probably holds Python\'s GIL and keeps its event loop from running, at File "/w/model.py", line 3',
        ),
        (IN_DASK + TASK, "a task probably holds Python's GIL"),
        (BLOCKED + TASK, 'its event loop is blocked, at File "/w/plugin.py", line 7 in transition'),
        (IN_DASK, "its event loop does not run, at "),
        ("", "it printed no stack of its event loop"),
    ],
)
def test_a_worker_that_does_not_answer(dump: str, says: str) -> None:
    answer = asked(worker=SILENT, processing=["sim-1", "sim-2"], tasks=9)
    text = named(answer, process(dump=dump))
    assert text.startswith(f"worker-0 (pid 7) does not answer: {says}"), text
    assert "(tasks sim-1, sim-2 and 7 more are on it)" in text


def test_who_is_stopped_comes_before_all_that_follows_from_it() -> None:
    stopped = [process(name, "stopped (SIGSTOP)", "") for name in ("worker-1", "nanny of worker-1")]
    text = named(asked(task("a", "no-worker"), worker=SILENT), process(), *stopped)
    assert text.startswith(
        "worker-1 (pid 7) is stopped (SIGSTOP) and does nothing; nanny of worker-1 (pid 7) is stopped"
    )


@pytest.mark.parametrize(
    ("deaths", "registered", "is_the_cause"),
    [
        (["exited with status 3"] * 2, "worker-0", True),
        (["a"], "worker-0", False),
        (["exited with status 3"], "", True),
    ],
)
def test_workers_that_died(deaths: list[str], registered: str, *, is_the_cause: bool) -> None:
    text = named(asked(name=registered), deaths={"worker-0": deaths})
    died = f"worker-0 died {'once' if len(deaths) == 1 else '2 times'} since the check began"
    assert text.startswith(died) == is_the_cause, text


@pytest.mark.parametrize(
    ("pending", "resources", "says"),
    [
        (task("a", "no-worker", resources={"GPU": 2}), {"GPU": 1}, "GPU=2, which no worker has (worker-0 has GPU=1)"),
        (task("a", "no-worker", places=["tcp://gone:1"]), {}, "it may only run on tcp://gone:1, and no such worker"),
        (task("a", "no-worker"), {}, "none that is registered meets what it needs"),
    ],
)
def test_a_task_that_no_worker_may_run(pending: dict[str, Any], resources: dict[str, float], says: str) -> None:
    text = named(asked(pending, task("b", "waiting", waits_for=["a"]), resources=resources))
    assert text.startswith("no worker can run task a: "), text
    assert says in text
    assert text.endswith("b waits for it.")


def test_no_worker_at_all() -> None:
    answer = asked(task("a", "no-worker"))
    answer["scheduler"]["workers"] = {}
    assert "no worker is registered" in named(answer, process("scheduler"))


def test_a_worker_that_is_not_registered() -> None:
    answer = asked()
    answer["scheduler"]["workers"] = {}
    text = named(
        answer,
        process("scheduler"),
        process(dump='Thread 0x1 (most recent call first):\n  File "/w/licence.py", line 3 in ask\n'),
    )
    assert text == 'worker-0 (pid 7) is not registered with the scheduler, at File "/w/licence.py", line 3 in ask.'


def test_tasks_that_run_or_do_not() -> None:
    frames = [
        f'  File "{DASK}/worker.py", line 4, in apply_function\n\tf()',
        '  File "/w/model.py", line 3, in fit\n\tx()',
    ]
    one = task("fit-1", "processing", worker=AT)
    running = {"value": {"tasks": {"fit-1": "executing"}, "stacks": {"fit-1": frames}}}
    assert named(asked(one, worker=running)) == (
        'task fit-1 on worker-0 has not ended, at File "/w/model.py", line 3, in fit.'
    )
    between = {"value": {"tasks": {"fit-1": "fetch"}, "stacks": {}}}
    assert named(asked(one, worker=between)) == (
        "1 task is pending and no worker runs any of them. Task fit-1: the scheduler has it as 'processing' on "
        "worker-0, worker-0 as 'fetch'."
    )
    assert named(asked()).startswith("what hangs is unknown: ")


def test_a_scheduler_that_could_not_be_asked() -> None:
    processes = process("scheduler", "running", BLOCKED), process(), process("agent")
    text = named({"silent": "the scheduler did not answer"}, *processes)
    assert text.startswith("the agent (the cell's client) could not ask the scheduler: the scheduler did not answer; ")
    assert 'scheduler (pid 7) is running, at File "/w/plugin.py", line 7 in transition' in text
