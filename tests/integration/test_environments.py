"""Environments by real uv and real interpreters, from an index of our own on loopback.

It serves made-up releases of Dask: yanked, early, late and undated ones, with nothing to download. One test at the end
asks the configured index.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Environment
from pytest_modelops.environments.uv import NoAnswer
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable, WrongInput
from pytest_modelops.matrix.cell import PythonVersion, Versions
from pytest_modelops.matrix.versions import NoIndex
from tests.integration.conftest import write_wheel
from tests.integration.index import (
    HERE,
    UNREACHABLE,
    Index,
    Open,
    Session,
    Upload,
    contents,
    in_three_processes_at_once,
    make_repository,
    sessions,
    variables,
)


def make_wheel(directory: Path, name: str, version: str, *, requires: Sequence[str] = ()) -> Path:
    path = directory / f"{name}-{version}-py3-none-any.whl"
    return write_wheel(path, {f"{name}/__init__.py": f"version = '{version}'\n"}, requires=requires)


DASK = [
    ("2024.8.0", "2024-08-05", False),
    ("2024.8.1", "2024-08-20", False),
    ("2024.10.0", "2024-10-15", False),
    ("2024.10.1", "2024-10-20", True),
    ("2024.11.0rc1", "2024-11-10", False),
]
OTHERS = [
    ("distributed", "2024.11.5", "2024-11-20"),  # a release that went wrong
    ("dask", "2024.12.0", "2024-12-01"),  # distributed is not there yet
    ("helper", "1.0", "2024-01-01"),
    ("helper", "2.0", "2024-02-01"),
    ("helper", "2.1", "2024-10-18"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    directory = tmp_path_factory.mktemp("index")
    uploads = [Upload(make_wheel(directory, *package), day) for *package, day in OTHERS]
    for version, day, yanked in DASK:
        uploads.append(Upload(make_wheel(directory, "dask", version, requires=["helper>=2"]), day, yanked))
        uploads.append(Upload(make_wheel(directory, "distributed", version), day, yanked))
    made = Index(uploads)
    yield made
    made.close()


@pytest.fixture(scope="module")
def environ(index: Index, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return variables(index, tmp_path_factory)


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    with sessions(tmp_path, environ) as start_one:
        yield start_one


@pytest.fixture
def other_python(start: Open) -> str:
    """Another Python of this machine."""
    for minor in range(10, 16):
        if minor != sys.version_info.minor:
            try:
                start(variables={"UV_PYTHON_DOWNLOADS": "never"}).resolve(python=f"3.{minor}")
            except Unavailable:
                continue
            return f"3.{minor}"
    pytest.skip("there is one Python only")


def silent(tmp_path: Path) -> dict[str, str]:
    """Variables with which the same index is out of reach, and uv remembers nothing of it."""
    return {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty-uv-cache")}


def site_packages(environment: Environment) -> Path:
    [site] = Path(environment.location).glob("lib/python*/site-packages")
    return site


def imported(environment: Environment, module: str) -> str:
    code = f"import {module}; print({module}.version)"
    return subprocess.run(
        [environment.python, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


# --- locks --------------------------------------------------------------------------------------------------


def test_a_lock_pins_everything_with_hashes(start: Open) -> None:
    lock = start().resolve()
    assert lock.lines == ("dask==2024.10.0", "distributed==2024.10.0", "helper==2.1")
    assert lock.requirements.count("--hash=sha256:") == 3
    assert str(lock.python).startswith(HERE)
    assert lock.note == ""


def test_a_lock_is_as_of_its_day(start: Open) -> None:
    assert "helper==2.0" in start(as_of=dt.date(2024, 10, 17)).resolve().lines
    # uploaded late on the 18th, UTC: that day counts whole, in every time zone
    late = start(as_of=dt.date(2024, 10, 18), variables={"TZ": "Pacific/Honolulu"})
    assert "helper==2.1" in late.resolve().lines


def test_an_index_without_upload_times_is_named(start: Open, index: Index) -> None:
    undated = {"UV_DEFAULT_INDEX": f"{index.address}/undated"}
    session = start(as_of=dt.date(2024, 11, 1), variables=undated)
    with pytest.raises(CheckFailed, match=r"gives no upload time for dask-2024.10.0-py3"):
        session.resolve()
    with pytest.raises(WrongInput, match="as-of = 2024-11-01: the configured index gives no upload time"):
        session.made.releases.latest()
    with pytest.raises(WrongInput, match=r"no upload time for dask-2024.8.0-py3"):
        session.made.releases.exists(Version("2024.8.0"))
    assert not session.made.releases.exists(Version("2024.9.9")), "there is no such file at all"


def test_a_lock_is_remembered_for_a_day(start: Open, index: Index, tmp_path: Path) -> None:
    first = start().resolve()
    before = index.requests
    assert start().resolve() == first
    assert index.requests == before
    age_locks(tmp_path, hours=23)
    assert start(variables=silent(tmp_path)).resolve().note == ""
    age_locks(tmp_path, hours=25)
    later = start()
    assert later.resolve().resolved > first.resolved
    assert "resolving" in later.said[0]


def age_locks(root: Path, *, hours: int) -> None:
    for file in (root / "cache" / "locks").glob("*.json"):
        lock = json.loads(file.read_text())
        then = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=hours)
        file.write_text(json.dumps({**lock, "resolved": then.isoformat()}))


def test_an_old_lock_serves_when_no_index_answers_and_says_so(start: Open, tmp_path: Path) -> None:
    first = start().resolve()
    age_locks(tmp_path, hours=48)
    old = start(variables=silent(tmp_path)).resolve()
    assert old.requirements == first.requirements
    day = (dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=48)).date()
    assert old.note == f"the index did not answer; this is the lock of {day}"


def test_a_lock_of_a_day_that_is_over_is_good_for_ever(start: Open, tmp_path: Path) -> None:
    start(as_of=dt.date(2024, 11, 1)).resolve()
    age_locks(tmp_path, hours=10_000)
    assert start(as_of=dt.date(2024, 11, 1), variables=silent(tmp_path)).resolve().note == ""


def test_fresh_trusts_locks_of_its_own_session_only(start: Open, index: Index) -> None:
    start().resolve()
    fresh = start(fresh=True, session="two")
    fresh.resolve()
    assert any("resolving" in said for said in fresh.said)
    again = start(fresh=True, session="two")
    again.resolve()
    assert not any("resolving" in said for said in again.said)


def test_without_index_or_lock_uv_is_quoted(start: Open) -> None:
    with pytest.raises(NoAnswer, match=r"^no index answered, and there is no earlier lock of py") as caught:
        start(variables=UNREACHABLE).resolve()
    assert "127.0.0.1:9/simple/" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "tcp connect error" not in str(caught.value)
    assert "tcp connect error" in caught.value.output


def test_a_conflict_is_reported_as_uv_explains_it(start: Open, tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("helper<2\n")
    with pytest.raises(CheckFailed) as caught:
        start(constraints=constraints).resolve()
    message = str(caught.value)
    assert message.startswith(f"no solution for py{HERE}-dask2024.10.0 + constraints {constraints}:\n")
    assert "dask==2024.10.0 depends on helper>=2" in message
    assert "error:" not in message


def test_changed_constraints_make_another_lock(start: Open, tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("helper<2.1\n")
    assert "helper==2.0" in start(constraints=constraints).resolve().lines
    constraints.write_text("helper>=2.1\n")
    assert "helper==2.1" in start(constraints=constraints).resolve().lines
    constraints.write_text("-c more.txt\n")
    (tmp_path / "more.txt").write_text("helper<2.1\n")
    assert "helper==2.0" in start(constraints=constraints).resolve().lines
    (tmp_path / "more.txt").write_text("helper>=2.1\n")
    assert "helper==2.1" in start(constraints=constraints).resolve().lines


def test_a_release_that_is_unknown_for_lack_of_an_index_is_reported(start: Open) -> None:
    unknown = Versions(PythonVersion.parse(HERE), None, "latest")
    why = r"^no index said which Dask 'latest' is: no index answered: Failed to fetch: `?http://.*Connection refused"
    with pytest.raises(CheckFailed, match=why):
        start(variables=UNREACHABLE).made.resolve(unknown, deadline=Deadline(60), progress=print)


# --- interpreters -------------------------------------------------------------------------------------------


def test_a_python_that_is_missing_is_unavailable_with_the_command_that_gets_it(start: Open) -> None:
    session = start()
    with pytest.raises(Unavailable) as caught:
        session.resolve(python="3.99")
    message = str(caught.value)
    assert message.startswith("There is no Python 3.99 on this machine. Get it with: uv python install 3.99\n")
    assert "PATH; there is 3." in message
    assert "uv did not get it: No interpreter found for Python 3.99" in message
    said = len(session.said)
    with pytest.raises(Unavailable):
        session.resolve(python="3.99")
    assert len(session.said) == said, "it was asked for twice"


@pytest.mark.parametrize("setting", ["never", "manual"])
def test_a_python_that_uv_may_not_download_stays_away(start: Open, setting: str) -> None:
    session = start(variables={"UV_PYTHON_DOWNLOADS": setting})
    with pytest.raises(Unavailable, match=f"downloads are set to '{setting}'"):
        session.resolve(python="3.13.1")  # nobody should have that one


def test_a_patch_that_was_asked_for_is_that_one(start: Open) -> None:
    lock = start().resolve()
    assert start().resolve(python=str(lock.python)).python == lock.python


def test_names_that_do_not_run_are_passed_over(start: Open, tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    for name, script in (("python3.98", "exit 127"), ("python3.97", "echo 3.97")):
        (shims / name).write_text(f"#!/bin/sh\n{script}\n")
        (shims / name).chmod(0o755)
    session = start(variables={"PATH": f"{shims}:{os.environ['PATH']}"})
    for version in ("3.98", "3.97"):
        with pytest.raises(Unavailable):
            session.resolve(python=version)


# --- environments -------------------------------------------------------------------------------------------


def test_an_environment_is_built_once_and_then_found(start: Open) -> None:
    built = start().install()
    assert not built.reused
    assert imported(built, "dask") == "2024.10.0"
    session = start(session="two")
    found = session.install()
    assert found.reused
    assert found.location == built.location
    assert not any("building" in said for said in session.said)


def test_one_environment_is_per_interpreter(start: Open, other_python: str) -> None:
    here = start().install()
    there = start().install(start().resolve(python=other_python))
    assert here.location != there.location
    assert f"python{other_python}" in str(site_packages(there))


def remove_package(environment: Environment) -> None:
    shutil.rmtree(site_packages(environment) / "helper")


def remove_package_wholly(environment: Environment) -> None:
    remove_package(environment)
    shutil.rmtree(site_packages(environment) / "helper-2.1.dist-info")


def add_package(environment: Environment) -> None:
    (site_packages(environment) / "guest").mkdir()


def change_metadata(environment: Environment) -> None:
    metadata = site_packages(environment) / "helper-2.1.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 2.1", "Version: 2.2"))


def change_file(environment: Environment) -> None:
    """In place, so that it is changed in uv's cache as well if it is linked to it; and in the same size."""
    module = site_packages(environment) / "helper" / "__init__.py"
    module.write_text("version = '9.9'\n")
    os.utime(module, (1, 1))


