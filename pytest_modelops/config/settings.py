"""All settings, read once into one frozen `Settings`.

To add a setting, declare a field here or in the class of its table. Every complaint is one line that names file, key
and valid values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.config.attach import ATTACH, SCALE, AttachSettings
from pytest_modelops.config.file import TABLE, ConfigFile
from pytest_modelops.config.matrix_table import MATRIX
from pytest_modelops.config.outcome_types import BASELINE, DURATION, REPORTS, SHARD
from pytest_modelops.config.setting import (
    FILE,
    Given,
    Kind,
    Place,
    Type,
    Values,
    later,
    many,
    not_one_of,
    setting,
    shown,
    table,
)
from pytest_modelops.config.types import COUNT, COUNT_OR_AUTO, FORK, PATH, SECONDS, STARTS, SWITCH, TEXT, choice
from pytest_modelops.config.types import FILE as EXISTING_FILE
from pytest_modelops.errors import WrongInput, said_of

if TYPE_CHECKING:
    from pytest_modelops.bundles.bundle import Bundle
    from pytest_modelops.config.cluster import ClassSettings
    from pytest_modelops.config.docker import ContainerSettings
    from pytest_modelops.config.model import (
        AggregationSettings,
        EnvironmentTable,
        PluginSettings,
        PreflightSettings,
        RunnerSettings,
    )
    from pytest_modelops.matrix.shards import Shard
    from pytest_modelops.matrix.versions import MatrixSettings
    from pytest_modelops.report.known import KnownBreak
    from pytest_modelops.report.targets import Target

BACKENDS = ("auto", "cluster", "docker", "process")
"""Values of the setting `backend`; `backends.registry` opens them."""
ATTACHED = "attach"
"""The backend of a run that attaches to a deployment."""
MADE = "cluster"
"""The backend whose clusters a Dask cluster class makes."""
_NO_FILE = ConfigFile(path=None, directory=Path(), table={}, origin=FILE, description="none")
FAIL_ON = ("broken", "new")
"""What a run fails for."""
KEEP = ("never", "failed", "always")
"""When a cell is left up."""


@dataclasses.dataclass(frozen=True)
class Deadline:
    """A deadline that was set for a check, and the place for messages."""

    check: str
    seconds: float
    place: str


def _deadlines(value: object, place: Place) -> tuple[Deadline, ...]:
    if not isinstance(value, dict):
        raise WrongInput(f"{place}: {shown(value)} is not a table; its keys are names of checks")
    return tuple(Deadline(check, SECONDS.read(one, place.key(check)), str(place)) for check, one in value.items())


def _given_deadlines(given: Given) -> tuple[Deadline, ...]:
    found = []
    for one in given.texts:
        check, equals, seconds = one.partition("=")
        if not equals:
            raise WrongInput(f"{given.origin}: {one!r} is not CHECK=SECONDS, such as start=120")
        read = SECONDS.read_given(dataclasses.replace(given, texts=(seconds,)))
        found.append(Deadline(check, read, given.origin))
    return tuple(found)


_DEADLINES = Type(_deadlines, {"type": "object", "additionalProperties": SECONDS.schema}, kind=Kind.MANY, section=True)


def _user_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("pytest-modelops")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, with defaults filled in.

    Attributes:
        file: where the table comes from; paths in it are relative to its directory.
        reports: what to write.
        parallel: `None` for `auto`.
        constraints: as given for this run; `environment` has those that hold.
        deadlines: those that were set, the weakest source first; see `deadlines_of`.
        bundles: bundles of this run.
        known_bundles: those, and those of the file, whose settings a test's marker inherits.
        containers: also holds `keep`.
    """

    file: ConfigFile = _NO_FILE
    backend: str = setting(
        choice("a backend", BACKENDS),
        "Where cells run: in containers (`docker`), in local virtual environments (`process`), in containers if an "
        "engine answers, else locally (`auto`), or wherever a Dask cluster class runs them (`cluster`, see "
        "[cluster.md](cluster.md)).",
        "auto",
        name="backend",
        metavar="|".join(BACKENDS),
        ini=True,
    )
    matrix: MatrixSettings = setting(MATRIX, "Which cells there are.")
    bundles: tuple[Bundle, ...] = setting(
        later("bundle_table", "BUNDLES"),
        "What is shipped to the workers: a list of paths or tables.",
        (),
        name="bundle",
        metavar="PATH",
        flag_help="Replace the configured bundles: a path, or the name of a configured bundle, which "
        "keeps its settings.",
        path=True,
        replaces=False,
        many=True,
    )
    known_broken: tuple[KnownBreak, ...] = setting(
        later("known_broken", "KNOWN_BROKEN"), "Checks that are known to be broken, see below. A list of tables.", ()
    )
    causes: tuple[Path, ...] = setting(
        many(PATH), "Files with causes of broken cells that you know, see [probable causes](#probable-causes).", ()
    )
    workers: int = setting(COUNT, "Worker processes in each cell.", 2, name="workers", metavar="N", ini=True)
    threads: int = setting(COUNT, "Threads of each worker.", 1)
    parallel: int | None = setting(
        COUNT_OR_AUTO,
        "How many cells run at once: a number, or `auto`, a quarter more than cores if there is the memory for it. See "
        "[Several cells at once](#several-cells-at-once).",
        lambda: None,
        shown='"auto"',
        name="parallel",
        flag_help="How many cells run at once; `auto` is a quarter more than cores if there is the memory for it.",
        metavar="N|auto",
        ini=True,
        decides=(),
    )
    nanny: bool = setting(SWITCH, "Whether workers have nannies, as is Dask's own default.", default=True)
    start: str = setting(
        choice("a way to start processes", STARTS),
        "How the backend `process` starts a cell's processes: each by itself (`exec`); scheduler, nannies and client "
        "forked from a process that has imported Dask (`fork`); or their workers forked by the nannies, too "
        "(`fork-workers`, which nannies in containers do, too). See below.",
        FORK,
        name="start",
        metavar="|".join(STARTS),
        ini=True,
    )
    deadlines: tuple[Deadline, ...] = setting(
        _DEADLINES,
        "Seconds that a check may take, by the check's name.",
        name="deadline",
        metavar="CHECK=SECONDS",
        flag_help="How long a check may take.",
        ini=True,
        replaces=False,
    )
    reports: tuple[Target, ...] = setting(
        REPORTS,
        "Write a report, see [reports](#reports): a path that ends in `.html`, `.md`, `.json` or `.xml` (JUnit), a "
        "directory, which gets all of them and the logs, or `github`.",
        (),
        key="report",
        name="report",
        metavar="PATH",
        ini=True,
        path=True,
        decides=(),
    )
    baseline: Path | None = setting(
        BASELINE,
        "Compare with an earlier run, see [baselines](#baselines): a JSON report, a directory of reports, or `last`, "
        "the last run here of the same configuration.",
        name="baseline",
        metavar="PATH|last",
        ini=True,
        path=True,
        decides=(),
    )
    fail_on: str = setting(
        choice("a reason to fail", FAIL_ON),
        "What a run fails for: everything that is `broken`, or only what is `new` since the baseline.",
        FAIL_ON[0],
        name="fail-on",
        metavar="|".join(FAIL_ON),
        ini=True,
        decides=(),
    )
    trust_last: bool = setting(
        SWITCH,
        "Do not run the cells that passed in the last run and for which nothing has changed since; take their results, "
        "see [results of the last run](#results-of-the-last-run).",
        default=False,
        name="trust-last",
        ini=True,
        decides=(),
    )
    changed: str | None = setting(
        TEXT,
        "Run only what a change in git since a revision can have touched, see [what changed](#what-changed).",
        key="",
        name="changed",
        metavar="REV",
        decides=(),
    )
    shard: Shard | None = setting(
        SHARD,
        "Run one part of the matrix, such as `2/8`, see [several machines](#several-machines).",
        key="",
        name="shard",
        metavar="N/M",
        decides=(),
    )
    budget: float | None = setting(
        DURATION,
        "Run the cells that tell most first, and begin none that would not end in this time (`10m`, `90s`, `1h`), see "
        "[a budget](#a-budget).",
        name="budget",
        metavar="TIME",
        ini=True,
        decides=(),
    )
    keep: str = setting(
        choice("a time to keep cells", KEEP),
        "Whether cells in containers are left up when they are done: `never`, those that `failed`, or `always`. The "
        "run then prints how to get in and how to clear them.",
        "never",
        name="keep",
        metavar="|".join(KEEP),
        ini=True,
    )
    fresh: bool = setting(SWITCH, "Trust no cached environment.", default=False, name="fresh", ini=True, decides=())
    cache: Path = setting(
        PATH,
        "Directory of the environments that are cached between runs. By default in the user's cache directory.",
        _user_cache,
        name="cache",
        metavar="PATH",
        ini=True,
        path=True,
        decides=(),
    )
    constraints: Path | None = setting(
        EXISTING_FILE,
        "Replace the constraints file of `[tool.modelops.environment]`.",
        key="",
        name="constraints",
        metavar="PATH",
        path=True,
    )
    environment: EnvironmentTable = setting(later("model", "ENVIRONMENT"), "What goes into a cell besides Dask.")
    aggregation: AggregationSettings = setting(
        later("model", "AGGREGATION"),
        "The size of the check `aggregation`.",
        decides=("aggregation", "rolling", "execute", "bundle-aggregation"),
    )
    preflight: PreflightSettings = setting(
        later("model", "PREFLIGHT"),
        "How your deployment wants entry points and targets to be written.",
        decides=("preflight",),
    )
    runner: RunnerSettings = setting(later("runner", "RUNNER"), "How a bundle's runner is started and asked.")
    plugin: PluginSettings | None = setting(
        later("worker_plugin", "PLUGIN"),
        "A worker plugin that your deployment registers, and what its runtime must be. It adds the check `runtime`.",
        lambda: None,
        key="worker-plugin",
    )
    containers: ContainerSettings = setting(
        later("docker", "CONTAINERS"), "Images and limits of cells in containers.", key="docker"
    )
    cluster: ClassSettings = setting(
        later("cluster", "CLUSTER"), "The Dask cluster class of the backend `cluster`, and its options."
    )
    attach: AttachSettings = setting(ATTACH, "A deployment that runs already, and is checked instead.")
    known_bundles: tuple[Bundle, ...] = ()

    def deadlines_of(self, check_names: Collection[str]) -> dict[str, float]:
        """Return the seconds of each check for which a deadline was set; for each the strongest source wins.

        Raises:
            WrongInput: a deadline is for none of these checks.
        """
        for deadline in self.deadlines:
            if deadline.check not in check_names:
                raise WrongInput(f"{deadline.place}: {not_one_of(deadline.check, 'a check', check_names)}")
        return {deadline.check: deadline.seconds for deadline in self.deadlines}


