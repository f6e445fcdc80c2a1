"""`bundle-install[bundle]` for a bundle that comes into running processes: the workers, the client, a late worker.

It is there while a check of its own goes on, and then taken away, so that two bundles never meet in one process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from packaging.version import Version

from pytest_modelops.bundles import formats
from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_isolated
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks.base import CheckedCell
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.cluster.cluster import LATE
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Wheelhouse
from pytest_modelops.errors import CheckFailed, ModelopsError, ProcessExited, RunnerTimedOut, TimedOut
from pytest_modelops.remote.shared import plain

Answer = Mapping[str, Any]

CLIENT = bundle_isolated.CLIENT
_POLL_SECONDS = 0.1
_SOON_SECONDS = 5.0
"""How long a worker has to answer whose plugins may still be set up."""
_AWAY_SECONDS = 5.0


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Bring it into all of them, look at what each finds, then have one more worker join, and look there."""
    cell.locations.pop(bundle, None)
    source = formats.read(bundle.path, cell.unpacked, deadline=deadline)
    roles = cell.environments
    workers, client = roles[cell.cell.worker], roles[cell.cell.client]
    house = bundle_isolated.wheels_of(bundle, source, workers.lock, cell, deadline)
    of_client = house
    if client.lock.python != workers.lock.python:
        of_client = bundle_isolated.wheels_of(bundle, source, client.lock, cell, deadline)
    location = _location(bundle, source, house, of_client, cell)
    modules = sorted(source.modules)
    try:
        reply = _everywhere(bundle, location, modules, (house, of_client), cell, deadline)
    finally:
        take_away(cell)
    cell.locations[bundle] = location
    shadowed = {
        f"{one['name']} {one['here']} by {one['wanted']}" for answer in reply.values() for one in answer["conflicts"]
    }
    return {
        "format": source.format.value,
        "found": source.why,
        "packages": len(house.packages),
        "modules": len(modules),
        "accounted": bundle_isolated.accounted_for(reply, source),
        "wheels_reused": house.reused,
        "processes": sorted(reply),
        "shadowed": sorted(shadowed),
    }


def _everywhere(  # noqa: PLR0917
    bundle: Bundle,
    location: Answer,
    modules: list[str],
    houses: tuple[Wheelhouse, Wheelhouse],
    cell: CheckedCell,
    deadline: Deadline,
) -> Mapping[str, Answer]:
    """What each process has of it, by name, all of them being as they should.

    Args:
        houses: the wheels for the workers, and for the client.
    """
    house, of_client = houses
    roles = cell.environments
    pythons = roles[cell.cell.worker].lock.python, roles[cell.cell.client].lock.python
    cell.progress(f"installing {bundle.name} into every worker and the client")
    error = _bring(bundle, location, cell, deadline)
    asked = _asked(bundle, location, modules, house)
    reply = dict(cell.cluster.ask_workers("look_inside", asked, deadline))
    found = {name: list(_faults(answer, house, pythons[0], error)) for name, answer in reply.items()}
    of_agent = _asked(bundle, location, modules, of_client)
    reply[CLIENT] = plain.unpack(cell.cluster.agent.call("look_inside", **of_agent, deadline=deadline))
    found[CLIENT] = list(_faults(reply[CLIENT], of_client, pythons[1], error))
    _judge(bundle, location, reply, found)
    cell.progress(f"looking for {bundle.name} on a worker that joins late")
    with cell.cluster.one_more(deadline) as (late, address):
        reply[late] = _await_late(bundle, asked, cell, address, deadline)
        found[late] = list(_faults(reply[late], house, pythons[0], error))
        _judge(bundle, location, reply, found)
    return reply


