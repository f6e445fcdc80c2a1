"""What checks conclude from what they were reported; no process runs."""

from __future__ import annotations

import dataclasses
import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.version import Version

from pytest_modelops import checks
from pytest_modelops.checks import aggregation, versions
from pytest_modelops.checks.base import Check
from pytest_modelops.cluster.stacks import innermost
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.config.variables import Secrets
from pytest_modelops.environments.base import Lock
from pytest_modelops.errors import CheckFailed, TimedOut, WrongInput
from pytest_modelops.matrix.cell import Cell, PythonVersion, Role, Rolling, Versions
from pytest_modelops.session.run import short_id
from tests.names import CELL_CHECKS, NEEDED_BY_UPGRADES

HERE = Versions(PythonVersion.parse("3.12"), Version("2024.10.0"))
PACKAGES = {
    "dask": "2024.10.0",
    "distributed": "2024.10.0",
    "cloudpickle": "3.1.2",
    "msgpack": "1.1.0",
    "tornado": "6.5",
}


def lock(python: str = "3.12.1", **packages: str) -> Lock:
    return Lock(
        versions=HERE,
        python=Version(python),
        interpreter="/python",
        requirements="",
        packages={name: Version(version) for name, version in {**PACKAGES, **packages}.items()},
        resolved=dt.datetime(2024, 11, 1, tzinfo=dt.timezone.utc),
    )


def facts(python: str = "3.12.1", **other: Any) -> dict[str, Any]:
    return {
        "python": python,
        "executable": "/python",
        "packages": PACKAGES,
        "variables": {},
        "config": {},
        "settings": {"threads": 1, "nanny": True},
        **other,
    }


ADDRESS = "tcp://127.0.0.1:1"
NO_SECRETS = Secrets()


def judge(
    *,
    client: dict[str, Any] | None = None,
    worker: dict[str, Any] | None = None,
    missing: bool = False,
    variables: dict[str, str] | None = None,
    skew: bool = False,
    secrets: Secrets = NO_SECRETS,
) -> None:
    """The check `versions`, on a cell whose processes say these things."""
    reported = {
        "client": client or facts(),
        "scheduler": facts(),
        "workers": {} if missing else {ADDRESS: worker or facts()},
    }
    cluster = SimpleNamespace(
        facts=lambda _: reported,
        addresses={ADDRESS: "worker-0"},
        settings=SimpleNamespace(threads=1, nanny=True, made=None, worker_variables=variables or {}, secrets=secrets),
    )
    cell = Cell.uniform(HERE)
    environments = {HERE: SimpleNamespace(lock=lock(), faults=(), identity="")}
    if skew:
        other = dataclasses.replace(HERE, python=PythonVersion.parse("3.13"))
        cell = dataclasses.replace(cell, worker=other)
        environments[other] = SimpleNamespace(lock=lock("3.13.0"), faults=(), identity="")
    fake: Any = SimpleNamespace(cell=cell, cluster=cluster, environments=environments, observed={})
    versions.run(fake, fake)


THE_CHECKS = ("resolve", "install", "start", "versions", "lambda", "aggregation")


def test_versions_that_are_as_asked_pass() -> None:
    judge()


