"""Wheelhouses by real uv, pip and interpreters, from an index of our own on loopback with made-up packages.

The last test asks the configured index.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from packaging.tags import platform_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Wheelhouse
from pytest_modelops.environments.local import installed_here
from pytest_modelops.environments.target import Target
from pytest_modelops.errors import CheckFailed, TimedOut
from pytest_modelops.matrix.cell import PythonVersion, Versions
from tests.integration import conftest
from tests.integration.index import (
    HERE,
    UNREACHABLE,
    Index,
    Open,
    Session,
    Upload,
    contents,
    make_repository,
    sessions,
    variables,
)

# --- an index -----------------------------------------------------------------------------------------------

BACKEND = """
import os, pathlib, re, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    settings = pathlib.Path("pyproject.toml").read_text()
    value = lambda key: re.search(key + r" = ['\\"](.*)['\\"]", settings)
    name, version, python = (value(key)[1] for key in ("name", "version", "requires-python"))
    pathlib.Path("left-by-the-build.txt").write_text("x")
    if value("broken"):
        raise RuntimeError(value("broken")[1])
    if value("seconds"):
        time.sleep(float(value("seconds")[1]))
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\\n" for line in re.findall(r"needs = '(.*)'", settings))
    with zipfile.ZipFile(os.path.join(directory, f"{name}-{version}-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
                       f"Requires-Python: {python}\\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\\n{info}/METADATA,,\\n{info}/WHEEL,,\\n{info}/RECORD,,\\n")
    return f"{name}-{version}-py3-none-any.whl"
"""


def write_project(directory: Path, name: str, *, python: str = ">=3.9", needs: str = "", extra: str = "") -> Path:
    """A project that builds itself without anything from an index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "backend.py").write_text(BACKEND)
    (directory / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\nrequires-python = "{python}"\ndynamic = ["dependencies"]\n'
        f"[tool.test]\n{extra}\n" + (f"needs = '{needs}'\n" if needs else "")
    )
    return directory


def write_sdist(directory: Path, scratch: Path, name: str, **how: str) -> Path:
    """Sources of version 1.0 that a build adds nothing to, so uv need not build them to resolve."""
    project = write_project(scratch / name, name, **how)
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\nRequires-Python: >=3.9\n"
    path = directory / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project, f"{name}-1.0")
        info = tarfile.TarInfo(f"{name}-1.0/PKG-INFO")
        info.size = len(metadata)
        archive.addfile(info, io.BytesIO(metadata.encode()))
    return path


PLATFORM = next(iter(platform_tags()))
NATIVE = [f"native-1.0-{python}-{python}-{PLATFORM}.whl" for python in ("cp310", "cp311", "cp312", "cp313")]


def write_wheel(path: Path, *, requires: list[str] | None = None) -> Path:
    return conftest.write_wheel(path, {f"{path.name.split('-')[0]}.py": ""}, requires=requires or [])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    files = tmp_path_factory.mktemp("index")
    for name in (*NATIVE, "native-1.0-cp312-cp312-win_amd64.whl", "elsewhere-1.0-cp312-cp312-win_amd64.whl"):
        write_wheel(files / name)
    write_wheel(files / "pure-1.0-py3-none-any.whl", requires=["native"])
    write_wheel(files / "both-1.0-py3-none-any.whl")
    for name in ("sources", "elsewhere", "both"):
        write_sdist(files, tmp_path_factory.mktemp("sdist"), name)
    write_sdist(files, tmp_path_factory.mktemp("sdist"), "broken", extra="broken = 'no compiler for you'")
    write_sdist(files, tmp_path_factory.mktemp("sdist"), "slow", extra="seconds = '60'")
    made = Index([Upload(file) for file in sorted(files.iterdir())])
    yield made
    made.close()


@pytest.fixture
def index(served: Index) -> str:
    return served.address


