"""Bundles that are broken in every way that fixtures/bundles knows, on real workers, in processes and in containers.

All of them are shipped to the same cell; in processes, few of them to one with two workers, and all others to one with
one. Of those that `preflight` reports early, a copy is shipped without it, which shows where they break otherwise. In
containers there is one worker, what is judged by answers alone is left out, and the bundles of
`test_formats_on_every_backend.py` are in the same run. Each test reads what the report says of its bundle.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.conftest import AT_ONCE, INSTALLED, UNKNOWN, Reported, RunOnce

BUNDLES = Path(__file__).parents[2] / "fixtures" / "bundles"
DEADLINES = {"handshake": 6, "execute": 6, "bundle-aggregation": 12}
LATE = 6 + 2
"""Seconds in which is over what hangs until its deadline."""

_INCIDENCE = 'target = "targets.incidence:incidence_target"'
_KEYS = {
    "loss-is-nan": 'target = "targets:loss"',
    "missing-target": _INCIDENCE,
    "missing-target-module": _INCIDENCE,
    "needs-newer-python": 'entrypoint = "newer.wire/run"',
    "numbers": 'target = "targets:mean", target-data = { mean = 500 }',
    "replicate-errs": 'target = "targets:loss"',
    "seir": f'entrypoint = "seir.models/baseline", seed = 7, imports = ["seir"], {_INCIDENCE}',
    "reads-stdin": 'entrypoint = "wire/run", expect = { "answer.txt" = "read 0 bytes of stdin" }',
    "undeclared-data": 'entrypoint = "barn.wire/run"',
    "undeclared-flat": 'entrypoint = "sprout.wire/run"',
    "undeclared-module": 'entrypoint = "undeclared.wire/run"',
    "wrong-target-signature": _INCIDENCE,
}
ALL = {path.name for path in BUNDLES.iterdir() if path.is_dir()}
ON_TWO_WORKERS = {"import-fails", "seir", "undeclared-module", "unstable-output"}
LATE_TOO = ("needs-newer-python", "missing-target", "missing-target-module", "wrong-target-signature")
"""Of these a copy, `late-…`, is shipped without `preflight`, to processes."""
IN_PROCESSES_ONLY = {
    *("empty-output", "error-output", "loss-is-nan", "replicate-errs", "undeclared-flat"),
    *("unstable-output", "wire-raises", "writes-to-stdout"),
}
"""Not shipped to containers: what judges their answers is the same code, and the first worker's is one of two."""
BACKENDS = ("process", "docker")
CELL = "py3.12-dask2024.10.0"
HEALTHY = ("large-answer", "needs-config", "noisy-stderr", "numbers", "reads-stdin", "seir")


def configuration(
    directory: Path, names: Collection[str], *, late: Sequence[str] = (), workers: int = 2, more: Sequence[str] = ()
) -> str:
    """One cell, these bundles, and lines that configure more of them."""
    paths = {BUNDLES / name: name for name in sorted(names)}
    paths |= {shutil.copytree(BUNDLES / name, directory / f"late-{name}"): name for name in late}
    lines = [*more]
    for path, name in paths.items():
        keys = _KEYS.get(name, "")
        if "entrypoint" not in keys:
            keys = f'entrypoint = "wire/run", {keys}'
        lines.append(f'  {{ path = "{path}", {keys.rstrip(", ")} }},')
    deadlines = "\n".join(f"{check_name} = {seconds}" for check_name, seconds in DEADLINES.items())
    return "\n".join(
        [
            *("[tool.modelops]", 'start = "fork-workers"', f"workers = {workers}", "bundles = [", *lines, "]"),
            *("[tool.modelops.matrix]", 'python = ["3.12"]', 'dask = ["2024.10.0"]'),
            # Narrower than by default: `execute` is as strict all the same.
            *("[tool.modelops.aggregation]", 'failed-when = "outputs.error"', "params = 3", "replicates = 3"),
            *("[tool.modelops.deadlines]", deadlines, ""),
        ]
    )


Of = Callable[[str], Reported]


@pytest.fixture(scope="session", params=BACKENDS)
def reported(run_once: RunOnce, request: pytest.FixtureRequest) -> Of:
    """What the run with a bundle said, on each backend."""
    name = f"bundles-{request.param}"
    if request.param == "docker":
        everything: Reported = request.getfixturevalue("bundles_in_containers")
        return lambda _: everything
    deselected = ("--deselect", f"modelops::test_preflight[{CELL}-late-")
    most = functools.partial(configuration, names=ALL - ON_TWO_WORKERS, late=LATE_TOO, workers=1)
    few = functools.partial(configuration, names=ON_TWO_WORKERS)

    def of(bundle: str) -> Reported:
        if bundle in ON_TWO_WORKERS:
            others = ("--deselect", f"modelops::test_aggregation[{CELL}]")
            return run_once(f"{name}-on-two", few, *others, sources=[BUNDLES])
        return run_once(name, most, *deselected, sources=[BUNDLES])

    return of