def _finish(found: Settings, _: Values, place: Place) -> Settings:
    from pytest_modelops.config.bundle_table import at, distinct

    bundles = found.bundles
    if given := place.strongest("bundle"):
        with said_of(given.origin):
            bundles = tuple(at(path, given.directory, found.bundles) for path in given.texts)
        distinct(bundles, given.origin)
    if found.fail_on == "new" and found.baseline is None:
        raise WrongInput(f"{place}: fail-on is 'new' without a baseline; name one with --modelops-baseline=PATH")
    if found.trust_last and found.fresh:
        raise WrongInput(f"{place}: trust-last takes results of the last run, and fresh trusts nothing; leave out one")
    environment = found.environment
    if found.constraints is not None:
        environment = dataclasses.replace(environment, constraints=found.constraints)
    if found.attach.is_asked_for:
        found = _attached(found, place)
    elif found.backend == MADE:
        found = _made(found, place)
    names = {bundle.name for bundle in bundles}
    deadlines = [deadline for one in reversed(place.given.get("deadline", ())) for deadline in _given_deadlines(one)]
    return dataclasses.replace(
        found,
        bundles=bundles,
        known_bundles=(*bundles, *(bundle for bundle in found.bundles if bundle.name not in names)),
        deadlines=(*found.deadlines, *deadlines),
        containers=dataclasses.replace(found.containers, keep=found.keep),
        environment=environment,
    )


