"""What checks do in a cell that is a client of a deployment: they ask, and never write, restart or install there."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.version import Version

from pytest_modelops.bundles.bundle import Bundle
from pytest_modelops.checks import attached_images, attached_looks, attached_runtime, preflight
from pytest_modelops.checks.attached_looks import ASK_SECONDS, listed
from pytest_modelops.checks.base import PASSED_THROUGH, Check, CheckedCell, Run, needs_start
from pytest_modelops.checks.versions import against_lock, against_request
from pytest_modelops.config.attach import INSTALL, SCALE, KubernetesSettings
from pytest_modelops.config.model import PluginSettings
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import CheckFailed, NothingToDo, RemoteError, TimedOut
from pytest_modelops.remote.shared.facts import ClusterFacts, ProcessFacts
from pytest_modelops.report.model import CheckResult

_WITH_INSTALL = ("bundle-install", "handshake", "execute", "bundle-aggregation")
_WRITING = (*_WITH_INSTALL, "venv-reuse")
_ABOUT_DEPLOYMENT = {"start", "versions", "runtime", "lambda", "aggregation", *_WITH_INSTALL}
NOT_THERE = "nothing is installed in a deployment that runs already"
_ALLOW = f'{NOT_THERE}, unless [tool.modelops.attach] has allow = ["{INSTALL}"]'
_TRIES = "it tries what goes wrong with a worker's environments, which no deployment is for"
_IN_PROCESS = "it would be installed into running processes, which a deployment's never are"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of the clients of a deployment.

    Attributes:
        force: functions go to another Python, too.
        allow: what may change the deployment, of `ALLOW`.
        requirements: what environments have besides Dask, see `EnvironmentSpec`.
        plugin: the worker plugin that the deployment has.
        kubernetes: the pods of its workers.
    """

    force: bool = False
    allow: Sequence[str] = ()
    requirements: Sequence[str] = ()
    plugin: PluginSettings | None = None
    kubernetes: KubernetesSettings | None = None


def of_deployment(checks: Sequence[Check], asked: Asked) -> list[Check]:
    """Return the checks of a run as a client of a deployment runs them, those that send tasks last."""
    found = [_of_deployment(check, asked) for check in checks]
    return sorted(found, key=lambda check: check.name in {"lambda", "aggregation"} or check.name in _WRITING)


def _of_deployment(check: Check, asked: Asked) -> Check:
    run: Run | None = None
    bundle = check.bundle
    if check.variant:
        return _skipped(check, f"it would make {check.variant} happen to a deployment that runs already")
    if check.name in _WRITING and bundle is not None:
        if bundle.in_workers or check.name == "venv-reuse" or INSTALL not in asked.allow:
            return _skipped(
                check, _IN_PROCESS if bundle.in_workers else _ALLOW if check.name in _WITH_INSTALL else _TRIES
            )
    elif check.name == "runtime" and asked.plugin is not None:
        run = functools.partial(attached_runtime.run, asked.plugin, scale=SCALE in asked.allow)
        return dataclasses.replace(check, run=run, leaves=None)
    elif check.name == "preflight" and bundle is not None:
        run = functools.partial(fits_workers, bundle)
        return dataclasses.replace(check, run=run, needs=("start",), uses_cluster=True)
    elif check.name == "start":
        run = start
    elif check.name == "versions":
        run = functools.partial(versions, asked=asked)
    return dataclasses.replace(check, run=run) if run is not None else check


def behind_versions(checks: Sequence[Check]) -> list[Check]:
    """Have each check that may send functions need `versions`, unless a hook has removed that."""
    known = {check.label: check for check in checks}
    if "versions" not in known:
        return [*checks]
    return [
        dataclasses.replace(check, needs=(*check.needs, "versions"))
        if check.name not in {"versions", "preflight"} and "versions" not in check.needs and needs_start(check, known)
        else check
        for check in checks
    ]


def _skipped(check: Check, reason: str) -> Check:
    def skip(_: CheckedCell, __: Deadline) -> None:
        raise NothingToDo(reason)

    return dataclasses.replace(check, run=skip, needs=(), uses_cluster=False, leaves=None)


