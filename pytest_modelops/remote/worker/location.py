"""Where a bundle is in its cell, and how its runner is started there. Python 3.9 and up."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from typing import Any, Union

from ..shared.supervised import CouldNot, SupervisorGone
from .one_shot import OneShot
from .runner_process import Runner

BundleLocation = Mapping[str, Any]
"""Where a bundle is in the cell, and how its runner is started:

- `name`, `digest`: of the bundle;
- `modules`: names of its top-level modules; `wire`: `module` and `function` that run its entry points, or `None`;
- `directories`: by worker name, the worker's own directory for it; made by `install`;
- `source`, `wheels`: directories in the cell: the bundle's files, and the wheels that it is installed from;
- `runner`: the runner's path in the cell, `module:file`, or empty for the reference runner;
- `command`: the runner's command line, with `{python}`, `{runner}`, `{bundle}`, `{venv}`, `{digest}`, `{wheels}`,
  `{version}`;
- `protocol`: `json-rpc`, or `one-shot` for a runner that is restarted for every request;
- `installs`: whether the runner installs by itself, into an environment of its own that has nothing but pip;
- `install`: `isolated`, or `workers` for one that comes into running processes and has no runner;
- `variables`, `version`, `venv`, `logs`: of a runner that is started in another way than usual.
"""

AnyRunner = Union[Runner, OneShot]  # noqa: UP007 - Python 3.9

RUNNER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runner")
"""The directory of what runs in a bundle's environment."""
_LOG_BYTES = 1 << 20
"""So much of each end of a runner's log travels to pytest."""
NOT_STARTED = (CouldNot, SupervisorGone, LookupError, OSError)
"""What keeps a runner from being started."""


def launch(location: BundleLocation) -> AnyRunner:
    """Start a runner, and ask it nothing yet; raises one of `NOT_STARTED`."""
    env = {
        **os.environ,
        # Where a runner installs by itself, there is no way out to an index.
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": location["wheels"],
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": location["wheels"],
        "PYTHONUNBUFFERED": "1",
        **location.get("variables", {}),
    }
    kind = OneShot if location["protocol"] == "one-shot" else Runner
    return kind(command_of(location), env=env, cwd=bundle_of(location), directory=logs_directory_of(location))


def bundle_of(location: BundleLocation) -> str:
    """The bundle's files, a copy of this worker's own."""
    return os.path.join(location["directory"], "bundle")


def venv_of(location: BundleLocation) -> str:
    """The bundle's environment."""
    return str(location["venv"])


def site_of(location: BundleLocation) -> str:
    """What is installed for running processes, without an environment."""
    return os.path.join(location["directory"], "inside")


def python_of(location: BundleLocation) -> str:
    """The environment's interpreter."""
    return os.path.join(venv_of(location), "bin", "python")


def logs_directory_of(location: BundleLocation) -> str:
    """Where its runner's logs are."""
    return str(location.get("logs") or os.path.join(location["directory"], "logs"))


def logs_of(location: BundleLocation) -> dict[str, bytes]:
    """What the runner wrote to stderr and stdout so far, from each at most 1 MiB of the beginning and of the end."""
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
    """The runner's command line; raises `LookupError` where `module:file` names nothing."""
    values = {
        "{python}": python_of(location),
        "{runner}": _runner(location["runner"]),
        "{bundle}": bundle_of(location),
        "{venv}": venv_of(location),
        "{digest}": location["digest"],
        "{wheels}": location["wheels"],
        "{version}": location.get("version") or ".".join(map(str, sys.version_info[:3])),
    }
    words = []
    for word in location["command"]:
        filled = word
        for name, value in values.items():
            filled = filled.replace(name, value)
        words.append(filled)
    return words


def _runner(named: str) -> str:
    if not named:
        return os.path.join(RUNNER, "runner.py")
    if os.path.isabs(named):
        return named
    module, _, file = named.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise LookupError(f"runner {named!r}: {error}") from None
    if spec is None:
        raise LookupError(f"runner {named!r}: this worker has no module {module!r}")
    directories = list(spec.submodule_search_locations or ([os.path.dirname(spec.origin)] if spec.origin else []))
    for directory in directories:
        if os.path.exists(os.path.join(directory, file)):
            return os.path.join(directory, file)
    raise LookupError(f"runner {named!r}: there is no {file!r} in {', '.join(directories)}")
