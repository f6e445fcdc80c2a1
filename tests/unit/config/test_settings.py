"""Options, variables, ini and table: what may be written, what it means, what is said of all else."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import platformdirs
import pytest
from packaging.specifiers import SpecifierSet

from pytest_modelops.config import settings as settings_module
from pytest_modelops.config.file import nearest
from pytest_modelops.config.model import AggregationSettings
from pytest_modelops.config.options import OPTIONS, add_options, given, load
from pytest_modelops.config.parsing import parse
from pytest_modelops.config.setting import Given, declarations
from pytest_modelops.config.settings import Settings
from pytest_modelops.errors import WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Role
from pytest_modelops.matrix.versions import DaskRequest, Inclusion, RoleRequest, RollingRequest
from pytest_modelops.report.targets import ENDINGS
from tests.unit.config.conftest import CHECKS, MessageOf, Read

pytest_plugins = ["pytester"]

MATRIX = "pyproject.toml: [tool.modelops.matrix]"
ENVIRONMENT = "pyproject.toml: [tool.modelops.environment]"
KEYS = ", ".join(sorted(one.key for one in declarations(Settings).values() if one.key))
VARIABLES = ", ".join(sorted(one.variable_name for one in OPTIONS if one.variable))
OPEN = "missing ), unterminated subpattern at position 0"
PYTHON_FORMS = 'write X.Y or X.Y.Z, such as "3.12"'
DASK_FORMS = "write a release such as 2024.10.0, latest, installed, or a range such as >=2024.8,<2025"
REQUIREMENT_FORMS = (
    "write one such as numpy>=2, or the path of a directory or wheel, such as ./libs/contracts; options are not taken"
)

# Defaults, and a file that says everything.

VALID_REPORTS = f"{', '.join(ENDINGS)}, a directory, or github"


@pytest.mark.parametrize("toml", [None, "", "[tool.other]\nkey = 1", "tool = 1"])
def test_without_configuration_there_are_defaults(read: Read, tmp_path: Path, toml: str | None) -> None:
    settings = read(toml)
    assert (settings.backend, settings.workers, settings.threads, settings.nanny) == ("auto", 2, 1, True)
    assert settings.cache == platformdirs.user_cache_path("pytest-modelops")
    assert settings.fresh is False
    assert settings.reports == ()
    assert (settings.matrix.python, settings.matrix.dask, settings.matrix.select) == ((), (), ())
    assert settings.environment.requirements == ()
    assert (settings.environment.constraints, settings.environment.as_of) == (None, None)
    assert settings.environment.rootdir == settings.file.directory == tmp_path
    assert settings.aggregation == AggregationSettings(params=20, replicates=20)
    assert (settings.environment.env, settings.environment.worker_args, settings.deadlines) == ({}, (), ())


def test_everything_can_be_set_in_the_table(read: Read, tmp_path: Path) -> None:
    (tmp_path / "libs/contracts").mkdir(parents=True)
    (tmp_path / "libs/contracts/pyproject.toml").touch()
    (tmp_path / "numbers-1-py3-none-any.whl").touch()
    (tmp_path / "constraints.txt").touch()
    settings = read(
        """
        [tool.modelops]
        backend = "process"
        workers = 3
        threads = 4
        nanny = false
        start = "exec"
        cache = "kept"
        fresh = true
        report = ["out/a.json", "/b.json"]
        [tool.modelops.matrix]
        python = ["3.12", "3.13.0"]
        dask = ["2024.8.0", "latest", ">=2024.8,<2024.10"]
        exclude = [{ python = "3.13", dask = "<2024.8" }, { dask = "2024.8.0" }]
        [[tool.modelops.matrix.include]]
        python = "3.12"
        dask = "2024.10.0"
        worker = { python = "3.13" }
        client.dask = "latest"
        [[tool.modelops.matrix.rolling]]
        from = { python = "3.12", dask = "2024.10.0" }
        to = { dask = "latest" }
        order = [["worker", "scheduler", "client"], ["client", "scheduler", "worker"]]
        [[tool.modelops.matrix.rolling]]
        from = { python = "3.12", dask = "2024.10.0" }
        to = { python = "3.13" }
        [tool.modelops.environment]
        requirements = ["numpy>=2; python_version > '3'", "./libs/contracts", "numbers-1-py3-none-any.whl"]
        constraints = "constraints.txt"
        as-of = 2024-11-01
        env = { MODELOPS_EXECUTOR_TYPE = "cold", _EMPTY = "" }
        worker-args = ["--resources", "aggregation=1"]
        [tool.modelops.aggregation]
        params = 5
        replicates = 6
        [tool.modelops.deadlines]
        start = 120
        lambda = 0.5
        """
    )
    assert (settings.backend, settings.workers, settings.threads, settings.nanny) == ("process", 3, 4, False)
    assert settings.start == "exec"
    assert settings.cache == tmp_path / "kept"
    assert settings.fresh is True
    assert [report.path for report in settings.reports] == [tmp_path / "out/a.json", Path("/b.json")]
    matrix = settings.matrix
    assert matrix.python == (PythonVersion((3, 12)), PythonVersion((3, 13, 0)))
    assert matrix.dask == tuple(map(DaskRequest.parse, ["2024.8.0", "latest", ">=2024.8,<2024.10"]))
    assert [(each.python, each.dask, each.text) for each in matrix.exclude] == [
        (PythonVersion((3, 13)), SpecifierSet("<2024.8"), '{ python = "3.13", dask = "<2024.8" }'),
        (None, SpecifierSet("==2024.8.0"), '{ dask = "2024.8.0" }'),
    ]
    assert matrix.include == (
        Inclusion(
            python=PythonVersion((3, 12)),
            dask=DaskRequest.parse("2024.10.0"),
            roles={
                Role.WORKER: RoleRequest(python=PythonVersion((3, 13))),
                Role.CLIENT: RoleRequest(dask=DaskRequest.parse("latest")),
            },
            origin=f"{MATRIX} include[0]",
        ),
    )
    some, every = matrix.rolling
    assert some == RollingRequest(
        python=PythonVersion((3, 12)),
        dask=DaskRequest.parse("2024.10.0"),
        to=RoleRequest(dask=DaskRequest.parse("latest")),
        orders=((Role.WORKER, Role.SCHEDULER, Role.CLIENT), (Role.CLIENT, Role.SCHEDULER, Role.WORKER)),
        origin=f"{MATRIX} rolling[0]",
    )
    assert len(set(every.orders)) == len(every.orders) == 6
    assert (matrix.python_origin, matrix.dask_origin) == (f"{MATRIX} python", f"{MATRIX} dask")
    assert matrix.exclude_origin == f"{MATRIX} exclude"
    assert settings.environment.requirements == (
        "numpy>=2; python_version > '3'",
        str(tmp_path / "libs/contracts"),
        str(tmp_path / "numbers-1-py3-none-any.whl"),
    )
    assert settings.environment.constraints == tmp_path / "constraints.txt"
    assert settings.environment.as_of == dt.date(2024, 11, 1)
    assert settings.environment.env == {"MODELOPS_EXECUTOR_TYPE": "cold", "_EMPTY": ""}
    assert settings.environment.worker_args == ("--resources", "aggregation=1")
    assert settings.aggregation == AggregationSettings(params=5, replicates=6)
    assert settings.deadlines_of(CHECKS) == {"start": 120.0, "lambda": 0.5}


def test_other_constraints_can_be_given_for_a_run(read: Read, message_of: MessageOf, tmp_path: Path) -> None:
    for name in ("ours.txt", "others.txt"):
        (tmp_path / name).touch()
    toml = '[tool.modelops.environment]\nconstraints = "ours.txt"'
    settings = read(toml, constraints=("--modelops-constraints", "others.txt"))
    assert settings.environment.constraints == settings.constraints == tmp_path / "others.txt"
    assert read(toml).environment.constraints == tmp_path / "ours.txt"
    assert "--modelops-constraints: 'none.txt'" in message_of(toml, constraints=("--modelops-constraints", "none.txt"))


def test_one_value_may_stand_without_a_list(read: Read, tmp_path: Path) -> None:
    settings = read(
        """
        [tool.modelops]
        report = "a.json"
        [tool.modelops.matrix]
        python = "3.12"
        dask = "latest"
        [tool.modelops.environment]
        requirements = "numpy"
        as-of = "2024-11-01"
        """
    )
    assert [report.path for report in settings.reports] == [tmp_path / "a.json"]
    assert settings.matrix.python == (PythonVersion((3, 12)),)
    assert settings.matrix.dask == (DaskRequest.parse("latest"),)
    assert settings.environment.requirements == ("numpy",)
    assert settings.environment.as_of == dt.date(2024, 11, 1)


def test_a_directory_with_a_setup_py_is_a_project_too(read: Read, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/setup.py").touch()
    settings = read('[tool.modelops.environment]\nrequirements = ["./old"]')
    assert settings.environment.requirements == (str(tmp_path / "old"),)


def test_a_wheel_on_the_web_is_no_path(read: Read) -> None:
    requirement = "numbers @ https://example.org/numbers-1-py3-none-any.whl"
    assert read(f'[tool.modelops.environment]\nrequirements = ["{requirement}"]').environment.requirements == (
        requirement,
    )


def test_a_home_directory_is_expanded(
    read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, message_of: MessageOf
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert read('[tool.modelops]\ncache = "~/kept"').cache == tmp_path / "home/kept"
    message = message_of('[tool.modelops]\ncache = "~nobody-at-all/kept"')
    assert message.endswith("cache: '~nobody-at-all/kept' is in the home of a user that does not exist")


# Wrong values in the file.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('backend = "podman"', "backend: 'podman' is not a backend; valid: auto, cluster, docker, process"),
        ('start = "spawn"', "start: 'spawn' is not a way to start processes; valid: exec, fork, fork-workers"),
        ('keep = "maybe"', "keep: 'maybe' is not a time to keep cells; valid: always, failed, never"),
        (
            'backend = "proces"',
            "backend: 'proces' is not a backend; did you mean 'process'? Valid: auto, cluster, docker, process",
        ),
        ("backend = true", "backend: true is not a string"),
        ("workers = 0", "workers: 0 is not a whole number from 1 up"),
        ("workers = true", "workers: true is not a whole number from 1 up"),
        ("workers = 1.5", "workers: 1.5 is not a whole number from 1 up"),
        ('workers = "2"', "workers: '2' is not a whole number from 1 up"),
        ("threads = -1", "threads: -1 is not a whole number from 1 up"),
        ("nanny = 1", "nanny: 1 is neither true nor false"),
        ('fresh = "yes"', "fresh: 'yes' is neither true nor false"),
        ("cache = 7", 'cache: 7 is a number; write it in quotes: "7"'),
        ('cache = " "', "cache: ' ' is empty"),
        ('cache = ["a"]', 'cache: ["a"] is not a string'),
        ('report = "a.txt"', f"report: 'a.txt' does not end in a report's format; valid: {VALID_REPORTS}"),
        ('report = ["a.json", "json"]', f"report: 'json' does not end in a report's format; valid: {VALID_REPORTS}"),
        (
            "preflight.target = '('",
            "[tool.modelops.preflight] target: '(' is not a regular expression of Python: " + OPEN,
        ),
        ("aggregation.params = 0", "[tool.modelops.aggregation] params: 0 is not a whole number from 1 up"),
        ("aggregation.replicates = 2.0", "[tool.modelops.aggregation] replicates: 2.0 is not a whole number from 1 up"),
        ("deadlines.start = 0", "[tool.modelops.deadlines] start: 0 is not a number of seconds above 0"),
        ("deadlines.start = inf", "[tool.modelops.deadlines] start: inf is not a number of seconds above 0"),
        ("deadlines.start = nan", "[tool.modelops.deadlines] start: nan is not a number of seconds above 0"),
        ("deadlines.start = true", "[tool.modelops.deadlines] start: true is not a number of seconds above 0"),
        ('deadlines.start = "5 s"', "[tool.modelops.deadlines] start: '5 s' is not a number of seconds above 0"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(message_of: MessageOf, line: str, message: str) -> None:
    place = "pyproject.toml: " if message.startswith("[") else "pyproject.toml: [tool.modelops] "
    assert message_of(f"[tool.modelops]\n{line}") == place + message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('python = ["3.1x"]', f" python: '3.1x' is not a Python version; {PYTHON_FORMS}"),
        ('python = ["3"]', f" python: '3' is not a Python version; {PYTHON_FORMS}"),
        ("python = [3]", ' python: 3 is a number; write it in quotes: "3"'),
        ("python = [3.10]", ' python: 3.1 is a number, of which TOML drops a last zero; write it in quotes: "3.10"'),
        ("python = 3.12", ' python: 3.12 is a number, of which TOML drops a last zero; write it in quotes: "3.12"'),
        ("python = [true]", " python: true is not a string"),
        ("python = []", " python: the list is empty; name at least one version, or remove the key"),
        ("dask = []", " dask: the list is empty; name at least one version, or remove the key"),
        ("dask = [2024.8]", ' dask: 2024.8 is a number; write it in quotes: "2024.8"'),
        ('dask = ["newest"]', f" dask: 'newest' is not a Dask version; {DASK_FORMS}"),
        ("exclude = [{}]", " exclude[0]: is empty; write python, dask or both"),
        ('exclude = { python = "3.12" }', ' exclude: { python = "3.12" } is not a list of tables'),
        ('exclude = ["3.12"]', " exclude[0]: '3.12' is not a table; its keys are dask, python"),
        (
            'exclude = [{ python = "3.12" }, { python = "x" }]',
            f" exclude[1].python: 'x' is not a Python version; {PYTHON_FORMS}",
        ),
        (
            'exclude = [{ dask = "latest" }]',
            (
                " exclude[0].dask: 'latest' is not a Dask version; write a release such as 2024.10.0, "
                "or a range such as >=2024.8,<2025"
            ),
        ),
        ('exclude = [{ dask = "" }]', " exclude[0].dask: '' is empty"),
        (
            'exclude = [{ pyton = "3.12" }]',
            " exclude[0]: 'pyton' is not a key; did you mean 'python'? Valid: dask, python",
        ),
        ('include = [{ python = "3.12" }]', " include[0]: has no dask; an entry needs python and dask"),
        ('include = [{ dask = "latest" }]', " include[0]: has no python; an entry needs python and dask"),
        (
            'include = [{ python = "3.12", dask = "latest", workers = {} }]',
            (
                " include[0]: 'workers' is not a key; did you mean 'worker'? "
                "Valid: client, dask, python, scheduler, worker"
            ),
        ),
        (
            'include = [{ python = "3.12", dask = "latest", worker = "3.13" }]',
            " include[0].worker: '3.13' is not a table; its keys are dask, python",
        ),
        (
            'include = [{ python = "3.12", dask = "latest", worker = {} }]',
            " include[0].worker: is empty; write python, dask or both",
        ),
        (
            'include = [{ python = "3.12", dask = "latest", worker = { python = "3" } }]',
            f" include[0].worker.python: '3' is not a Python version; {PYTHON_FORMS}",
        ),
        (
            'include = [{ python = "3.12", dask = "latest", worker = { nanny = true } }]',
            " include[0].worker: 'nanny' is not a key; valid: dask, python",
        ),
        (
            'rolling = [{ from = { python = "3.12" }, to = { dask = "latest" } }]',
            (
                ' rolling[0]: { from = { python = "3.12" }, to = { dask = "latest" } } does not have from, with both '
                "python and dask, and to"
            ),
        ),
        (
            'rolling = [{ order = ["worker"] }]',
            ' rolling[0].order: ["worker"] is no order; write "all", or each of client, scheduler, worker once',
        ),
    ],
)
def test_a_wrong_matrix_is_named_with_file_and_key(message_of: MessageOf, line: str, message: str) -> None:
    assert message_of(f"[tool.modelops.matrix]\n{line}") == MATRIX + message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('requirements = ["-e ."]', f"requirements: '-e .' is not a requirement; {REQUIREMENT_FORMS}"),
        ('requirements = ["numpy=1"]', f"requirements: 'numpy=1' is not a requirement; {REQUIREMENT_FORMS}"),
        ("requirements = [1]", 'requirements: 1 is a number; write it in quotes: "1"'),
        ('requirements = [""]', "requirements: '' is empty"),
        ('constraints = "none.txt"', "constraints: 'none.txt' is not a file ({root}/none.txt)"),
        ('constraints = "."', "constraints: '.' is not a file ({root})"),
        (
            "as-of = 2024-11-01T10:00:00",
            "as-of: 2024-11-01 10:00:00 is not a day; write YYYY-MM-DD, such as 2024-11-01",
        ),
        ('as-of = "2024-11"', "as-of: '2024-11' is not a day; write YYYY-MM-DD, such as 2024-11-01"),
        ('as-of = "2024-13-01"', "as-of: '2024-13-01' is not a day; write YYYY-MM-DD, such as 2024-11-01"),
        ('as-of = "20241101"', "as-of: '20241101' is not a day; write YYYY-MM-DD, such as 2024-11-01"),
        ('env = "A=1"', """env: 'A=1' is not a table of strings, such as { NAME = "value" }"""),
        ("env = { A = 1 }", 'env: A: 1 is a number; write it in quotes: "1"'),
        ("env = { A = true }", "env: A: true is not a string"),
        ('env = { "A-B" = "1" }', "env: 'A-B' is not a variable's name; it has letters, digits and _ only"),
        ('env = { "1A" = "1" }', "env: '1A' is not a variable's name; it has letters, digits and _ only"),
        (
            'worker-args = "--resources a=1"',
            ('worker-args: \'--resources a=1\' is not a list of strings, such as ["--resources", "aggregation=1"]'),
        ),
        ('worker-args = ["--lifetime", 5]', 'worker-args: 5 is a number; write it in quotes: "5"'),
        (
            'worker-args = ["--nthreads", "2"]',
            "worker-args: '--nthreads' has a key of its own: threads in [tool.modelops]",
        ),
        (
            'worker-args = ["--nworkers=2"]',
            "worker-args: '--nworkers' has a key of its own: workers in [tool.modelops]",
        ),
        ('worker-args = ["--no-nanny"]', "worker-args: '--no-nanny' has a key of its own: nanny in [tool.modelops]"),
        ('worker-args = ["--name=x"]', "worker-args: '--name' is set for each worker by the harness; remove it"),
        (
            'worker-args = ["--scheduler-file", "x"]',
            "worker-args: '--scheduler-file' is set for each worker by the harness; remove it",
        ),
    ],
)
def test_a_wrong_environment_is_named_with_file_and_key(
    message_of: MessageOf, tmp_path: Path, line: str, message: str
) -> None:
    assert message_of(f"[tool.modelops.environment]\n{line}") == f"{ENVIRONMENT} {message.format_map(Root(tmp_path))}"


class Root(dict[str, Any]):
    """Fills in `{root}` and leaves every other brace as it is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root=root)

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["./empty", "./file.txt"], " is neither a wheel nor a directory with a pyproject.toml or setup.py"),
        (["/nowhere", "../x", "gone-1-py3-none-any.whl"], ": there is no such file or directory"),
    ],
    ids=["of no use", "gone"],
)
def test_a_path_that_cannot_be_installed_is_refused(
    message_of: MessageOf, tmp_path: Path, paths: list[str], why: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    for path in paths:
        message = message_of(f'[tool.modelops.environment]\nrequirements = ["{path}"]')
        assert message == f"{ENVIRONMENT} requirements: {path!r}{why} ({tmp_path / path})"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "[tool.modelops]\nworker = 1",
            f"[tool.modelops]: 'worker' is not a key; did you mean 'workers'? Valid: {KEYS}",
        ),
        (
            "[tool.modelops]\nbundle = []",
            f"[tool.modelops]: 'bundle' is not a key; did you mean 'bundles'? Valid: {KEYS}",
        ),
        (
            "[tool.modelops.matrix]\npythons = []",
            (
                "[tool.modelops.matrix]: 'pythons' is not a key; did you mean 'python'? "
                "Valid: dask, exclude, include, python, rolling"
            ),
        ),
        (
            "[tool.modelops.environment]\nas_of = 2024-11-01",
            (
                "[tool.modelops.environment]: 'as_of' is not a key; did you mean 'as-of'? "
                "Valid: as-of, client-env, constraints, env, pass-env, requirements, scheduler-env, worker-args"
            ),
        ),
        (
            "[tool.modelops.aggregation]\nparam = 1",
            (
                "[tool.modelops.aggregation]: 'param' is not a key; did you mean 'params'? "
                "Valid: failed-when, faults, may-be-empty, params, replicates"
            ),
        ),
        (
            "[tool.modelops.deadlines]\nlamda = 1",
            (
                "[tool.modelops.deadlines]: 'lamda' is not a check; did you mean 'lambda'? "
                "Valid: install, lambda, resolve, runtime, start"
            ),
        ),
        ("[tool.modelops]\npodman = { image = 'x' }", f"[tool.modelops]: 'podman' is not a key; valid: {KEYS}"),
        ("[tool]\nmodelops = 1", f"[tool.modelops]: 1 is not a table; its keys are {KEYS}"),
        (
            "[tool.modelops]\nmatrix = ['3.12']",
            '[tool.modelops.matrix]: ["3.12"] is not a table; its keys are dask, exclude, include, python, rolling',
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_valid_ones(message_of: MessageOf, toml: str, message: str) -> None:
    assert message_of(toml) == f"pyproject.toml: {message}"


def test_a_wrong_name_cannot_break_the_line(message_of: MessageOf) -> None:
    assert "'a\\nb' is not a key" in message_of('[tool.modelops]\n"a\\nb" = 1')


def test_what_is_not_toml_is_named_with_line_and_column(message_of: MessageOf) -> None:
    message = message_of("[tool.modelops]\nworkers = = 2\n")
    assert message.startswith("pyproject.toml: not valid TOML: ")
    assert message.endswith("(at line 2, column 11)")


def test_what_is_not_text_is_not_toml(message_of: MessageOf, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"a = '\xff'")
    assert message_of(None).startswith("pyproject.toml: not valid TOML: 'utf-8' codec can't decode")


def test_a_file_that_cannot_be_read_is_said_so(message_of: MessageOf, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    assert message_of(None) == "pyproject.toml: cannot be read: Is a directory"


# What is given elsewhere: read as in the file, and said of its own place.


@pytest.mark.parametrize(
    ("name", "texts", "attribute", "expected"),
    [
        ("backend", ("process",), "backend", "process"),
        ("workers", ("7",), "workers", 7),
        ("parallel", ("7",), "parallel", 7),
        ("parallel", ("auto",), "parallel", None),
        ("fresh", ("true",), "fresh", True),
        ("fresh", ("Yes",), "fresh", True),
        ("fresh", ("1",), "fresh", True),
        ("fresh", ("0",), "fresh", False),
        ("fresh", ("no",), "fresh", False),
        ("fresh", ("False",), "fresh", False),
    ],
)
def test_an_option_replaces_what_is_in_the_file(
    read: Read, name: str, texts: tuple[str, ...], attribute: str, expected: object
) -> None:
    toml = '[tool.modelops]\nbackend = "auto"\nworkers = 3\nfresh = true\ndeadlines.start = 1'
    assert getattr(read(toml, **{name: ("place", *texts)}), attribute) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("start=9",), {"start": 9, "lambda": 2}),
        (("start=9", "lambda=1.5", "resolve=.5"), {"start": 9, "lambda": 1.5, "resolve": 0.5}),
        (("start=9", "start=10"), {"start": 10, "lambda": 2}),
    ],
)
def test_a_deadline_leaves_the_other_checks_of_the_file(
    read: Read, texts: tuple[str, ...], expected: dict[str, float]
) -> None:
    settings = read("[tool.modelops.deadlines]\nstart = 1\nlambda = 2", deadline=("place", *texts))
    assert settings.deadlines_of(CHECKS) == expected