def start(cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Connect, and ask every process what it runs."""
    cell.progress("connecting to the deployment")
    cluster = cell.open_cluster(deadline)
    try:
        cluster.await_ready(deadline)
    except RemoteError as error:
        raise RemoteError(f"the client could not connect to the deployment: {error}", error.traceback) from None
    cell.observed = cluster.facts(deadline.at_most(ASK_SECONDS))
    return {"workers": len(cluster.addresses)}


def fits_workers(bundle: Bundle, cell: CheckedCell, deadline: Deadline) -> Mapping[str, object]:
    """Compare a bundle with each Python that workers run."""
    workers: dict[str, list[str]] = {}
    for name, facts in _workers(cell.observed):
        workers.setdefault(facts.get("python", ""), []).append(name)
    unknown = workers.pop("", [])
    if not workers:
        raise NothingToDo(f"which Python the workers run is not known: {listed(unknown)} did not say")
    figures: dict[str, object] = {}
    problems = []
    for python, names in workers.items():
        try:
            figures.update(preflight.compare(bundle, cell, Version(python), deadline))
        except CheckFailed as error:
            problems.append(f"{error}\nPython {python} runs on {listed(names)}.")
    missing = attached_looks.missing_bundle if bundle.in_workers else attached_looks.missing_runner
    problems += missing(bundle, cell, deadline) if not problems else ()
    if problems:
        raise CheckFailed("\n".join(problems))
    return figures


def versions(cell: CheckedCell, deadline: Deadline, *, asked: Asked) -> Mapping[str, object] | None:
    """Ask every process of the deployment what it runs; compare workers with each other, and this client with all."""
    observed = cell.observed = cell.cluster.facts(deadline.at_most(ASK_SECONDS))
    environment = cell.environments[cell.cell.client]
    client = observed["client"]
    problems = [
        *_of_client(observed, force=asked.force),
        *_between_processes(observed),
        *(f"this client: {text}" for text in against_lock(client, environment.lock)),
        *(f"this client: {text}" for text in against_request(client, cell.cell.client)),
        *environment.faults,
    ]
    processes = [("the scheduler", observed["scheduler"]), *_workers(observed)]
    problems += [f"{name} answered with an error: {facts['error']}" for name, facts in processes if "error" in facts]
    differing, notes = attached_looks.of_environment(cell, deadline, asked.requirements)
    problems += differing
    images: Mapping[str, str] = {}
    if asked.kubernetes is not None:
        images = attached_images.of_workers(observed, asked.kubernetes, deadline.at_most(ASK_SECONDS))
        problems += attached_images.differences(images)
    silent = [name for name, facts in processes if "silent" in facts]
    if silent:
        problems.append(f"asked for their versions, these did not answer within {ASK_SECONDS:g} s: {listed(silent)}")
    if problems:
        raise (TimedOut if len(problems) == 1 and silent else CheckFailed)("\n".join(problems))
    other = [f"{package} ({_counted(found)})" for package, found in _other_packages(observed)]
    notes = [*([f"the deployment's workers differ in {', '.join(other)}"] if other else []), *notes]
    figures = {**({"images": images} if images else {}), **({"note": "; ".join(notes)} if notes else {})}
    return figures or None


def _of_client(observed: ClusterFacts, *, force: bool) -> Iterator[str]:
    """Yield that the client's Python is another one than that of processes which would get its functions."""
    client, workers = observed["client"]["python"], _workers(observed)
    other = {
        name: facts["python"]
        for name, facts in [("the scheduler", observed["scheduler"]), *workers]
        if "python" in facts and _minor(facts["python"]) != _minor(client)
    }
    if not other:
        return
    count = sum(name != "the scheduler" for name in other)
    where = [
        *(["the scheduler"] if "the scheduler" in other else []),
        *([f"{count} of {len(workers)} workers"] * bool(count)),
    ]
    pythons = " and ".join(sorted(set(other.values()), key=Version))
    sent = "so they may crash there" if force else "so none was sent"
    yield (
        f"this client runs Python {client}, but {' and '.join(where)} of the deployment run {pythons}. Dask sends "
        f"functions as bytecode, which only the same Python runs, {sent}. Use a client with the deployment's Python, "
        "or upgrade the deployment first."
    )


def _between_processes(observed: ClusterFacts) -> Iterator[str]:
    """Yield which workers run something else than most, and where the scheduler does."""
    workers = {name: _passed_through(facts) for name, facts in _workers(observed) if "python" in facts}
    scheduler = _passed_through(observed["scheduler"])
    most = {
        name: max(counts, key=lambda value: (counts[value], value == scheduler.get(name)))
        for name in PASSED_THROUGH
        if (counts := Counter(versions[name] for versions in workers.values()))
    }
    outliers: dict[str, list[str]] = {}
    for worker, found in workers.items():
        other = [f"{name} {found[name]} (most: {most[name]})" for name in most if found[name] != most[name]]
        if other:
            outliers.setdefault(", ".join(other), []).append(worker)
    for text, names in outliers.items():
        yield f"{listed(names)}: not what most workers of the deployment run: {text}"
    differ = [f"{name} {scheduler[name]} (workers: {most[name]})" for name in most if scheduler[name] != most[name]]
    if differ and "python" in observed["scheduler"]:
        yield f"the scheduler: not what most workers of the deployment run: {', '.join(differ)}"


def _passed_through(facts: ProcessFacts) -> dict[str, str]:
    found: Mapping[str, str | None] = {"Python": facts.get("python"), **facts.get("packages", {})}
    return {name: found.get(name) or "unknown" for name in PASSED_THROUGH}


def _other_packages(observed: ClusterFacts) -> Iterator[tuple[str, Counter[str]]]:
    """Yield the packages, apart from those that messages pass through, of which workers have several versions."""
    all_of = [facts.get("packages", {}) for _, facts in _workers(observed)]
    for package in dict.fromkeys(name for packages in all_of for name in packages):
        found = Counter(str(packages.get(package)) for packages in all_of)
        if package not in PASSED_THROUGH and len(found) > 1:
            yield package, found


def control_note(observed: ClusterFacts, results: Iterable[CheckResult]) -> str:
    """Return that the deployment itself is broken: a client with its very versions is. Empty if that is not so.

    Tests and checks of the user's say nothing about that.
    """
    broken = next((result for result in results if result.status.broke and result.name in _ABOUT_DEPLOYMENT), None)
    if broken is None or "scheduler" not in observed:
        return ""
    client = observed["client"]
    processes = [observed["scheduler"], *(facts for _, facts in _workers(observed))]
    mine = _minor(client["python"]), client["packages"].get("distributed")
    same = [
        _minor(facts["python"]) == mine[0] and facts["packages"].get("distributed") == mine[1]
        for facts in processes
        if "python" in facts
    ]
    most = sum(same) * 2 > len(same)
    if not same or not same[0] or not most:
        return ""
    return (
        f"{broken.label} breaks for a client with the deployment's own versions (Python {client['python']}, Dask "
        f"{mine[1]}), so the cause is in the deployment, not in other versions"
    )


def _workers(observed: ClusterFacts) -> list[tuple[str, ProcessFacts]]:
    return [(f"{one['settings']['name']} ({address})", one) for address, one in observed["workers"].items()]


def _counted(found: Counter[str]) -> str:
    return ", ".join(f"{version} on {count}" for version, count in found.most_common())


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
