"""Reading all settings, once, and what one setting says of another.

Every complaint is one line that names file, key and valid values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pytest_modelops.config.attach import SCALE
from pytest_modelops.config.file import TABLE, ConfigFile
from pytest_modelops.config.setting import Given, Place, Values, table
from pytest_modelops.config.settings import ATTACHED, MADE, Settings, given_deadlines
from pytest_modelops.errors import WrongInput, said_of


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
    deadlines = [deadline for one in reversed(place.given.get("deadline", ())) for deadline in given_deadlines(one)]
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
