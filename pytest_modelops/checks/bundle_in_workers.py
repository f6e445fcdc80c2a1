"""`bundle-install[bundle]` for a bundle that is installed into running processes.

These are workers, client, one more worker that joins late and, if the settings say so, the scheduler. Such a bundle is
installed during its own checks and uninstalled after each, so two bundles never meet in one process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_isolated, by_reference, unread_messages
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_isolated import CLIENT, MARGIN_SECONDS, SCHEDULER, WORKER
from pytest_modelops.checks.bundle_messages import Fault, Tidy, counted, message
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Installed, Lock, Wheelhouse
from pytest_modelops.errors import CannotScale, CheckFailed, ModelopsError, ProcessExited, RunnerTimedOut, TimedOut
from pytest_modelops.remote.shared import plain
from pytest_modelops.remote.shared.bundle_messages import BundleLocation, OtherInstall, ProcessAnswer

_POLL_SECONDS = 0.1
_SOON_SECONDS = 5.0
"""For the answer of a worker whose plugins may still be set up."""
_UNINSTALL_SECONDS = 5.0


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Install it into all of them, inspect each, then have one more worker join, and inspect that."""
    cell.locations.pop(bundle, None)
    source = formats.read(bundle.path, cell.unpacked, indexes=cell.backend.indexes, deadline=deadline)
    workers, client = (cell.environments[versions].lock for versions in (cell.cell.worker, cell.cell.client))
    others = {CLIENT: client}
    if bundle.in_scheduler:
        others[SCHEDULER] = cell.environments[cell.cell.scheduler].lock
    locks = {WORKER: workers, **others}
    location, houses, installed = _copy_in(bundle, source, locks, cell, deadline)
    house = houses[WORKER]
    asked = _asked(bundle, location, source, house)
    answers: dict[str, ProcessAnswer] = {}

    def of_worker(answer: ProcessAnswer) -> list[Fault]:
        faults = list(_faults(answer, house, workers.python, error))
        contents = answer["contents"]
        return [*faults, *(bundle_isolated.faults_of_source(contents, source, bundle) if contents else ())]

    try:
        cell.progress(f"installing {bundle.name} into every worker, the {' and the '.join(others)}")
        error = _install(bundle, location, cell, deadline)
        answers.update(cell.cluster.ask_workers("inspect_process", asked, deadline))
        found = {name: of_worker(answer) for name, answer in answers.items()}
        for role, lock in others.items():
            operation = "inspect_process" if role == CLIENT else "inspect_scheduler"
            of_role = _asked(bundle, location, source, houses[role])
            answers[role] = plain.unpack(cell.cluster.agent.call(operation, **of_role, deadline=deadline))
            found[role] = list(_faults(answers[role], houses[role], lock.python, error))
        _judge(bundle, location, answers, found)
        submitted = by_reference.ask(bundle, source, cell, deadline)
        cell.progress(f"looking for {bundle.name} on a worker that joins late")
        try:
            with cell.cluster.one_more(deadline) as (late, address):
                answers[late] = _await_late(bundle, asked, cell, address, deadline)
                found[late] = of_worker(answers[late])
                _judge(bundle, location, answers, found)
        except CannotScale as scaling:
            submitted = {**submitted, "note": f"{bundle.name}: no worker that joins late was asked, since {scaling}"}
    finally:
        uninstall(cell)
    cell.locations[bundle] = location
    contents = {name: answer["contents"] for name, answer in answers.items()}
    installers = {name: answer["setup"]["installer"] for name, answer in answers.items() if answer["setup"]}
    conflicts = [conflict for one in contents.values() if one for conflict in one["conflicts"]]
    return {
        **bundle_isolated.figures(source, house, installed, installers, contents),
        **submitted,
        bundle_isolated.WHEELS: bundle_isolated.fingerprints(houses),
        "processes": sorted(answers),
        "shadowed": sorted({f"{one['name']} {one['here']} by {one['wanted']}" for one in conflicts}),
    }


