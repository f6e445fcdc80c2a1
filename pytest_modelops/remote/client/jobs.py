"""The jobs that checks run: futures that fan in to aggregates, submitted the way a deployment's job submits them."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import time
from collections.abc import Mapping
from typing import Any

from ..shared import plain
from ..shared.bundle_messages import BundleLocation
from ..shared.facts import AggregationReport, BundleJobReport, BundleReplicate, Outcome, ShippedModule
from ..worker.plugins import error_text
from .connection import Call
from .tasks import Future, Processing, Tasks, counted, define, fan_in

_RUNNER_GRACE_SECONDS = 1.0
"""How long after a runner's time is over its report may take to arrive, stacks included."""
_SHOWN_FAILURES = 5


class Jobs:
    """Runs jobs as tasks of the cluster."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def aggregate(
        self,
        *,
        modules: dict[str, ShippedModule],
        params: int,
        replicates: int,
        more: list[float],
        run: str,
        seconds: float,
    ) -> AggregationReport:
        """Fan `params` × `replicates` tasks in to `params` aggregates.

        Args:
            modules: `simulate(param, replicate)` and `aggregate(param, replicates)`. With `read_back(paths)`, each
                aggregate is written by the worker that ran it, and read back there.
            more: further arguments of `simulate`.
            run: makes the tasks' keys unique.
        """
        end = time.monotonic() + seconds
        simulate, aggregate = fan_in(self._tasks.connection, modules, params, replicates)
        resources = self._tasks.aggregation_resources(seconds)
        tasks = params * replicates + params
        numbers = itertools.count()

        def submit(function: Any, *args: object, key: str, resources: Mapping[str, int] | None = None) -> Future:
            number = next(numbers)
            if time.monotonic() > end:
                raise TimeoutError(f"{number} of {tasks} tasks were submitted until then")
            return self._tasks.submit(function, *args, key=key, resources=resources)

        began = time.monotonic()
        replicas = {
            param: [submit(simulate, param, i, *more, key=f"sim-{run}-{param}-{i}") for i in range(replicates)]
            for param in range(params)
        }
        aggregates = {
            str(param): submit(aggregate, param, sims, key=f"agg-{run}-{param}", resources=resources)
            for param, sims in replicas.items()
        }
        outcomes, processing = self._tasks.settle(aggregates, pinned={}, seconds=end - time.monotonic())
        took = time.monotonic() - began
        if "read_back" in modules and all("value" in outcome for outcome in outcomes.values()):
            outcomes, processing = self._read_back(define(modules["read_back"]), outcomes, end)
        futures = [future for sims in replicas.values() for future in sims]
        errors = [future for future in futures if future.status == "error"][:_SHOWN_FAILURES]
        return {
            "results": outcomes,
            "tasks": tasks,
            "seconds": took,
            "simulated": sum(future.status == "finished" for future in futures),
            "failed": {future.key: error_text(future.exception(timeout=10)) for future in errors},
            "processing": counted(processing),
        }

    def _read_back(
        self, read_back: Any, written: dict[str, Outcome], end: float
    ) -> tuple[dict[str, Outcome], Processing | None]:
        """Read the aggregates on the workers that wrote them."""
        files: dict[str, dict[str, str]] = {}
        for param, outcome in written.items():
            file = plain.unpack(outcome["value"])
            files.setdefault(file["worker"], {})[param] = file["path"]
        reading = {
            worker: self._tasks.submit(read_back, [*paths.values()], worker=worker) for worker, paths in files.items()
        }
        pinned = {worker: worker for worker in files}
        read, processing = self._tasks.settle(reading, pinned=pinned, seconds=end - time.monotonic())
        found: dict[str, Outcome] = {}
        for worker, outcome in read.items():
            contents = plain.unpack(outcome["value"]) if "value" in outcome else None
            for number, param in enumerate(files[worker]):
                found[param] = outcome if contents is None else {"value": plain.pack(contents[number])}
        return found, processing

    def submit_by_reference(self, module: str, name: str, seconds: float) -> Outcome:
        """Submit a graph that holds something of a bundle's by reference, as `dask.delayed` of its functions does.

        Args:
            name: of an attribute of the module; the module itself is sent if it has none of that name.
        """
        from dask.delayed import delayed  # Dask's start takes long

        end = time.monotonic() + seconds
        thing: Any = importlib.import_module(module)
        with contextlib.suppress(AttributeError):
            thing = functools.reduce(getattr, name.split("."), thing)
        # Not called: that may take long, and `execute` does it.
        future = self._tasks.connection.client.compute(delayed(callable, pure=False)(thing))
        outcomes, _ = self._tasks.settle({"graph": future}, pinned={}, seconds=end - time.monotonic())
        return outcomes["graph"]

    def run_bundle(
        self,
        *,
        modules: dict[str, ShippedModule],
        location: BundleLocation,
        entrypoint: str,
        sets: list[list[BundleReplicate]],
        targets: list[str],
        target_data: Any,
        run: str,
        seconds: float,
    ) -> BundleJobReport:
        """Run a bundle's replicates, and its targets on them.

        Args:
            modules: `replicate`, `aggregate` and `summarize` (see `checks/bundle_tasks.py`).
            sets: the replicates of each parameter set.
            seconds: for the runners; what they return may arrive a moment later.
        """
        replicate, aggregate, summarize = (define(modules[n]) for n in ("replicate", "aggregate", "summarize"))
        end = time.time() + seconds
        until = time.monotonic() + seconds + _RUNNER_GRACE_SECONDS
        resources = self._tasks.aggregation_resources(seconds)
        count, of_each = sum(map(len, sets)), max(map(len, sets))
        self._tasks.connection.reserve(
            Call(replicate, (location, entrypoint, sets[0][0]), count),
            Call(aggregate, (location, target_data), len(sets) * len(targets), of_each),
            Call(summarize, count=count, dependencies=1),
        )
        began = time.monotonic()
        submit, simulated, aggregated, pinned = self._tasks.submit, {}, {}, {}
        for number, replicates in enumerate(sets):
            of_set = []
            for index, one in enumerate(replicates):
                name, task_id = f"{number}-{index}", f"sim-{run}-{number}-{index}"
                args = (location, task_id, entrypoint, one["params"], one["seed"], end)
                simulated[name] = submit(replicate, *args, key=task_id, worker=one["worker"])
                of_set.append(simulated[name])
                if one["worker"]:
                    pinned[name] = one["worker"]
            for target in targets:
                key = f"agg-{run}-{number}-{target}"
                aggregated[f"{number}-{target}"] = submit(
                    aggregate, location, of_set, target, target_data, end, key=key, resources=resources
                )
        summaries = {name: submit(summarize, future) for name, future in simulated.items()}
        outcomes, _ = self._tasks.settle(summaries, pinned=pinned, seconds=until - time.monotonic())
        left = until - time.monotonic()
        if any("gone" in outcome for outcome in outcomes.values()):  # what needs it never comes
            left = min(left, _RUNNER_GRACE_SECONDS)
        aggregates, _ = self._tasks.settle(aggregated, pinned={}, seconds=left)
        return {"replicates": outcomes, "aggregates": aggregates, "seconds": time.monotonic() - began}