@pytest.fixture(scope="module")
def environ(served: Index, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**variables(served, tmp_path_factory), "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    with sessions(tmp_path, environ) as start_one:
        yield start_one


def names(wheelhouse: Wheelhouse) -> list[str]:
    return sorted(path.name for path in wheelhouse.directory.iterdir())


def generations(root: Path) -> list[str]:
    return [path.name for path in (root / "cache" / "wheelhouses").glob("*/*") if path.is_dir()]


# --- hashes and constraints ---------------------------------------------------------------------------------


def hashed(served: Index, *files: str) -> list[str]:
    """Lines that allow these files of the index, and no other."""
    lines = []
    for file in files:
        digest = hashlib.sha256(served._uploads[file].file.read_bytes()).hexdigest()
        lines.append(f"{file.partition('-')[0]}==1.0 --hash=sha256:{digest}")
    return [*lines, "--require-hashes"]


def test_files_with_the_hashes_that_are_given_are_taken_and_no_others(start: Open, served: Index) -> None:
    native = next(name for name in NATIVE if sys.implementation.cache_tag.replace("ython-", "") in name)
    lines = hashed(served, native, "pure-1.0-py3-none-any.whl", "sources-1.0.tar.gz", "both-1.0.tar.gz")
    session = start()
    assert set(session.make(*lines).packages) == {"native", "pure", "sources", "both"}
    # A hash of the sources alone means that, as to pip, although there is a wheel.
    assert session.said[-2:] == ["building a wheel of both==1.0", "building a wheel of sources==1.0"]
    assert names(session.make(*hashed(served, "both-1.0-py3-none-any.whl"))) == ["both-1.0-py3-none-any.whl"]
    assert not any("building" in line for line in session.said)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("both==1.0", "both-1.0-py3-none-any.whl"),
        ("sources==1.0", "sources-1.0.tar.gz"),  # it would have to be built
        ("both @ {index}/files/both-1.0-py3-none-any.whl", "both-1.0-py3-none-any.whl"),
    ],
)
def test_a_file_with_another_hash_is_refused_with_both(
    start: Open, served: Index, tmp_path: Path, line: str, file: str
) -> None:
    got = hashlib.sha256(served._uploads[file].file.read_bytes()).hexdigest()
    wrong, other = "0" * 64, "1" * 64
    start().make(line.format(index=served.address))  # what was made without hashes is not taken for it
    with pytest.raises(CheckFailed) as raised:
        start().make(
            f"{line.format(index=served.address)} --hash=sha256:{wrong} --hash=sha256:{other}", "--require-hashes"
        )
    first, *_ = str(raised.value).splitlines()
    assert first.endswith(f"expected sha256:{wrong} or sha256:{other}, got sha256:{got}")
    assert file in first
    assert generations(tmp_path) == ["1"]


def test_everything_that_is_needed_has_to_have_a_hash(start: Open, served: Index, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"hashes are required.* and none is given for native==1\.0"):
        start().make(*hashed(served, "pure-1.0-py3-none-any.whl"))
    # The bundle's own project needs none, and what it needs does.
    project = str(write_project(tmp_path / "models", "models", needs="both"))
    with pytest.raises(CheckFailed, match=r"none is given for both==1\.0"):
        start().make(project, *hashed(served, "sources-1.0.tar.gz"))
    assert "models" in start().make(project, *hashed(served, "both-1.0.tar.gz")).packages


def test_constraints_of_a_bundle_count(start: Open) -> None:
    made = start().make("pure", "--constraint=native==1.0", "--constraint=sources<1")
    assert set(made.packages) == {"pure", "native"}
    with pytest.raises(CheckFailed, match=r"no solution for .* \+ pure \+ constraint native<1"):
        start().make("pure", "--constraint=native<1")


