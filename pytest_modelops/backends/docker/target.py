"""An image's platform as uv, pip and wheels name it, so that this machine can resolve and fetch packages for it."""

from __future__ import annotations

import sys

from pytest_modelops.backends.docker.contents import Contents
from pytest_modelops.backends.docker.images import Image
from pytest_modelops.environments.target import Target
from pytest_modelops.errors import Unavailable

_GLIBC = {17, 28, *range(31, 41)}
"""Versions 2.X of glibc that uv has a platform for (`uv pip compile --help`, `--python-platform`)."""
_MACHINES = {"x86_64", "aarch64"}
_MUSLLINUX = 2
"""The newest musllinux_1_X; an image with musl has 1.2 since 2021."""


def target_of(image: Image, contents: Contents) -> Target:
    """Return what wheels for an image's Python have to be for.

    Raises:
        Unavailable: its platform has no name.
    """
    machine = contents.machine
    if machine not in _MACHINES:
        raise Unavailable(
            f"image {image.name} is for {machine}; packages can be added for {' and '.join(sorted(_MACHINES))}. "
            "Name an image that has them (`prebuilt` in [tool.modelops.docker])."
        )
    if contents.glibc is None:
        name = f"{machine}-unknown-linux-musl"
        platforms = [f"musllinux_1_{minor}_{machine}" for minor in range(_MUSLLINUX, -1, -1)]
    else:
        known = max((minor for minor in _GLIBC if (2, minor) <= contents.glibc), default=None)
        if known is None:
            raise Unavailable(f"image {image.name} has {contents.platform}; packages need glibc 2.17 or newer")
        name = f"{machine}-manylinux_2_{known}"
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(contents.glibc[1], 4, -1)]
        platforms += [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
    release = f"{contents.python.major}.{contents.python.minor}"
    return Target(
        python=contents.python,
        abi=f"cp{contents.python.major}{contents.python.minor}",
        platforms=(*platforms, f"linux_{machine}"),
        build=image.id,
        uv_options=(
            *("--python", sys.executable),
            *("--python-version", release if contents.python.is_prerelease else str(contents.python)),
            *("--python-platform", name),
        ),
        interpreter=None,
    )
