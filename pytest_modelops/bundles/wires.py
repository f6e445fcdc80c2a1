"""Where a bundle declares its wire function: `wire(entrypoint: str, params: dict, seed: int) -> dict[str, bytes]`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pytest_modelops.bundles.contents import read_json, read_toml
from pytest_modelops.bundles.metadata import Metadata, table
from pytest_modelops.errors import MalformedBundle

MANIFEST = ".modelops/manifest.json"
SETTINGS = ".modelops/modelops.toml"
ROOT_FILE = "wire.py"
FORMS = '"package.module:function" or "package/module.py:function"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire:
    """The function that runs a bundle's entry points.

    Attributes:
        module: dotted; function: its name in there, dotted where it is an attribute of an object.
        where: the file and place that declare it, for messages.
    """

    module: str
    function: str
    where: str


def find(directory: Path, metadata: Metadata, roots: Sequence[Path]) -> Wire | None:
    """The wire function, `None` when none is declared. The first place that declares one decides.

    Args:
        directory: the bundle's.
        metadata: of its package.
        roots: directories on the import path.

    Raises:
        MalformedBundle: a declaration is none, or there are several entry points.
    """
    if len(metadata.wires) > 1:
        raise MalformedBundle(
            f"{metadata.wires_in} has {len(metadata.wires)} entries ({', '.join(metadata.wires)}); keep one"
        )
    for value in metadata.wires.values():
        return _parse(value, metadata.wires_in, directory, roots)
    for where, value in _written(directory):
        if value is not None:
            return _parse(value, where, directory, roots)
    if (directory / ROOT_FILE).is_file():
        return Wire(module="wire", function="wire", where=str(directory / ROOT_FILE))
    return None


def _written(directory: Path) -> Iterator[tuple[str, Any]]:
    """What each file of `.modelops` says, read when it is its turn."""
    if (directory / MANIFEST).is_file():
        yield f"{directory / MANIFEST}: wire", read_json(directory / MANIFEST).get("wire")
    if (directory / SETTINGS).is_file():
        settings = table(read_toml(directory / SETTINGS), "modelops")
        yield f"{directory / SETTINGS}: [modelops] wire", settings.get("wire")


def _parse(value: Any, where: str, directory: Path, roots: Sequence[Path]) -> Wire:
    match = re.fullmatch(r"([\w./-]+?)\s*:\s*([^\W\d][\w.]*)", value.strip()) if isinstance(value, str) else None
    module = match and _module(match[1], directory, roots)
    if not match or not module:
        raise MalformedBundle(f"{where}: {value!r} names no function; write {FORMS}")
    return Wire(module=module, function=match[2], where=where)


def _module(text: str, directory: Path, roots: Sequence[Path]) -> str | None:
    """A module's dotted name, which may be written as the path of its file."""
    if "/" in text or text.endswith(".py"):
        path = directory / text.removesuffix(".py")
        # The longest root that holds it: `src/pkg/mod.py` is `pkg.mod` where `src` is on the import path.
        holders = [root for root in (*roots, directory) if path.is_relative_to(root)]
        if not holders:
            return None
        parts = path.relative_to(max(holders, key=lambda root: len(root.parts))).parts
        text = ".".join(parts[:-1] if parts[-1:] == ("__init__",) else parts)
    return text if text and all(part.isidentifier() for part in text.split(".")) else None