# --- what is in it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_a_project_and_all_that_it_needs_are_wheels_for_the_python_of_the_lock(
    start: Open, tmp_path: Path, python: str
) -> None:
    project = write_project(tmp_path / "models", "models", needs="pure")
    before = contents(project)
    made = start().make(str(project), python=python)
    tag = f"cp{python.replace('.', '')}"
    assert names(made) == [
        "models-1.0-py3-none-any.whl",
        f"native-1.0-{tag}-{tag}-{PLATFORM}.whl",
        "pure-1.0-py3-none-any.whl",
    ]
    assert made.requirements == ("models==1.0", "native==1.0", "pure==1.0")
    assert contents(project) == before


def test_what_it_holds_installs_without_an_index(start: Open, tmp_path: Path) -> None:
    made = start().make(str(write_project(tmp_path / "models", "models", needs="pure")), "sources")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--isolated", "install", "--quiet", "--no-index"),
            *("--find-links", str(made.directory), "--target", str(tmp_path / "site"), *made.requirements),
        ],
        env={"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=True,
    )
    there = {path.name for path in (tmp_path / "site").iterdir()}
    assert {"models.py", "pure.py", "native.py", "sources.py"} <= there


def test_what_has_only_sources_is_built(start: Open) -> None:
    """Also what has wheels, but for others only."""
    session = start()
    made = session.make("sources", "elsewhere", "pure")
    assert set(made.packages) == {"sources", "elsewhere", "pure", "native"}
    assert "elsewhere-1.0-py3-none-any.whl" in names(made)
    assert session.said[-2:] == ["building a wheel of elsewhere==1.0", "building a wheel of sources==1.0"]


def test_files_and_addresses_are_requirements_too(start: Open, tmp_path: Path, index: str) -> None:
    session = start()
    wheel = write_wheel(tmp_path / "own-1.0-py3-none-any.whl")
    sdist = write_sdist(tmp_path, tmp_path / "scratch", "mine")
    made = session.make(str(wheel), str(sdist), f"pure @ {index}/files/pure-1.0-py3-none-any.whl")
    assert set(made.packages) == {"own", "mine", "pure", "native"}
    assert session.make().packages == {}


@pytest.mark.skipif(shutil.which("git", path="/usr/bin:/bin") is None, reason="needs git")
def test_a_repository_is_a_requirement_too(start: Open, tmp_path: Path) -> None:
    project = write_project(tmp_path / "models", "models", needs="pure")
    make_repository(project)
    made = start().make(f"models @ git+{project.as_uri()}")
    assert set(made.packages) == {"models", "pure", "native"}


def test_an_as_is_cell_has_wheelhouses_too(start: Open) -> None:
    here = installed_here(Versions(PythonVersion.parse(HERE), None, as_is=True))
    made = start().make("native", lock=here)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert names(made) == [f"native-1.0-{tag}-{tag}-{PLATFORM}.whl"]


