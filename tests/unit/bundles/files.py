"""What the tests of bundles write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

BUNDLES = Path(__file__).parents[3] / "fixtures" / "bundles"
PROJECT = '[project]\nname = "x"\nversion = "1"\n'
WIRE = "def wire(entrypoint, params, seed):\n    return {}\n"
WIRE_GROUP = '[project.entry-points."modelops.wire"]\n'
CELL = "py3.12-dask2024.10.0"


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    """Write path → text."""
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory
