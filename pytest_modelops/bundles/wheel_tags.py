"""Which workers can install a wheel, by its tags.

Source of the tags: https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/
"""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Iterable

from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags
from packaging.version import Version

from pytest_modelops.bundles.wheel_files import WheelFile


def unfit(wheel: WheelFile, python: Version) -> str:
    """Return why no worker with this Python on this machine can install a wheel; empty when one may.

    Only the workers' own interpreter knows their platform's tags. It is asked when the wheels are made; here, any
    version of a C library suits.
    """
    if any(_suits(tag, python) for tag in wheel.tags):
        return ""
    if any(_suits_python(tag, python) for tag in wheel.tags):
        names = sorted({tag.platform for tag in wheel.tags})
    else:
        names = list(dict.fromkeys(_python_of(tag) for tag in sorted(wheel.tags, key=str)))
    return f"is for {' and '.join(names)}"


def machine() -> str:
    """Return this machine's tag, such as `linux_x86_64`."""
    return f"{platform.system()}_{platform.machine()}".lower()


def chosen(wheels: Iterable[WheelFile], python: Version) -> tuple[WheelFile, ...]:
    """Return the wheel of each distribution that suits workers with this Python best; any if none does."""
    order = {platform_tag: number for number, platform_tag in enumerate(platform_tags())}

    def rank(wheel: WheelFile) -> tuple[bool, int, str]:
        suiting = [tag for tag in wheel.tags if _suits(tag, python)]
        places = [order.get(tag.platform, len(order)) for tag in suiting if tag.platform != "any"]
        return not suiting, min(places, default=len(order) + 1), wheel.path.name

    best: dict[str, WheelFile] = {}
    for wheel in sorted(wheels, key=rank):
        best.setdefault(wheel.name, wheel)
    return tuple(sorted(best.values(), key=lambda wheel: wheel.path))


def _suits(tag: Tag, python: Version) -> bool:
    return _suits_python(tag, python) and _suits_machine(tag)


def _suits_python(tag: Tag, python: Version) -> bool:
    here = "any" if tag.platform == "any" else "here"
    return Tag(tag.interpreter, tag.abi, here) in _tags_of(python.major, python.minor)


@functools.cache
def _tags_of(major: int, minor: int) -> frozenset[Tag]:
    """Return the tags that a Python takes, on a platform called `here`."""
    name = f"cp{major}{minor}"
    # A free-threaded Python takes others; only its interpreter knows whether it is one.
    own = cpython_tags((major, minor), [name, f"{name}t"], ["here"])
    return frozenset([*own, *compatible_tags((major, minor), name, ["here"])])


def _suits_machine(tag: Tag) -> bool:
    if tag.platform == "any":
        return True
    if tag.platform.startswith("win"):
        return False
    if platform.system() != "Linux":
        return True  # workers may be containers
    return not tag.platform.startswith("macosx") and tag.platform.endswith(f"_{platform.machine()}")


def _python_of(tag: Tag) -> str:
    """Return the Python of a tag for people, such as `CPython 3.11 and newer`."""
    match = re.fullmatch(r"(cp|pp|py)(\d)_?(\d*)", tag.interpreter)
    if match is None:
        return str(tag)
    kind = {"cp": "CPython", "pp": "PyPy", "py": "Python"}[match[1]]
    version = f"{match[2]}.{match[3]}" if match[3] else match[2]
    newer = " and newer" if tag.abi == "abi3" or (match[1] == "py" and match[3]) else ""
    special = " without a global lock" if tag.abi.endswith("t") and match[1] == "cp" else ""
    return f"{kind} {version}{newer}{special}"
