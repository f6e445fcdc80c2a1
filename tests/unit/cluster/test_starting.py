"""Which processes are forked, from which they are forked, and what is reported about the others."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_modelops.backends.templates import Templates
from pytest_modelops.cluster import starting
from pytest_modelops.config.model import ClusterSettings
from pytest_modelops.matrix.cell import Role

SETTINGS = ClusterSettings(workers=2, threads=1, nanny=True, worker_variables={}, worker_arguments=(), start="fork")
ALONE = "exec: no other process has its interpreter and variables"


class Processes:
    """Stands for `HostProcesses`; each process to fork from has a number."""

    def __init__(self, obstacle: str = "") -> None:
        self.prepared: list[tuple[str, Mapping[str, str]]] = []
        self.ended: list[int] = []
        self._obstacle = obstacle

    def prepare(self, python: str, modules: object, *, env: Mapping[str, str], cwd: Path, log: Path) -> int:
        self.prepared.append((python, env))
        return len(self.prepared)

    def obstacle(self, template: int, seconds: float) -> str:
        return self._obstacle

    def signal(self, pid: int, number: int) -> bool:
        self.ended.append(pid)
        return True


def start(processes: Processes, settings: ClusterSettings, pythons: Mapping[Role, str]) -> tuple[Any, dict[str, int]]:
    """Prepare and start all; return the sandbox, and what each process was forked from."""
    forking = Templates(processes, lambda _, own: own, logs=Path(), directory=Path())  # type: ignore[arg-type]
    sandbox: Any = types.SimpleNamespace(forking=forking, nannies_fork=True)
    environments: Any = {role: types.SimpleNamespace(python=pythons[role]) for role in Role}
    starting.prepare_to_fork(sandbox, environments, settings, seconds=1)
    found = {}
    for name in ("scheduler", "worker-0", "worker-1", "agent"):
        found[name] = forking.take(name)
        forking.started(name)
    return sandbox, found


@pytest.mark.parametrize(
    ("changes", "worker", "forked_from", "started"),
    [
        ({}, "3.12", [1, 1, 1, 1], ["fork"] * 4),
        ({"start": "exec"}, "3.12", [0] * 4, ["exec"] * 4),
        ({}, "3.13", [1, 2, 2, 1], ["fork"] * 4),  # a skew cell
        ({"worker_variables": {"A": "1"}}, "3.12", [1, 2, 2, 1], ["fork"] * 4),
        ({"client_variables": {"A": "1"}}, "3.12", [1, 1, 1, 0], ["fork", "fork", "fork", ALONE]),
        ({"nanny": False, "start": "fork-workers"}, "3.12", [1, 1, 1, 1], ["fork"] * 4),
        ({"start": "fork-workers"}, "3.12", [1, 1, 1, 1], ["fork", "fork-workers", "fork-workers", "fork"]),
    ],
)
def test_processes_with_interpreter_and_variables_in_common_are_forked(
    changes: Mapping[str, Any], worker: str, forked_from: list[int], started: list[str]
) -> None:
    processes, settings = Processes(), dataclasses.replace(SETTINGS, **changes)
    pythons = {Role.CLIENT: "3.12", Role.SCHEDULER: "3.12", Role.WORKER: worker}
    sandbox, found = start(processes, settings, pythons)
    assert list(found.values()) == forked_from
    assert [how for _, how in starting.started(sandbox, settings)] == started
    assert list(starting.faults(sandbox)) == []
    assert sorted(processes.ended) == sorted(set(forked_from) - {0}), "none stays when all are forked"


def test_workers_without_nannies_are_executed() -> None:
    settings = dataclasses.replace(SETTINGS, nanny=False)
    sandbox, found = start(Processes(), settings, dict.fromkeys(Role, "3.12"))
    assert list(found.values()) == [1, 0, 0, 1]
    how = dict(starting.started(sandbox, settings))
    assert how["worker-0"] == how["worker-1"] == "exec: workers are not forked, and it has no nanny"


def test_an_obstacle_is_reported_once() -> None:
    sandbox, found = start(Processes("its import started threads"), SETTINGS, dict.fromkeys(Role, "3.12"))
    assert set(found.values()) == {0}
    assert {how for _, how in starting.started(sandbox, SETTINGS)} == {"exec: its import started threads"}
    names = "agent, scheduler, worker-0, worker-1"
    assert list(starting.faults(sandbox)) == [f"{names}: executed, not forked: its import started threads"]


def test_only_nannies_that_can_be_forked_fork() -> None:
    settings = dataclasses.replace(SETTINGS, start="fork-workers", worker_variables={"A": "1"})
    name = "DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"
    able: Any = types.SimpleNamespace(forking=None, nannies_fork=True)  # containers
    unable: Any = types.SimpleNamespace(forking=None, nannies_fork=False)
    assert starting.with_forking_nannies(settings, able).worker_variables == {name: "fork", "A": "1"}
    assert starting.with_forking_nannies(settings, unable) is settings
    executed = "exec: only the backend `process` forks it, and only on Linux"
    assert {how for _, how in starting.started(unable, settings)} == {executed}
    assert [how for _, how in starting.started(able, settings)] == [
        *(executed, "fork-workers", "fork-workers", executed)
    ]
    by_hand = dataclasses.replace(settings, worker_variables={name: "spawn"})
    assert {how for _, how in starting.started(able, by_hand)} == {executed}