def change_settings(environment: Environment) -> None:
    settings = Path(environment.location, "pyvenv.cfg")
    settings.write_text(settings.read_text().replace("system-site-packages = false", "system-site-packages = true"))


def remove_python(environment: Environment) -> None:
    Path(environment.python).unlink()


def damage_marker(environment: Environment) -> None:
    Path(environment.location, "complete.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_package, "helper/__init__.py is missing"),
        (remove_package_wholly, "helper is missing, the lock says 2.1"),
        (add_package, "other entries than when it was built: guest"),
        (change_metadata, "helper is 2.2, the lock says 2.1"),
        (change_file, "helper/__init__.py was changed"),
        (change_settings, "pyvenv.cfg was changed"),
        (remove_python, "its Python does not run"),
        (damage_marker, "marker of the one in the cache is damaged"),
    ],
)
def test_a_corrupted_environment_is_rebuilt(start: Open, damage: Callable[[Environment], None], reason: str) -> None:
    first = start()
    built = first.install()
    first.made.close()
    damage(built)
    session = start(session="two")
    rebuilt = session.install()
    assert not rebuilt.reused
    assert reason in session.said[-1]
    assert reason in " ".join(rebuilt.warnings), "the report says it, too"
    assert not built.warnings
    assert imported(rebuilt, "helper") == "2.1"
    assert not Path(built.location).exists()
    assert start().install().reused


