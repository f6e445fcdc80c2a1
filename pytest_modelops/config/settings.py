"""All settings: each is declared once, as a field of one frozen `Settings`, which `parsing` reads.

To add a setting, declare a field here or in the class of its table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_modelops.config.attach import ATTACH, AttachSettings
from pytest_modelops.config.file import ConfigFile
from pytest_modelops.config.matrix_table import MATRIX
from pytest_modelops.config.outcome_types import BASELINE, DURATION, REPORTS, SHARD
from pytest_modelops.config.setting import FILE, Given, Kind, Place, Type, later, many, not_one_of, setting, shown
from pytest_modelops.config.types import COUNT, COUNT_OR_AUTO, FORK, PATH, SECONDS, STARTS, SWITCH, TEXT, choice
from pytest_modelops.config.types import FILE as EXISTING_FILE
from pytest_modelops.errors import WrongInput
from pytest_modelops.report.targets import FORMATS, GITHUB, JUNIT

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
_REPORT_ENDINGS = ", ".join(f"`{ending}`" for ending in FORMATS)
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


def given_deadlines(given: Given) -> tuple[Deadline, ...]:
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
        "How many cells run at once: a number, or `auto`, one for each core if there is the memory for it. See "
        "[Several cells at once](#several-cells-at-once).",
        lambda: None,
        shown='"auto"',
        name="parallel",
        flag_help="How many cells run at once; `auto` is one for each core if there is the memory for it.",
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
        f"Write a report, see [reports](#reports): a path that ends in {_REPORT_ENDINGS} or `{JUNIT}` (JUnit), a "
        f"directory, which gets all of them and the logs, or `{GITHUB}`.",
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
