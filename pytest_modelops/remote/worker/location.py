"""Where a bundle is on its worker, and how its runner is started there. Python 3.9 and up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from typing import Union

from ..runner.installing import PIP
from ..runner.reference import ON_PATH
from ..shared.bundle_messages import BundleLocation
from ..shared.supervised import CouldNot, SupervisorGone
from .one_shot import OneShot
from .runner_process import Runner

AnyRunner = Union[Runner, OneShot]  # noqa: UP007 - Python 3.9

RUNNER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runner")
"""The directory of what runs in a bundle's environment."""
VERSION = ".".join(map(str, sys.version_info[:3]))
"""Of this worker's Python."""
NOT_STARTED = (CouldNot, SupervisorGone, LookupError, OSError)
"""What `launch` raises when a runner cannot be started."""
_LOG_BYTES = 1 << 20
"""This much of each end of a runner's log travels to pytest."""


def launch(location: BundleLocation) -> AnyRunner:
    """Start a runner without asking it anything; raises one of `NOT_STARTED`."""
    kind = OneShot if location["protocol"] == "one-shot" else Runner
    env, directory = variables_of(location), logs_directory_of(location)
    return kind(command_of(location), env=env, cwd=bundle_of(location), directory=directory)


def variables_of(location: BundleLocation) -> dict[str, str]:
    """Return the variables of a runner."""
    return {
        **os.environ,
        # A runner that installs the bundle itself reaches no index.
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": location["wheels"],
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "XDG_CONFIG_DIRS": _with_pip_configuration(location),
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": location["wheels"],
        "PYTHONUNBUFFERED": "1",
        **({} if location["runner"] else _variables_of_ours(location)),
        **location.get("variables", {}),
    }


def _variables_of_ours(location: BundleLocation) -> dict[str, str]:
    """Return what only the reference runner understands."""
    installs = "--install-from" in location["command"] and os.path.isdir(pip_of(location))
    return {ON_PATH: location.get("on_path", "first"), **({PIP: pip_of(location)} if installs else {})}


def _with_pip_configuration(location: BundleLocation) -> str:
    """Write what pip's variables say as a configuration for all users, which `pip --isolated` reads; return the path.

    https://pip.pypa.io/en/stable/topics/configuration/#location
    """
    directory = os.path.join(location["directory"], "configuration")
    os.makedirs(os.path.join(directory, "pip"), exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=directory, delete=False, encoding="utf-8") as file:
        file.write(f"[global]\nno-index = true\nfind-links = {location['wheels']}\n")
    os.replace(file.name, os.path.join(directory, "pip", "pip.conf"))  # another runner may be reading it
    return os.pathsep.join([directory, os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"])


def bundle_of(location: BundleLocation) -> str:
    """Return the directory of this worker's own copy of the bundle's files."""
    return os.path.join(location["directory"], "bundle")


def venv_of(location: BundleLocation) -> str:
    return location["venv"]


def packages_of(location: BundleLocation) -> str:
    """Return the directory of what is installed in the bundle's environment."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return os.path.join(venv_of(location), "lib", python, "site-packages")


def pip_of(location: BundleLocation) -> str:
    """Return the directory of the pip that the environments on this worker share; it may not exist yet."""
    return location.get("pip") or os.path.join(location["directory"], "own-pip")


def site_of(location: BundleLocation) -> str:
    """Return the directory of what is installed for running processes, without an environment."""
    return os.path.join(location["directory"], "inside")


def python_of(location: BundleLocation) -> str:
    return os.path.join(venv_of(location), "bin", "python")


def logs_directory_of(location: BundleLocation) -> str:
    return location.get("logs") or os.path.join(location["directory"], "logs")


def logs_of(location: BundleLocation) -> dict[str, bytes]:
    """Return what the runner wrote to stderr and stdout so far: of each at most the first and the last MiB."""
    found = {}
    for name in ("stderr", "stdout"):
        with contextlib.suppress(OSError), open(os.path.join(logs_directory_of(location), name), "rb") as file:
            head = file.read(_LOG_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(len(head), size - _LOG_BYTES))
            tail = file.read()
            gap = size - len(head) - len(tail)
            found[name] = head + (b"\n[... %d bytes ...]\n" % gap if gap else b"") + tail
    return found


def command_of(location: BundleLocation) -> list[str]:
    """Return the runner's command line; raises `LookupError` if `module:file` does not exist."""
    values = {
        "{python}": python_of(location),
        "{runner}": _runner(location["runner"]),
        "{bundle}": bundle_of(location),
        "{venv}": venv_of(location),
        "{digest}": location["digest"],
        "{wheels}": location["wheels"],
        "{version}": location.get("version") or VERSION,
        "{worker-python}": sys.executable,
    }
    command = []
    for argument in location["command"]:
        for placeholder, value in values.items():
            argument = argument.replace(placeholder, value)  # noqa: PLW2901
        command.append(argument)
    return command


def _runner(path: str) -> str:
    if not path:
        return os.path.join(RUNNER, "runner.py")
    if os.path.isabs(path):
        return path
    module, _, file = path.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise LookupError(f"runner {path!r}: {error}") from None
    if spec is None:
        raise LookupError(f"runner {path!r}: this worker has no module {module!r}")
    directories = list(spec.submodule_search_locations or ([os.path.dirname(spec.origin)] if spec.origin else []))
    for directory in directories:
        if os.path.exists(os.path.join(directory, file)):
            return os.path.join(directory, file)
    raise LookupError(f"runner {path!r}: no {file!r} in {', '.join(directories)}")
