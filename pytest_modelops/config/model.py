"""The frozen types that the rest of the package reads settings from."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_modelops.config.runner import PROTOCOLS, RunnerSettings
from pytest_modelops.config.setting import many, section, setting, table
from pytest_modelops.config.types import COUNT, DAY, FILE, REQUIREMENTS, VARIABLES, WORKER_ARGS, choice
from pytest_modelops.config.worker_plugin import COLD, DIRECT, PROCESSES, WARM, PluginSettings

__all__ = ["COLD", "DIRECT", "PROCESSES", "PROTOCOLS", "WARM", "PluginSettings", "RunnerSettings"]

FAILED_WHEN = ("error", "outputs.error", "outputs.empty")
"""What makes a replicate a failed one although Dask calls it finished; see `bundle_messages.failures`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AggregationSettings:
    """Size of the aggregation job: `params` × `replicates` tasks, and `params` aggregates of them."""

    params: int = setting(COUNT, "Parameter sets of the check `aggregation`; each has one aggregate.", 20)
    replicates: int = setting(COUNT, "Replicates of each parameter set.", 20)
    failed_when: tuple[str, ...] = setting(
        many(
            choice("a condition", FAILED_WHEN),
            if_empty=f"[] would let every replicate pass. Valid: {', '.join(sorted(FAILED_WHEN))}",
        ),
        "What makes a replicate of the check `bundle-aggregation` a failed one although Dask calls it finished: "
        '`"error"` (its runner failed), `"outputs.error"` (it returned an artifact that is named `error`, with any '
        'ending) or `"outputs.empty"` (no artifact holds anything, also because its runner failed). At least one.',
        FAILED_WHEN,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What goes into a cell's environments besides Dask.

    Attributes:
        requirements: PEP 508 lines, or absolute paths of project directories or wheels.
        rootdir: directory whose uv configuration applies.
    """

    requirements: tuple[str, ...] = setting(
        REQUIREMENTS,
        "What goes into each environment besides Dask: PEP 508 lines, project directories and wheels "
        '(`"./libs/contracts"`; built from a copy, so the directory is never written to).',
        (),
    )
    constraints: Path | None = setting(FILE, "A constraints file.")
    as_of: datetime.date | None = setting(
        DAY, "A date: resolve as on that day. The index must report when files were uploaded."
    )
    rootdir: Path = Path()


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvironmentTable(EnvironmentSpec):
    """`[tool.modelops.environment]`, which also says how workers are started."""

    env: Mapping[str, str] = setting(
        VARIABLES,
        "Variables of the workers. `versions` audits that each arrived and, for `DASK_…` variables, that Dask's "
        "configuration has them.",
        {},
    )
    worker_args: tuple[str, ...] = setting(WORKER_ARGS, "Further arguments of `dask worker`.", ())


AGGREGATION = section(AggregationSettings)
ENVIRONMENT = table(
    EnvironmentTable, lambda found, _, place: dataclasses.replace(found, rootdir=place.directory), section=True
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How the parts of a cluster are started.

    Attributes:
        workers: number of worker processes.
        threads: threads of each.
        nanny: whether each has a nanny, as is Dask's own default.
        worker_variables: environment variables of the workers.
        worker_arguments: further arguments of `dask worker`.
    """

    workers: int
    threads: int
    nanny: bool
    worker_variables: Mapping[str, str]
    worker_arguments: Sequence[str]
