"""`execute[bundle]`: the entry point runs on every worker, as a task through the runner, and gives the same on all."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import freshness
from pytest_modelops.checks.base import Check, CheckedCell, label
from pytest_modelops.checks.bundle_job import Replicate, processes_of, run_job
from pytest_modelops.checks.bundle_messages import Fault, counted, shown
from pytest_modelops.checks.results import faults_of_replicate
from pytest_modelops.config.model import FAILED_WHEN
from pytest_modelops.deadline import Deadline
from pytest_modelops.remote.shared.bundle_messages import ArtifactSummary

Artifacts = Mapping[str, ArtifactSummary]


def run(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Run it with the configured seed on each worker, and compare."""
    cell.progress(f"executing {bundle.name} on every worker")
    workers = list(cell.cluster.names)
    replicates = [Replicate(params=bundle.params, seed=bundle.seed, worker=name) for name in workers]
    job = run_job(bundle, cell, deadline, [replicates])
    by_worker = {name: job.replicates[f"0-{n}"] for n, name in enumerate(workers) if f"0-{n}" in job.replicates}
    location = cell.locations[bundle]
    failed_when, may_be_empty = {*FAILED_WHEN, *cell.aggregation.failed_when}, cell.aggregation.may_be_empty
    faults: dict[str, Sequence[Fault]] = {
        name: freshness.with_hint(found, one.get("beside", {}), location, cell.runner.path)
        for name, one in by_worker.items()
        if (found := faults_of_replicate(one, failed_when, seconds=deadline.seconds, may_be_empty=may_be_empty))
    }
    count = counted(len(faults) or len(workers), workers, "workers")
    copy = freshness.Freshness()
    if not faults and not job.lost:
        outputs = {name: one["outputs"] for name, one in by_worker.items()}
        copy = freshness.ask(bundle, location, workers[0], outputs[workers[0]], cell, deadline, took=job.seconds)
        heads = [*_differences(outputs), *_unexpected(bundle, outputs[workers[0]])]
        faults = {workers[0]: copy.faults, "the workers": [Fault(head=head) for head in heads]}
    job.raise_faults(f"bundle {bundle.name!r}, `{bundle.entrypoint}` with seed {bundle.seed}, {count}", faults)
    return {
        "artifacts": {name: artifact["size"] for name, artifact in by_worker[workers[0]]["outputs"].items()},
        "processes": processes_of(by_worker.values()),
        "seconds": round(job.seconds, 3),
        "fresh": copy.figures,
    }


def _differences(outputs: Mapping[str, Artifacts]) -> Iterator[str]:
    """Yield where workers do not agree with the first of them."""
    first, *others = outputs
    for worker in others:
        for name in sorted(outputs[first].keys() | outputs[worker].keys()):
            here, there = outputs[first].get(name), outputs[worker].get(name)
            if here is None or there is None:
                has, lacks = (first, worker) if there is None else (worker, first)
                yield f"{has} returned {name!r}, {lacks} did not, for the same parameters and seed"
            elif here["checksum"] != there["checksum"]:
                yield (
                    f"{name!r} differs between workers for the same parameters and seed: {first} "
                    f"{shown(here['head'])} ({here['size']} bytes), {worker} {shown(there['head'])} "
                    f"({there['size']} bytes)"
                )


def _unexpected(bundle: Bundle, artifacts: Artifacts) -> Iterator[str]:
    """Yield where an artifact is not what `expect` says."""
    for name, expected in bundle.expect.items():
        artifact = artifacts.get(name)
        if artifact is None:
            yield f"expected an artifact {name!r}; it returned {', '.join(map(repr, artifacts)) or 'none'}"
            continue
        digest = expected.removeprefix("sha256:")
        wanted = expected
        if digest == expected:
            digest, wanted = hashlib.sha256(expected.encode()).hexdigest(), shown(expected.encode())
        if artifact["checksum"] != digest.lower():
            yield (
                f"{name!r} is not what was expected: {shown(artifact['head'])} ({artifact['size']} bytes, "
                f"sha256:{artifact['checksum']}), expected {wanted}"
            )


def check(bundle: Bundle) -> Check:
    return Check(
        name="execute",
        bundle=bundle,
        run=functools.partial(run, bundle),
        needs=(label("bundle-install" if bundle.in_workers else "handshake", bundle),),
        seconds=120,
        summary="the entry point runs on every worker, with the same result",
    )