def test_paths_are_relative_to_where_they_were_written(read: Read, tmp_path: Path) -> None:
    settings = read(
        '[tool.modelops]\ncache = "x"\nreport = "x.json"',
        directory="invoked",
        cache=("p", "kept"),
        report=("p", "a.json", "/b.json"),
    )
    assert settings.cache == tmp_path / "invoked/kept"
    assert [report.path for report in settings.reports] == [tmp_path / "invoked/a.json", Path("/b.json")]


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("backend", ("podman",), "'podman' is not a backend; valid: auto, cluster, docker, process"),
        ("workers", ("-1",), "'-1' is not a whole number from 1 up"),
        ("workers", ("0",), "0 is not a whole number from 1 up"),
        ("workers", ("two",), "'two' is not a whole number from 1 up"),
        ("parallel", ("0",), "0 is not a whole number from 1 up"),
        ("parallel", ("two",), "'two' is neither a whole number from 1 up nor 'auto'"),
        ("fresh", ("maybe",), "'maybe' is neither true nor false"),
        ("cache", ("",), "'' is empty"),
        ("report", ("a.json", "a.pdf"), f"'a.pdf' does not end in a report's format; valid: {VALID_REPORTS}"),
        ("python", ("3.12", "3"), f"'3' is not a Python version; {PYTHON_FORMS}"),
        ("dask", ("new",), f"'new' is not a Dask version; {DASK_FORMS}"),
        ("deadline", ("120",), "'120' is not CHECK=SECONDS, such as start=120"),
        ("deadline", ("start=",), "'' is not a number of seconds above 0"),
        ("deadline", ("start=0",), "0.0 is not a number of seconds above 0"),
        ("deadline", ("start=nan",), "'nan' is not a number of seconds above 0"),
        (
            "deadline",
            ("stat=1",),
            "'stat' is not a check; did you mean 'start'? Valid: install, lambda, resolve, runtime, start",
        ),
        ("deadline", ("handshake=1",), "'handshake' is not a check; valid: install, lambda, resolve, runtime, start"),
    ],
)
def test_a_wrong_text_is_named_with_its_place(
    message_of: MessageOf, name: str, texts: tuple[str, ...], message: str
) -> None:
    assert message_of("", **{name: ("--the-place", *texts)}) == f"--the-place: {message}"