def test_a_declared_skew_passes_when_each_role_runs_its_own() -> None:
    judge(worker=facts("3.13.0"), skew=True)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ({"worker": facts("3.12.7")}, "asked for Python 3.12.1, runs 3.12.7 (/python)"),
        (
            {"worker": facts(packages={**PACKAGES, "msgpack": "1.0.8"})},
            f"worker-0 ({ADDRESS}): asked for msgpack 1.1.0, runs 1.0.8",
        ),
        ({"worker": facts(packages={**PACKAGES, "tornado": None})}, "asked for tornado 6.5, runs None"),
        ({"client": facts("3.11.2")}, "client: asked for Python 3.12.1, runs 3.11.2"),
        ({"client": facts("3.11.2")}, f"Python differs: client 3.11.2, scheduler 3.12.1, worker-0 ({ADDRESS}) 3.12.1"),
        ({"variables": {"A": "1"}}, "asked for the variable A='1', has None"),
        ({"worker": facts(variables={"A": "2"}), "variables": {"A": "1"}}, "asked for the variable A='1', has '2'"),
        (
            {"worker": facts(config={"distributed.comm.retry.count": {"asked": "3", "actual": "0"}})},
            "asked for Dask's distributed.comm.retry.count = 3, has 0",
        ),
        ({"worker": facts(settings={"threads": 2, "nanny": True})}, "asked for threads = 1, has 2"),
        ({"worker": facts(settings={"threads": 1, "nanny": False})}, "asked for nanny = True, has False"),
        ({"worker": {"error": "ValueError: no"}}, f"worker-0 ({ADDRESS}): ValueError: no"),
        ({"missing": True}, "it is not registered with the scheduler any more"),
    ],
)
def test_versions_that_are_not_as_asked_are_reported_with_both(case: dict[str, Any], text: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        judge(**case)
    assert text in str(caught.value)


def test_silence_is_a_failure() -> None:
    with pytest.raises(TimedOut, match="did not answer"):
        judge(worker={"silent": "no answer within 30 s"})


def run_nothing(*_: Any) -> None:
    """A check that does nothing."""


def check(name: str, *needs: str) -> Check:
    return Check(name=name, needs=needs, run=run_nothing)


def test_the_checks_is_in_order_as_it_stands() -> None:
    assert checks.in_order(checks.CELL_CHECKS) == list(checks.CELL_CHECKS)


def test_checks_come_after_what_they_need() -> None:
    names = [one.name for one in checks.in_order([check("c", "b"), check("b", "a"), check("a"), check("d")])]
    assert names == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("check_names", "text"),
    [
        ([check("a", "nothing")], "'a' needs 'nothing', which is not a check; there are a"),
        ([check("a"), check("a")], "a name is used twice"),
        ([check("a", "b"), check("b", "a")], "a → b → a"),
    ],
)
def test_needs_that_cannot_be_met_are_wrong_input(check_names: list[Check], text: str) -> None:
    with pytest.raises(WrongInput, match=text):
        checks.in_order(check_names)


def test_no_two_parameter_sets_have_the_same_sum() -> None:
    settings = AggregationSettings(params=50, replicates=20)
    assert len({aggregation.expected_sum(param, settings) for param in range(50)}) == 50


@pytest.mark.parametrize(
    ("nodeid", "short"),
    [
        ("tests/a.py::test_b[py3.12-dask1]", "tests/a.py::test_b"),
        ("tests/a.py::test_b[py3.12-dask1-x]", "tests/a.py::test_b[x]"),
        ("tests/a.py::test_b[x-py3.12-dask1-y]", "tests/a.py::test_b[x-y]"),
        ("tests/a.py::test_b[py3.12-dask1.5]", "tests/a.py::test_b[py3.12-dask1.5]"),
    ],
)
def test_a_tests_name_without_its_cell(nodeid: str, short: str) -> None:
    assert short_id(nodeid, "py3.12-dask1") == short


DUMP = """
2026-11-22 distributed.core - INFO - something else
Thread 0x1 (most recent call first):
  File "/lib/threading.py", line 1 in wait
  File "/lib/queue.py", line 2 in get

Current thread 0x2 (most recent call first):
  File "<shipped_lambda>", line 1 in <lambda>
  File "/w/worker.py", line 2 in apply_function
  File "/w/1.py", line 3 in a
  File "/w/2.py", line 4 in b
  File "/w/3.py", line 5 in c
  File "/w/4.py", line 6 in d
  File "/w/5.py", line 7 in e
"""


def test_of_stacks_the_innermost_frames_of_busy_threads_are_shown() -> None:
    lines = innermost(DUMP)
    assert lines[0].startswith("Current thread 0x2")
    assert lines[1].endswith("line 1 in <lambda>")
    assert not any("in e" in line for line in lines)
    assert lines[-1] == "1 idle thread"


def test_of_a_child_process_the_main_thread_is_shown_up_to_the_users_code() -> None:
    main = f"Current thread 0x1 (most recent call first):\n{WAITS}"
    main = main.replace("read_0", "wait") + '  File "/srv/engine.py", line 7 in <module>\n'
    other = "Thread 0x2 (most recent call first):\n" + '  File "/usr/lib/python3.12/queue.py", line 1 in get\n'
    lines = innermost(other + main, of_child=True)
    assert lines[0].startswith("Current thread 0x1")
    assert lines[-2:] == ['  File "/srv/engine.py", line 7 in <module>', "1 idle thread"]
    assert innermost(other + main)[-1] == "2 idle threads"
    runs = '  File "/lib/selectors.py", line 1 in select\n  File "/lib/subprocess.py", line 2'
    imports = (
        f'Thread 0x3 (most recent call first):\n{runs} in communicate\n  File "/srv/preload.py", line 3 in <module>\n'
    )
    assert innermost(other + imports)[-2:] == ['  File "/srv/preload.py", line 3 in <module>', "1 idle thread"]


