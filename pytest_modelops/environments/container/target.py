"""The machine that an image is, as uv and wheels name it: what a lock for it is resolved with."""

from __future__ import annotations

import sys
from pathlib import Path

from packaging import tags

from pytest_modelops.environments.container.images import Contents, Image
from pytest_modelops.environments.interpreters import Interpreter
from pytest_modelops.errors import Unavailable

_GLIBC = {17, 28, *range(31, 41)}
"""Versions 2.X of glibc that uv has a platform for (`uv pip compile --help`, `--python-platform`)."""
_MACHINES = {"x86_64", "aarch64"}


def interpreter_of(image: Image, contents: Contents) -> Interpreter:
    """An image's Python as the resolver takes one: solved for the image, by this machine's own Python.

    Raises:
        Unavailable: uv knows no such platform.
    """
    if contents.machine not in _MACHINES:
        raise Unavailable(
            f"image {image.name} is for {contents.machine}; packages can be added for {' and '.join(sorted(_MACHINES))}. "
            "Name an image that has them (`finished` in [tool.modelops.docker])."
        )
    if contents.glibc is None:
        platform = f"{contents.machine}-unknown-linux-musl"
    else:
        known = max((minor for minor in _GLIBC if (2, minor) <= contents.glibc), default=None)
        if known is None:
            raise Unavailable(f"image {image.name} has {contents.platform}; packages need glibc 2.17 or newer")
        platform = f"{contents.machine}-manylinux_2_{known}"
    python = f"{contents.python.major}.{contents.python.minor}"
    if not contents.python.is_prerelease:
        python = str(contents.python)
    return Interpreter(
        path=Path(sys.executable),
        version=contents.python,
        build=image.id,
        platform=contents.platform,
        target=("--python-version", python, "--python-platform", platform),
        tags=frozenset(map(str, _tags(contents))),
    )


def _tags(contents: Contents) -> list[tags.Tag]:
    """The tags of wheels that run there (PEP 425, 600, 656)."""
    machine = contents.machine
    if contents.glibc is None:
        platforms = [f"musllinux_1_{minor}_{machine}" for minor in range(3)]
    else:
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(5, contents.glibc[1] + 1)]
        platforms += [f"{name}_{machine}" for name in ("manylinux2014", "manylinux2010", "manylinux1")]
    platforms.append(f"linux_{machine}")
    python = (contents.python.major, contents.python.minor)
    name = f"cp{python[0]}{python[1]}"
    return [
        *tags.cpython_tags(python, [name], platforms),
        *tags.compatible_tags(python, name, platforms),
    ]