def test_what_is_wrong_in_the_file_is_said_though_an_option_replaces_it(message_of: MessageOf) -> None:
    assert message_of("[tool.modelops]\nworkers = 0", workers=("place", "2")).startswith("pyproject.toml: ")


AXES = """
[tool.modelops.matrix]
python = ["3.12"]
dask = ["latest"]
exclude = [{ python = "3.13" }]
include = [{ python = "3.13", dask = "latest" }]
rolling = [{ from = { python = "3.13", dask = "installed" }, to = { dask = "latest" } }]
"""


@pytest.mark.parametrize(
    ("name", "text", "python", "dask"),
    [("python", "3.11", "3.11", "latest"), ("dask", "installed", "3.12", "installed")],
)
def test_an_axis_is_replaced_and_include_falls_away(read: Read, name: str, text: str, python: str, dask: str) -> None:
    matrix = read(AXES, **{name: (f"--modelops-{name}", text)}).matrix
    assert matrix.python == (PythonVersion.parse(python),)
    assert matrix.dask == (DaskRequest.parse(dask),)
    assert len(matrix.exclude) == 1
    assert matrix.include == ()
    assert matrix.rolling == ()
    assert {matrix.python_origin, matrix.dask_origin} == {
        f"--modelops-{name}",
        f"{MATRIX} {'dask' if name == 'python' else 'python'}",
    }


