"""Wheelhouses by real uv, pip and interpreters, from an index of our own on loopback with made-up packages.

Longer than other files, since all lives on that index; the last test asks the configured one.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from packaging.tags import platform_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Lock, Wheelhouse
from pytest_modelops.environments.commands import Commands
from pytest_modelops.environments.local import Environments, installed_here
from pytest_modelops.environments.target import Target
from pytest_modelops.errors import CheckFailed, TimedOut, Unavailable
from pytest_modelops.matrix.cell import PythonVersion, Versions
from pytest_modelops.storage import generations as generations_module

# --- an index -----------------------------------------------------------------------------------------------

BACKEND = """
import os, pathlib, re, time, zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    settings = pathlib.Path("pyproject.toml").read_text()
    reported = lambda key: re.search(key + r" = ['\\"](.*)['\\"]", settings)
    name, version, python = (reported(key)[1] for key in ("name", "version", "requires-python"))
    pathlib.Path("left-by-the-build.txt").write_text("x")
    if reported("broken"):
        raise RuntimeError(reported("broken")[1])
    if reported("seconds"):
        time.sleep(float(reported("seconds")[1]))
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
    """Sources of version 1.0 that a build tells nothing new about, so uv need not build them to resolve."""
    project = write_project(scratch / name, name, **how)
    reported = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\nRequires-Python: >=3.9\n"
    path = directory / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(project, f"{name}-1.0")
        info = tarfile.TarInfo(f"{name}-1.0/PKG-INFO")
        info.size = len(reported)
        archive.addfile(info, io.BytesIO(reported.encode()))
    return path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a directory of files as an index; below `/private/` to those who know the password."""

    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        known = "Basic " + base64.b64encode(b"me:s3cret").decode()
        if self.path.startswith("/private") and self.headers["Authorization"] != known:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        self.path = self.path.removeprefix("/private")
        if not self.path.startswith("/simple/"):
            super().do_GET()
            return
        name = self.path.split("/")[2]
        files = sorted(path for path in Path(self.directory).iterdir() if path.name.startswith(f"{name}-"))
        links = ((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)
        page = "".join(f'<a href="../../{file}#sha256={digest}">{file}</a>\n' for file, digest in links).encode()
        self.send_response(200 if files else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass


WriteWheel = Callable[..., Path]
PLATFORM = next(iter(platform_tags()))
NATIVE = [f"native-1.0-{python}-{python}-{PLATFORM}.whl" for python in ("cp310", "cp311", "cp312", "cp313")]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    files = tmp_path_factory.mktemp("index")
    for name in (*NATIVE, "native-1.0-cp312-cp312-win_amd64.whl"):
        write_wheel(files / name)
    write_wheel(files / "pure-1.0-py3-none-any.whl", requires=["native"])
    write_wheel(files / "elsewhere-1.0-cp312-cp312-win_amd64.whl")
    for name in ("sources", "elsewhere"):
        write_sdist(files, tmp_path_factory.mktemp("sdist"), name)
    write_sdist(files, tmp_path_factory.mktemp("sdist"), "broken", extra="broken = 'no compiler for you'")
    write_sdist(files, tmp_path_factory.mktemp("sdist"), "slow", extra="seconds = '60'")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def write_wheel(path: Path, *, requires: list[str] | None = None) -> Path:
    project = write_project(path.parent / "wheel-project", path.name.split("-")[0], needs=(requires or [""])[0])
    code = f"import backend; print(backend.build_wheel({str(path.parent)!r}))"
    env = {"PYTHONPATH": str(project)}
    run = subprocess.run([sys.executable, "-c", code], cwd=project, env=env, capture_output=True, text=True, check=True)
    (path.parent / run.stdout.strip()).replace(path)
    shutil.rmtree(project)
    return path


# --- what the tests use -------------------------------------------------------------------------------------


class Session:
    """A pytest session, as far as wheelhouses notice."""

    def __init__(self, root: Path, environ: Mapping[str, str], **changes: Any) -> None:
        options = {"cache": root / "cache", "fresh": False, "session": "one", **changes}
        spec = {key: options.pop(key) for key in ("constraints", "as_of") if key in options}
        environ = {**environ, **options.pop("variables", {})}
        (root / "project").mkdir(exist_ok=True)
        self.said: list[str] = []
        self.commands = Commands(root / f"commands-{os.getpid()}-{id(self)}")
        self.made = Environments(
            EnvironmentSpec(rootdir=root / "project", **spec), run=self.commands, environ=environ, **options
        )

    def lock(self, python: str) -> Lock:
        """As far as wheelhouses are concerned."""
        wanted = PythonVersion.parse(python)
        try:
            found = self.made._tools.interpreters.find(wanted, deadline=Deadline(30), progress=self.said.append)
        except Unavailable as error:
            pytest.skip(str(error).partition("\n")[0])
        return Lock(
            versions=Versions(wanted, Version("2024.10.0")),
            python=found.version,
            interpreter=str(found.path),
            requirements="",
            packages={},
            resolved=dt.datetime.now(dt.timezone.utc),
        )

    def make(self, *requirements: str, python: str = "", lock: Lock | None = None, seconds: float = 60) -> Wheelhouse:
        lock = lock or self.lock(python or HERE)
        self.said.clear()
        return self.made.wheelhouse(requirements, lock, deadline=Deadline(seconds), progress=self.said.append)

    def close(self) -> None:
        self.made.close()
        self.commands.close()


HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
Open = Callable[..., Session]


@pytest.fixture(scope="module")
def environ(index: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The host's variables with our index, and caches of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    return {
        **kept,
        "PATH": "/usr/bin:/bin",
        "UV_DEFAULT_INDEX": f"{index}/simple",
        "UV_CACHE_DIR": str(tmp_path_factory.mktemp("uv-cache")),
        "PIP_CACHE_DIR": str(tmp_path_factory.mktemp("pip-cache")),
        "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_DOWNLOADS": "never",
    }


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    """Start sessions that share a cache."""
    sessions = []

    def _start(**changes: Any) -> Session:
        sessions.append(Session(tmp_path, environ, **changes))
        return sessions[-1]

    yield _start
    for session in sessions:
        session.close()


def names(wheelhouse: Wheelhouse) -> list[str]:
    return sorted(path.name for path in wheelhouse.directory.iterdir())


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def generations(root: Path) -> list[str]:
    return [path.name for path in (root / "cache" / "wheelhouses").glob("*/*") if path.is_dir()]


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
    made = session.make(str(wheel), str(sdist), f"pure @ {index}/pure-1.0-py3-none-any.whl")
    assert set(made.packages) == {"own", "mine", "pure", "native"}
    assert session.make().packages == {}


@pytest.mark.skipif(shutil.which("git", path="/usr/bin:/bin") is None, reason="needs git")
def test_a_repository_is_a_requirement_too(start: Open, tmp_path: Path) -> None:
    project = write_project(tmp_path / "models", "models", needs="pure")
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        author = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", *author, *command], cwd=project, check=True)
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
    reported = ["cmdline", "environ"]
    left = [process for process in psutil.process_iter(reported) if f"{tmp_path}/tmp" in str(process.info)]
    assert (left, list((tmp_path / "tmp").iterdir())) == ([], [])
    assert session.make("pure", lock=lock).reused


UNREACHABLE = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}


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


def test_what_a_user_has_reported_pip_for_other_work_changes_nothing(start: Open, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("pure<1\n")
    reported = {
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
    assert len(names(start(variables=reported).make("pure", "sources"))) == 3


def test_the_index_of_pips_configuration_is_asked(start: Open, tmp_path: Path, index: str) -> None:
    (tmp_path / "pip.conf").write_text(
        f"[global]\nindex-url = {index}/private/simple\n".replace("http://", "http://me:s3cret@")
        + "find-links = links here\n"
    )
    reported = {
        "UV_DEFAULT_INDEX": "",
        "XDG_CONFIG_DIRS": str(tmp_path),
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PYENV_ROOT": os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv"),
    }
    session = start(variables=reported)
    assert session.made._tools.index == "pip's configuration"
    assert set(session.make("pure").packages) == {"pure", "native"}


@pytest.mark.parametrize("where", ["address", "variables", "table"])
def test_an_index_with_a_password_is_asked_and_the_password_is_reported_nobody(
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
    reported = contents(tmp_path / "cache")
    assert not [name for name, content in reported.items() if b"s3cret" in content]


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


def test_what_was_not_used_for_long_is_removed(start: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start()
    unused = first.make("pure")
    first.close()
    user = start()
    used = user.make("native")
    monkeypatch.setattr(generations_module, "UNUSED_SECONDS", -1.0)
    start().make("sources")
    assert (unused.directory.exists(), used.directory.exists()) == (False, True)


IN_ANOTHER_PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_wheelhouse as tests
session = tests.Session(Path({root!r}), json.loads({environ!r}))
print(session.make("pure", "sources").reused)
session.close()
"""


def test_two_processes_at_once_make_one(environ: dict[str, str], tmp_path: Path) -> None:
    code = IN_ANOTHER_PROCESS.format(tests=str(Path(__file__).parent), root=str(tmp_path), environ=json.dumps(environ))
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(answers) == ["False", "True", "True"]
    assert len(generations(tmp_path)) == 1


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
