"""`bundle-install[bundle]` for a bundle that gets an environment on every worker."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

from pytest_modelops.bundles import formats, places
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import build_messages, own_installs, unread_messages
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault, Tidy, advice, counted, message
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Installed, Lock, Wheelhouse
from pytest_modelops.errors import CheckFailed, ModelopsError, RunnerTimedOut
from pytest_modelops.remote.shared.bundle_messages import (
    BundleLocation,
    EnvironmentContents,
    Inspection,
    InstallAnswer,
    InstalledWheels,
    Installer,
    InstallFailure,
    WireFunction,
)

MARGIN_SECONDS = 0.3
"""A worker stops this much before the deadline, so that its report arrives in time."""
CLIENT = "client"
SCHEDULER = "scheduler"
WORKER = "worker"
BUILD = "build"
WHEELS = "wheels"
"""Key of a result's data: a fingerprint of the wheels of each role, and of those that building takes."""
NEWCOMERS = (LATE, "agent", SCHEDULER)
"""Names of the processes besides the workers that a bundle for running processes is installed into."""
_MOST_NAMES = 10
_MOST_LINES = 14


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Make the wheels, copy them and the bundle into the cell, and have every worker install it."""
    cell.locations.pop(bundle, None)
    source = formats.read(bundle.path, cell.unpacked, indexes=cell.backend.indexes, deadline=deadline)
    python = worker_python(cell)
    house = wheels_of(bundle, source, cell.environments[cell.cell.worker].lock, cell, deadline)
    lock = cell.environments[cell.cell.worker].lock
    builds = own_installs.build_wheels(source, lock, cell, deadline) if cell.runner.installs else None
    installed = cell.backend.install_wheels(
        house, cell.environments[cell.cell.worker].lock, "environment", deadline=deadline, progress=cell.progress
    )
    location = copy_in(bundle, source, house, installed, cell, builds=builds)
    _check_the_client(bundle, source, location, cell, deadline)
    cell.progress(f"installing {bundle.name} on every worker")
    answers: Mapping[str, InstallAnswer] = cell.cluster.ask_workers(
        "install",
        {
            "location": location,
            "requirements": list(house.requirements),
            "modules": places_of(bundle, source).modules,
            "imports": list(bundle.imports),
            "seconds": max(0.1, deadline.remaining - MARGIN_SECONDS),
        },
        deadline,
    )
    tidy = Tidy(directories=location["directories"].values())
    faults = {
        name: unread_messages.with_hint([tidy.fault(fault) for fault in found], location)
        for name, answer in answers.items()
        if (found := list(_faults(answer, house, python, source, bundle)))
    }
    contents = {name: answer["contents"] for name, answer in answers.items()}
    if faults:
        text = message(
            f"bundle {bundle.name!r} was not installed on {counted(len(faults), answers, 'workers')}", faults
        )
        late = any(answer["failure"] and answer["failure"]["timed_out"] for answer in answers.values())
        error: ModelopsError = (RunnerTimedOut if late else CheckFailed)(text)
        accounted = {CLIENT: len(source.modules), **accounted_for(contents, source)}
        error.figures = {"modules": len(source.modules), "accounted": accounted}
        raise error
    cell.locations[bundle] = {**location, "wire": wire_of(source, contents)}
    installers = {name: answer["installer"] for name, answer in answers.items()}
    found_figures = figures(source, house, installed, installers, contents)
    found_figures = {**found_figures, WHEELS: fingerprints({WORKER: house, **({BUILD: builds} if builds else {})})}
    return {**found_figures, "accounted": {CLIENT: len(source.modules), **accounted_for(contents, source)}}


def worker_python(cell: CheckedCell) -> Version:
    """Return the workers' Python, to the patch; a deployment's have said it themselves, and agree."""
    reported = [one["python"] for one in cell.observed.get("workers", {}).values() if "python" in one]
    return Version(reported[0]) if cell.attached and reported else cell.environments[cell.cell.worker].lock.python


def places_of(bundle: Bundle, source: formats.Source) -> places.Places:
    """Return where the bundle's modules must be found."""
    named = (*bundle.targets, *bundle.submits, *bundle.imports)
    return places.of(source, [*filter(None, [bundle.entrypoint]), *named])