def test_include_stays_when_no_axis_is_replaced_and_cells_are_only_selected(read: Read) -> None:
    matrix = read(AXES, cell=("PYTEST_MODELOPS_CELL", "py3.12-*", "*+worker-*")).matrix
    assert len(matrix.include) == 1
    assert matrix.select == ("py3.12-*", "*+worker-*")
    assert matrix.select_origin == "PYTEST_MODELOPS_CELL"


# Flags, variables and ini settings, through pytest itself.


class Plugin:
    """Stands for the plugin, whether it is installed or not."""

    @staticmethod
    def pytest_addoption(parser: pytest.Parser) -> None:
        add_options(parser)


Configure = Callable[..., pytest.Config]


@pytest.fixture
def configure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Parse a command line as pytest does, with these variables."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable_name, raising=False)
    pytester.plugins.append(Plugin())

    def configure(*arguments: str, **variables: str) -> pytest.Config:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return pytester.parseconfig("-p", "no:modelops", *arguments)

    return configure


def test_what_is_written_nowhere_is_not_given(configure: Configure) -> None:
    assert set(given(configure(), {}).values()) == {()}


@pytest.mark.parametrize(
    ("arguments", "name", "texts"),
    [
        (["--modelops-matrix"], "matrix", ("true",)),
        (["--modelops-backend", "process"], "backend", ("process",)),
        (["--modelops-python=3.12", "--modelops-python", "3.13"], "python", ("3.12", "3.13")),
        (["--modelops-dask", ">=2024.8,<2025"], "dask", (">=2024.8,<2025",)),
        (["--modelops-cell", "py3.13-*", "--modelops-cell=*"], "cell", ("py3.13-*", "*")),
        (["--modelops-workers", "3"], "workers", ("3",)),
        (["--modelops-deadline", "start=9", "--modelops-deadline=lambda=3"], "deadline", ("start=9", "lambda=3")),
        (["--modelops-report", "a.json", "--modelops-report", "b.json"], "report", ("a.json", "b.json")),
        (["--modelops-fresh"], "fresh", ("true",)),
        (["--modelops-cache="], "cache", ("",)),
    ],
)
def test_a_flag_gives_what_it_says(
    configure: Configure, pytester: pytest.Pytester, arguments: list[str], name: str, texts: tuple[str, ...]
) -> None:
    (found,) = given(configure(*arguments), {})[name]
    assert found == Given(texts=texts, origin=f"--modelops-{name}", directory=pytester.path)


