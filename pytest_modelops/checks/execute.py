"""`execute[bundle]`: the entry point runs on every worker, as a task through the runner, and gives the same on all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import bundle_messages as words
from pytest_modelops.checks import freshness
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_job import Replicate, run_job
from pytest_modelops.checks.bundle_messages import Fault
from pytest_modelops.config.model import FAILED_WHEN
from pytest_modelops.deadline import Deadline

Artifacts = Mapping[str, Mapping[str, Any]]


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, Any]:
    """Run it with the configured seed on each worker, and compare."""
    cell.progress(f"executing {bundle.name} on every worker")
    workers = [worker.name for worker in cell.cluster.workers]
    replicates = [Replicate(params=bundle.params, seed=bundle.seed, worker=name) for name in workers]
    answer = run_job(bundle, cell, deadline, [replicates])
    by_worker = {name: answer.replicates[f"0-{n}"] for n, name in enumerate(workers) if f"0-{n}" in answer.replicates}
    location = cell.locations[bundle]
    faults: dict[str, Sequence[Fault]] = {
        name: freshness.with_hint(found, one.get("beside", {}), location, cell.runner.path)
        for name, one in by_worker.items()
        if (found := words.faults_of_replicate(one, FAILED_WHEN, seconds=deadline.seconds))
    }
    count = words.counted(len(faults) or len(workers), workers, "workers")
    copy = freshness.Freshness()
    if not faults and not answer.lost:
        outputs = {name: one["outputs"] for name, one in by_worker.items()}
        differing = [Fault(head=head) for head in _differences(outputs)]
        unexpected = [Fault(head=head) for head in _unexpected(bundle, outputs[workers[0]])]
        copy = freshness.ask(bundle, location, workers[0], outputs[workers[0]], cell, deadline, took=answer.seconds)
        faults = {workers[0]: copy.faults, "the workers": [*differing, *unexpected]}
    answer.judge(f"bundle {bundle.name!r}, `{bundle.entrypoint}` with seed {bundle.seed}, {count}", faults)
    sizes = {name: artifact["size"] for name, artifact in by_worker[workers[0]]["outputs"].items()}
    processes = words.processes_of(by_worker.values())
    seconds = round(answer.seconds, 3)
    return {"artifacts": sizes, "processes": processes, "seconds": seconds, "fresh": copy.figures}


def _differences(outputs: Mapping[str, Artifacts]) -> Iterator[str]:
    """Where workers do not agree with the first of them."""
    first, *others = outputs
    for worker in others:
        names = outputs[first].keys() | outputs[worker].keys()
        for name in sorted(names):
            here, there = outputs[first].get(name), outputs[worker].get(name)
            if here is None or there is None:
                has, lacks = (first, worker) if there is None else (worker, first)
                yield f"{has} returned {name!r}, {lacks} did not, for the same parameters and seed"
            elif here["checksum"] != there["checksum"]:
                yield (
                    f"{name!r} differs between workers for the same parameters and seed: {first} "
                    f"{words.shown(here['head'])} ({here['size']} bytes), {worker} {words.shown(there['head'])} "
                    f"({there['size']} bytes)"
                )


def _unexpected(bundle: Bundle, artifacts: Artifacts) -> Iterator[str]:
    """Where an artifact is not what `expect` says."""
    for name, expected in bundle.expect.items():
        artifact = artifacts.get(name)
        if artifact is None:
            yield f"expected an artifact {name!r}; it returned {', '.join(map(repr, artifacts)) or 'none'}"
            continue
        digest = expected.removeprefix("sha256:")
        if digest == expected:
            digest = hashlib.sha256(expected.encode()).hexdigest()
        if artifact["checksum"] != digest.lower():
            wanted = expected if expected.startswith("sha256:") else words.shown(expected.encode())
            yield (
                f"{name!r} is not what was expected: {words.shown(artifact['head'])} ({artifact['size']} bytes, "
                f"sha256:{artifact['checksum']}), expected {wanted}"
            )


def check(bundle: Bundle) -> Check:
    """The check for a bundle with an entry point."""
    return Check(
        name="execute",
        bundle=bundle,
        run=lambda cell, deadline: run(bundle, cell, deadline),
        needs=(label("bundle-install" if bundle.in_workers else "handshake", bundle),),
        seconds=120,
        summary="the entry point runs on every worker, with the same result",
    )
