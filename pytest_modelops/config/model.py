"""The frozen types that the rest of the package reads settings from."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_modelops.bundles.bundle import Patterns
from pytest_modelops.config.cluster import ClassSettings
from pytest_modelops.config.faults import FAULTS_OF_JOB, Fault
from pytest_modelops.config.runner import PROTOCOLS, RunnerSettings
from pytest_modelops.config.setting import leaf, many, not_one_of, section, setting, table
from pytest_modelops.config.types import (
    COUNT,
    DAY,
    EXEC,
    FILE,
    PATTERN,
    REQUIREMENTS,
    STRING,
    TEXT,
    WORKER_ARGS,
    text,
    variable_name,
)
from pytest_modelops.config.variables import CELL_VARIABLES, Secrets, expanded
from pytest_modelops.config.worker_plugin import COLD, DIRECT, PROCESSES, WARM, PluginSettings
from pytest_modelops.errors import WrongInput

__all__ = ["COLD", "DIRECT", "PROCESSES", "PROTOCOLS", "WARM", "PluginSettings", "RunnerSettings"]

FAILED_WHEN = ("error", "outputs.error", "outputs.empty")
"""What makes a replicate a failed one although Dask calls it finished; see `bundle_job.faults_of_replicate`."""
_PLACE = r"[^:]+:[\w.-]*"
"""`ARTIFACT:PATH`."""


def _condition(value: object) -> str:
    found = text(value)
    if found not in FAILED_WHEN and not re.fullmatch(_PLACE, found):
        raise WrongInput(f"{not_one_of(found, 'a condition', FAILED_WHEN)}, ARTIFACT:PATH")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class AggregationSettings:
    """Size of the aggregation job: `params` × `replicates` tasks, and `params` aggregates of them."""

    params: int = setting(COUNT, "Parameter sets of the check `aggregation`; each has one aggregate.", 20)
    replicates: int = setting(COUNT, "Replicates of each parameter set.", 20)
    failed_when: tuple[str, ...] = setting(
        many(
            leaf(_condition, {"anyOf": [{"enum": [*FAILED_WHEN]}, {"type": "string", "pattern": f"^{_PLACE}$"}]}),
            if_empty=f"[] would let every replicate pass. Valid: {', '.join(sorted(FAILED_WHEN))}, ARTIFACT:PATH",
        ),
        "What makes a replicate of the check `bundle-aggregation` a failed one although Dask calls it finished: "
        '`"error"` (its runner failed), `"outputs.error"` (it returned an artifact that is named `error`, with any '
        "ending, or one that is a JSON object, or a list of such, with a text or `true` in `error`, `errors`, "
        '`exception` or `traceback`), `"outputs.empty"` (an artifact '
        'holds nothing, or the runner failed), or `"ARTIFACT:PATH"`, see below. At least one.',
        FAILED_WHEN,
    )
    may_be_empty: tuple[str, ...] = setting(
        many(TEXT),
        'Artifacts that may hold nothing beside others that do, such as `"warnings.json"`; `*` stands for anything.',
        (),
    )

    faults: tuple[Fault, ...] = setting(
        FAULTS_OF_JOB,
        "What happens to the cell in the middle of the job, see [faults](faults.md): a list of names, or of tables as "
        "below. Each is a check of its own, `aggregation[kill-worker]`.",
        (),
    )

    @property
    def tasks(self) -> int:
        """How many tasks the check `aggregation` submits."""
        return self.params * (self.replicates + 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreflightSettings(Patterns):
    """How the deployment wants entry points and targets to be written."""

    entrypoint: str | None = setting(
        PATTERN,
        "A regular expression that each bundle's `entrypoint` must match as a whole, where your deployment accepts "
        "less than this page says.",
    )
    target: str | None = setting(PATTERN, "A regular expression that each bundle's `target` must match as a whole.")


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
    """`[tool.modelops.environment]`, which also says how processes are started.

    Attributes:
        env, scheduler_env, client_env: as in the file; see `variables`.
    """

    env: Mapping[str, str] = setting(
        CELL_VARIABLES,
        "Variables of the workers. `versions` audits that each arrived and, for `DASK_…` variables, that Dask's "
        "configuration has them. In a value, `{env:NAME}` stands for the variable `NAME` of the host, and `{cell-dir}` "
        "for a directory of the cell's own (in containers, of the container's own). Values of the host, and of "
        "variables named as a secret (`…_TOKEN`, `…_PASSWORD`, `…_KEY`), are shown as `[…]`.",
        {},
    )
    scheduler_env: Mapping[str, str] = setting(CELL_VARIABLES, "Variables of the scheduler, as `env`.", {})
    client_env: Mapping[str, str] = setting(CELL_VARIABLES, "Variables of the client, as `env`.", {})
    pass_env: tuple[str, ...] = setting(
        many(leaf(variable_name, STRING)),
        "Variables of the host that all processes of a cell get, on every backend. One that the host does not have is "
        "not passed.",
        (),
    )
    worker_args: tuple[str, ...] = setting(
        WORKER_ARGS,
        "Further arguments of `dask worker`. A path in them, such as that of a preload, is relative to this file; what "
        "it names is copied into the cell. `{cell-dir}` may stand in them. `start` fails for what the Dask of a "
        "cell does not know.",
        (),
    )

    def variables(self, environ: Mapping[str, str] = os.environ) -> tuple[Mapping[str, str], ...]:
        """Return the variables of workers, scheduler and client, with the host's filled in."""
        passed = {name: environ[name] for name in self.pass_env if name in environ}
        return tuple(
            {**passed, **{name: expanded(text, environ) for name, text in own.items()}}
            for own in (self.env, self.scheduler_env, self.client_env)
        )

    def secrets(self, passed: Sequence[str] = (), environ: Mapping[str, str] = os.environ) -> Secrets:
        """Return what of these variables, and of further ones that are passed on, is never shown."""
        found = Secrets.passed((*self.pass_env, *passed), environ)
        for own in (self.env, self.scheduler_env, self.client_env):
            found |= Secrets.of(own, environ)
        return found

    def everything(
        self,
        passed: Sequence[str] = (),
        *,
        reported: Callable[[str], bool] = lambda _: False,
        environ: Mapping[str, str] = os.environ,
    ) -> Secrets:
        """Return the values of these variables, none of which is in a report that others may see.

        Args:
            passed: more variables of the host.
            reported: whether a check reports a variable by its name. Its value is shown unless it is a secret.
        """
        names = (name for name in (*self.pass_env, *passed) if name in environ)
        own = (item for table in (self.env, self.scheduler_env, self.client_env) for item in table.items())
        hidden = ((name, text) for name, text in own if not reported(name) or Secrets.of({name: text}, environ).values)
        return Secrets.everything([*hidden, *((name, environ[name]) for name in names)], environ)


AGGREGATION = section(AggregationSettings)
PREFLIGHT = section(PreflightSettings)
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
        scheduler_variables, client_variables: those of the scheduler and of the client.
        start: one of `STARTS`.
        secrets: values among the variables that are never shown.
        rootdir: what relative paths among the arguments are relative to.
        made: the Dask cluster class that starts scheduler and workers; how many threads they have, and whether they
            have nannies, is up to its options then.
    """

    workers: int
    threads: int
    nanny: bool
    worker_variables: Mapping[str, str]
    worker_arguments: Sequence[str]
    scheduler_variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    client_variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    start: str = EXEC
    secrets: Secrets = dataclasses.field(default_factory=Secrets)
    rootdir: Path = Path()
    made: ClassSettings | None = None