@pytest.mark.parametrize(
    ("variable", "text", "texts"),
    [
        ("BACKEND", " process ", ("process",)),
        ("WORKERS", "3", ("3",)),
        ("CACHE", "/a directory", ("/a directory",)),
        ("FRESH", "0", ("0",)),
        ("PYTHON", "3.12 3.13", ("3.12", "3.13")),
        ("DASK", "'>=2024.8, <2025' latest", (">=2024.8, <2025", "latest")),
        ("CELL", "py3.12-*\npy3.13-*", ("py3.12-*", "py3.13-*")),
        ("DEADLINE", "start=1 lambda=2", ("start=1", "lambda=2")),
        ("REPORT", "'a b.json'", ("a b.json",)),
    ],
)
def test_a_variable_gives_what_it_says(
    configure: Configure, pytester: pytest.Pytester, variable: str, text: str, texts: tuple[str, ...]
) -> None:
    name = f"PYTEST_MODELOPS_{variable}"
    (found,) = given(configure(), {name: text, "OTHER": "x"})[variable.lower()]
    assert found == Given(texts=texts, origin=name, directory=pytester.path)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_is_as_good_as_none(configure: Configure, text: str) -> None:
    assert given(configure(), {"PYTEST_MODELOPS_PYTHON": text})["python"] == ()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PYTEST_MODELOPS_WORKER", "did you mean 'PYTEST_MODELOPS_WORKERS'? Valid: "),
        ("PYTEST_MODELOPS_MATRIX", "did you mean "),
        ("PYTEST_MODELOPS_", ""),
    ],
)
def test_an_unknown_variable_is_refused_with_the_valid_ones(configure: Configure, name: str, hint: str) -> None:
    with pytest.raises(WrongInput) as raised:
        given(configure(), {name: ""})
    message = str(raised.value)
    assert message.startswith(f"environment: {name!r} is not a variable of pytest-modelops; {hint}")
    assert message.endswith(f": {VARIABLES}")


def test_a_list_with_an_open_quote_is_refused(configure: Configure) -> None:
    with pytest.raises(WrongInput) as raised:
        given(configure(), {"PYTEST_MODELOPS_DASK": "'>=2024.8"})
    assert str(raised.value) == (
        """PYTEST_MODELOPS_DASK: "'>=2024.8" is not quoted as in a shell: No closing quotation"""
    )


INI = """
[pytest]
modelops_backend = process
modelops_workers = 5
modelops_cache = kept
modelops_fresh = yes
modelops_report =
    a b.json
    c.json
modelops_deadline = start=3
"""


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("backend", ("process",)),
        ("workers", ("5",)),
        ("cache", ("kept",)),
        ("fresh", ("yes",)),
        ("report", ("a b.json", "c.json")),
        ("deadline", ("start=3",)),
    ],
)
def test_an_ini_setting_gives_what_it_says(
    configure: Configure, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, texts: tuple[str, ...]
) -> None:
    pytester.makefile(".ini", pytest=INI)
    monkeypatch.chdir(pytester.mkdir("elsewhere"))
    (found,) = given(configure("-c", "../pytest.ini"), {})[name]
    assert found == Given(texts=texts, origin=f"pytest.ini: modelops_{name}", directory=pytester.path)


@pytest.mark.parametrize(("ini", "origin"), [(INI, "-o modelops_workers"), ("", "-o modelops_workers")])
def test_an_overridden_ini_setting_is_not_blamed_on_the_file(
    configure: Configure, pytester: pytest.Pytester, ini: str, origin: str
) -> None:
    if ini:
        pytester.makefile(".ini", pytest=ini)
    (found,) = given(configure("-o", "modelops_workers=9"), {})["workers"]
    assert (found.texts, found.origin, found.directory) == (("9",), origin, pytester.path)