def test_a_change_that_reached_uvs_cache_is_repaired(start: Open, tmp_path: Path) -> None:
    linked = {"UV_LINK_MODE": "hardlink", "UV_CACHE_DIR": str(tmp_path / "uv-cache")}
    built = start(variables=linked).install()
    change_file(built)
    rebuilt = start(variables=linked).install()
    assert not rebuilt.reused
    assert imported(rebuilt, "helper") == "2.1"


def test_an_environment_with_another_python_is_replaced(start: Open, other_python: str) -> None:
    built = start().install()
    other = start().resolve(python=other_python)
    Path(built.python).unlink()
    Path(built.python).symlink_to(other.interpreter)
    session = start(session="two")
    assert not session.install().reused
    assert f"its Python is {other.python}, not" in session.said[-1]


def test_what_a_killed_build_left_is_never_used(start: Open) -> None:
    session = start()
    built = session.install()
    session.made.close()
    half = Path(built.location)
    (half / "complete.json").unlink()
    again = start(session="two").install()
    assert not again.reused
    assert not half.exists()


def test_a_build_that_fails_leaves_nothing(start: Open, tmp_path: Path) -> None:
    session = start()
    lock = session.resolve()
    wrong = dataclasses.replace(lock, requirements=lock.requirements.replace("--hash=sha256:", "--hash=sha256:0"))
    with pytest.raises(CheckFailed, match=r"could not build py.*-dask2024.10.0"):
        session.install(wrong)
    assert not list((tmp_path / "cache" / "environments").glob("*/1"))


