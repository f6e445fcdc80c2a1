"""One more worker of a deployment, and one less: by the cluster object that a factory or a gateway has returned."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..shared.waiting import poll
from .connection import Connection, Failure

_POLL_SECONDS = 0.2


class Scaling:
    """Scales a cluster up by one and down again."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._before: set[str] = set()
        self._late: dict[str, object] = {}
        """Name by address of the workers that have joined, as the cluster knows them."""

    def scale_up(self, cluster: Any, seconds: float) -> str:
        """Ask for one more worker than there are, and wait for it; return its address."""
        if cluster is None:
            raise Failure("the deployment was not scaled: the factory returned an address, and no cluster")
        if getattr(cluster, "_adaptive", None) is not None:
            raise Failure("the deployment was not scaled: the cluster is adaptive and scales by itself")
        self._before = set(self._identities(seconds))
        end = time.monotonic() + seconds
        cluster.scale(len(self._before) + 1)
        self._late = poll(
            lambda: {a: one["name"] for a, one in self._identities(seconds).items() if a not in self._before},
            end=end,
            every=_POLL_SECONDS,
        )
        if not self._late:
            raise TimeoutError(f"scaled up by one, no worker more had joined within {seconds:.0f} s")
        return next(iter(self._late))

    def scale_down(self, cluster: Any, seconds: float) -> dict[str, list[str]]:
        """Scale down again; return which workers are `missing` that were there before, and which are `more`.

        Of Dask's own cluster classes, the worker that joined is closed; others decide themselves which.
        """
        if not self._before:
            return {"missing": [], "more": []}
        if self._late and hasattr(cluster, "worker_spec") and hasattr(cluster, "scale_down"):
            cluster.sync(cluster.scale_down, list(self._late.values()))
        else:
            cluster.scale(len(self._before))
        end = time.monotonic() + seconds
        there = poll(
            lambda: set(self._identities(seconds)),
            end=end,
            every=_POLL_SECONDS,
            done=lambda there: len(there) <= len(self._before),
        )
        return {"missing": sorted(self._before - there), "more": sorted(there - self._before)}

    def _identities(self, seconds: float) -> Mapping[str, Mapping[str, object]]:
        workers: Mapping[str, Mapping[str, object]] = self._connection.ask_scheduler("identity", seconds=seconds)[
            "workers"
        ]
        return workers
