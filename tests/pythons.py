"""Other interpreters of this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_PLACES = (Path(sys.base_prefix).parent, Path.home() / ".pyenv" / "versions")
"""Directories of installations, one beside the other."""


def another_python() -> Path:
    """An interpreter of another minor version than this one's; the test is skipped where there is none."""
    beside = [found for place in _PLACES for found in sorted(place.glob("*/bin/python3.*"))]
    for python in (*beside, *sorted(Path("/usr/bin").glob("python3.*"))):
        minor = python.name.partition(".")[2]
        if minor.isdigit() and 9 <= int(minor) != sys.version_info[1]:
            return python
    pytest.skip("there is no other Python on this machine")
