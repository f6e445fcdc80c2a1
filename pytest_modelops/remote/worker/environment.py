"""Makes a bundle's environment on a worker and inspects it. Python 3.9 and up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from ..shared import causes
from ..shared.bundle_messages import BundleLocation, Inspection, Installer, InstallFailure
from ..shared.supervised import CouldNot, Supervised, SupervisorGone
from . import own_pip
from .location import RUNNER, bundle_of, python_of, site_of, venv_of


class Failed(Exception):
    """A step did not work: what failed, and the output of it."""

    def __init__(self, what: str, output: str = "", *, timed_out: bool = False) -> None:
        super().__init__(what)
        self.output = output
        self.timed_out = timed_out

    def to_plain(self) -> InstallFailure:
        return {
            "failed": str(self),
            "timed_out": self.timed_out,
            "cause": causes.first_cause(self.output),
            "last": causes.last_lines(self.output),
        }


class Commands:
    """Runs commands one after the other, all within a number of seconds, and ends every process that they leave."""

    def __init__(self, directory: str, seconds: float) -> None:
        os.makedirs(directory, exist_ok=True)
        self._directory = directory
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._supervised = Supervised(log=os.path.join(directory, "supervisor.log"))

    def __enter__(self) -> Commands:  # noqa: PYI034 - Self is newer than some workers
        return self

    def __exit__(self, *_: object) -> None:
        self._supervised.close()

    def __call__(self, what: str, argv: Sequence[str], *, cwd: str | None = None, check: bool = True) -> str:
        """Run a command.

        Returns:
            Its output. With `check` false: why it failed, or an empty string.

        Raises:
            Failed: it did not start, ran out of time or, unless `check` is false, failed.
        """
        log = os.path.join(self._directory, f"{what.replace(' ', '-')}.log")
        began = os.path.getsize(log) if os.path.exists(log) else 0
        env = {**os.environ, "PYTHONFAULTHANDLER": "1", "PIP_CONFIG_FILE": os.devnull}
        try:
            pid = self._supervised.start(argv, env=env, cwd=cwd or self._directory, log=log)
        except (CouldNot, SupervisorGone) as error:
            raise Failed(f"{what}: {error}") from error
        ending = self._supervised.wait(pid, max(0.0, self._end - time.monotonic()))
        if ending is None:
            self._supervised.signal(pid, signal.SIGABRT)  # faulthandler prints the stacks
            self._supervised.wait(pid, 1.0)
        with open(log, "rb") as file:
            file.seek(began)
            output = file.read().decode(errors="replace")
        if ending is None:
            raise Failed(f"{what}: not within {self._seconds:g} s", output, timed_out=True)
        if ending == "exited with code 0":
            return output if check else ""
        if check:
            raise Failed(f"{what}: {os.path.basename(argv[0])} {ending}", output)
        return causes.first_cause(output) or f"{ending}, and printed: {' '.join(causes.last_lines(output, 3))}"


def make_environment(run: Commands, location: BundleLocation, requirements: Sequence[str]) -> Installer:
    """Make the bundle's environment with what the bundle needs in it."""
    if directory := _fits_here(location):
        _copy(directory, venv_of(location), location)
        return "uv"
    run("making an environment", [sys.executable, "-I", "-m", "venv", "--without-pip", venv_of(location)])
    if requirements:
        with _needs_pip():
            own_pip.install(run, location, requirements)
    return "pip"


def _fits_here(location: BundleLocation) -> str:
    """Return the directory of what was installed for this process's interpreter; empty if there is none."""
    installed = location.get("installed")
    fits = installed is not None and installed["interpreter"] == os.path.realpath(sys.executable)
    return installed["directory"] if installed and fits else ""


def _copy(installed: str, target: str, location: BundleLocation) -> None:
    """Copy files with their times, or their bytecode would not count."""
    try:
        shutil.copytree(installed, target, symlinks=True)
    except (OSError, shutil.Error) as error:
        raise Failed(f"copying what was installed for {location['name']}: {error}") from error


def make_bare(run: Commands, location: BundleLocation, python: str = sys.executable) -> None:
    """Make an environment that holds only pip, for a runner that installs the bundle itself."""
    run("making a bare environment", [python, "-I", "-m", "venv", "--without-pip", venv_of(location)])
    with _needs_pip():
        own_pip.add(run, location)


@contextlib.contextmanager
def _needs_pip() -> Iterator[None]:
    """Turn the lack of it into a failed step."""
    try:
        yield
    except LookupError as error:
        raise Failed(str(error)) from None


def install_beside(location: BundleLocation, requirements: Sequence[str], seconds: float) -> Installer:
    """Install a bundle for this process's Python into a directory of its own, unless the same is installed there."""
    installed = _fits_here(location)
    by: Installer = "uv" if installed else "pip"
    mark = os.path.join(location["directory"], "inside.json")
    made_of = {
        "digest": location["digest"],
        "python": sys.version,
        "requirements": list(requirements),
        "installed": installed,
    }
    with contextlib.suppress(OSError, ValueError), open(mark, encoding="utf-8") as file:
        if json.load(file) == made_of:
            return by
    for directory in (bundle_of(location), site_of(location)):
        shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(location["source"], bundle_of(location))
    if installed:
        _copy(installed, site_of(location), location)
    else:
        os.makedirs(site_of(location))
        if requirements:
            more = ("--target", site_of(location))
            with Commands(location["directory"], seconds) as run, _needs_pip():
                own_pip.install(run, location, requirements, python=sys.executable, more=more)
    with open(mark, "w", encoding="utf-8") as file:
        json.dump(made_of, file)
    return by


def inspect(run: Commands, location: BundleLocation, modules: Mapping[str, str]) -> Inspection:
    """Have the environment's own Python report what it is and has, and which of these modules it does not find."""
    question = os.path.join(location["directory"], "modules.json")
    with open(question, "w", encoding="utf-8") as file:
        json.dump({"modules": modules, "source": bundle_of(location)}, file)
    argv = [python_of(location), "-I", os.path.join(RUNNER, "inspection.py"), question]
    inspected: Inspection = json.loads(run("looking at what was installed", argv).splitlines()[-1])
    return inspected


def try_import(run: Commands, location: BundleLocation, module: str) -> str:
    """Import a module the way the runner would; returns why that failed, or an empty string."""
    bundle, on_path = bundle_of(location), location.get("on_path", "first")
    # With `-c` Python puts the working directory first, which is the bundle's.
    path = "[path for path in sys.path if path]"
    path = {"first": f"[{bundle!r}, *{path}]", "last": f"[*{path}, {bundle!r}]", "never": path}[on_path]
    code = f"import importlib, sys; sys.path[:] = {path}; importlib.import_module({module!r})"
    return run(f"importing {module}", [python_of(location), "-c", code], cwd=bundle_of(location), check=False)
