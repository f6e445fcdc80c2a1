"""`bundle-install[bundle]`: it installs on every worker, and every module of it is found there."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks import own_installs
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Wheelhouse
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut

MARGIN_SECONDS = 0.3
"""A worker ends what it does so much earlier than the deadline, to tell of it."""
CLIENT = "client"
NEWCOMERS = (LATE, "agent")
"""What else than the workers a bundle comes into that is installed into running processes."""
_MOST_NAMES = 10
_MOST_LINES = 14


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Make the wheels, bring them and the bundle into the cell, and have every worker install it."""
    cell.locations.pop(bundle, None)
    source = formats.read(bundle.path, cell.unpacked, deadline=deadline)
    workers = cell.environments[cell.cell.worker]
    house = wheels_of(bundle, source, workers.lock, cell, deadline)
    builds = own_installs.build_wheels(source, cell, deadline) if cell.runner.installs else None
    location = place(bundle, source, house, cell, builds)
    of_client = _on_the_client(bundle, source, location, cell, deadline)
    cell.progress(f"installing {bundle.name} on every worker")
    reply = cell.cluster.ask_workers(
        "install",
        {
            "location": location,
            "requirements": list(house.requirements),
            "modules": sorted(source.modules),
            "imports": list(bundle.imports),
            "seconds": max(0.1, deadline.remaining - MARGIN_SECONDS),
        },
        deadline,
    )
    tidy = words.Tidy(directories=location["directories"].values())
    faults = {
        name: [tidy.fault(fault) for fault in found]
        for name, answer in reply.items()
        if (found := list(faults_of(answer, house, workers.lock.python)))
    }
    accounted = accounted_for({CLIENT: of_client, **reply}, source)
    if faults:
        count = words.counted(len(faults), reply, "workers")
        message = words.message(f"bundle {bundle.name!r} was not installed on {count}", faults)
        late = any(answer.get("timed_out") for answer in reply.values())
        error: ModelopsError = (RunnerTimedOut if late else CheckFailed)(message)
        error.figures = {"modules": len(source.modules), "accounted": accounted}
        raise error
    cell.locations[bundle] = location
    return {
        "format": source.format.value,
        "found": source.why,
        "packages": len(house.packages),
        "modules": len(source.modules),
        "accounted": accounted,
        "wheels_reused": house.reused,
    }


def accounted_for(reply: Mapping[str, Mapping[str, Any]], source: formats.Source) -> Mapping[str, int]:
    """How many of the bundle's modules each process finds, of those that could be asked."""
    return {name: len(source.modules) - len(answer["missing"]) for name, answer in reply.items() if "missing" in answer}


def _on_the_client(
    bundle: Bundle, source: formats.Source, location: Mapping[str, Any], cell: CheckedCell, deadline: Deadline
) -> Mapping[str, Any]:
    """What the client has of an isolated bundle, whose entry points it submits by name and never imports."""
    files = {name: str(file.relative_to(source.path)) for name, file in source.modules.items()}
    reply: Mapping[str, Any] = cell.cluster.agent.call(
        "look_at_source", source=location["source"], files=files, deadline=deadline
    )
    if reply["missing"]:
        lost = words.counted(len(reply["missing"]), files, "modules")
        raise CheckFailed(
            f"bundle {bundle.name!r}: the client's copy of it lacks {lost} that {bundle.path} has: "
            f"{_names(reply['missing'])}"
        )
    return reply


def wheels_of(bundle: Bundle, source: formats.Source, lock: Lock, cell: CheckedCell, deadline: Deadline) -> Wheelhouse:
    """The wheels of a bundle and of all that it needs, for the Python of a lock."""
    cell.progress(f"making the wheels of {bundle.name}")
    try:
        return cell.backend.wheelhouse(
            source.requirements_for(lock.python), lock, deadline=deadline, progress=cell.progress
        )
    except CheckFailed as error:
        what = f"bundle {bundle.name!r} cannot be installed by Python {lock.python}"
        why = str(error)
        raise CheckFailed(f"{what}:{words.advice_on_build(why, lock.python)} {why}") from error


