"""A container engine and images for the tests that need one.

An engine that answers is used. Otherwise, as root on Debian and unless `MODELOPS_TEST_ENGINE=0`, the first test that
needs an engine installs missing Debian packages, starts an engine apart from any other (its data stays in
`/var/lib/modelops-test-engine`, so a second run is quick; that of a test's second engine stays beside it), and makes
the images of `fixtures/images/make.py`. With xdist that happens once, and the controller stops the engine by its pid.
Elsewhere the tests skip, and name the command that makes them run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import psutil
import pytest
from packaging.version import Version

from pytest_modelops.config.docker import ContainerSettings
from pytest_modelops.config.model import EnvironmentSpec
from pytest_modelops.deadline import Deadline
from pytest_modelops.errors import ModelopsError
from pytest_modelops.matrix.cell import PythonVersion, Role, Versions
from tests.forking import Template

ROOT = Path(__file__).parent.parent
DIRECTORY = "MODELOPS_TEST_ENGINE_DIRECTORY"
"""Variable with the directory that the processes of one test run share."""
WANTED = "MODELOPS_TEST_ENGINE"
DATA = Path("/var/lib/modelops-test-engine")
SECOND_DATA = Path("/var/lib/modelops-test-second-engine")
PACKAGES = ("docker.io", "iptables", "debootstrap", "iproute2")
IMAGE = "modelops-fixture/python"
HOW_TO = (
    "to run it, start a container engine and make its images: sudo apt-get install docker.io iptables debootstrap && "
    "sudo systemctl start docker && sudo python3 fixtures/images/make.py"
)
START_SECONDS = 60
SHARED_RUNS = {
    *(f"integration/test_{name}.py" for name in ("broken_bundles", "bundle_formats", "diagnoses")),
    *(f"integration/test_{name}.py" for name in ("formats_on_every_backend", "hostile_peers", "locks_to_deploy")),
    *(f"plugin/test_{name}.py" for name in ("markers_and_fixtures", "outcomes", "plan", "without_flag")),
    "unit/report/test_page.py",
    *(f"integration/test_{name}.py" for name in ("environments", "reuse_of_environments", "runtime", "wheelhouse")),
}
"""Many of their tests read what one run left, for each backend, or use what was made for all of them."""
ONE_RUN_IN_CONTAINERS = {f"integration/test_{name}.py" for name in ("broken_bundles", "formats_on_every_backend")}
"""Of these, what is in containers reads the same run."""
LONG = ("integration", "contract")
"""Directories in which single tests are long; elsewhere those of a file are in one process."""
MUTATIONS = int(os.environ.get("MODELOPS_TEST_EXAMPLES", "100" if "CI" in os.environ else "1000"))
"""How many mutated archives, wheels, frames and documents a test tries."""
_making_ready = pytest.StashKey[subprocess.Popen[bytes]]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the directory that this run's processes share, restore Ctrl-C, and have bytecode written.

    Processes that a shell starts in the background ignore SIGINT, and their children inherit that. Without bytecode,
    each of the hundreds of runs of pytest here would compile the plugin again.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # else every run would try to pull its image
    if not hasattr(config, "workerinput"):
        os.environ[DIRECTORY] = tempfile.mkdtemp(prefix="modelops-engine-")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run tests that share something in one process, so that it is made once and no other process waits for it.

    Besides, xdist looks at all groups that a process has had whenever a test ends.
    """
    if config.getoption("modelops_matrix"):
        return None  # which has its own
    config.option.loadscopereorder = False  # the order is that of the collection
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.removeprefix("tests/").partition("::")
            if file in SHARED_RUNS:
                backend = re.search(r"\[(process|docker)\b", test)
                if backend and backend[1] == "docker" and file in ONE_RUN_IN_CONTAINERS:
                    return "bundles in containers"
                return f"{file} {backend[1] if backend else ''}"
            return nodeid if file.startswith(LONG) else file

    return Together(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run long tests first, so that all processes end together, and those in containers when there is an engine."""
    if config.getoption("modelops_matrix"):
        return
    first = (*LONG, "plugin", "remote")

    def key(item: pytest.Item) -> list[bool]:
        shared = item.nodeid.partition("::")[0].removeprefix("tests/") in SHARED_RUNS
        later = shared and "[docker" in item.name
        return [*(item.path.parent.name != directory for directory in first), not shared, later]

    items.sort(key=key)


def pytest_collection_finish(session: pytest.Session) -> None:
    """With xdist, make the engine ready beside tests that need none."""
    worker = getattr(session.config, "workerinput", {}).get("workerid")
    if worker == "gw0" and any("engine" in getattr(item, "fixturenames", ()) for item in session.items):
        command = [sys.executable, "-c", "from tests.conftest import _ready; _ready()"]
        session.config.stash[_making_ready] = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    if making := config.stash.get(_making_ready, None):
        making.wait()
    if hasattr(config, "workerinput") or DIRECTORY not in os.environ:
        return
    directory = Path(os.environ.pop(DIRECTORY))
    for file in directory.glob("*.engine.json"):
        Started(**json.loads(file.read_text())).stop()
    shutil.rmtree(directory, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Started:
    """An engine that was started here.

    Attributes:
        directory: holds its state, and its data unless that is kept elsewhere.
    """

    name: str
    address: str
    data: str
    pid: int
    created: float
    directory: str

    @property
    def process(self) -> psutil.Process | None:
        """Its process, if that still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def stop(self) -> None:
        """End it by its pid, and remove its directory.

        An engine that was killed has left containers, mounts and bridges. Only an engine can remove them, so it is
        started once more. For containers that still run it would wait 10 s.
        """
        if self.process is None and Path(self.directory).exists():
            self._kill_containers()
            start_engine(self.name, Path(self.data), address=self.address, directory=Path(self.directory)).stop()
            return
        if process := self.process:
            _clear(self.address)
            process.terminate()
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        its = (f"{self.directory}/", f"{self.data}/")
        for mount in sorted((mount for mount in mounts if f"{mount}/".startswith(its)), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", _bridge_of(Path(self.directory))], check=False, capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _kill_containers(self) -> None:
        for shim in psutil.process_iter(["cmdline"]):
            command = shim.info["cmdline"] or [""]
            if "containerd-shim" in command[0] and any(word.startswith(f"{self.directory}/") for word in command):
                with contextlib.suppress(psutil.NoSuchProcess):
                    for process in shim.children(recursive=True):
                        process.kill()


def _bridge_of(directory: Path) -> str:
    return "mo" + hashlib.sha256(str(directory).encode()).hexdigest()[:8]


def _clear(address: str) -> None:
    """Remove what tests have left on an engine."""
    from pytest_modelops.backends.docker import belongings
    from pytest_modelops.backends.docker.engine import connect

    engine = connect({"DOCKER_HOST": address})
    belongings.sweep(engine, kept_too=True)
    engine.api.close()


def start_engine(
    name: str, data: Path | None = None, *, address: str | None = None, directory: Path | None = None
) -> Started:
    """Start an engine apart from any other: with its own data, state, address and default bridge.

    Without a bridge of its own it would remove `docker0`, which belongs to another engine.
    """
    directory = directory or Path(tempfile.mkdtemp(prefix=f"modelops-{name}-"))
    address = address or f"unix://{directory}/engine.sock"
    data = data or directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (directory / "pid").unlink(missing_ok=True)  # of one that was killed
    # Its containerd was killed with it. Until that is reaped, a new engine would wait for it.
    (directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)
    bridge = _bridge_of(directory)
    if not Path("/sys/class/net", bridge).exists():
        # In a range for measuring networks (RFC 2544); an index may be in a range for documentation.
        network = f"198.18.{secrets.randbelow(256)}.{4 * secrets.randbelow(64) + 1}/30"
        for command in (f"add {bridge} type bridge", f"set {bridge} up"):
            subprocess.run(["ip", "link", *command.split()], check=True, capture_output=True)
        subprocess.run(["ip", "addr", "add", network, "dev", bridge], check=True, capture_output=True)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [
                *("dockerd", "--host", address, "--data-root", str(data), "--exec-root", str(directory / "exec")),
                *("--pidfile", str(directory / "pid"), "--bridge", bridge, "--log-level", "warn"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    started = Started(name, address, str(data), process.pid, created, str(directory))
    record = Path(os.environ[DIRECTORY], f"{directory.name}.engine.json")
    record.write_text(json.dumps(dataclasses.asdict(started)))
    end = time.monotonic() + START_SECONDS
    while not answers(address):
        if process.poll() is not None or time.monotonic() > end:
            output = (directory / "log").read_text(errors="replace")[-1500:]
            process.kill()
            record.unlink()
            shutil.rmtree(directory, ignore_errors=True)
            raise RuntimeError(f"the engine did not start: {output}")
        time.sleep(0.1)
    process.returncode = 0  # another process may have to stop it, by its pid
    return started


def answers(address: str | None) -> bool:
    """Whether an engine answers there; for `None`, where the product looks."""
    from pytest_modelops.backends.docker.engine import connect

    environ = {**os.environ, **({"DOCKER_HOST": address} if address else {})}
    try:
        connect(environ).api.close()
    except ModelopsError:
        return False
    return True


def may_install() -> bool:
    """Whether this run may install packages and start an engine."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists() and os.environ.get(WANTED) != "0"


def install() -> None:
    """Install Debian's packages that are missing."""
    programs = {"docker.io": "dockerd", "iptables": "iptables", "debootstrap": "debootstrap", "iproute2": "ip"}
    missing = [package for package in PACKAGES if shutil.which(programs[package]) is None]
    if not missing:
        return
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (["apt-get", "-qq", "update"], ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *missing])
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environ, timeout=600)


def _address_of_engine() -> tuple[str | None, str]:
    """Return the address of an engine (`None`: where the product looks by itself), or why there is none."""
    if answers(None):
        return None, ""
    if not may_install():
        return None, "no container engine answers"
    try:
        install()
        return start_engine("engine", DATA).address, ""
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        output = getattr(error, "stderr", b"") or b""
        return None, f"no container engine answers, and none could be started: {error} {output.decode()[-300:]}"


def make_images(address: str | None) -> str:
    """Make the images; return why that failed, or nothing."""
    environ = {**os.environ, **({"DOCKER_HOST": address} if address else {})}
    done = subprocess.run(
        [sys.executable, str(ROOT / "fixtures/images/make.py")],
        env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    return "" if done.returncode == 0 else (done.stdout + done.stderr)[-800:]


def _ready() -> dict[str, Any]:
    """Find or make the engine and its images, once for a run; return `address` and `why_not`."""
    shared = Path(os.environ[DIRECTORY])
    known = shared / "ready.json"
    with filelock.FileLock(shared / "lock", timeout=1200):
        if known.exists():
            return dict(json.loads(known.read_text()))
        address, why_not = _address_of_engine()
        if not why_not and os.geteuid() == 0 and shutil.which("debootstrap"):
            why_not = make_images(address)
        known.write_text(json.dumps({"address": address, "why_not": why_not}))
        return dict(json.loads(known.read_text()))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The process from which runs of pytest are forked."""
    made = Template(tmp_path_factory.mktemp("template"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """An engine that answers, with images; `DOCKER_HOST` names it if necessary."""
    from pytest_modelops.backends.docker.engine import connect

    ready = _ready()
    if ready["why_not"]:
        pytest.skip(f"{ready['why_not']}; {HOW_TO}")
    if ready["address"]:
        os.environ["DOCKER_HOST"] = ready["address"]
    connected = connect()
    yield connected
    connected.api.close()


def bare_backend(engine: Any, directory: Path, **settings: Any) -> tuple[Any, Any]:
    """A `ContainerBackend` with a connection of its own, and an environment of it: Python 3.12 and no packages.

    Args:
        settings: of `ContainerSettings`.
    """
    from pytest_modelops.backends.docker.backend import ContainerBackend
    from pytest_modelops.backends.docker.confinement import user_of
    from pytest_modelops.backends.docker.containers import ContainerEnvironment
    from pytest_modelops.backends.docker.engine import connect

    image = image_for(engine, "3.12")
    backend = ContainerBackend(
        engine=connect(),
        settings=ContainerSettings(prebuilt=dict.fromkeys(Role, image), **settings),
        spec=EnvironmentSpec(rootdir=directory),
        cache=Path(os.environ[DIRECTORY], "cache"),  # so that an image is looked into once
        fresh=False,
        directory=directory / "run" / uuid.uuid4().hex,  # a name that no other run on the engine has
    )
    lock = backend.resolve(
        Versions(PythonVersion.parse("3.12"), Version("1")), deadline=Deadline(60), progress=lambda _: None
    )
    base = backend._bases[lock.interpreter]
    environment = ContainerEnvironment(
        python=base.contents.facts["executable"],
        lock=lock,
        reused=True,
        seconds=0,
        location=image,
        image=base.image.id,
        path=base.image.path,
        user=user_of(backend._settings, ""),
        uid=base.contents.facts["uid"],
        gid=base.contents.facts["gid"],
    )
    backend._environments[base.image.id] = environment
    return backend, environment


def image_for(engine: Any, version: str) -> str:
    """Return the tests' image with this Python; skip if there is none."""
    name = f"{IMAGE}:{version}"
    if not engine.api.images(name):
        pytest.skip(f"the engine has no image {name}; {HOW_TO}")
    return name
