"""`versions`: every process runs what was asked for, as it says itself, and the roles agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.matrix.cell import Role, Versions

Facts = Mapping[str, Any]


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any] | None:
    """Ask every process of every role, and compare with what was asked for, installed and set."""
    cell.observed = cell.cluster.facts(deadline)
    reply = dict(processes(cell.observed, cell.cluster.addresses))
    silent = [f"{name}: {facts['silent']}" for name, (_, facts) in reply.items() if "silent" in facts]
    if silent:
        raise TimedOut("asked for their versions, these did not answer:\n" + "\n".join(silent))
    wrong = [f"{name}: {facts['error']}" for name, (_, facts) in reply.items() if "error" in facts]
    if wrong:
        raise CheckFailed("asked for their versions, these answered with an error:\n" + "\n".join(wrong))
    differences = []
    for name, (role, facts) in reply.items():
        differences += [f"{name}: {text}" for text in against_lock(facts, cell.environments[cell.cell[role]].lock)]
        if role is Role.WORKER:
            differences += [f"{name}: {text}" for text in against_settings(facts, cell)]
        differences += [f"{name}: {text}" for text in against_request(facts, cell.cell[role])]
    if not cell.cell.skew:
        differences += between_roles({name: facts for name, (_, facts) in reply.items()})
    environments = [cell.environments[cell.cell[role]] for role in Role]
    differences += dict.fromkeys(fault for environment in environments for fault in environment.faults)
    if differences:
        raise CheckFailed("what runs is not what was asked for:\n" + "\n".join(differences))
    identities = {
        role.value: cell.environments[cell.cell[role]].identity
        for role in Role
        if cell.environments[cell.cell[role]].identity
    }
    return {"images": identities} if identities else None


def processes(observed: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, tuple[Role, Facts]]]:
    """Every process by name, with its role and what it said; a worker that is not there said nothing."""
    yield "client", (Role.CLIENT, observed["client"])
    yield "scheduler", (Role.SCHEDULER, observed["scheduler"])
    for address, name in names.items():
        facts = observed["workers"].get(address, {"error": "it is not registered with the scheduler any more"})
        yield f"{name} ({address})", (Role.WORKER, facts)


def against_lock(facts: Facts, lock: Lock) -> Iterator[str]:
    """Where a process runs another Python or package than was installed for it."""
    if Version(facts["python"]) != lock.python:
        yield f"asked for Python {lock.python}, runs {facts['python']} ({facts['executable']})"
    for package, version in facts["packages"].items():
        asked = lock.packages.get(package)
        if asked is not None and not same_version(version, asked):
            yield f"asked for {package} {asked}, runs {version}"


def same_version(reply: str | None, asked: Version) -> bool:
    """Whether a process's word for a version is that version."""
    try:
        return reply is not None and Version(reply) == asked
    except InvalidVersion:
        return False


def against_request(facts: Facts, versions: Versions) -> Iterator[str]:
    """Where a process runs another Python or Dask than its role was planned with."""
    if not versions.python.admits(Version(facts["python"])):
        yield f"planned with Python {versions.python}, runs {facts['python']} ({facts['executable']})"
    reply = facts["packages"].get("distributed")
    if versions.dask is not None and not same_version(reply, versions.dask):
        yield f"planned with Dask {versions.dask}, runs {reply}"


def against_settings(facts: Facts, cell: CheckedCell) -> Iterator[str]:
    """Where a worker's settings, variables or Dask configuration are not those that were asked for."""
    asked = cell.cluster.settings
    for setting, value in {"threads": asked.threads, "nanny": asked.nanny}.items():
        if facts["settings"][setting] != value:
            yield f"asked for {setting} = {value}, has {facts['settings'][setting]}"
    for name, text in asked.worker_variables.items():
        if facts["variables"].get(name) != text:
            yield f"asked for the variable {name}={text!r}, has {facts['variables'].get(name)!r}"
    for key, values in facts["config"].items():
        if values["asked"] != values["actual"]:
            yield f"asked for Dask's {key} = {values['asked']}, has {values['actual']}"


def between_roles(reply: Mapping[str, Facts]) -> Iterator[str]:
    """Where processes that should all run the same do not."""
    for label, of_process in {
        "Python": {name: facts["python"] for name, facts in reply.items()},
        **{
            package: {name: facts["packages"].get(package) for name, facts in reply.items()}
            for package in reply["client"]["packages"]
        },
    }.items():
        if len(set(of_process.values())) > 1:
            yield f"{label} differs: " + ", ".join(f"{name} {version}" for name, version in of_process.items())


CHECK = Check(name="versions", run=run, needs=("start",), seconds=30, summary="every process runs what was asked for")
