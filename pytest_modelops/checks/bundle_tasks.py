"""The tasks of a bundle's job. They travel into the cell as source, and call what its workers have for bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def replicate(  # noqa: PLR0917 - as Dask passes them
    location: Mapping[str, Any], task_id: str, entrypoint: str, params: Mapping[str, Any], seed: int, end: float
) -> Any:
    """One run of the entry point, by the worker's runner."""
    from distributed import get_worker

    bundles: Any = get_worker().modelops_bundles  # type: ignore[attr-defined]
    return bundles.execute(location, task_id, entrypoint=entrypoint, params=params, seed=seed, end=end)


def aggregate(
    location: Mapping[str, Any],
    replicates: Sequence[Mapping[str, Any]],
    target: str,
    target_data: Mapping[str, Any],
    end: float,
) -> Any:
    """A target on the replicates of a parameter set, by the worker's runner."""
    from distributed import get_worker

    bundles: Any = get_worker().modelops_bundles  # type: ignore[attr-defined]
    return bundles.aggregate(location, replicates, target=target, target_data=target_data, end=end)


def summarize(returned: Mapping[str, Any]) -> dict[str, Any]:
    """What pytest needs to know of a replicate: of each artifact the beginning is enough."""
    import base64

    outputs = {
        name: {
            "size": artifact["size"],
            "checksum": artifact["checksum"],
            "head": base64.b64decode(artifact["inline"][:400]),
        }
        for name, artifact in returned["outputs"].items()
    }
    return {**returned, "outputs": outputs}