def figures(
    source: formats.Source,
    house: Wheelhouse,
    installed: Installed | None,
    installers: Mapping[str, Installer | None],
    contents: Mapping[str, Inspection | None],
) -> Mapping[str, object]:
    """Return what a report shows of an install.

    Args:
        installers: of each process, by name.
        contents: what each process that could be inspected has, by name.
    """
    left_out = sorted({module for one in contents.values() if one for module in one["left_out"]})
    return {
        "format": source.format.value,
        "found": source.why,
        "packages": len(house.packages),
        "modules": len(source.modules),
        "accounted": accounted_for(contents, source),
        "wheels_reused": house.reused,
        "install_reused": installed is not None and installed.reused,
        "installed_by": dict(installers),
        **({"unread": list(source.unread)} if source.unread else {}),
        **({"left_out": left_out} if left_out else {}),
    }


def wire_of(source: formats.Source, contents: Mapping[str, Inspection | None]) -> WireFunction | None:
    """Return the function that runs entry points: an entry point of what is installed, else the one that files name."""
    installed = {entry for one in contents.values() if one for entry in one["wires"]}
    if len(installed) == 1:
        module, _, function = installed.pop().partition(":")
        return {"module": module.strip(), "function": function.partition("[")[0].strip()}
    return {"module": source.wire.module, "function": source.wire.function} if source.wire else None


def accounted_for(contents: Mapping[str, Inspection | None], source: formats.Source) -> Mapping[str, int]:
    """Return how many of the bundle's modules each process finds, by name, of those that could be inspected."""
    return {name: len(source.modules) - len(one["missing"]) for name, one in contents.items() if one is not None}


def _check_the_client(
    bundle: Bundle, source: formats.Source, location: BundleLocation, cell: CheckedCell, deadline: Deadline
) -> None:
    """Check the client's copy of the bundle: the client submits entry points by name and imports nothing of it.

    Raises:
        CheckFailed: the copy lacks modules.
    """
    files = {name: str(file.relative_to(source.path)) for name, file in source.modules.items()}
    missing: list[str] = cell.cluster.agent.call(
        "look_at_source", source=location["source"], files=files, deadline=deadline
    )["missing"]
    if missing:
        raise CheckFailed(
            f"bundle {bundle.name!r}: the client's copy of it lacks {counted(len(missing), files, 'modules')} that "
            f"{bundle.path} has: {_names(missing)}"
        )


def fingerprints(houses: Mapping[str, Wheelhouse]) -> Mapping[str, str]:
    return {role: house.fingerprint for role, house in houses.items()}


def wheels_of(bundle: Bundle, source: formats.Source, lock: Lock, cell: CheckedCell, deadline: Deadline) -> Wheelhouse:
    """Make the wheels of a bundle and of all that it needs, for the Python of a lock."""
    cell.progress(f"making the wheels of {bundle.name}")
    try:
        return cell.backend.wheelhouse(
            source.requirements_for(lock.python), lock, deadline=deadline, progress=cell.progress
        )
    except CheckFailed as error:
        what = f"bundle {bundle.name!r} cannot be installed by Python {lock.python}"
        cause, hint = build_messages.on_build(error, lock.python, source)
        lines = [f"{what}:{cause}", str(error)] if cause else [f"{what}: {error}"]
        text = "\n".join([*lines, *([hint] if hint else [])])
        raise CheckFailed(source.shown(text)) from error