def location_in(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Where the bundle is; it is installed again in a cluster that was started again."""
    if bundle not in cell.locations:
        run(bundle, cell, deadline)
    return cell.locations[bundle]


def place(
    bundle: Bundle, source: formats.Source, house: Wheelhouse, cell: CheckedCell, builds: Wheelhouse | None = None
) -> Mapping[str, Any]:
    """Bring the bundle, its wheels and its runner into the cell; where they are (see `remote/worker/bundles.py`).

    Args:
        builds: wheels of what building it takes, for a runner that installs by itself.
    """
    sandbox, runner = cell.cluster.sandbox, cell.runner.path
    modules = _accountable(source)
    with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
        files = sandbox.put(own_installs.copy(source, Path(directory)), f"bundles/{bundle.name}/source")
        wheels = own_installs.wheels(house, builds, Path(directory))
        put_wheels = sandbox.put(wheels, f"bundles/{bundle.name}/wheels")
    if isinstance(runner, Path):
        for path in _beside(runner, modules, source):
            sandbox.put(path, f"bundles/{bundle.name}/runner/{path.name}")
        runner = sandbox.put(runner, f"bundles/{bundle.name}/runner/{runner.name}")
    return {
        "name": bundle.name,
        "digest": source.digest,
        "directories": {
            name: f"{sandbox.directory(name)}/bundles/{bundle.name}"
            for name in (*cell.cluster.addresses.values(), *(NEWCOMERS if bundle.in_workers else ()))
        },
        "source": files,
        "wheels": put_wheels,
        "modules": modules,
        "wire": {"module": source.wire.module, "function": source.wire.function} if source.wire else None,
        "runner": runner or "",
        "command": list(cell.runner.command),
        "installs": cell.runner.installs,
        "protocol": cell.runner.protocol,
        "install": bundle.install,
    }


def _accountable(source: formats.Source) -> list[str]:
    """Top-level names that have to be the bundle's own; a wheel's may be one for Pythons that lack it in their own."""
    own = {name.partition(".")[0] for name, file in source.modules.items() if file.suffix != ".whl"}
    return [
        name for name in source.top_level if name != "__main__" and (name in own or name not in sys.stdlib_module_names)
    ]


def _beside(runner: Path, modules: Iterable[str], source: formats.Source) -> Iterator[Path]:
    """What lies beside a script, as in a deployment, under a name of the bundle's: Python looks there first."""
    if runner.is_dir() or runner.parent.resolve() == source.path:
        return
    for name in modules:
        package, file = runner.parent / name, runner.parent / f"{name}.py"
        if (package / "__init__.py").is_file():
            yield package
        elif file.is_file() and file != runner:
            yield file


def _names(modules: Sequence[str]) -> str:
    return ", ".join(modules[:_MOST_NAMES]) + (", …" if len(modules) > _MOST_NAMES else "")


def faults_of(answer: Mapping[str, Any], house: Wheelhouse, python: Version) -> Iterator[Fault]:
    """What is wrong with what a worker reported, the most telling first."""
    if "failed" in answer:
        cause = f". {answer['cause']}{words.advice(answer['cause'], python)}" if answer["cause"] else ""
        yield Fault(head=f"{answer['failed']}{cause}", details=tuple(answer["last"][-_MOST_LINES:]))
    else:
        yield from (Fault(head=head) for head in mismatches(answer, house, python))


def mismatches(answer: Mapping[str, Any], house: Wheelhouse, python: Version) -> Iterator[str]:
    """Where an environment is not what was installed, or lacks a module, in words."""
    if Version(answer["version"]) != python:
        yield f"its environment runs Python {answer['version']} ({answer['python']}), the worker {python}"
    found: dict[str, str] = {canonicalize_name(name): version for name, version in answer["packages"].items()}
    for name, version in house.packages.items():
        if name not in found:
            yield f"{name} {version} was installed, and is not there"
        elif Version(found[name]) != version:
            yield f"{name} {version} was installed, and {found[name]} is there"
    for name in sorted(found.keys() - house.packages.keys()):
        yield f"{name} {found[name]} is there, and was not installed"
    if answer["missing"]:
        count, names = len(answer["missing"]), _names(answer["missing"])
        plural = "modules of it are" if count > 1 else "module of it is"
        yield f"{count} {plural} not found after the install: {names}; does the package's build leave them out?"
    for module, failure in answer["imports"].items():
        yield f"import {module} failed: {failure}"
