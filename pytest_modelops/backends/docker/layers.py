"""A cell's packages as a layer on an image: built once for each base and lock, then found by its tag."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pytest_modelops.backends.docker import belongings
from pytest_modelops.backends.docker.archives import Archive, copied_into
from pytest_modelops.backends.docker.contents import Contents
from pytest_modelops.backends.docker.engine import Engine, ImageNotFound, translated
from pytest_modelops.backends.docker.images import Image, describe
from pytest_modelops.backends.docker.one_off import OneOff
from pytest_modelops.deadline import Deadline
from pytest_modelops.environments.base import Progress
from pytest_modelops.errors import CheckFailed
from pytest_modelops.storage.files import locked

REPOSITORY = "modelops-cell"
"""Repository of the images that are built; the tag is a hash of what is in the image."""
ENVIRONMENT = "/modelops/env"
"""Where the added packages are, as a virtual environment of the image's Python."""
_LAYOUT = 2
"""Version of what is built; part of every tag."""
_COMPILE = """
import compileall, re, sys, sysconfig
skip = re.compile(r"/(test|tests|idlelib|lib2to3|turtledemo|_bundled|dist-packages|site-packages)/")
for directory, rx in ((sysconfig.get_path("stdlib"), skip), (sys.argv[1], None)):
    compileall.compile_dir(directory, quiet=2, rx=rx, workers=0)
"""


class Layers:
    """Builds and finds images with packages added.

    Args:
        directory: of the cache, for locks.
        fresh: do not use an image that an earlier session built.
        session: an id that all processes of this pytest run share.
    """

    def __init__(self, engine: Engine, one_off: OneOff, *, directory: Path, fresh: bool, session: str) -> None:
        self._engine = engine
        self._one_off = one_off
        self._directory = directory
        self._fresh = fresh
        self._session = session

    def key_of(self, base: Image, requirements: str) -> str:
        """Return the tag of the image with this base and lock."""
        return hashlib.sha256(f"{_LAYOUT}\n{base.id}\n{requirements}".encode()).hexdigest()[:20]

    def locked(self, key: str, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Keep two processes from building the same image."""
        return locked(self._directory / f"{key}.lock", deadline, f"the image {REPOSITORY}:{key}")

    def built(self, key: str) -> Image | None:
        """Return the image with this tag, if the engine has it and it may be used."""
        with translated(self._engine, "look for a built image"):
            try:
                image = describe(self._engine, f"{REPOSITORY}:{key}")
            except ImageNotFound:
                return None
        labels = image.config.get("Labels") or {}
        if labels.get(belongings.IMAGE) != key:
            return None
        if self._fresh and labels.get(belongings.SESSION) != self._session:
            return None
        return image

    def build(
        self, base: Image, contents: Contents, packages: Path, *, key: str, deadline: Deadline, progress: Progress
    ) -> Image:
        """Add a directory of installed packages to a base as a virtual environment, with all bytecode compiled.

        Raises:
            CheckFailed: the engine could not do it.
            TimedOut: the deadline passed.
        """
        progress(f"adding packages to {base.name}")
        config = self._engine.api.create_host_config(network_mode="none")
        compile_all = [contents.facts["executable"], "-I", "-c", _COMPILE, ENVIRONMENT]
        with self._one_off.container(base, compile_all, user="0:0", host_config=config) as container:
            with copied_into(self._engine, container, "/", f"put packages into {base.name}") as archive:
                write_layer(archive, packages, contents)
            ran = self._one_off.to_its_end(container, f"compiling in {base.name}", deadline)
            if ran.code != 0:
                raise CheckFailed(f"compiling in {base.name} {ran.ending}: {(ran.stderr + ran.stdout)[-2000:]}")
            labels = {**(base.config.get("Labels") or {}), belongings.IMAGE: key, belongings.SESSION: self._session}
            with translated(self._engine, f"save {REPOSITORY}:{key}"):
                self._engine.api.commit(
                    container,
                    repository=REPOSITORY,
                    tag=key,
                    message=f"packages of a cell on {base.name}",
                    conf={
                        **base.config,
                        "User": base.user,
                        "Cmd": base.config.get("Cmd") or [contents.facts["executable"]],
                        "Labels": labels,
                    },
                )
                return describe(self._engine, f"{REPOSITORY}:{key}")


def write_layer(archive: Archive, packages: Path, contents: Contents) -> None:
    """Write packages, as `uv pip install --target` lays them out, as a virtual environment."""
    root = ENVIRONMENT.lstrip("/")
    library = f"{root}/lib/python{contents.python.major}.{contents.python.minor}"
    site = f"{library}/site-packages"
    for directory in ("modelops", root, f"{root}/bin", f"{root}/lib", library, site):
        archive.directory(directory)
    for name in ("python", "python3"):
        archive.link(f"{root}/bin/{name}", contents.facts["base"])
    configuration = (
        f"home = {PurePosixPath(contents.facts['base']).parent}\n"
        f"include-system-site-packages = true\nversion = {contents.python}\n"
    )
    archive.file(f"{root}/pyvenv.cfg", configuration.encode())
    if contents.facts["in_venv"]:  # the packages of a virtual environment are not in its base's site-packages
        archive.file(f"{site}/_modelops_base.pth", f"{contents.facts['site']}\n".encode())
    for name, text in _scripts(packages / "bin"):
        archive.file(f"{root}/bin/{name}", text, mode=0o755)
    for path in sorted(packages.iterdir()):
        if path.name not in {"bin", ".lock"}:
            archive.tree(path, f"{site}/{path.name}")


def _scripts(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and text of each entry point, with the environment's Python in its first line."""
    for script in sorted(directory.iterdir()) if directory.is_dir() else ():
        text = script.read_bytes()
        first, newline, rest = text.partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            text = f"#!{ENVIRONMENT}/bin/python".encode() + newline + rest
        yield script.name, text