def test_a_build_that_is_too_slow_leaves_nothing(start: Open, tmp_path: Path) -> None:
    session = start()
    lock = session.resolve()
    with pytest.raises(TimedOut, match=r"uv (venv|pip sync)"):
        session.made.install(lock, deadline=Deadline(0.05), progress=print)
    assert not list((tmp_path / "cache" / "environments").glob("*/1"))


def test_a_lock_that_uv_does_not_fulfil_is_reported(start: Open) -> None:
    session = start()
    lock = session.resolve()
    wrong = dataclasses.replace(lock, packages={**lock.packages, "ghost": Version("1")})
    with pytest.raises(CheckFailed, match=r"built twice, and is not what its lock says: ghost is missing"):
        session.install(wrong)


def test_wheels_that_uv_has_are_installed_without_an_index(start: Open, index: Index, tmp_path: Path) -> None:
    lock = start().resolve()
    start().install(lock)
    before = index.requests
    cut_off = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    session = start(cache=tmp_path / "other", variables=cut_off)
    assert not session.install(lock).reused
    assert index.requests == before


def test_fresh_builds_once_a_session_and_spares_the_one_in_use(start: Open) -> None:
    running = start(session="running")
    old = running.install()
    fresh = start(fresh=True, session="fresh")
    new = fresh.install()
    assert new.location != old.location
    assert imported(old, "dask") == "2024.10.0", "it was removed under a running cell"
    assert start(fresh=True, session="fresh").install().location == new.location
    running.made.close()
    assert start(session="later").install().location == new.location
    assert not Path(old.location).exists()