def bring_again(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Bring a bundle that has passed its check into the workers and the client; returns where it is."""
    if bundle not in cell.locations:
        run(bundle, cell, deadline)
    location = cell.locations[bundle]
    if error := _bring(bundle, location, cell, deadline):
        raise CheckFailed(f"bundle {bundle.name!r} was not brought into the workers: {error}")
    return location


def take_away(cell: CheckedCell) -> None:
    """Take away whatever was brought last."""
    with contextlib.suppress(ModelopsError):  # a worker that hangs or died; that is reported elsewhere
        cell.cluster.agent.call("take_away", seconds=_AWAY_SECONDS, deadline=Deadline(_AWAY_SECONDS))


def _location(
    bundle: Bundle, source: formats.Source, house: Wheelhouse, of_client: Wheelhouse, cell: CheckedCell
) -> Mapping[str, Any]:
    location = bundle_isolated.place(bundle, source, house, cell)
    wheels = location["wheels"]
    if of_client is not house:
        wheels = cell.cluster.sandbox.put(of_client.directory, f"bundles/{bundle.name}/wheels-of-client")
    return {
        **location,
        "requirements": list(house.requirements),
        "client": {"wheels": wheels, "requirements": list(of_client.requirements)},
    }


def _bring(bundle: Bundle, location: Answer, cell: CheckedCell, deadline: Deadline) -> str:
    """Have the client register the plugin; why that failed, or empty. Each process is asked for itself afterwards."""
    cell.cluster.await_workers(deadline)
    seconds = max(0.1, deadline.remaining - bundle_isolated.MARGIN_SECONDS)
    here = {**location, "wheels": location["client"]["wheels"]}
    reply: Answer = cell.cluster.agent.call(
        "bring",
        name=f"modelops-bundle-{bundle.name}",
        arguments={"location": location, "requirements": location["requirements"], "seconds": seconds},
        here={"location": here, "requirements": location["client"]["requirements"], "seconds": seconds},
        seconds=seconds,
        deadline=deadline,
    )
    return str(reply.get("error", ""))


def _asked(bundle: Bundle, location: Answer, modules: list[str], house: Wheelhouse) -> dict[str, Any]:
    packages = {name: str(version) for name, version in house.packages.items()}
    return {"location": location, "modules": modules, "packages": packages, "imports": list(bundle.imports)}


def _await_late(
    bundle: Bundle, asked: Mapping[str, Any], cell: CheckedCell, address: str, deadline: Deadline
) -> Answer:
    """What the late worker has when its plugins are set up: it is registered before that."""
    cluster, seen = cell.cluster, "it was not asked"
    while not deadline.passed:
        soon = deadline.at_most(_SOON_SECONDS)
        answer: Answer = cluster.agent.call(
            "ask_workers",
            operation="look_inside",
            arguments=dict(asked),
            workers=[address],
            seconds=max(0.1, soon.remaining),
            deadline=soon,
        )[address]
        if "value" in answer:
            reply: Answer = plain.unpack(answer["value"])
            if reply["setup"] and reply["setup"]["done"]:
                return reply
            seen = "its setup has begun" if reply["setup"] else "it was not given the plugin"
        else:
            seen = answer.get("error") or answer["silent"]
            if death := cluster.death_of_worker(LATE):
                raise ProcessExited(
                    f"bundle {bundle.name!r}: {LATE}, which joined after the others, {death}.{cluster.last_words(LATE)}"
                )
        time.sleep(_POLL_SECONDS)
    raise TimedOut(
        f"bundle {bundle.name!r} did not come into {LATE}, which joined after the others, within "
        f"{deadline.seconds:g} s; seen last: {seen}.{cluster.last_words(LATE)}"
    )


def _faults(answer: Answer, house: Wheelhouse, python: Version, error: str) -> Iterator[Fault]:
    """What is wrong in a process, the most telling first."""
    setup = answer["setup"]
    if setup is None:
        raised = f"; registering it raised {error}" if error else ""
        yield Fault(head=f"it did not get the plugin that brings the bundle{raised}")
        return
    if not setup["done"]:
        yield Fault(head="the plugin that brings the bundle is still being set up")
        return
    for path in setup["touched"]:
        yield Fault(head=f"installing it changed the environment of the process: {path}")
    if "failed" in setup:
        yield from bundle_isolated.faults_of(setup, house, python)
        return
    for one in answer["conflicts"]:
        if one["imported"]:
            yield Fault(
                head=f"the bundle brings {one['name']} {one['wanted']}, and this process has already imported "
                f"{one['name']} {one['here']}, which stays; ask for {one['name']}=={one['here']}, or install the "
                "bundle isolated"
            )
    for module, file in answer["hidden"].items():
        yield Fault(
            head=f"its module {module} cannot be imported: this process has already imported another {module} "
            f"({file}); rename it, or install the bundle isolated"
        )
    yield from (Fault(head=head) for head in bundle_isolated.mismatches(answer, house, python))


def _judge(bundle: Bundle, location: Answer, reply: Mapping[str, Answer], found: Mapping[str, list[Fault]]) -> None:
    """Raise with everything that is wrong, if anything is."""
    tidy = words.Tidy(directories=location["directories"].values())
    faults = {name: [tidy.fault(fault) for fault in some] for name, some in found.items() if some}
    if not faults:
        return
    where = words.counted(len(faults), reply, "processes")
    if [*faults] == [LATE]:
        where = f"{LATE}, which joined after the others, where all is well"
    message = words.message(f"bundle {bundle.name!r} was not installed into {where}", faults, named=True)
    late = any((answer["setup"] or {}).get("timed_out") for answer in reply.values())
    raise RunnerTimedOut(message) if late else CheckFailed(message)
