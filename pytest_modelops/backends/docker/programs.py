"""What processes in containers run and no image has, compiled by an image's Python: made once for each base image."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import IO

from pytest_modelops.backends.docker.archives import copied_into
from pytest_modelops.backends.docker.engine import Engine, translated
from pytest_modelops.backends.docker.one_off import OneOff
from pytest_modelops.backends.docker.packages import Base
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.remote_package import RemotePackages
from pytest_modelops.errors import CheckFailed, TimedOut

PIP = "pip"
"""Directory beside `modelops_remote`: `own_pip.prepared` of a worker says what is in it."""
_SECONDS = 60.0
"""It takes three; this is for machines under heavy load."""
_ROOT = "modelops"
_PROGRAMS = f"/{_ROOT}/programs"
_COMPILE = f"""
import compileall, os, py_compile, sys, zipfile
sys.path.insert(0, {_PROGRAMS!r})
from modelops_remote.runner.installing import ensured_pip
try:
    wheel = ensured_pip()
except LookupError:
    pass
else:
    name = os.path.basename(wheel)[: -len(".whl")]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(os.path.join({_PROGRAMS!r}, {PIP!r}, sys.implementation.cache_tag, name))
# No times are compared: files get others on their way.
unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
compileall.compile_dir({_PROGRAMS!r}, quiet=2, workers=0, force=True, invalidation_mode=unchecked)
"""


class Programs:
    """Makes and finds them.

    Args:
        packages: copies of `modelops_remote`, kept in the cache.
    """

    def __init__(self, engine: Engine, one_off: OneOff, packages: RemotePackages) -> None:
        self._engine = engine
        self._one_off = one_off
        self._packages = packages

    def obtain(self, base: Base, deadline: Deadline) -> Path | None:
        """Return a directory of the host with the package `modelops_remote` and, if the image has a pip, with `PIP`.

        `None` if they cannot be compiled in the image: then its containers compile what they import.

        Raises:
            Unavailable: the engine does not answer any more.
        """
        deadline = deadline.at_most(min(_SECONDS, deadline.remaining / 2))

        def compile_in(directory: Path) -> None:
            self._compile(base, directory, deadline)

        with contextlib.suppress(CheckFailed, TimedOut):
            return self._packages.obtain(base.contents.python, base.image.id, compile_in, deadline)
        return None

    def _compile(self, base: Base, directory: Path, deadline: Deadline) -> None:
        what = f"compiling in {base.image.name}"
        config = self._engine.api.create_host_config(network_mode="none")
        command = [base.contents.facts["executable"], "-I", "-c", _COMPILE]
        with self._one_off.container(base.image, command, user="0:0", host_config=config, entry_point=[]) as container:
            with copied_into(self._engine, container, "/", f"put programs into {base.image.name}") as archive:
                archive.directory(_ROOT)
                archive.tree(directory, _PROGRAMS.lstrip("/"))
            ran = self._one_off.to_its_end(container, what, deadline)
            if ran.code != 0:
                raise CheckFailed(f"{what} {ran.ending}: {(ran.stderr + ran.stdout)[-2000:]}")
            with tempfile.TemporaryFile() as file:
                with translated(self._engine, f"take programs out of {base.image.name}"):
                    for part in self._engine.api.get_archive(container, _PROGRAMS)[0]:
                        file.write(part)
                file.seek(0)
                _add_new_files(file, directory)


def _add_new_files(file: IO[bytes], directory: Path) -> None:
    """Unpack regular files that are not there yet, wherever an image says that they are, into a directory."""
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts[1:]  # the first one is the directory itself
            target = directory.joinpath(*parts)
            if member.isreg() and ".." not in parts and not target.exists() and (content := tar.extractfile(member)):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