WITHOUT_PREFLIGHT = pytest.mark.parametrize("reported", ["process"], indirect=True)


@pytest.mark.parametrize("bundle", HEALTHY)
def test_a_healthy_bundle_passes_all_checks_beside_broken_ones(reported: Of, bundle: str) -> None:
    assert set(reported(bundle).statuses(bundle).values()) == {"passed"}, reported(bundle).statuses(bundle)
    fresh = reported(bundle).checks[bundle, "execute"].data["fresh"]
    assert fresh["outcome"] == "passed" or "time" in fresh["why"], fresh


def test_the_cell_itself_is_not_blamed(reported: Of) -> None:
    facts = reported("numbers").cell.facts
    cell_s_own = {check["name"]: check["status"] for check in facts["checks"] if not check["bundle"]}
    assert set(cell_s_own.values()) == {"passed"}, cell_s_own


def test_a_newer_python_is_reported_before_anything_starts(reported: Of) -> None:
    check = reported("needs-newer-python").broke(
        "needs-newer-python", "preflight", cause="bundle-requires-other-python"
    )
    check.says("requires Python >=3.13, but this cell's workers run 3.12.1; set requires-python to '>=3.12'")


@WITHOUT_PREFLIGHT
def test_without_preflight_the_installer_s_first_cause_is_reported(reported: Of) -> None:
    cause = "bundle-requires-other-python"
    check = reported("late-needs-newer-python").broke(
        "late-needs-newer-python", "bundle-install", within=INSTALLED, cause=cause
    )
    check.says("requires Python >=3.13; this cell's workers run 3.12.1.", "(3.12.1) does not satisfy Python>=3.13")
    assert "Stream closed" not in check.message


def test_targets_are_reported_before_anything_starts(reported: Of) -> None:
    check = reported("missing-target").broke("missing-target", "preflight", cause="target-missing")
    check.says("'incidence_target'", "'incidence_targets'")
    reported("missing-target-module").broke("missing-target-module", "preflight", cause="target-missing").says(
        "targets.incidence"
    )
    check = reported("wrong-target-signature").broke("wrong-target-signature", "preflight", cause="target-signature")
    check.says("incidence_target", "sim_returns", "target_data")


@WITHOUT_PREFLIGHT
def test_without_preflight_targets_break_where_they_are_used(reported: Of) -> None:
    check = reported("late-missing-target").broke("late-missing-target", "bundle-aggregation", cause="target-missing")
    check.says("`aggregate` raised AttributeError: module 'targets.incidence' has no attribute 'incidence_target'")
    check = reported("late-missing-target-module").broke(
        "late-missing-target-module", "bundle-aggregation", cause="target-missing"
    )
    check.says("`aggregate` raised ModuleNotFoundError: No module named 'targets'")
    check = reported("late-wrong-target-signature").broke(
        "late-wrong-target-signature", "bundle-aggregation", cause="target-signature"
    )
    check.says("`aggregate` raised TypeError", "argument")


INSTALLING: Mapping[str, tuple[str, ...]] = {
    "missing-dependency": ("pytest-modelops-no-such-package was not found",),
    "undeclared-flat": ("2 modules of it are not found after the install: sprout.models, sprout.models.baseline",),
    "undeclared-module": (
        "2 modules of it are not found after the install: undeclared.models, undeclared.models.baseline",
    ),
}
STARTING: Mapping[str, tuple[str, ...]] = {
    "import-fails": (
        " workers: its runner exited with code 1 before its JSON-RPC handshake.",
        "First cause: ModuleNotFoundError: No module named 'pytest_modelops_no_such_module' (wire.py, line",
        "Traceback (most recent call last):",
    ),
    "exits-at-import": ("exited with code 0 before its JSON-RPC handshake.", "SystemExit: 0 (wire.py, line"),
    "prints-at-import": ("stdout carried something else than JSON-RPC frames", r"'loading the model\n'"),
    "prints-a-header": ("stdout carried something else than JSON-RPC frames", r"'Loading: the model\n'"),
    "does-not-end": ("its runner did not end within 3 s after `shutdown`", 'File "wire.py", line', "in watch"),
    "leaves-a-child": ("when its runner had ended, this was left of it", "sleep 600"),
}
EXECUTING: Mapping[str, tuple[str, ...]] = {
    "writes-to-stdout": ("stdout carried something else than JSON-RPC frames before the answer to `execute`",),
    "child-echoes": ("stdout carried something else than JSON-RPC frames before the answer to `execute`",),
    "dies-in-task": ("its runner was killed by SIGKILL during `execute`.",),
    "wire-raises": ("`execute` raised ValueError: beta must be positive", 'File "wire.py", line', "in wire"),
    "empty-output": ("it returned no artifact that holds anything",),
    "error-output": ("it returned an artifact named 'error': 'the solver did not converge'",),
    "undeclared-data": ("`execute` raised FileNotFoundError", "site-packages/barn/data/beta.txt"),
    "unstable-output": ("'answer.txt' differs between workers for the same parameters and seed",),
}
AGGREGATING: Mapping[str, tuple[str, ...]] = {
    "replicate-errs": (
        "5 of 6 replicates that Dask calls finished failed: it returned an artifact named 'error'",
        "replicate 1 of set 0 (seed 1)",
    ),
    "loss-is-nan": ("its loss is nan, not a finite number",),
}
BY_CHECK = {
    "bundle-install": INSTALLING,
    "handshake": STARTING,
    "execute": EXECUTING,
    "bundle-aggregation": AGGREGATING,
}