def config_with(getini: Callable[[str], object]) -> Any:
    """What stands for a config whose ini file holds what pytest does not, or no longer, pass on."""
    return SimpleNamespace(
        getoption=lambda name: None,
        getini=getini,
        inipath=Path("/r/pytest.toml"),
        invocation_params=SimpleNamespace(dir=Path("/r")),
    )


def test_a_list_where_one_value_is_due_is_refused() -> None:
    config = config_with(lambda name: ["auto", "process"] if name == "modelops_backend" else "")
    with pytest.raises(WrongInput) as raised:
        given(config, {})
    assert str(raised.value) == ("pytest.toml: modelops_backend: ['auto', 'process'] is a list; it takes one value")


@pytest.mark.parametrize("error", [TypeError, ValueError, pytest.UsageError])
def test_what_pytest_says_of_an_ini_setting_is_wrong_input(error: type[Exception]) -> None:
    def getini(name: str) -> object:
        raise error("expects a string")

    with pytest.raises(WrongInput, match=r"^pytest.toml: modelops_config: expects a string$"):
        given(config_with(getini), {})


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="native tables came with pytest 9")
@pytest.mark.parametrize("file", ["pytest.toml", "pyproject.toml"])
def test_a_native_table_takes_numbers_and_booleans(configure: Configure, tmp_path: Path, file: str) -> None:
    native = """
    modelops_workers = 3
    modelops_fresh = true
    modelops_report = "a.json"
    modelops_deadline = ["start=9", "lambda=2.5"]
    """
    Path(file).write_text(f"[{'tool.' * (file == 'pyproject.toml')}pytest]\n{native}", encoding="utf-8")
    settings = load(configure())
    assert (settings.workers, settings.fresh) == (3, True)
    assert [report.path for report in settings.reports] == [Path("a.json").resolve()]
    assert settings.deadlines_of(CHECKS) == {"start": 9, "lambda": 2.5}
    assert load(configure("-o", "modelops_workers=4")).workers == 4
    Path(file).write_text(f"[{'tool.' * (file == 'pyproject.toml')}pytest]\nmodelops_workers = true", encoding="utf-8")
    with pytest.raises(WrongInput, match=rf"^{file}: modelops_workers: 'true' is not a whole number from 1 up$"):
        load(configure())


