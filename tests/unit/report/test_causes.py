"""Probable causes: each known one is found in what a cell that was broken that way said, and no other is."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pytest_modelops.config import causes
from pytest_modelops.errors import WrongInput
from pytest_modelops.report import github, html, markdown, terminal
from pytest_modelops.report.causes import UNKNOWN, ProbableCause, fitting
from pytest_modelops.report.json import render
from pytest_modelops.report.model import CellReport, RunReport, Status
from pytest_modelops.report.paper import text
from pytest_modelops.report.verdict import sentence
from tests.unit.report.made import cell, check, run

LIMIT = "its process was ended by its nanny (was killed by signal 15), because it exceeded 95% of its memory limit of 300 MiB"
POLLUTED = "stdout is the runner's: what a bundle or its children print has to go to stderr"
IMPORTING = (
    "bundle 'import-fails', cell py3.12-dask2024.10.0, 2 of 2 workers: its runner exited with code 1 before its "
)
FALLS_BACK = "2 of 2 workers: asked for modelops_runtime.executor_type = 'cold', has 'isolated_warm'. The variable "
SAID: dict[tuple[str, str], list[str]] = {
    ("roles-of-different-pythons", "lambda"): [
        "`lambda x: x + 1` with 41 failed on 2 of 2 workers. The roles differ in Python: client 3.12.1, scheduler 3.12.1, "
        "worker 3.13.0. Dask sends functions as bytecode, which only the same Python runs.\nworker-0, worker-1: the worker "
        "left the cluster while the task was on it; its process was killed by signal 11",
        "`lambda x: x + 1` runs, but functions with these constructs break on the workers: loop, comprehension, `try`.",
    ],
    ("roles-of-different-pythons", "execute"): [
        "bundle 'numbers', `wire/run` with seed 0, 2 of 2 workers: the worker left the cluster while the task was on it; its "
        "process was killed by signal 11"
    ],
    ("client-newer-than-scheduler", "start"): [
        "the client could not connect to the scheduler: TypeError: Scheduler.identity() got an unexpected keyword argument "
        "'n_workers'"
    ],
    ("scheduler-lacks-module", "tests/test_by_reference.py::test_submit_by_reference"): [
        "Error during deserialization of the task graph. This frequently\noccurs if the Scheduler and Client have different "
        "environments."
    ],
    ("pandas-2-with-old-dask", "tests/test_frames.py::test_dataframes_import_on_workers"): [
        "frames in cell py3.11-dask2023.1.1 on worker-0: AttributeError: module 'pandas.core.strings' has no attribute "
        "'StringMethods'"
    ],
    ("option-unknown-to-dask", "start"): [
        "No such option: --nprocs 1. `dask worker` of Dask 2024.10.0 would ignore it.\nInstead of `--nprocs`, that Dask has "
        "`--nworkers`.",
        "No such option: --resource=aggregation=1 --memory-limits=1GB. `dask worker` of Dask 2024.10.0 would ignore it.",
    ],
    ("preload-raises", "start"): [
        "the preload depot.preload failed on worker-1 (tcp://127.0.0.1:42133): ZeroDivisionError: division by zero",
        'the preload import os\ndef dask_setup(scheduler):\n    raise OSError(28, "no space") failed on scheduler: OSError: '
        "[Errno 28] no space",
    ],
    ("preload-does-not-end", "start"): [
        "0 of 2 workers registered with the scheduler within 15 s.\nworker-0 (pid 30038) is sleeping. Its last output:\n    "
        "2026-11-26 21:08:01,545 - distributed.utils - INFO - Reload module modelops_preload from .py file\n    2026-11-26 "
        "21:08:01,747 - distributed.preloading - INFO - Import preload module: scratch/remote/modelops_preload.py\nFull log: "
        "logs/worker-0.log"
    ],
    ("variables-break-dask-configuration", "start"): [
        "worker-0 exited with code 1 (TypeError: 'str' object does not support item assignment). Dask failed to read its "
        "configuration from variables: DASK_LOGGING__DISTRIBUTED, DASK_LOGGING__DISTRIBUTED__CLIENT."
    ],
    ("memory-limit", "execute"): [f"bundle 'hungry', 2 of 2 workers: the worker left the cluster; {LIMIT}"],
    ("pool-in-a-daemon", "execute"): [
        "bundle 'poolsim-in', `poolsim:run` with seed 0, 2 of 2 workers: `execute` raised AssertionError: daemonic processes "
        "are not allowed to have children. A worker with a nanny is a daemonic process."
    ],
    ("bundle-requires-other-python", "preflight"): [
        "bundle 'needs-newer-python' requires Python >=3.13, but this cell's workers run 3.12.1; set requires-python to "
        "'>=3.12' in pyproject.toml, or drop the cell py3.12-dask2024.10.0."
    ],
    ("bundle-requires-other-python", "bundle-install"): [
        "bundle 'needs-newer-python' cannot be installed by Python 3.12.1: It requires Python >=3.13; this cell's workers run "
        "3.12.1. Set requires-python to '>=3.12', or drop the cell."
    ],
    ("wheel-for-another-target", "preflight"): [
        "bundle 'wheels-other-python': wheeled-1.0-cp311-cp311-linux_x86_64.whl is for CPython 3.11; this cell's workers run "
        "3.12.1 on linux_x86_64; ship a wheel for Python 3.12"
    ],
    ("wheel-for-another-target", "bundle-install"): [
        "bundle 'wheels-other-libc' cannot be installed by Python 3.12.1: wheeled-1.0-cp312-cp312-musllinux_1_1_x86_64.whl is "
        "not a supported wheel: it is for cp312-cp312-musllinux_1_1_x86_64"
    ],
    ("no-such-distribution", "bundle-install"): [
        "bundle 'requirements-lost' cannot be installed by Python 3.12.1: no solution for Python 3.12.1 + no-such-package:\n"
        "Because no-such-package was not found in the package registry and you require no-such-package, we can conclude"
    ],
    ("dependencies-not-read", "execute"): [
        "bundle 'condasim', `condasim:run` with seed 0, 2 of 2 workers: `execute` raised ModuleNotFoundError: No module named "
        "'toolz' No installer of the bundle reads environment.yml (python, toolz, pip, more-itertools): list what it needs",
        "bundle 'grouped', `grouped.core:run` with seed 0, 2 of 2 workers: `execute` raised ModuleNotFoundError: No module "
        "named 'toolz' No installer of the bundle reads [dependency-groups] of pyproject.toml (toolz>=0.12, pytest): list",
    ],
    ("requirement-of-another-machine", "preflight"): [
        "bundle 'frozen': requirements.txt, line 2: 'file:///croot/packaging_1700000000/work' names a path that is not on this "
        "machine, as `pip freeze` writes it for a package that was built elsewhere",
        "bundle 'fleet': zz_fleet-1.0-py3-none-any.whl depends on zz-applib @ file:///home/ci/build/1234/libs/applib, a path "
        "that is not on this machine; build it again without a path dependency",
    ],
    ("path-outside-the-bundle", "preflight"): [
        "bundle 'heat': requirements.txt, line 1: '../constraints.txt' lies outside the bundle, so workers do not get it",
        "bundle 'depends': the dependency 'iniconfig' comes from path = '../../libs/iniconfig' by [tool.uv.sources] in "
        "pyproject.toml, which no wheel carries: workers would get the iniconfig of an index",
    ],
    ("wrong-hash", "bundle-install"): [
        "bundle 'tampered' cannot be installed by Python 3.12.1: toolz==0.12.1 (toolz-0.12.1-py3-none-any.whl) does not match "
        "its hash in the bundle's requirements: expected sha256:0000, got sha256:d227"
    ],
    ("poetry-non-package", "bundle-install"): [
        "bundle 'scripts' cannot be installed by Python 3.12.1: RuntimeError: Building a package is not possible in non-package "
        "mode.\ncould not build a wheel of bundles/scripts:"
    ],
    ("build-leaves-modules-out", "bundle-install"): [
        "bundle 'flatpkg' was not installed on 2 of 2 workers: 2 modules of it are not found after the install: "
        "flatpkg.models, flatpkg.models.base; does the package's build leave them out?"
    ],
    ("prints-to-stdout", "handshake"): [
        "bundle 'prints_between', cell py3.12-dask2024.10.0, 1 of 1 workers: stdout carried something else than JSON-RPC frames "
        f"before the answer to `ready`: 'Loading: ready\\n'. {POLLUTED}",
        "bundle 'one_shot_prints_before', 1 of 1 workers: stdout carried something else than the one JSON document that answers "
        f"`ready`: 'loading the model\\n'. {POLLUTED}",
    ],
    ("prints-to-stdout", "execute"): [
        "bundle 'writes-to-stdout', `wire/run` with seed 0, 2 of 2 workers: stdout carried something else than JSON-RPC frames "
        f"before the answer to `execute`: 'step 1 of 10\\n'. {POLLUTED}"
    ],
    ("runner-without-frames", "handshake"): [
        "bundle 'lines', cell py3.12-dask2024.10.0, 2 of 2 workers: its runner answered `ready` with JSON without a frame, as "
        "newline-delimited JSON-RPC writes it; it was asked in frames and has to answer in them: `Content-Length: N`"
    ],
    ("import-error-in-runner", "handshake"): [
        f"{IMPORTING}JSON-RPC handshake. First cause: ModuleNotFoundError: No module named 'pytest_modelops_no_such_module' "
        "(wire.py, line 5, in <module>)."
    ],
    ("exit-at-import", "handshake"): [
        "bundle 'exits-at-import', cell py3.12-dask2024.10.0, 2 of 2 workers: its runner exited with code 0 before its JSON-RPC "
        "handshake. First cause: SystemExit: 0 (wire.py, line 5, in <module>)."
    ],
    ("runner-has-no-pip", "handshake"): [
        "bundle 'plain', cell py3.11.7-dask2026.8.0, 1 of 1 workers: its runner exited with code 1 before its JSON-RPC "
        "handshake. First cause: venv/bin/python: No module named pip. A bundle's environment has pip only with `installs`"
    ],
    ("runner-hangs", "handshake"): [
        "bundle 'import-hangs', cell py3.13-dask2024.10.0, 2 of 2 workers: its runner did not answer `ready` within the deadline "
        'of 20 s, and still ran.\nworker-0, worker-1:\n      File "wire.py", line 6 in <module>'
    ],
    ("processes-left", "handshake"): [
        "bundle 'does-not-end', cell py3.12-dask2024.10.0, 2 of 2 workers: its runner did not end within 3 s after `shutdown`: "
        "something keeps it running",
        "bundle 'leaves_a_child', cell py3.12-dask2024.10.0, 1 of 1 workers: when its runner had ended, this was left of it",
    ],
    ("runner-killed", "execute"): [
        "bundle 'dies-in-task', `wire/run` with seed 0, 2 of 2 workers: its runner was killed by SIGKILL during `execute`."
    ],
    ("module-shadowed", "execute"): [
        "bundle 'needs-config', `wire/run` with seed 0, 1 of 1 workers: its module 'config' is shadowed: to its runner, "
        "'config' is servers/shadows/config.py, and the bundle's own is never imported"
    ],
    ("stored-result", "execute"): [
        "bundle 'numbers', `wire/run` with seed 0, 1 of 1 workers: asked the same again, in another process, it gave the answer "
        "of the first time, made at the same moment: nothing was executed, and a stored result stands for a new one",
        "bundle 'numbers', `wire/run` with seed 0, 1 of 1 workers: asked for a copy of the bundle with another wire function, "
        "under a digest of its own, it gave the answer of the bundle: nothing was executed, and a result that was stored for "
        "another digest stands for a new one",
    ],
    ("stored-result", "venv-reuse"): [
        "bundle 'reused', worker-0, 7 of 9 canaries: second use: asked again, it gave the answer of the first use, made at the "
        "same moment: nothing was executed, and a stored result stands for a new one"
    ],
    ("environment-of-another-python", "venv-reuse"): [
        "bundle 'reused', worker-0, 4 of 9 canaries: an environment of another Python under the right key: it was used in "
        "silence, and runs Python 3.10; the worker runs 3.11.7."
    ],
    ("stale-environment", "venv-reuse"): [
        "bundle 'kept', worker-0, 2 of 5 canaries: edited code under the same name: it answered with the old code's output "
        "('A'), its environment was made for another digest"
    ],
    ("target-missing", "preflight"): [
        "bundle 'missing-target': target 'targets.incidence:incidence_target': targets.incidence has no 'incidence_target'; it "
        "has 'incidence_targets' (line 4) in targets/incidence.py",
        "bundle 'missing-target-module': target 'targets.incidence:incidence_target': the bundle has no module "
        "'targets.incidence'; it has 'wire'",
    ],
    ("target-missing", "bundle-aggregation"): [
        "bundle 'missing-target', 2 × 3 replicates: `aggregate` raised AttributeError: module 'targets.incidence' has no "
        "attribute 'incidence_target'",
        "bundle 'missing-target-module', 2 × 3 replicates: `aggregate` raised ModuleNotFoundError: No module named 'targets'",
    ],
    ("target-signature", "preflight"): [
        "bundle 'wrong-target-signature': target 'targets.incidence:incidence_target' (targets/incidence.py, line 4): a target "
        "takes (sim_returns, target_data), or nothing or only data_paths to return an object with evaluate"
    ],
    ("target-signature", "bundle-aggregation"): [
        "bundle 'wrong-target-signature', 2 × 3 replicates: `aggregate` raised TypeError: incidence_target() takes 1 positional "
        "argument but 2 were given"
    ],
    ("replicate-failed", "bundle-aggregation"): [
        "bundle 'replicate-errs', 5 of 6 replicates that Dask calls finished failed: it returned an artifact named 'error': 'the "
        "solver did not converge'"
    ],
    ("error-as-artifact", "execute"): [
        "bundle 'error-output', 2 of 2 workers: it returned an artifact named 'error': 'the solver did not converge'",
        "bundle 'c', `wire/run` with seed 0, 1 of 1 workers: its artifact 'status.json' holds an error: ['boom']",
    ],
    ("loss-not-finite", "bundle-aggregation"): [
        "bundle 'loss-is-nan', 2 × 3 replicates: its loss is nan, not a finite number\ntargets:loss of set 0"
    ],
    ("plugin-reads-the-client", "runtime"): [
        f"worker plugin acme_plugins.built_on_the_client:Plugin, {FALLS_BACK}MODELOPS_EXECUTOR_TYPE of this worker says 'cold', "
        "and was not looked up during the plugin's setup, so its value was not used"
    ],
    ("plugin-falls-back", "runtime"): [
        f"worker plugin acme_plugins.falls_back:Plugin, {FALLS_BACK}MODELOPS_EXECUTOR_TYPE of this worker says 'cold' and was "
        "looked up during the plugin's setup: the value fell back, or was overridden"
    ],
    ("plugin-setup-raises", "runtime"): [
        "worker plugin acme_plugins.setup_fails:Plugin, 2 of 2 workers: the plugin's setup raised PermissionError: the bundles' "
        "directory /bundles cannot be written; the worker stays, lists the plugin and would run tasks all the same"
    ],
}
LATE = {"preload-does-not-end", "runner-hangs"}
"""Causes of checks that time out."""
OF_NO_ENTRY = {
    "the worker left the cluster while the task was on it; its process was killed by signal 11": "execute",
    "bundle 'refuses', 1 of 1 workers: `ready` was answered with error -32603: not today": "handshake",
    "aggregating 20 × 20 tasks: 20 aggregates failed; 0 of 20 aggregates were complete, 0 of 400 replicates.": "aggregation",
    "0 of 2 workers registered with the scheduler within 15 s.\nworker-0 is sleeping. It printed nothing.": "start",
}
"""Messages of real breaks of which no cause is known."""
KNOWN = causes.load()


def broken(entry: str, name: str, message: str, **fields: object) -> CellReport:
    """A cell that broke at a check, with the versions and packages that the entry is about."""
    worker = "3.13" if entry == "roles-of-different-pythons" else ""
    status = Status.TIMED_OUT if entry in LATE else Status.FAILED
    dask = "2023.1.1" if entry == "pandas-2-with-old-dask" else "2024.10.0"
    made = cell("3.12", dask, check(name, status, message), worker=worker, lock={"pandas": "2.2.3"}, **fields)
    if entry != "client-newer-than-scheduler":
        return made
    return dataclasses.replace(made, roles={**made.roles, "client": {"python": "3.12", "dask": "2026.8.0"}})


@pytest.mark.parametrize(
    ("entry", "name", "message"), [(*key, message) for key, messages in SAID.items() for message in messages]
)
def test_what_a_cell_said_that_was_broken_that_way_has_this_cause_and_no_other(
    entry: str, name: str, message: str
) -> None:
    assert [found.id for found in fitting(KNOWN, broken(entry, name, message), str)] == [entry]


def test_every_known_cause_has_a_name_of_its_own_and_a_test() -> None:
    ids = [cause.probable.id for cause in KNOWN]
    assert sorted(ids) == sorted(set(ids))
    assert set(ids) == {entry for entry, _ in SAID}
    assert [cause.probable.id for cause in KNOWN if not cause.probable.remedy] == []


@pytest.mark.parametrize("message", OF_NO_ENTRY)
def test_of_other_breaks_no_cause_is_known(message: str) -> None:
    made = cell("3.12", "2024.10.0", check(OF_NO_ENTRY[message], Status.FAILED, message))
    assert list(fitting(KNOWN, made, str)) == []


def test_versions_and_packages_are_evidence() -> None:
    (said, *_) = SAID["roles-of-different-pythons", "execute"]
    assert list(fitting(KNOWN, broken("", "execute", said), str)) == [], "all roles run the same Python"
    (said,) = SAID["pandas-2-with-old-dask", "tests/test_frames.py::test_dataframes_import_on_workers"]
    assert list(fitting(KNOWN, broken("", "test_frames", said), str)) == [], "this Dask is new enough for pandas 2"


OURS = """
[[cause]]
id = "license"
cause = "the license server does not answer"
issues = "https://example.org/17"
status = "failed"
message = "^LicenseError"
roles = ["worker.python >= 3.12", "client.dask == scheduler.dask"]