def location_in(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> BundleLocation:
    """Return where the bundle is; a cluster that was started again first installs it again."""
    if bundle not in cell.locations:
        run(bundle, cell, deadline)
    return cell.locations[bundle]


def copy_in(
    bundle: Bundle,
    source: formats.Source,
    house: Wheelhouse,
    installed: Installed | None,
    cell: CheckedCell,
    *,
    builds: Wheelhouse | None = None,
) -> BundleLocation:
    """Copy the bundle, its wheels and its runner into the cell.

    Args:
        installed: the same wheels, if they are installed already.
        builds: wheels of what building it takes, for a runner that installs the bundle itself.
    """
    sandbox, runner = cell.cluster.sandbox, cell.runner.path
    modules, top = _accountable(source), f"bundles/{bundle.name}"
    with tempfile.TemporaryDirectory(prefix="modelops-") as directory:
        sources = {
            f"{top}/source": own_installs.copy(source, Path(directory)),
            f"{top}/wheels": own_installs.wheels(house, builds, Path(directory)),
        }
        if isinstance(runner, Path):
            sources |= {f"{top}/runner/{path.name}": path for path in (*_beside(runner, modules, source), runner)}
        put = sandbox.put_all(sources)
    if isinstance(runner, Path):
        runner = put[f"{top}/runner/{runner.name}"]
    return {
        "name": bundle.name,
        "digest": source.digest,
        "directories": {
            name: f"{directory}/{bundle.name}"
            for name, directory in cell.cluster.directories(
                [*cell.cluster.addresses.values(), *(NEWCOMERS if bundle.in_workers else ())]
            ).items()
        },
        "served": cell.cluster.served,
        "source": put[f"{top}/source"],
        "wheels": put[f"{top}/wheels"],
        "pips": sandbox.pips() if house.requirements or cell.runner.installs else "",
        "installed": in_cell(installed),
        "modules": modules,
        "on_path": places_of(bundle, source).on_path,
        "wire": wire_of(source, {}),
        "runner": runner or "",
        "command": list(cell.runner.command),
        "installs": cell.runner.installs,
        "protocol": cell.runner.protocol,
        "install": "workers" if bundle.in_workers else bundle.install,
        "unread": list(source.unread),
    }


def in_cell(installed: Installed | None) -> InstalledWheels | None:
    """Return what a process of the cell has to know of it."""
    if installed is None:
        return None
    return {"directory": str(installed.directory), "interpreter": str(installed.interpreter)}


def _accountable(source: formats.Source) -> list[str]:
    """Return the top-level names that have to be the bundle's own; a wheel may be a backport of a standard module."""
    own = {name.partition(".")[0] for name, file in source.modules.items() if file.suffix != ".whl"}
    return [
        name for name in source.top_level if name != "__main__" and (name in own or name not in sys.stdlib_module_names)
    ]


def _beside(runner: Path, modules: Iterable[str], source: formats.Source) -> Iterator[Path]:
    """Yield what is beside a script, as in a deployment, and has a name of the bundle's: Python looks there first."""
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


def _faults(
    answer: InstallAnswer, house: Wheelhouse, python: Version, source: formats.Source, bundle: Bundle
) -> Iterator[Fault]:
    if answer["failure"]:
        yield fault_of_install(answer["failure"], python)
    elif answer["contents"]:
        yield from mismatches(answer["contents"], house, python)
        yield from faults_of_source(answer["contents"], source, bundle)


def faults_of_source(contents: EnvironmentContents, source: formats.Source, bundle: Bundle) -> Iterator[Fault]:
    """Yield why modules are missing, and that what is installed declares no wire function, or several."""
    if hint := places.namespaces_left_out(source, contents["missing"]):
        yield Fault(head=hint)
    if len(contents["wires"]) > 1:
        declared = ", ".join(contents["wires"])
        yield Fault(head=f"what is installed declares {len(contents['wires'])} wire functions ({declared}); keep one")
    elif bundle.entrypoint is not None and source.wire is None and not contents["wires"]:
        yield Fault(
            head=f"nothing that is installed declares a wire function, which would run {bundle.entrypoint!r}: the "
            f"bundle's files declare none, and no package has an entry point in the group modelops.wire "
            f"({_names(sorted(contents['packages'])) or 'there are none'})"
        )


def fault_of_install(failure: InstallFailure, python: Version) -> Fault:
    cause = f". {failure['cause']}{advice(failure['cause'], python)}" if failure["cause"] else ""
    return Fault(head=f"{failure['failed']}{cause}", details=tuple(failure["last"][-_MOST_LINES:]))


def mismatches(contents: EnvironmentContents, house: Wheelhouse, python: Version) -> Iterator[Fault]:
    """Yield where an environment is not what was installed, or lacks a module; the most telling first."""
    if Version(contents["version"]) != python:
        yield Fault(
            head=f"its environment runs Python {contents['version']} ({contents['python']}), the worker {python}"
        )
    found: dict[str, str] = {canonicalize_name(name): version for name, version in contents["packages"].items()}
    for name, version in house.packages.items():
        if name not in found:
            yield Fault(head=f"{name} {version} was installed, and is not there")
        elif Version(found[name]) != version:
            yield Fault(head=f"{name} {version} was installed, and {found[name]} is there")
    for name in sorted(found.keys() - house.packages.keys()):
        yield Fault(head=f"{name} {found[name]} is there, and was not installed")
    if changed := contents["changed"]:
        files = f"{len(changed)} files that were installed are" if len(changed) > 1 else "a file that was installed is"
        yield Fault(head=f"{files} missing or not what the package's RECORD says: {_names(changed)}")
    if missing := contents["missing"]:
        modules = "modules of it are" if len(missing) > 1 else "module of it is"
        yield Fault(
            head=f"{len(missing)} {modules} not found after the install: {_names(missing)}; does the package's build "
            "leave them out?"
        )
    for module, failure in contents["imports"].items():
        yield Fault(head=f"import {module} failed: {failure}")