def install_again(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> BundleLocation:
    """Install a bundle that has passed its check into the workers and the client again; returns where it is."""
    if bundle not in cell.locations:
        run(bundle, cell, deadline)
    location = cell.locations[bundle]
    if error := _install(bundle, location, cell, deadline):
        raise CheckFailed(f"bundle {bundle.name!r} was not installed into the workers: {error}")
    return location


def uninstall(cell: CheckedCell) -> None:
    """Uninstall the bundle that was installed last."""
    with contextlib.suppress(ModelopsError):  # a worker that hangs or died is reported elsewhere
        cell.cluster.agent.call("uninstall_bundle", seconds=_UNINSTALL_SECONDS, deadline=Deadline(_UNINSTALL_SECONDS))


def _copy_in(
    bundle: Bundle, source: formats.Source, locks: Mapping[str, Lock], cell: CheckedCell, deadline: Deadline
) -> tuple[BundleLocation, Mapping[str, Wheelhouse], Installed | None]:
    """Copy the bundle in, with wheels for each role: the workers, and others, whose Python may be another one.

    Returns:
        Where it is, the wheels of each role, and what was installed of the workers' beforehand.
    """
    workers = locks[WORKER]
    house = bundle_isolated.wheels_of(bundle, source, workers, cell, deadline)
    installed = _installed(house, workers, cell, deadline)
    location = bundle_isolated.copy_in(bundle, source, house, installed, cell)
    location["requirements"] = list(house.requirements)
    houses = dict.fromkeys(locks, house)
    for role in locks.keys() - {WORKER}:
        lock, wheels, there = locks[role], location["wheels"], location["installed"]
        if lock.python != workers.python:
            houses[role] = bundle_isolated.wheels_of(bundle, source, lock, cell, deadline)
            wheels = cell.cluster.sandbox.put(houses[role].directory, f"bundles/{bundle.name}/wheels-of-{role}")
            there = bundle_isolated.in_cell(_installed(houses[role], lock, cell, deadline))
        own: OtherInstall = {"wheels": wheels, "installed": there, "requirements": list(houses[role].requirements)}
        location["client" if role == CLIENT else "scheduler"] = own
    return location, houses, installed


def _installed(house: Wheelhouse, lock: Lock, cell: CheckedCell, deadline: Deadline) -> Installed | None:
    return cell.backend.install_wheels(house, lock, "directory", deadline=deadline, progress=cell.progress)


def _install(bundle: Bundle, location: BundleLocation, cell: CheckedCell, deadline: Deadline) -> str:
    """Have the client register the plugin; returns why that failed, or an empty string.

    Every process is inspected afterwards.
    """
    cell.cluster.await_workers(deadline)
    seconds = max(0.1, deadline.remaining - MARGIN_SECONDS)

    def arguments_of(role: OtherInstall) -> Mapping[str, object]:
        own = {**location, "wheels": role["wheels"], "installed": role["installed"]}
        return {"location": own, "requirements": role["requirements"], "seconds": seconds}

    answer = cell.cluster.agent.call(
        "install_bundle",
        name=f"modelops-bundle-{bundle.name}",
        arguments={"location": location, "requirements": location["requirements"], "seconds": seconds},
        here=arguments_of(location["client"]),
        in_scheduler=arguments_of(location["scheduler"]) if "scheduler" in location else None,
        seconds=seconds,
        deadline=deadline,
    )
    return str(answer.get("error", ""))


def _asked(bundle: Bundle, location: BundleLocation, source: formats.Source, house: Wheelhouse) -> dict[str, Any]:
    """Return the arguments of `Bundles.inspect_process`."""
    return {
        "location": location,
        "modules": bundle_isolated.places_of(bundle, source).modules,
        "packages": {name: str(version) for name, version in house.packages.items()},
        "imports": list(bundle.imports),
    }


def _await_late(
    bundle: Bundle, asked: Mapping[str, object], cell: CheckedCell, address: str, deadline: Deadline
) -> ProcessAnswer:
    """Return what the late worker has once its plugins are set up; it is registered before that."""
    cluster, seen = cell.cluster, "it was not asked"
    while not deadline.passed:
        soon = deadline.at_most(_SOON_SECONDS)
        outcome = cluster.agent.call(
            "ask_workers",
            operation="inspect_process",
            arguments=dict(asked),
            workers=[address],
            seconds=max(0.1, soon.remaining),
            deadline=soon,
        )[address]
        if "value" in outcome:
            answer: ProcessAnswer = plain.unpack(outcome["value"])
            if answer["setup"] and answer["setup"]["done"]:
                return answer
            seen = "its setup has begun" if answer["setup"] else "it was not given the plugin"
        else:
            seen = outcome.get("error") or outcome["silent"]
            if death := cluster.death_of_worker(LATE):
                raise ProcessExited(
                    f"bundle {bundle.name!r}: {LATE}, which joined after the others, {death}.{cluster.last_words(LATE)}"
                )
        time.sleep(_POLL_SECONDS)
    raise TimedOut(
        f"bundle {bundle.name!r} was not installed into {LATE}, which joined after the others, within "
        f"{deadline.seconds:g} s; seen last: {seen}.{cluster.last_words(LATE)}"
    )


def _faults(answer: ProcessAnswer, house: Wheelhouse, python: Version, error: str) -> Iterator[Fault]:
    """Yield what is wrong in a process, the most telling first."""
    setup, contents = answer["setup"], answer["contents"]
    if setup is None:
        raised = f"; registering it raised {error}" if error else ""
        yield Fault(head=f"it did not get the plugin that installs the bundle{raised}")
        return
    if not setup["done"]:
        yield Fault(head="the plugin that installs the bundle is still being set up")
        return
    for path in setup["touched"]:
        yield Fault(head=f"installing it changed the environment of the process: {path}")
    if setup["failure"]:
        yield bundle_isolated.fault_of_install(setup["failure"], python)
    if contents is None:
        return
    for one in contents["conflicts"]:
        if one["imported"]:
            yield Fault(
                head=f"the bundle brings {one['name']} {one['wanted']}, and this process has already imported "
                f"{one['name']} {one['here']}, which stays; ask for {one['name']}=={one['here']}, or install the "
                "bundle isolated"
            )
    for module, file in contents["hidden"].items():
        yield Fault(
            head=f"its module {module} cannot be imported: this process has already imported another {module} "
            f"({file}); rename it, or install the bundle isolated"
        )
    yield from bundle_isolated.mismatches(contents, house, python)


def _judge(
    bundle: Bundle, location: BundleLocation, answers: Mapping[str, ProcessAnswer], found: Mapping[str, Sequence[Fault]]
) -> None:
    """Raise everything that is wrong, if anything is."""
    tidy = Tidy(directories=location["directories"].values())
    faults = {
        name: unread_messages.with_hint([tidy.fault(fault) for fault in some], location)
        for name, some in found.items()
        if some
    }
    if not faults:
        return
    where = counted(len(faults), answers, "processes")
    if [*faults] == [LATE]:
        where = f"{LATE}, which joined after the others; those have it"
    text = message(f"bundle {bundle.name!r} was not installed into {where}", faults, named=True)
    failures = [answer["setup"]["failure"] for answer in answers.values() if answer["setup"]]
    late = any(failure and failure["timed_out"] for failure in failures)
    raise (RunnerTimedOut if late else CheckFailed)(text)
