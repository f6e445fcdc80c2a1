"""How the reference runner installs a bundle into its own environment, and when it trusts an earlier install.

An existing directory proves nothing: its install may have been interrupted, may be of other code or another Python, or
may have lost files since. So the runner records every installed file, as its last step, and compares them before it
uses the environment again. `reference.py` loads this from beside it. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence

FRESH = "MODELOPS_FORCE_FRESH_VENV"
"""Variable that demands an install in any case: `true`, `1` or `yes`."""
PINS = "requirements.txt"
"""File beside the wheels: what the bundle needs of them, `name==version` a line."""
PIP = "_MODELOPS_PIP"
"""Variable with the directory of an unpacked pip, which the worker may set; it does not reach the bundle."""
_MARKER = "modelops-installed.json"
_TIMES = "_MODELOPS_INSTALLED_TIMES"
_MOST_TIMES = 3


class Unusable(Exception):
    """The environment cannot be used; the message says why."""


def prepare(venv: str, *, wheels: str, digest: str, python: str | None) -> None:
    """Make the environment that this process runs in hold what the bundle needs, and nothing else.

    The process starts again after an install, because Python reads site-packages when it starts.

    Args:
        venv: the environment's directory.
        wheels: directory of the wheels and of the file that lists the bundle's.
        digest: of the bundle; all of it counts.
        python: the version that the environment must have, X.Y.Z; `None` for any.

    Raises:
        Unusable: it is another environment than it should be, or pip failed.
    """
    times, pip = int(os.environ.pop(_TIMES, "0")), os.environ.pop(PIP, "")
    fresh = not times and os.environ.get(FRESH, "").lower() in {"true", "1", "yes"}
    _refuse_another(venv, python)
    # The kernel releases the lock when its holder ends, in whatever way. This process shares it as long as it lives, so
    # nobody empties an environment that is in use.
    lock = os.open(f"{os.path.normpath(venv)}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    fcntl.flock(lock, fcntl.LOCK_SH)
    stale = "a fresh one is wanted" if fresh else _why_stale(venv, digest)
    if not stale:
        return
    if times >= _MOST_TIMES:
        raise Unusable(f"the environment {venv} was installed {times} times in vain: {stale}")
    fcntl.flock(lock, fcntl.LOCK_UN)
    fcntl.flock(lock, fcntl.LOCK_EX)
    stale = "a fresh one is wanted" if fresh else _why_stale(venv, digest)  # another may have installed meanwhile
    if stale:
        sys.stderr.write(f"installing into {venv}: {stale}\n")
        _empty(venv)
        _install(venv, wheels, pip)
        _mark(venv, digest)
    sys.stderr.flush()
    os.environ.update({_TIMES: str(times + 1), PIP: pip})
    argv = list(getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv])
    os.execv(sys.executable, argv)  # noqa: S606 - it is this very program


def ensured_pip() -> str:
    """Return the path of the pip wheel that is part of this Python; raises `LookupError` if there is none."""
    try:
        import ensurepip
    except ImportError:
        raise LookupError(
            f"{sys.executable} has no ensurepip, so it cannot install anything into an environment"
        ) from None
    bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
    elsewhere: str | None = getattr(ensurepip, "_WHEEL_PKG_DIR", None)  # set by Linux distributions
    for directory in (bundled, elsewhere):
        if directory is None or not os.path.isdir(directory):
            continue
        for name in sorted(os.listdir(directory)):
            if name.startswith("pip-") and name.endswith(".whl"):
                return os.path.join(directory, name)
    raise LookupError(f"the ensurepip of {sys.executable} has no wheel of pip")


def files_in(directories: Sequence[str]) -> Iterator[str]:
    """Yield the path of every file below these directories, except bytecode: imports write that at any time."""
    for top in directories:
        for parent, _, names in os.walk(top):
            if os.path.basename(parent) != "__pycache__":
                yield from (os.path.join(parent, name) for name in names)


def _refuse_another(venv: str, python: str | None) -> None:
    if os.path.realpath(sys.prefix) != os.path.realpath(venv):
        raise Unusable(f"this runner is to install into the environment {venv}, and runs in another, {sys.prefix}")
    actual = ".".join(map(str, sys.version_info[:3]))
    if python is not None and actual != python:
        raise Unusable(
            f"the environment {venv} has Python {actual}, and Python {python} is wanted: another interpreter has made "
            "it; remove it"
        )


def _why_stale(venv: str, digest: str) -> str:
    """Return why the earlier install cannot be trusted; empty if it can."""
    try:
        with open(os.path.join(venv, _MARKER), encoding="utf-8") as file:
            marker = json.load(file)
        made_for, made_by, files = marker["digest"], marker["python"], marker["files"]
    except FileNotFoundError:
        return "no install was completed in it"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its marker cannot be read ({type(error).__name__})"
    if made_for != digest:
        return f"it was made for digest {made_for}, and {digest} is wanted"
    if made_by != sys.version:
        return f"it was made by another Python, {made_by}"
    found = _sizes()
    for path in sorted(found.keys() | files.keys()):
        if path not in found:
            return f"{path} is gone"
        if found[path] != files.get(path):
            return f"{path} is not what was installed"
    return ""


def _places() -> list[str]:
    """Return the directories that packages are installed into."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _sizes() -> dict[str, int]:
    return {os.path.relpath(path, sys.prefix): os.lstat(path).st_size for path in files_in(_places())}


def _empty(venv: str) -> None:
    """Remove everything that was installed, the marker first; the interpreter stays, since this process restarts."""
    _remove(os.path.join(venv, _MARKER))
    for name in os.listdir(venv):
        if name not in {"pyvenv.cfg", "bin", "lib", "lib64"}:
            _remove(os.path.join(venv, name))
    scripts = os.path.join(venv, "bin")
    for name in os.listdir(scripts):
        if not name.lower().startswith(("python", "activate")):
            _remove(os.path.join(scripts, name))
    for place in _places():
        os.makedirs(place, exist_ok=True)
        for name in os.listdir(place):
            _remove(os.path.join(place, name))


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def _install(venv: str, wheels: str, pip: str) -> None:
    pins = os.path.join(wheels, PINS)
    with open(pins, encoding="utf-8") as file:
        if not file.read().strip():
            return
    try:
        pip = os.path.join(pip or ensured_pip(), "pip")
    except LookupError as error:
        raise Unusable(str(error)) from None
    options = ("--no-index", "--find-links", wheels, "--no-cache-dir", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, pip, "install", "-q", *options, "-r", pins],
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # stdout is for answers
        check=False,
    )
    if done.returncode:
        raise Unusable(f"the environment {venv} could not be made: pip exited with code {done.returncode}")


def _mark(venv: str, digest: str) -> None:
    """Record what is installed, in one step: an interrupted write leaves no marker."""
    path = os.path.join(venv, _MARKER)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump({"digest": digest, "python": sys.version, "files": _sizes()}, file)
    os.replace(f"{path}.new", path)
