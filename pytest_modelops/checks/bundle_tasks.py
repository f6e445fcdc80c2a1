"""The tasks of a bundle's job. They travel into the cell as source and call what its workers have for bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_modelops.remote.shared.bundle_messages import BundleLocation, ReplicateAnswer, ReplicateSummary


def replicate(  # noqa: PLR0917 - as Dask passes them
    location: BundleLocation, task_id: str, entrypoint: str, params: Mapping[str, object], seed: int, end: float
) -> Any:
    """Run the entry point once, through the worker's runner; returns a `ReplicateAnswer`."""
    from distributed import get_worker

    bundles: Any = getattr(get_worker(), location.get("served", "modelops_bundles"))
    return bundles.execute(location, task_id, entrypoint=entrypoint, params=params, seed=seed, end=end)


def aggregate(
    location: BundleLocation,
    replicates: Sequence[ReplicateAnswer],
    target: str,
    target_data: Mapping[str, object],
    end: float,
) -> Any:
    """Evaluate a target on the replicates of a parameter set, through the worker's runner; an `AggregateAnswer`."""
    from distributed import get_worker

    bundles: Any = getattr(get_worker(), location.get("served", "modelops_bundles"))
    return bundles.aggregate(location, replicates, target=target, target_data=target_data, end=end)


def summarize(returned: ReplicateAnswer) -> ReplicateSummary:
    """Return what pytest needs to know of a replicate: of each artifact the beginning is enough."""
    import base64

    outputs = {
        name: {
            "size": artifact["size"],
            "checksum": artifact["checksum"],
            "head": base64.b64decode(artifact["inline"][:400]),
        }
        for name, artifact in returned["outputs"].items()
    }
    return {**returned, "outputs": outputs}  # type: ignore[typeddict-item]