def test_the_command_line_is_stronger_than_a_variable_and_that_than_ini_and_that_than_the_table(
    configure: Configure, pytester: pytest.Pytester
) -> None:
    pytester.makepyprojecttoml("[tool.modelops]\nworkers = 2\ndeadlines = { start = 2, lambda = 2, install = 2 }")
    variables = {"PYTEST_MODELOPS_WORKERS": "4", "PYTEST_MODELOPS_DEADLINE": "start=4 lambda=4"}
    ini = ["-o", "modelops_workers=3", "-o", "modelops_deadline=start=3\nlambda=3\nresolve=3"]
    flags = ["--modelops-workers=5", "--modelops-deadline=start=5"]

    assert load(configure()).workers == 2
    assert load(configure(*ini)).workers == 3
    assert load(configure(*ini, **variables)).workers == 4
    settings = load(configure(*ini, *flags, **variables))
    assert settings.workers == 5
    assert settings.deadlines_of(CHECKS) == {"start": 5, "lambda": 4, "resolve": 3, "install": 2}


def test_the_table_is_read_from_the_rootdir_though_another_file_is_the_ini_file(
    configure: Configure, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".ini", pytest="[pytest]")
    pytester.makepyprojecttoml("[tool.modelops\n")
    with pytest.raises(WrongInput, match=r"^pyproject.toml: not valid TOML: Expected ']' .*"):
        load(configure("-c", "pytest.ini"))


@pytest.mark.parametrize(
    ("arguments", "plan", "paths"),
    [
        ([], None, []),
        (["--modelops-plan"], "text", []),
        (["--modelops-plan=json"], "json", []),
        (["--modelops-plan", "tests"], "text", ["tests"]),
        (["--modelops-plan", "json"], "text", ["json"]),
        (["tests", "--modelops-plan=json", "json"], "json", ["tests", "json"]),
        (["--modelops-plan", "--modelops-plan=json"], "json", []),
        (["--modelops-plan", "-k", "lambda"], "text", []),
    ],
)
def test_plan_takes_a_value_only_behind_its_equals_sign(
    configure: Configure, pytester: pytest.Pytester, arguments: list[str], plan: str | None, paths: list[str]
) -> None:
    for path in ["tests", "json"]:
        pytester.mkdir(path)
    config = configure(*arguments)
    assert config.option.modelops_plan == plan
    assert config.option.file_or_dir == paths


# pytest 7.4 lets this warning through when a command line is wrong.
@pytest.mark.filterwarnings("ignore:A plugin raised an exception during an old-style hookwrapper")
@pytest.mark.parametrize("value", ["xml", ""])
def test_plan_refuses_other_values_and_names_the_flags_there_are(configure: Configure, value: str) -> None:
    with pytest.raises(pytest.UsageError) as raised:
        configure(f"--modelops-plan={value}")
    assert "argument --modelops-plan/--modelops-plan=json/--modelops-plan=github/" in str(raised.value)


def test_all_flags_are_in_one_group_of_the_help(configure: Configure) -> None:
    parser = configure()._parser
    help_text = parser.optparser.format_help()
    start = help_text.index("Dask version matrix (pytest-modelops):")
    group = help_text[start:].split("\n\n")[0]
    flags = [option.flag for option in OPTIONS] + ["--modelops-plan", "--modelops-plan=json"]
    assert [flag for flag in flags if flag not in group] == []
    assert "--modelops" not in help_text.replace(group, "")
    for option in OPTIONS:
        assert (option.variable_name in group) == option.variable


def test_a_workers_number_is_checked_against_the_flag(configure: Configure) -> None:
    with pytest.raises(WrongInput, match=r"^--modelops-workers: '-1' is not a whole number from 1 up$"):
        load(configure("--modelops-workers=-1"))


def test_options_need_nothing_but_pytest() -> None:
    program = """
import sys, pytest
before = set(sys.modules)
import pytest_modelops.config.options
names = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(names - sys.stdlib_module_names))
print("difflib" in sys.modules and "difflib" not in before)
"""
    # From where the package is found also if it is not installed.
    root = Path(settings_module.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    assert set(eval(result.stdout.splitlines()[0])) == {"pytest_modelops"}
    assert result.stdout.splitlines()[1] == "False"


def test_every_option_of_the_table_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option that is registered and then ignored would mislead."""
    asked: set[str] = set()

    class Recorder(dict[str, tuple[Given, ...]]):
        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return default

    parse(nearest(tmp_path, otherwise=(), directory=tmp_path), Recorder())
    assert asked == {option.name for option in OPTIONS} - {"matrix", "config"}
