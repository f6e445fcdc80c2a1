"""Two canaries made of a bundle: copies that answer which of them runs. See `remote/shared/canary.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_modelops.bundles import formats
from pytest_modelops.checks import own_installs
from pytest_modelops.errors import NothingToDo
from pytest_modelops.remote.shared import canary

NAMES = ("A", "B")


def variants(source: formats.Source, directory: Path) -> Mapping[str, formats.Source]:
    """Write both canaries of a bundle into a directory, and read them as every bundle; the bundle stays as it is.

    Raises:
        NothingToDo: it has no wire function, or none whose source is among its files.
    """
    wire = source.wire
    if wire is None:
        raise NothingToDo("the bundle declares no wire function, which could answer which code runs")
    file = source.file_of(wire.module)
    if file is None or file.suffix != ".py" or not file.is_relative_to(source.path):
        raise NothingToDo(
            f"the source of the bundle's wire function {wire.module}:{wire.function} is not among its files, so it "
            "cannot be made to answer which code runs"
        )
    found = {}
    for name in NAMES:
        (directory / name).mkdir()
        copied = own_installs.copy(source, directory / name)
        with (copied / file.relative_to(source.path)).open("ab") as module:
            module.write(canary.code(wire.function, variant=name, entrypoint=canary.ENTRYPOINT).encode())
        found[name] = formats.read(copied)
    return found
