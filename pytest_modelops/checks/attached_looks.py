"""What workers of a deployment have of packages, variables and a runtime, asked with a request that is no task.

Only workers with the client's Python are asked, since others may crash of a function; `versions` names those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from pytest_modelops.bundles import formats, metadata
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_isolated
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.versions import same_version
from pytest_modelops.cluster.attached import AttachedCluster
from pytest_modelops.config.variables import CELL_DIRECTORY, HIDDEN
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.facts import LookQuestion, WorkerLook

ASK_SECONDS = 10.0
"""How long the workers may take to answer."""
_SHOWN = 12
_T = TypeVar("_T")


def ask(
    cell: CheckedCell,
    deadline: Deadline,
    *,
    packages: Sequence[str] = (),
    modules: Sequence[str] = (),
    attributes: Sequence[str] = (),
) -> tuple[Mapping[str, WorkerLook], Mapping[str, str]]:
    """Return what each worker has, and why others did not say it, by name.

    Args:
        packages: names of distributions.
        modules: top-level names.
        attributes: dotted paths of the worker.
    """
    question: LookQuestion = {
        "path": "",
        "attributes": [*attributes],
        "variables": list(variables(cell)),
        "packages": [*packages],
        "modules": [*modules],
    }
    answers = deployment(cell).look(question, deadline.at_most(ASK_SECONDS))
    looks = {name: answer["value"] for name, answer in answers.items() if "value" in answer}
    broken = {name: answer.get("error") or answer["silent"] for name, answer in answers.items() if name not in looks}
    return looks, broken


def deployment(cell: CheckedCell) -> AttachedCluster:
    cluster = cell.cluster
    assert isinstance(cluster, AttachedCluster)  # noqa: S101 - the cell is attached
    return cluster


def variables(cell: CheckedCell) -> Mapping[str, str]:
    """Return the variables that workers should have; not those that name a directory of a cell's own."""
    asked = cell.cluster.settings.worker_variables
    return {name: value for name, value in asked.items() if CELL_DIRECTORY not in value}


def distributions(requirements: Sequence[str]) -> list[str]:
    """Return the canonical names of what these requirements install, where they show it.

    Args:
        requirements: PEP 508 lines, or absolute paths of project directories or wheels.
    """
    found: list[str | None] = []
    for line in requirements:
        path = Path(line)
        if not path.is_absolute():
            found.append(Requirement(line).name)
        else:
            found.append(parse_wheel_filename(path.name)[0] if path.suffix == ".whl" else metadata.name_of(path))
    return [canonicalize_name(name) for name in found if name]


def missing_runner(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Iterator[str]:
    """Yield which workers lack the package that has the bundle's runner."""
    runner = cell.runner.path
    if not isinstance(runner, str):
        return
    module = runner.partition(":")[0].partition(".")[0]
    looks, _ = ask(cell, deadline, modules=[module])
    if lacking := [name for name, look in looks.items() if look["missing"]]:
        yield (
            f"bundle {bundle.name!r}: the module {module!r}, beside which [tool.modelops.runner] path = {runner!r} is, "
            f"is not found on {listed(lacking)}"
        )


def missing_bundle(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Iterator[str]:
    """Yield which workers lack a bundle that must be installed in them, or have another version."""
    source = formats.read(bundle.path, cell.unpacked, indexes=cell.backend.indexes, deadline=deadline)
    versions = {one.name: one.version for one in source.wheels}
    built = {canonicalize_name(name) for one in source.projects if (name := metadata.name_of(one))}
    looks, broken = ask(cell, deadline, packages=sorted({*versions, *built}), modules=source.top_level)
    if built and looks:
        lock = cell.environments[cell.cell.client].lock
        packages = bundle_isolated.wheels_of(bundle, source, lock, cell, deadline).packages
        versions |= {name: packages[name] for name in sorted(built) if name in packages}
    intro = f"bundle {bundle.name!r} has install = {bundle.install!r}, so every worker must have it"
    yield from (f"{intro}; {name} did not say: {why}" for name, why in broken.items())
    for package, version in versions.items():
        for has, names in by_value(looks, lambda look, package=package: look["packages"][package]).items():  # type: ignore[misc]
            if has is None:
                yield f"{intro}: {package} {version} is not installed on {listed(names)}"
            elif not same_version(has, version):
                yield f"{intro}: it is {package} {version}, and {has} on {listed(names)}"
    for missing, names in by_value(looks, lambda look: tuple(look["missing"])).items():
        if missing:
            yield f"{intro}: its {', '.join(missing)} is not found on {listed(names)}"


def by_value(looks: Mapping[str, WorkerLook], value: Callable[[WorkerLook], _T]) -> dict[_T, list[str]]:
    """Return the names of the workers that have each value, those of most first."""
    found: dict[_T, list[str]] = {}
    for name, look in looks.items():
        found.setdefault(value(look), []).append(name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def of_environment(
    cell: CheckedCell, deadline: Deadline, requirements: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Compare packages and variables that the configuration names, between workers and with what it asks for.

    Returns:
        Problems, where workers differ from each other, and notes, where all of them have something else.
    """
    asked, packages = variables(cell), distributions(requirements)
    if not asked and not packages:
        return (), ()
    looks, broken = ask(cell, deadline, packages=packages)
    problems = [f"{name} did not say what it has: {why}" for name, why in broken.items()]
    notes = []
    secrets = cell.cluster.settings.secrets.values
    locked = cell.environments[cell.cell.client].lock.packages
    for package in packages:
        found = by_value(looks, lambda look, package=package: look["packages"][package])  # type: ignore[misc]
        problems += differing(package, found, lambda value: value or "not installed")
        if len(found) == 1 and package in locked and not same_version(only := next(iter(found)), locked[package]):
            has = f"{package} {only}" if only else f"no {package}"
            notes.append(f"the deployment's workers have {has}, this client has {locked[package]}")
    for name, value in asked.items():
        found = by_value(looks, lambda look, name=name: look["origins"]["variables"].get(name))  # type: ignore[misc]
        hidden = name in secrets
        problems += differing(f"the variable {name}", found, lambda one, hidden=hidden: shown(one, hidden=hidden))  # type: ignore[misc]
        if len(found) == 1 and (only := next(iter(found))) != value:
            notes.append(
                f"on the deployment's workers the variable {name} is {shown(only, hidden=hidden)}; `env` asks for "
                f"{shown(value, hidden=hidden)}"
            )
    return problems, notes


def differing(what: str, found: Mapping[_T, Sequence[str]], show: Callable[[_T], str]) -> Iterator[str]:
    """Yield which workers have another value than most."""
    for one in [*found][1:]:
        most = next(iter(found))
        yield f"{listed(found[one])}: {what} is {show(one)}, and {show(most)} on most workers"


def listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def shown(value: str | None, *, hidden: bool = False) -> str:
    """Return a variable's value for people."""
    if value is None:
        return "not set"
    return HIDDEN if hidden else repr(value)
