"""`versions`: every process runs what was asked for, as it says itself, and the roles agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from packaging.version import InvalidVersion, Version

from pytest_modelops.checks.base import Check, CheckedCell
from pytest_modelops.config.variables import HIDDEN
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.matrix.cell import Role, Versions
from pytest_modelops.remote.shared.facts import ClusterFacts, ProcessFacts


def run(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object] | None:
    """Ask every process of every role, and compare with what was asked for, installed and set."""
    observed = cell.observed = cell.cluster.facts(deadline)
    reported = dict(processes(observed, cell.cluster.addresses))
    silent = [f"{name}: {facts['silent']}" for name, (_, facts) in reported.items() if "silent" in facts]
    if silent:
        raise TimedOut("asked for their versions, these did not answer:\n" + "\n".join(silent))
    wrong = [f"{name}: {facts['error']}" for name, (_, facts) in reported.items() if "error" in facts]
    if wrong:
        raise CheckFailed("asked for their versions, these answered with an error:\n" + "\n".join(wrong))
    environments = {role: cell.environments[cell.cell[role]] for role in Role}
    differences = []
    for name, (role, facts) in reported.items():
        found = [*against_lock(facts, environments[role].lock), *against_request(facts, cell.cell[role])]
        if role is Role.WORKER:
            found += against_settings(facts, cell)
        differences += [f"{name}: {text}" for text in found]
    if not cell.cell.skew:
        differences += between_roles({name: facts for name, (_, facts) in reported.items()})
    differences += dict.fromkeys(fault for environment in environments.values() for fault in environment.faults)
    if differences:
        raise CheckFailed("what runs is not what was asked for:\n" + "\n".join(differences))
    images = {role.value: environment.identity for role, environment in environments.items() if environment.identity}
    return {"images": images} if images else None


def processes(observed: ClusterFacts, names: Mapping[str, str]) -> Iterator[tuple[str, tuple[Role, ProcessFacts]]]:
    """Yield every process by name, with its role and its facts; a worker that left has an error instead."""
    yield "client", (Role.CLIENT, observed["client"])
    yield "scheduler", (Role.SCHEDULER, observed["scheduler"])
    for address, name in names.items():
        gone: ProcessFacts = {"error": "it is not registered with the scheduler any more"}
        yield f"{name} ({address})", (Role.WORKER, observed["workers"].get(address, gone))


def against_lock(facts: ProcessFacts, lock: Lock) -> Iterator[str]:
    """Yield where a process runs another Python or package than was installed for it."""
    if Version(facts["python"]) != lock.python:
        yield f"asked for Python {lock.python}, runs {facts['python']} ({facts['executable']})"
    for package, version in facts["packages"].items():
        asked = lock.packages.get(package)
        if asked is not None and not same_version(version, asked):
            yield f"asked for {package} {asked}, runs {version}"


def same_version(reported: str | None, asked: Version) -> bool:
    """Return whether a version that a process reported is this one."""
    try:
        return reported is not None and Version(reported) == asked
    except InvalidVersion:
        return False


def against_request(facts: ProcessFacts, versions: Versions) -> Iterator[str]:
    """Yield where a process runs another Python or Dask than its role was planned with."""
    if not versions.python.admits(Version(facts["python"])):
        yield f"planned with Python {versions.python}, runs {facts['python']} ({facts['executable']})"
    dask = facts["packages"].get("distributed")
    if versions.dask is not None and not same_version(dask, versions.dask):
        yield f"planned with Dask {versions.dask}, runs {dask}"


def against_settings(facts: ProcessFacts, cell: CheckedCell) -> Iterator[str]:
    """Yield where a worker's settings, variables or Dask configuration are not those that were asked for."""
    asked, actual = cell.cluster.settings, facts["settings"]
    if asked.made is None and actual["threads"] != asked.threads:
        yield f"asked for threads = {asked.threads}, has {actual['threads']}"
    if asked.made is None and actual["nanny"] != asked.nanny:
        yield f"asked for nanny = {asked.nanny}, has {actual['nanny']}"
    for name, text in asked.worker_variables.items():
        if facts["variables"].get(name) == text:
            continue
        if name in asked.secrets.values:
            has = "none" if facts["variables"].get(name) is None else "another value"
            yield f"asked for the variable {name}={HIDDEN}, has {has}"
        else:
            yield f"asked for the variable {name}={text!r}, has {facts['variables'].get(name)!r}"
    for key, values in facts["config"].items():
        if values["asked"] != values["actual"]:
            yield f"asked for Dask's {key} = {values['asked']}, has {values['actual']}"


def between_roles(facts: Mapping[str, ProcessFacts]) -> Iterator[str]:
    """Yield where processes that must all run the same do not."""
    versions = {"Python": {name: one["python"] for name, one in facts.items()}}
    for package in facts["client"]["packages"]:
        versions[package] = {name: str(one["packages"].get(package)) for name, one in facts.items()}
    for label, by_process in versions.items():
        if len(set(by_process.values())) > 1:
            yield f"{label} differs: " + ", ".join(f"{name} {version}" for name, version in by_process.items())


CHECK = Check(name="versions", run=run, needs=("start",), seconds=30, summary="every process runs what was asked for")