def _attached(found: Settings, place: Place) -> Settings:
    """Return the settings of a run that attaches to a deployment, whatever the backend of other runs is."""
    for option in ("backend", "keep"):
        if (given := place.strongest(option)) and given.origin.startswith("--"):
            raise WrongInput(f"{given.origin}: means nothing with a deployment that runs already; leave it out")
    if found.trust_last:
        raise WrongInput(f"{place}: trust-last means nothing with a deployment, which may have changed; leave it out")
    if SCALE in found.attach.allow and found.plugin is None:
        raise WrongInput(
            f"{place.section('attach')}: allow = [{SCALE!r}] is for the check `runtime`, and there is none without "
            f"[{place.table}.worker-plugin]"
        )
    tasks, most = found.aggregation.tasks, found.attach.tasks
    if tasks > most:
        raise WrongInput(
            f"{place.section('aggregation')}: the check `aggregation` would send {tasks} tasks to the deployment, and "
            f"`tasks` of [{place.table}.attach] allows {most}"
        )
    return dataclasses.replace(found, backend=ATTACHED, keep="never")


def _made(found: Settings, place: Place) -> Settings:
    """Return the settings of a run on the clusters that a class makes."""
    cluster = found.cluster
    if not cluster.path:
        raise WrongInput(
            f"{place.section('cluster')}: the backend is cluster, and there is no class; write one such as "
            'class = "distributed:LocalCluster"'
        )
    if found.environment.worker_args:
        raise WrongInput(
            f"{place.section('environment')}: worker-args are not for the backend cluster, where the class starts the "
            f"workers; write its own options in [{place.table}.cluster]"
        )
    if found.trust_last:
        raise WrongInput(
            f"{place}: trust-last means nothing with the backend cluster, where anything may have changed; leave it out"
        )
    workers = cluster.adaptive.minimum if cluster.adaptive is not None else cluster.scale
    if workers is not None and place.strongest("workers"):
        key = "adaptive" if cluster.adaptive is not None else "scale"
        raise WrongInput(f"{place.section('cluster')}: {key} already says how many workers there are; leave out one")
    return dataclasses.replace(found, workers=workers or found.workers)


_SETTINGS = table(Settings, _finish)


def parse(file: ConfigFile, sources: Mapping[str, Sequence[Given]]) -> Settings:
    """Read the file, and what was given outside it for each option, the strongest first.

    Raises:
        WrongInput: a value or a key is not valid.
    """
    place = Place(origin=file.origin, table=f"tool.{TABLE}", directory=file.directory, given=sources)
    return dataclasses.replace(_SETTINGS.read(file.table, place), file=file)