def test_two_processes_at_once_build_once(environ: dict[str, str], tmp_path: Path) -> None:
    assert in_three_processes_at_once("install()", tmp_path, environ) == ["False", "True", "True"]


def test_this_interpreter_as_it_is_needs_nothing(start: Open, index: Index) -> None:
    before = index.requests
    session = start()
    as_is = Versions(PythonVersion.parse(HERE), Version("2024.10.0"), "installed", as_is=True)
    lock = session.made.resolve(as_is, deadline=Deadline(10), progress=print)
    environment = session.install(lock)
    assert environment.python == sys.executable
    assert environment.reused
    assert {"dask", "distributed", "tornado", "cloudpickle"} <= lock.packages.keys()
    assert "pytest" not in lock.packages
    assert index.requests == before


# --- local requirements -------------------------------------------------------------------------------------

BACKEND = """
    # A build backend that writes into its sources, as setuptools does.
    import pathlib, sys, zipfile
    def build_wheel(directory, config_settings=None, metadata_directory=None):
        pathlib.Path("local.egg-info").mkdir(exist_ok=True)
        info = "local-1.0.dist-info"
        with zipfile.ZipFile(pathlib.Path(directory, "local-1.0-py3-none-any.whl"), "w") as wheel:
            wheel.write("local.py")
            wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: local\\nVersion: 1.0\\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
            wheel.writestr(f"{info}/RECORD", f"local.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
        return "local-1.0-py3-none-any.whl"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "libs" / "local"
    directory.mkdir(parents=True)
    (directory / "backend.py").write_text(textwrap.dedent(BACKEND))
    (directory / "local.py").write_text("version = 'first'\n")
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "local"\nversion = "1.0"\n'
    )
    return directory


def test_a_local_project_is_installed_and_its_sources_stay_as_they_are(start: Open, project: Path) -> None:
    before = contents(project)
    session = start(requirements=(str(project),))
    lock = session.resolve()
    assert "local==1.0" in lock.lines
    assert imported(session.install(lock), "local") == "first"
    assert contents(project) == before


IGNORES = """
    # As hatchling: what git ignores, by the nearest file upwards in the repository, is left out.
    import pathlib
    def ignored():
        for directory in [pathlib.Path.cwd(), *pathlib.Path.cwd().parents]:
            if (directory / ".gitignore").is_file():
                return (directory / ".gitignore").read_text().split()
            if (directory / ".git").exists():
                return []
