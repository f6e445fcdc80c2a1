"""The pip that is part of this worker's Python, unpacked and compiled once for all environments on the worker.

From its wheel, pip takes four times as long to start, since Python stores no bytecode for archives. Python 3.9 and up.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import importlib.util
import os
import shutil
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..runner.installing import ensured_pip
from ..shared.bundle_messages import BundleLocation
from .location import pip_of, python_of, venv_of

if TYPE_CHECKING:
    from .environment import Commands

_LOCK = threading.Lock()


def prepared(location: BundleLocation) -> str:
    """Return the directory of this Python's pip if the cell has it, unpacked and compiled; else nothing.

    It is `CACHE_TAG/WHEEL` there: `cpython-312/pip-23.2.1-py3-none-any`.

    Raises:
        LookupError: this Python has no pip.
    """
    name, tag = os.path.basename(ensured_pip())[: -len(".whl")], sys.implementation.cache_tag
    directory = os.path.join(location["pips"], tag, name) if location.get("pips") and tag else ""
    return directory if os.path.isdir(directory) else ""


def unpack(run: Commands, location: BundleLocation) -> str:
    """Unpack and compile pip, unless it is there; return its directory, which environments share by links.

    Raises:
        LookupError: this Python has no pip.
    """
    directory = pip_of(location)
    with _LOCK:
        if not os.path.isdir(directory):
            new = f"{directory}.new"
            shutil.rmtree(new, ignore_errors=True)
            if ready := prepared(location):
                shutil.copytree(ready, new)
            else:
                with zipfile.ZipFile(ensured_pip()) as archive:
                    archive.extractall(new)
                take_bytecode(new)
                run("compiling pip", [sys.executable, "-I", "-m", "compileall", "-q", new], check=False)
            os.rename(new, directory)
    return directory


def take_bytecode(directory: str) -> None:
    """Copy bytecode from the packages of this Python, where they have the same sources: compiling takes a second."""
    site = sysconfig.get_path("purelib", "posix_prefix", {"base": sys.base_prefix})
    for source in glob.iglob(os.path.join(glob.escape(directory), "**", "*.py"), recursive=True):
        installed = os.path.join(site, os.path.relpath(source, directory))
        with contextlib.suppress(OSError):
            if filecmp.cmp(source, installed, shallow=False):
                target = importlib.util.cache_from_source(source)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(importlib.util.cache_from_source(installed), target)
                shutil.copystat(installed, source)  # bytecode holds the time of its source


def add(run: Commands, location: BundleLocation) -> None:
    """Put pip into the bundle's environment as ensurepip does, which takes half a minute on a busy machine.

    A wheel that has only modules is installed by unpacking it:
    https://packaging.python.org/en/latest/specifications/binary-distribution-format/.

    Raises:
        LookupError: this Python has no pip.
    """
    [site] = glob.glob(os.path.join(glob.escape(venv_of(location)), "lib", "python3.*", "site-packages"))
    shutil.copytree(unpack(run, location), site, copy_function=link, dirs_exist_ok=True)
    for name in ("pip", "pip3"):
        script = os.path.join(venv_of(location), "bin", name)
        with open(script, "w", encoding="utf-8") as file:
            start = "import sys\n\nfrom pip._internal.cli.main import main\n\nsys.exit(main())\n"
            file.write(f"#!{python_of(location)}\n{start}")
        os.chmod(script, 0o755)  # noqa: S103 - as every script of an environment


def link(source: str, target: str) -> None:
    """Put a file of the worker's pip into another place too, which takes a tenth of the time that a copy takes."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(target)
    try:
        os.link(source, target)
    except OSError:  # the file system has no links, or not so many
        shutil.copy2(source, target)


def install(
    run: Commands, location: BundleLocation, requirements: Sequence[str], *, python: str = "", more: Sequence[str] = ()
) -> None:
    """Install from the wheels.

    Raises:
        LookupError: this Python has no pip.
    """
    lines = os.path.join(location["directory"], "requirements.txt")
    with open(lines, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in requirements))
    directory = prepared(location) or unpack(run, location)
    options = ("--no-index", "--find-links", location["wheels"], "--no-cache-dir", "--disable-pip-version-check")
    pip = [python or python_of(location), os.path.join(directory, "pip"), "install", "-q", *options, *more]
    run(f"installing {location['name']} from its wheels", [*pip, "-r", lines])