def test_the_constraints_of_environments_do_not_count(start: Open, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("pure<1\n")
    assert "pure" in start(constraints=tmp_path / "constraints.txt").make("pure").packages


def test_a_target_need_not_be_of_this_machine(start: Open) -> None:
    session = start()
    elsewhere = ("--python-version", "3.12.0", "--python-platform", "x86_64-pc-windows-msvc")
    target = Target(
        python=Version("3.12.0"),
        abi="cp312",
        platforms=("win_amd64",),
        build="",
        uv_options=elsewhere,
        interpreter=None,
    )
    here = session.made._tools.interpreters.ask(Path(sys.executable), Deadline(30))
    assert here is not None

    def make(*requirements: str) -> Wheelhouse:
        solution = session.made._tools.resolver.solve(
            requirements, here, name="there", elsewhere=elsewhere, deadline=Deadline(30), progress=print
        )
        return session.made._tools.wheelhouses.make(solution, target, deadline=Deadline(30), progress=print)

    assert names(make("pure", "elsewhere")) == [
        "elsewhere-1.0-cp312-cp312-win_amd64.whl",
        "native-1.0-cp312-cp312-win_amd64.whl",
        "pure-1.0-py3-none-any.whl",
    ]
    with pytest.raises(CheckFailed, match=r"^there is no wheel of sources==1.0 for Python 3.12.0 on win_amd64"):
        make("sources")


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_a_python_that_does_not_fit_is_reported_with_both_versions(start: Open, tmp_path: Path) -> None:
    project = write_project(tmp_path / "models", "models", python=">=3.99")
    session = start()
    lock = session.lock(HERE)
    with pytest.raises(CheckFailed) as caught:
        session.make(str(project), lock=lock)
    first, second = str(caught.value).splitlines()[:2]
    assert first == f"no solution for Python {lock.python} + {project}:"
    assert re.search(rf"the current Python version \({HERE}[.\d]*\) does not satisfy Python>=3.99", second)


def test_a_dependency_that_does_not_exist_is_named(start: Open, tmp_path: Path) -> None:
    project = write_project(tmp_path / "models", "models", needs="nowhere-to-be-found")
    with pytest.raises(CheckFailed, match=r"(?s)^no solution for Python .* nowhere-to-be-found was not found"):
        start().make(str(project))


def test_a_build_that_fails_is_reported_in_the_builders_words_and_leaves_nothing(start: Open, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed) as caught:
        start().make("pure", "broken")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("could not build a wheel of broken==1.0, of which there are only sources")
    assert "RuntimeError: no compiler for you" in lines
    assert len(lines) < 40
    assert generations(tmp_path) == []


def test_a_build_that_is_too_slow_is_ended_and_leaves_nothing(
    start: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))  # by which its processes are known
    session = start()
    lock = session.lock(HERE)
    session.make("pure", lock=lock)
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"^pip wheel: "):
        session.make("slow", lock=lock, seconds=8)
    assert time.monotonic() - started < 30
    assert len(generations(tmp_path)) == 1
    left = [
        process for process in psutil.process_iter(["cmdline", "environ"]) if f"{tmp_path}/tmp" in str(process.info)
    ]
    assert (left, list((tmp_path / "tmp").iterdir())) == ([], [])
    assert session.make("pure", lock=lock).reused


def test_without_an_index_what_was_made_serves_and_nothing_else(
    start: Open, tmp_path: Path, environ: dict[str, str]
) -> None:
    first = start().make("pure")
    silent = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    again = start(variables=silent).make("pure")
    assert (again.reused, again.directory) == (True, first.directory)
    with pytest.raises(CheckFailed, match="no index answered"):
        start(variables=UNREACHABLE).make("sources")
    shutil.rmtree(tmp_path / "cache" / "wheelhouses")  # the solution is still known
    with pytest.raises(CheckFailed, match=r"^no index answered, and the wheels for Python .* not in the cache"):
        start(variables=silent).make("pure")


# --- what it is made with -----------------------------------------------------------------------------------


def test_what_a_user_has_set_for_pip_for_other_work_changes_nothing(start: Open, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("pure<1\n")
    settings = {
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_USER": "1",
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_CONSTRAINT": str(tmp_path / "constraints.txt"),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BINARY": ":all:",
        "PIP_INDEX_URL": UNREACHABLE["UV_DEFAULT_INDEX"],
        "PIP_DISABLE_PIP_VERSION_CHECK": "0",
        "PIP_NO_SUCH_OPTION": "x",
    }
    assert len(names(start(variables=settings).make("pure", "sources"))) == 3


def test_the_index_of_pips_configuration_is_asked(start: Open, tmp_path: Path, index: str) -> None:
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = {index}/private/simple\n".replace("http://", "http://me:s3cret@")
        + "find-links = links here\n"
    )
    settings = {
        "UV_DEFAULT_INDEX": "",
        "XDG_CONFIG_DIRS": str(tmp_path),
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv"),
    }
    session = start(variables=settings)
    assert session.made._tools.index == "pip's configuration"
    assert set(session.make("pure").packages) == {"pure", "native"}


