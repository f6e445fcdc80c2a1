"""How the reference runner installs a bundle into its environment by itself, and when it believes an earlier install.

A directory that is there proves nothing: its install may have been interrupted, made of other code, by another
    Python, or
have lost files since. So what was installed is written down last, file by file, and compared before it is used again.

Loaded by `runner.py` from beside it, in the bundle's environment. Standard library only, Python 3.9 and up.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from typing import Any

FRESH = "MODELOPS_FORCE_FRESH_VENV"
"""Variable that asks for an install whatever there is: `true`, `1` or `yes`."""
PINS = "requirements.txt"
"""File beside the wheels: what the bundle needs of them, `name==version` a line."""
_MARKER = "modelops-installed.json"
_TIMES = "_MODELOPS_INSTALLED_TIMES"
_MOST_TIMES = 3


class Unusable(Exception):
    """The environment cannot be used, and why."""


def prepare(venv: str, *, wheels: str, digest: str, python: str | None) -> None:
    """Make the environment that this process runs in hold what the bundle needs, and nothing else.

    The process begins again after an install, since what lies in site-packages has its say when Python starts.

    Args:
        venv: the environment's directory.
        wheels: directory of wheels, and of the file that says which.
        digest: of the bundle; all of it counts.
        python: the version that it has to have, X.Y.Z; `None` for any.

    Raises:
        Unusable: it is another environment than it should be, or pip failed.
    """
    times = int(os.environ.pop(_TIMES, "0"))
    fresh = not times and os.environ.get(FRESH, "").lower() in {"true", "1", "yes"}
    _refuse_another(venv, python)
    # The system frees it when its holder ends, however that happens. This process shares it for as long as it lives:
    # nobody empties an environment that somebody runs from.
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
        _install(venv, wheels)
        _mark(venv, digest)
    sys.stderr.flush()
    os.environ[_TIMES] = str(times + 1)
    argv = list(getattr(sys, "orig_argv", None) or [sys.executable, *sys.argv])
    os.execv(sys.executable, argv)  # noqa: S606 - it is this very program


def ensured_pip() -> str:
    """The wheel of pip that this Python brings along; raises `LookupError`."""
    try:
        import ensurepip
    except ImportError:
        raise LookupError(
            f"{sys.executable} has no ensurepip, so it cannot install anything into an environment"
        ) from None
    bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
    elsewhere: str | None = getattr(ensurepip, "_WHEEL_PKG_DIR", None)  # where a distribution keeps wheels
    for directory in (bundled, elsewhere):
        if directory is None or not os.path.isdir(directory):
            continue
        for name in sorted(os.listdir(directory)):
            if name.startswith("pip-") and name.endswith(".whl"):
                return os.path.join(directory, name)
    raise LookupError(f"the ensurepip of {sys.executable} has no wheel of pip")


def unpack_pip(wheel: str, venv: str) -> None:
    """Put pip into an environment; as ensurepip would, which needs half a minute for it on a busy machine.

    Unpacking is what installing a wheel is, where it has only modules:
    https://packaging.python.org/en/latest/specifications/binary-distribution-format/.
    """
    [site] = glob.glob(os.path.join(glob.escape(venv), "lib", "python3.*", "site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    python = os.path.join(venv, "bin", "python")
    for name in ("pip", "pip3"):
        script = os.path.join(venv, "bin", name)
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!{python}\nimport sys\n\nfrom pip._internal.cli.main import main\n\nsys.exit(main())\n")
        os.chmod(script, 0o755)  # noqa: S103 - as every script of an environment


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
    """Why what is installed cannot be believed, in words; empty if it can."""
    try:
        with open(os.path.join(venv, _MARKER), encoding="utf-8") as file:
            marker: dict[str, Any] = json.load(file)
        made_for, made_by, files = marker["digest"], marker["python"], marker["files"]
    except FileNotFoundError:
        return "no install was completed in it"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"its marker cannot be read ({type(error).__name__})"
    if made_for != digest:
        return f"it was made for digest {made_for}, and {digest} is wanted"
    if made_by != sys.version:
        return f"it was made by another Python, {made_by}"
    found = _files()
    for path in sorted(found.keys() | files.keys()):
        if path not in found:
            return f"{path} is gone"
        if found[path] != files.get(path):
            return f"{path} is not what was installed"
    return ""


def _places() -> list[str]:
    """The directories that packages are installed into."""
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _files() -> dict[str, int]:
    """Size of every installed file; without bytecode, which is written whenever something is imported."""
    found = {}
    for place in _places():
        for parent, _, names in os.walk(place):
            if os.path.basename(parent) == "__pycache__":
                continue
            for name in names:
                path = os.path.join(parent, name)
                found[os.path.relpath(path, sys.prefix)] = os.lstat(path).st_size
    return found


def _empty(venv: str) -> None:
    """Remove whatever was installed, the marker first. The interpreter stays, or nobody could begin again."""
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


def _install(venv: str, wheels: str) -> None:
    pins = os.path.join(wheels, PINS)
    with open(pins, encoding="utf-8") as file:
        if not file.read().strip():
            return
    try:
        pip = os.path.join(ensured_pip(), "pip")
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
    """Write down what is installed; in one step, so that it is there wholly or not at all."""
    path = os.path.join(venv, _MARKER)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump({"digest": digest, "python": sys.version, "files": _files()}, file)
    os.replace(f"{path}.new", path)
