"""For whom a wheel is: which workers can install it, and in which words that is said.

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
    """Why no worker with this Python on this machine can install it; empty when one may.

    The tags of the workers' platform are known to their own interpreter alone, which is asked when the wheels are made;
    until then a version of a C library is believed.
    """
    if any(_suits_python(tag, python) and _suits_machine(tag) for tag in wheel.tags):
        return ""
    if not any(_suits_python(tag, python) for tag in wheel.tags):
        pythons = dict.fromkeys(_python_in_words(tag) for tag in sorted(wheel.tags, key=str))
        return f"is for {' and '.join(pythons)}"
    platforms = sorted({tag.platform for tag in wheel.tags})
    return f"is for {' and '.join(platforms)}"


def machine() -> str:
    """This one, in the words of the tags: `linux_x86_64`."""
    return f"{platform.system()}_{platform.machine()}".lower()


def _suits_python(tag: Tag, python: Version) -> bool:
    here = "any" if tag.platform == "any" else "here"
    return Tag(tag.interpreter, tag.abi, here) in _tags_of(python.major, python.minor)


@functools.cache
def _tags_of(major: int, minor: int) -> frozenset[Tag]:
    """What a Python takes, on a platform that is called `here`."""
    name = f"cp{major}{minor}"
    # A Python without a global lock takes others; which one this is, only its interpreter tells.
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


def _python_in_words(tag: Tag) -> str:
    match = re.fullmatch(r"(cp|pp|py)(\d)_?(\d*)", tag.interpreter)
    if match is None:
        return str(tag)
    kind = {"cp": "CPython", "pp": "PyPy", "py": "Python"}[match[1]]
    version = f"{match[2]}.{match[3]}" if match[3] else match[2]
    newer = " and newer" if tag.abi == "abi3" or (match[1] == "py" and match[3]) else ""
    special = " without a global lock" if tag.abi.endswith("t") and match[1] == "cp" else ""
    return f"{kind} {version}{newer}{special}"


def chosen(wheels: Iterable[WheelFile], python: Version) -> tuple[WheelFile, ...]:
    """Of each distribution the wheel that suits workers with this Python best; any, where none does."""
    order = {platform_tag: number for number, platform_tag in enumerate(platform_tags())}

    def rank(wheel: WheelFile) -> tuple[bool, int, str]:
        suiting = [tag for tag in wheel.tags if _suits_python(tag, python) and _suits_machine(tag)]
        places = [order.get(tag.platform, len(order)) for tag in suiting if tag.platform != "any"]
        return not suiting, min(places, default=len(order) + 1), wheel.path.name

    best: dict[str, WheelFile] = {}
    for wheel in sorted(wheels, key=rank):
        best.setdefault(wheel.name, wheel)
    return tuple(sorted(best.values(), key=lambda wheel: wheel.path))