DASK = "/env/lib/python3.12/site-packages/distributed"
WAITS = "".join(f'  File "/usr/lib/python3.12/http/client.py", line {line} in read_{line}\n' for line in range(8))


@pytest.mark.parametrize(
    "caller",
    [
        'worker.py", line 9 in apply_function_simple',
        'worker.py", line 9 in _run_task',
        'worker.py", line 9 in plugin_add',
    ],
)
@pytest.mark.parametrize("waits", ["", WAITS], ids=["near", "far"])
def test_a_thread_is_not_idle_if_the_users_code_waits_in_it(caller: str, waits: str) -> None:
    user = '  File "/env/lib/python3.12/site-packages/acme/runtime.py", line 7 in run'
    lines = innermost(
        "Thread 0x1 (most recent call first):\n"
        f'  File "/usr/lib/python3.12/threading.py", line 1 in wait\n{waits}{user}\n'
        f'  File "{DASK}/{caller}\n'
        f'  File "{DASK}/threadpoolexecutor.py", line 2 in _worker\n\n'
        "Thread 0x2 (most recent call first):\n"
        f'  File "/usr/lib/python3.12/queue.py", line 1 in get\n'
        f'  File "{DASK}/threadpoolexecutor.py", line 2 in _worker\n'
    )
    assert user in lines
    assert lines[-1] == "1 idle thread"


@pytest.mark.parametrize(
    ("check_name", "text"),
    [
        ("x", "'x' is not a pytest_modelops.checks.base.Check"),
        (Check(name="jsön x]", run=run_nothing), "a name that is not lower-case letters, digits and -"),
        (Check(name="a", run=run_nothing, needs="start"), "needs that are not a tuple of names"),  # type: ignore[arg-type]
        (Check(name="a", run="nothing"), "a run that cannot be called"),  # type: ignore[arg-type]
        (Check(name="a", run=run_nothing, seconds=-1), "a deadline that is not a number of seconds above 0"),
    ],
)
def test_what_is_no_check_is_wrong_input(check_name: Any, text: str) -> None:
    with pytest.raises(WrongInput, match=text):
        checks.in_order([*checks.CELL_CHECKS, check_name])


def test_versions_shows_no_secret() -> None:
    secrets = Secrets.of({"API_TOKEN": "tok-4711"}, {})
    for has, shown in (("other-tok", "another value"), (None, "none")):
        with pytest.raises(CheckFailed) as failed:
            judge(worker=facts(variables={"API_TOKEN": has}), variables={"API_TOKEN": "tok-4711"}, secrets=secrets)
        assert f"API_TOKEN=[…], has {shown}" in str(failed.value)
        assert "tok" not in str(failed.value)


def test_an_upgrade_has_its_own_states_and_what_they_need() -> None:
    orders = [(Role.WORKER, Role.CLIENT, Role.SCHEDULER), (Role.WORKER, Role.SCHEDULER, Role.CLIENT)]
    user = Check(name="sqlite", run=lambda *_: None, needs=("start",))
    every = checks.in_order([*checks.all_checks([], orders=orders), user])
    plain = Cell.uniform(HERE)
    upgrade = dataclasses.replace(plain, rolling=Rolling(Versions(HERE.python, Version("2026.8.0")), orders[1]))
    states = ["rolling[worker]", "rolling[worker+scheduler]", "rolling[worker+scheduler+client]"]
    assert [check.label for check in checks.of_cell(every, plain)] == [*CELL_CHECKS, "sqlite"]
    assert [check.label for check in checks.of_cell(every, upgrade)] == [*NEEDED_BY_UPGRADES, *states]
    assert [check.first for check in checks.of_cell(every, upgrade)][-2:] == [(states[0],), (states[1],)]
    assert len({check.label for check in every}) == len(every) == len(CELL_CHECKS) + 6


def test_the_checks_of_every_cell() -> None:
    assert CELL_CHECKS == THE_CHECKS
