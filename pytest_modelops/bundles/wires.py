"""Where a bundle declares its wire function: `wire(entrypoint: str, params: dict, seed: int) -> dict[str, bytes]`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_modelops.bundles.documents import read_json, read_toml, table
from pytest_modelops.bundles.metadata import EntryPoint
from pytest_modelops.errors import MalformedBundle

MANIFEST = ".modelops/manifest.json"
SETTINGS = ".modelops/modelops.toml"
ROOT_FILE = "wire.py"
_FORMS = '"package.module:function" or "package/module.py:function"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wire:
    """The function that runs a bundle's entry points.

    Attributes:
        module: dotted.
        function: its name in the module, dotted if it is an attribute of an object.
        where: the file and place that declare it, for messages.
    """

    module: str
    function: str
    where: str


def find(directory: Path, entry_points: Sequence[EntryPoint], roots: Sequence[Path]) -> Wire | None:
    """Return the wire function that the first place declares: entry point, manifest, settings, `wire.py`.

    `entry_points` are those of all that is installed; `roots` are the directories on the import path.

    Raises:
        MalformedBundle: a declaration does not name a function, or there are several entry points.
    """
    if len(entry_points) > 1:
        places = list(dict.fromkeys(point.where for point in entry_points))
        names = ", ".join(point.name for point in entry_points)
        has = "has" if len(places) == 1 else "have"
        raise MalformedBundle(f"{' and '.join(places)} {has} {len(entry_points)} entries ({names}); keep one")
    for where, value in _declarations(directory, entry_points):
        if value is not None:
            return _parse(value, where, directory, roots)
    if (directory / ROOT_FILE).is_file():
        return Wire(module="wire", function="wire", where=str(directory / ROOT_FILE))
    return None


def _declarations(directory: Path, entry_points: Sequence[EntryPoint]) -> Iterator[tuple[str, object]]:
    """Yield place and value; a file is read only when no place before it declares one."""
    yield from ((point.where, point.value) for point in entry_points)
    manifest, settings = directory / MANIFEST, directory / SETTINGS
    if manifest.is_file():
        yield f"{manifest}: wire", read_json(manifest).get("wire")
    if settings.is_file():
        yield f"{settings}: [modelops] wire", table(read_toml(settings), "modelops").get("wire")


def _parse(value: object, where: str, directory: Path, roots: Sequence[Path]) -> Wire:
    match = re.fullmatch(r"([\w./-]+?)\s*:\s*([^\W\d][\w.]*)", value.strip()) if isinstance(value, str) else None
    module = match and _module(match[1], directory, roots)
    if not match or not module:
        raise MalformedBundle(f"{where}: {value!r} does not name a function; write {_FORMS}")
    return Wire(module=module, function=match[2], where=where)


def _module(text: str, directory: Path, roots: Sequence[Path]) -> str | None:
    """Return a module's dotted name, which may be written as the path of its file."""
    if "/" in text or text.endswith(".py"):
        path = directory / text.removesuffix(".py")
        # The longest root that holds it: `src/pkg/mod.py` is `pkg.mod` if `src` is on the import path.
        holders = [root for root in (*roots, directory) if path.is_relative_to(root)]
        if not holders:
            return None
        parts = path.relative_to(max(holders, key=lambda root: len(root.parts))).parts
        text = ".".join(parts[:-1] if parts[-1:] == ("__init__",) else parts)
    return text if all(part.isidentifier() for part in text.split(".")) else None