@pytest.mark.parametrize("where", ["address", "variables", "table"])
def test_an_index_with_a_password_is_asked_and_the_password_is_never_shown(
    start: Open, tmp_path: Path, index: str, where: str
) -> None:
    address = f"{index}/private/simple"
    login = {"UV_INDEX_OUR_OWN_USERNAME": "me", "UV_INDEX_OUR_OWN_PASSWORD": "s3cret"}
    variables = {
        "address": {"UV_DEFAULT_INDEX": address.replace("//", "//me:s3cret@")},
        "variables": {"UV_DEFAULT_INDEX": f"our-own={address}", **login},
        "table": {"UV_DEFAULT_INDEX": "", **login},
    }[where]
    session = start(variables=variables)
    if where == "table":
        (tmp_path / "project" / "uv.toml").write_text(
            f'[[index]]\nname = "our-own"\nurl = "{address}"\ndefault = true\n'
        )
        session = start(variables=variables)
    assert set(session.make("pure", "sources").packages) == {"pure", "native", "sources"}
    with pytest.raises(CheckFailed) as caught:
        session.make("broken")
    assert "s3cret" not in str(caught.value)
    cached = contents(tmp_path / "cache")
    assert not [name for name, content in cached.items() if b"s3cret" in content]


# --- the cache ----------------------------------------------------------------------------------------------


def test_it_is_made_once_and_then_found(start: Open) -> None:
    first = start().make("pure")
    session = start()
    again = session.make("pure")
    assert (first.reused, again.reused) == (False, True)
    assert (again.directory, again.packages, session.said) == (first.directory, first.packages, [])


def test_another_wheel_of_the_same_name_makes_another_one(start: Open, tmp_path: Path) -> None:
    project = write_project(tmp_path / "models", "models")
    first = start().make(str(project))
    write_project(project, "models", needs="pure")
    assert start().make(str(project)).directory != first.directory


def _changed(directory: Path) -> None:
    [wheel] = directory.glob("pure-*")
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)


def _gone(directory: Path) -> None:
    next(directory.glob("pure-*")).unlink()


def _more(directory: Path) -> None:
    (directory / "pure-2.0-py3-none-any.whl").write_bytes(b"x")


def _marker(directory: Path) -> None:
    (directory.parent / "complete.json").write_text("{")


@pytest.mark.parametrize("damage", [_changed, _gone, _more, _marker])
def test_one_that_was_damaged_is_made_again(start: Open, damage: Callable[[Path], None]) -> None:
    first = start()
    old = first.make("pure")
    before = contents(old.directory)
    first.close()
    damage(old.directory)
    session = start()
    new = session.make("pure")
    assert not new.reused
    assert "of the one in the cache" in session.said[-1]
    assert contents(new.directory) == before
    assert not old.directory.exists()


def test_fresh_makes_one_a_session_and_spares_the_one_in_use(start: Open) -> None:
    running = start(session="running")
    old = running.make("pure")
    new = start(fresh=True, session="fresh").make("pure")
    assert new.directory != old.directory
    assert len(names(old)) == 2, "it was taken from a running cell"
    assert start(fresh=True, session="fresh").make("pure").directory == new.directory
    running.close()
    assert start(session="later").make("pure").directory == new.directory
    assert not old.directory.exists()


# --- the configured index -----------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_wheels_of_the_configured_index(tmp_path: Path, python: str) -> None:
    session = Session(tmp_path, os.environ)
    try:
        made = session.make("msgpack", python=python)
    except CheckFailed as error:
        if "no index answered" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        session.close()
    [[name, _, _, tags]] = [parse_wheel_filename(file) for file in names(made)]
    assert name == "msgpack"
    assert {tag.interpreter for tag in tags} == {f"cp{python.replace('.', '')}"}