CAUSES: Mapping[str, str] = {
    "missing-dependency": "no-such-distribution",
    "undeclared-flat": "build-leaves-modules-out",
    "undeclared-module": "build-leaves-modules-out",
    "undeclared-data": "build-leaves-data-out",
    "import-fails": "import-error-in-runner",
    "exits-at-import": "exit-at-import",
    **dict.fromkeys(("prints-at-import", "prints-a-header", "writes-to-stdout", "child-echoes"), "prints-to-stdout"),
    "replicate-errs": "replicate-failed",
}


@pytest.mark.parametrize(
    ("reported", "check_name", "bundle"),
    [
        (backend, check_name, bundle)
        for backend in BACKENDS
        for check_name, bundles in BY_CHECK.items()
        for bundle in bundles
        if backend == "process" or bundle not in IN_PROCESSES_ONLY
    ],
    indirect=["reported"],
)
def test_it_breaks_at_the_right_check_in_the_right_words(reported: Of, check_name: str, bundle: str) -> None:
    within = INSTALLED if check_name == "bundle-install" else AT_ONCE
    check = reported(bundle).broke(bundle, check_name, within=within, cause=CAUSES.get(bundle, UNKNOWN))
    for expected in BY_CHECK[check_name][bundle]:
        check.says(expected)


def test_the_modules_that_each_process_has_are_counted(reported: Of) -> None:
    data = reported("undeclared-module").checks["undeclared-module", "bundle-install"].data
    workers = [name for name in data["accounted"] if name != "client"]
    assert data["accounted"] == {"client": 4, **dict.fromkeys(workers, 2)}
    assert workers in (["worker-0", "worker-1"], ["worker-0"])
    counted = f"{len(workers)} of {len(workers)} workers: its runner exited"
    reported("import-fails").checks["import-fails", "handshake"].says(counted)
    data = reported("undeclared-data").checks["undeclared-data", "bundle-install"].data
    assert data["left_out"] == ["plot"], "a script beside the package is reported, not missed"
    data = reported("seir").checks["seir", "bundle-install"].data
    assert set(data["accounted"].values()) == {data["modules"]}


def test_an_import_that_never_ends_is_ended_and_its_line_is_shown(reported: Of) -> None:
    check = reported("import-hangs").broke(
        "import-hangs", "handshake", "timed-out", within=LATE, cause="import-does-not-end"
    )
    line = _line_of("import-hangs", "sleep(")
    check.says("did not answer `ready` within the deadline of 6 s", f'File "wire.py", line {line} in <module>')


def test_a_task_that_never_ends_is_ended_and_its_line_is_shown(reported: Of) -> None:
    check = reported("hangs-in-task").broke("hangs-in-task", "execute", "timed-out", within=LATE)
    line = _line_of("hangs-in-task", "sleep(")
    check.says("did not answer `execute` within the deadline of 6 s", f'File "wire.py", line {line} in wire')


def _line_of(bundle: str, text: str) -> int:
    lines = (BUNDLES / bundle / "wire.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_what_runners_wrote_is_kept(reported: Of) -> None:
    for bundle in ("import-fails", "seir"):
        for stream in ("stderr", "stdout"):
            assert f"worker-0-{bundle}-runner-{stream}.log" in reported(bundle).logs
    path = re.search(r"raw stdout: (\S+)", reported("prints-a-header").checks["prints-a-header", "handshake"].message)
    assert path is not None
    assert reported("prints-a-header").logs[Path(path[1]).name].startswith("Loading: the model\nContent-Length: ")


def test_every_bundle_of_the_fixtures_has_its_test() -> None:
    tested = {*HEALTHY, "import-hangs", "hangs-in-task", *(name for names in BY_CHECK.values() for name in names)}
    assert tested | {*LATE_TOO} == ALL