"""


def test_what_git_ignores_in_the_repository_above_is_not_in_the_wheel(start: Open, project: Path) -> None:
    text = (project / "backend.py").read_text()
    text = text.replace('wheel.write("local.py")', 'any(wheel.write(name) for name in {"local.py"} - {*ignored()})')
    (project / "backend.py").write_text(textwrap.dedent(IGNORES) + text)

    def is_there() -> bool:
        environment = start(requirements=(str(project),)).install()
        command = [environment.python, "-I", "-c", "import local"]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert is_there()
    (project.parent / ".gitignore").write_text("local.py\n")
    assert not is_there(), "the cached wheel is another one"
    (project / ".git").mkdir()
    assert is_there(), "it is the top of a repository"
    (project / ".git").rmdir()
    (project / ".gitignore").write_text("")
    assert is_there(), "its own file is nearer"


def test_a_directory_that_only_a_local_project_names_is_refused(start: Open, project: Path, tmp_path: Path) -> None:
    other = shutil.copytree(project, tmp_path / "other")
    (other / "local.py").rename(other / "other.py")

    def depend_on(requirement: str) -> None:
        for file in ("pyproject.toml", "backend.py"):
            text = (project / file).read_text().replace("local", "other")
            text = text.replace("nVersion: 1.0", f"nVersion: 1.0\\nRequires-Dist: {requirement}")
            (other / file).write_text(text)

    depend_on(f"local @ {project.as_uri()}")
    message = f"+ {other}: one of these depends on local @ {project.as_uri()}, a directory of this machine. "
    with pytest.raises(CheckFailed, match=re.escape(message)):
        start(requirements=(str(other),)).resolve()
    depend_on("local")
    assert "local==1.0" in start(requirements=(str(other), str(project))).resolve().lines


def test_a_local_project_is_built_again_when_it_changes(start: Open, project: Path) -> None:
    first = start(requirements=(str(project),)).install()
    (project / "local.py").write_text("version = 'second'\n")
    second = start(requirements=(str(project),)).install()
    assert imported(second, "local") == "second"
    assert imported(first, "local") == "first"


def test_a_change_that_is_not_in_the_wheel_changes_no_environment(start: Open, project: Path) -> None:
    first = start(requirements=(str(project),)).install()
    (project / "test_local.py").write_text("")
    assert start(requirements=(str(project),)).install().location == first.location


@pytest.mark.parametrize("noise", [".git/index", "build/lib/x", "local.egg-info/PKG-INFO", "a/__pycache__/x.pyc"])
def test_what_is_no_source_builds_nothing(start: Open, project: Path, noise: str) -> None:
    start(requirements=(str(project),)).resolve()
    (project / noise).parent.mkdir(parents=True)
    (project / noise).write_text("noise")
    session = start(requirements=(str(project),))
    session.resolve()
    assert session.said == []


def test_a_local_project_that_cannot_be_built_is_reported(start: Open, project: Path) -> None:
    (project / "backend.py").write_text("def build_wheel(*_, **__): raise RuntimeError('broken on purpose')\n")
    with pytest.raises(CheckFailed, match=r"(?s)could not build a wheel of .*libs/local:\n.*broken on purpose"):
        start(requirements=(str(project),)).resolve()


def test_a_project_that_is_versioned_by_git_sees_its_repository(start: Open, project: Path) -> None:
    """setuptools-scm and its like read it; a tag alone makes another wheel."""
    with (project / "pyproject.toml").open("a") as settings:
        settings.write("[tool.setuptools_scm]\n")
    backend = (project / "backend.py").read_text()
    head = "pathlib.Path('.git/HEAD').read_text()"
    (project / "backend.py").write_text(
        backend.replace('wheel.write("local.py")', f'wheel.writestr("local.py", "version = " + repr({head}))')
    )
    (project / ".git").mkdir()
    for commit in ("one", "two"):
        (project / ".git" / "HEAD").write_text(commit)
        assert imported(start(requirements=(str(project),)).install(), "local") == commit


@pytest.mark.skipif(shutil.which("git", path="/usr/bin:/bin") is None, reason="needs git")
def test_a_requirement_from_a_repository_has_its_version(start: Open, project: Path) -> None:
    make_repository(project)
    session = start(requirements=(f"local @ git+{project.as_uri()}",))
    lock = session.resolve()
    assert "local==1.0" in lock.lines
    assert imported(session.install(lock), "local") == "first"


def test_a_wheel_is_known_by_its_content(start: Open, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "extra", "1.0")
    first = start(requirements=(str(wheel),)).resolve()
    assert "extra==1.0" in first.lines
    make_wheel(tmp_path, "extra", "1.0", requires=("helper<2.1",))
    assert "helper==2.0" in start(requirements=(str(wheel),)).resolve().lines


def test_a_local_requirement_that_is_missing_is_reported(start: Open) -> None:
    with pytest.raises(CheckFailed, match=r"requirement /not/there: there is no such directory or file"):
        start(requirements=("/not/there",)).resolve()


# --- releases -----------------------------------------------------------------------------------------------


def texts(versions: Sequence[Version]) -> list[str]:
    return list(map(str, versions))


def test_the_latest_release_is_final_and_of_both_packages(start: Open) -> None:
    assert str(start().made.releases.latest()) == "2024.10.0"


def test_the_latest_release_is_as_of_its_day(start: Open) -> None:
    releases = start(as_of=dt.date(2024, 8, 20)).made.releases
    assert str(releases.latest()) == "2024.8.1"
    assert releases.note == "as of 2024-08-20"
    assert str(start(as_of=dt.date(2024, 8, 19)).made.releases.latest()) == "2024.8.0"


def test_a_range_is_every_final_release_in_it(start: Open) -> None:
    releases = start().made.releases
    assert texts(releases.within(SpecifierSet(">=2024.8"))) == ["2024.8.0", "2024.8.1", "2024.10.0"]
    assert texts(releases.within(SpecifierSet(">2024.8.0,<2024.10"))) == ["2024.8.1"]
    assert texts(releases.within(SpecifierSet("==2024.8.*"))) == ["2024.8.0", "2024.8.1"]
    assert texts(releases.within(SpecifierSet())) == ["2024.8.0", "2024.8.1", "2024.10.0"]
    assert texts(releases.within(SpecifierSet(">=2025"))) == []
    assert texts(releases.within(SpecifierSet(">=2024.11.0rc1"))) == [], "there is a pre-release only"


def test_exact_releases_exist_or_not(start: Open) -> None:
    releases = start().made.releases
    assert releases.exists(Version("2024.8.0"))
    assert releases.exists(Version("2024.10.1")), "yanked, and asked for by name"
    assert releases.exists(Version("2024.11.0rc1"))
    assert not releases.exists(Version("2024.9.0"))
    assert not releases.exists(Version("2024.12.0")), "there is no distributed of it"


def test_releases_near_one_that_is_missing(start: Open) -> None:
    assert texts(start().made.releases.near(Version("2024.8.5"))) == ["2024.8.0", "2024.8.1", "2024.10.0"]


def test_releases_are_remembered_for_when_no_index_answers(start: Open, tmp_path: Path) -> None:
    known = start().made.releases
    known.exists(Version("2024.8.0"))
    known.latest()
    known.within(SpecifierSet("<2024.10"))
    releases = start(variables=silent(tmp_path)).made.releases
    assert releases.exists(Version("2024.8.0"))
    assert str(releases.latest()) == "2024.10.0"
    assert texts(releases.within(SpecifierSet("<2024.10"))) == ["2024.8.0", "2024.8.1"]
    today = dt.datetime.now(dt.timezone.utc).date()
    assert f"the index did not answer; latest is 2024.10.0 as of {today}" in releases.note
    with pytest.raises(NoIndex, match="no index answered"):
        releases.exists(Version("2024.8.9"))


def test_nothing_remembered_and_no_index_is_reported(start: Open) -> None:
    releases = start(variables=UNREACHABLE).made.releases
    for ask in (releases.latest, lambda: releases.within(SpecifierSet(">=2024")), lambda: releases.near(Version("1"))):
        with pytest.raises(NoIndex, match=r"no index answered: Failed to fetch.*Connection refused"):
            ask()


# --- the index of this machine ------------------------------------------------------------------------------


def test_the_configured_index_is_asked(tmp_path: Path) -> None:
    session = Session(tmp_path, os.environ)
    try:
        assert session.made.releases.exists(Version("2024.10.0"))
        assert session.made.releases.latest() >= Version("2026.1")
    except NoIndex as error:
        pytest.skip(str(error))
    finally:
        session.close()