[[cause]]
id = "disk"
cause = "the node's disk is full"
log = "No space left"
"""


def test_a_file_of_the_users_comes_first_and_logs_are_read_only_if_they_are_needed(tmp_path: Path) -> None:
    path = tmp_path / "causes.toml"
    path.write_text(OURS, encoding="utf-8")
    known = causes.load([path])
    asked: list[str] = []

    def logs() -> str:
        asked.append("")
        return "OSError: No space left on device"

    said = "LicenseError: timeout\nsite: stdout carried something else than that"
    found = fitting(known, broken("", "execute", said), logs)
    assert next(found) == ProbableCause(
        id="license", cause="the license server does not answer", issues=("https://example.org/17",)
    )
    assert asked == []
    assert [one.id for one in found] == ["disk", "prints-to-stdout"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[cause]]\nid = 'a'\nmessage = 'x'", "cause[0]: has no cause; an entry needs id and cause"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\ncheck = 'start'",
            "cause[0]: fits every break; give it one of message, log,",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmessage = '('", "cause[0].message: '(' is not a regular expression:"),
        (
            "[[cause]]\nid = 'a'\ncause = 'b'\nroles = 'client < worker'",
            "cause[0].roles: 'client < worker' compares no",
        ),
        ("[[cause]]\nid = 'a'\ncause = 'b'\npackages = '>2'", "cause[0].packages: '>2' is not a requirement:"),
        ("[[cause]]\nid = 'a'\ncause = 'b'\nmesage = 'x'", "'mesage' is not a key; did you mean 'message'?"),
        ("[[causes]]\nid = 'a'", "'causes' is not read; a cause is a table [[cause]]"),
        ("[[cause", "not valid TOML"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_place(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "causes.toml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(WrongInput, match=re.escape(said)) as refused:
        causes.load([path])
    assert str(refused.value).startswith(str(path))


def reported(*, known: bool = True) -> RunReport:
    message = SAID["preload-raises", "start"][0]
    made = broken("", "start", message)
    return run(dataclasses.replace(made, probable_cause=next(fitting(KNOWN, made, str)) if known else UNKNOWN))


def test_the_summary_begins_with_the_cause_and_says_what_to_do() -> None:
    lines = text(terminal.matrix(reported(), width=120, unicode=True)).splitlines()
    first = "py3.12-dask2024.10.0: start failed: probable cause: a preload raises, which Dask only logs"
    at = lines.index(first)
    assert lines[at + 1].strip().startswith("the preload depot.preload failed on worker-1")
    assert "Correct the preload, or remove it. https://github.com/dask/distributed/issues/8754" in "\n".join(lines[at:])
    assert sentence(reported()).endswith("; start failed; probable cause: a preload raises, which Dask only logs.")


def test_an_unknown_cause_is_called_unknown() -> None:
    shown = text(terminal.matrix(reported(known=False), width=120, unicode=True))
    assert "py3.12-dask2024.10.0: start failed: the preload depot.preload failed on worker-1" in shown
    assert "\n    probable cause: unknown\n" in shown.replace("\n  probable", "\n    probable")
    assert "<option>unknown: start</option>" in html.render(run(*reported(known=False).cells, broken("", "x", "y")))


def test_every_report_has_the_cause() -> None:
    report = run(*reported().cells, cell())
    assert "**Probable cause:** a preload raises, which Dask only logs. Correct the preload" in markdown.render(report)
    page = html.render(report)
    assert "Probable cause: a preload raises, which Dask only logs. Correct the preload" in page
    assert "<option>a preload raises, which Dask only logs</option>" in page
    assert 'data-cause="a preload raises, which Dask only logs"' in page
    assert "::Probable cause: a preload raises" in next(github.commands(report, Path("/")))
    plain = json.loads(render(report))
    assert plain["cells"][0]["probable_cause"]["id"] == "preload-raises"
    assert plain["cells"][1]["probable_cause"] is None
    assert RunReport.from_json(plain) == report
    del plain["cells"][0]["probable_cause"]
    assert RunReport.from_json(plain).cells[0].probable_cause is None, "as an earlier version wrote it"
