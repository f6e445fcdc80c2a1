"""Two variants of a bundle that tell which of them runs: copies whose wire function answers one more entry point."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pytest_modelops.bundles import formats
from pytest_modelops.checks import own_installs
from pytest_modelops.errors import NothingToDo
from pytest_modelops.remote.worker.reuse import CANARY, MOMENT

ARTIFACT = "canary"
NAMES = ("A", "B")
_CODE = """

# pytest-modelops appended this to a copy: it answers which state of the code runs, and when.
def _modelops_canary(wire):
    import functools
    import time

    @functools.wraps(wire)
    def asked(*args, **kwargs):
        if {entrypoint!r} in (*args, *kwargs.values()):
            return {{{artifact!r}: {answer!r}, {moment!r}: str(time.time_ns()).encode()}}
        return wire(*args, **kwargs)

    return asked


{function} = _modelops_canary({function})
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A variant, read as every bundle; `name` is what it answers."""

    name: str
    source: formats.Source


def variants(source: formats.Source, directory: Path) -> list[Variant]:
    """Write both variants of a bundle into a directory; the bundle's own stays as it is.

    Raises:
        NothingToDo: it has no wire function, or none whose source is among its files.
    """
    wire = source.wire
    if wire is None:
        raise NothingToDo("the bundle declares no wire function, which would tell the code that runs")
    file = source.file_of(wire.module)
    if file is None or file.suffix != ".py" or not file.is_relative_to(source.path):
        raise NothingToDo(
            f"the source of the bundle's wire function {wire.module}:{wire.function} is not among its files, so that "
            "it cannot be made to tell the code that runs"
        )
    made = []
    for name in NAMES:
        (directory / name).mkdir()
        copied = own_installs.copy(source, directory / name)
        code = _CODE.format(
            entrypoint=CANARY, artifact=ARTIFACT, moment=MOMENT, answer=name.encode(), function=wire.function
        )
        with (copied / file.relative_to(source.path)).open("ab") as module:
            module.write(code.encode())
        made.append(Variant(name=name, source=formats.read(copied)))
    return made
